//! Neighbours: what three tenants notice when three others misbehave. One pays for nothing it uses (models a hundred times
//! too expensive), one sends a hundred times its rate, one has a model that fails at every event. Runs with and without
//! them alternate on one worker.

use crate::events::{self, Purchase, TOPIC};
use crate::generator::Generator;
use crate::job::{self, Job, output_topic};
use crate::paced::{self, Subscriber};
use crate::process::Worker;
use crate::report::Report;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::kafka::KafkaBroker;

/// Pairs of runs.
const PAIRS: usize = 9;
/// Pairs before them. With fewer, and fewer events before, the broker gets faster from pair to pair by more than the neighbours
/// cost.
const PAIRS_BEFORE: usize = 2;
/// Events before the first pair.
const WARM_UP_EVENTS: usize = 120_000;
/// Events per second: with 1,000, broker and clients have no moment of idleness on their core, and what is measured is their
/// queue.
const RATE: usize = 500;
/// Seconds of a run.
const SECONDS: usize = 8;
/// Seconds before each run, after models came or went.
const SETTLING_SECONDS: usize = 2;
/// The figure of the peer: what is left of a tenant's throughput beside an expensive neighbour.
const PEER: &str = "Kafka Streams, throughput beside an expensive neighbour, recorded";

struct Figures {
    p99_ms: f64,
    predictions_per_second: f64,
}

/// Measures nine pairs.
pub async fn measure(report: &mut Report, purchases: &[Purchase]) -> Result<()> {
    let broker = KafkaBroker::start_for_measuring().await?;
    let bootstrap = broker.bootstrap();
    job::create_topics(&bootstrap).await?;
    let generator = Generator::start(&bootstrap)?;
    let rows = events::send_catalog(&bootstrap)?;
    let directory = tempfile::tempdir()?;
    let mut worker = Worker::start(&bootstrap, directory.path(), &[("producer.linger.ms", "0")]).await?;
    let job = Job {
        key: "event.n",
        ..Job::default()
    };
    job::put_resources(&mut worker, &job, rows).await?;
    job::start(&worker, &job).await?;
    worker.until_running("inference").await?;
    let topics: Vec<String> = ["alpha", "beta", "gamma"].map(output_topic).to_vec();
    let (per_run, to_settle) = (RATE * SECONDS, RATE * SETTLING_SECONDS);
    let events = WARM_UP_EVENTS + (per_run + to_settle) * 2 * (PAIRS_BEFORE + PAIRS);
    let subscriber = Subscriber::start(&bootstrap, &topics, events)?;
    tokio::task::block_in_place(|| paced::warm_up(&subscriber, &generator, purchases, 0..WARM_UP_EVENTS))?;
    let mut next = WARM_UP_EVENTS;
    // The events of the first seconds take the worker from one deployment to the other, and are not counted.
    let mut run = || {
        one(&subscriber, &generator, purchases, next..next + to_settle)?;
        next += to_settle;
        let numbers = next..next + per_run;
        next += per_run;
        one(&subscriber, &generator, purchases, numbers)
    };
    let (mut p99_more, mut p99_ratio, mut throughput) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS_BEFORE + PAIRS {
        let without = run()?;
        put_neighbours(&worker).await?;
        let with = run()?;
        remove_neighbours(&worker).await?;
        println!(
            "    pair {pair}: p99 {:.2} ms without, {:.2} ms with; {:.0} and {:.0} predictions/s",
            without.p99_ms, with.p99_ms, without.predictions_per_second, with.predictions_per_second
        );
        if pair < PAIRS_BEFORE {
            continue;
        }
        p99_more.push(with.p99_ms - without.p99_ms);
        p99_ratio.push(with.p99_ms / without.p99_ms);
        throughput.push(with.predictions_per_second / without.predictions_per_second);
    }
    report.alone(
        "neighbours, p99 with beside without, median of 9 pairs",
        "ratio",
        median(&mut p99_ratio),
        1,
    );
    report.alone(
        "neighbours, p99 with minus without, median of 9 pairs",
        "ms",
        median(&mut p99_more),
        1,
    );
    report.beside(
        "neighbours, throughput kept, median of 9 pairs",
        "share",
        median(&mut throughput),
        0.04,
        PEER,
        1,
    );
    let fairness = worker.request("GET", "/inference/fairness", None).await?;
    let beside_neighbours = (per_run + to_settle) * (PAIRS_BEFORE + PAIRS);
    for (tenant, events) in [
        ("alpha", events),
        ("beta", events),
        ("gamma", events),
        ("expensive", beside_neighbours),
    ] {
        let cpu_us = fairness["since_start"]["tenants"][tenant]["cpu_us"].as_f64();
        println!(
            "    an event costs tenant {tenant} {:.1} us of CPU",
            cpu_us.unwrap_or(f64::NAN) / events as f64
        );
    }
    Ok(())
}

