//! A worker file without `*.storage.replication.factor` on a cluster of one broker: the default of 3 cannot be met. The worker
//! names the option, in `/health` while it tries and in its log when it ends, as a Java worker ends.

use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use tests::KafkaBroker;
use tests::worker::WorkerProcess;

const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_ends_and_names_the_option() -> Result<()> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let mut worker = WorkerProcess::new(&bootstrap, "case07")?;
    for topic in ["config", "offset", "status"] {
        worker.set(&format!("{topic}.storage.replication.factor"), "3");
    }
    worker.start_without_waiting().await?;
    let says = |_, health: &serde_json::Value| {
        let message = health["message"].as_str().unwrap_or_default();
        health["status"] == "starting" && message.contains(".storage.replication.factor, which is 3")
    };
    worker.until("/health", says).await?;
    let deadline = Instant::now() + PATIENCE;
    while worker.is_running()? {
        ensure!(Instant::now() < deadline, "it never ends: {}", worker.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(!worker.was_killed()?, "it was killed");
    let log = worker.log();
    let last = log
        .lines()
        .rfind(|line| line.contains("the worker could not be started"))
        .unwrap_or_default();
    ensure!(
        last.contains(".storage.replication.factor, which is 3, to no more than there are brokers"),
        "{}",
        worker.log_tail()
    );
    Ok(())
}
