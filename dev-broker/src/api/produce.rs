//! Produce: one batch per partition, checked, appended, readers woken.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::code;
use crate::batch::{BatchHeader, validate_produced};
use crate::log::partition::Appended;
use crate::log::records;
use crate::restored::ProducerIdentity;
use crate::state::Broker;
use crate::topics::{Partition, Topic};
use crate::transactions::now_ms;

/// Appends what a producer sent.
pub fn produce(broker: &Broker, request: ProduceRequest) -> ProduceResponse {
    let transactional_id = request.transactional_id.map(|id| id.0.to_string());
    let acks_are_valid = matches!(request.acks, -1..=1);
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = broker.topics.get(data.name.as_str());
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let result = match &topic {
                _ if !acks_are_valid => Err(ResponseError::InvalidRequiredAcks),
                None => Err(ResponseError::UnknownTopicOrPartition),
                Some(topic) => append(broker, topic, transactional_id.as_deref(), &partition),
            };
            partitions.push(answer(partition.index, result));
        }
        let topic = TopicProduceResponse::default().with_name(data.name);
        topics.push(topic.with_partition_responses(partitions));
    }
    ProduceResponse::default().with_responses(topics)
}

fn append(
    broker: &Broker,
    topic: &Topic,
    transactional_id: Option<&str>,
    data: &PartitionProduceData,
) -> Result<(Appended, i64), ResponseError> {
    let partition = topic
        .partition(data.index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let bytes = data.records.as_ref().ok_or(ResponseError::InvalidRecord)?;
    let header = validate_produced(bytes)?;
    let log_append_time_ms = {
        let config = topic.config.read();
        if bytes.len() > config.max_message_bytes() {
            return Err(ResponseError::MessageTooLarge);
        }
        if config.is_compacted() {
            check_keys(&header, bytes)?;
        }
        config.uses_log_append_time().then(now_ms)
    };
    if !header.is_transactional() {
        return append_to_log(&partition, &header, bytes, log_append_time_ms);
    }
    // The transaction must not end between the check and the append.
    let transactions = broker.transactions.lock();
    let producer = ProducerIdentity {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
    };
    let transactional_id = transactional_id.ok_or(ResponseError::InvalidTxnState)?;
    let key = (topic.name.to_string(), data.index);
    transactions.check_append(transactional_id, producer, &key)?;
    append_to_log(&partition, &header, bytes, log_append_time_ms)
}

/// A compacted topic takes no record without a key.
fn check_keys(header: &BatchHeader, batch: &Bytes) -> Result<(), ResponseError> {
    let records = records::read_bytes(header, batch).map_err(|_| ResponseError::CorruptMessage)?;
    match records.iter().all(|record| record.key.is_some()) {
        true => Ok(()),
        false => Err(ResponseError::InvalidRecord),
    }
}

fn append_to_log(
    partition: &Partition,
    header: &BatchHeader,
    bytes: &[u8],
    log_append_time_ms: Option<i64>,
) -> Result<(Appended, i64), ResponseError> {
    let mut log = partition.log.lock();
    let appended = log.append(header, bytes, log_append_time_ms)?;
    let log_start_offset = log.log_start_offset();
    drop(log);
    if appended.new {
        partition.wake_fetches();
    }
    Ok((appended, log_start_offset))
}

fn answer(index: i32, result: Result<(Appended, i64), ResponseError>) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok((appended, log_start_offset)) => answer
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.log_append_time_ms)
            .with_log_start_offset(log_start_offset),
        Err(_) => answer
            .with_error_code(code(&result))
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1),
    }
}
