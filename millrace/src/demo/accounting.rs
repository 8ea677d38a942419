//! Accounts for every event from outside: reads the output, shed and dead letter topics as a subscriber of them would,
//! and compares with the purchases that were replayed.

use super::auc::auc;
use super::purchases::Purchases;
use anyhow::{Context, Result, bail};
use kafka_client::{ClientConfig, Consumer, Message, StartOffset, TopicPartition};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What was found in the topics.
#[derive(Default)]
pub struct Findings {
    /// row of the event by partition and offset of the events topic
    rows: Vec<Vec<u32>>,
    /// events found in the events topic
    pub events: usize,
    /// by `tenant/model`
    pub models: BTreeMap<String, Predictions>,
    /// records in shed topics, by tenant
    pub shed: BTreeMap<String, u64>,
    /// records in the dead letter topic
    pub dead_lettered: u64,
}

/// Predictions of one model.
#[derive(Default)]
pub struct Predictions {
    /// records found
    pub records: u64,
    /// records for an event that already had one
    pub duplicates: u64,
    /// probability by source partition and offset; NaN where there is none
    probabilities: Vec<Vec<f32>>,
}

/// How far what a model predicted is from what the training script predicted for the same events.
#[derive(Default)]
pub struct Agreement {
    /// AUC of the predictions, over the events whose answer is known
    pub online_auc: Option<f64>,
    /// AUC of the training script's, over the same
    pub offline_auc: Option<f64>,
    /// the largest difference of two probabilities of one event
    pub largest_difference: Option<f32>,
}

/// Which topics hold what.
pub struct Topics {
    /// the events
    pub events: String,
    /// outputs
    pub outputs: Vec<String>,
    /// shed events, with the tenant
    pub shed: Vec<(String, String)>,
    /// dead letters
    pub dead_letters: String,
}

impl Topics {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        [&self.events, &self.dead_letters]
            .into_iter()
            .chain(&self.outputs)
            .chain(self.shed.iter().map(|(topic, _)| topic))
    }
}

/// Reads all topics from their beginning to their present end, committed records only. Gives up where `given_up` is set.
pub fn read(
    bootstrap: &str,
    topics: &Topics,
    partitions: &BTreeMap<String, Vec<i32>>,
    given_up: &AtomicBool,
) -> Result<Findings> {
    let mut config = ClientConfig::new(bootstrap);
    config
        .set("isolation.level", "read_committed")
        .set("client.id", "millrace-demo-accounting");
    let consumer = Consumer::new(&config)?;
    let mut open: Vec<(TopicPartition, i64)> = Vec::new();
    for topic in topics.all() {
        let name: Arc<str> = topic.as_str().into();
        for partition in partitions.get(topic).into_iter().flatten().copied() {
            let topic_partition = TopicPartition {
                topic: Arc::clone(&name),
                partition,
            };
            let (low, high) = consumer
                .watermarks(&topic_partition, Duration::from_secs(10))
                .with_context(|| format!("end of {topic}-{partition}"))?;
            if high > low {
                open.push((topic_partition, high));
            }
        }
    }
    let start: Vec<_> = open
        .iter()
        .map(|(partition, _)| (partition.clone(), StartOffset::Beginning))
        .collect();
    consumer.assign(&start)?;
    let mut findings = Findings::default();
    while !open.is_empty() {
        if given_up.load(Ordering::Relaxed) {
            bail!("the topics were not read to their end");
        }
        let fetched = consumer.fetch(5_000, Duration::from_millis(100))?;
        for message in &fetched.messages {
            findings.take(topics, message);
            if let Some(index) = open.iter().position(|(partition, end)| {
                partition.partition == message.partition()
                    && &*partition.topic == message.topic()
                    && message.offset() + 1 >= *end
            }) {
                open.swap_remove(index);
            }
        }
        // the last offsets of a transactional topic are markers, which are never delivered
        for ended in &fetched.end_of_partition {
            open.retain(|(partition, _)| partition != ended);
        }
    }
    Ok(findings)
}

impl Findings {
    fn take(&mut self, topics: &Topics, message: &Message) {
        let topic = message.topic();
        if topic == topics.events {
            self.events += 1;
            if let Some(row) = message.value().and_then(row) {
                put(&mut self.rows, message.partition(), message.offset(), row, u32::MAX);
            }
        } else if topic == topics.dead_letters {
            self.dead_lettered += 1;
        } else if let Some((_, tenant)) = topics.shed.iter().find(|(shed, _)| shed == topic) {
            *self.shed.entry(tenant.clone()).or_default() += 1;
        } else {
            self.take_prediction(message);
        }
    }

