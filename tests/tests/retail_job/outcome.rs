//! What the job leaves behind, and whether an undisturbed run of the same events leaves the same.

use crate::catalog_changes::PROBE;
use crate::outputs::{BySource, OF_DAYS, OF_EVERY_PURCHASE, OF_TRIAL, Output, Outputs};
use crate::site::{BUCKET, Site};
use anyhow::{Context, Result, ensure};
use kafka_client::{ClientConfig, IsolationLevel, NewTopic, Producer, ProducerRecord};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use tests::S3Server;
use tests::broker_laws::records::Ignored;
use tests::worker::{PATIENCE, WorkerProcess};

/// Keyed stores.
const STORES: [&str; 2] = ["household_state", "basket_state"];
/// The most that one answer has.
const LIMIT: usize = 10_000;

/// Keyed state and archive.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// by store and key, when it was touched last and its value; groups of aggregates may share a key
    pub state: BTreeMap<(String, String), BTreeSet<(i64, String)>>,
    /// payloads of archived entries, by key and by when it was touched last
    pub archived: BTreeMap<(Vec<u8>, i64), Vec<u8>>,
}

impl Outcome {
    /// As it is now.
    pub async fn of(workers: &[WorkerProcess], s3: &S3Server) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for (worker, store) in workers.iter().flat_map(|worker| STORES.map(|store| (worker, store))) {
            // Households are numbers: so the probes stay out, and each answer is a part of the store.
            for digit in 1..=9 {
                let path = format!("/inference/stores/{store}/keys?prefix={digit}&limit={LIMIT}");
                let entries = worker.get(&path).await?;
                let entries = entries.as_array().context("entries")?;
                ensure!(entries.len() < LIMIT, "{store} has more entries than one answer");
                for entry in entries {
                    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
                    let touched_ms = entry["touched_ms"].as_i64().unwrap_or_default();
                    let versions = outcome.state.entry((store.to_owned(), text("key"))).or_default();
                    ensure!(versions.insert((touched_ms, text("value"))), "{entry} is there twice");
                }
            }
        }
        for (name, bytes) in s3.objects(BUCKET)? {
            for entry in state_store::archive::entries(&name, bytes.into())? {
                let of_probe = entry.key.windows(PROBE.len()).any(|part| part == PROBE.as_bytes());
                let life = (entry.key.to_vec(), entry.version.touched_ms);
                let again = outcome.archived.insert(life, entry.payload.to_vec()).is_some() && !of_probe;
                ensure!(
                    !again,
                    "{} was archived twice, the second time in {name}",
                    shown(&entry.key)
                );
            }
        }
        outcome
            .archived
            .retain(|(key, _), _| !key.windows(PROBE.len()).any(|part| part == PROBE.as_bytes()));
        Ok(outcome)
    }

    /// Fails unless both are the same.
    pub fn check_same(&self, undisturbed: &Outcome) -> Result<()> {
        same("state", &self.state, &undisturbed.state, PartialEq::eq)?;
        same("archive", &self.archived, &undisturbed.archived, PartialEq::eq)
    }
}

/// The readable characters of a key.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key)
        .chars()
        .filter(|character| !character.is_control())
        .collect()
}

fn same<K: Ord + Debug, V: Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    is_same: impl Fn(&V, &V) -> bool,
) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(key, _)| !found.contains_key(key))
        .take(3)
        .collect();
    let surplus: Vec<_> = found
        .iter()
        .filter(|(key, _)| !wanted.contains_key(key))
        .take(3)
        .collect();
    let other = |(key, value): &(&K, &V)| wanted.get(key).is_some_and(|wanted| !is_same(value, wanted));
    let different: Vec<_> = found.iter().filter(other).take(3).collect();
    let instead: Vec<_> = different.iter().map(|(key, _)| wanted.get(key)).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty() && different.is_empty(),
        "{what}: {} instead of {}; missing {missing:?}, too many {surplus:?}, different {different:?} instead of {instead:?}",
        found.len(),
        wanted.len()
    );
    Ok(())
}

/// Fails unless the predictions are those of an undisturbed run. What a limited rate sheds depends on the clock: of it, what
/// both runs predicted must be the same.
pub fn check_same_predictions(found: &Outputs, undisturbed: &Outputs) -> Result<()> {
    let predictions = |outputs: &Outputs, topic: &str| -> BySource {
        let mut predictions = outputs.by_topic.get(topic).cloned().unwrap_or_default();
        predictions.retain(|_, outputs| outputs.iter().all(|output| !output.key.starts_with(PROBE)));
        predictions
    };
    for topic in OF_EVERY_PURCHASE.into_iter().chain([OF_DAYS]) {
        let (found, wanted) = (predictions(found, topic), predictions(undisturbed, topic));
        ensure!(!wanted.is_empty(), "{topic} has nothing to compare");
        same(topic, &found, &wanted, |found, wanted| {
            are_same_predictions(found, wanted)
        })?;
    }
    let [trial, _] = OF_TRIAL;
    let (mut found, mut wanted) = (predictions(found, trial), predictions(undisturbed, trial));
    found.retain(|source, _| wanted.contains_key(source));
    wanted.retain(|source, _| found.contains_key(source));
    same(trial, &found, &wanted, |found, wanted| {
        are_same_predictions(found, wanted)
    })
}

/// Rows of one batch are computed together, and batches are cut by load: the last bits of a sum depend on that.
const ROUNDING: f64 = 1e-6;

fn are_same_predictions(found: &[Output], wanted: &[Output]) -> bool {
    let parts = |output: &Output| {
        let mut value: Value = serde_json::from_str(&output.value).unwrap_or_default();
        let probability = value["probability"].take().as_f64();
        (output.key.clone(), output.model.clone(), value, probability)
    };
    let is_same = |(found, wanted): (&Output, &Output)| {
        let (found, wanted) = (parts(found), parts(wanted));
        let close = match (found.3, wanted.3) {
            (Some(found), Some(wanted)) => (found - wanted).abs() <= ROUNDING,
            _ => false,
        };
        close && (found.0, found.1, found.2) == (wanted.0, wanted.1, wanted.2)
    };
    found.len() == wanted.len() && found.iter().zip(wanted).all(is_same)
}

/// Copies a topic, offsets and all.
pub async fn copy_topic(from: &Site, to: &Site, topic: &str, settings: &[(&str, &str)]) -> Result<usize> {
    let records = from.broker.dump(topic, IsolationLevel::ReadCommitted).await?;
    let partitions = records.iter().map(|record| record.partition).max().unwrap_or(0) + 1;
    let new = settings
        .iter()
        .fold(NewTopic::new(topic, partitions, 1), |new, (name, value)| {
            new.with(name, value)
        });
    let admin = kafka_client::Admin::new(&to.broker.config())?;
    for (_, created) in admin.create_topics(&[new]).await? {
        created?;
    }
    let producer = Producer::new(&ClientConfig::new(&to.broker.bootstrap()), Arc::new(Ignored))?;
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for record in &records {
        let offset = next.entry(record.partition).or_default();
        ensure!(
            record.offset == *offset,
            "{topic}-{} has no offset {offset}",
            record.partition
        );
        *offset += 1;
        let record = ProducerRecord {
            topic,
            partition: Some(record.partition),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            timestamp_ms: record.timestamp_ms,
            ..ProducerRecord::default()
        };
        tokio::task::block_in_place(|| producer.send_waiting(&record, 0, PATIENCE))?;
    }
    tokio::task::block_in_place(|| producer.flush(PATIENCE))?;
    Ok(records.len())
}
