//! The contract of sink tasks.

use crate::config::ConfigMap;
use crate::delivery::{Accepted, Durable, SinkOffsets, TopicPartition};
use crate::error::ConnectError;
use crate::record::SinkRecord;
use crate::reporter::ErrantRecordReporter;
use async_trait::async_trait;
use std::sync::Arc;

/// What a sink task is given when it starts.
#[derive(Clone)]
pub struct SinkTaskContext {
    /// connector name
    pub connector: Arc<str>,
    /// task number, from 0
    pub task: usize,
    /// task configuration, references to config providers resolved
    pub config: ConfigMap,
    /// reporter of single bad records
    pub reporter: Arc<dyn ErrantRecordReporter>,
}

/// Writes records to a system outside.
///
/// **Order.** Records of one partition come in offset order; several partitions may be mixed in one batch.
/// **Accepted and durable.** `put` accepts; only what `pre_commit` returns is committed. A task that writes through may
/// return from `pre_commit` what it was given.
/// **Duplicates.** After a crash or a rebalance reading goes on from the last committed offset: records after it come
/// again.
/// **Records** are lent: a task that needs one after `put` clones it, which copies no key and no value, but keeps the memory of
/// the records that were fetched with it.
/// **Retries.** A retriable error of `put` makes the runtime pause the partitions and give the same records again. Any
/// other error fails the task; `errors.tolerance` does not cover `put`, so single bad records go to the context's
/// reporter.
/// **Cancellation.** A `put` that outlasts `task.shutdown.graceful.timeout.ms` at stop is dropped.
/// **Blocking.** Methods must not block their thread for more than some milliseconds.
#[async_trait]
pub trait SinkTask: Send {
    /// Opens the system outside.
    async fn start(&mut self, context: SinkTaskContext) -> Result<(), ConnectError>;

    /// These partitions are the task's from now on. Called after every rebalance with the new ones, before their first
    /// record.
    async fn open(&mut self, partitions: &[TopicPartition]) -> Result<(), ConnectError> {
        let _ = partitions;
        Ok(())
    }

    /// Takes records.
    async fn put(&mut self, records: &[SinkRecord]) -> Result<Accepted, ConnectError>;

    /// Makes durable what can be, and says how far: at most `accepted` (next offset by partition).
    async fn pre_commit(&mut self, accepted: SinkOffsets) -> Result<Durable<SinkOffsets>, ConnectError>;

    /// These partitions are no longer the task's. `pre_commit` was called before, unless they were lost.
    async fn close(&mut self, partitions: &[TopicPartition]) -> Result<(), ConnectError> {
        let _ = partitions;
        Ok(())
    }

    /// Closes the system outside. Called once, also after an error; no method follows it.
    async fn stop(&mut self);
}
