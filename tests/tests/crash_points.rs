//! The real worker over Apache Kafka and S3, killed at every place that `crash_point` names: started again, the job runs to
//! its end, and nothing is missing, doubled or different from an undisturbed run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tests::fault_job::{BUCKET, FaultJob, Outcome, Progress};
use tests::{KafkaBroker, S3Server};
use tokio::sync::OnceCell;

const EXACTLY_ONCE: &str = "exactly_once_v2";
const AT_LEAST_ONCE: &str = "at_least_once";

/// What a run without a kill leaves behind.
async fn undisturbed() -> Result<&'static Outcome> {
    static OUTCOME: OnceCell<Outcome> = OnceCell::const_new();
    let run = || async {
        let s3 = S3Server::start(BUCKET).await?;
        let bootstrap = KafkaBroker::shared().await?.bootstrap();
        let mut job = FaultJob::start("undisturbed", &bootstrap, &s3.endpoint(), EXACTLY_ONCE).await?;
        job.finish(&s3).await
    };
    OUTCOME.get_or_try_init(run).await.context("the undisturbed run")
}

/// Places that the tests below visit.
const OPENING: [&str; 5] = [
    "open.layout_agreed",
    "open.producer_initialised",
    "restore.fetched@2",
    "restore.partition_written@3",
    "open.restored@2",
];
const HANDING_OVER: [&str; 4] = [
    "sink.fetched@3",
    "sink.handed_over@3",
    "inference.predicted@3",
    "inference.gathered@3",
];
const COMMITTING: [&str; 7] = [
    "commit.outputs_flushed@3",
    "commit.changelog_appended@3",
    "commit.all_appended@3",
    "commit.all_sent@3",
    "commit.committed@3",
    "commit.some_stores_written@4",
    "commit.stores_written@3",
];
const ARCHIVING: [&str; 6] = [
    "archive.intent_committed",
    "archive.object_encoded",
    "archive.object_put",
    "archive.object_known",
    "archive.finish_proposed",
    "archive.finish_committed",
];
const DETACHED: [&str; 3] = ["detached.rows_logged", "detached.rows_read", "detached.attached"];
const REFUSED: [&str; 1] = ["commit.refused"];
const GLOBAL: [&str; 1] = ["global.file_ingested"];

fn name_of(point: &str) -> &str {
    point.split('@').next().unwrap_or(point)
}

#[test]
fn every_crash_point_is_visited() {
    let all: BTreeSet<&str> = crash_point::ALL.iter().copied().collect();
    let groups: [&[&str]; 7] = [
        &OPENING,
        &HANDING_OVER,
        &COMMITTING,
        &ARCHIVING,
        &DETACHED,
        &REFUSED,
        &GLOBAL,
    ];
    let visited: BTreeSet<&str> = groups.concat().into_iter().map(name_of).collect();
    assert_eq!(all, visited);
}

/// A job that has run for a while and whose worker is gone.
async fn interrupted(point: &str, guarantee: &'static str, s3: &S3Server) -> Result<FaultJob> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let name = format!("{}-{guarantee}", name_of(point).replace(['.', '_'], "-"));
    let mut job = FaultJob::start(&name, &bootstrap, &s3.endpoint(), guarantee).await?;
    for _ in 0..3 {
        job.send_batch()?;
        ensure!(job.predicted().await? == Progress::Predicted, "the worker died");
    }
    job.worker.kill()?;
    Ok(job)
}

