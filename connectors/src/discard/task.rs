//! Takes records and drops them.

use async_trait::async_trait;
use connect_api::delivery::SinkOffsets;
use connect_api::{Accepted, ConnectError, Durable, SinkRecord, SinkTask, SinkTaskContext};

/// Takes every record; nothing is kept, so everything taken is durable.
pub(super) struct DiscardTask;

#[async_trait]
impl SinkTask for DiscardTask {
    async fn start(&mut self, _context: SinkTaskContext) -> Result<(), ConnectError> {
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<Accepted, ConnectError> {
        Ok(Accepted { records: records.len() })
    }

    async fn pre_commit(&mut self, accepted: SinkOffsets) -> Result<Durable<SinkOffsets>, ConnectError> {
        Ok(Durable::up_to(accepted))
    }

    async fn stop(&mut self) {}
}
