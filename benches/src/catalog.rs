//! A table of PostgreSQL into a compacted topic, snapshot and live changes: the Postgres connector in a worker, beside Debezium in
//! a Java worker of Kafka Connect. Same server, same broker, same connector JSON; each worker has one core, everybody else the
//! other; they take turns.
//!
//! ```text
//!   products, 7 text columns --snapshot--> topic: rows/s from its first to its last record
//!   paused; updates in transactions of 500 rows; resumed --stream--> topic: as above
//! ```
//! Both workers stay for all rounds, and have done a round that does not count: Java's compilers have had their time. Live
//! changes wait in the log of PostgreSQL when the clock starts: what is measured is how fast a connector catches up, not how
//! fast PostgreSQL takes updates.

use crate::contest::{self, Bench, Contest, Figure, Side, Terms};
use crate::cores::Placement;
use crate::job;
use crate::process;
use crate::scratch::Scratch;
use crate::worker::{Place, Worker};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafka_client::{Admin, ClientConfig, Consumer, IsolationLevel, StartOffset, TopicPartition};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::{KafkaBroker, PostgresServer};

/// Rounds; the figures are medians.
const ROUNDS: usize = 3;
/// Rows that one transaction updates.
const TRANSACTION_ROWS: usize = 500;
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at the end of the topic.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// In a Java worker.
#[derive(Clone, Copy, Debug)]
struct Debezium;

impl Display for Debezium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Debezium 3.6.1 in a Java worker")
    }
}

/// What it took to carry rows.
#[derive(Clone, Copy)]
struct Cost {
    rows_per_second: f64,
    cpu_seconds_per_million: f64,
}

/// Key and value of a row of the snapshot and of a changed one.
type Samples = [(Option<Bytes>, Option<Bytes>); 2];

/// Measures both.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench {
        subjects,
        rounds,
        sizes,
        scratch,
        report,
        ..
    } = bench;
    let postgres = PostgresServer::start(&[]).await?;
    let broker = KafkaBroker::start().await?;
    postgres
        .psql(
            "postgres",
            "CREATE ROLE capture LOGIN REPLICATION SUPERUSER PASSWORD 'p'",
        )
        .await?;
    let mut catalog = Catalog {
        postgres: &postgres,
        bootstrap: broker.bootstrap(),
        scratch,
        rows: sizes.rows,
        workers: BTreeMap::new(),
        runs: 0,
        samples: None,
    };
    let terms = Terms {
        name: "catalog from Postgres".to_owned(),
        cores: Placement::Own,
        peers: vec![Debezium],
        rounds: ROUNDS,
        pairs: ROUNDS,
    };
    contest::hold(&mut catalog, &terms, subjects, *rounds, report).await
}

struct Catalog<'a> {
    postgres: &'a PostgresServer,
    bootstrap: String,
    scratch: &'a Scratch,
    rows: usize,
    /// by their side's name, with their folder
    workers: BTreeMap<String, (Worker, TempDir)>,
    runs: usize,
    /// of the first run
    samples: Option<Samples>,
}

impl Contest for Catalog<'_> {
    type Peer = Debezium;

    async fn run(&mut self, side: &Side<Debezium>, _round: usize) -> Result<Vec<Figure>> {
        let name = side.to_string();
        if !self.workers.contains_key(&name) {
            let worker = self.start(side).await?;
            self.workers.insert(name.clone(), worker);
            println!("    a run of {side} that does not count");
            self.table(&name).await?;
        }
        self.table(&name).await
    }
}

impl Catalog<'_> {
    async fn start(&self, side: &Side<Debezium>) -> Result<(Worker, TempDir)> {
        let directory = self.scratch.folder()?;
        let group = format!("catalog-{}", self.workers.len());
        let place = Place {
            bootstrap: &self.bootstrap,
            directory: directory.path(),
            placement: Placement::Own,
            group: &group,
        };
        let worker = match side {
            Side::Millrace(build) => Worker::start(&build.binary, place, &[]).await?,
            Side::Peer(Debezium) => Worker::start_java(&process::kafka_script("debezium")?, place).await?,
        };
        Ok((worker, directory))
    }

    /// A new table, carried by a connector of its own.
    async fn table(&mut self, side: &str) -> Result<Vec<Figure>> {
        self.runs += 1;
        self.postgres.psql("postgres", &table(self.rows)).await?;
        let name = format!("catalog{}", self.runs);
        let topic = format!("{name}.products");
        job::create_compacted(&self.bootstrap, &topic).await?;
        let (worker, _) = self.workers.get(side).context("the worker has been started")?;
        let run = Run {
            postgres: self.postgres,
            bootstrap: &self.bootstrap,
            admin: Admin::new(&ClientConfig::new(&self.bootstrap))?,
            worker,
            topic: TopicPartition::new(topic, 0),
            rows: self.rows,
            changes: self.rows * 3 / 10,
            name,
        };
        let (snapshot, live, samples) = run.carry().await.with_context(|| run.name.clone())?;
        let same = self.samples.get_or_insert_with(|| samples.clone());
        ensure!(*same == samples, "the records differ: {same:?} and {samples:?}");
        let peak_bytes = worker.process.usage()?.peak_bytes;
        job::delete_topics(&self.bootstrap, &run.topic.topic).await?;
        let unit = "CPU-s per million rows";
        Ok(vec![
            Figure::rate("snapshot", "rows/s", snapshot.rows_per_second),
            Figure::cost("snapshot, CPU", unit, snapshot.cpu_seconds_per_million),
            Figure::rate("live", "rows/s", live.rows_per_second),
            Figure::cost("live, CPU", unit, live.cpu_seconds_per_million),
            Figure::peak_memory(peak_bytes),
        ])
    }
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

