//! The laws of brokers, on the development broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use anyhow::{Context, Result};
use dev_broker::{DevBroker, DevBrokerConfig};
use tests::broker_laws::BrokerUnderTest;
use tokio::sync::OnceCell;

tests::broker_laws!(shared: shared, own: own);

fn config() -> DevBrokerConfig {
    DevBrokerConfig {
        cleaner_interval: Duration::from_millis(50),
        ..DevBrokerConfig::default()
    }
}

/// One broker for all laws that take turns on one; it ends with the process.
async fn shared() -> Result<String> {
    static SHARED: OnceCell<DevBroker> = OnceCell::const_new();
    let broker = SHARED.get_or_try_init(|| async { DevBroker::start(config()) }).await?;
    Ok(broker.bootstrap())
}

async fn own() -> Result<OwnBroker> {
    let data = tempfile::tempdir()?;
    let data_dir = Some(data.path().to_owned());
    let mut config = DevBrokerConfig { data_dir, ..config() };
    let broker = DevBroker::start(config.clone())?;
    config.listen = broker.address();
    let running = Some(broker);
    Ok(OwnBroker {
        config,
        running,
        _data: data,
    })
}

struct OwnBroker {
    config: DevBrokerConfig,
    running: Option<DevBroker>,
    _data: tempfile::TempDir,
}

impl BrokerUnderTest for OwnBroker {
    fn bootstrap(&self) -> String {
        self.config.listen.to_string()
    }

    async fn restart(&mut self, crash: bool) -> Result<()> {
        let broker = self.running.take().context("the broker does not run")?;
        if crash {
            tokio::task::block_in_place(|| broker.kill());
        } else {
            broker.stop().await;
        }
        self.running = Some(DevBroker::start(self.config.clone())?);
        Ok(())
    }
}
