//! The job of `configs/retail` as its users run it: their files, on Apache Kafka, PostgreSQL and an S3 server, two workers in
//! one group; and whatever may go away does so under load.
//!
//! ```text
//!  files.rs      configs/retail and configs/demo/inference, addresses and passwords replaced
//!  site.rs       the services, and what an operator does there
//!  purchases.rs  a bounded number of purchases
//!  job.rs        site + two workers: what they share, how far they are
//!  catalog_changes.rs, disturbances.rs   what happens meanwhile
//!  outputs.rs    predictions by the input record that they were made from   \\  both equal those of an undisturbed
//!  outcome.rs    keyed state, key by key; the archive, entry by entry       /  run of the same events
//! ```
//! `MILLRACE_OUTAGE_SECONDS` says how long each service is away (8; `make outages`: 60).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod catalog_changes;
mod disturbances;
mod files;
mod job;
mod outcome;
mod outputs;
mod purchases;
mod site;

use anyhow::{Result, ensure};
use job::{Job, eventually};
use outcome::{Outcome, check_same_predictions, copy_topic};
use outputs::Outputs;
use serde_json::Value;
use site::Site;
use tests::worker::WorkerProcess;

/// Purchases replayed in a second, as `purchases.json` says.
const RATE: usize = 500;
/// Seconds of load that there are: more than the disturbances take, with outages of eight seconds, on a slow machine.
const LOAD: usize = 150;
/// Services that are away, one after the other.
const OUTAGES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_away_the_job_comes_to_the_same() -> Result<()> {
    let outage = disturbances::outage().as_secs() as usize;
    let mut job = Job::start(RATE * (LOAD + OUTAGES * outage)).await?;
    job.until_shared().await?;
    ensure!(job.until_partitions_are_open().await? == [2, 2]);
    catalog_changes::are_seen_by_the_next_purchase(&mut job).await?;
    disturbances::broker_goes_away(&mut job).await?;
    disturbances::postgres_goes_away(&mut job).await?;
    disturbances::archive_goes_away(&mut job).await?;
    disturbances::worker_dies_and_loses_its_state(&mut job).await?;
    disturbances::workers_come_and_go(&mut job).await?;
    let events = job.end_of_replay().await?;
    job.outputs.until_all(events)?;
    let (calm, calm_worker) = undisturbed(&job.site, events).await?;
    comes_to_the_same(&job, &calm, &calm_worker).await?;
    job.check_secrets().await?;
    for mut worker in job.workers.into_iter().chain(calm_worker) {
        ensure!(worker.stop()? == 0, "a worker ended with a failure");
    }
    // Everything once more, with what the workers may have written last.
    let outputs = Outputs::all(&job.site.broker.bootstrap())?;
    outputs.check_none_twice()?;
    ensure!(outputs.sources("predictions.research") == events);
    check_same_predictions(&outputs, &Outputs::all(&calm.broker.bootstrap())?)
}

/// One worker over the same events, on services of its own.
async fn undisturbed(disturbed: &Site, events: usize) -> Result<(Site, Vec<WorkerProcess>)> {
    let site = Site::start().await?;
    copy_topic(disturbed, &site, "catalog.products", &[("cleanup.policy", "compact")]).await?;
    ensure!(copy_topic(disturbed, &site, job::EVENTS, &[("retention.ms", "-1")]).await? == events);
    let mut worker = site.worker("calm")?;
    worker.start().await?;
    site.put_documents(&worker).await?;
    let ready = |_, status: &Value| status["ready"] == true && status["partitions"]["0"]["lag"] == 0;
    worker.until("/inference/stores/products/status", ready).await?;
    site.post(&worker, "inference", &[]).await?;
    Outputs::follow(&site.broker.bootstrap())?.until_all(events)?;
    Ok((site, vec![worker]))
}

/// Waits until expired entries are archived, and state, archive and predictions are the same.
async fn comes_to_the_same(job: &Job, calm: &Site, calm_worker: &[WorkerProcess]) -> Result<()> {
    let undisturbed = eventually("the undisturbed run is over", async || {
        let outcome = Outcome::of(calm_worker, &calm.s3).await?;
        let found = Outcome::of(&job.workers, &job.site.s3).await?;
        found.check_same(&outcome)?;
        Ok(outcome)
    })
    .await?;
    let (state, archived) = (undisturbed.state.len(), undisturbed.archived.len());
    ensure!(
        state > 1_000 && archived > 1_000,
        "{state} entries of state, {archived} in the archive"
    );
    Ok(())
}
