//! The input topic (4 partitions) is deleted while a connector reads it (KAFKA-10355). Streams ends with
//! MissingSourceTopicException. The worker must not make the topic again (a broker would give it one partition), and must not
//! compute anything from one that somebody else makes: keys would meet the wrong state.

use anyhow::{Result, ensure};
use kafka_client::{Admin, ClientConfig, NewTopic};
use std::time::Duration;
use tests::KafkaBroker;
use tests::inference::{create_topics, read};
use tests::inference_scenarios::{by_household, check_lineage, expected};
use tests::scored_events::ScoredEvents;
use tests::topics::grow;

async fn running(name: &str) -> Result<(ScoredEvents, Admin)> {
    // The brokers make topics by themselves, if anybody lets them.
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let mut job = ScoredEvents::new(&bootstrap, name)?;
    create_topics(&bootstrap, &[(&job.events(), 4), (&job.scores(), 4)]).await?;
    job.start().await?;
    job.put_connector(&[]).await?;
    job.send(0..40)?;
    ensure!(by_household(&job.outputs(40).await?)? == expected(0..40), "scores");
    Ok((job, Admin::new(&ClientConfig::new(&bootstrap))?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_input_topic_is_missed_by_name_and_not_made_again() -> Result<()> {
    let (mut job, admin) = running("case84-gone").await?;
    let events = job.events();
    for (_, result) in admin.delete_topics(std::slice::from_ref(&events)).await? {
        result?;
    }
    job.until_tasks_are("FAILED", &format!("topic {events} does not exist"))
        .await?;
    ensure!(
        admin.topic(&events).await?.is_none(),
        "the worker has made its input topic"
    );
    // A worker that starts anew waits for it, and says so.
    job.worker.stop()?;
    job.worker.start().await?;
    job.until_tasks_are("UNASSIGNED", &format!("topic {events} does not exist"))
        .await?;
    ensure!(
        admin.topic(&events).await?.is_none(),
        "the worker has made its input topic"
    );
    job.worker.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_computed_from_a_topic_that_was_made_again() -> Result<()> {
    for partitions in [1, 4] {
        let (mut job, admin) = running(&format!("case84-again-{partitions}")).await?;
        let events = job.events();
        for (_, result) in admin.delete_topics(std::slice::from_ref(&events)).await? {
            result?;
        }
        while let Some(Err(error)) = admin
            .create_topics(&[NewTopic::new(&events, partitions, 1)])
            .await?
            .pop()
            .map(|(_, result)| result)
        {
            ensure!(error.code == kafka_client::ErrorCode::TopicAlreadyExists, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // More than the old topic had, so that every position of before is one that the new topic has as well.
        job.send(0..400)?;
        job.until_tasks_are("FAILED", &format!("topic {events} was deleted and made again"))
            .await?;
        let outputs = read(&job.bootstrap, &job.scores(), 40).await?;
        check_lineage(&outputs)?;
        ensure!(
            by_household(&outputs)? == expected(0..40),
            "{} scores, 40 of them of the topic that is gone",
            outputs.len()
        );
        job.worker.stop()?;
    }
    Ok(())
}

/// Partitions that are added move keys to other partitions than their state is in.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_computed_once_partitions_were_added() -> Result<()> {
    let (mut job, admin) = running("case84-grown").await?;
    grow(&admin, &job.events(), 7).await?;
    let mut sent = 40;
    loop {
        // By a producer that knows of the new partitions at once.
        job.send(sent..sent + 20)?;
        sent += 20;
        let status = job.worker.get(&format!("/connectors/{}/status", job.name)).await?;
        let failed = status["tasks"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|task| task["state"] == "FAILED");
        if failed {
            break;
        }
        ensure!(sent < 40_000, "{status}");
    }
    job.until_tasks_are("FAILED", "has 7 partitions now, 4 when the task started")
        .await?;
    let outputs = read(&job.bootstrap, &job.scores(), 40).await?;
    check_lineage(&outputs)?;
    ensure!(
        by_household(&outputs)? == expected(0..40),
        "{} scores, 40 of them of before",
        outputs.len()
    );
    job.worker.stop()?;
    Ok(())
}
