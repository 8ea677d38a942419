//! Requests to the transaction coordinator.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
};

use super::{RequestContext, code};
use crate::committed_offsets::PartitionKey;
use crate::restored::ProducerIdentity;
use crate::state::Broker;

/// `PRODUCER_FENCED` is known from the version given; before, `INVALID_PRODUCER_EPOCH` says it.
fn for_version(error: ResponseError, version: i16, knows_fenced_from: i16) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if version < knows_fenced_from => ResponseError::InvalidProducerEpoch,
        other => other,
    }
}

/// Gives out a producer id and epoch.
pub fn initialise(broker: &Broker, context: &RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let result = match &request.transactional_id {
        None => Ok(broker.transactions.initialise_idempotent()),
        Some(id) if id.is_empty() => Err(ResponseError::InvalidRequest),
        Some(id) => {
            let given = (context.version >= 3 && request.producer_id.0 >= 0).then_some(ProducerIdentity {
                producer_id: request.producer_id.0,
                epoch: request.producer_epoch,
            });
            let timeout_ms = request.transaction_timeout_ms;
            broker.transactions.initialise(id.as_str(), timeout_ms, given)
        }
    };
    match result.map_err(|error| for_version(error, context.version, 4)) {
        Ok(producer) => InitProducerIdResponse::default()
            .with_producer_id(producer.producer_id.into())
            .with_producer_epoch(producer.epoch),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1),
    }
}

/// Adds partitions to a transaction: all, or none when one does not exist.
pub fn add_partitions(
    broker: &Broker,
    context: &RequestContext,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let topics = &request.v3_and_below_topics;
    let keys: Vec<PartitionKey> = topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| (topic.name.to_string(), *partition))
        })
        .collect();
    let exists = |name: &str, partition: i32| broker.topics.partition(name, partition).is_ok();
    let all_exist = keys.iter().all(|(name, partition)| exists(name, *partition));
    let producer = ProducerIdentity {
        producer_id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    let transactional_id = request.v3_and_below_transactional_id.as_str();
    let result = if all_exist {
        broker.transactions.add(transactional_id, producer, keys, None)
    } else {
        Err(ResponseError::OperationNotAttempted)
    };
    let result = result.map_err(|error| for_version(error, context.version, 2));
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let error = match exists(topic.name.as_str(), *partition) {
                true => code(&result),
                false => ResponseError::UnknownTopicOrPartition.code(),
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*partition)
                .with_partition_error_code(error)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
}

/// Adds a group's offsets to a transaction.
pub fn add_offsets(
    broker: &Broker,
    context: &RequestContext,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let producer = ProducerIdentity {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let group = Some(request.group_id.to_string());
    let result = broker
        .transactions
        .add(request.transactional_id.as_str(), producer, [], group)
        .map_err(|error| for_version(error, context.version, 2));
    AddOffsetsToTxnResponse::default().with_error_code(code(&result))
}

/// Commits or aborts.
pub fn end(broker: &Broker, context: &RequestContext, request: EndTxnRequest) -> EndTxnResponse {
    let producer = ProducerIdentity {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let result = broker
        .transactions
        .end(request.transactional_id.as_str(), producer, request.committed)
        .map_err(|error| for_version(error, context.version, 2));
    EndTxnResponse::default().with_error_code(code(&result))
}
