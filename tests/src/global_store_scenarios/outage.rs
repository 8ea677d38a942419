//! The broker is away for a while.

use anyhow::{Result, ensure};
use state_store::Gate;

use super::{Fed, Writer, create};
use crate::broker::BrokerUnderTest;

/// What was read serves on, and reading goes on when the broker is back.
///
/// # Errors
/// When the promise is broken.
pub async fn an_outage_of_the_broker_is_survived(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let bootstrap = broker.bootstrap();
    create(&bootstrap, "catalog.products", 1).await?;
    let directory = tempfile::tempdir()?;
    let fed = Fed::open(&bootstrap, directory.path(), "catalog.products", Gate::default())?;
    let first = Writer::new(&bootstrap, "catalog.products")?;
    first.row(0, "a", Some("1"))?;
    first.flush()?;
    fed.until("the first row", |status| status.ready && status.rows == 1)
        .await?;
    broker.end(true).await?;
    ensure!(fed.get("a").as_deref() == Some("1"), "what was read serves on");
    broker.start_again().await?;
    let second = Writer::new(&bootstrap, "catalog.products")?;
    second.row(0, "b", Some("2"))?;
    second.flush()?;
    fed.until("the second row", |status| status.ready && status.rows == 2)
        .await?;
    ensure!(fed.store.status().rebuilds == 0, "the topic is the same");
    fed.close().await
}
