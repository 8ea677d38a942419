//! What workers tell each other through the group: a member's metadata and its assignment (contract 3.2).
//!
//! ```text
//!   metadata    version i16 | url string | config offset i64 | from version 1: allocation bytes
//!   assignment  version i16 | error i16 | leader string | leader url string | config offset i64
//!               | [ connector string, [ task i32 ] ] | from version 1: revoked, delay
//! ```
//!
//! Version 0, the eager protocol, is written. Later versions are read as far as they say the same.

use crate::membership::assignor::Assignment;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version that is written.
const EAGER: i16 = 0;
/// The number that stands for the connector itself among its tasks.
const CONNECTOR: i32 = -1;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of a member of the group cannot be read: {reason}")]
pub struct Malformed {
    what: &'static str,
    reason: String,
}

/// What a member says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    /// the URL under which other workers reach it, with a slash at the end
    pub url: String,
    /// offset after the last record of the config topic that it has read
    pub config_offset: i64,
}

/// What the leader tells a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAssignment {
    /// whether the leader could deal; otherwise members read the config topic up to `config_offset` and join again
    pub error: AssignmentError,
    /// member id of the leader
    pub leader: String,
    /// its URL
    pub leader_url: String,
    /// the offset of the config topic that the assignment was made from
    pub config_offset: i64,
    /// what this member runs
    pub work: Assignment,
}

/// Why an assignment holds no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignmentError {
    /// it does hold what it should
    None,
    /// the leader could not read as much of the config topic as another member has
    ConfigMismatch,
}

impl MemberMetadata {
    /// The bytes for JoinGroup.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(EAGER);
        put_string(&mut bytes, &self.url);
        bytes.put_i64(self.config_offset);
        bytes.freeze()
    }

    /// Reads the bytes of a member.
    ///
    /// # Errors
    /// Bytes that no worker writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("the metadata", bytes)?;
        Ok(Self {
            url: reader.string()?,
            config_offset: reader.i64()?,
        })
    }
}

impl MemberAssignment {
    /// The bytes for SyncGroup.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i16(EAGER);
        bytes.put_i16(match self.error {
            AssignmentError::None => 0,
            AssignmentError::ConfigMismatch => 1,
        });
        put_string(&mut bytes, &self.leader);
        put_string(&mut bytes, &self.leader_url);
        bytes.put_i64(self.config_offset);
        let by_connector = by_connector(&self.work);
        bytes.put_i32(length(by_connector.len()));
        for (connector, tasks) in by_connector {
            put_string(&mut bytes, connector);
            bytes.put_i32(length(tasks.len()));
            tasks.into_iter().for_each(|task| bytes.put_i32(task));
        }
        bytes.freeze()
    }

    /// Reads the bytes that a leader wrote.
    ///
    /// # Errors
    /// Bytes that no worker writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("the assignment", bytes)?;
        let error = match reader.i16()? {
            0 => AssignmentError::None,
            1 => AssignmentError::ConfigMismatch,
            other => return Err(reader.malformed(format!("unknown error {other}"))),
        };
        let (leader, leader_url, config_offset) = (reader.string()?, reader.string()?, reader.i64()?);
        let mut work = Assignment::default();
        for _ in 0..reader.count()? {
            let connector = reader.string()?;
            for _ in 0..reader.count()? {
                match reader.i32()? {
                    CONNECTOR => work.connectors.push(connector.clone()),
                    task => match usize::try_from(task) {
                        Ok(task) => work.tasks.push((connector.clone(), task)),
                        Err(_) => return Err(reader.malformed(format!("task {task} of connector {connector}"))),
                    },
                }
            }
        }
        Ok(Self {
            error,
            leader,
            leader_url,
            config_offset,
            work,
        })
    }
}

/// One element for each connector, in the order in which a Java worker writes them: connectors first.
fn by_connector(work: &Assignment) -> Vec<(&str, Vec<i32>)> {
    let mut elements: indexmap::IndexMap<&str, Vec<i32>> = indexmap::IndexMap::new();
    for connector in &work.connectors {
        elements.entry(connector).or_default().push(CONNECTOR);
    }
    for (connector, task) in &work.tasks {
        let number = i32::try_from(*task).unwrap_or(i32::MAX);
        elements.entry(connector).or_default().push(number);
    }
    elements.into_iter().collect()
}

