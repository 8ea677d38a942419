//! The records of a changelog topic: the one place that knows their bytes.
//!
//! Changelog partition p holds the state of input partition p. Every key starts with a byte that says what the record is:
//!
//! ```text
//! key                                                value
//! 01 key                                             state: the entry of a store-local key
//! 02                                                 position: where the input stands with this state
//! 03 id(8)                                           intent: see the archive module
//! 04 id(8)                                           manifest: see the archive module
//! 05 sequence(8) touched_ms(8) key                   superseded: an expired version that waits for the archive while
//!                                                    its key lives again
//! 06 anything                                        owner: records that the owner keeps with its state
//! 07                                                 whose: the connector and the store whose changelog it is, joined by 00
//!
//! state, superseded    01 sequence(8) touched_ms(8) payload
//! position             01 sequence(8) input_offset(8) stream_time_ms(8)
//! ```
//! Numbers are big endian; the first byte of a value is the format's version. A record without a value is a tombstone.
//! `sequence` numbers the barriers of a partition: an entry's version is its sequence and touched time, and no two versions
//! of one key are alike. The first barrier writes whose changelog it is: topics are named by connector and store, and two pairs
//! may have one name (`a-b` and `c`, `a` and `b-c`). The position record is authoritative: the state up to it contains exactly the input before
//! `input_offset`. Readers use `isolation.level=read_committed`, so only records of committed transactions are restored.

use bytes::Bytes;

/// The format version that starts each value.
pub const FORMAT: u8 = 1;

/// Format, sequence and touched time: what comes before the payload of a state record.
const STATE_HEADER: usize = 1 + 8 + 8;

const ENTRY: u8 = 1;
const POSITION: u8 = 2;
const INTENT: u8 = 3;
const MANIFEST: u8 = 4;
const SUPERSEDED: u8 = 5;
const OWNER: u8 = 6;
const WHOSE: u8 = 7;

/// A record to be written to the changelog, or one read from it. No value: a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRecord {
    /// The record's key.
    pub key: Bytes,
    /// The record's value.
    pub value: Option<Bytes>,
}

/// Which version of an entry: the barrier that committed it and the time it was last touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryVersion {
    /// Number of the barrier.
    pub sequence: u64,
    /// What its time to live counts from, in milliseconds of stream time.
    pub touched_ms: i64,
}

/// A changelog key, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangelogKey<'a> {
    /// The entry of a store-local key.
    Entry(&'a [u8]),
    /// The position of the input.
    Position,
    /// An archive intent.
    Intent(u64),
    /// An archive manifest record.
    Manifest(u64),
    /// An expired version of a key that lives again.
    Superseded(EntryVersion, &'a [u8]),
    /// A record of the owner.
    Owner(&'a [u8]),
    /// Whose changelog it is.
    Whose,
}

impl<'a> ChangelogKey<'a> {
    /// Takes a key apart. Error: what is wrong with it.
    pub fn decode(bytes: &'a [u8]) -> Result<ChangelogKey<'a>, String> {
        let (kind, rest) = bytes.split_first().ok_or("the key is empty")?;
        Ok(match *kind {
            ENTRY => ChangelogKey::Entry(rest),
            POSITION if rest.is_empty() => ChangelogKey::Position,
            INTENT => ChangelogKey::Intent(only_u64(rest)?),
            MANIFEST => ChangelogKey::Manifest(only_u64(rest)?),
            SUPERSEDED => {
                let mut fields = Fields(rest);
                let version = EntryVersion {
                    sequence: fields.u64()?,
                    touched_ms: fields.i64()?,
                };
                ChangelogKey::Superseded(version, fields.0)
            }
            OWNER => ChangelogKey::Owner(rest),
            WHOSE if rest.is_empty() => ChangelogKey::Whose,
            kind => return Err(format!("key kind {kind} is not one of this version")),
        })
    }

    /// Appends the key's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            ChangelogKey::Entry(key) => {
                out.push(ENTRY);
                out.extend_from_slice(key);
            }
            ChangelogKey::Position => out.push(POSITION),
            ChangelogKey::Whose => out.push(WHOSE),
            ChangelogKey::Intent(id) => {
                out.push(INTENT);
                out.extend_from_slice(&id.to_be_bytes());
            }
            ChangelogKey::Manifest(id) => {
                out.push(MANIFEST);
                out.extend_from_slice(&id.to_be_bytes());
            }
            ChangelogKey::Superseded(version, key) => {
                out.push(SUPERSEDED);
                out.extend_from_slice(&version.sequence.to_be_bytes());
                out.extend_from_slice(&version.touched_ms.to_be_bytes());
                out.extend_from_slice(key);
            }
            ChangelogKey::Owner(key) => {
                out.push(OWNER);
                out.extend_from_slice(key);
            }
        }
    }

    /// The key's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }
}

/// The value of a state record (or a superseded one), taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRecord<'a> {
    /// The entry's version.
    pub version: EntryVersion,
    /// The value as [`crate::StateValue::encode`] wrote it.
    pub payload: &'a [u8],
}

impl<'a> StateRecord<'a> {
    /// Takes a value apart. Error: what is wrong with it.
    pub fn decode(bytes: &'a [u8]) -> Result<StateRecord<'a>, String> {
        let mut fields = Fields::of_value(bytes)?;
        let version = EntryVersion {
            sequence: fields.u64()?,
            touched_ms: fields.i64()?,
        };
        Ok(StateRecord {
            version,
            payload: fields.0,
        })
    }

    /// The payload of a value that is known to be well formed.
    pub(crate) fn payload_of(bytes: &[u8]) -> &[u8] {
        bytes.get(STATE_HEADER..).unwrap_or_default()
    }

    /// Appends what comes before the payload.
    pub fn encode_header(version: EntryVersion, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.extend_from_slice(&version.sequence.to_be_bytes());
        out.extend_from_slice(&version.touched_ms.to_be_bytes());
    }
}

/// The value of a position record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionRecord {
    /// Number of the barrier that wrote it.
    pub sequence: u64,
    /// The next input offset to read.
    pub input_offset: i64,
    /// Stream time at the barrier, in milliseconds.
    pub stream_time_ms: i64,
}

