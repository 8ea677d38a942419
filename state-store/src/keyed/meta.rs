//! The meta record of a partition: up to where the local copy follows the changelog. Written in one batch with the data.
//!
//! Layout: `01 flags(1) sequence(8) input_offset(8) stream_time_ms(8) changelog_offset(8) rows(8) ttl_ms(8) written_at_ms(8)`,
//! numbers big endian. Flag bit 0: a position is known.

use rocksdb::WriteBatch;

use crate::changelog::{FORMAT, Fields};
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;

/// Up to where a state is: the input it contains, and the changelog records that are in the local copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Position {
    /// The next input offset to read: the state contains exactly the input before it.
    pub input_offset: i64,
    /// Stream time there, in milliseconds.
    pub stream_time_ms: i64,
    /// The next changelog offset to restore from. Never beyond the first record that the local copy does not have; a
    /// smaller one only costs reading.
    pub changelog_offset: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) position: Option<Position>,
    /// Where to restore from while no position is known.
    pub(crate) changelog_offset: i64,
    pub(crate) sequence: u64,
    pub(crate) rows: u64,
    /// The time to live for which the expiry index was built; 0: none.
    pub(crate) ttl_ms: i64,
    /// Wall clock of the last write, in milliseconds since 1970.
    pub(crate) written_at_ms: i64,
}

impl Meta {
    pub(crate) fn read(db: &Database, keyspace: Keyspace) -> Result<Option<Meta>, StateError> {
        let family = db.family(Family::Positions)?;
        let bytes = db
            .rocksdb()
            .get_pinned_cf(family, keyspace.meta_key())
            .map_err(StateError::database("reading a position"))?;
        bytes
            .map(|bytes| Meta::decode(&bytes))
            .transpose()
            .map_err(|detail| StateError::Format {
                place: format!("the position of keyspace {}", keyspace.0),
                detail,
            })
    }

    pub(crate) fn put(&self, db: &Database, keyspace: Keyspace, batch: &mut WriteBatch) -> Result<(), StateError> {
        batch.put_cf(db.family(Family::Positions)?, keyspace.meta_key(), self.encode());
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT, u8::from(self.position.is_some())];
        out.extend_from_slice(&self.sequence.to_be_bytes());
        let position = self.position.unwrap_or(Position {
            input_offset: 0,
            stream_time_ms: 0,
            changelog_offset: self.changelog_offset,
        });
        for number in [
            position.input_offset,
            position.stream_time_ms,
            position.changelog_offset,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.rows.to_be_bytes());
        out.extend_from_slice(&self.ttl_ms.to_be_bytes());
        out.extend_from_slice(&self.written_at_ms.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Meta, String> {
        let rest = Fields::of_value(bytes)?.0;
        let (flags, rest) = rest.split_first().ok_or("no flags")?;
        let mut fields = Fields(rest);
        let sequence = fields.u64()?;
        let position = Position {
            input_offset: fields.i64()?,
            stream_time_ms: fields.i64()?,
            changelog_offset: fields.i64()?,
        };
        Ok(Meta {
            position: (flags & 1 == 1).then_some(position),
            changelog_offset: position.changelog_offset,
            sequence,
            rows: fields.u64()?,
            ttl_ms: fields.i64()?,
            written_at_ms: fields.i64()?,
        })
    }
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn wall_clock_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn meta_records_come_back(known: bool, input: i64, stream: i64, offset: i64, sequence: u64, rows: u64, ttl_ms: i64, written: i64) {
            let position = known.then_some(Position { input_offset: input, stream_time_ms: stream, changelog_offset: offset });
            let meta = Meta { position, changelog_offset: offset, sequence, rows, ttl_ms, written_at_ms: written };
            prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        }

        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(meta) = Meta::decode(&bytes) {
                prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
            }
        }
    }
}
