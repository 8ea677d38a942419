//! A table of PostgreSQL into a compacted topic, snapshot and live changes: the Postgres connector in a worker, beside Debezium in
//! a Java worker of Kafka Connect. Same server, same broker, same connector JSON; each worker has one core, everybody else the
//! other; they take turns.
//!
//! ```text
//!   products, 7 text columns --snapshot--> topic: rows/s from its first to its last record
//!   paused; updates in transactions of 500 rows; resumed --stream--> topic: as above
//! ```
//! Live changes wait in the log of PostgreSQL when the clock starts: what is measured is how fast a connector catches up, not
//! how fast PostgreSQL takes updates.

use crate::process::{self, Worker};
use crate::report::{Report, median};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafka_client::{Admin, ClientConfig, Consumer, IsolationLevel, NewTopic, StartOffset, TopicPartition};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tests::{KafkaBroker, PostgresServer};

/// Pairs of runs; the figures are medians.
const ROUNDS: usize = 3;
/// Rows that one transaction updates.
const TRANSACTION_ROWS: usize = 500;
const CONNECTOR: &str = "catalog";
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at the end of the topic.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// Who runs the connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Millrace,
    Debezium,
}

/// What it took to carry rows.
#[derive(Clone, Copy)]
struct Cost {
    rows_per_second: f64,
    cpu_seconds_per_million: f64,
}

/// One run of one worker.
struct Run {
    snapshot: Cost,
    live: Cost,
    /// key and value of a row of the snapshot and of a changed one
    samples: Vec<(Option<Bytes>, Option<Bytes>)>,
}

/// Measures both.
pub async fn measure(report: &mut Report, rows: usize) -> Result<()> {
    let postgres = PostgresServer::start(&[]).await?;
    let broker = KafkaBroker::start().await?;
    postgres
        .psql(
            "postgres",
            "CREATE ROLE capture LOGIN REPLICATION SUPERUSER PASSWORD 'p'",
        )
        .await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for (runner, runs) in [(Runner::Debezium, &mut theirs), (Runner::Millrace, &mut ours)] {
            let name = format!("{runner:?}-{round}").to_lowercase();
            let bench = Bench {
                postgres: &postgres,
                broker: &broker,
                topic: TopicPartition::new(format!("{name}.products"), 0),
                admin: Admin::new(&broker.config())?,
                rows,
                changes: rows * 3 / 10,
                name,
            };
            let run = bench.run(runner, round).await.with_context(|| bench.name.clone())?;
            println!(
                "    {}: snapshot {:.0} rows/s, {:.2} CPU-s per million; live {:.0} rows/s, {:.2} CPU-s per million",
                bench.name,
                run.snapshot.rows_per_second,
                run.snapshot.cpu_seconds_per_million,
                run.live.rows_per_second,
                run.live.cpu_seconds_per_million,
            );
            runs.push(run);
        }
    }
    for (one, other) in ours.iter().zip(&theirs) {
        ensure!(
            one.samples == other.samples,
            "the records differ: {:?} and {:?}",
            one.samples,
            other.samples
        );
    }
    add(report, "catalog from Postgres, snapshot", &ours, &theirs, |run| {
        run.snapshot
    });
    add(report, "catalog from Postgres, live", &ours, &theirs, |run| run.live);
    Ok(())
}

fn add(report: &mut Report, name: &str, ours: &[Run], theirs: &[Run], part: fn(&Run) -> Cost) {
    let peer = "Debezium 3.6.1 in a Java worker, same run";
    let rate = |runs: &[Run]| median(runs.iter().map(|run| part(run).rows_per_second));
    report.beside(name, "rows/s", rate(ours), rate(theirs), peer, 1);
    let cpu = |runs: &[Run]| median(runs.iter().map(|run| part(run).cpu_seconds_per_million));
    let unit = "CPU-s per million rows";
    report.beside(format!("{name}, CPU"), unit, cpu(ours), cpu(theirs), peer, 1);
}

/// A new table as that of configs/retail/schema.sql, with keys of equal length, so that a range of them is a range of rows.
fn table(rows: usize) -> String {
    format!(
        "DROP TABLE IF EXISTS products; DROP PUBLICATION IF EXISTS catalog; CREATE TABLE products (product_id text PRIMARY KEY, manufacturer_id text, department text, brand text, \
         product_category text, product_type text, package_size text); \
         INSERT INTO products SELECT lpad(g::text, 9, '0'), (g % 6000)::text, 'GROCERY', \
         CASE WHEN g % 3 = 0 THEN 'Private' ELSE 'National' END, 'BAKED BREAD/BUNS/ROLLS', \
         'MAINSTREAM WHITE BREAD', '20 OZ' FROM generate_series(0, {} - 1) g; \
         CREATE PUBLICATION catalog FOR TABLE products; VACUUM ANALYZE products; CHECKPOINT",
        rows
    )
}

struct Bench<'a> {
    postgres: &'a PostgresServer,
    broker: &'a KafkaBroker,
    admin: Admin,
    topic: TopicPartition,
    rows: usize,
    changes: usize,
    /// of this run: prefix of its topics, name of its slot
    name: String,
}

