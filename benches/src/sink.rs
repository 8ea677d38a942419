//! A topic into a sink that does nothing, run by a worker, beside librdkafka's own batch consumption with the same settings in
//! a process of its own. Whose turn it is has one core, the broker the other.
//!
//! ```text
//!   topic, 4 partitions --> worker: fetch -> converters -> put (millrace.DiscardSink) -> offsets
//!                      '--> millrace-bench bare-consumer: rd_kafka_consume_batch_queue -> rd_kafka_message_destroy
//! ```
//! Both sides' seconds are from the first records to the last; both sides' CPU is that of the whole process, from before it
//! connects to the topic.

use crate::contest::{self, Bench, Contest, Figure, Side, Terms};
use crate::cores::Placement;
use crate::events::{self, PARTITIONS};
use crate::job;
use crate::process::{self, Program};
use crate::scratch::Scratch;
use crate::worker::{Place, Worker};
use anyhow::{Context, Result, ensure};
use kafka_client::{BareConsumer, ClientConfig, TopicPartition};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::time::{Duration, Instant};
use tests::kafka::KafkaBroker;

const TOPIC: &str = "events.plain";
/// Bytes of a record, key and value together.
const RECORD_BYTES: usize = 200;
/// Records that a consumer of Connect takes at once (`max.poll.records`).
const BATCH: usize = 500;
const ROUNDS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(300);
const GIVEN: &str = "kafka_connect_sink_task_sink_record_send_total";
/// Between two looks at the worker's metrics, whose text the worker has to make.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// librdkafka without anything around it.
#[derive(Clone, Copy, Debug)]
struct BareLibrdkafka;

impl Display for BareLibrdkafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("librdkafka, bare batch loop")
    }
}

/// What it took to read the topic.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Cost {
    cpu_seconds: f64,
    /// from the first records on
    seconds: f64,
    /// records that came in `seconds`
    records: f64,
    peak_bytes: f64,
}

/// The bare loop, as `millrace-bench bare-consumer`.
#[derive(clap::Args)]
pub struct BareLoop {
    bootstrap: String,
    records: u64,
}

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
    let broker = KafkaBroker::start().await?;
    let bootstrap = broker.bootstrap();
    job::create_topics(&bootstrap, &[TOPIC.to_owned()]).await?;
    events::send(&bootstrap, TOPIC, (0..sizes.records).map(record))?;
    let mut sink = Sink {
        bootstrap,
        scratch,
        records: sizes.records,
        runs: 0,
    };
    let terms = Terms {
        name: "sink that does nothing, 200-byte records".to_owned(),
        cores: Placement::Own,
        peers: vec![BareLibrdkafka],
        rounds: ROUNDS,
        pairs: ROUNDS,
    };
    contest::hold(&mut sink, &terms, subjects, *rounds, report).await
}

fn record(number: usize) -> (String, Option<Vec<u8>>) {
    let key = format!("customer-{number:07}");
    let mut value = vec![0; RECORD_BYTES - key.len()];
    for (at, byte) in value.iter_mut().enumerate() {
        *byte = b'a' + (number.wrapping_mul(at + 1) % 26) as u8;
    }
    (key, Some(value))
}

struct Sink<'a> {
    bootstrap: String,
    scratch: &'a Scratch,
    records: usize,
    runs: usize,
}

impl Contest for Sink<'_> {
    type Peer = BareLibrdkafka;

    async fn run(&mut self, side: &Side<BareLibrdkafka>, _round: usize) -> Result<Vec<Figure>> {
        self.runs += 1;
        let cost = match side {
            Side::Millrace(build) => self.worker(build).await?,
            Side::Peer(BareLibrdkafka) => self.bare_loop().await?,
        };
        let millions = self.records as f64 / 1e6;
        Ok(vec![
            Figure::cost("CPU", "CPU-s per million records", cost.cpu_seconds / millions),
            Figure::rate("", "records/s", cost.records / cost.seconds),
            Figure::peak_memory(cost.peak_bytes),
        ])
    }
}

impl Sink<'_> {
    async fn worker(&self, build: &contest::Build) -> Result<Cost> {
        let directory = self.scratch.folder()?;
        let group = format!("sink-{}", self.runs);
        let place = Place {
            bootstrap: &self.bootstrap,
            directory: directory.path(),
            placement: Placement::Own,
            group: &group,
        };
        let mut worker = Worker::start(&build.binary, place, &[]).await?;
        let bytes = "org.apache.kafka.connect.converters.ByteArrayConverter";
        let connector = json!({ "name": format!("discard-{}", self.runs), "config": {
            "connector.class": "millrace.DiscardSink", "tasks.max": "1", "topics": TOPIC,
            "key.converter": bytes, "value.converter": bytes,
        } });
        let before = worker.process.usage()?;
        worker.request("POST", "/connectors", Some(&connector)).await?;
        let first = worker.wait_for(GIVEN, 1.0, PATIENCE).await?;
        let already = worker.metric(GIVEN).await?;
        while worker.metric(GIVEN).await? < self.records as f64 {
            ensure!(
                first.elapsed() < PATIENCE,
                "not all records come: {}",
                worker.process.log_tail()
            );
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        let seconds = first.elapsed().as_secs_f64();
        let after = worker.process.usage()?;
        Ok(Cost {
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            seconds,
            records: self.records as f64 - already,
            peak_bytes: after.peak_bytes,
        })
    }

    async fn bare_loop(&self) -> Result<Cost> {
        let directory = self.scratch.folder()?;
        let records = self.records.to_string();
        let command: [OsString; 4] = [
            std::env::current_exe()?.into(),
            "bare-consumer".into(),
            (&self.bootstrap).into(),
            records.into(),
        ];
        let process = Program::start(Placement::Own, command, directory.path().join("bare.log"))?;
        let output = process.finish(PATIENCE).await?;
        serde_json::from_str(&output).with_context(|| format!("the bare loop said {output}"))
    }
}

impl BareLoop {
    /// Reads the topic and says what it took, as JSON.
    pub fn run(&self) -> Result<()> {
        let before = process::usage(std::process::id())?;
        let mut config = ClientConfig::new(&self.bootstrap);
        config.set("group.id", "bare-consumer");
        let partitions: Vec<TopicPartition> = (0..PARTITIONS).map(|p| TopicPartition::new(TOPIC, p)).collect();
        let mut consumer = BareConsumer::new(&config, &partitions, BATCH)?;
        let (mut records, mut bytes) = (0, 0);
        let started = Instant::now();
        let mut first = None;
        while records < self.records {
            let (more, size) = consumer.take(100)?;
            records += more;
            bytes += size;
            if records > 0 {
                first.get_or_insert((Instant::now(), records));
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "{records} records of {} came",
                self.records
            );
        }
        ensure!(
            bytes == records * RECORD_BYTES as u64,
            "{bytes} bytes in {records} records"
        );
        let (first, already) = first.context("nothing came")?;
        let seconds = first.elapsed().as_secs_f64();
        let after = process::usage(std::process::id())?;
        let cost = Cost {
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            seconds,
            records: (records - already) as f64,
            peak_bytes: after.peak_bytes,
        };
        println!("{}", serde_json::to_string(&cost)?);
        Ok(())
    }
}
