//! Restoring a local copy from its changelog: where to start, and the bulk application of records.

use bytes::Bytes;
use hashbrown::HashMap;
use kafka_client::TopicId;
use rocksdb::{WriteBatch, WriteOptions};

use super::cache::Stored;
use super::meta::{Meta, Position, wall_clock_ms};
use super::row::Row;
use super::{KeyedPartition, StateValue};
use crate::changelog::{ChangeRecord, ChangelogKey, EntryVersion, PositionRecord, StateRecord, whose};
use crate::database::Family;
use crate::error::StateError;

/// Why a local copy is thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildReason {
    /// The topic was deleted and made again: it has another id than the one the copy is of.
    TopicMadeAgain,
    /// It has been unused for longer than the topic keeps tombstones: deletions may be missing from what is left to read.
    OlderThanTombstones,
    /// The topic no longer has the records that follow the copy.
    BeforeTopicStart,
    /// The topic ends before the copy does: it was made anew, or lost records.
    BeyondTopicEnd,
    /// The topic has fewer partitions than the copy: it was made anew.
    FewerPartitions,
}

impl RebuildReason {
    const ALL: [RebuildReason; 5] = [
        RebuildReason::TopicMadeAgain,
        RebuildReason::OlderThanTombstones,
        RebuildReason::BeforeTopicStart,
        RebuildReason::BeyondTopicEnd,
        RebuildReason::FewerPartitions,
    ];

    /// Its number on disk, from 1.
    pub(crate) fn number(self) -> u8 {
        let position = Self::ALL.iter().position(|reason| *reason == self);
        position.map_or(0, |position| position as u8 + 1)
    }

    pub(crate) fn of_number(number: u8) -> Option<RebuildReason> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// For people: the part of a sentence that comes after "since".
    pub fn sentence(self) -> &'static str {
        match self {
            RebuildReason::TopicMadeAgain => "the topic was deleted and made again",
            RebuildReason::OlderThanTombstones => {
                "the copy is older than the topic keeps tombstones (delete.retention.ms)"
            }
            RebuildReason::BeforeTopicStart => "the topic no longer has the records that follow the copy",
            RebuildReason::BeyondTopicEnd => "the topic ends before the copy does: it was made again, or lost records",
            RebuildReason::FewerPartitions => "the topic has fewer partitions than the copy: it was made again",
        }
    }
}

/// Where a restore starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePlan {
    /// The copy is good: read on from this offset.
    From(i64),
    /// Clear the copy ([`KeyedPartition::clear`]) and read from the topic's start.
    Rebuild(RebuildReason),
}

/// A local copy of one partition, as far as carrying it on goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyState {
    /// The next offset that the copy lacks; none: there is no copy.
    pub offset: Option<i64>,
    /// When it was last written, in milliseconds since 1970.
    pub written_at_ms: i64,
    /// The id of the topic that it is of; none: it is not known, as of copies from before ids were kept and with brokers
    /// that have none (before 2.8). Then the offsets alone decide, and the id that the topic has now is taken on.
    pub topic_id: Option<TopicId>,
}

/// The partition of the topic that it is a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its first offset.
    pub start: i64,
    /// Its end offset, of committed records.
    pub end: i64,
    /// Its end offset, of all records. A copy holds committed records alone, and may be ahead of `end` all the same: a
    /// coordinator that is shut down with the only replica of the partition ends a transaction without the marker that says
    /// so (Kafka 4.3), and readers wait behind it until the next one.
    pub written_end: i64,
    /// The topic's id.
    pub id: Option<TopicId>,
    /// For how long the topic keeps tombstones, in milliseconds.
    pub delete_retention_ms: i64,
}

/// Decides where restoring starts. Pure; `wall_ms` in milliseconds since 1970.
pub fn plan_restore(copy: &CopyState, topic: &TopicState, wall_ms: i64) -> RestorePlan {
    let Some(offset) = copy.offset else {
        return RestorePlan::From(topic.start);
    };
    let made_again = matches!((copy.topic_id, topic.id), (Some(before), Some(now)) if before != now);
    if made_again {
        RestorePlan::Rebuild(RebuildReason::TopicMadeAgain)
    } else if offset > topic.written_end.max(topic.end) {
        RestorePlan::Rebuild(RebuildReason::BeyondTopicEnd)
    } else if offset < topic.start {
        RestorePlan::Rebuild(RebuildReason::BeforeTopicStart)
    } else if offset < topic.end && wall_ms.saturating_sub(copy.written_at_ms) > topic.delete_retention_ms {
        RestorePlan::Rebuild(RebuildReason::OlderThanTombstones)
    } else {
        RestorePlan::From(offset)
    }
}

