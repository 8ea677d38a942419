//! The log against what it must do: sequences, transactions, compaction.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use proptest::prelude::*;

use super::compaction::{CompactionRules, compact};
use super::partition::{Isolation, PartitionLog};
use super::producers::{ProducerStates, SequenceCheck};
use super::records;
use super::test_batches::{KeyValue, append, batch};
use crate::batch::{BatchHeader, marker_commits, validate_produced};

fn rules(now_ms: i64) -> CompactionRules {
    CompactionRules {
        now_ms,
        delete_retention_ms: 100,
        min_lag_ms: 0,
    }
}

fn run_compaction(log: &mut PartitionLog, now_ms: i64) {
    let compacted = compact(&log.compaction_input(), rules(now_ms)).unwrap();
    log.replace_compacted(compacted.batches, compacted.end).unwrap();
}

/// Offset, key and whether it has a value, of every record that a read_committed consumer is given. It goes about it as
/// clients do: from the first offset of an aborted transaction to its marker, batches of that producer are skipped.
fn visible(log: &PartitionLog) -> Vec<(i64, String, bool)> {
    let read = log.read(0, usize::MAX, Isolation::ReadCommitted, true).unwrap();
    let mut bytes = read.records;
    let mut aborted = read.aborted;
    aborted.sort_by_key(|transaction| transaction.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut skipped_producers = BTreeSet::new();
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let header = BatchHeader::read(&bytes).unwrap();
        let batch = bytes.split_to(header.size_bytes);
        while let Some(begun) = aborted.next_if(|transaction| transaction.first_offset <= header.last_offset()) {
            skipped_producers.insert(begun.producer_id);
        }
        if header.is_control() {
            if marker_commits(&batch) == Some(false) {
                skipped_producers.remove(&header.producer_id);
            }
            continue;
        }
        if header.is_transactional() && skipped_producers.contains(&header.producer_id) {
            continue;
        }
        for record in records::read_bytes(&header, &batch).unwrap() {
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            seen.push((record.offset, key, record.has_value));
        }
    }
    seen
}

/// The batches from an offset on, byte for byte.
fn bytes_from(log: &PartitionLog, offset: i64) -> Vec<Bytes> {
    let wanted = log.batches().filter(|batch| batch.header.base_offset >= offset);
    wanted.map(|batch| batch.bytes.clone()).collect()
}

/// One step of a history: a batch of some producer, or the end of its transaction.
#[derive(Debug, Clone)]
enum Step {
    Plain(Vec<KeyValue>),
    InTransaction(u8, Vec<KeyValue>),
    End(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0..6_u8, any::<bool>()).prop_map(|(key, has_value)| {
        let value = has_value.then(|| "value".to_owned());
        (Some(format!("k{key}")), value)
    });
    let records = proptest::collection::vec(record, 1..5);
    prop_oneof![
        records.clone().prop_map(Step::Plain),
        (0..3_u8, records).prop_map(|(producer, records)| Step::InTransaction(producer, records)),
        (0..3_u8, any::<bool>()).prop_map(|(producer, commit)| Step::End(producer, commit)),
    ]
}

fn play(steps: &[Step]) -> PartitionLog {
    let mut log = PartitionLog::default();
    let mut sequences: BTreeMap<u8, i32> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Plain(records) => {
                append(&mut log, &batch(None, false, records));
            }
            Step::InTransaction(producer, records) => {
                let sequence = sequences.entry(*producer).or_default();
                append(
                    &mut log,
                    &batch(Some((i64::from(*producer), 0, *sequence)), true, records),
                );
                *sequence += i32::try_from(records.len()).unwrap();
            }
            Step::End(producer, commit) if log.has_open_transaction(i64::from(*producer)) => {
                log.append_marker(i64::from(*producer), 0, *commit, 1000).unwrap();
            }
            Step::End(..) => {}
        }
    }
    log
}

