//! What a global store promises, on the development broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::Result;
use dev_broker::DevBroker;
use tests::broker::OwnDevBroker;
use tokio::sync::OnceCell;

tests::global_store_scenarios!(shared: shared, own: OwnDevBroker::start);

/// One broker for all scenarios that take turns on one; it ends with the process.
async fn shared() -> Result<String> {
    static SHARED: OnceCell<DevBroker> = OnceCell::const_new();
    let broker = SHARED.get_or_try_init(|| async { DevBroker::start(OwnDevBroker::quick()) });
    Ok(broker.await?.bootstrap())
}
