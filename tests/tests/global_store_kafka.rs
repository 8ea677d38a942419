//! What a global store promises, on Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::Result;
use tests::KafkaBroker;

tests::global_store_scenarios!(shared: shared, own: KafkaBroker::start);

async fn shared() -> Result<String> {
    Ok(KafkaBroker::shared().await?.bootstrap())
}
