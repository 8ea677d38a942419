//! Names of places in Kafka.

use std::fmt;
use std::sync::Arc;

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

/// As Kafka's tools write it: `topic-partition`.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What brokers know a topic by, whatever its name (KIP-516): a topic that is deleted and made again has another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// The id of these bytes, in the order of the wire; `None` for all zeros, which say that there is none.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Its bytes, in the order of the wire.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// As Kafka's tools write it: base64 for URLs, without padding.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 128 bits are 21 digits of six and one of two, which stand to the left of theirs.
        let bits = u128::from_be_bytes(self.0);
        for digit in 0..22 {
            let six = match 122 - 6 * digit {
                shift @ 0.. => bits >> shift,
                _ => bits << 4,
            };
            let digit = DIGITS.get((six & 63) as usize).copied().unwrap_or_default();
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// `host:port` as it is connected to: an IPv6 address stands in brackets, as it must in `bootstrap.servers`.
pub fn host_and_port(host: &str, port: impl fmt::Display) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Where reading of a manually assigned partition starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartOffset {
    /// The first record there is.
    Beginning,
    /// After the last record there is.
    End,
    /// The record with this offset, or the next one there is.
    At(i64),
    /// What the consumer's group committed; `auto.offset.reset` decides when there is nothing.
    Committed,
}

/// Which records of transactions are seen (`isolation.level`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IsolationLevel {
    /// Everything that was written, up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Only what was committed, up to the last stable offset.
    ReadCommitted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_kafkas_tools_write_it() {
        let id = |bytes| TopicId::from_bytes(bytes).map(|id| id.to_string());
        assert_eq!(id([0; 16]), None);
        // `new Uuid(1, 2)`, `new Uuid(-1, -1)`, and one with bytes of all sizes.
        let mut one_and_two = [0; 16];
        (one_and_two[7], one_and_two[15]) = (1, 2);
        assert_eq!(id(one_and_two).unwrap(), "AAAAAAAAAAEAAAAAAAAAAg");
        assert_eq!(id([0xff; 16]).unwrap(), "_____________________w");
        let mixed = [
            0x6d, 0x69, 0x6c, 0x6c, 0x72, 0x61, 0x63, 0x65, 0x2d, 0x74, 0x65, 0x73, 0x74, 0x73, 0x2d, 0x31,
        ];
        assert_eq!(id(mixed).unwrap(), "bWlsbHJhY2UtdGVzdHMtMQ");
    }

    #[test]
    fn an_address_of_six_groups_stands_in_brackets() {
        for (host, expected) in [
            ("localhost", "localhost:9092"),
            ("127.0.0.1", "127.0.0.1:9092"),
            ("::1", "[::1]:9092"),
            ("[::1]", "[::1]:9092"),
            ("fe80::1%eth0", "[fe80::1%eth0]:9092"),
        ] {
            assert_eq!(host_and_port(host, 9092), expected);
        }
    }
}
