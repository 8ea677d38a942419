//! Barriers: what is dirty becomes changelog records; once their transaction has committed, one RocksDB batch.
//!
//! Values are encoded when the barrier is taken and stay in the cache, so the task goes on writing to them while the
//! transaction is under way: what it writes then belongs to the next barrier. Barriers commit in the order they were taken.

use bytes::Bytes;
use rocksdb::WriteBatch;

use super::cache::{SlotId, Stored};
use super::meta::{Meta, Position, wall_clock_ms};
use super::row::{self, NOT_INDEXED, Row};
use super::{KeyedPartition, StateValue};
use crate::changelog::{ChangeRecord, ChangelogKey, EntryVersion, PositionRecord, StateRecord, whose_record};
use crate::database::Family;
use crate::error::StateError;

/// The changes of one barrier: the records for the changelog, in any order, one per key.
#[derive(Debug)]
pub struct Changes {
    /// What goes to the changelog partition in the owner's transaction, beside the position record.
    pub records: Vec<ChangeRecord>,
    /// The slots behind the first records.
    slots: Vec<(SlotId, i64)>,
    sequence: u64,
    incarnation: u64,
}

impl Changes {
    /// Adds a record that the owner keeps with the state (of [`crate::changelog::owner_record`] or the archive's steps).
    pub fn push(&mut self, record: ChangeRecord) {
        self.records.push(record);
    }

    /// The barrier's number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The position record of this barrier, which belongs in the same transaction as the records. It is authoritative: a
    /// restore takes the input up from there.
    pub fn position_record(&self, input_offset: i64, stream_time_ms: i64) -> ChangeRecord {
        PositionRecord {
            sequence: self.sequence,
            input_offset,
            stream_time_ms,
        }
        .to_record()
    }
}

impl<V: StateValue> KeyedPartition<V> {
    /// Takes a barrier: encodes what is dirty. Later writes belong to the next one.
    pub fn changes(&mut self) -> Changes {
        self.barriers += 1;
        let sequence = self.barriers;
        let dirty = self.cache.take_dirty(sequence);
        // All keys and values share one allocation; the records are slices of it.
        let mut arena = Vec::with_capacity(dirty.len() * 64);
        let mut spans = Vec::with_capacity(dirty.len());
        let mut slots = Vec::with_capacity(dirty.len());
        for id in dirty {
            let Some(slot) = self.cache.get(id) else { continue };
            let start = arena.len();
            ChangelogKey::Entry(&slot.key).encode_into(&mut arena);
            let middle = arena.len();
            if let Some(value) = &slot.value {
                StateRecord::encode_header(
                    EntryVersion {
                        sequence,
                        touched_ms: slot.touched_ms,
                    },
                    &mut arena,
                );
                value.encode(&mut arena);
            }
            spans.push((start, middle, slot.value.is_some().then_some(arena.len())));
            slots.push((id, slot.touched_ms));
        }
        let arena = Bytes::from(arena);
        let mut records: Vec<ChangeRecord> = spans
            .into_iter()
            .map(|(start, middle, end)| ChangeRecord {
                key: arena.slice(start..middle),
                value: end.map(|end| arena.slice(middle..end)),
            })
            .collect();
        records.extend(self.superseded.drain().map(|(key, value)| ChangeRecord { key, value }));
        if !self.whose_written {
            records.push(whose_record(&self.spec.connector, &self.spec.store));
        }
        Changes {
            records,
            slots,
            sequence,
            incarnation: self.incarnation,
        }
    }

    /// The transaction with these changes has committed: writes data, expiry index and position in one batch.
    ///
    /// Errors: [`StateError::StaleChanges`] when barriers are handed back out of order or after an abort; the database's, after
    /// which the partition is to be closed and opened again (the changelog has what the local copy lacks).
    pub fn committed(&mut self, changes: Changes, position: &Position) -> Result<(), StateError> {
        if changes.incarnation != self.incarnation || changes.sequence <= self.meta.sequence {
            return Err(StateError::StaleChanges {
                keyspace: self.spec.to_string(),
                sequence: changes.sequence,
            });
        }
        let mut batch = WriteBatch::default();
        let mut rows = self.meta.rows;
        let (slot_records, other_records) = changes.records.split_at(changes.slots.len().min(changes.records.len()));
        for (record, &(id, touched_ms)) in slot_records.iter().zip(&changes.slots) {
            let stored = match self.cache.get(id).map(|slot| slot.stored) {
                Some(Stored::Unknown) | None => self.stored_row(&record.key)?,
                Some(stored) => stored,
            };
            let version = EntryVersion {
                sequence: changes.sequence,
                touched_ms,
            };
            let now_stored = self.write_entry(&mut batch, record, version, stored)?;
            rows = (rows + u64::from(matches!(now_stored, Stored::Row(..))))
                .saturating_sub(u64::from(matches!(stored, Stored::Row(..))));
            if let Some(slot) = self.cache.get_mut(id) {
                slot.stored = now_stored;
            }
            self.cache.landed(id, changes.sequence);
        }
        for record in other_records {
            self.write_side_record(&mut batch, record)?;
        }
        self.stream_time_ms = self.stream_time_ms.max(position.stream_time_ms);
        self.meta = Meta {
            position: Some(*position),
            changelog_offset: position.changelog_offset,
            sequence: changes.sequence,
            rows,
            written_at_ms: wall_clock_ms(),
            ..self.meta
        };
        self.meta.put(&self.db, self.keyspace, &mut batch)?;
        self.index.write(&self.db, self.keyspace, &mut batch)?;
        self.db.write(batch)?;
        self.whose_written = true;
        self.cache.evict(self.db.value_cache_share());
        Ok(())
    }