/// Records read and not yet written: the last one of each key.
#[derive(Default)]
pub(super) struct Buffer {
    records: HashMap<Bytes, Option<Bytes>>,
    bytes: usize,
    position: Option<PositionRecord>,
    next_offset: Option<i64>,
}

/// Bytes read between two writes to the local copy.
const BUFFER_BYTES: usize = 4 << 20;

impl<V: StateValue> KeyedPartition<V> {
    /// Takes a committed changelog record, in offset order. Written in bulk: call
    /// [`finish_restore`](Self::finish_restore) at the end.
    ///
    /// Errors: [`StateError::Format`] for a record that this version does not write; [`StateError::AnothersChangelog`].
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>, changelog_offset: i64) -> Result<(), StateError> {
        let unreadable = |detail: String| StateError::Format {
            place: format!("{}, changelog offset {changelog_offset}", self.spec),
            detail,
        };
        let kind = ChangelogKey::decode(key).map_err(unreadable)?;
        match (kind, value) {
            (ChangelogKey::Position, Some(value)) => {
                self.restoring.position = Some(PositionRecord::decode(value).map_err(unreadable)?);
            }
            (ChangelogKey::Position, None) => {}
            (ChangelogKey::Whose, Some(value)) => {
                let (connector, store) = whose(value);
                if (&connector, &store) != (&self.spec.connector, &self.spec.store) {
                    return Err(StateError::AnothersChangelog {
                        keyspace: self.spec.to_string(),
                        connector,
                        store,
                    });
                }
                self.whose_written = true;
                self.restoring
                    .records
                    .insert(Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
            }
            (ChangelogKey::Entry(_) | ChangelogKey::Superseded(..), Some(value)) => {
                let record = StateRecord::decode(value).map_err(unreadable)?;
                self.restoring.bytes += key.len() + value.len() + 64;
                self.meta.sequence = self.meta.sequence.max(record.version.sequence);
                self.restoring
                    .records
                    .insert(Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
            }
            (_, value) => {
                self.restoring.bytes += key.len() + value.map_or(0, <[u8]>::len) + 64;
                self.restoring
                    .records
                    .insert(Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            }
        }
        self.restoring.next_offset = Some(changelog_offset + 1);
        if self.restoring.bytes >= BUFFER_BYTES {
            self.write_restored()?;
        }
        Ok(())
    }

    /// Ends a restore that has read up to `changelog_end` (the changelog's end offset, which may lie behind the last record
    /// because of transaction markers). Returns where the input goes on; none: the changelog has no position.
    pub fn finish_restore(&mut self, changelog_end: i64) -> Result<Option<Position>, StateError> {
        let next = self
            .restoring
            .next_offset
            .unwrap_or(0)
            .max(changelog_end)
            .max(self.changelog_offset());
        self.restoring.next_offset = Some(next);
        self.write_restored()?;
        Ok(self.meta.position)
    }

    /// Writes what has been read, sorted by key, with how far that goes.
    fn write_restored(&mut self) -> Result<(), StateError> {
        let buffer = std::mem::take(&mut self.restoring);
        let mut records: Vec<(Bytes, Option<Bytes>)> = buffer.records.into_iter().collect();
        records.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let keys: Vec<Vec<u8>> = records
            .iter()
            .map(|(key, _)| {
                let mut local = Vec::with_capacity(4 + key.len());
                self.keyspace.key_into(key, &mut local);
                local
            })
            .collect();
        let data = self.db.family(Family::Data)?;
        let stored: Vec<Stored> = self
            .db
            .rocksdb()
            .batched_multi_get_cf(data, keys.iter(), true)
            .into_iter()
            .map(|found| match found.map_err(StateError::database("reading rows"))? {
                None => Ok(Stored::Absent),
                Some(bytes) => Row::decode(&bytes)
                    .map(|row| Stored::Row(row.record.version, row.indexed_ms))
                    .map_err(|detail| StateError::Format {
                        place: self.spec.to_string(),
                        detail,
                    }),
            })
            .collect::<Result<_, StateError>>()?;
        let mut batch = WriteBatch::default();
        let mut rows = self.meta.rows;
        for ((key, value), stored) in records.into_iter().zip(stored) {
            let version = match &value {
                Some(value) => StateRecord::decode(value).map(|record| record.version).ok(),
                None => None,
            };
            let record = ChangeRecord { key, value };
            if !matches!(ChangelogKey::decode(&record.key), Ok(ChangelogKey::Entry(_))) {
                self.write_side_record(&mut batch, &record)?;
                continue;
            }
            let version = version.unwrap_or(EntryVersion {
                sequence: 0,
                touched_ms: 0,
            });
            let now_stored = self.write_entry(&mut batch, &record, version, stored)?;
            rows = (rows + u64::from(matches!(now_stored, Stored::Row(..))))
                .saturating_sub(u64::from(matches!(stored, Stored::Row(..))));
        }
        let changelog_offset = buffer.next_offset.unwrap_or_else(|| self.changelog_offset());
        let position = match (buffer.position, self.meta.position) {
            (Some(read), _) => Some(Position {
                input_offset: read.input_offset,
                stream_time_ms: read.stream_time_ms,
                changelog_offset,
            }),
            (None, Some(known)) => Some(Position {
                changelog_offset,
                ..known
            }),
            (None, None) => None,
        };
        let sequence = self.meta.sequence.max(buffer.position.map_or(0, |read| read.sequence));
        self.meta = Meta {
            position,
            changelog_offset,
            sequence,
            rows,
            written_at_ms: wall_clock_ms(),
            ..self.meta
        };
        self.meta.put(&self.db, self.keyspace, &mut batch)?;
        self.index.write(&self.db, self.keyspace, &mut batch)?;
        self.db.write(batch)?;
        // Whatever the cache knew of the local copy may be out of date now.
        self.forget_uncommitted();
        Ok(())
    }

    /// Deletes the local copy, because it cannot be carried on; counted. It is then restored from the changelog's start.
    pub fn rebuild(&mut self, reason: RebuildReason) -> Result<(), StateError> {
        self.meta.rebuilds = self.meta.rebuilds.and(reason, wall_clock_ms());
        self.clear()
    }

    /// Deletes the local copy: it is to be rebuilt, or the partition has gone elsewhere for good.
    pub fn clear(&mut self) -> Result<(), StateError> {
        let (start, end) = (self.keyspace.prefix(), self.keyspace.end());
        let mut batch = WriteBatch::default();
        for family in [Family::Data, Family::Expiry, Family::Archive] {
            batch.delete_range_cf(self.db.family(family)?, start, end);
        }
        self.meta = Meta {
            ttl_ms: self.meta.ttl_ms,
            rebuilds: self.meta.rebuilds,
            ..Meta::default()
        };
        self.whose_written = false;
        self.restoring = Buffer::default();
        self.meta.put(&self.db, self.keyspace, &mut batch)?;
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db
            .rocksdb()
            .write_opt(batch, &options)
            .map_err(StateError::database("clearing a store"))?;
        self.forget_uncommitted();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> Option<TopicId> {
        TopicId::from_bytes([number; 16])
    }

    proptest! {
        #[test]
        fn a_copy_is_used_only_if_nothing_can_be_missing(
            offset in prop::option::of(0i64..100), written in 0i64..1_000, start in 0i64..100, length in 0i64..100,
            uncommitted in 0i64..3, wall in 0i64..2_000, retention in 0i64..1_000, ids in (0u8..3, 0u8..3),
        ) {
            let end = start + length;
            let copy = CopyState { offset, written_at_ms: written, topic_id: id(ids.0) };
            let written_end = end + uncommitted;
            let topic = TopicState { start, end, written_end, id: id(ids.1), delete_retention_ms: retention };
            // Zero is an id that is not known.
            let other_topic = ids.0 != 0 && ids.1 != 0 && ids.0 != ids.1;
            match plan_restore(&copy, &topic, wall) {
                RestorePlan::From(from) => {
                    prop_assert!((start..=written_end).contains(&from));
                    prop_assert!(offset.is_none_or(|offset| offset == from && !other_topic));
                    prop_assert!(offset.is_none() || from >= end || wall - written <= retention);
                }
                RestorePlan::Rebuild(RebuildReason::TopicMadeAgain) => prop_assert!(other_topic),
                RestorePlan::Rebuild(RebuildReason::OlderThanTombstones) => prop_assert!(wall - written > retention),
                RestorePlan::Rebuild(RebuildReason::BeforeTopicStart) => prop_assert!(offset < Some(start)),
                RestorePlan::Rebuild(RebuildReason::BeyondTopicEnd) => prop_assert!(offset > Some(written_end)),
                RestorePlan::Rebuild(RebuildReason::FewerPartitions) => prop_assert!(false, "of one partition nobody can say that"),
            }
        }
    }
}
