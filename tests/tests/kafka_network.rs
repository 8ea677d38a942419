//! The real worker whose network to Apache Kafka holds and breaks: nothing is missing, doubled or different afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use tests::fault_job::{BUCKET, FaultJob, Progress};
use tests::worker::PATIENCE;
use tests::{Fault, FaultProxy, KafkaBroker, S3Server};

/// The broker tells its clients the proxy's address, so that all connections go through it: the worker's and the test's.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_hold_and_break_cost_time_alone() -> Result<()> {
    let proxy = FaultProxy::start().await?;
    let advertised = format!("PLAINTEXT://{}", proxy.address());
    let broker = KafkaBroker::start_with(&[("advertised.listeners", &advertised)]).await?;
    proxy.set_target(&broker.bootstrap());
    let s3 = S3Server::start(BUCKET).await?;
    let calm = {
        let mut job = FaultJob::start("calm", &proxy.address(), &s3.endpoint(), "exactly_once_v2").await?;
        job.finish(&s3).await?
    };
    let mut job = FaultJob::start("disturbed", &proxy.address(), &s3.endpoint(), "exactly_once_v2").await?;
    for fault in [
        Fault::Hold,
        Fault::Cut,
        Fault::Delay(Duration::from_millis(30)),
        Fault::Cut,
    ] {
        // The batch is under way when the network changes.
        job.send_batch()?;
        let before = proxy.touched();
        proxy.set(fault);
        let felt = match fault {
            // So long that the worker's group takes it for dead.
            Fault::Hold => until_unanswered(&job).await,
            Fault::Cut | Fault::Delay(_) | Fault::Pass => proxy.until_touched(before + 20).await,
        };
        let healthy = job
            .worker
            .until("/health", |_, health| health["status"].is_string())
            .await;
        proxy.set(Fault::Pass);
        felt?;
        healthy?;
        assert!(proxy.touched() > before, "{fault:?} was felt by nobody");
        job.send_batch()?;
        assert_eq!(job.predicted().await?, Progress::Predicted);
    }
    let outcome = job.finish(&s3).await?;
    assert_eq!(outcome, calm);
    assert_eq!(job.state_restored().await?, outcome.state);
    Ok(())
}

/// Waits until a heartbeat of the worker has had no answer for as long as a session lasts.
async fn until_unanswered(job: &FaultJob) -> Result<()> {
    let unanswered = || {
        job.worker
            .log()
            .matches("the group's coordinator does not answer")
            .count()
    };
    let (before, deadline) = (unanswered(), Instant::now() + PATIENCE);
    while unanswered() == before {
        ensure!(Instant::now() < deadline, "every heartbeat was answered");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
