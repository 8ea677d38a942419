//! The contract of source tasks.

use crate::config::ConfigMap;
use crate::converter::Converter;
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

/// Source partitions with the offsets to go on at.
pub type SourcePositions = Vec<(Arc<SourceMap>, Arc<SourceMap>)>;

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLayout {
    /// what brokers know it by: another one once it was deleted and made again. `None` from brokers that have no ids
    pub id: Option<String>,
    /// number of partitions
    pub partitions: i32,
    /// its options (`cleanup.policy`)
    pub config: indexmap::IndexMap<String, String>,
}

/// Called with partition, key and value of each record of a topic.
pub type VisitRecord = Box<dyn FnMut(i32, Option<&[u8]>, Option<&[u8]>) + Send>;

/// The topics that a connector writes to, for sources that must know what they wrote before: a compacted topic is the
/// only complete record of which keys need a tombstone one day.
#[async_trait]
pub trait WrittenTopics: Send + Sync {
    /// The topic as it is; `None` if there is none.
    async fn layout(&self, topic: &str) -> Result<Option<TopicLayout>, ConnectError>;

    /// Visits every record from the beginning to the end that there is now; in order within each partition. A retriable
    /// error may come after some records: begin anew.
    async fn read(&self, topic: &str, visit: VisitRecord) -> Result<(), ConnectError>;
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
    /// topics that it writes to
    pub topics: Arc<dyn WrittenTopics>,
    /// the connector's converter of keys. A task that has converted a key by it may hand the bytes on as
    /// [`Datum::lazy`](crate::datum::Datum::lazy) with this converter: they are written as they are
    pub key_converter: Arc<dyn Converter>,
    /// the connector's converter of values; as with keys
    pub value_converter: Arc<dyn Converter>,
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

    /// Where reading has come to behind every record that `poll` has returned so far, for a source that moves on without
    /// records (a log in which only other tables change). The runtime asks after each `poll`, an empty one too, and commits
    /// these offsets as if they were a record's; what is returned is not returned again. (KIP-910 means the same by
    /// offsets without records.)
    fn positions(&mut self) -> SourcePositions {
        SourcePositions::new()
    }

    /// The offsets, by source partition, are in the offsets topic: what lies before them will never be asked for again
    /// and may be confirmed to the source (an LSN, an acknowledgement).
    async fn commit(&mut self, durable: Durable<SourcePositions>) -> Result<(), ConnectError> {
        let _ = durable;
        Ok(())
    }

    /// Closes the source. Called once, also after an error; no method follows it.
    async fn stop(&mut self);
}
