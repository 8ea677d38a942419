//! One store x one input partition, owned by one task thread.
//!
//! ```text
//! get / get_or_insert_with / remove          cache        (decoded values; what is dirty)
//!   -> changes()                             barrier      (encode; the next generation starts)
//!   -> [the owner's transaction]
//!   -> committed() | aborted()               barrier      (one RocksDB batch | forget)
//! changelog records -> restore()             restore      (bulk apply)
//! due() -> expired entries                   expiry       (index in expiry order)
//! other threads -> KeyedReader               reader       (what is committed)
//! ```
//! The owner calls in this order: `open`, `restore` for every changelog record from the local position to the end,
//! `finish_restore`, then reads and writes; at each barrier `changes`, a transaction with their records, and `committed` with
//! the position or `aborted`. Dirty values stay in the cache until `committed`: nothing uncommitted is ever on disk.

mod barrier;
mod cache;
mod expiry;
mod expiry_index;
mod meta;
mod reader;
mod restore;
mod row;

pub use barrier::Changes;
pub use expiry::ExpiredEntry;
pub(crate) use meta::wall_clock_ms;
pub use meta::{Position, Rebuilds};
pub(crate) use reader::side_records;
pub use reader::{CommittedEntry, KeyedReader};
pub use restore::{CopyState, RebuildReason, RestorePlan, TopicState, plan_restore};

use std::collections::HashMap;

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use kafka_client::TopicId;

use crate::changelog::{ChangelogKey, EntryVersion, StateRecord};
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;
use crate::ttl::{Since, Ttl};
use cache::{Cache, Slot, SlotId, Stored};
use expiry_index::ExpiryIndex;
use meta::{Found, Meta};
use row::Row;

/// A value of a keyed store.
pub trait StateValue: Sized + Send + 'static {
    /// Appends the value's bytes; the same value always gives the same bytes. They should start with a format version.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads a value. Error: what is wrong with the bytes; never a panic.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
    /// Bytes that the value holds on the heap, about.
    fn heap_bytes(&self) -> usize;
}

/// What a partition of a keyed store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedSpec {
    /// The connector that owns it.
    pub connector: String,
    /// The store.
    pub store: String,
    /// The input partition, and the changelog's.
    pub partition: i32,
    /// When entries expire; none: never.
    pub ttl: Option<Ttl>,
    /// Expired entries wait for the archive: a key that is born again leaves its expired version behind for it.
    pub archive: bool,
}

impl std::fmt::Display for KeyedSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "store {} of connector {}, partition {}",
            self.store, self.connector, self.partition
        )
    }
}

/// One store x one input partition. No locks: it belongs to one thread.
pub struct KeyedPartition<V: StateValue> {
    db: Database,
    spec: KeyedSpec,
    keyspace: Keyspace,
    cache: Cache<V>,
    /// What is committed, in the changelog and in the local copy.
    meta: Meta,
    /// Barriers taken so far; the next one gets the number after it.
    barriers: u64,
    /// Counts aborts: changes taken before one are void after it.
    incarnation: u64,
    stream_time_ms: i64,
    /// Superseded versions since the last barrier: puts, and tombstones for those that are archived.
    superseded: HashMap<Bytes, Option<Bytes>, DefaultHashBuilder>,
    restoring: restore::Buffer,
    /// The changelog says whose it is.
    whose_written: bool,
    index: ExpiryIndex,
    /// Scratch for keys.
    key: Vec<u8>,
}

impl<V: StateValue> std::fmt::Debug for KeyedPartition<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedPartition")
            .field("spec", &self.spec)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