/// Waits until the worker has died where it was told to.
async fn dies(job: &mut FaultJob, point: &str) -> Result<()> {
    let deadline = Instant::now() + tests::worker::PATIENCE;
    while job.worker.is_running()? {
        ensure!(
            Instant::now() < deadline,
            "{point} was never reached; log {}",
            job.worker.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ensure!(
        job.worker.was_killed()?,
        "the worker ended by itself before {point}; log {}",
        job.worker.log_tail()
    );
    Ok(())
}

/// Starts the worker again, lets the job end, and compares.
async fn recovers(mut job: FaultJob, point: &str, s3: &S3Server) -> Result<()> {
    job.worker.start().await?;
    let outcome = job
        .finish(s3)
        .await
        .with_context(|| format!("after a kill at {point}"))?;
    let undisturbed = undisturbed().await?;
    assert_eq!(&outcome, undisturbed, "after a kill at {point}");
    let restored = job
        .state_restored()
        .await
        .with_context(|| format!("restoring after a kill at {point}"))?;
    assert_eq!(
        restored, outcome.state,
        "restored from the changelog after a kill at {point}"
    );
    Ok(())
}

async fn killed_at(point: &str, guarantee: &'static str, wiped: bool) -> Result<()> {
    let s3 = S3Server::start(BUCKET).await?;
    let mut job = interrupted(point, guarantee, &s3).await?;
    if wiped {
        job.worker.wipe_state()?;
    }
    job.worker.start_to_crash(point).await?;
    while job.worker.is_running()? && job.send_batch()? {
        if job.predicted().await? == Progress::Died {
            break;
        }
    }
    dies(&mut job, point).await?;
    recovers(job, point, &s3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_task_takes_its_partitions() -> Result<()> {
    for point in OPENING {
        killed_at(point, EXACTLY_ONCE, true).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_records_become_predictions() -> Result<()> {
    for point in HANDING_OVER {
        killed_at(point, EXACTLY_ONCE, false).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_transaction_and_after_it() -> Result<()> {
    for point in COMMITTING {
        killed_at(point, EXACTLY_ONCE, false).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_transaction_with_predictions_sent_at_once() -> Result<()> {
    for point in [
        "inference.gathered@3",
        "commit.outputs_flushed@3",
        "commit.all_sent@3",
        "commit.committed@3",
    ] {
        killed_at(point, AT_LEAST_ONCE, false).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_expired_entries_are_archived() -> Result<()> {
    for point in ARCHIVING {
        killed_at(point, EXACTLY_ONCE, false).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_expired_entries_are_archived_and_the_local_copy_is_lost() -> Result<()> {
    for point in ["archive.object_put", "archive.finish_proposed"] {
        let s3 = S3Server::start(BUCKET).await?;
        let mut job = interrupted(&format!("wiped.{point}"), EXACTLY_ONCE, &s3).await?;
        job.worker.start_to_crash(point).await?;
        while job.worker.is_running()? && job.send_batch()? {
            if job.predicted().await? == Progress::Died {
                break;
            }
        }
        dies(&mut job, point).await?;
        job.worker.wipe_state()?;
        recovers(job, point, &s3).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_global_store_is_filled() -> Result<()> {
    for point in GLOBAL {
        killed_at(point, EXACTLY_ONCE, true).await?;
    }
    Ok(())
}

/// A topic refuses one tenant's outputs, and the worker dies before the transaction says so. Once the topic takes them, the
/// tenant has each of them once, and the others feel nothing.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_topic_refuses_outputs() -> Result<()> {
    for point in REFUSED {
        let s3 = S3Server::start(BUCKET).await?;
        let bootstrap = KafkaBroker::shared().await?.bootstrap();
        let name = point.replace(['.', '_'], "-");
        let mut job = FaultJob::start(&name, &bootstrap, &s3.endpoint(), EXACTLY_ONCE).await?;
        let topic = job.add_refused().await?;
        job.worker.kill()?;
        job.worker.start_to_crash(point).await?;
        job.send_batch()?;
        dies(&mut job, point).await?;
        job.worker.start().await?;
        for _ in 0..2 {
            job.send_batch()?;
            ensure!(job.predicted().await? == Progress::Predicted, "the worker died");
        }
        job.widen(&topic).await?;
        let events: usize = (0..3).map(|batch| tests::fault_job::events::batch(batch).len()).sum();
        let outputs = tests::inference::read(&bootstrap, &topic, events).await?;
        let sources: BTreeSet<&str> = outputs.iter().map(|output| output.header("millrace.source")).collect();
        ensure!(
            sources.len() == outputs.len(),
            "an output came twice after a kill at {point}"
        );
        let outcome = job
            .finish(&s3)
            .await
            .with_context(|| format!("after a kill at {point}"))?;
        assert_eq!(&outcome, undisturbed().await?, "after a kill at {point}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_model_reads_from_the_feature_log() -> Result<()> {
    const MODEL: &str = "/inference/models/shop/score";
    for point in DETACHED {
        let s3 = S3Server::start(BUCKET).await?;
        let bootstrap = KafkaBroker::shared().await?.bootstrap();
        let name = point.replace(['.', '_'], "-");
        let mut job = FaultJob::start(&name, &bootstrap, &s3.endpoint(), EXACTLY_ONCE).await?;
        job.worker.success("POST", &format!("{MODEL}/pause"), None).await?;
        let detached = |_, status: &Value| {
            let partitions = status["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
            partitions.len() == 2 && partitions.iter().all(|partition| partition["mode"].is_object())
        };
        job.worker.until(&format!("{MODEL}/status"), detached).await?;
        if point == "detached.rows_logged" {
            job.worker.kill()?;
            job.worker.start_to_crash(point).await?;
            job.send_batch()?;
        } else {
            for _ in 0..3 {
                job.send_batch()?;
            }
            let events: usize = (0..3).map(|batch| tests::fault_job::events::batch(batch).len()).sum();
            tests::inference::read(&bootstrap, &format!("connect-{name}-features"), events).await?;
            job.worker.kill()?;
            job.worker.start_to_crash(point).await?;
            job.worker
                .until(&format!("{MODEL}/status"), |status, _| status == 200)
                .await?;
            job.worker.success("POST", &format!("{MODEL}/resume"), None).await?;
        }
        dies(&mut job, point).await?;
        job.worker.start().await?;
        let paused = job.worker.get(&format!("{MODEL}/status")).await?["state"] == "PAUSED";
        if paused {
            job.worker.success("POST", &format!("{MODEL}/resume"), None).await?;
        }
        let outcome = job
            .finish(&s3)
            .await
            .with_context(|| format!("after a kill at {point}"))?;
        assert_eq!(&outcome, undisturbed().await?, "after a kill at {point}");
    }
    Ok(())
}
