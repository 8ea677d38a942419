//! Event to prediction at a steady rate, from the first second after the connector's start. Broker, worker and clients share
//! both cores; the broker is warm, the worker is not. Beside it what an event takes from the same producer over the same
//! broker to the same subscriber without a worker between them, which it does twice on its way to a prediction.

use crate::events::{self, Purchase};
use crate::job::{self, Job, output_topic};
use crate::paced::{self, Subscriber};
use crate::process::Worker;
use crate::report::Report;
use anyhow::{Result, ensure};
use std::time::Duration;
use tests::kafka::KafkaBroker;

const PEER: &str = "Kafka Streams + ONNX Runtime, warm, recorded";
/// Seconds of each rate.
const SECONDS: usize = 15;

/// Measures both guarantees at 1,000 and 10,000 events/s.
pub async fn measure(report: &mut Report, purchases: &[Purchase]) -> Result<()> {
    for rate in [1_000, 10_000] {
        without_worker(report, purchases, rate).await?;
    }
    for (guarantee, interval) in [("at_least_once", 100), ("exactly_once_v2", 20)] {
        for (rate, peer_p50, peer_p99) in [(1_000usize, 3.6, 10.0), (10_000, 5.4, 75.0)] {
            let job = Job {
                guarantee,
                commit_interval_ms: interval,
                key: "event.n",
                ..Job::default()
            };
            let name = format!("latency, {guarantee}, {rate}/s");
            one(report, purchases, &job, rate, &name, peer_p50, peer_p99).await?;
        }
    }
    Ok(())
}

async fn without_worker(report: &mut Report, purchases: &[Purchase], rate: usize) -> Result<()> {
    let broker = KafkaBroker::start_for_measuring().await?;
    let bootstrap = broker.bootstrap();
    job::create_topics(&bootstrap).await?;
    let producer = paced::producer(&bootstrap)?;
    tokio::task::block_in_place(|| paced::warm_up(&bootstrap, &producer, purchases))?;
    let count = rate * SECONDS;
    let subscriber = Subscriber::start(&bootstrap, &[paced::STRAIGHT.to_owned()], count)?;
    let latencies =
        tokio::task::block_in_place(|| subscriber.run_straight(&producer, purchases, 0..count, rate as f64))?;
    let name = format!("latency, producer to subscriber without a worker, {rate}/s");
    for latencies in latencies {
        ensure!(
            latencies.missing == 0,
            "{name}: {} events did not come",
            latencies.missing
        );
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            report.alone(format!("{name}, {label}"), "ms", latencies.quantile_ms(quantile), 2);
        }
    }
    Ok(())
}

async fn one(
    report: &mut Report,
    purchases: &[Purchase],
    job: &Job,
    rate: usize,
    name: &str,
    peer_p50: f64,
    peer_p99: f64,
) -> Result<()> {
    let broker = KafkaBroker::start_for_measuring().await?;
    let bootstrap = broker.bootstrap();
    job::create_topics(&bootstrap).await?;
    let producer = paced::producer(&bootstrap)?;
    tokio::task::block_in_place(|| paced::warm_up(&bootstrap, &producer, purchases))?;
    let rows = events::send_catalog(&bootstrap)?;
    let directory = tempfile::tempdir()?;
    let mut worker = Worker::start_unbound(&bootstrap, directory.path(), &[("producer.linger.ms", "0")]).await?;
    job::put_resources(&mut worker, job, rows).await?;
    job::start(&worker, job).await?;
    worker.until_running("inference").await?;
    let topics: Vec<String> = ["alpha", "beta", "gamma"].map(output_topic).to_vec();
    let count = rate * SECONDS;
    let subscriber = Subscriber::start(&bootstrap, &topics, count)?;
    let latencies =
        tokio::task::block_in_place(|| subscriber.run(&producer, purchases, 0..count, rate as f64, &[0, 1, 2]))?;
    producer.flush(Duration::from_secs(10))?;
    let mut all = hdrhistogram::Histogram::<u64>::new(3)?;
    let mut later = hdrhistogram::Histogram::<u64>::new(3)?;
    for topic in 0..topics.len() {
        later.add(&subscriber.latencies(topic, rate..count)?.micros)?;
    }
    for (topic, latencies) in topics.iter().zip(&latencies) {
        ensure!(
            latencies.missing == 0,
            "{name}: {} events have no prediction in {topic}",
            latencies.missing
        );
        all.add(&latencies.micros)?;
    }
    let quantile = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1e3;
    report.beside(format!("{name}, p50"), "ms", quantile(0.5), peer_p50, PEER, 2);
    report.beside(format!("{name}, p99"), "ms", quantile(0.99), peer_p99, PEER, 2);
    report.alone(format!("{name}, p99.9"), "ms", quantile(0.999), 2);
    let later = later.value_at_quantile(0.99) as f64 / 1e3;
    report.alone(format!("{name}, p99 without the first second"), "ms", later, 2);
    Ok(())
}
