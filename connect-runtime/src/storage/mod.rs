//! The internal topics: configurations, statuses, source offsets. Their records are in [`crate::records`].
//!
//! ```text
//!   config topic  --ConfigRecord--> cluster::fold::ClusterState      written by the herder, read back before it answers
//!   status topic  --StatusRecord--> StatusTable                     written in order, never waited for
//!   offsets topic --offset_record-> last offset by source partition written by source tasks
//! ```
//!
//! All three are read by one consumer on one thread and written by one producer.

mod config_topic;
mod internal_topic;
mod offset_topic;
mod status_topic;

pub use config_topic::ConfigTopic;
pub use internal_topic::InternalTopic;
pub use offset_topic::OffsetTopic;
pub use status_topic::StatusTopic;

use async_trait::async_trait;
use connect_api::ConnectError;
use connect_api::record::SourceMap;
use std::sync::Arc;
use std::time::Duration;

/// What can go wrong with an internal topic.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Kafka refused or could not be reached
    #[error(transparent)]
    Kafka(#[from] kafka_client::KafkaError),
    /// the topic is not fit for its use
    #[error("{0}")]
    Refused(String),
    /// it took too long; it may still happen
    #[error("timed out after {} s while {doing}", .after.as_secs())]
    TimedOut {
        /// what was going on
        doing: &'static str,
        /// time that it had
        after: Duration,
    },
}

async fn within<T>(
    budget: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    match tokio::time::timeout(budget, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StorageError::TimedOut { doing, after: budget }),
    }
}

/// An offset of a source partition to be written; `None` removes it.
pub type SourceOffset = (Arc<SourceMap>, Option<SourceMap>);

/// Source offsets of all connectors (contract 2.5). Partitions are compared by content, not by the order of their
/// members.
#[async_trait]
pub trait OffsetStore: Send + Sync {
    /// The last offset written for `partition` of `connector`, after reading the topic to its end.
    async fn read(&self, connector: &str, partition: &SourceMap) -> Result<Option<SourceMap>, ConnectError>;

    /// All partitions of `connector` with an offset, after reading the topic to its end, in order of first appearance.
    async fn read_all(&self, connector: &str) -> Result<Vec<(SourceMap, SourceMap)>, ConnectError>;

    /// Writes offsets in order. When it returns they are acknowledged by Kafka; on an error some may be.
    async fn write(&self, connector: &str, offsets: &[SourceOffset]) -> Result<(), ConnectError>;
}