fn one(
    subscriber: &Subscriber,
    generator: &Generator,
    purchases: &[Purchase],
    numbers: std::ops::Range<usize>,
) -> Result<Figures> {
    let count = numbers.len();
    let started = std::time::Instant::now();
    let latencies =
        tokio::task::block_in_place(|| subscriber.run(generator, purchases, numbers, RATE as f64, &[0, 1, 2]))?;
    let seconds = started.elapsed().as_secs_f64();
    let mut worst: f64 = 0.0;
    for latencies in &latencies {
        ensure!(
            latencies.missing == 0,
            "{} events have no prediction",
            latencies.missing
        );
        worst = worst.max(latencies.quantile_ms(0.99));
    }
    Ok(Figures {
        p99_ms: worst,
        predictions_per_second: (count * latencies.len()) as f64 / seconds,
    })
}

const EXPENSIVE_MODELS: usize = 4;

fn neighbours() -> Vec<(String, Value)> {
    let tenant = |name: &str, more: Value| {
        let mut body =
            json!({ "name": name, "weight": 1, "memory": "32MiB", "outputs": { "topic": output_topic(name) } });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        (format!("tenants/{name}"), body)
    };
    let model = |tenant: &str, name: &str, artifact: &str, features: &Value| {
        let body = json!({
            "tenant": tenant, "name": name, "artifact": format!("file://configs/demo/models/{artifact}.onnx"),
            "subscribe": { "topics": [TOPIC] }, "inputs": { "X": features }, "trigger": { "each": {} },
            "output": { "key": "event.n", "fields": { "probability": "probabilities[1]" } },
        });
        (format!("models/{tenant}/{name}"), body)
    };
    let features = json!(job::FEATURES);
    // One feature that is never there and has no default: the model's output is no number.
    let mut broken = job::FEATURES.to_vec();
    if let Some(last) = broken.last_mut() {
        *last = "never";
    }
    let mut all = vec![
        tenant("expensive", json!({})),
        tenant(
            "over_rate",
            json!({ "rate": { "events_per_second": RATE / 100, "burst": RATE / 100, "over": "shed" } }),
        ),
        tenant("failing", json!({})),
        model("over_rate", "often", "lightgbm", &features),
        model("failing", "broken", "logistic", &json!(broken)),
    ];
    all.extend(
        (0..EXPENSIVE_MODELS).map(|number| model("expensive", &format!("costly-{number}"), "costly", &features)),
    );
    all
}

async fn put_neighbours(worker: &Worker) -> Result<()> {
    for (path, body) in neighbours() {
        worker
            .request("PUT", &format!("/inference/{path}"), Some(&body))
            .await?;
    }
    Ok(())
}

async fn remove_neighbours(worker: &Worker) -> Result<()> {
    for (path, _) in neighbours().iter().rev() {
        worker.request("DELETE", &format!("/inference/{path}"), None).await?;
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