/// One table and its connector.
struct Run<'a> {
    postgres: &'a PostgresServer,
    bootstrap: &'a str,
    admin: Admin,
    worker: &'a Worker,
    topic: TopicPartition,
    rows: usize,
    changes: usize,
    /// of the connector and its slot, and before the names of its topics
    name: String,
}

impl Run<'_> {
    async fn carry(&self) -> Result<(Cost, Cost, Samples)> {
        let (start, end) = (self.rows, self.rows + self.changes);
        let cpu_seconds = || Ok::<f64, anyhow::Error>(self.worker.process.usage()?.cpu_seconds);
        let before = cpu_seconds()?;
        let created = self
            .worker
            .request("POST", "/connectors", Some(&self.connector()))
            .await;
        created.context("create the connector")?;
        self.reaches(start).await?;
        let snapshot = self.cost(0, start, cpu_seconds()? - before)?;

        self.pause().await?;
        let before = cpu_seconds()?;
        self.postgres.psql("postgres", &self.updates()).await?;
        let resume = format!("/connectors/{}/resume", self.name);
        self.worker.request("PUT", &resume, None).await?;
        self.reaches(end).await?;
        let live = self.cost(start, end, cpu_seconds()? - before)?;
        let [first, last] = [self.record(0)?, self.record(end - 1)?];
        let delete = format!("/connectors/{}", self.name);
        self.worker.request("DELETE", &delete, None).await?;
        self.drop_slot().await?;
        Ok((snapshot, live, [(first.1, first.2), (last.1, last.2)]))
    }

    /// configs/retail/catalog.json for this server, with topics and a slot of this run's own.
    fn connector(&self) -> Value {
        json!({ "name": self.name, "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": "127.0.0.1", "database.port": self.postgres.port().to_string(),
            "database.user": "capture", "database.password": "p", "database.dbname": "postgres",
            "topic.prefix": "retail",
            "table.include.list": "public\\.products",
            "plugin.name": "pgoutput",
            "slot.name": self.name,
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

    async fn pause(&self) -> Result<()> {
        let pause = format!("/connectors/{}/pause", self.name);
        self.worker.request("PUT", &pause, None).await?;
        let deadline = Instant::now() + PATIENCE;
        let status = format!("/connectors/{}/status", self.name);
        loop {
            let status = self.worker.request("GET", &status, None).await?;
            if status["tasks"][0]["state"] == "PAUSED" {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the connector does not pause: {status}");
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// Changes the first rows, one transaction after the other.
    fn updates(&self) -> String {
        let mut statements = String::new();
        for first in (0..self.changes).step_by(TRANSACTION_ROWS) {
            let behind = (first + TRANSACTION_ROWS).min(self.changes);
            // Writing to a String does not fail.
            let _ = writeln!(
                statements,
                "UPDATE products SET package_size = '21 OZ' WHERE product_id >= '{first:09}' AND product_id < '{behind:09}';"
            );
        }
        statements
    }

    /// Waits until the topic has so many records.
    async fn reaches(&self, records: usize) -> Result<()> {
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
                bail!(
                    "{end:?} instead of {records} records: {}",
                    self.worker.process.log_tail()
                );
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
        let consumer = Consumer::new(&ClientConfig::new(self.bootstrap))?;
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

    /// Once PostgreSQL has noticed that the connector is gone.
    async fn drop_slot(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let drop = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{}'",
            self.name
        );
        while let Err(error) = self.postgres.psql("postgres", &drop).await {
            ensure!(Instant::now() < deadline, "{error:#}");
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        Ok(())
    }
}
