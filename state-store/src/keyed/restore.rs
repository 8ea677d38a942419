//! Restoring a local copy from its changelog: where to start, and the bulk application of records.

use bytes::Bytes;
use hashbrown::HashMap;
use rocksdb::{WriteBatch, WriteOptions};

use super::cache::Stored;
use super::meta::{Meta, Position, wall_clock_ms};
use super::row::Row;
use super::{KeyedPartition, StateValue};
use crate::changelog::{ChangeRecord, ChangelogKey, EntryVersion, PositionRecord, StateRecord};
use crate::database::Family;
use crate::error::StateError;

/// Why a local copy is thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildReason {
    /// It has been unused for longer than the topic keeps tombstones: deletions may be missing from what is left to read.
    OlderThanTombstones,
    /// The topic no longer has the records that follow the copy.
    BeforeTopicStart,
    /// The topic ends before the copy does: it was made anew, or lost records.
    BeyondTopicEnd,
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

/// Decides where restoring starts. Pure: offsets are the topic partition's, times in milliseconds since 1970.
///
/// `copy_offset`: the next offset that the copy lacks; none: there is no copy. `written_at_ms`: when it was last written.
pub fn plan_restore(
    copy_offset: Option<i64>,
    written_at_ms: i64,
    topic_start: i64,
    topic_end: i64,
    wall_ms: i64,
    delete_retention_ms: i64,
) -> RestorePlan {
    let Some(offset) = copy_offset else {
        return RestorePlan::From(topic_start);
    };
    if offset > topic_end {
        RestorePlan::Rebuild(RebuildReason::BeyondTopicEnd)
    } else if offset < topic_start {
        RestorePlan::Rebuild(RebuildReason::BeforeTopicStart)
    } else if offset < topic_end && wall_ms.saturating_sub(written_at_ms) > delete_retention_ms {
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
    /// Error: [`StateError::Format`] for a record that this version does not write.
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
            ttl_ms: self.meta.ttl_ms,
            written_at_ms: wall_clock_ms(),
        };
        self.meta.put(&self.db, self.keyspace, &mut batch)?;
        self.index.write(&self.db, self.keyspace, &mut batch)?;
        self.db.write(batch)?;
        // Whatever the cache knew of the local copy may be out of date now.
        self.forget_uncommitted();
        Ok(())
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
            ..Meta::default()
        };
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

    proptest! {
        #[test]
        fn a_copy_is_used_only_if_nothing_can_be_missing(
            offset in prop::option::of(0i64..100), written in 0i64..1_000, start in 0i64..100, length in 0i64..100,
            wall in 0i64..2_000, retention in 0i64..1_000,
        ) {
            let end = start + length;
            match plan_restore(offset, written, start, end, wall, retention) {
                RestorePlan::From(from) => {
                    prop_assert!((start..=end).contains(&from));
                    prop_assert!(offset.is_none_or(|offset| offset == from));
                    prop_assert!(offset.is_none() || from == end || wall - written <= retention);
                }
                RestorePlan::Rebuild(RebuildReason::OlderThanTombstones) => prop_assert!(wall - written > retention),
                RestorePlan::Rebuild(RebuildReason::BeforeTopicStart) => prop_assert!(offset < Some(start)),
                RestorePlan::Rebuild(RebuildReason::BeyondTopicEnd) => prop_assert!(offset > Some(end)),
            }
        }
    }
}
