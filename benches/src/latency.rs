//! Event to prediction at a steady rate, from the first event after a worker has started and says that it runs. Broker, worker
//! and clients share both cores. The broker has carried the same job for a while, as it has where a worker is started or
//! restarted; the worker is as it comes up. Beside it what an event takes from the same producer over the same broker to the
//! same subscriber without a worker between them, which it does twice on its way to a prediction.

use crate::events::{self, Purchase};
use crate::generator::Generator;
use crate::job::{self, Job, output_topic};
use crate::paced::{self, STRAIGHT, Subscriber, WARM_UP_EVENTS};
use crate::process::Worker;
use crate::report::Report;
use anyhow::{Result, ensure};
use std::ops::Range;
use std::path::Path;
use tests::kafka::KafkaBroker;

const PEER: &str = "Kafka Streams + ONNX Runtime, warm, recorded";
/// Seconds of each rate.
const SECONDS: usize = 15;
/// Events per second, and the peer's p50 and p99 in milliseconds.
const RATES: [(usize, f64, f64); 2] = [(1_000, 3.6, 10.0), (10_000, 5.4, 75.0)];
/// Events for a restarted worker before those that are measured.
const SECOND_WARM_UP_EVENTS: usize = 30_000;
/// A stretch before a rate is measured without a worker.
const STRAIGHT_WARM_UP: usize = 5_000;

/// Measures both guarantees at 1,000 and 10,000 events/s.
pub async fn measure(report: &mut Report, purchases: &[Purchase]) -> Result<()> {
    for (guarantee, commit_interval_ms) in [("at_least_once", 100), ("exactly_once_v2", 20)] {
        let job = Job {
            guarantee,
            commit_interval_ms,
            key: "event.n",
            ..Job::default()
        };
        let broker = KafkaBroker::start_for_measuring().await?;
        let bootstrap = broker.bootstrap();
        job::create_topics(&bootstrap).await?;
        let rows = events::send_catalog(&bootstrap)?;
        let generator = Generator::start(&bootstrap)?;
        let directory = tempfile::tempdir()?;
        let topics: Vec<String> = ["alpha", "beta", "gamma"].map(output_topic).to_vec();
        let events: usize = RATES.iter().map(|(rate, ..)| rate * SECONDS).sum();
        let subscriber = Subscriber::start(&bootstrap, &topics, WARM_UP_EVENTS + SECOND_WARM_UP_EVENTS + events)?;
        let measured = Measured {
            bootstrap: &bootstrap,
            generator: &generator,
            subscriber: &subscriber,
            purchases,
            directory: directory.path(),
        };
        let mut worker = measured.start_worker().await?;
        job::put_resources(&mut worker, &job, rows).await?;
        job::start(&worker, &job).await?;
        worker.until_running("inference").await?;
        tokio::task::block_in_place(|| paced::warm_up(&subscriber, &generator, purchases, 0..WARM_UP_EVENTS))?;
        worker.stop()?;
        // Taking a restarted worker back is something to be warm in, too.
        let worker = measured.start_worker().await?;
        worker.until_running("inference").await?;
        let again = WARM_UP_EVENTS..WARM_UP_EVENTS + SECOND_WARM_UP_EVENTS;
        tokio::task::block_in_place(|| paced::warm_up(&subscriber, &generator, purchases, again.clone()))?;
        worker.stop()?;
        let mut next = again.end;
        for (rate, peer_p50, peer_p99) in RATES {
            let numbers = next..next + rate * SECONDS;
            next = numbers.end;
            let name = format!("latency, {guarantee}, {rate}/s");
            let [all, later] = measured.with_worker(rate, numbers, topics.len(), &name).await?;
            report.beside(format!("{name}, p50"), "ms", quantile_ms(&all, 0.5), peer_p50, PEER, 2);
            report.beside(format!("{name}, p99"), "ms", quantile_ms(&all, 0.99), peer_p99, PEER, 2);
            report.alone(format!("{name}, p99.9"), "ms", quantile_ms(&all, 0.999), 2);
            let without_first = format!("{name}, p99 without the first second");
            report.alone(without_first, "ms", quantile_ms(&later, 0.99), 2);
        }
        // Last: a broker that carries something else for a while is no longer as warm for the job.
        if guarantee == "at_least_once" {
            for (rate, ..) in RATES {
                measured.without_worker(report, rate)?;
            }
        }
    }
    Ok(())
}

type Histogram = hdrhistogram::Histogram<u64>;

fn quantile_ms(micros: &Histogram, quantile: f64) -> f64 {
    micros.value_at_quantile(quantile) as f64 / 1e3
}

/// What all rates of one guarantee share.
struct Measured<'a> {
    bootstrap: &'a str,
    generator: &'a Generator,
    subscriber: &'a Subscriber,
    purchases: &'a [Purchase],
    directory: &'a Path,
}

impl Measured<'_> {
    async fn start_worker(&self) -> Result<Worker> {
        Worker::start_unbound(self.bootstrap, self.directory, &[("producer.linger.ms", "0")]).await
    }

    fn without_worker(&self, report: &mut Report, rate: usize) -> Result<()> {
        let count = STRAIGHT_WARM_UP + rate * SECONDS;
        let straight = Subscriber::start(self.bootstrap, &[STRAIGHT.to_owned()], count)?;
        let name = format!("latency, producer to subscriber without a worker, {rate}/s");
        let mut measured = Vec::new();
        for numbers in [0..STRAIGHT_WARM_UP, STRAIGHT_WARM_UP..count] {
            let run = || straight.run_straight(self.generator, self.purchases, numbers, rate as f64);
            measured = tokio::task::block_in_place(run)?;
        }
        for latencies in measured {
            let missing = latencies.missing;
            ensure!(missing == 0, "{name}: {missing} events did not come");
            for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
                report.alone(format!("{name}, {label}"), "ms", latencies.quantile_ms(quantile), 2);
            }
        }
        Ok(())
    }

    /// Of a worker that has just started: all events, and those after the first second.
    async fn with_worker(
        &self,
        rate: usize,
        numbers: Range<usize>,
        topics: usize,
        name: &str,
    ) -> Result<[Histogram; 2]> {
        let worker = self.start_worker().await?;
        worker.until_running("inference").await?;
        let expected: Vec<usize> = (0..topics).collect();
        let run = || {
            self.subscriber
                .run(self.generator, self.purchases, numbers.clone(), rate as f64, &expected)
        };
        let latencies = tokio::task::block_in_place(run)?;
        let (mut all, mut later) = (Histogram::new(3)?, Histogram::new(3)?);
        for (topic, latencies) in latencies.iter().enumerate() {
            let missing = latencies.missing;
            ensure!(
                missing == 0,
                "{name}: {missing} events have no prediction in topic {topic}"
            );
            all.add(&latencies.micros)?;
            let after_a_second = numbers.start + rate..numbers.end;
            later.add(&self.subscriber.latencies(topic, after_a_second)?.micros)?;
        }
        worker.stop()?;
        Ok([all, later])
    }
}
