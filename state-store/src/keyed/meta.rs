//! The meta record of a partition: up to where the local copy follows the changelog. Written in one batch with the data.
//!
//! Layout: `02 flags(1) sequence(8) input_offset(8) stream_time_ms(8) changelog_offset(8) rows(8) ttl_ms(8) written_at_ms(8)
//! changelog_id(16) rebuilds(8) last_rebuild_ms(8) last_reason(1)`, numbers big endian. Flag bit 0: a position is known. An id
//! of zeros: it is not known. Reasons by their number, from 1. Version 01 ends before the id. A copy of any other version is
//! thrown away: the changelog has everything.

use kafka_client::TopicId;
use rocksdb::WriteBatch;

use crate::changelog::Fields;
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;

use super::restore::RebuildReason;

/// How often a local copy had to be made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilds {
    /// Times.
    pub count: u64,
    /// Why, the last time.
    pub last_reason: Option<RebuildReason>,
    /// When that was, in milliseconds since 1970.
    pub last_ms: Option<i64>,
}

impl Rebuilds {
    /// One more.
    pub(crate) fn and(self, reason: RebuildReason, at_ms: i64) -> Rebuilds {
        Rebuilds {
            count: self.count + 1,
            last_reason: Some(reason),
            last_ms: Some(at_ms),
        }
    }
}

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

/// The version that is written.
const VERSION: u8 = 2;
/// The version that knew no ids.
const WITHOUT_ID: u8 = 1;

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
    /// The id of the changelog topic that the copy follows, as far as it is known.
    pub(crate) changelog_id: Option<TopicId>,
    pub(crate) rebuilds: Rebuilds,
}

/// What a keyspace's meta record says.
pub(crate) enum Found {
    /// There is none.
    Nothing,
    Copy(Meta),
    /// It is of another version, or damaged: why the copy is of no use.
    Unusable(String),
}

impl Meta {
    /// The record of a copy that others have open. Error: the database's, or a record that cannot be read.
    pub(crate) fn read(db: &Database, keyspace: Keyspace) -> Result<Option<Meta>, StateError> {
        match Meta::find(db, keyspace)? {
            Found::Nothing => Ok(None),
            Found::Copy(meta) => Ok(Some(meta)),
            Found::Unusable(detail) => Err(StateError::Format {
                place: format!("the position of keyspace {}", keyspace.0),
                detail,
            }),
        }
    }

    pub(crate) fn find(db: &Database, keyspace: Keyspace) -> Result<Found, StateError> {
        let family = db.family(Family::Positions)?;
        let bytes = db
            .rocksdb()
            .get_pinned_cf(family, keyspace.meta_key())
            .map_err(StateError::database("reading a position"))?;
        Ok(match bytes {
            None => Found::Nothing,
            Some(bytes) => Meta::decode(&bytes).map_or_else(Found::Unusable, Found::Copy),
        })
    }

    pub(crate) fn put(&self, db: &Database, keyspace: Keyspace, batch: &mut WriteBatch) -> Result<(), StateError> {
        batch.put_cf(db.family(Family::Positions)?, keyspace.meta_key(), self.encode());
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.position.is_some())];
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
        out.extend_from_slice(&self.changelog_id.map_or([0; 16], |id| *id.as_bytes()));
        out.extend_from_slice(&self.rebuilds.count.to_be_bytes());
        out.extend_from_slice(&self.rebuilds.last_ms.unwrap_or(0).to_be_bytes());
        out.push(self.rebuilds.last_reason.map_or(0, RebuildReason::number));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Meta, String> {
        let (version, rest) = bytes.split_first().ok_or("it is empty")?;
        if ![WITHOUT_ID, VERSION].contains(version) {
            return Err(format!("it is of version {version}, this is {VERSION}"));
        }
        let (flags, rest) = rest.split_first().ok_or("no flags")?;
        let mut fields = Fields(rest);
        let sequence = fields.u64()?;
        let position = Position {
            input_offset: fields.i64()?,
            stream_time_ms: fields.i64()?,
            changelog_offset: fields.i64()?,
        };
        let mut meta = Meta {
            position: (flags & 1 == 1).then_some(position),
            changelog_offset: position.changelog_offset,
            sequence,
            rows: fields.u64()?,
            ttl_ms: fields.i64()?,
            written_at_ms: fields.i64()?,
            changelog_id: None,
            rebuilds: Rebuilds::default(),
        };
        if *version == VERSION {
            meta.changelog_id = TopicId::from_bytes(fields.array()?);
            let (count, last_ms) = (fields.u64()?, fields.i64()?);
            let last_reason = match fields.array::<1>()? {
                [0] => None,
                [number] => {
                    Some(RebuildReason::of_number(number).ok_or_else(|| format!("reason {number} is unknown"))?)
                }
            };
            meta.rebuilds = Rebuilds {
                count,
                last_reason,
                last_ms: last_reason.map(|_| last_ms),
            };
        }
        match fields.0.len() {
            0 => Ok(meta),
            more => Err(format!("{more} bytes too many")),
        }
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
        fn meta_records_come_back(known: bool, input: i64, stream: i64, offset: i64, sequence: u64, rows: u64, ttl_ms: i64, written: i64, id: [u8; 16], reason in 0u8..7, count: u64) {
            let position = known.then_some(Position { input_offset: input, stream_time_ms: stream, changelog_offset: offset });
            let last_reason = RebuildReason::of_number(reason);
            let rebuilds = Rebuilds { count, last_reason, last_ms: last_reason.map(|_| written) };
            let meta = Meta { position, changelog_offset: offset, sequence, rows, ttl_ms, written_at_ms: written, changelog_id: TopicId::from_bytes(id), rebuilds };
            let mut encoded = meta.encode();
            prop_assert_eq!(Meta::decode(&encoded), Ok(meta));
            // As it was written before ids were kept.
            encoded.truncate(encoded.len() - 33);
            encoded[0] = WITHOUT_ID;
            prop_assert_eq!(Meta::decode(&encoded), Ok(Meta { changelog_id: None, rebuilds: Rebuilds::default(), ..meta }));
        }

        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(meta) = Meta::decode(&bytes) {
                prop_assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
            }
        }
    }
}
