//! How far a record has come, as types: what a task has *accepted* may be lost with the process, what is *durable*
//! may not. Only a [`Durable`] moves a committed offset.

use std::sync::Arc;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// topic name
    pub topic: Arc<str>,
    /// partition number, from 0
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}", self.topic, self.partition)
    }
}

/// The task has taken the records and answers for their order; nothing is promised if the process dies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "accepted is not durable: an offset may only be committed from a Durable"]
pub struct Accepted {
    /// number of records taken
    pub records: usize,
}

/// Everything before these positions survives the process. `T` is what a position is: sink offsets (next offset to
/// read, by partition) or source offsets.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a durable position that nobody commits is lost work"]
pub struct Durable<T> {
    positions: T,
}

impl<T> Durable<T> {
    /// States that everything before `positions` is durable. Say it only of what has been acknowledged by the system
    /// that keeps it.
    pub fn up_to(positions: T) -> Self {
        Self { positions }
    }

    /// The positions.
    pub fn positions(&self) -> &T {
        &self.positions
    }

    /// The positions.
    pub fn into_positions(self) -> T {
        self.positions
    }
}

/// Next offset to read, by partition.
pub type SinkOffsets = indexmap::IndexMap<TopicPartition, i64>;
