//! Neighbours: what three tenants notice when three others misbehave. One pays for nothing it uses (models a hundred times
//! too expensive), one sends a hundred times its rate, one has a model that fails at every event. Runs with and without
//! them alternate on one worker.

use crate::contest::{self, Bench, Contest, Figure, NoPeer, Side, Terms};
use crate::cores::Placement;
use crate::events::Purchase;
use crate::generator::Generator;
use crate::job::{self, Job};
use crate::paced::{self, Load, Subscriber, Subscription};
use crate::report::median;
use crate::scratch::Scratch;
use crate::worker::{Place, Worker};
use anyhow::Result;
use serde_json::{Value, json};
use std::ops::Range;
use tests::kafka::KafkaBroker;

/// Pairs of runs.
const PAIRS: usize = 9;
/// Pairs before them. With fewer, and fewer events before, the broker gets faster from pair to pair by more than the neighbours
/// cost.
const PAIRS_BEFORE: usize = 2;
/// Events before the first pair, and how many of them a second.
const WARM_UP_EVENTS: usize = 120_000;
const WARM_UP_RATE: usize = 2_000;
/// Events per second: with 1,000, broker and clients have no moment of idleness on their core, and what is measured is their
/// queue.
const RATE: usize = 500;
/// Seconds of a run.
const SECONDS: usize = 8;
/// Seconds before each run, after models came or went.
const SETTLING_SECONDS: usize = 2;

/// Measures nine pairs.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench {
        subjects,
        rounds,
        purchases,
        scratch,
        report,
        ..
    } = bench;
    let mut neighbours = Neighbours { purchases, scratch };
    let terms = Terms {
        name: format!("neighbours, linger 0 ms, medians of {PAIRS} pairs"),
        cores: Placement::Own,
        peers: Vec::new(),
        rounds: 1,
        pairs: 1,
    };
    contest::hold(&mut neighbours, &terms, subjects, *rounds, report).await
}

struct Neighbours<'a> {
    purchases: &'a [Purchase],
    scratch: &'a Scratch,
}

impl Contest for Neighbours<'_> {
    type Peer = NoPeer;

    async fn run(&mut self, side: &Side<NoPeer>, _round: usize) -> Result<Vec<Figure>> {
        let build = match side {
            Side::Millrace(build) => build,
            Side::Peer(none) => match *none {},
        };
        let broker = KafkaBroker::start_for_measuring().await?;
        let bootstrap = broker.bootstrap();
        let job = Job {
            name: "inference".to_owned(),
            input: INPUT.to_owned(),
            models: 3,
            guarantee: "at_least_once",
            options: Vec::new(),
            key: "event.n",
        };
        job::create_topics(
            &bootstrap,
            &[std::slice::from_ref(&job.input), job.outputs().as_slice()].concat(),
        )
        .await?;
        let catalog_rows = job::create_catalog(&bootstrap).await?;
        let directory = self.scratch.folder()?;
        let place = Place {
            bootstrap: &bootstrap,
            directory: directory.path(),
            placement: Placement::Own,
            group: "bench",
        };
        let mut worker = Worker::start(&build.binary, place, &[("producer.linger.ms", "0")]).await?;
        job::put_resources(&mut worker, &job, catalog_rows).await?;
        job::start(&worker, &job).await?;
        worker.until_running(&job.name).await?;
        let events = WARM_UP_EVENTS + (RUN + SETTLING) * 2 * (PAIRS_BEFORE + PAIRS);
        let subscription = Subscription {
            topics: job.outputs(),
            predictions: job.models,
            identify: paced::by_topic_and_key,
        };
        let subscriber = Subscriber::start(&bootstrap, subscription, events)?;
        let generator = Generator::start(&bootstrap)?;
        let load = Load {
            generator: &generator,
            purchases: self.purchases,
            topic: &job.input,
            keyed_by_number: false,
        };
        tokio::task::block_in_place(|| subscriber.run(&load, 0..WARM_UP_EVENTS, WARM_UP_RATE))?;
        let mut next = WARM_UP_EVENTS;
        let (mut more, mut ratio) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS_BEFORE + PAIRS {
            let without = p99_ms(&subscriber, &load, &mut next)?;
            put_neighbours(&worker, &job).await?;
            let with = p99_ms(&subscriber, &load, &mut next)?;
            remove_neighbours(&worker, &job).await?;
            println!("    pair {pair}: p99 {without:.2} ms without, {with:.2} ms with");
            if pair >= PAIRS_BEFORE {
                more.push(with - without);
                ratio.push(with / without);
            }
        }
        print_costs(&worker, events).await?;
        Ok(vec![
            Figure::cost("p99 with beside without", "ratio", median(ratio.into_iter())),
            Figure::cost("p99 with minus without", "ms", median(more.into_iter())),
        ])
    }
}

