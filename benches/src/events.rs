//! The input: the demo's purchases as JSON events of about 200 bytes, replayed as often as it takes; every replay is a year
//! later. And the catalog they name.

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use kafka_client::{
    ClientConfig, Consumer, Deliveries, KafkaError, Producer, ProducerRecord, StartOffset, TopicPartition,
};
use serde::Deserialize;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Topic of the catalog.
pub const CATALOG: &str = "catalog.products";
/// Partitions of the events.
pub const PARTITIONS: i32 = 4;

const SEND_TIMEOUT: Duration = Duration::from_secs(600);

/// One line of `transactions.csv.gz`.
#[derive(Clone, Debug, Deserialize)]
pub struct Purchase {
    household_id: String,
    store_id: String,
    basket_id: String,
    product_id: String,
    quantity: f64,
    sales_value: f64,
    retail_disc: f64,
    coupon_disc: f64,
    week: u32,
    transaction_timestamp: String,
}

impl Purchase {
    /// The record's key.
    pub fn key(&self) -> &str {
        &self.household_id
    }

    /// The event as JSON. `number` is an id of its own, `replay` says how many years later it happens.
    pub fn json(&self, number: usize, replay: i64) -> String {
        let (year, rest) = self
            .transaction_timestamp
            .split_at(4.min(self.transaction_timestamp.len()));
        // Ten years earlier, so that no replay lies in the future; no purchase is on a leap day.
        let year = year.parse::<i64>().unwrap_or(2017) - 10 + replay;
        format!(
            "{{\"n\":{number},\"household_id\":\"{}\",\"store_id\":\"{}\",\"basket_id\":\"{}\",\"product_id\":\"{}\",\
             \"quantity\":{},\"sales_value\":{},\"retail_disc\":{},\"coupon_disc\":{},\"week\":{},\"transaction_timestamp\":\"{year}{rest}\"}}",
            self.household_id,
            self.store_id,
            self.basket_id,
            self.product_id,
            self.quantity,
            self.sales_value,
            self.retail_disc,
            self.coupon_disc,
            self.week,
        )
    }
}

/// The bundled purchases, in time order.
pub fn purchases() -> Result<Vec<Purchase>> {
    let path = "configs/demo/data/transactions.csv.gz";
    let file = File::open(path).with_context(|| format!("{path}: run from the root of the repository"))?;
    let mut rows = csv::Reader::from_reader(GzDecoder::new(file));
    rows.deserialize()
        .map(|row| row.with_context(|| path.to_owned()))
        .collect()
}

/// Counts failures; a benchmark with one is no benchmark.
#[derive(Default)]
struct Failures(AtomicU64);

impl Deliveries for Failures {
    fn delivered(&self, _token: u64, result: Result<(i32, i64), KafkaError>) {
        self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}

/// Sends records, and waits until they are there.
pub fn send(
    bootstrap: &str,
    topic: &str,
    records: impl IntoIterator<Item = (String, Option<Vec<u8>>)>,
) -> Result<usize> {
    let failures = Arc::new(Failures::default());
    let mut config = ClientConfig::new(bootstrap);
    config
        .set("linger.ms", "20")
        .set("batch.size", "500000")
        .set("buffer.memory", "268435456");
    let producer = Producer::new(&config, failures.clone())?;
    let mut sent = 0;
    for (key, value) in records {
        let record = ProducerRecord {
            topic,
            key: Some(key.as_bytes()),
            value: value.as_deref(),
            ..ProducerRecord::default()
        };
        producer.send_waiting(&record, 0, SEND_TIMEOUT)?;
        sent += 1;
    }
    producer.flush(SEND_TIMEOUT)?;
    let failed = failures.0.load(Ordering::Relaxed);
    anyhow::ensure!(failed == 0, "{failed} records of {topic} could not be sent");
    Ok(sent)
}

/// Sends `count` events to a topic.
pub fn send_events(bootstrap: &str, topic: &str, purchases: &[Purchase], count: usize) -> Result<()> {
    let all = (0..).flat_map(|replay| purchases.iter().map(move |purchase| (replay, purchase)));
    let records = all.take(count).enumerate().map(|(number, (replay, purchase))| {
        (
            purchase.key().to_owned(),
            Some(purchase.json(number, replay).into_bytes()),
        )
    });
    send(bootstrap, topic, records).map(drop)
}

/// Sends the demo's products. Returns how many there are.
pub fn send_catalog(bootstrap: &str) -> Result<usize> {
    let path = "configs/demo/data/products.csv.gz";
    let file = File::open(path).with_context(|| format!("{path}: run from the root of the repository"))?;
    let mut rows = csv::Reader::from_reader(GzDecoder::new(file));
    let names = rows.headers()?.clone();
    let mut records = Vec::new();
    for row in rows.records() {
        let row = row?;
        let fields: serde_json::Map<String, serde_json::Value> = names
            .iter()
            .zip(&row)
            .map(|(name, field)| (name.to_owned(), field.into()))
            .collect();
        let key = row.get(0).unwrap_or_default().to_owned();
        records.push((key, Some(serde_json::to_vec(&fields)?)));
    }
    send(bootstrap, CATALOG, records)
}

/// Mean size of a topic's records, in bytes of key, value and headers, from the first few thousand.
pub fn mean_bytes(bootstrap: &str, topic: &str) -> Result<f64> {
    const RECORDS: usize = 4_000;
    let consumer = Consumer::new(&ClientConfig::new(bootstrap))?;
    let from = |partition| (TopicPartition::new(topic, partition), StartOffset::Beginning);
    consumer.assign(&(0..PARTITIONS).map(from).collect::<Vec<_>>())?;
    let (mut records, mut bytes, mut ended) = (0, 0, 0);
    while records < RECORDS && ended < PARTITIONS as usize {
        let fetched = consumer.fetch(RECORDS, Duration::from_secs(1))?;
        ended += fetched.end_of_partition.len();
        for message in &fetched.messages {
            let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
            records += 1;
            bytes += length(message.key()) + length(message.value());
            bytes += message
                .headers()
                .map(|(name, value)| name.len() + length(value))
                .sum::<usize>();
        }
    }
    Ok(bytes as f64 / records.max(1) as f64)
}
