//! The contract of tasks that own partitions together with their state.

use crate::config::ConfigMap;
use crate::delivery::{Accepted, Durable, SinkOffsets, TopicPartition};
use crate::error::ConnectError;
use crate::reporter::ErrantRecordReporter;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crate::raw_record::{RawHeaders, RawRecord};

/// Where to start reading a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// the first record that is there
    Beginning,
    /// behind the last record that is there
    End,
    /// this offset
    Offset(i64),
}

/// Settings of Kafka clients under their Java names, framework defaults, worker settings and the connector's overrides
/// merged (contract 4.3).
#[derive(Clone, Default)]
pub struct ClientSettings {
    /// for consumers
    pub consumer: indexmap::IndexMap<String, String>,
    /// for producers
    pub producer: indexmap::IndexMap<String, String>,
    /// for admin clients
    pub admin: indexmap::IndexMap<String, String>,
}

/// What a task that owns partitions is given.
#[derive(Clone)]
pub struct PartitionedTaskContext {
    /// the worker's `group.id`
    pub group_id: Arc<str>,
    /// connector name
    pub connector: Arc<str>,
    /// task number, from 0
    pub task: usize,
    /// number of tasks of the connector
    pub tasks: usize,
    /// task configuration, references to config providers resolved
    pub config: ConfigMap,
    /// settings for the task's own clients
    pub clients: ClientSettings,
    /// reporter of single bad records
    pub reporter: Arc<dyn ErrantRecordReporter>,
    /// ends a fetch that is waiting, so that `advance` is called soon: for completions on other threads
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// What `advance` found.
#[derive(Debug, Default)]
pub struct Advance {
    /// positions that became durable since the last call; mirrored to the consumer group for people and tools
    pub durable: Option<Durable<SinkOffsets>>,
    /// the task lost what it did since its last barrier and must be given the records from these offsets again
    pub rewind: Option<SinkOffsets>,
    /// the task's queues are full: fetch nothing until an `advance` says otherwise
    pub full: bool,
    /// call `advance` again at this instant even if no record comes
    pub wake_at: Option<Instant>,
}

/// A sink task that owns partitions with their state and commits both itself.
///
/// **Threads.** All methods are called on one thread of the task's own; they may compute and may block on Kafka and
/// disk, as long as `stop` is answered within the shutdown time.
/// **Partitions.** Task *i* of *n* owns the partitions *p* with `p mod n = i` of every topic, by manual assignment, from
/// `open` to `close`. There is no rebalance in between.
/// **Order.** `hand_over` gives the records of a partition in offset order, each once since the last `open` or rewind.
/// **Accepted and durable.** `hand_over` accepts. A *barrier* makes everything up to one offset per partition durable:
/// state, outputs and positions together. The task starts barriers by itself in `advance`, at its commit interval, and
/// may have one under way while it accepts more; `barrier` demands one and waits for it. The positions that the task
/// keeps are authoritative: the runtime only mirrors them.
/// **Duplicates.** After a crash reading goes on from what `open` returns.
/// **Retries.** The task retries by itself; after a retriable error from `open`, `hand_over`, `advance` or `barrier` the runtime
/// closes it, opens it again with back-off and goes on. `NotFound` (a topic that is not there) is waited out likewise before
/// the task has run, and fails one that has run after half a minute. Until it has run it shows what it waits for. Any other
/// error fails the task.
/// **Topics.** Before and while it runs the runtime looks whether the topics are those that it was opened with (their ids and
/// partition counts): a change fails the task by name, and nothing is handed over any more.
pub trait PartitionedSinkTask: Send {
    /// Settings that the consumer of its partitions must have, under their Java names: they hold before the connector's own.
    /// The runtime sets `auto.offset.reset=none` and `allow.auto.create.topics=false` by itself: such a task's positions are its
    /// own, and what it reads is never made.
    fn consumer_settings(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Takes over `partitions`: fences predecessors, restores state, returns where to read each.
    fn open(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, StartAt)>, ConnectError>;

    /// Takes records in order.
    fn hand_over(&mut self, records: &[RawRecord<'_>]) -> Result<Accepted, ConnectError>;

    /// Moves on what depends on time or on other threads: called after every `hand_over`, when woken, and at the
    /// instant it asked for.
    fn advance(&mut self, now: Instant) -> Result<Advance, ConnectError>;

    /// Makes everything accepted durable, waiting for at most `timeout`. Called before `close` at a clean stop or pause.
    fn barrier(&mut self, timeout: Duration) -> Result<Durable<SinkOffsets>, ConnectError>;

    /// Gives the partitions up. What is not durable is forgotten. A task that has no partitions has nothing to give up.
    fn close(&mut self);
}