impl Bench<'_> {
    async fn run(&self, runner: Runner, round: usize) -> Result<Run> {
        self.postgres.psql("postgres", &table(self.rows)).await?;
        let topic = NewTopic::new(self.topic.topic.to_string(), 1, 1).with("cleanup.policy", "compact");
        for (topic, result) in self.admin.create_topics(&[topic]).await? {
            result.with_context(|| format!("create {topic}"))?;
        }
        let directory = tempfile::tempdir()?;
        let bootstrap = self.broker.bootstrap();
        let topics = ["config", "offset", "status"]
            .map(|kind| (format!("{kind}.storage.topic"), format!("{}-{kind}", self.name)));
        let mut own: Vec<(&str, &str)> = vec![("group.id", &self.name)];
        own.extend(topics.iter().map(|(name, topic)| (name.as_str(), topic.as_str())));
        let worker = match runner {
            Runner::Millrace => Worker::start(&bootstrap, directory.path(), &own).await?,
            Runner::Debezium => {
                let plugins = process::kafka_script("debezium")?;
                Worker::start_java(&bootstrap, directory.path(), &plugins, &own).await?
            }
        };
        let (start, end) = (self.rows, self.rows + self.changes);
        let before = worker.usage()?;
        worker
            .request("POST", "/connectors", Some(&self.connector()))
            .await
            .context("create the connector")?;
        self.reaches(start, &worker).await?;
        let snapshot = self.cost(0, start, worker.usage()?.cpu_seconds - before.cpu_seconds)?;

        self.pause(&worker).await?;
        let before = worker.usage()?;
        self.postgres.psql("postgres", &self.updates(round)).await?;
        worker
            .request("PUT", &format!("/connectors/{CONNECTOR}/resume"), None)
            .await?;
        self.reaches(end, &worker).await?;
        let live = self.cost(start, end, worker.usage()?.cpu_seconds - before.cpu_seconds)?;
        let samples = [0, end - 1].map(|at| self.record(at).map(|(_, key, value)| (key, value)));
        let samples = samples.into_iter().collect::<Result<_>>()?;
        drop(worker);
        self.drop_slot().await?;
        Ok(Run {
            snapshot,
            live,
            samples,
        })
    }

    /// configs/retail/catalog.json for this server, with topics and a slot of this run's own.
    fn connector(&self) -> Value {
        json!({ "name": CONNECTOR, "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": "127.0.0.1", "database.port": self.postgres.port().to_string(),
            "database.user": "capture", "database.password": "p", "database.dbname": "postgres",
            "topic.prefix": "retail",
            "table.include.list": "public\\.products",
            "plugin.name": "pgoutput",
            "slot.name": self.slot(),
            "publication.name": "catalog", "publication.autocreate.mode": "disabled",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
            "transforms": "row,key,route",
            "transforms.row.type": "io.debezium.transforms.ExtractNewRecordState",
            "transforms.key.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
            "transforms.key.field": "product_id",
            "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
            "transforms.route.regex": "retail\\.public\\.(.*)",
            "transforms.route.replacement": format!("{}.$1", self.name),
        } })
    }

    fn slot(&self) -> String {
        self.name.replace('-', "_")
    }

    async fn pause(&self, worker: &Worker) -> Result<()> {
        worker
            .request("PUT", &format!("/connectors/{CONNECTOR}/pause"), None)
            .await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = worker
                .request("GET", &format!("/connectors/{CONNECTOR}/status"), None)
                .await?;
            if status["tasks"][0]["state"] == "PAUSED" {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the connector does not pause: {status}");
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// Changes the first rows, one transaction after the other.
    fn updates(&self, round: usize) -> String {
        let mut statements = String::new();
        for first in (0..self.changes).step_by(TRANSACTION_ROWS) {
            let behind = (first + TRANSACTION_ROWS).min(self.changes);
            // Writing to a String does not fail.
            let _ = writeln!(
                statements,
                "UPDATE products SET package_size = '2{round} OZ' WHERE product_id >= '{first:09}' AND product_id < '{behind:09}';"
            );
        }
        statements
    }

    /// Waits until the topic has so many records.
    async fn reaches(&self, records: usize, worker: &Worker) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A topic that was just made may have no leader yet.
            let end = self.end().await;
            if let Ok(end) = end
                && end >= records
            {
                ensure!(end == records, "{end} records instead of {records}");
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{end:?} instead of {records} records: {}", worker.log_tail());
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    async fn end(&self) -> Result<usize> {
        let partitions = std::slice::from_ref(&self.topic);
        let ends = self
            .admin
            .end_offsets(partitions, IsolationLevel::ReadUncommitted)
            .await?;
        Ok(usize::try_from(ends.iter().map(|(_, end)| end).sum::<i64>())?)
    }

    /// What the records from `from` to before `to` took, by the clock of their timestamps.
    fn cost(&self, from: usize, to: usize, cpu_seconds: f64) -> Result<Cost> {
        let (first, ..) = self.record(from)?;
        let (last, ..) = self.record(to - 1)?;
        let rows = (to - from) as f64;
        Ok(Cost {
            rows_per_second: rows / ((last - first) as f64 / 1000.0),
            cpu_seconds_per_million: cpu_seconds / rows * 1e6,
        })
    }

    /// Timestamp in ms, key and value of one record.
    fn record(&self, offset: usize) -> Result<(i64, Option<Bytes>, Option<Bytes>)> {
        let consumer = Consumer::new(&ClientConfig::new(&self.broker.bootstrap()))?;
        consumer.assign(&[(self.topic.clone(), StartOffset::At(i64::try_from(offset)?))])?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let fetched = consumer.fetch(1, Duration::from_secs(1))?;
            if let Some(message) = fetched.messages.first() {
                ensure!(
                    usize::try_from(message.offset())? == offset,
                    "{message:?} instead of {offset}"
                );
                let timestamp = message.timestamp_ms().context("a record has no timestamp")?;
                return Ok((timestamp, message.key_bytes(), message.value_bytes()));
            }
        }
        bail!("record {offset} of {} does not come", self.topic)
    }

    /// Once PostgreSQL has noticed that the worker is gone.
    async fn drop_slot(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let drop = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot()
        );
        while let Err(error) = self.postgres.psql("postgres", &drop).await {
            ensure!(Instant::now() < deadline, "{error:#}");
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        Ok(())
    }
}
