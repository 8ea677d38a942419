//! The internal topics: configurations, statuses, source offsets. Records are exactly those of a Java worker (contract
//! part 2).

use async_trait::async_trait;
use connect_api::ConnectError;
use connect_api::record::SourceMap;
use std::sync::Arc;

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