    /// The transaction was aborted: the cache is dropped, with everything written since, in every open barrier.
    /// The owner rewinds its input to the committed position.
    pub fn aborted(&mut self, changes: Changes) {
        if changes.incarnation == self.incarnation {
            self.forget_uncommitted();
        }
    }

    /// Drops everything that has not been committed, as [`aborted`](Self::aborted) does, without an open barrier.
    pub fn forget_uncommitted(&mut self) {
        self.cache.clear();
        self.superseded.clear();
        self.incarnation += 1;
        self.barriers = self.meta.sequence;
        self.stream_time_ms = self.meta.position.map_or(i64::MIN, |position| position.stream_time_ms);
    }

    /// One entry into a batch: the row and its place in the expiry index. Returns what the local copy then holds.
    pub(super) fn write_entry(
        &mut self,
        batch: &mut WriteBatch,
        record: &ChangeRecord,
        version: EntryVersion,
        stored: Stored,
    ) -> Result<Stored, StateError> {
        let data = self.db.family(Family::Data)?;
        let indexed_ms = match stored {
            Stored::Row(_, indexed_ms) => indexed_ms,
            Stored::Unknown | Stored::Absent => NOT_INDEXED,
        };
        let Some(value) = &record.value else {
            if let Stored::Row(..) = stored {
                self.keyspace.key_into(&record.key, &mut self.key);
                batch.delete_cf(data, &self.key);
            }
            return Ok(Stored::Absent);
        };
        let expires_ms = self
            .spec
            .ttl
            .map_or(NOT_INDEXED, |ttl| ttl.expires_at(version.touched_ms));
        // A row that is touched keeps its place until that has become quite wrong: the later move costs a write of its own.
        let late_ms = self.spec.ttl.map_or(i64::MAX, |ttl| ttl.after_ms / 2);
        let keeps = indexed_ms <= expires_ms && expires_ms.saturating_sub(indexed_ms) <= late_ms;
        let new_indexed_ms = if keeps { indexed_ms } else { expires_ms };
        if !keeps {
            self.index.add(expires_ms, record.key.clone());
        }
        let mut row = Vec::with_capacity(8 + value.len());
        Row::encode_into(new_indexed_ms, value, &mut row);
        self.keyspace.key_into(&record.key, &mut self.key);
        batch.put_cf(data, &self.key, row);
        Ok(Stored::Row(version, new_indexed_ms))
    }

    /// A record that is not an entry into a batch: superseded versions are rows, the others are side records.
    pub(super) fn write_side_record(
        &mut self,
        batch: &mut WriteBatch,
        record: &ChangeRecord,
    ) -> Result<(), StateError> {
        let key = ChangelogKey::decode(&record.key).map_err(|detail| self.unreadable(&record.key, detail))?;
        match key {
            ChangelogKey::Superseded(version, _) => {
                let stored = self.stored_row(&record.key)?;
                self.write_entry(batch, record, version, stored)?;
            }
            ChangelogKey::Intent(_) | ChangelogKey::Manifest(_) | ChangelogKey::Owner(_) | ChangelogKey::Whose => {
                let family = self.db.family(Family::Archive)?;
                self.keyspace.key_into(&record.key, &mut self.key);
                match &record.value {
                    Some(value) => batch.put_cf(family, &self.key, value),
                    None => batch.delete_cf(family, &self.key),
                }
            }
            // The position comes with the commit, and entries come from the cache alone.
            ChangelogKey::Position | ChangelogKey::Entry(_) => {}
        }
        Ok(())
    }

    /// What the local copy holds under a changelog key.
    fn stored_row(&mut self, changelog_key: &[u8]) -> Result<Stored, StateError> {
        let Some(bytes) = row::read(&self.db, self.keyspace, changelog_key, &mut self.key)? else {
            return Ok(Stored::Absent);
        };
        let row = Row::decode(&bytes).map_err(|detail| self.unreadable(changelog_key, detail))?;
        Ok(Stored::Row(row.record.version, row.indexed_ms))
    }
}
