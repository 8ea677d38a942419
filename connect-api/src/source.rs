//! The contract of source tasks.

use crate::config::ConfigMap;
use crate::delivery::Durable;
use crate::error::ConnectError;
use crate::record::{SourceMap, SourceRecord};
use async_trait::async_trait;
use std::sync::Arc;

/// Reads the offsets that were committed for a connector's source partitions.
#[async_trait]
pub trait OffsetReader: Send + Sync {
    /// The last durable offset of `partition`; `None` where there is none. Partitions are compared by content, not by
    /// the order of their members.
    async fn offset(&self, partition: &SourceMap) -> Result<Option<SourceMap>, ConnectError>;
}

/// What a source task is given when it starts.
#[derive(Clone)]
pub struct SourceTaskContext {
    /// connector name
    pub connector: Arc<str>,
    /// task number, from 0
    pub task: usize,
    /// task configuration, references to config providers resolved
    pub config: ConfigMap,
    /// committed offsets
    pub offsets: Arc<dyn OffsetReader>,
}

/// Reads a part of a source.
///
/// **Order.** Records of one poll are sent in the order of the vector; polls follow one another. Offsets of one source
/// partition are committed in that order, up to the first record that Kafka has not acknowledged.
/// **Duplicates.** After a crash reading goes on from the last committed offset: records after it come again.
/// **Cancellation.** `poll` must be cancel-safe: the runtime drops the future to stop or pause the task, and may call
/// it again after a pause. A record that was not returned was not read.
/// **Blocking.** `poll` waits for data; it must not block its thread, so file or CPU work of more than some
/// milliseconds belongs into `tokio::task::spawn_blocking`. An empty vector is legal but should be rare: an idle task
/// costs nothing as long as its `poll` is pending.
/// **Retries.** A retriable error is retried by the runtime with back-off; any other fails the task. Nobody but a
/// person or a tool restarts a failed task.
#[async_trait]
pub trait SourceTask: Send {
    /// Opens the source at the committed offsets.
    async fn start(&mut self, context: SourceTaskContext) -> Result<(), ConnectError>;

    /// The next records; pending until there are some.
    async fn poll(&mut self) -> Result<Vec<SourceRecord>, ConnectError>;

    /// The offsets, by source partition, are in the offsets topic: what lies before them will never be asked for again
    /// and may be confirmed to the source (an LSN, an acknowledgement).
    async fn commit(&mut self, durable: Durable<Vec<(Arc<SourceMap>, SourceMap)>>) -> Result<(), ConnectError> {
        let _ = durable;
        Ok(())
    }

    /// Closes the source. Called once, also after an error; no method follows it.
    async fn stop(&mut self);
}
