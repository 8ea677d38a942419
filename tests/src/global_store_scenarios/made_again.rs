//! Topics that are deleted and made again under the same name: nothing of the old one stays, and nothing of the new one is
//! passed over.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, TopicId};
use state_store::Gate;
use state_store::global::RebuildReason;

use super::{Fed, Writer, caught_up, create};
use crate::broker_laws::{eventually, unique};

async fn id(bootstrap: &str, topic: &str) -> Result<Option<TopicId>> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    Ok(admin.topic(topic).await?.and_then(|topic| topic.id))
}

/// Deletes a topic and makes it again, with these rows.
async fn make_again(bootstrap: &str, topic: &str, rows: usize) -> Result<()> {
    let before = id(bootstrap, topic).await?.context("no id")?;
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    for (_, result) in admin.delete_topics(&[topic.to_owned()]).await? {
        result?;
    }
    let now = eventually("the topic is there again", || async {
        // Deletion takes its time, and until it is done the name is taken.
        let _ = create(bootstrap, topic, 1).await;
        Ok(id(bootstrap, topic).await?.filter(|now| *now != before))
    });
    now.await?;
    let writer = Writer::new(bootstrap, topic)?;
    for number in 0..rows {
        writer.row(0, &format!("new-{number}"), Some("new"))?;
    }
    writer.flush()
}

/// A store of ten old rows that has caught up.
async fn old(bootstrap: &str, topic: &str, directory: &Path) -> Result<Fed> {
    create(bootstrap, topic, 1).await?;
    let writer = Writer::new(bootstrap, topic)?;
    for number in 0..10 {
        writer.row(0, &format!("old-{number}"), Some("old"))?;
    }
    writer.flush()?;
    let fed = Fed::open(bootstrap, directory, topic, Gate::default())?;
    fed.until("the old rows", |status| caught_up(status) && status.rows == 10)
        .await?;
    Ok(fed)
}

async fn has_new_rows_only(fed: &Fed, rows: u64) -> Result<()> {
    fed.until("the new rows", move |status| {
        caught_up(status) && status.rebuilds > 0 && status.rows == rows
    })
    .await?;
    ensure!(fed.get("old-0").is_none(), "an old row serves");
    ensure!(
        fed.get("new-0").as_deref() == Some("new"),
        "the first new row is missing"
    );
    let status = fed.store.status();
    ensure!(status.rebuilds == 1, "{status:?}");
    let reason = status.last_rebuild.context("no reason")?.reason;
    ensure!(reason == RebuildReason::TopicMadeAgain, "{reason:?}");
    Ok(())
}

/// While the worker is away; the new topic has as many records as the old one had, so offsets tell nothing.
///
/// # Errors
/// When the promise is broken.
pub async fn while_the_store_is_closed(bootstrap: &str) -> Result<()> {
    let topic = unique("store-again");
    let directory = tempfile::tempdir()?;
    old(bootstrap, &topic, directory.path()).await?.close().await?;
    make_again(bootstrap, &topic, 10).await?;
    let fed = Fed::open(bootstrap, directory.path(), &topic, Gate::default())?;
    has_new_rows_only(&fed, 10).await?;
    fed.close().await
}

/// While it is read; the new topic ends before the position of the copy.
///
/// # Errors
/// When the promise is broken.
pub async fn with_fewer_records_while_it_is_read(bootstrap: &str) -> Result<()> {
    let topic = unique("store-again");
    let directory = tempfile::tempdir()?;
    let fed = old(bootstrap, &topic, directory.path()).await?;
    make_again(bootstrap, &topic, 3).await?;
    has_new_rows_only(&fed, 3).await?;
    fed.close().await
}

/// While it is read; the new topic has records beyond the position of the copy already.
///
/// # Errors
/// When the promise is broken.
pub async fn with_more_records_while_it_is_read(bootstrap: &str) -> Result<()> {
    let topic = unique("store-again");
    let directory = tempfile::tempdir()?;
    let fed = old(bootstrap, &topic, directory.path()).await?;
    make_again(bootstrap, &topic, 25).await?;
    has_new_rows_only(&fed, 25).await?;
    fed.close().await
}
