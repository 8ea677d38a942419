//! The laws of brokers, on Apache Kafka: it is right by definition, so these tests are tests of the laws.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::Result;
use tests::KafkaBroker;

tests::broker_laws!(shared: shared, own: KafkaBroker::start);

async fn shared() -> Result<String> {
    Ok(KafkaBroker::shared().await?.bootstrap())
}
