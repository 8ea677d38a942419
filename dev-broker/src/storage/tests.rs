//! Files after a crash: what was whole is there, what was cut is not, and the broker goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bytes::Bytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use proptest::prelude::*;

use super::journal::{Entry, FILE_NAME, Journal, TransactionState, TransactionalProducer};
use super::segments::PartitionFiles;
use crate::batch::BatchHeader;
use crate::batch::StoredBatch;
use crate::committed_offsets::CommittedOffset;
use crate::restored::Restored;

fn stored(offset: i64, length: usize) -> StoredBatch {
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: -1,
        timestamp: 0,
        key: None,
        value: Some(Bytes::from(vec![b'x'; length])),
        headers: Default::default(),
    };
    let mut bytes = bytes::BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).unwrap();
    let bytes = bytes.freeze();
    let header = BatchHeader::read(&bytes).unwrap();
    StoredBatch { header, bytes }
}

fn offsets(batches: &[StoredBatch]) -> Vec<i64> {
    batches.iter().map(|batch| batch.header.base_offset).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_cut_file_keeps_its_whole_batches(
        lengths in proptest::collection::vec(0..100_usize, 1..12),
        segment_bytes in 100..600_usize,
        cut in 0..100_usize,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0");
        let (mut files, found) = PartitionFiles::open(path.clone(), segment_bytes).unwrap();
        prop_assert!(found.is_empty());
        let batches: Vec<StoredBatch> = lengths.iter().zip(0..).map(|(length, offset)| stored(offset, *length)).collect();
        for batch in &batches {
            files.append(batch).unwrap();
        }
        drop(files);
        let mut segments: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        segments.sort();
        let last = segments.last().unwrap();
        let length = fs::metadata(last).unwrap().len() as usize;
        let kept_bytes = length.saturating_sub(cut);
        fs::OpenOptions::new().write(true).open(last).unwrap().set_len(kept_bytes as u64).unwrap();

        let (mut files, found) = PartitionFiles::open(path.clone(), segment_bytes).unwrap();
        // A segment is named after its first offset, which here is the number of the batch.
        let first_of_last: usize = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let ends = batches[first_of_last..].iter().scan(0, |end, batch| {
            *end += batch.bytes.len();
            Some(*end)
        });
        let whole = first_of_last + ends.take_while(|end| *end <= kept_bytes).count();
        prop_assert_eq!(offsets(&found), (0..whole as i64).collect::<Vec<_>>());
        prop_assert!(found.iter().zip(&batches).all(|(found, written)| found.bytes == written.bytes));
        let next = stored(found.len() as i64, 7);
        files.append(&next).unwrap();
        drop(files);
        let (_, again) = PartitionFiles::open(path, segment_bytes).unwrap();
        prop_assert_eq!(again.len(), found.len() + 1);
    }
}

#[test]
fn replaced_files_are_the_new_ones_even_after_a_crash_in_between() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0");
    let (mut files, _) = PartitionFiles::open(path.clone(), 1000).unwrap();
    for offset in 0..20 {
        files.append(&stored(offset, 100)).unwrap();
    }
    files.replace([stored(3, 5), stored(19, 5)].iter()).unwrap();
    files.append(&stored(20, 5)).unwrap();
    drop(files);
    let (files, found) = PartitionFiles::open(path.clone(), 1000).unwrap();
    assert_eq!(offsets(&found), [3, 19, 20]);
    drop(files);

    // A crash between the two renames: the old directory is away, the new one not yet in its place.
    fs::rename(&path, path.with_extension("new")).unwrap();
    fs::create_dir(path.with_extension("old")).unwrap();
    let (files, found) = PartitionFiles::open(path.clone(), 1000).unwrap();
    assert_eq!(offsets(&found), [3, 19, 20]);
    drop(files);

    // A crash before them: the new directory is not complete.
    fs::create_dir(path.with_extension("new")).unwrap();
    let (_, found) = PartitionFiles::open(path.clone(), 1000).unwrap();
    assert_eq!(offsets(&found), [3, 19, 20]);
    assert!(!path.with_extension("new").exists());
}