fn length(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Topics hold no longer names, and no URL is longer, than the 32,767 bytes of a string of the protocol.
fn put_string(bytes: &mut BytesMut, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    bytes.put_i16(length);
    bytes.extend(text.bytes().take(usize::from(length.unsigned_abs())));
}

struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads over the version: every later one begins as version 0 does.
    fn new(what: &'static str, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Self { what, rest: bytes };
        match reader.i16()? {
            version if version >= EAGER => Ok(reader),
            version => Err(reader.malformed(format!("version {version}"))),
        }
    }

    fn malformed(&self, reason: impl Into<String>) -> Malformed {
        Malformed {
            what: self.what,
            reason: reason.into(),
        }
    }

    fn ended(&self) -> Malformed {
        self.malformed("it ends too early")
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        self.rest.try_get_i16().map_err(|_| self.ended())
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.rest.try_get_i32().map_err(|_| self.ended())
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.rest.try_get_i64().map_err(|_| self.ended())
    }

    /// The count of an array; a null array has none.
    fn count(&mut self) -> Result<i32, Malformed> {
        Ok(self.i32()?.max(0))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let length = usize::try_from(self.i16()?).map_err(|_| self.malformed("a string is null"))?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.ended())?;
        self.rest = rest;
        std::str::from_utf8(text)
            .map(str::to_owned)
            .map_err(|_| self.malformed("a string is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn metadata() -> MemberMetadata {
        MemberMetadata {
            url: "http://h:8083/".to_owned(),
            config_offset: 5,
        }
    }

    fn assignment() -> MemberAssignment {
        MemberAssignment {
            error: AssignmentError::None,
            leader: "m1".to_owned(),
            leader_url: "http://h:8083/".to_owned(),
            config_offset: 5,
            work: Assignment {
                connectors: vec!["a".to_owned()],
                tasks: vec![("a".to_owned(), 0)],
            },
        }
    }

    const METADATA_0: &str = "0000 000e687474703a2f2f683a383038332f 0000000000000005";
    const METADATA_2: &str = "0002 000e687474703a2f2f683a383038332f 0000000000000005 ffffffff";
    const ASSIGNMENT_0: &str = "0000 0000 00026d31 000e687474703a2f2f683a383038332f 0000000000000005 00000001 000161 00000002 ffffffff 00000000";
    const ASSIGNMENT_2: &str = "0002 0000 00026d31 000e687474703a2f2f683a383038332f 0000000000000005 00000001 000161 00000002 ffffffff 00000000 00000000 00000000";

    #[test]
    fn bytes_are_those_of_a_java_worker() {
        assert_eq!(&*metadata().encode(), hex(METADATA_0));
        assert_eq!(&*assignment().encode(), hex(ASSIGNMENT_0));
        for text in [METADATA_0, METADATA_2] {
            assert_eq!(MemberMetadata::decode(&hex(text)), Ok(metadata()));
        }
        for text in [ASSIGNMENT_0, ASSIGNMENT_2] {
            assert_eq!(MemberAssignment::decode(&hex(text)), Ok(assignment()));
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        for text in [METADATA_0, ASSIGNMENT_0] {
            let whole = hex(text);
            for length in 0..whole.len() {
                let cut = &whole[..length];
                let refused = match text {
                    METADATA_0 => MemberMetadata::decode(cut).is_err(),
                    _ => MemberAssignment::decode(cut).is_err(),
                };
                assert!(refused, "{length} bytes of {text}");
            }
        }
    }

    proptest! {
        #[test]
        fn assignments_come_back_as_they_were(
            connectors in proptest::collection::btree_set("[a-zé-]{1,6}", 0..6),
            tasks in proptest::collection::btree_set(("[a-zé-]{1,6}", 0..9usize), 0..12),
            mismatch: bool,
            config_offset: i64,
        ) {
            let sent = MemberAssignment {
                error: if mismatch { AssignmentError::ConfigMismatch } else { AssignmentError::None },
                config_offset,
                work: Assignment {
                    connectors: connectors.into_iter().collect(),
                    tasks: tasks.into_iter().collect(),
                },
                ..assignment()
            };
            let mut read = MemberAssignment::decode(&sent.encode()).unwrap();
            // one element for each connector: tasks are grouped by it
            read.work.connectors.sort();
            read.work.tasks.sort();
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = MemberMetadata::decode(&bytes);
            let _ = MemberAssignment::decode(&bytes);
        }
    }
}
