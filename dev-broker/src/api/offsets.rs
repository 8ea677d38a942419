//! Offsets of partitions: earliest, latest, by time; deletion of what is before an offset.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::RequestContext;
use crate::batch::LEADER_EPOCH;
use crate::log::partition::{Isolation, PartitionLog};
use crate::log::records;
use crate::state::Broker;
use crate::storage::journal::Entry;

/// Special timestamps of ListOffsets.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;

/// Answers offsets by timestamp.
pub fn list_offsets(broker: &Broker, context: &RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let leader_epoch = if context.version >= 4 { LEADER_EPOCH } else { -1 };
    let isolation = Isolation::from_code(request.isolation_level);
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            let found = broker
                .topics
                .partition(topic.name.as_str(), wanted.partition_index)
                .map(|partition| find_offset(&partition.log.lock(), wanted.timestamp, isolation));
            match found {
                Ok((offset, timestamp)) => answer
                    .with_offset(offset)
                    .with_timestamp(timestamp)
                    .with_leader_epoch(leader_epoch),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Offset and timestamp; (-1, -1) when no record is as late as that.
fn find_offset(log: &PartitionLog, timestamp: i64, isolation: Isolation) -> (i64, i64) {
    match timestamp {
        EARLIEST => (log.log_start_offset(), -1),
        LATEST => (log.readable_end(isolation), -1),
        MAX_TIMESTAMP => {
            let batches = log.batches().filter(|batch| !batch.header.is_control());
            let latest = batches.map(|batch| batch.header.max_timestamp).max();
            latest.map_or((-1, -1), |latest| first_at_or_after(log, latest, isolation))
        }
        timestamp => first_at_or_after(log, timestamp, isolation),
    }
}

fn first_at_or_after(log: &PartitionLog, timestamp: i64, isolation: Isolation) -> (i64, i64) {
    let end = log.readable_end(isolation);
    let start = log.log_start_offset();
    for batch in log.batches() {
        if batch.header.base_offset >= end {
            break;
        }
        if batch.header.max_timestamp < timestamp || batch.header.is_control() {
            continue;
        }
        let found = records::find(batch, |record| record.timestamp >= timestamp && record.offset >= start);
        if let Some(record) = found {
            return (record.offset, record.timestamp);
        }
    }
    (-1, -1)
}

/// Deletes the records before an offset; -1 is the end of the log.
pub fn delete_records(broker: &Broker, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let result = delete_before(broker, topic.name.as_str(), wanted.partition_index, wanted.offset);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(super::code(&result))
                .with_low_watermark(result.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn delete_before(broker: &Broker, topic: &str, index: i32, offset: i64) -> Result<i64, ResponseError> {
    let found = broker.topics.get(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = found.partition(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    if !found.config.read().deletes_by_retention() {
        return Err(ResponseError::PolicyViolation);
    }
    let mut log = partition.log.lock();
    let offset = if offset == -1 { log.next_offset() } else { offset };
    let log_start_offset = log.delete_before(offset)?;
    broker.journal.record(&Entry::LogStart {
        topic: topic.to_owned(),
        partition: index,
        offset: log_start_offset,
    });
    Ok(log_start_offset)
}

/// Where a leader epoch ended: there has only ever been one, and it goes on.
pub fn offset_for_leader_epoch(broker: &Broker, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            let found = broker.topics.partition(topic.topic.as_str(), wanted.partition);
            match found {
                Ok(partition) => answer
                    .with_leader_epoch(LEADER_EPOCH)
                    .with_end_offset(partition.log.lock().next_offset()),
                Err(error) => answer
                    .with_error_code(error.code())
                    .with_leader_epoch(-1)
                    .with_end_offset(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