impl PositionRecord {
    /// Takes a value apart. Error: what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<PositionRecord, String> {
        let mut fields = Fields::of_value(bytes)?;
        let record = PositionRecord {
            sequence: fields.u64()?,
            input_offset: fields.i64()?,
            stream_time_ms: fields.i64()?,
        };
        if fields.0.is_empty() {
            Ok(record)
        } else {
            Err(format!("{} bytes too many", fields.0.len()))
        }
    }

    /// The whole record.
    pub fn to_record(self) -> ChangeRecord {
        let mut value = vec![FORMAT];
        value.extend_from_slice(&self.sequence.to_be_bytes());
        value.extend_from_slice(&self.input_offset.to_be_bytes());
        value.extend_from_slice(&self.stream_time_ms.to_be_bytes());
        ChangeRecord {
            key: ChangelogKey::Position.encode().into(),
            value: Some(value.into()),
        }
    }
}

/// A record of the owner, to be pushed to [`crate::Changes`] and found again by
/// [`crate::KeyedPartition::owner_records`].
pub fn owner_record(key: &[u8], value: Option<Bytes>) -> ChangeRecord {
    ChangeRecord {
        key: ChangelogKey::Owner(key).encode().into(),
        value,
    }
}

/// The record that says whose changelog it is.
pub(crate) fn whose_record(connector: &str, store: &str) -> ChangeRecord {
    ChangeRecord {
        key: ChangelogKey::Whose.encode().into(),
        value: Some([connector.as_bytes(), b"\0", store.as_bytes()].concat().into()),
    }
}

/// The connector and the store of such a record.
pub(crate) fn whose(value: &[u8]) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value.iter().position(|byte| *byte == 0) {
        Some(zero) => (
            text(value.get(..zero).unwrap_or_default()),
            text(value.get(zero + 1..).unwrap_or_default()),
        ),
        None => (text(value), String::new()),
    }
}

/// Reads numbers off the front of a slice.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of a value, after its format version.
    pub(crate) fn of_value(bytes: &'a [u8]) -> Result<Fields<'a>, String> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(Fields(rest)),
            Some((version, _)) => Err(format!("format {version} is not one of this version ({FORMAT})")),
            None => Err("the value is empty".into()),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| format!("{} bytes left of {N}", self.0.len()))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_be_bytes)
    }

    /// Bytes with their length (4) before them.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.u32()? as usize;
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| format!("{} bytes left of {length}", self.0.len()))?;
        self.0 = rest;
        Ok(head)
    }
}

fn only_u64(bytes: &[u8]) -> Result<u64, String> {
    <[u8; 8]>::try_from(bytes)
        .map(u64::from_be_bytes)
        .map_err(|_| format!("{} bytes where 8 belong", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of a state record before its payload.
    const STATE_HEADER: usize = 17;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..40)
    }

    proptest! {
        #[test]
        fn keys_come_back(key in bytes(), id: u64, sequence: u64, touched_ms: i64) {
            let version = EntryVersion { sequence, touched_ms };
            for made in [
                ChangelogKey::Entry(&key), ChangelogKey::Position, ChangelogKey::Intent(id), ChangelogKey::Manifest(id),
                ChangelogKey::Superseded(version, &key), ChangelogKey::Owner(&key), ChangelogKey::Whose,
            ] {
                let encoded = made.encode();
                prop_assert_eq!(ChangelogKey::decode(&encoded), Ok(made));
            }
        }

        #[test]
        fn state_records_come_back(sequence: u64, touched_ms: i64, payload in bytes()) {
            let version = EntryVersion { sequence, touched_ms };
            let mut encoded = Vec::new();
            StateRecord::encode_header(version, &mut encoded);
            prop_assert_eq!(encoded.len(), STATE_HEADER);
            encoded.extend_from_slice(&payload);
            prop_assert_eq!(StateRecord::decode(&encoded), Ok(StateRecord { version, payload: &payload }));
        }

        #[test]
        fn position_records_come_back(sequence: u64, input_offset: i64, stream_time_ms: i64) {
            let position = PositionRecord { sequence, input_offset, stream_time_ms };
            let record = position.to_record();
            prop_assert_eq!(ChangelogKey::decode(&record.key), Ok(ChangelogKey::Position));
            prop_assert_eq!(PositionRecord::decode(&record.value.unwrap()), Ok(position));
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(any in bytes()) {
            // Whatever decodes must encode to the same bytes again.
            if let Ok(key) = ChangelogKey::decode(&any) {
                prop_assert_eq!(key.encode(), any.clone());
            }
            if let Ok(record) = StateRecord::decode(&any) {
                prop_assert_eq!(record.payload.len() + STATE_HEADER, any.len());
            }
            if let Ok(record) = PositionRecord::decode(&any) {
                prop_assert_eq!(record.to_record().value.unwrap().to_vec(), any);
            }
        }
    }

    #[test]
    fn formats_of_a_newer_version_are_refused_by_number() {
        assert!(StateRecord::decode(&[9; 40]).unwrap_err().contains("format 9"));
        assert!(ChangelogKey::decode(&[77, 1]).unwrap_err().contains("77"));
    }
}
