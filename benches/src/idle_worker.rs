//! The worker by itself: how soon it answers, and what it takes when it has nothing to do.

use crate::process::Worker;
use crate::report::Report;
use anyhow::Result;
use std::time::Duration;
use tests::kafka::KafkaBroker;

/// Time after which it counts as idle.
const IDLE: Duration = Duration::from_secs(60);
const STARTS: usize = 5;

/// Measures starts, and one idle minute.
pub async fn measure(report: &mut Report) -> Result<()> {
    let broker = KafkaBroker::start().await?;
    let mut starts = Vec::new();
    for number in 0..STARTS {
        let directory = tempfile::tempdir()?;
        let worker = Worker::start(
            &broker.bootstrap(),
            directory.path(),
            &[("client.id", &format!("start-{number}"))],
        )
        .await?;
        starts.push(worker.ready_after.as_secs_f64());
    }
    starts.sort_by(f64::total_cmp);
    let peer = "Java Connect worker, service_load, recorded";
    let middle = starts.get(STARTS / 2).copied().unwrap_or(f64::NAN);
    report.beside(
        "worker, start to the first answer, median of 5",
        "s",
        middle,
        2.5,
        peer,
        1,
    );
    let directory = tempfile::tempdir()?;
    let worker = Worker::start(&broker.bootstrap(), directory.path(), &[]).await?;
    tokio::time::sleep(IDLE).await;
    let idle = worker.usage()?;
    report.beside(
        "worker, idle for 60 s, resident memory",
        "MB",
        idle.resident_bytes / 1e6,
        196.0,
        peer,
        1,
    );
    tokio::time::sleep(IDLE / 2).await;
    let cpu = (worker.usage()?.cpu_seconds - idle.cpu_seconds) / (IDLE / 2).as_secs_f64();
    report.beside("worker, idle, CPU", "% of a core", cpu * 100.0, 1.9, peer, 1);
    println!("    {} threads", idle.threads.len());
    Ok(())
}
