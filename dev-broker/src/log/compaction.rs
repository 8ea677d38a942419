//! Compaction: of each key only the last record is kept, offsets and order stay (KIP-534 for how
//! long tombstones and transaction markers are kept). Pure over explicit time.

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;

use super::partition::AbortedTransaction;
use super::records::{self, EncodedRecord, RecordsError};
use crate::batch::StoredBatch;
use crate::batch::{self, BatchHeader};

/// A log as a compaction finds it.
#[derive(Debug, Clone)]
pub struct CompactionInput {
    /// All batches.
    pub batches: Vec<StoredBatch>,
    /// Transactions whose records go.
    pub aborted: Vec<AbortedTransaction>,
    /// The last stable offset: what comes after is left alone.
    pub stable_end: i64,
}

/// What a topic says about compaction.
#[derive(Debug, Clone, Copy)]
pub struct CompactionRules {
    /// The time, milliseconds since 1970.
    pub now_ms: i64,
    /// Tombstones and markers are kept for so long after they were first compacted.
    pub delete_retention_ms: i64,
    /// Records younger than this are left alone.
    pub min_lag_ms: i64,
}

/// The outcome.
#[derive(Debug, Clone)]
pub struct Compacted {
    /// Batches that take the place of those before `end`.
    pub batches: Vec<StoredBatch>,
    /// Everything before this offset has been looked at.
    pub end: i64,
}

/// Compacts. The last batch of the log is never removed, so that its end stays known.
///
/// # Errors
/// When a batch cannot be read.
pub fn compact(input: &CompactionInput, rules: CompactionRules) -> Result<Compacted, RecordsError> {
    let is_cleanable = |batch: &&StoredBatch| {
        batch.header.last_offset() < input.stable_end
            && batch.header.max_timestamp <= rules.now_ms.saturating_sub(rules.min_lag_ms)
    };
    let cleanable: Vec<&StoredBatch> = input.batches.iter().take_while(is_cleanable).collect();
    let Some(last) = cleanable.last() else {
        return Ok(Compacted {
            batches: Vec::new(),
            end: 0,
        });
    };
    let end = last.header.last_offset() + 1;
    let log_ends_here = cleanable.len() == input.batches.len();
    let mut contents = Vec::with_capacity(cleanable.len());
    for batch in &cleanable {
        let is_gone = is_aborted(&batch.header, &input.aborted);
        contents.push(match batch.header.is_control() || is_gone {
            true => Vec::new(),
            false => records::read(batch)?,
        });
    }
    let latest = latest_offsets(contents.iter().flatten());
    let mut kept: Vec<StoredBatch> = Vec::new();
    // Producers with records left before their next marker, which then has to stay.
    let mut with_records: FxHashMap<i64, bool> = FxHashMap::default();
    for (index, (batch, records)) in cleanable.iter().zip(contents).enumerate() {
        let header = &batch.header;
        let outcome = if header.is_control() {
            let needed = with_records.remove(&header.producer_id).unwrap_or(false);
            keep_marker(batch, needed, rules)
        } else {
            keep_latest(batch, records, &latest, rules)
        };
        let is_last = log_ends_here && index + 1 == cleanable.len();
        match outcome {
            Some(batch) => {
                if header.is_transactional() && !header.is_control() {
                    with_records.insert(header.producer_id, true);
                }
                kept.push(batch);
            }
            None if is_last => kept.push(emptied(batch)),
            None => {}
        }
    }
    Ok(Compacted { batches: kept, end })
}

fn is_aborted(header: &BatchHeader, aborted: &[AbortedTransaction]) -> bool {
    header.is_transactional()
        && !header.is_control()
        && aborted.iter().any(|aborted| {
            aborted.producer_id == header.producer_id
                && (aborted.first_offset..=aborted.last_offset).contains(&header.base_offset)
        })
}

fn latest_offsets<'a>(records: impl Iterator<Item = &'a EncodedRecord>) -> FxHashMap<Bytes, i64> {
    let mut latest = FxHashMap::default();
    for record in records {
        if let Some(key) = &record.key {
            latest.insert(key.clone(), record.offset);
        }
    }
    latest
}

/// A marker stays while its transaction has records, and then for the retention of tombstones.
fn keep_marker(batch: &StoredBatch, needed: bool, rules: CompactionRules) -> Option<StoredBatch> {
    if needed {
        return Some(batch.clone());
    }
    match batch.header.delete_horizon_ms() {
        Some(horizon) if horizon <= rules.now_ms => None,
        Some(_) => Some(batch.clone()),
        None => {
            let records = records::read(batch).ok()?;
            Some(rewritten(
                batch,
                &records,
                Some(rules.now_ms + rules.delete_retention_ms),
            ))
        }
    }
}

fn keep_latest(
    batch: &StoredBatch,
    records: Vec<EncodedRecord>,
    latest: &FxHashMap<Bytes, i64>,
    rules: CompactionRules,
) -> Option<StoredBatch> {
    let horizon = batch.header.delete_horizon_ms();
    let tombstones_go = horizon.is_some_and(|horizon| horizon <= rules.now_ms);
    let before = records.len();
    let is_kept = |record: &EncodedRecord| {
        let is_latest = record
            .key
            .as_ref()
            .is_none_or(|key| latest.get(key) == Some(&record.offset));
        is_latest && (record.has_value || !tombstones_go)
    };
    let kept: Vec<EncodedRecord> = records.into_iter().filter(is_kept).collect();
    if kept.is_empty() {
        return None;
    }
    let has_tombstones = kept.iter().any(|record| !record.has_value);
    let new_horizon = match (has_tombstones, horizon) {
        (false, _) => None,
        (true, Some(horizon)) => Some(horizon),
        (true, None) => Some(rules.now_ms + rules.delete_retention_ms),
    };
    if kept.len() == before && new_horizon == horizon {
        return Some(batch.clone());
    }
    Some(rewritten(batch, &kept, new_horizon))
}

/// The batch with these of its records, uncompressed. Its offsets, sequences and producer stay.
fn rewritten(batch: &StoredBatch, records: &[EncodedRecord], delete_horizon_ms: Option<i64>) -> StoredBatch {
    let first = records
        .first()
        .map_or(batch.header.base_timestamp, |record| record.timestamp);
    let base_timestamp = delete_horizon_ms.unwrap_or(first);
    let latest = records.iter().map(|record| record.timestamp).max();
    let max_timestamp = latest.unwrap_or(batch.header.max_timestamp);
    let mut encoded = BytesMut::new();
    for record in records {
        record.write(base_timestamp, &mut encoded);
    }
    let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
    let bytes = batch::rebuild(
        &batch.header,
        &encoded,
        count,
        delete_horizon_ms,
        base_timestamp,
        max_timestamp,
    );
    match BatchHeader::read(&bytes) {
        Ok(header) => StoredBatch { header, bytes },
        // It cannot be: it was built here. The batch as it was is right in any case.
        Err(_) => batch.clone(),
    }
}

/// The batch without records, as Kafka leaves the last of a log.
fn emptied(batch: &StoredBatch) -> StoredBatch {
    rewritten(batch, &[], None)
}