proptest! {
    #[test]
    fn compaction_keeps_exactly_the_last_record_of_each_key(steps in proptest::collection::vec(step(), 0..40)) {
        let mut log = play(&steps);
        let (end, stable) = (log.next_offset(), log.last_stable_offset());
        let (before, left_alone) = (visible(&log), bytes_from(&log, stable));
        // What a read_committed consumer is given lies before the last stable offset, and all of that is cleaned.
        let last: BTreeMap<String, i64> = before.iter().map(|(offset, key, _)| (key.clone(), *offset)).collect();
        let is_last = |(offset, key, _): &(i64, String, bool)| last.get(key) == Some(offset);
        let expected: Vec<_> = before.into_iter().filter(is_last).collect();

        run_compaction(&mut log, 5_000);
        prop_assert_eq!(visible(&log), expected.clone());
        prop_assert_eq!((log.next_offset(), log.last_stable_offset()), (end, stable));

        // Once the retention of tombstones is over, they go too, and nothing else.
        run_compaction(&mut log, 5_200);
        let without: Vec<_> = expected.into_iter().filter(|(_, _, has_value)| *has_value).collect();
        prop_assert_eq!(visible(&log), without);
        prop_assert_eq!((log.next_offset(), log.last_stable_offset()), (end, stable));
        prop_assert_eq!(bytes_from(&log, stable), left_alone);
        for batch in log.batches() {
            let header = BatchHeader::read(&batch.bytes).unwrap();
            prop_assert!(header.verify_checksum(&batch.bytes).is_ok());
            prop_assert_eq!(header, batch.header);
        }
    }

    #[test]
    fn a_read_committed_reader_sees_committed_records_only(steps in proptest::collection::vec(step(), 0..40)) {
        let log = play(&steps);
        let mut open: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        let mut committed: BTreeSet<i64> = BTreeSet::new();
        let mut offset = 0;
        for step in &steps {
            match step {
                Step::Plain(records) => {
                    let next = offset + i64::try_from(records.len()).unwrap();
                    committed.extend(offset..next);
                    offset = next;
                }
                Step::InTransaction(producer, records) => {
                    let next = offset + i64::try_from(records.len()).unwrap();
                    open.entry(*producer).or_default().extend(offset..next);
                    offset = next;
                }
                Step::End(producer, commit) => {
                    if let Some(records) = open.remove(producer) {
                        if *commit {
                            committed.extend(records);
                        }
                        offset += 1;
                    }
                }
            }
        }
        let stable = open.values().flatten().min().copied().unwrap_or(offset);
        prop_assert_eq!(log.next_offset(), offset);
        prop_assert_eq!(log.last_stable_offset(), stable);
        let seen: Vec<i64> = visible(&log).into_iter().map(|(offset, _, _)| offset).collect();
        let expected: Vec<i64> = committed.into_iter().filter(|offset| *offset < stable).collect();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn whatever_is_produced_is_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Nothing from outside may panic.
        let _ = validate_produced(&bytes);
    }
}

#[test]
fn a_resent_batch_is_a_duplicate_and_a_gap_an_error() {
    let mut log = PartitionLog::default();
    let record = [(None, Some("v".to_owned()))];
    for sequence in 0..7 {
        append(&mut log, &batch(Some((9, 0, sequence)), false, &record));
    }
    let send = |log: &mut PartitionLog, epoch, sequence| {
        let bytes = batch(Some((9, epoch, sequence)), false, &record);
        let header = validate_produced(&bytes).unwrap();
        log.append(&header, &bytes, None)
            .map(|appended| (appended.base_offset, appended.new))
    };
    assert_eq!(send(&mut log, 0, 5), Ok((5, false)));
    assert_eq!(send(&mut log, 0, 1), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut log, 0, 8), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut log, 1, 3), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut log, 1, 0), Ok((7, true)));
    assert_eq!(send(&mut log, 0, 7), Err(ResponseError::InvalidProducerEpoch));
}

#[test]
fn sequences_wrap_at_the_largest() {
    let mut producers = ProducerStates::default();
    let header = |sequence: i32| {
        let records = [(None, None), (None, None)];
        BatchHeader {
            base_sequence: sequence,
            ..validate_produced(&batch(Some((1, 0, 0)), false, &records)).unwrap()
        }
    };
    producers.appended(&header(i32::MAX));
    assert_eq!(header(i32::MAX).last_sequence(), 0);
    assert_eq!(producers.check(&header(1)), Ok(SequenceCheck::Append));
    assert_eq!(
        producers.check(&header(2)),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
}
