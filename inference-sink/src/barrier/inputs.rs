//! Whether the topics that a task reads are still those that it was opened with, asked before everything is committed that was
//! computed from them.

use super::commit::CommitFailure;
use connect_api::error::{ConnectError, ErrorKind};
use kafka_client::{ErrorCode, GoesOn, KafkaError, RecordWriter, TopicChange, TopicIdentity};

/// Asks the brokers about `inputs`, for as long as `goes_on` says.
pub(super) fn check_inputs(
    writer: &mut RecordWriter,
    inputs: &[TopicIdentity],
    goes_on: GoesOn<'_>,
) -> Result<(), CommitFailure> {
    let names: Vec<&str> = inputs.iter().map(|topic| &*topic.name).collect();
    let now = writer.topics(&names, goes_on).map_err(CommitFailure::of)?;
    let mut changes = inputs
        .iter()
        .zip(&now)
        .filter_map(|(before, now)| before.change(now.as_ref()));
    let Some(change) = changes.next() else { return Ok(()) };
    let kind = match change {
        // A broker that has just started may not know all topics yet.
        TopicChange::Gone { .. } => ErrorKind::NotFound,
        TopicChange::MadeAgain { .. } | TopicChange::Repartitioned { .. } => ErrorKind::Config,
    };
    Err(CommitFailure {
        ends: Some(ConnectError::new(kind, change.to_string())),
        ..CommitFailure::of(KafkaError::new(ErrorCode::Fail, "the input topics have changed"))
    })
}
