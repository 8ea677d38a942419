//! A compacted topic of two million rows into a global store that had nothing, beside Kafka Streams' GlobalKTable. Whose turn it
//! is has one core, the broker the other.

use crate::contest::{self, Bench, Contest, Figure, Side, Terms};
use crate::cores::Placement;
use crate::events;
use crate::job;
use crate::scratch::Scratch;
use crate::streams::Application;
use crate::worker::{Place, Worker};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fmt::{self, Display};
use std::time::{Duration, Instant};
use tests::kafka::KafkaBroker;

/// Rows, of 200 bytes each.
const ROWS: usize = 2_000_000;
const TOPIC: &str = "catalog.large";
/// What the application reads beside it: nothing comes.
const NO_EVENTS: &str = "events.none";
const PATIENCE: Duration = Duration::from_secs(300);
const ROUNDS: usize = 3;

/// Where a GlobalKTable keeps its rows.
#[derive(Clone, Copy, Debug)]
enum Table {
    RocksDb,
    Memory,
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Table::RocksDb => "GlobalKTable on RocksDB",
            Table::Memory => "GlobalKTable in memory",
        })
    }
}

/// Measures the first copy.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench {
        subjects,
        rounds,
        scratch,
        report,
        ..
    } = bench;
    let broker = KafkaBroker::start().await?;
    let bootstrap = broker.bootstrap();
    job::create_compacted(&bootstrap, TOPIC).await?;
    job::create_topics(&bootstrap, &[NO_EVENTS.to_owned(), "predictions.none".to_owned()]).await?;
    let rows = (0..ROWS).map(|number| (format!("product-{number:09}"), Some(row(number))));
    events::send(&bootstrap, TOPIC, rows)?;
    let mut store = FirstCopy {
        bootstrap,
        scratch,
        runs: 0,
    };
    let terms = Terms {
        name: "topic to global store, 2M rows of 200 bytes".to_owned(),
        cores: Placement::Own,
        peers: vec![Table::Memory, Table::RocksDb],
        rounds: ROUNDS,
        pairs: ROUNDS,
    };
    contest::hold(&mut store, &terms, subjects, *rounds, report).await
}

struct FirstCopy<'a> {
    bootstrap: String,
    scratch: &'a Scratch,
    runs: usize,
}

impl Contest for FirstCopy<'_> {
    type Peer = Table;

    async fn run(&mut self, side: &Side<Table>, _round: usize) -> Result<Vec<Figure>> {
        self.runs += 1;
        let name = format!("copy-{}", self.runs);
        let directory = self.scratch.folder()?;
        let figures = match side {
            Side::Millrace(build) => {
                let place = Place {
                    bootstrap: &self.bootstrap,
                    directory: directory.path(),
                    placement: Placement::Own,
                    group: &name,
                };
                let mut worker = Worker::start(&build.binary, place, &[]).await?;
                // A new cluster makes its topics first.
                worker.request("GET", "/connectors", None).await?;
                worker.request("GET", "/inference/stores", None).await?;
                let before = worker.process.usage()?;
                let started = Instant::now();
                let store = json!({ "global": { "topic": TOPIC }, "value": { "format": "json" } });
                worker.request("PUT", "/inference/stores/large", Some(&store)).await?;
                let rows = "millrace_inference_store_rows{store=\"large\",kind=\"global\"}";
                let ended = worker.wait_for(rows, ROWS as f64, PATIENCE).await?;
                let after = worker.process.usage()?;
                figures(
                    (ended - started).as_secs_f64(),
                    after.cpu_seconds - before.cpu_seconds,
                    after.peak_bytes,
                )
            }
            Side::Peer(table) => {
                let application = Application {
                    id: &name,
                    models: "logistic",
                    batch: 1,
                    guarantee: "at_least_once",
                    events: NO_EVENTS,
                    products: TOPIC,
                    predictions: "predictions.none",
                    table_in_memory: matches!(table, Table::Memory),
                    more: &[],
                };
                let mut streams = application.start(&self.bootstrap, directory.path(), Placement::Own)?;
                // Of its own clock, from the moment at which it begins to restore.
                let line = streams.says("\"restored\"").await?;
                let said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
                ensure!(said["rows"] == ROWS, "{line}");
                let after = streams.process.usage()?;
                let seconds = said["seconds"].as_f64().with_context(|| line.clone())?;
                let cpu_seconds = said["cpu_s"].as_f64().with_context(|| line.clone())?;
                figures(seconds, cpu_seconds, after.peak_bytes)
            }
        };
        job::delete_topics(&self.bootstrap, &name).await?;
        Ok(figures)
    }
}

fn figures(seconds: f64, cpu_seconds: f64, peak_bytes: f64) -> Vec<Figure> {
    vec![
        Figure::rate("", "rows/s", ROWS as f64 / seconds),
        Figure::cost("CPU", "CPU-s per million rows", cpu_seconds / ROWS as f64 * 1e6),
        Figure::peak_memory(peak_bytes),
    ]
}

fn row(number: usize) -> Vec<u8> {
    let mut row = format!(
        "{{\"product_id\":\"product-{number:09}\",\"brand\":\"{}\",\"product_type\":\"type-{}\",\"price\":{}.{:02},\"description\":\"",
        if number.is_multiple_of(3) { "Private" } else { "National" },
        number % 1500,
        number % 90 + 1,
        number % 100,
    )
    .into_bytes();
    while row.len() < 198 {
        row.push(b'a' + (number.wrapping_mul(row.len()) % 26) as u8);
    }
    row.extend_from_slice(b"\"}");
    row
}