impl<V: StateValue> KeyedPartition<V> {
    /// Opens the local copy, empty if there is none. What it lacks is then restored from the changelog.
    ///
    /// Errors: [`StateError::AlreadyOpen`] while another task of this worker has it; database errors. A time to live that
    /// differs from the last one rebuilds the expiry index, which reads every row once. A copy of another version of millrace
    /// is deleted.
    pub fn open(db: &Database, spec: KeyedSpec) -> Result<Self, StateError> {
        if let Some(ttl) = spec.ttl
            && ttl.after_ms < 1
        {
            return Err(StateError::Setting {
                store: spec.store,
                detail: "ttl.after must be at least 1 ms".into(),
            });
        }
        let keyspace = Keyspace::named(db, &spec.connector, &spec.store, spec.partition)?;
        let (meta, unusable) = match Meta::find(db, keyspace)? {
            Found::Copy(meta) => (meta, None),
            Found::Nothing => (Meta::default(), None),
            Found::Unusable(reason) => (Meta::default(), Some(reason)),
        };
        if !db.claim(keyspace.0) {
            return Err(StateError::AlreadyOpen {
                keyspace: spec.to_string(),
            });
        }
        db.count_partition(true);
        let mut partition = KeyedPartition {
            db: db.clone(),
            keyspace,
            cache: Cache::new(),
            meta,
            barriers: meta.sequence,
            incarnation: 0,
            stream_time_ms: meta.position.map_or(i64::MIN, |position| position.stream_time_ms),
            superseded: HashMap::default(),
            restoring: restore::Buffer::default(),
            whose_written: false,
            index: ExpiryIndex::new(),
            key: Vec::new(),
            spec,
        };
        if let Some(reason) = unusable {
            tracing::warn!(store = %partition.spec, reason, "the local copy is deleted and restored from its changelog");
            partition.clear()?;
        }
        partition.whose_written = !partition.side_records(&ChangelogKey::Whose.encode())?.is_empty();
        partition.adopt_ttl()?;
        Ok(partition)
    }

    /// What it was opened as.
    pub fn spec(&self) -> &KeyedSpec {
        &self.spec
    }

    /// The value of a key at that stream time; none if there is none or it has expired. Stream time does not go back: the
    /// largest one given so far counts.
    pub fn get(&mut self, key: &[u8], stream_time_ms: i64) -> Result<Option<&V>, StateError> {
        let now_ms = self.move_time(stream_time_ms);
        self.get_as_of(key, now_ms)
    }

    /// The value of a key at a time that is its own: where those who share the store have times of their own, each has its
    /// own keys, and gives times for them that do not go back.
    ///
    /// In a store whose time to live counts from access this touches the entry, which makes it dirty.
    /// Errors: the database's, or [`StateError::Format`] for bytes that do not decode.
    pub fn get_as_of(&mut self, key: &[u8], now_ms: i64) -> Result<Option<&V>, StateError> {
        let id = self.slot(key)?;
        if !self.is_live(id, now_ms) {
            return Ok(None);
        }
        if matches!(
            self.spec.ttl,
            Some(Ttl {
                since: Since::Access,
                ..
            })
        ) {
            self.touch(id, now_ms);
        }
        Ok(self.cache.get(id).and_then(|slot| slot.value.as_ref()))
    }

    /// The value of a key for writing, made by `init` if there is none or it has expired. Marks it dirty.
    pub fn get_or_insert_with(
        &mut self,
        key: &[u8],
        stream_time_ms: i64,
        init: impl FnOnce() -> V,
    ) -> Result<&mut V, StateError> {
        let now_ms = self.move_time(stream_time_ms);
        self.get_or_insert_as_of(key, now_ms, init)
    }

    /// As [`Self::get_or_insert_with`], at a time that is the key's own ([`Self::get_as_of`]).
    pub fn get_or_insert_as_of(
        &mut self,
        key: &[u8],
        now_ms: i64,
        init: impl FnOnce() -> V,
    ) -> Result<&mut V, StateError> {
        let id = self.slot(key)?;
        let live = self.is_live(id, now_ms);
        if !live && self.spec.archive {
            self.supersede(id);
        }
        self.cache.mark_dirty(id);
        let slot = self.cache.get_mut(id).ok_or_else(|| lost_slot(&self.spec))?;
        slot.touched_ms = if live { slot.touched_ms.max(now_ms) } else { now_ms };
        if live {
            Ok(slot.value.get_or_insert_with(init))
        } else {
            Ok(slot.value.insert(init()))
        }
    }

