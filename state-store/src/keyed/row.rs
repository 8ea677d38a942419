//! A row of the local copy: `index time(8)`, then the changelog record's value.
//!
//! The index time is where the expiry index has the row. It may lie before the row's expiry: a row that is touched again
//! keeps its place in the index, and moves when that place comes due (see `expiry`), so that touching costs no index write.

use rocksdb::DBPinnableSlice;

use crate::changelog::StateRecord;
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;
use crate::ttl::{from_ordered_bytes, ordered_bytes};

/// The index time of a row that the index does not have.
pub(crate) const NOT_INDEXED: i64 = i64::MAX;

/// A row, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) indexed_ms: i64,
    pub(crate) record: StateRecord<'a>,
}

impl<'a> Row<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Row<'a>, String> {
        let (indexed, value) = bytes.split_first_chunk::<8>().ok_or("the row is too short")?;
        Ok(Row {
            indexed_ms: from_ordered_bytes(*indexed),
            record: StateRecord::decode(value)?,
        })
    }

    /// The row for a changelog value.
    pub(crate) fn encode_into(indexed_ms: i64, value: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&ordered_bytes(indexed_ms));
        out.extend_from_slice(value);
    }
}

/// The row under a changelog key, if there is one. `key` is scratch.
pub(crate) fn read<'a>(
    db: &'a Database,
    keyspace: Keyspace,
    changelog_key: &[u8],
    key: &mut Vec<u8>,
) -> Result<Option<DBPinnableSlice<'a>>, StateError> {
    keyspace.key_into(changelog_key, key);
    db.rocksdb()
        .get_pinned_cf(db.family(Family::Data)?, key)
        .map_err(StateError::database("reading a row"))
}
