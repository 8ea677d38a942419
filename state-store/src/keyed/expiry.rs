//! Expired entries, in expiry order, from the expiry index of the local copy.
//!
//! A row keeps its place in the index when it is touched again; here, when that place comes due, it moves to where it
//! belongs. The index is not part of the state: it can be moved between barriers, and is rebuilt when the time to live changes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};

use super::cache::{SlotId, Stored};
use super::expiry_index::{ExpiryIndex, Page};
use super::meta::Meta;
use super::row::{self, NOT_INDEXED, Row};
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
        let Some(ttl) = self.spec.ttl.filter(|_| self.index.floor_ms() <= stream_time_ms) else {
            return Ok((Vec::new(), false));
        };
        let db = self.db.clone();
        let data = db.family(Family::Data)?;
        let (mut due, mut moved_due) = (Vec::new(), false);
        let mut batch = WriteBatch::default();
        let (mut scratch, mut record, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        let mut unread = self.index.pages(&db, self.keyspace)?.peekable();
        let mut pages: Vec<Page> = Vec::new();
        // Places that have come due, of the pages read so far: time, page, number in the page.
        let mut places: BinaryHeap<Reverse<(i64, usize, usize)>> = BinaryHeap::new();
        // Two places of one row at the same time are one.
        let mut seen: HashSet<Bytes> = HashSet::new();
        loop {
            let before_ms = places.peek().map_or(stream_time_ms, |Reverse((time_ms, ..))| *time_ms);
            let may_come_first = |page: &Result<Page, StateError>| match page {
                Ok(page) => page.first_ms().is_none_or(|first_ms| first_ms <= before_ms),
                Err(_) => true,
            };
            if let Some(page) = unread.next_if(may_come_first) {
                let page = page?;
                let number = pages.len();
                let come_due = page.times().take_while(|time_ms| *time_ms <= stream_time_ms);
                places.extend(
                    come_due
                        .enumerate()
                        .map(|(place, time_ms)| Reverse((time_ms, number, place))),
                );
                pages.push(page);
                continue;
            }
            if due.len() >= limit {
                break;
            }
            let Some(Reverse((indexed_ms, page, place))) = places.pop() else {
                break;
            };
            let Some(page) = pages.get_mut(page) else { break };
            let Some(changelog_key) = page.changelog_key(place).cloned() else {
                continue;
            };
            let (key, superseded) = match ChangelogKey::decode(&changelog_key) {
                Ok(ChangelogKey::Entry(key)) => (key, false),
                Ok(ChangelogKey::Superseded(_, key)) => (key, true),
                _ => {
                    page.drop_place(place);
                    continue;
                }
            };
            let cached = if superseded { None } else { self.cache.find(key) };
            if cached.is_some_and(|id| self.cache.get(id).is_some_and(|slot| !slot.is_clean())) {
                continue;
            }
            let version = match self.stored_record(cached, &changelog_key, &mut record)? {
                Stored::Row(version, own_ms) if own_ms == indexed_ms && seen.insert(changelog_key.clone()) => version,
                // The row has another place, or is gone.
                _ => {
                    page.drop_place(place);
                    continue;
                }
            };
            let expires_ms = ttl.expires_at(version.touched_ms);
            if expires_ms > indexed_ms {
                page.drop_place(place);
                self.index.add(expires_ms, changelog_key.clone());
                Row::encode_into(expires_ms, &record, &mut moved);
                self.keyspace.key_into(&changelog_key, &mut scratch);
                batch.put_cf(data, &scratch, &moved);
                if let Some(slot) = cached.and_then(|id| self.cache.get_mut(id)) {
                    slot.stored = Stored::Row(version, expires_ms);
                }
                moved_due |= expires_ms <= stream_time_ms;
                continue;
            }
            due.push(ExpiredEntry {
                key: Bytes::copy_from_slice(key),
                version,
                expires_ms,
                payload: Bytes::copy_from_slice(StateRecord::payload_of(&record)),
                superseded,
            });
        }
        let unread_ms = match unread.next() {
            Some(page) => page?.first_ms(),
            None => None,
        };
        let left_ms = pages.iter().filter_map(Page::first_ms).chain(unread_ms).min();
        // What is written now lowers it again.
        self.index.rise_to(left_ms.unwrap_or(i64::MAX));
        for page in pages {
            page.write_back(&mut self.index, &db, &mut batch)?;
        }
        self.index.write(&db, self.keyspace, &mut batch)?;
        if !batch.is_empty() {
            self.db.write(batch)?;
        }
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
        let db = self.db.clone();
        let (data, expiry) = (db.family(Family::Data)?, db.family(Family::Expiry)?);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(expiry, self.keyspace.prefix(), self.keyspace.end());
        self.index = ExpiryIndex::new();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.keyspace.end());
        let start = self.keyspace.prefix();
        let mut row_bytes = Vec::new();
        for item in db
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
                self.index.add(indexed_ms, Bytes::copy_from_slice(changelog_key));
            }
            if batch.size_in_bytes() > (4 << 20) {
                self.index.write(&db, self.keyspace, &mut batch)?;
                self.db.write(std::mem::take(&mut batch))?;
            }
        }
        self.index.write(&db, self.keyspace, &mut batch)?;
        self.meta = Meta { ttl_ms, ..self.meta };
        self.meta.put(&self.db, self.keyspace, &mut batch)?;
        self.db.write(batch)
    }
}