    fn take_prediction(&mut self, message: &Message) {
        let (mut model, mut source) = (None, None);
        for (name, value) in message.headers() {
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            match name {
                "millrace.model" => model = text,
                "millrace.source" => source = text.and_then(source_position),
                _ => {}
            }
        }
        let Some(model) = model.map(|model| model.split('@').next().unwrap_or(model)) else {
            return;
        };
        if !self.models.contains_key(model) {
            self.models.insert(model.to_owned(), Predictions::default());
        }
        let Some(predictions) = self.models.get_mut(model) else {
            return;
        };
        predictions.records += 1;
        let probability = message
            .value()
            .and_then(|value| serde_json::from_slice::<Value>(value).ok())
            .and_then(|value| value.get("probability").and_then(Value::as_f64));
        if let (Some((partition, offset)), Some(probability)) = (source, probability) {
            let before = put(
                &mut predictions.probabilities,
                partition,
                offset,
                probability as f32,
                f32::NAN,
            );
            predictions.duplicates += u64::from(!before.is_nan());
        }
    }

    /// Compares what a model predicted with what `offline` says for the same events.
    pub fn agreement(&self, model: &str, purchases: &Purchases, offline: Option<&[f32]>) -> Agreement {
        let Some(predictions) = self.models.get(model) else {
            return Agreement::default();
        };
        let (mut online_scores, mut offline_scores) = (Vec::new(), Vec::new());
        let mut largest_difference: Option<f32> = None;
        for (partition, probabilities) in predictions.probabilities.iter().enumerate() {
            let rows = self.rows.get(partition).map(Vec::as_slice).unwrap_or_default();
            for (probability, row) in probabilities.iter().zip(rows) {
                let row = *row as usize;
                if probability.is_nan() {
                    continue;
                }
                let trained = offline.and_then(|offline| offline.get(row));
                if let Some(trained) = trained {
                    let difference = (probability - trained).abs();
                    largest_difference = Some(largest_difference.map_or(difference, |most| most.max(difference)));
                }
                let Some(label) = purchases.bought_again(row) else {
                    continue;
                };
                online_scores.push((*probability, label));
                if let Some(trained) = trained {
                    offline_scores.push((*trained, label));
                }
            }
        }
        Agreement {
            online_auc: auc(online_scores),
            offline_auc: auc(offline_scores),
            largest_difference,
        }
    }
}

/// Puts `value` at its place, growing both levels with `nothing`; returns what was there.
fn put<T: Copy>(table: &mut Vec<Vec<T>>, partition: i32, offset: i64, value: T, nothing: T) -> T {
    let (Ok(partition), Ok(offset)) = (usize::try_from(partition), usize::try_from(offset)) else {
        return nothing;
    };
    if table.len() <= partition {
        table.resize_with(partition + 1, Vec::new);
    }
    let Some(column) = table.get_mut(partition) else {
        return nothing;
    };
    if column.len() <= offset {
        column.resize(offset + 1, nothing);
    }
    column
        .get_mut(offset)
        .map_or(nothing, |slot| std::mem::replace(slot, value))
}

/// The field `row` of an event.
fn row(value: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Event {
        row: u32,
    }
    serde_json::from_slice::<Event>(value).ok().map(|event| event.row)
}

/// Partition and offset of `topic-partition-offset`; topics may have dashes.
fn source_position(text: &str) -> Option<(i32, i64)> {
    let mut parts = text.rsplitn(3, '-');
    let offset = parts.next()?.parse().ok()?;
    let partition = parts.next()?.parse().ok()?;
    Some((partition, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_from_its_end() {
        assert_eq!(source_position("events.purchases-3-120"), Some((3, 120)));
        assert_eq!(source_position("a-b-c-0-7"), Some((0, 7)));
        assert_eq!(source_position("7"), None);
    }

    #[test]
    fn the_row_of_an_event() {
        assert_eq!(row(br#"{"household_id":"7","row":12}"#), Some(12));
        assert_eq!(row(br#"{"row":-1}"#), None);
    }

    #[test]
    fn a_table_grows_and_says_what_was_there() {
        let mut table = Vec::new();
        assert_eq!(put(&mut table, 1, 2, 5, 0), 0);
        assert_eq!(put(&mut table, 1, 2, 6, 0), 5);
        assert_eq!(table, [vec![], vec![0, 0, 6]]);
    }
}