const INPUT: &str = "events.purchases";
/// Events of a run, and those that settle before it.
const RUN: usize = RATE * SECONDS;
const SETTLING: usize = RATE * SETTLING_SECONDS;

/// Of the tenant with the worst one. The events of the first seconds take the worker from one deployment to the other, and are
/// not counted.
fn p99_ms(subscriber: &Subscriber, load: &Load<'_>, next: &mut usize) -> Result<f64> {
    let mut run = |events: usize| -> Result<Range<usize>> {
        let numbers = *next..*next + events;
        *next = numbers.end;
        tokio::task::block_in_place(|| subscriber.run(load, numbers.clone(), RATE))?;
        Ok(numbers)
    };
    run(SETTLING)?;
    let numbers = run(RUN)?;
    let mut worst: f64 = 0.0;
    for tenant in 0..Job::TENANTS.len() {
        let micros = subscriber.latencies(tenant..tenant + 1, numbers.clone())?;
        worst = worst.max(micros.value_at_quantile(0.99) as f64 / 1e3);
    }
    Ok(worst)
}

async fn print_costs(worker: &Worker, events: usize) -> Result<()> {
    let fairness = worker.request("GET", "/inference/fairness", None).await?;
    let beside_neighbours = (RUN + SETTLING) * (PAIRS_BEFORE + PAIRS);
    let tenants = Job::TENANTS.map(|tenant| (tenant, events));
    for (tenant, events) in tenants.into_iter().chain([("expensive", beside_neighbours)]) {
        let cpu_us = fairness["since_start"]["tenants"][tenant]["cpu_us"].as_f64();
        println!(
            "    an event costs tenant {tenant} {:.1} us of CPU",
            cpu_us.unwrap_or(f64::NAN) / events as f64
        );
    }
    Ok(())
}

const EXPENSIVE_MODELS: usize = 4;

fn neighbours(job: &Job) -> Vec<(String, Value)> {
    let tenant = |name: &str, more: Value| {
        let mut body =
            json!({ "name": name, "weight": 1, "memory": "32MiB", "outputs": { "topic": job.output(name) } });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        (format!("tenants/{name}"), body)
    };
    let model = |tenant: &str, name: &str, artifact: &str, features: &Value| {
        let body = json!({
            "tenant": tenant, "name": name, "artifact": format!("file://configs/demo/models/{artifact}.onnx"),
            "subscribe": { "topics": [job.input] }, "inputs": { "X": features }, "trigger": { "each": {} },
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

async fn put_neighbours(worker: &Worker, job: &Job) -> Result<()> {
    for (path, body) in neighbours(job) {
        worker
            .request("PUT", &format!("/inference/{path}"), Some(&body))
            .await?;
    }
    Ok(())
}

async fn remove_neighbours(worker: &Worker, job: &Job) -> Result<()> {
    for (path, _) in neighbours(job).iter().rev() {
        worker.request("DELETE", &format!("/inference/{path}"), None).await?;
    }
    Ok(())
}