    /// Removes a key, whether it is there or not. An expired entry that waits for the archive is removed with it.
    pub fn remove(&mut self, key: &[u8]) {
        let id = match self.cache.find(key) {
            Some(id) => id,
            None => {
                let limit = self.db.value_cache_share();
                self.cache.insert(key, Slot::new(None, 0, Stored::Unknown), limit)
            }
        };
        self.cache.mark_dirty(id);
        if let Some(slot) = self.cache.get_mut(id) {
            slot.value = None;
        }
    }

    /// Puts a value that was archived back, as if it were written now. False: the key has a live entry, which stays.
    pub fn restore_archived(&mut self, key: &[u8], payload: &[u8], stream_time_ms: i64) -> Result<bool, StateError> {
        if self.get(key, stream_time_ms)?.is_some() {
            return Ok(false);
        }
        let value = V::decode(payload).map_err(|detail| self.unreadable(key, detail))?;
        self.get_or_insert_with(key, stream_time_ms, || value)?;
        Ok(true)
    }

    /// Entries changed since the last barrier.
    pub fn dirty_entries(&self) -> usize {
        self.cache.dirty_len() + self.superseded.len()
    }

    /// Bytes in the cache, as of each entry's last barrier.
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// The cache is mostly full of what only a commit can release: the owner should take a barrier now.
    pub fn needs_commit(&self) -> bool {
        self.cache.held_bytes() > self.db.value_cache_share() / 4 * 3
    }

    /// What the local copy has; none: nothing has been committed or restored yet.
    pub fn position(&self) -> Option<Position> {
        self.meta.position
    }

    /// Where restoring from the changelog goes on: the next offset that the local copy lacks; 0 for an empty copy.
    pub fn changelog_offset(&self) -> i64 {
        self.meta
            .position
            .map_or(self.meta.changelog_offset, |position| position.changelog_offset)
    }

    /// Wall clock of the last write to the local copy, in milliseconds since 1970; 0: never written. A copy older than the
    /// changelog's `delete.retention.ms` may lack tombstones ([`plan_restore`]).
    pub fn written_at_ms(&self) -> i64 {
        self.meta.written_at_ms
    }

    /// The local copy, as far as carrying it on goes.
    pub fn copy_state(&self) -> CopyState {
        CopyState {
            offset: (self.changelog_offset() > 0).then(|| self.changelog_offset()),
            written_at_ms: self.meta.written_at_ms,
            topic_id: self.meta.changelog_id,
        }
    }

    /// How often the local copy had to be made anew, and the last time.
    pub fn rebuilds(&self) -> Rebuilds {
        self.meta.rebuilds
    }

    /// The changelog topic has this id (none: the brokers have none); kept with the next write.
    pub fn set_changelog_id(&mut self, id: Option<TopicId>) {
        self.meta.changelog_id = id;
    }

    /// Stream time as far as this partition knows it: the largest time given, from the committed one on.
    pub fn stream_time_ms(&self) -> Option<i64> {
        (self.stream_time_ms > i64::MIN).then_some(self.stream_time_ms)
    }

    /// Entries in the local copy, expired ones that are not deleted yet among them.
    pub fn len_estimate(&self) -> u64 {
        self.meta.rows
    }

    /// A handle with which other threads read what is committed.
    pub fn reader(&self) -> KeyedReader {
        KeyedReader::new(&self.db, self.keyspace, &self.spec)
    }

