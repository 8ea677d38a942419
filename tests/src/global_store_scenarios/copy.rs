//! The first copy, tailing, versions over several partitions, a restart.

use anyhow::{Result, ensure};
use kafka_client::{Admin, ClientConfig};
use state_store::Gate;

use super::{Fed, Writer, caught_up, create};
use crate::broker_laws::unique;
use crate::topics::grow;

/// The topic comes after the store; it is copied, followed, and taken up after a restart where the copy ends.
///
/// # Errors
/// When the promise is broken.
pub async fn a_topic_is_copied_followed_and_taken_up_again(bootstrap: &str) -> Result<()> {
    let topic = unique("store-copied");
    let directory = tempfile::tempdir()?;
    let fed = Fed::open(bootstrap, directory.path(), &topic, Gate::default())?;
    let name = topic.clone();
    fed.until("the trouble is said", move |status| {
        status.trouble.as_ref().is_some_and(|text| text.contains(&name))
    })
    .await?;
    create(bootstrap, &topic, 2).await?;
    let writer = Writer::new(bootstrap, &topic)?;
    for number in 0..20_000 {
        let key = format!("product-{number}");
        writer.row(number % 2, &key, Some(&format!("row {number}")))?;
    }
    writer.flush()?;
    fed.until("all rows", |status| status.ready && status.rows == 20_000)
        .await?;
    ensure!(fed.get("product-19999").as_deref() == Some("row 19999"));
    writer.row(1, "product-19999", Some("changed"))?;
    writer.row(0, "product-0", None)?;
    writer.flush()?;
    fed.until("the changes", |status| {
        status.rows == 19_999 && status.intake.rows == 20_001
    })
    .await?;
    ensure!(fed.get("product-19999").as_deref() == Some("changed") && fed.get("product-0").is_none());
    fed.until("no lag", caught_up).await?;
    let positions = fed.store.positions();
    fed.close().await?;

    writer.row(1, "late", Some("row"))?;
    writer.flush()?;
    let fed = Fed::open(bootstrap, directory.path(), &topic, Gate::default())?;
    ensure!(fed.store.len() >= 19_999, "the copy serves before it has caught up");
    fed.until("the late row", |status| status.ready && status.rows == 20_000)
        .await?;
    fed.until("no lag", caught_up).await?;
    let moved = fed.store.positions();
    ensure!(
        moved.get(&0) == positions.get(&0) && moved.get(&1) > positions.get(&1),
        "{moved:?}"
    );
    ensure!(fed.store.status().rebuilds == 0);
    fed.close().await
}

/// A version serves when the markers of all partitions have come, and one that shrinks too much does not.
///
/// # Errors
/// When the promise is broken.
pub async fn a_version_over_two_partitions_serves_when_its_markers_have_come(bootstrap: &str) -> Result<()> {
    let topic = unique("store-versions");
    create(bootstrap, &topic, 2).await?;
    let writer = Writer::new(bootstrap, &topic)?;
    writer.row(0, "a", Some("v1"))?;
    writer.row(1, "b", Some("v1"))?;
    writer.marker(0, 1, 2)?;
    writer.marker(1, 1, 2)?;
    writer.flush()?;
    let directory = tempfile::tempdir()?;
    let gate = Gate {
        max_shrink: Some(0.4),
        ..Gate::default()
    };
    let fed = Fed::open(bootstrap, directory.path(), &topic, gate)?;
    fed.until("version 1", |status| status.ready && status.version == Some(1))
        .await?;
    // Version 2 loses half of the rows; version 3 has them back.
    writer.row(0, "a", None)?;
    writer.marker(0, 2, 2)?;
    writer.marker(1, 2, 2)?;
    writer.flush()?;
    fed.until("version 2 is refused", |status| status.refused.is_some())
        .await?;
    ensure!(fed.get("a").as_deref() == Some("v1"));
    writer.row(0, "a", Some("v3"))?;
    writer.marker(0, 3, 2)?;
    // Ahead of the other partition: it waits.
    writer.row(0, "a", Some("v4"))?;
    writer.marker(1, 3, 2)?;
    writer.flush()?;
    fed.until("version 3", |status| status.version == Some(3)).await?;
    ensure!(fed.get("a").as_deref() == Some("v3"));
    fed.close().await
}

/// A topic that gets more partitions is read in all of them.
///
/// # Errors
/// When the promise is broken.
pub async fn partitions_that_are_added_are_read(bootstrap: &str) -> Result<()> {
    let topic = unique("store-grows");
    create(bootstrap, &topic, 1).await?;
    let writer = Writer::new(bootstrap, &topic)?;
    writer.row(0, "a", Some("1"))?;
    writer.flush()?;
    let directory = tempfile::tempdir()?;
    let fed = Fed::open(bootstrap, directory.path(), &topic, Gate::default())?;
    fed.until("the first row", |status| status.ready && status.rows == 1)
        .await?;
    grow(&Admin::new(&ClientConfig::new(bootstrap))?, &topic, 3).await?;
    let writer = Writer::new(bootstrap, &topic)?;
    writer.row(2, "b", Some("2"))?;
    writer.flush()?;
    fed.until("the row of the new partition", |status| {
        status.ready && status.rows == 2
    })
    .await?;
    ensure!(fed.store.status().rebuilds == 0, "what was there stays");
    fed.close().await
}
