//! One module per group of requests; `dispatch` sends each to its own.

mod configs;
mod error_answers;
mod fetch;
mod group_admin;
mod group_membership;
mod group_offsets;
mod metadata;
mod offsets;
mod produce;
mod topics;
mod transactions;
mod versions;

use std::sync::Arc;

use kafka_protocol::messages::{RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;

pub use error_answers::error_answer;
pub use versions::{api_versions, is_supported};

use crate::state::Broker;

/// Who asks, and how.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// Version of the request.
    pub version: i16,
    /// Name that the client gave itself.
    pub client_id: StrBytes,
    /// Where the client is.
    pub client_host: StrBytes,
}

/// The number of a result: 0 or the error's.
fn code<T>(result: &Result<T, kafka_protocol::ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, |error| error.code())
}

/// Handles one request. `None` when it wants no answer (produce with acks=0) or is of a kind that
/// the broker does not offer.
pub async fn dispatch(broker: &Arc<Broker>, context: &RequestContext, request: RequestKind) -> Option<ResponseKind> {
    use RequestKind as Q;
    use ResponseKind as A;
    Some(match request {
        Q::Produce(request) => {
            let wants_answer = request.acks != 0;
            let answer = produce::produce(broker, request);
            return wants_answer.then_some(A::Produce(answer));
        }
        Q::Fetch(request) => A::Fetch(fetch::fetch(broker, request).await),
        Q::ListOffsets(request) => A::ListOffsets(offsets::list_offsets(broker, context, request)),
        Q::DeleteRecords(request) => A::DeleteRecords(offsets::delete_records(broker, request)),
        Q::OffsetForLeaderEpoch(request) => A::OffsetForLeaderEpoch(offsets::offset_for_leader_epoch(broker, request)),
        Q::Metadata(request) => A::Metadata(metadata::metadata(broker, context, request)),
        Q::DescribeCluster(_) => A::DescribeCluster(metadata::describe_cluster(broker)),
        Q::FindCoordinator(request) => A::FindCoordinator(metadata::find_coordinator(broker, context, request)),
        Q::ApiVersions(_) => A::ApiVersions(api_versions()),
        Q::CreateTopics(request) => A::CreateTopics(topics::create_topics(broker, request)),
        Q::DeleteTopics(request) => A::DeleteTopics(topics::delete_topics(broker, context, request)),
        Q::CreatePartitions(request) => A::CreatePartitions(topics::create_partitions(broker, request)),
        Q::DescribeConfigs(request) => A::DescribeConfigs(configs::describe(broker, request)),
        Q::AlterConfigs(request) => A::AlterConfigs(configs::alter(broker, request)),
        Q::IncrementalAlterConfigs(request) => A::IncrementalAlterConfigs(configs::incremental_alter(broker, request)),
        Q::JoinGroup(request) => A::JoinGroup(group_membership::join(broker, context, request).await),
        Q::SyncGroup(request) => A::SyncGroup(group_membership::sync(broker, context, request).await),
        Q::Heartbeat(request) => A::Heartbeat(group_membership::heartbeat(broker, request)),
        Q::LeaveGroup(request) => A::LeaveGroup(group_membership::leave(broker, context, request)),
        Q::OffsetCommit(request) => A::OffsetCommit(group_offsets::commit(broker, request)),
        Q::OffsetFetch(request) => A::OffsetFetch(group_offsets::fetch(broker, context, request)),
        Q::OffsetDelete(request) => A::OffsetDelete(group_offsets::delete(broker, request)),
        Q::TxnOffsetCommit(request) => A::TxnOffsetCommit(group_offsets::commit_in_transaction(broker, request)),
        Q::ListGroups(request) => A::ListGroups(group_admin::list(broker, request)),
        Q::DescribeGroups(request) => A::DescribeGroups(group_admin::describe(broker, context, request)),
        Q::DeleteGroups(request) => A::DeleteGroups(group_admin::delete(broker, request)),
        Q::InitProducerId(request) => A::InitProducerId(transactions::initialise(broker, context, request)),
        Q::AddPartitionsToTxn(request) => A::AddPartitionsToTxn(transactions::add_partitions(broker, context, request)),
        Q::AddOffsetsToTxn(request) => A::AddOffsetsToTxn(transactions::add_offsets(broker, context, request)),
        Q::EndTxn(request) => A::EndTxn(transactions::end(broker, context, request)),
        _ => return None,
    })
}
