//! Topics that are written in transactions: what was aborted is no row, and what lies behind the last row holds nothing up.

use std::sync::Arc;

use anyhow::{Result, ensure};
use kafka_client::{ClientConfig, Producer};
use state_store::Gate;

use super::{Fed, PATIENCE, Writer, caught_up, create};
use crate::broker_laws::unique;

fn transactional(bootstrap: &str, topic: &str, id: &str) -> Result<Writer> {
    let mut config = ClientConfig::new(bootstrap);
    config.set("transactional.id", id);
    let producer = Producer::new(&config, Arc::new(super::Panicking))?;
    producer.init_transactions(PATIENCE)?;
    Ok(Writer {
        producer,
        topic: topic.to_owned(),
    })
}

/// Rows of aborted transactions are never seen, in the first copy and afterwards.
///
/// # Errors
/// When the promise is broken.
pub async fn aborted_rows_never_serve(bootstrap: &str) -> Result<()> {
    let topic = unique("store-aborted");
    create(bootstrap, &topic, 2).await?;
    let writer = transactional(bootstrap, &topic, &unique("store-writer"))?;
    let both = |commit: bool, value: &str| -> Result<()> {
        writer.producer.begin_transaction()?;
        writer.row(0, "a", Some(value))?;
        writer.row(1, value, Some(value))?;
        writer.flush()?;
        match commit {
            true => writer.producer.commit_transaction(PATIENCE)?,
            false => writer.producer.abort_transaction(PATIENCE)?,
        }
        Ok(())
    };
    both(true, "kept")?;
    both(false, "aborted")?;
    let directory = tempfile::tempdir()?;
    let fed = Fed::open(bootstrap, directory.path(), &topic, Gate::default())?;
    fed.until("the first copy", |status| caught_up(status) && status.rows == 2)
        .await?;
    ensure!(fed.get("a").as_deref() == Some("kept") && fed.get("aborted").is_none());
    both(false, "aborted again")?;
    both(true, "second")?;
    fed.until("the second transaction", |status| {
        caught_up(status) && status.rows == 3 && status.intake.rows == 4
    })
    .await?;
    ensure!(fed.get("a").as_deref() == Some("second") && fed.get("aborted again").is_none());
    ensure!(fed.store.status().intake.rows == 4, "{:?}", fed.store.status());
    fed.close().await
}

/// Behind the last row there are only records of an aborted transaction, and markers: that is the end, which a copy that is
/// taken up again knows.
///
/// # Errors
/// When the promise is broken.
pub async fn a_topic_that_ends_in_an_aborted_transaction_is_read_to_its_end(bootstrap: &str) -> Result<()> {
    let topic = unique("store-ends");
    create(bootstrap, &topic, 1).await?;
    let writer = transactional(bootstrap, &topic, &unique("store-writer"))?;
    writer.producer.begin_transaction()?;
    writer.row(0, "a", Some("1"))?;
    writer.producer.commit_transaction(PATIENCE)?;
    writer.producer.begin_transaction()?;
    for number in 0..100 {
        writer.row(0, &format!("aborted-{number}"), Some("1"))?;
    }
    writer.flush()?;
    writer.producer.abort_transaction(PATIENCE)?;
    let directory = tempfile::tempdir()?;
    for opened in 0..2 {
        let fed = Fed::open(bootstrap, directory.path(), &topic, Gate::default())?;
        fed.until("the end", |status| caught_up(status) && status.rows == 1)
            .await?;
        // One row, its transaction's marker, a hundred aborted rows, their transaction's marker.
        let positions = fed.store.positions();
        ensure!(
            positions.get(&0) == Some(&103),
            "opened {opened} times before: {positions:?}"
        );
        fed.close().await?;
    }
    // A topic of nothing else is one without rows.
    let empty = unique("store-ends");
    create(bootstrap, &empty, 1).await?;
    let writer = transactional(bootstrap, &empty, &unique("store-writer"))?;
    writer.producer.begin_transaction()?;
    writer.row(0, "aborted", Some("1"))?;
    writer.flush()?;
    writer.producer.abort_transaction(PATIENCE)?;
    let directory = tempfile::tempdir()?;
    let fed = Fed::open(bootstrap, directory.path(), &empty, Gate::default())?;
    fed.until("the end", |status| caught_up(status) && status.rows == 0)
        .await?;
    fed.close().await
}

/// A transaction that is open stands at the end of the topic: the store is ready with what was committed before, and has the
/// rest when it commits.
///
/// # Errors
/// When the promise is broken.
pub async fn an_open_transaction_at_the_end_holds_nothing_up(bootstrap: &str) -> Result<()> {
    let topic = unique("store-open");
    create(bootstrap, &topic, 1).await?;
    let plain = Writer::new(bootstrap, &topic)?;
    plain.row(0, "a", Some("1"))?;
    plain.flush()?;
    let writer = transactional(bootstrap, &topic, &unique("store-writer"))?;
    writer.producer.begin_transaction()?;
    writer.row(0, "b", Some("1"))?;
    writer.flush()?;
    plain.row(0, "c", Some("1"))?;
    plain.flush()?;
    let directory = tempfile::tempdir()?;
    let fed = Fed::open(bootstrap, directory.path(), &topic, Gate::default())?;
    fed.until("what was committed before", |status| {
        caught_up(status) && status.rows == 1
    })
    .await?;
    ensure!(fed.get("b").is_none() && fed.get("c").is_none());
    writer.producer.commit_transaction(PATIENCE)?;
    fed.until("the rest", |status| caught_up(status) && status.rows == 3)
        .await?;
    fed.close().await
}
