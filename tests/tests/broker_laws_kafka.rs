//! The laws of brokers, on Apache Kafka: it is right by definition, so these tests are tests of the laws.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::Result;
use tests::KafkaBroker;
use tests::broker_laws::BrokerUnderTest;

tests::broker_laws!(shared: shared, own: own);

async fn shared() -> Result<String> {
    Ok(KafkaBroker::shared().await?.bootstrap())
}

async fn own() -> Result<OwnBroker> {
    Ok(OwnBroker(KafkaBroker::start().await?))
}

struct OwnBroker(KafkaBroker);

impl BrokerUnderTest for OwnBroker {
    fn bootstrap(&self) -> String {
        self.0.bootstrap()
    }

    async fn restart(&mut self, crash: bool) -> Result<()> {
        if crash {
            self.0.kill().await?;
        } else {
            self.0.stop().await?;
        }
        self.0.restart().await
    }
}
