//! What happens to the job while purchases come. Each is met under load, the worker says what it waits for, and the job goes
//! on by itself.

use crate::catalog_changes::PRODUCTS;
use crate::job::{Job, eventually};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};
use tests::worker::WorkerProcess;

/// Predictions that show that the job goes on.
const PROGRESS: usize = 250;
const MODEL: &str = "/inference/models/personalization/reorder/status";
const HOUSEHOLDS: &str = "/inference/stores/household_state/status";

/// How long each service is away, at least: `MILLRACE_OUTAGE_SECONDS` (8).
pub fn outage() -> Duration {
    let seconds = std::env::var("MILLRACE_OUTAGE_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(8))
}

/// The rest of an outage that began then.
async fn rest_of_outage(began: Instant) {
    tokio::time::sleep(outage().saturating_sub(began.elapsed())).await;
}

/// Waits until a worker says something in its log that it has not said before.
async fn until_said(workers: &[WorkerProcess], before: usize, words: &str) -> Result<()> {
    eventually(words, async || {
        let said = times_said(workers, words);
        ensure!(said > before, "{said} times, {before} times before");
        Ok(())
    })
    .await
}

fn times_said(workers: &[WorkerProcess], words: &str) -> usize {
    workers.iter().map(|worker| worker.log().matches(words).count()).sum()
}

/// Waits until a condition holds of the answer of any worker.
async fn until_any(workers: &[WorkerProcess], path: &str, condition: impl Fn(&Value) -> bool) -> Result<()> {
    eventually(path, async || {
        let mut answers = Vec::new();
        for worker in workers {
            let (_, answer) = worker.request("GET", path, None).await?;
            if condition(&answer) {
                return Ok(());
            }
            answers.push(answer.to_string());
        }
        anyhow::bail!("{}", answers.join("\n"))
    })
    .await
}

/// The broker is killed and comes back.
pub async fn broker_goes_away(job: &mut Job) -> Result<()> {
    job.check_under_load().await?;
    job.site.broker.kill().await?;
    let began = Instant::now();
    until_any(&job.workers, MODEL, |status| status["waits_for_kafka"] == true).await?;
    rest_of_outage(began).await;
    job.site.broker.restart().await?;
    for worker in &job.workers {
        worker
            .until(MODEL, |_, status| status["waits_for_kafka"] == false)
            .await?;
    }
    job.until_shared().await?;
    job.progress(PROGRESS)
}

/// PostgreSQL is stopped and started; a change that it takes afterwards reaches every worker.
pub async fn postgres_goes_away(job: &mut Job) -> Result<()> {
    const WAITING: &str = "waiting for PostgreSQL, then connecting again";
    job.check_under_load().await?;
    let before = times_said(&job.workers, WAITING);
    job.catalog.server.stop().await?;
    let began = Instant::now();
    until_said(&job.workers, before, WAITING).await?;
    job.progress(PROGRESS)?;
    rest_of_outage(began).await;
    job.catalog.server.restart().await?;
    let [_, _, product] = PRODUCTS;
    let change = format!("UPDATE products SET package_size = 'CHANGED' WHERE product_id = '{product}'");
    job.catalog.sql(&change).await?;
    job.until_product(product, |row| row["package_size"] == "CHANGED")
        .await?;
    job.until_shared().await.map(drop)
}

/// The S3 server is killed and comes back, while entries expire.
pub async fn archive_goes_away(job: &mut Job) -> Result<()> {
    job.check_under_load().await?;
    job.site.s3.kill()?;
    let began = Instant::now();
    until_any(&job.workers, HOUSEHOLDS, |status| waits_for_archive(status) > 0).await?;
    let waiting = |text: &Value| {
        let mut lines = text.as_str().unwrap_or_default().lines();
        lines.any(|line| line.starts_with("millrace_inference_archive_waiting{") && !line.ends_with(" 0"))
    };
    until_any(&job.workers, "/metrics", waiting).await?;
    job.progress(PROGRESS)?;
    rest_of_outage(began).await;
    job.site.s3.start_again().await?;
    for worker in &job.workers {
        worker
            .until(HOUSEHOLDS, |_, status| waits_for_archive(status) == 0)
            .await?;
    }
    job.progress(PROGRESS)
}

fn waits_for_archive(status: &Value) -> usize {
    let partitions = status["partitions"].as_array().into_iter().flatten();
    partitions
        .filter(|partition| partition["archive_waits"].is_object())
        .count()
}

/// A worker is killed at once and loses its state directory; the other carries on, and shares again with it once it is back.
pub async fn worker_dies_and_loses_its_state(job: &mut Job) -> Result<()> {
    job.check_under_load().await?;
    let at = job.place_of("inference-0").await?;
    let mut dead = job.workers.remove(at);
    dead.kill()?;
    dead.wipe_state()?;
    job.until_shared().await?;
    ensure!(job.until_partitions_are_open().await? == [4]);
    job.progress(PROGRESS)?;
    job.check_under_load().await?;
    dead.start().await?;
    job.workers.push(dead);
    job.until_shared().await?;
    job.until_catalog_is_whole().await?;
    ensure!(job.until_partitions_are_open().await? == [2, 2]);
    job.progress(PROGRESS)
}

/// A third worker comes, and one of the first two is stopped in order.
pub async fn workers_come_and_go(job: &mut Job) -> Result<()> {
    job.check_under_load().await?;
    let mut third = job.site.worker("third")?;
    third.start().await?;
    job.workers.push(third);
    job.until_shared().await?;
    job.until_partitions_are_open().await?;
    job.progress(PROGRESS)?;
    job.check_under_load().await?;
    let mut leaving = job.workers.remove(0);
    ensure!(leaving.stop()? == 0, "the worker ended with a failure");
    job.until_shared().await?;
    ensure!(job.until_partitions_are_open().await? == [2, 2]);
    job.progress(PROGRESS)
}
