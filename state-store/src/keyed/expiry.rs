//! Expired entries, in expiry order, from the expiry index of the local copy.
//!
//! A row keeps its place in the index when it is touched again; here, when that place comes due, it moves to where it
//! belongs. The index is not part of the state: it can be moved between barriers, and is rebuilt when the time to live changes.

use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};

use super::cache::{SlotId, Stored};
use super::meta::Meta;
use super::row::{self, NOT_INDEXED, Row, index_key, split_index_key};
use super::{KeyedPartition, StateValue};
use crate::changelog::{ChangelogKey, EntryVersion, StateRecord};
use crate::database::Family;
use crate::error::StateError;

/// An entry that has expired and is still stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredEntry {
    /// The store-local key.
    pub key: Bytes,
    /// Which version of the key this is.
    pub version: EntryVersion,
    /// When it became invisible, in milliseconds of stream time.
    pub expires_ms: i64,
    /// The value as [`StateValue::encode`] wrote it.
    pub payload: Bytes,
    /// The key has been born again since: only this version of it has expired.
    pub superseded: bool,
}

impl<V: StateValue> KeyedPartition<V> {
    /// Up to `limit` committed entries that have expired at that stream time, in order of expiry. Entries that changed since
    /// the last commit are left for a later call.
    ///
    /// The owner deletes each with [`remove_version`](Self::remove_version), or gives them to the archive first.
    pub fn due(&mut self, stream_time_ms: i64, limit: usize) -> Result<Vec<ExpiredEntry>, StateError> {
        loop {
            let (due, moved) = self.due_once(stream_time_ms, limit)?;
            // An entry that moved may still be due, before the last one found.
            if !moved {
                return Ok(due);
            }
        }
    }

    /// One pass over the index; true if an entry moved to a place that is due too.
    fn due_once(&mut self, stream_time_ms: i64, limit: usize) -> Result<(Vec<ExpiredEntry>, bool), StateError> {
        let Some(ttl) = self.spec.ttl else {
            return Ok((Vec::new(), false));
        };
        let prefix = self.keyspace.prefix();
        let db = self.db.clone();
        let (data, expiry) = (db.family(Family::Data)?, db.family(Family::Expiry)?);
        let (mut due, mut moved_due) = (Vec::new(), false);
        let mut batch = WriteBatch::default();
        let (mut scratch, mut record, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.keyspace.end());
        let mut start = Vec::new();
        index_key(prefix, self.expiry_floor_ms, &[], &mut start);
        // the first place that stays in the index after this pass
        let mut first_left = None;
        let mut moved_to = None;
        for item in db
            .rocksdb()
            .iterator_cf_opt(expiry, options, IteratorMode::From(&start, Direction::Forward))
        {
            let (found_key, _) = item.map_err(StateError::database("reading the expiry index"))?;
            let Some((indexed_ms, changelog_key)) = found_key.get(4..).and_then(split_index_key) else {
                continue;
            };
            if indexed_ms > stream_time_ms || due.len() >= limit {
                first_left.get_or_insert(indexed_ms);
                break;
            }
            let (key, superseded) = match ChangelogKey::decode(changelog_key) {
                Ok(ChangelogKey::Entry(key)) => (key, false),
                Ok(ChangelogKey::Superseded(_, key)) => (key, true),
                _ => continue,
            };
            let cached = if superseded { None } else { self.cache.find(key) };
            if cached.is_some_and(|id| self.cache.get(id).is_some_and(|slot| !slot.is_clean())) {
                first_left.get_or_insert(indexed_ms);
                continue;
            }
            let stored = self.stored_record(cached, changelog_key, &mut record)?;
            let version = match stored {
                Stored::Row(version, place_ms) if place_ms == indexed_ms => version,
                // The row is elsewhere in the index, or gone.
                _ => {
                    batch.delete_cf(expiry, &found_key);
                    continue;
                }
            };
            let expires_ms = ttl.expires_at(version.touched_ms);
            if expires_ms > indexed_ms {
                batch.delete_cf(expiry, &found_key);
                index_key(prefix, expires_ms, changelog_key, &mut scratch);
                batch.put_cf(expiry, &scratch, []);
                Row::encode_into(expires_ms, &record, &mut moved);
                self.keyspace.key_into(changelog_key, &mut scratch);
                batch.put_cf(data, &scratch, &moved);
                if let Some(slot) = cached.and_then(|id| self.cache.get_mut(id)) {
                    slot.stored = Stored::Row(version, expires_ms);
                }
                moved_due |= expires_ms <= stream_time_ms;
                moved_to = Some(moved_to.map_or(expires_ms, |first: i64| first.min(expires_ms)));
                continue;
            }
            first_left.get_or_insert(indexed_ms);
            due.push(ExpiredEntry {
                key: Bytes::copy_from_slice(key),
                version,
                expires_ms,
                payload: Bytes::copy_from_slice(StateRecord::payload_of(&record)),
                superseded,
            });
        }
        if !batch.is_empty() {
            self.db.write(batch)?;
        }
        // Places that entries moved to come after the ones they left, which may be before the first one left.
        self.expiry_floor_ms = match (first_left, moved_to) {
            (Some(left), Some(moved)) => left.min(moved),
            (Some(place), None) | (None, Some(place)) => place,
            // The index is empty; what is put into it later lowers the floor.
            (None, None) => i64::MAX,
        };
        Ok((due, moved_due))
    }

