//! A whole worker over a broker that goes away and comes back, cleanly and without notice, in the middle of a stream from a
//! source connector through the inference sink to a sink connector: it costs nothing but time.
//!
//! `MILLRACE_BROKER_RESTARTS` says how often (3; `make restarts`: 200).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::KafkaBroker;
use tests::broker::{BrokerUnderTest, OwnDevBroker};
use tests::inference::{Output, create_topics, produce, read};
use tests::inference_scenarios::{
    START_MS, artifact, by_household, check_lineage, events as numbered, expected, wait_for,
};
use tests::whole_worker::{WholeWorker, is_running};

const PER_SECOND: i64 = 1_000;
/// Events from one outage to the next; there are some more before the first and after the last.
const BETWEEN: i64 = 1_250;
const BEFORE_AND_AFTER: i64 = 4_250;
const CONNECTORS: [&str; 3] = ["events", "inference", "file"];

/// How often the broker goes away; every other time without notice.
fn outages() -> Result<i64> {
    let text = std::env::var("MILLRACE_BROKER_RESTARTS").unwrap_or_else(|_| "3".to_owned());
    text.parse()
        .with_context(|| format!("MILLRACE_BROKER_RESTARTS={text} is no number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_development_broker() -> Result<()> {
    a_worker_over_outages(&mut OwnDevBroker::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_apache_kafka() -> Result<()> {
    a_worker_over_outages(&mut KafkaBroker::start().await?).await
}

/// Models are loaded before the first event is read, and the last one is committed before the worker ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_passes_no_event_by() -> Result<()> {
    let broker = OwnDevBroker::start().await?;
    let (bootstrap, directory) = (broker.bootstrap(), tempfile::tempdir()?);
    create_topics(&bootstrap, &[("events", 2), ("predictions", 2)]).await?;
    let worker = WholeWorker::start(&bootstrap, "restart", directory.path()).await?;
    put_resources(&worker).await?;
    let config = json!({ "connector.class": "millrace.InferenceSink", "topics": "events", "tasks.max": "2" });
    worker
        .rest
        .send("PUT", "/connectors/inference/config", Some(&config))
        .await?;
    worker.rest.until_running("inference").await?;
    worker.stop().await;
    for lives in 1..=3 {
        let sent = lives * 100;
        produce(&bootstrap, "events", numbered(sent - 100..sent))?;
        let worker = WholeWorker::start(&bootstrap, "restart", directory.path()).await?;
        let outputs = read(&bootstrap, "predictions", usize::try_from(sent)?).await?;
        check_lineage(&outputs)?;
        ensure!(by_household(&outputs)? == expected(0..sent), "scores in life {lives}");
        worker.stop().await;
    }
    Ok(())
}

async fn a_worker_over_outages(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let warnings = Warnings::listen();
    let directory = tempfile::tempdir()?;
    let bootstrap = broker.bootstrap();
    create_topics(&bootstrap, &[("events", 2), ("predictions", 2)]).await?;
    let worker = WholeWorker::start(&bootstrap, "outage", directory.path()).await?;
    put_resources(&worker).await?;
    let output = directory.path().join("predictions.txt");
    let outages = outages()?;
    let count = BEFORE_AND_AFTER + outages * BETWEEN;
    put_connectors(&worker, directory.path(), &output, count).await?;

    let predictions = || worker.inference.snapshot().predictions;
    for outage in 0..outages {
        let reached = u64::try_from(1_000 + outage * BETWEEN)?;
        wait_for("predictions before an outage", || predictions() >= reached).await?;
        // The group may have been joined again after the last one.
        for connector in CONNECTORS {
            worker.rest.until_running(connector).await?;
        }
        warnings.clear();
        broker.end(outage % 2 == 0).await?;
        // What the worker knows it tells, Kafka or not.
        ensure!(worker.rest.get("/connectors").await?.as_array().map(Vec::len) == Some(3));
        for connector in CONNECTORS {
            let status = worker.rest.get(&format!("/connectors/{connector}/status")).await?;
            ensure!(is_running(&status), "while the broker is away: {status}");
        }
        let model = worker.rest.get("/inference/models/shop/score/status").await?;
        ensure!(model["state"] == "SERVING", "while the broker is away: {model}");
        wait_for("a warning", || warnings.tell_of_an_outage()).await?;
        broker.start_again().await?;
        // No producer is left stuck behind what it had under way: what goes to internal topics is written.
        for (path, body) in [
            ("/connectors/file/resume", None),
            ("/inference/tenants/shop", Some(json!({ "weight": 1 + outage % 2 }))),
        ] {
            worker.rest.until_sent("PUT", path, body.as_ref()).await?;
        }
    }

    worker
        .rest
        .until("/connectors/events/offsets", |offsets| {
            offsets["offsets"][0]["offset"]["position"] == count
        })
        .await?;
    // A source connector sends again what was not acknowledged, so a row may be there twice, and none is missing.
    let events = read(&bootstrap, "events", usize::try_from(count)?).await?;
    ensure!(rows(&events) == (0..count).collect(), "rows");
    let outputs = read(&bootstrap, "predictions", events.len()).await?;
    let doubled = doubled(&outputs);
    ensure!(
        outputs.len() == events.len(),
        "{} outputs of {} events, {} sources twice: {:?}; warnings:\n{}",
        outputs.len(),
        events.len(),
        doubled.len(),
        doubled,
        warnings.all()
    );
    check_lineage(&outputs)?;
    ensure!(by_household(&outputs)? == undisturbed(&events), "scores");
    // A sink connector may write twice what it had not committed, and nothing is missing.
    let lines = || std::fs::read_to_string(&output).unwrap_or_default();
    let times: BTreeSet<i64> = (START_MS..START_MS + count).collect();
    wait_for("every prediction in the file", || event_times(&lines()) == times).await?;
    for connector in CONNECTORS {
        worker.rest.until_running(connector).await?;
    }
    worker.stop().await;
    Ok(())
}

/// Input records that have more than one output, with the runs that gave them: two of one run were written twice, those of
/// two runs were made twice.
fn doubled(outputs: &[Output]) -> BTreeMap<&str, Vec<&str>> {
    let mut runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for output in outputs {
        let run = output.header("millrace.batch");
        runs.entry(output.header("millrace.source")).or_default().push(run);
    }
    runs.retain(|_, runs| runs.len() > 1);
    runs
}

/// Warnings of everything that runs in this process.
#[derive(Clone, Default)]
struct Warnings {
    written: Arc<Mutex<Vec<u8>>>,
    /// where those begin that count
    from: Arc<AtomicUsize>,
}

impl Warnings {
    /// Those from the first call on.
    fn listen() -> Self {
        static WARNINGS: OnceLock<Warnings> = OnceLock::new();
        let listen = || {
            let warnings = Self::default();
            let writer = warnings.clone();
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
                .with_writer(move || writer.clone())
                .init();
            warnings
        };
        WARNINGS.get_or_init(listen).clone()
    }

    /// Whether one says that a client reaches no broker.
    fn tell_of_an_outage(&self) -> bool {
        let written = self.written.lock().unwrap();
        let counting = &written[self.from.load(Ordering::Relaxed)..];
        String::from_utf8_lossy(counting).contains("no broker can be reached")
    }

    /// From here on only what follows counts.
    fn clear(&self) {
        self.from.store(self.written.lock().unwrap().len(), Ordering::Relaxed);
    }

    fn all(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.written.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn put_resources(worker: &WholeWorker) -> Result<()> {
    let households = |aggregate: &Value| {
        let mut aggregate = aggregate.clone();
        aggregate["by"] = json!(["event.household"]);
        aggregate["store"] = "households".into();
        json!({ "aggregate": aggregate })
    };
    let view = json!({
        "source": "events", "partitioned_by": "event.household", "event_time": "event.time",
        "features": {
            "amount": { "expression": "event.amount" },
            "spent": households(&json!({ "function": "sum", "of": "event.amount" })),
            "seen": households(&json!({ "function": "count" }))
        }
    });
    let model = json!({
        "artifact": artifact("linear.onnx"), "subscribe": { "topics": ["events"] },
        "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
        "output": { "topic": "predictions", "key": "event.household", "fields": { "score": "variable" } }
    });
    let store = json!({ "keyed": { "by": "event.household" } });
    let path = "/inference/tenants/shop";
    // The extension starts beside the worker.
    worker.rest.until("/inference/tenants", Value::is_array).await?;
    for (path, document) in [
        (path, &json!({ "weight": 1 })),
        ("/inference/stores/households", &store),
        ("/inference/feature-views/purchase", &view),
        ("/inference/models/shop/score", &model),
    ] {
        worker.rest.send("PUT", path, Some(document)).await?;
    }
    Ok(())
}

async fn put_connectors(worker: &WholeWorker, directory: &Path, output: &Path, events: i64) -> Result<()> {
    let input = directory.join("events.csv");
    let mut text = "household,amount,time\n".to_owned();
    for number in 0..events {
        text.push_str(&format!("h{},{},{}\n", number % 5, 1 + number % 7, START_MS + number));
    }
    std::fs::write(&input, text)?;
    let configs = [
        json!({
            "connector.class": "millrace.InferenceSink", "topics": "events", "tasks.max": "2",
            "inference.commit.interval.ms": "20"
        }),
        json!({
            "connector.class": "FileStreamSink", "topics": "predictions", "tasks.max": "1", "file": output,
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "consumer.override.isolation.level": "read_committed"
        }),
        json!({
            "connector.class": "millrace.EventReplaySource", "file": input, "topic": "events",
            "key.field": "household", "fields.numeric": "amount,time", "row.field": "row", "batch.size": "100",
            "events.per.second": PER_SECOND.to_string()
        }),
    ];
    for (name, config) in ["inference", "file", "events"].into_iter().zip(&configs) {
        let path = format!("/connectors/{name}/config");
        worker.rest.send("PUT", &path, Some(config)).await?;
        worker.rest.until_running(name).await?;
    }
    Ok(())
}

/// Numbers of the rows that events come from.
fn rows(events: &[Output]) -> BTreeSet<i64> {
    events.iter().filter_map(|event| event.value["row"].as_i64()).collect()
}

/// The scores of an undisturbed run over these events, by household in order.
fn undisturbed(events: &[Output]) -> BTreeMap<String, Vec<f64>> {
    let mut state: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let mut scores: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for event in events {
        let household = event.key.clone().unwrap_or_default();
        let amount = event.value["amount"].as_f64().unwrap_or(0.0);
        let (spent, seen) = state.entry(household.clone()).or_default();
        let own = scores.entry(household).or_default();
        own.push(amount + 10.0 * *spent + 100.0 * *seen);
        *spent += amount;
        *seen += 1.0;
    }
    scores
}

/// Event times of the predictions in a file, one in a line.
fn event_times(lines: &str) -> BTreeSet<i64> {
    let prediction = |line: &str| serde_json::from_str::<Value>(line).ok()?["event_time"].as_i64();
    lines.lines().filter_map(prediction).collect()
}
