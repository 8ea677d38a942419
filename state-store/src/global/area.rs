//! The two areas of a global store: one serves, the other stages what is not served yet.
//!
//! Row key: keyspace id (4), area (1), key. Row value: a flag (0 tombstone, 1 value), then the value. Tombstones occur only
//! in the staging area, where they delete a row of the serving one when the version is promoted.

use rocksdb::{ReadOptions, WriteBatch};

use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) keyspace: Keyspace,
    /// 0 or 1.
    pub(crate) number: u8,
}

/// What an area says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Value,
    Tombstone,
    Nothing,
}

impl Area {
    pub(crate) const TOMBSTONE: u8 = 0;
    pub(crate) const VALUE: u8 = 1;

    pub(crate) fn other(self) -> Area {
        Area {
            keyspace: self.keyspace,
            number: 1 - self.number,
        }
    }

    fn start(self) -> [u8; 5] {
        let [a, b, c, d] = self.keyspace.prefix();
        [a, b, c, d, self.number]
    }

    fn end(self) -> [u8; 5] {
        let [a, b, c, d] = self.keyspace.prefix();
        [a, b, c, d, self.number + 1]
    }

    pub(crate) fn key_onto(self, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start());
        out.extend_from_slice(key);
    }

    pub(crate) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(5 + key.len());
        self.key_onto(key, &mut out);
        out
    }

    pub(crate) fn value_onto(value: Option<&[u8]>, out: &mut Vec<u8>) {
        match value {
            Some(value) => {
                out.push(Self::VALUE);
                out.extend_from_slice(value);
            }
            None => out.push(Self::TOMBSTONE),
        }
    }

    pub(crate) fn presence(self, db: &Database, key: &[u8]) -> Result<Presence, StateError> {
        let found = db
            .rocksdb()
            .get_pinned_cf(db.family(Family::Global)?, self.key(key))
            .map_err(StateError::database("reading a row"))?;
        Ok(match found.as_deref().and_then(<[u8]>::first) {
            Some(&Self::VALUE) => Presence::Value,
            Some(_) => Presence::Tombstone,
            None => Presence::Nothing,
        })
    }

    /// Deletes the area, in a batch of its own. Where nothing is, nothing is written: files that are taken in later would
    /// otherwise lie above a deletion, and be compacted with it.
    pub(crate) fn clear(self, db: &Database) -> Result<(), StateError> {
        if self.is_empty(db)? {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        self.clear_in(db, &mut batch)?;
        db.write(batch)
    }

    pub(crate) fn clear_in(self, db: &Database, batch: &mut WriteBatch) -> Result<(), StateError> {
        batch.delete_range_cf(db.family(Family::Global)?, self.start(), self.end());
        Ok(())
    }

    fn is_empty(self, db: &Database) -> Result<bool, StateError> {
        let mut empty = true;
        self.for_each(db, |_, _| {
            empty = false;
            false
        })?;
        Ok(empty)
    }

    pub(crate) fn count_rows(self, db: &Database) -> Result<u64, StateError> {
        let mut rows = 0;
        self.for_each(db, |_, value| {
            rows += u64::from(value.is_some());
            true
        })?;
        Ok(rows)
    }

    /// Rows from the first on, as key and value (none: a tombstone), until `each` returns false.
    pub(crate) fn for_each(
        self,
        db: &Database,
        mut each: impl FnMut(&[u8], Option<&[u8]>) -> bool,
    ) -> Result<(), StateError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.end());
        options.fill_cache(false);
        let start = self.start();
        let mut rows = db.rocksdb().raw_iterator_cf_opt(db.family(Family::Global)?, options);
        rows.seek(start);
        while let Some((key, value)) = rows.item() {
            let value = match value.split_first() {
                Some((&Self::VALUE, value)) => Some(value),
                _ => None,
            };
            if !each(key.get(5..).unwrap_or_default(), value) {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(StateError::database("reading rows"))
    }

    /// Rows whose keys start with `prefix`, in key order, as key and value: from the first on, or from the one after the key
    /// `after`, until `each` returns false. One row is in memory at a time.
    pub(crate) fn visit(
        self,
        db: &Database,
        prefix: &[u8],
        after: Option<&[u8]>,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StateError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.end());
        options.fill_cache(false);
        let first = self.key(prefix);
        let mut rows = db.rocksdb().raw_iterator_cf_opt(db.family(Family::Global)?, options);
        match after.map(|after| self.key(after)).filter(|after| *after >= first) {
            Some(mut after) => {
                // The key that follows directly.
                after.push(0);
                rows.seek(after);
            }
            None => rows.seek(&first),
        }
        while let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(&first)) {
            if let Some((&Self::VALUE, value)) = value.split_first()
                && !each(key.get(5..).unwrap_or_default(), value)
            {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(StateError::database("scanning rows"))
    }
}
