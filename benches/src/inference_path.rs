//! The whole path: topic, lookup, keyed state with changelog, models, outputs to topics. The worker has one core, the broker
//! the other; all events are there before the worker starts.

use crate::events::{self, Purchase};
use crate::job::{self, Job};
use crate::process::{Usage, Worker};
use crate::report::Report;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use tests::kafka::KafkaBroker;

/// Kafka Streams with ONNX Runtime on the same work, one core; see docs/BENCHMARKS.md.
const PEER: &str = "Kafka Streams + ONNX Runtime, recorded";
const PATIENCE: Duration = Duration::from_secs(300);
const EVENTS_IN: &str = "millrace_inference_events_total";

/// One run of the path.
struct Run {
    name: &'static str,
    job: Job,
    events: usize,
    peer_events_per_second: f64,
}

/// Measures with 1, 3 and 30 models, at least once and exactly once.
pub async fn measure(report: &mut Report, purchases: &[Purchase], events: usize) -> Result<()> {
    let exactly_once = |models| Job {
        models,
        guarantee: "exactly_once_v2",
        ..Job::default()
    };
    let runs = [
        Run {
            name: "3 models, at least once",
            job: Job::default(),
            events,
            peer_events_per_second: 25_800.0,
        },
        Run {
            name: "3 models, exactly once",
            job: exactly_once(3),
            events,
            peer_events_per_second: 19_000.0,
        },
        Run {
            name: "1 model, at least once",
            job: Job {
                models: 1,
                ..Job::default()
            },
            events,
            peer_events_per_second: 44_000.0,
        },
        Run {
            name: "30 models, at least once",
            job: Job {
                models: 30,
                ..Job::default()
            },
            events: events / 4,
            peer_events_per_second: 3_400.0,
        },
    ];
    for run in runs {
        one(report, purchases, &run).await?;
    }
    Ok(())
}

async fn one(report: &mut Report, purchases: &[Purchase], run: &Run) -> Result<()> {
    let broker = KafkaBroker::start().await?;
    let bootstrap = broker.bootstrap();
    job::create_topics(&bootstrap).await?;
    let rows = events::send_catalog(&bootstrap)?;
    events::send_events(&bootstrap, purchases, run.events)?;
    let directory = tempfile::tempdir()?;
    let mut worker = Worker::start(&bootstrap, directory.path(), &[("inference.cores", "1")]).await?;
    job::put_resources(&mut worker, &run.job, rows).await?;
    let (from, to) = (run.events as f64 * 0.1, run.events as f64);
    job::start(&worker, &run.job).await?;
    let started = worker.wait_for(EVENTS_IN, from, PATIENCE).await?;
    let (first, before) = (worker.metric(EVENTS_IN).await?, worker.usage()?);
    worker.wait_for(EVENTS_IN, to, PATIENCE).await?;
    let predictions = to * run.job.models as f64;
    worker
        .wait_for("millrace_inference_predictions_total", predictions, PATIENCE)
        .await?;
    let (ended, after) = (Instant::now(), worker.usage()?);
    let made = worker.metric("millrace_inference_predictions_total").await?;
    ensure!(made == predictions, "{}: {made} predictions of {predictions}", run.name);
    let measured = to - first;
    let seconds = (ended - started).as_secs_f64();
    let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
    report.beside(
        format!("path, {}", run.name),
        "events/s",
        measured / seconds,
        run.peer_events_per_second,
        PEER,
        1,
    );
    report.alone(
        format!("path, {}, CPU", run.name),
        "CPU-s per million events",
        cpu_seconds / measured * 1e6,
        1,
    );
    report.alone(
        format!("path, {}, peak memory", run.name),
        "MB",
        after.peak_bytes / 1e6,
        1,
    );
    print_stages(&before, &after, measured);
    print_sizes(&worker, &bootstrap, run).await
}

/// What a stage may cost for three models, in microseconds of CPU per event (design: budgets), and the threads that do it.
const STAGES: [(&str, f64, &[&str]); 4] = [
    ("fetch", 0.3, &["rdk:broker"]),
    (
        "parse, match, features, state with its local copy",
        3.7,
        &["task-inference", "rocksdb"],
    ),
    ("models, outputs encoded", 2.5, &["inference"]),
    ("changelog and outputs to Kafka", 2.1, &["outputs", "commit"]),
];

/// Where the time goes: CPU microseconds per event by stage beside the stage's budget, and of each thread.
fn print_stages(before: &Usage, after: &Usage, events: f64) {
    let mut threads: Vec<(f64, &str)> = after
        .threads
        .iter()
        .map(|(name, seconds)| {
            let since = seconds - before.threads.get(name).copied().unwrap_or_default();
            (since / events * 1e6, name.as_str())
        })
        .filter(|(micros, _)| *micros >= 0.01)
        .collect();
    threads.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    for (stage, budget, of) in STAGES {
        let micros: f64 = threads
            .iter()
            .filter(|(_, name)| of.iter().any(|start| name.starts_with(start)))
            .map(|(micros, _)| micros)
            .sum();
        println!("    {stage:<50} {micros:>7.2} us CPU per event, budget {budget}");
    }
    for (micros, name) in threads {
        println!("        thread {name:<39} {micros:>7.2}");
    }
}

/// How large the work is: state, changelog, outputs.
async fn print_sizes(worker: &Worker, bootstrap: &str, run: &Run) -> Result<()> {
    for (store, kind) in [
        ("household_state", "keyed"),
        ("basket_state", "keyed"),
        ("products", "global"),
    ] {
        let family = format!("millrace_inference_store_rows{{store=\"{store}\",kind=\"{kind}\"}}");
        println!(
            "    {:<50} {:>7}",
            format!("keys of {store}"),
            worker.metric(&family).await?
        );
    }
    let events = run.events as f64;
    let commits = worker.metric("millrace_inference_commits_total").await?;
    println!("    {:<50} {commits:>7}", "commits");
    let seconds = worker
        .metric("millrace_inference_stage_seconds_total{stage=\"commit\"}")
        .await?;
    println!("    {:<50} {:>7.0}", "ms of a commit", seconds / commits * 1e3);
    let changes = worker.metric("millrace_inference_state_changes_total").await?;
    println!("    {:<50} {:>7.2}", "changelog records per event", changes / events);
    let expired = worker.metric("millrace_inference_expired_total").await?;
    println!("    {:<50} {:>7.2}", "entries expired per event", expired / events);
    let bytes = events::mean_bytes(bootstrap, &job::output_topic("gamma"))?;
    let per_event = bytes * run.job.models as f64;
    println!("    {:<50} {per_event:>7.0}", "bytes of output per event");
    Ok(())
}
