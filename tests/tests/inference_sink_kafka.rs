//! The inference sink over Apache Kafka: the scenarios that hold over any broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::Result;
use tests::KafkaBroker;

tests::inference_scenarios!(shared: shared, own: KafkaBroker::start);

async fn shared() -> Result<String> {
    Ok(KafkaBroker::shared().await?.bootstrap())
}
