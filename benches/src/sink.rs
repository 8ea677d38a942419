//! A topic into a sink that does nothing, run by a worker, beside librdkafka's own batch consumption with the same settings in
//! a process of its own. Each has one core, Apache Kafka the other; they take turns.
//!
//! ```text
//!   topic, 4 partitions --> worker: fetch -> converters -> put (millrace.DiscardSink) -> offsets
//!                      '--> millrace-bench bare-consumer: rd_kafka_consume_batch_queue -> rd_kafka_message_destroy
//! ```

use crate::process::{self, Worker};
use crate::report::{Report, median};
use crate::{cores, events};
use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, BareConsumer, ClientConfig, NewTopic, TopicPartition};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tests::kafka::KafkaBroker;

const TOPIC: &str = "events.plain";
const PARTITIONS: i32 = 4;
/// Bytes of a record, key and value together.
const RECORD_BYTES: usize = 200;
/// Records that a consumer of Connect takes at once (`max.poll.records`).
const BATCH: usize = 500;
/// Pairs of runs; the figures are medians.
const ROUNDS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(300);
const GIVEN: &str = "kafka_connect_sink_task_sink_record_send_total";
/// Between two looks at the worker's metrics, whose text the worker has to make.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// What it took to read the topic.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Cost {
    cpu_seconds: f64,
    seconds: f64,
}

/// The bare loop, as `millrace-bench bare-consumer`.
#[derive(clap::Args)]
pub struct BareLoop {
    bootstrap: String,
    records: u64,
}

/// Measures both.
pub async fn measure(report: &mut Report, records: usize) -> Result<()> {
    let broker = KafkaBroker::start().await?;
    let bootstrap = broker.bootstrap();
    let admin = Admin::new(&ClientConfig::new(&bootstrap))?;
    for (topic, result) in admin.create_topics(&[NewTopic::new(TOPIC, PARTITIONS, 1)]).await? {
        result.with_context(|| format!("create {topic}"))?;
    }
    events::send(&bootstrap, TOPIC, (0..records).map(record))?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(bare_loop(&bootstrap, records)?);
        ours.push(worker(&bootstrap, records, round).await?);
    }
    let millions = records as f64 / 1e6;
    let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu_seconds / millions));
    let rate = |costs: &[Cost]| median(costs.iter().map(|cost| records as f64 / cost.seconds));
    let peer = "librdkafka, bare batch loop, same run";
    let unit = "CPU-s per million records";
    report.beside("sink that does nothing, CPU", unit, cpu(&ours), cpu(&bare), peer, 1);
    let name = "sink that does nothing, 200-byte records";
    report.beside(name, "records/s", rate(&ours), rate(&bare), peer, 1);
    Ok(())
}

fn record(number: usize) -> (String, Option<Vec<u8>>) {
    let key = format!("customer-{number:07}");
    let mut value = vec![0; RECORD_BYTES - key.len()];
    for (at, byte) in value.iter_mut().enumerate() {
        *byte = b'a' + (number.wrapping_mul(at + 1) % 26) as u8;
    }
    (key, Some(value))
}

async fn worker(bootstrap: &str, records: usize, round: usize) -> Result<Cost> {
    let directory = tempfile::tempdir()?;
    let mut worker = Worker::start(bootstrap, directory.path(), &[]).await?;
    let bytes = "org.apache.kafka.connect.converters.ByteArrayConverter";
    let connector = json!({ "name": format!("discard-{round}"), "config": {
        "connector.class": "millrace.DiscardSink", "tasks.max": "1", "topics": TOPIC,
        "key.converter": bytes, "value.converter": bytes,
    } });
    let before = worker.usage()?;
    worker.request("POST", "/connectors", Some(&connector)).await?;
    let first = worker.wait_for(GIVEN, 1.0, PATIENCE).await?;
    let already = worker.metric(GIVEN).await?;
    while worker.metric(GIVEN).await? < records as f64 {
        ensure!(
            first.elapsed() < PATIENCE,
            "not all records come: {}",
            worker.log_tail()
        );
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    let share = records as f64 / (records as f64 - already);
    Ok(Cost {
        cpu_seconds: worker.usage()?.cpu_seconds - before.cpu_seconds,
        seconds: first.elapsed().as_secs_f64() * share,
    })
}

fn bare_loop(bootstrap: &str, records: usize) -> Result<Cost> {
    let output = Command::new("taskset")
        .args(["-c", &cores::WORKER.to_string()])
        .arg(std::env::current_exe()?)
        .args(["bare-consumer", bootstrap, &records.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("run taskset")?;
    ensure!(output.status.success(), "the bare loop ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

impl BareLoop {
    /// Reads the topic and says what it took, as JSON.
    pub fn run(&self) -> Result<()> {
        let started = Instant::now();
        let before = process::usage(std::process::id())?;
        let mut config = ClientConfig::new(&self.bootstrap);
        config.set("group.id", "bare-consumer");
        let partitions: Vec<TopicPartition> = (0..PARTITIONS).map(|p| TopicPartition::new(TOPIC, p)).collect();
        let mut consumer = BareConsumer::new(&config, &partitions, BATCH)?;
        let (mut records, mut bytes) = (0, 0);
        while records < self.records {
            let (more, size) = consumer.take(100)?;
            records += more;
            bytes += size;
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
        let cost = Cost {
            cpu_seconds: process::usage(std::process::id())?.cpu_seconds - before.cpu_seconds,
            seconds: started.elapsed().as_secs_f64(),
        };
        println!("{}", serde_json::to_string(&cost)?);
        Ok(())
    }
}
