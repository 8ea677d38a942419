//! What is committed of a partition, for other threads: queries over REST, and the archive's manifests.

use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions};

use super::meta::{Meta, Position, Rebuilds};
use super::row::Row;
use super::{KeyedSpec, printable};
use crate::changelog::{ChangelogKey, EntryVersion};
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;
use crate::ttl::Ttl;

/// An entry as the last commit left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// The store-local key.
    pub key: Bytes,
    /// Its version; `touched_ms` is what its time to live counts from.
    pub version: EntryVersion,
    /// The value as [`crate::StateValue::encode`] wrote it.
    pub payload: Bytes,
}

/// Reads the local copy of one partition from any thread. Sees commits only, each whole or not at all per key.
#[derive(Clone, Debug)]
pub struct KeyedReader {
    db: Database,
    keyspace: Keyspace,
    ttl: Option<Ttl>,
    name: String,
}

impl KeyedReader {
    pub(super) fn new(db: &Database, keyspace: Keyspace, spec: &KeyedSpec) -> KeyedReader {
        KeyedReader {
            db: db.clone(),
            keyspace,
            ttl: spec.ttl,
            name: spec.to_string(),
        }
    }

    /// A reader of a partition that this worker has a copy of, as owner or standby.
    pub fn open(db: &Database, spec: &KeyedSpec) -> Result<Option<KeyedReader>, StateError> {
        let keyspace = Keyspace::find(db, &spec.connector, &spec.store, spec.partition)?;
        Ok(keyspace.map(|keyspace| KeyedReader::new(db, keyspace, spec)))
    }

    /// Up to where the copy is.
    pub fn position(&self) -> Result<Option<Position>, StateError> {
        Ok(Meta::read(&self.db, self.keyspace)?.and_then(|meta| meta.position))
    }

    /// How often the copy had to be made anew.
    pub fn rebuilds(&self) -> Result<Rebuilds, StateError> {
        Ok(Meta::read(&self.db, self.keyspace)?.map_or(Rebuilds::default(), |meta| meta.rebuilds))
    }

    /// Entries in the copy, expired ones that are not deleted yet among them.
    pub fn len_estimate(&self) -> Result<u64, StateError> {
        Ok(Meta::read(&self.db, self.keyspace)?.map_or(0, |meta| meta.rows))
    }

    /// The entry of a key; none if there is none or it has expired at the committed stream time.
    pub fn get(&self, key: &[u8]) -> Result<Option<CommittedEntry>, StateError> {
        let mut local = Vec::new();
        self.keyspace.key_into(&ChangelogKey::Entry(key).encode(), &mut local);
        let found = self
            .db
            .rocksdb()
            .get_pinned_cf(self.db.family(Family::Data)?, &local)
            .map_err(StateError::database("reading an entry"))?;
        let now_ms = self.stream_time_ms()?;
        found
            .map(|bytes| self.entry(key, &bytes))
            .transpose()
            .map(|entry| entry.filter(|entry| self.is_live(entry, now_ms)))
    }

    /// Entries whose keys start with `prefix`, in key order: from the first on, or from the one after the key `after`, until
    /// `each` returns false. It is told of each whether it is live; those that have expired may be many. As of one moment; one
    /// entry is in memory at a time.
    pub fn visit(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        mut each: impl FnMut(CommittedEntry, bool) -> bool,
    ) -> Result<(), StateError> {
        let now_ms = self.stream_time_ms()?;
        let local = |key: &[u8]| {
            let mut local = Vec::new();
            self.keyspace.key_into(&ChangelogKey::Entry(key).encode(), &mut local);
            local
        };
        let first = local(prefix);
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.keyspace.end());
        options.fill_cache(false);
        let family = self.db.family(Family::Data)?;
        let mut rows = self.db.rocksdb().raw_iterator_cf_opt(family, options);
        match after.map(local).filter(|after| *after >= first) {
            Some(mut after) => {
                // The key that follows directly.
                after.push(0);
                rows.seek(after);
            }
            None => rows.seek(&first),
        }
        while let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(&first)) {
            let entry = self.entry(key.get(5..).unwrap_or_default(), value)?;
            let is_live = self.is_live(&entry, now_ms);
            if !each(entry, is_live) {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(StateError::database("scanning a store"))
    }

    fn stream_time_ms(&self) -> Result<i64, StateError> {
        Ok(self.position()?.map_or(i64::MIN, |position| position.stream_time_ms))
    }

    fn is_live(&self, entry: &CommittedEntry, now_ms: i64) -> bool {
        !self
            .ttl
            .is_some_and(|ttl| ttl.is_expired(entry.version.touched_ms, now_ms))
    }

    fn entry(&self, key: &[u8], row: &[u8]) -> Result<CommittedEntry, StateError> {
        let row = Row::decode(row).map_err(|detail| StateError::Format {
            place: format!("{}, key {}", self.name, printable(key)),
            detail,
        })?;
        Ok(CommittedEntry {
            key: Bytes::copy_from_slice(key),
            version: row.record.version,
            payload: Bytes::copy_from_slice(row.record.payload),
        })
    }
}

/// Side records whose changelog key starts with `start`, without that start, in key order.
pub(crate) fn side_records(db: &Database, keyspace: Keyspace, start: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StateError> {
    let mut from = Vec::new();
    keyspace.key_into(start, &mut from);
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(keyspace.end());
    let mut records = Vec::new();
    let family = db.family(Family::Archive)?;
    for item in db
        .rocksdb()
        .iterator_cf_opt(family, options, IteratorMode::From(&from, Direction::Forward))
    {
        let (key, value) = item.map_err(StateError::database("reading side records"))?;
        let Some(rest) = key.strip_prefix(from.as_slice()) else {
            break;
        };
        records.push((Bytes::copy_from_slice(rest), Bytes::copy_from_slice(&value)));
    }
    Ok(records)
}
