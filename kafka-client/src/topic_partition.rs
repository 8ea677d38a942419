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
