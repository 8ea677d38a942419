//! Keyspaces: every partition of a keyed store and every global store owns one, named by words and prefixed by a number.
//!
//! ```text
//! positions family   'N' connector 00 store 00 partition(4, big endian)  ->  id (4, big endian)      the name
//!                    'I'                                                 ->  the last id given out
//!                    'M' id                                              ->  meta record of the keyspace
//! other families     id, ...                                             ->  rows
//! ```
//! Ids are never given out twice, so that what a deleted keyspace left behind cannot come back under another name.

use rocksdb::{DB, WriteBatch};

use crate::database::{Database, Family};
use crate::error::StateError;

/// The number that starts every key of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keyspace(pub(crate) u32);

const LAST_ID: &[u8] = b"I";

impl Keyspace {
    /// The keyspace of that name, made if there is none.
    pub(crate) fn named(db: &Database, owner: &str, store: &str, partition: i32) -> Result<Keyspace, StateError> {
        if let Some(found) = Self::find(db, owner, store, partition)? {
            return Ok(found);
        }
        let _lock = db.naming_lock();
        if let Some(found) = Self::find(db, owner, store, partition)? {
            return Ok(found);
        }
        let family = db.family(Family::Positions)?;
        let last = read_id(db.rocksdb(), family, LAST_ID)?.unwrap_or(0);
        let id = last.checked_add(1).ok_or_else(|| StateError::Corrupt {
            path: db.path().to_path_buf(),
            detail: "all keyspace ids are used up".into(),
        })?;
        let mut batch = WriteBatch::default();
        batch.put_cf(family, LAST_ID, id.to_be_bytes());
        batch.put_cf(family, name_key(owner, store, partition), id.to_be_bytes());
        db.write(batch)?;
        Ok(Keyspace(id))
    }

    /// The keyspace of that name, if there is one.
    pub(crate) fn find(
        db: &Database,
        owner: &str,
        store: &str,
        partition: i32,
    ) -> Result<Option<Keyspace>, StateError> {
        let family = db.family(Family::Positions)?;
        Ok(read_id(db.rocksdb(), family, &name_key(owner, store, partition))?.map(Keyspace))
    }

    /// Every partition of a store that this worker has a copy of, in ascending order.
    pub(crate) fn partitions(db: &Database, owner: &str, store: &str) -> Result<Vec<(i32, Keyspace)>, StateError> {
        let mut prefix = name_key(owner, store, 0);
        prefix.truncate(prefix.len() - 4);
        let mut found = Vec::new();
        let family = db.family(Family::Positions)?;
        for item in db.rocksdb().prefix_iterator_cf(family, &prefix) {
            let (key, value) = item.map_err(StateError::database("listing partitions"))?;
            let Some(partition) = key.strip_prefix(prefix.as_slice()) else {
                break;
            };
            if let (Ok(partition), Ok(id)) = (<[u8; 4]>::try_from(partition), <[u8; 4]>::try_from(value.as_ref())) {
                found.push((i32::from_be_bytes(partition), Keyspace(u32::from_be_bytes(id))));
            }
        }
        Ok(found)
    }

    /// The key of the meta record in the positions family.
    pub(crate) fn meta_key(self) -> [u8; 5] {
        let [a, b, c, d] = self.0.to_be_bytes();
        [b'M', a, b, c, d]
    }

    /// Starts a key: the id.
    pub(crate) fn prefix(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// The first key that no longer belongs to the keyspace.
    pub(crate) fn end(self) -> [u8; 4] {
        self.0.saturating_add(1).to_be_bytes()
    }

    /// The full key of `rest` in `out`.
    pub(crate) fn key_into(self, rest: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.prefix());
        out.extend_from_slice(rest);
    }
}

fn name_key(owner: &str, store: &str, partition: i32) -> Vec<u8> {
    let mut key = vec![b'N'];
    for part in [owner, store] {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

fn read_id(db: &DB, family: &rocksdb::ColumnFamily, key: &[u8]) -> Result<Option<u32>, StateError> {
    let value = db
        .get_pinned_cf(family, key)
        .map_err(StateError::database("reading a keyspace id"))?;
    Ok(value
        .and_then(|bytes| <[u8; 4]>::try_from(bytes.as_ref()).ok())
        .map(u32::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::MemoryBudget;

    #[test]
    fn names_keep_their_ids_and_partitions_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Database::open(directory.path(), MemoryBudget::default()).unwrap();
        let db = open();
        let first = Keyspace::named(&db, "sink", "store", 0).unwrap();
        let second = Keyspace::named(&db, "sink", "store", 7).unwrap();
        let other = Keyspace::named(&db, "sink", "store2", 0).unwrap();
        assert!(first != second && second != other);
        drop(db);
        let db = open();
        assert_eq!(Keyspace::named(&db, "sink", "store", 0).unwrap(), first);
        assert_eq!(
            Keyspace::partitions(&db, "sink", "store").unwrap(),
            vec![(0, first), (7, second)]
        );
        assert_eq!(Keyspace::find(&db, "sink", "none", 0).unwrap(), None);
    }
}