    /// Records of the owner ([`crate::changelog::owner_record`]) in the local copy: key and value, ordered by key.
    pub fn owner_records(&self) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.side_records(&ChangelogKey::Owner(&[]).encode())
    }

    /// Side records whose changelog key starts with `start`, without that start.
    pub(crate) fn side_records(&self, start: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        reader::side_records(&self.db, self.keyspace, start)
    }

    fn move_time(&mut self, stream_time_ms: i64) -> i64 {
        self.stream_time_ms = self.stream_time_ms.max(stream_time_ms);
        self.stream_time_ms
    }

    fn is_live(&self, id: SlotId, now_ms: i64) -> bool {
        self.cache.get(id).is_some_and(|slot| {
            slot.value.is_some() && !self.spec.ttl.is_some_and(|ttl| ttl.is_expired(slot.touched_ms, now_ms))
        })
    }

    fn touch(&mut self, id: SlotId, now_ms: i64) {
        if self.cache.get(id).is_some_and(|slot| slot.touched_ms < now_ms) {
            self.cache.mark_dirty(id);
            if let Some(slot) = self.cache.get_mut(id) {
                slot.touched_ms = now_ms;
            }
        }
    }

    /// The slot of a key, filled from the local copy if the cache has none.
    fn slot(&mut self, key: &[u8]) -> Result<SlotId, StateError> {
        if let Some(id) = self.cache.find(key) {
            return Ok(id);
        }
        let slot = self.load(key)?;
        let limit = self.db.value_cache_share();
        Ok(self.cache.insert(key, slot, limit))
    }

    fn load(&mut self, key: &[u8]) -> Result<Slot<V>, StateError> {
        self.local_key(&ChangelogKey::Entry(key));
        let found = self
            .db
            .rocksdb()
            .get_pinned_cf(self.db.family(Family::Data)?, &self.key)
            .map_err(StateError::database("reading an entry"))?;
        let Some(bytes) = found else {
            return Ok(Slot::new(None, 0, Stored::Absent));
        };
        let row = Row::decode(&bytes).map_err(|detail| self.unreadable(key, detail))?;
        let value = V::decode(row.record.payload).map_err(|detail| self.unreadable(key, detail))?;
        let version = row.record.version;
        Ok(Slot::new(
            Some(value),
            version.touched_ms,
            Stored::Row(version, row.indexed_ms),
        ))
    }

    /// Puts the local key of a changelog key into `self.key`.
    fn local_key(&mut self, key: &ChangelogKey<'_>) {
        self.key.clear();
        self.key.extend_from_slice(&self.keyspace.prefix());
        key.encode_into(&mut self.key);
    }

    /// Keeps an expired version for the archive, before its key is born again.
    fn supersede(&mut self, id: SlotId) {
        let Some(slot) = self.cache.get(id) else { return };
        let Some(value) = &slot.value else { return };
        let sequence = match slot.stored {
            _ if slot.dirty => self.barriers + 1,
            _ if slot.in_flight != 0 => slot.in_flight,
            Stored::Row(version, _) => version.sequence,
            Stored::Unknown | Stored::Absent => self.barriers + 1,
        };
        let version = EntryVersion {
            sequence,
            touched_ms: slot.touched_ms,
        };
        let mut encoded = Vec::new();
        StateRecord::encode_header(version, &mut encoded);
        value.encode(&mut encoded);
        let key = ChangelogKey::Superseded(version, &slot.key).encode();
        self.superseded.insert(key.into(), Some(encoded.into()));
    }

    fn unreadable(&self, key: &[u8], detail: String) -> StateError {
        StateError::Format {
            place: format!("{}, key {}", self.spec, printable(key)),
            detail,
        }
    }
}

impl<V: StateValue> Drop for KeyedPartition<V> {
    fn drop(&mut self) {
        self.db.count_partition(false);
        self.db.release(self.keyspace.0);
    }
}

fn lost_slot(spec: &KeyedSpec) -> StateError {
    StateError::Format {
        place: spec.to_string(),
        detail: "a cache slot is gone while it is in use".into(),
    }
}

/// A key for people: its first 64 bytes, escaped.
pub(crate) fn printable(key: &[u8]) -> String {
    let shown = key.get(..64).unwrap_or(key).escape_ascii();
    if key.len() > 64 {
        format!("{shown}... ({} bytes)", key.len())
    } else {
        shown.to_string()
    }
}