fn sample_entries() -> Vec<Entry> {
    let offset = |offset| CommittedOffset {
        offset,
        leader_epoch: 0,
        metadata: "é\n".to_owned(),
    };
    let name = || "orders".to_owned();
    let config: BTreeMap<String, String> = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
    vec![
        Entry::Cluster {
            id: "cluster".to_owned(),
        },
        Entry::TopicCreated {
            name: name(),
            id: u128::MAX,
            partitions: 2,
            config: BTreeMap::new(),
        },
        Entry::TopicCreated {
            name: "gone".to_owned(),
            id: 7,
            partitions: 1,
            config: BTreeMap::new(),
        },
        Entry::PartitionsAdded {
            name: name(),
            partitions: 5,
        },
        Entry::ConfigChanged { name: name(), config },
        Entry::LogStart {
            topic: name(),
            partition: 3,
            offset: 17,
        },
        Entry::Generation {
            group: "g".to_owned(),
            generation: 4,
            protocol_type: Some("connect".to_owned()),
        },
        Entry::Offsets {
            group: "g".to_owned(),
            offsets: vec![((name(), 0), offset(1)), (("gone".to_owned(), 0), offset(2))],
        },
        Entry::PendingOffsets {
            group: "g".to_owned(),
            producer_id: 8,
            offsets: vec![((name(), 1), offset(3))],
        },
        Entry::PendingOffsets {
            group: "g".to_owned(),
            producer_id: 9,
            offsets: vec![((name(), 2), offset(4))],
        },
        Entry::PendingEnded {
            group: "g".to_owned(),
            producer_id: 8,
            commit: true,
        },
        Entry::Offsets {
            group: "h".to_owned(),
            offsets: vec![((name(), 0), offset(1))],
        },
        Entry::OffsetsDeleted {
            group: "h".to_owned(),
            partitions: vec![(name(), 0)],
        },
        Entry::GroupDeleted {
            group: "never".to_owned(),
        },
        Entry::TopicDeleted {
            name: "gone".to_owned(),
        },
        Entry::NextProducerId { next: 12 },
        Entry::Transaction {
            transactional_id: "t".to_owned(),
            producer: TransactionalProducer {
                producer_id: 9,
                epoch: 3,
                epoch_before_timeout: None,
                timeout_ms: 1000,
                state: TransactionState::Ongoing,
                partitions: BTreeSet::from([(name(), 1)]),
                groups: BTreeSet::from(["g".to_owned()]),
                started_ms: 5,
            },
        },
    ]
}

fn lines(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| serde_json::to_string(entry).unwrap())
        .collect()
}

#[test]
fn a_journal_leads_to_the_same_state_again() {
    let restored = Restored::from_entries(sample_entries());
    let group = restored.groups.get("g").unwrap();
    assert_eq!(
        group.offsets.committed.len(),
        2,
        "the topic that is gone has no offsets"
    );
    assert!(group.offsets.is_unstable(&("orders".to_owned(), 2)));
    assert_eq!(restored.topics.get("orders").unwrap().partitions, 5);
    let again = Restored::from_entries(restored.entries());
    assert_eq!(lines(&again.entries()), lines(&restored.entries()));
}

#[test]
fn a_cut_journal_keeps_its_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::rewrite(directory.path(), &[]).unwrap();
    let entries = sample_entries();
    for entry in &entries {
        journal.record(entry);
    }
    let whole = fs::read(directory.path().join(FILE_NAME)).unwrap();
    let mut ends = Vec::new();
    for (index, byte) in whole.iter().enumerate() {
        if *byte == b'\n' {
            ends.push(index + 1);
        }
    }
    for cut in 0..=whole.len() {
        fs::write(directory.path().join(FILE_NAME), &whole[..cut]).unwrap();
        let read = Journal::read(directory.path()).unwrap();
        let expected = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(lines(&read), lines(&entries[..expected]), "cut at {cut}");
    }
}