    /// What the local copy holds under a changelog key, with the record's bytes in `record`: told by a slot that knows, else
    /// read.
    fn stored_record(
        &mut self,
        slot: Option<SlotId>,
        changelog_key: &[u8],
        record: &mut Vec<u8>,
    ) -> Result<Stored, StateError> {
        record.clear();
        if let Some(slot) = slot.and_then(|id| self.cache.get(id))
            && slot.is_clean()
            && slot.stored != Stored::Unknown
        {
            if let (Stored::Row(version, _), Some(value)) = (slot.stored, &slot.value) {
                StateRecord::encode_header(version, record);
                value.encode(record);
            }
            return Ok(slot.stored);
        }
        let Some(bytes) = row::read(&self.db, self.keyspace, changelog_key, &mut self.key)? else {
            return Ok(Stored::Absent);
        };
        let row = Row::decode(&bytes).map_err(|detail| self.unreadable(changelog_key, detail))?;
        record.extend_from_slice(bytes.get(8..).unwrap_or_default());
        Ok(Stored::Row(row.record.version, row.indexed_ms))
    }

    /// Removes an expired version with the next barrier, wherever it is: as the key's entry, or as a superseded version. An
    /// entry that has been written or touched since is another version, and stays.
    pub fn remove_version(&mut self, key: &[u8], version: EntryVersion) -> Result<(), StateError> {
        let id = self.slot(key)?;
        let unchanged = self
            .cache
            .get(id)
            .is_some_and(|slot| slot.is_clean() && matches!(slot.stored, Stored::Row(stored, _) if stored == version));
        if unchanged {
            self.remove(key);
            return Ok(());
        }
        let superseded: Bytes = ChangelogKey::Superseded(version, key).encode().into();
        // Born again since the last barrier: the superseded version has not been written anywhere yet.
        if self.superseded.remove(&superseded).is_none() {
            self.superseded.insert(superseded, None);
        }
        Ok(())
    }

    /// A committed version of a key, expired or not, if it is still stored: the archive reads it again after a restart.
    pub fn version(&mut self, key: &[u8], version: EntryVersion) -> Result<Option<ExpiredEntry>, StateError> {
        for (changelog_key, superseded) in [
            (ChangelogKey::Entry(key), false),
            (ChangelogKey::Superseded(version, key), true),
        ] {
            let Some(bytes) = row::read(&self.db, self.keyspace, &changelog_key.encode(), &mut self.key)? else {
                continue;
            };
            let row = Row::decode(&bytes).map_err(|detail| self.unreadable(key, detail))?;
            if row.record.version == version {
                return Ok(Some(ExpiredEntry {
                    key: Bytes::copy_from_slice(key),
                    version,
                    expires_ms: self.spec.ttl.map_or(i64::MAX, |ttl| ttl.expires_at(version.touched_ms)),
                    payload: Bytes::copy_from_slice(row.record.payload),
                    superseded,
                }));
            }
        }
        Ok(None)
    }

    /// Rebuilds the expiry index when the time to live is not the one it was built for.
    pub(super) fn adopt_ttl(&mut self) -> Result<(), StateError> {
        let ttl_ms = self.spec.ttl.map_or(0, |ttl| ttl.after_ms);
        if self.meta.ttl_ms == ttl_ms {
            return Ok(());
        }
        let (data, expiry) = (self.db.family(Family::Data)?, self.db.family(Family::Expiry)?);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(expiry, self.keyspace.prefix(), self.keyspace.end());
        self.expiry_floor_ms = i64::MIN;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.keyspace.end());
        let start = self.keyspace.prefix();
        let (mut row_bytes, mut scratch) = (Vec::new(), Vec::new());
        for item in self
            .db
            .rocksdb()
            .iterator_cf_opt(data, options, IteratorMode::From(&start, Direction::Forward))
        {
            let (key, value) = item.map_err(StateError::database("rebuilding the expiry index"))?;
            let changelog_key = key.get(4..).unwrap_or_default();
            let row = Row::decode(&value).map_err(|detail| self.unreadable(changelog_key, detail))?;
            let indexed_ms = self
                .spec
                .ttl
                .map_or(NOT_INDEXED, |ttl| ttl.expires_at(row.record.version.touched_ms));
            Row::encode_into(indexed_ms, value.get(8..).unwrap_or_default(), &mut row_bytes);
            batch.put_cf(data, &key, &row_bytes);
            if indexed_ms != NOT_INDEXED {
                index_key(start, indexed_ms, changelog_key, &mut scratch);
                batch.put_cf(expiry, &scratch, []);
            }
            if batch.size_in_bytes() > (4 << 20) {
                self.db.write(std::mem::take(&mut batch))?;
            }
        }
        self.meta = Meta { ttl_ms, ..self.meta };
        self.meta.put(&self.db, self.keyspace, &mut batch)?;
        self.db.write(batch)
    }
}
