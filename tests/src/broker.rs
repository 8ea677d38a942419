//! Brokers that a test may end and start again: Apache Kafka, and the development broker in this process.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use dev_broker::{DevBroker, DevBrokerConfig};

use crate::kafka::KafkaBroker;
use crate::process::free_port;

/// A broker that is a test's own.
pub trait BrokerUnderTest: Send {
    /// `host:port`; stays the same over its lives.
    fn bootstrap(&self) -> String;

    /// Ends it, with `crash` without notice. What it has kept stays.
    fn end(&mut self, crash: bool) -> impl Future<Output = Result<()>> + Send;

    /// Starts it on what it has kept, at the same address, after [`Self::end`].
    fn start_again(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Ends it and starts it again.
    fn restart(&mut self, crash: bool) -> impl Future<Output = Result<()>> + Send {
        async move {
            self.end(crash).await?;
            self.start_again().await
        }
    }
}

impl BrokerUnderTest for KafkaBroker {
    fn bootstrap(&self) -> String {
        KafkaBroker::bootstrap(self)
    }

    async fn end(&mut self, crash: bool) -> Result<()> {
        match crash {
            true => self.kill().await,
            false => self.stop().await,
        }
    }

    async fn start_again(&mut self) -> Result<()> {
        KafkaBroker::restart(self).await
    }
}

/// A development broker with files, gone with the test.
pub struct OwnDevBroker {
    config: DevBrokerConfig,
    running: Option<DevBroker>,
    _data: tempfile::TempDir,
}

impl OwnDevBroker {
    /// Starts one; topics are cleaned every 50 ms.
    ///
    /// # Errors
    /// When there is no port or no folder for it.
    pub async fn start() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let config = DevBrokerConfig {
            listen: ([127, 0, 0, 1], free_port()?).into(),
            data_dir: Some(data.path().to_owned()),
            ..Self::quick()
        };
        let broker = DevBroker::start(config.clone())?;
        Ok(Self {
            config,
            running: Some(broker),
            _data: data,
        })
    }

    /// Settings of a broker for tests, without files.
    pub fn quick() -> DevBrokerConfig {
        DevBrokerConfig {
            cleaner_interval: Duration::from_millis(50),
            ..DevBrokerConfig::default()
        }
    }
}

impl BrokerUnderTest for OwnDevBroker {
    fn bootstrap(&self) -> String {
        self.config.listen.to_string()
    }

    async fn end(&mut self, crash: bool) -> Result<()> {
        let broker = self.running.take().context("the broker does not run")?;
        if crash {
            tokio::task::block_in_place(|| broker.kill());
        } else {
            broker.stop().await;
        }
        Ok(())
    }

    async fn start_again(&mut self) -> Result<()> {
        self.running = Some(DevBroker::start(self.config.clone())?);
        Ok(())
    }
}
