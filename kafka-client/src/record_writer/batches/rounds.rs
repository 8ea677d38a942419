//! Sending what is ready: in each round one batch of every partition (a produce request may have no more, KIP-74's format),
//! one request to each leader at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use super::cluster::RETRY_PAUSE;
use super::{BatchWriter, Ready};
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::{code_of, error_of};
use crate::record_writer::{GoesOn, Piece, WriteError};

/// The last version before a produce request adds its partitions to the transaction itself (KIP-890).
const PRODUCE: i16 = 9;
/// All in-sync replicas.
const ACKS_ALL: i16 = -1;
/// Bytes of one request; brokers take a hundred million (`socket.request.max.bytes`).
const MAX_REQUEST_BYTES: usize = 32 << 20;

impl BatchWriter {
    /// Sends until nothing is ready. Gives the topics that were refused, beside those that are already; an error that is not
    /// of one topic alone ends a transaction at once.
    pub(super) fn send_rounds(
        &mut self,
        mut refused: Vec<WriteError>,
        goes_on: GoesOn<'_>,
    ) -> Result<Vec<WriteError>, WriteError> {
        loop {
            let by_leader = self.next_round(&refused);
            if self.transactional_id.is_some()
                && let Some(first) = refused.iter().find(|refused| !refused.is_of_topic())
            {
                return Err(first.clone());
            }
            if by_leader.is_empty() && self.partitions.iter().all(|partition| partition.ready.is_empty()) {
                return Ok(refused);
            }
            let mut trouble = self.send_round(&by_leader, &mut refused);
            if by_leader.is_empty() {
                trouble.get_or_insert_with(|| KafkaError::new(ErrorCode::LeaderNotAvailable, "no leader is known"));
            }
            if let Some(error) = trouble {
                if !goes_on(&error) {
                    return Err(error.into());
                }
                std::thread::sleep(RETRY_PAUSE);
                self.look_again(&mut refused);
            }
        }
    }

    /// Stamps the first batch of each partition; gives the partitions by the leader that gets it.
    fn next_round(&mut self, refused: &[WriteError]) -> BTreeMap<i32, Vec<usize>> {
        let mut by_leader: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        let mut bytes_by_leader: BTreeMap<i32, usize> = BTreeMap::new();
        for slot in 0..self.partitions.len() {
            let stamp = self
                .partitions
                .get(slot)
                .map(|partition| self.stamp(partition.next_sequence));
            let (Some(partition), Some(stamp)) = (self.partitions.get_mut(slot), stamp) else {
                continue;
            };
            if refused
                .iter()
                .any(|error| error.topic.as_deref() == Some(&*partition.topic))
            {
                // The rest of a refused topic goes the same way.
                partition.ready.clear();
                continue;
            }
            let Some(leader) = self.cluster.leader(&partition.topic, partition.number) else {
                continue;
            };
            let Some(first) = partition.ready.front_mut() else {
                continue;
            };
            let length = first.stamp(stamp);
            let total = bytes_by_leader.entry(leader).or_default();
            if *total > 0 && *total + length > MAX_REQUEST_BYTES {
                continue;
            }
            *total += length;
            by_leader.entry(leader).or_default().push(slot);
        }
        by_leader
    }

    /// Sends one request to each leader, then takes the answers. Gives what may pass when tried again.
    fn send_round(
        &mut self,
        by_leader: &BTreeMap<i32, Vec<usize>>,
        refused: &mut Vec<WriteError>,
    ) -> Option<KafkaError> {
        let mut trouble = None;
        let mut sent = Vec::new();
        for (leader, slots) in by_leader {
            let request = self.request(slots);
            let posted = self.cluster.connection(*leader).and_then(|connection| {
                let version = connection.version::<ProduceRequest>(PRODUCE)?;
                Ok((connection.send(&request, version)?, version))
            });
            match posted {
                Ok((correlation_id, version)) => sent.push((*leader, slots, correlation_id, version)),
                Err(error) => {
                    self.cluster.disconnect(*leader);
                    trouble = Some(error);
                }
            }
        }
        for (leader, slots, correlation_id, version) in sent {
            let answer = self
                .cluster
                .connection(leader)
                .and_then(|connection| connection.receive::<ProduceRequest>(correlation_id, version));
            match answer {
                Ok(answer) => trouble = self.take_answer(slots, &answer, refused).or(trouble),
                Err(error) => {
                    self.cluster.disconnect(leader);
                    trouble = Some(error);
                }
            }
        }
        trouble
    }

    fn request(&self, slots: &[usize]) -> ProduceRequest {
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for partition in slots.iter().filter_map(|slot| self.partitions.get(*slot)) {
            let Some(bytes) = partition.ready.front().and_then(Ready::bytes) else {
                continue;
            };
            let data = PartitionProduceData::default()
                .with_index(partition.number)
                .with_records(Some(bytes.clone()));
            match topics.iter_mut().find(|topic| **topic.name == *partition.topic) {
                Some(topic) => topic.partition_data.push(data),
                None => topics.push(
                    TopicProduceData::default()
                        .with_name(TopicName(StrBytes::from_string(partition.topic.to_string())))
                        .with_partition_data(vec![data]),
                ),
            }
        }
        let transactional_id = self.transactional_id.clone();
        let timeout_ms = self.cluster.request_timeout().as_millis();
        ProduceRequest::default()
            .with_transactional_id(transactional_id.map(|id| TransactionalId(StrBytes::from_string(id))))
            .with_acks(ACKS_ALL)
            .with_timeout_ms(i32::try_from(timeout_ms).unwrap_or(i32::MAX))
            .with_topic_data(topics)
    }

    fn take_answer(
        &mut self,
        slots: &[usize],
        answer: &ProduceResponse,
        refused: &mut Vec<WriteError>,
    ) -> Option<KafkaError> {
        let mut trouble = None;
        for slot in slots {
            let Some(partition) = self.partitions.get_mut(*slot) else {
                continue;
            };
            let found = answer
                .responses
                .iter()
                .filter(|topic| **topic.name == *partition.topic)
                .flat_map(|topic| &topic.partition_responses)
                .find(|one| one.index == partition.number);
            let place = || format!("write to {}-{}", partition.topic, partition.number);
            let sent = partition.ready.front().and_then(Ready::bytes).map_or(0, Bytes::len);
            let Some(found) = found else {
                trouble = Some(KafkaError::new(ErrorCode::BadMessage, place()));
                continue;
            };
            match code_of(i32::from(found.error_code)) {
                code @ (ErrorCode::NoError | ErrorCode::DuplicateSequenceNumber) => {
                    if let Some(written) = partition.ready.pop_front() {
                        partition.next_sequence = next_sequence(partition.next_sequence, written.records);
                        partition.pieces.push(Piece {
                            batch: written.batch,
                            first: written.first,
                            records: written.records,
                            // A duplicate is there, but the broker no longer knows where.
                            base: if code == ErrorCode::NoError {
                                found.base_offset
                            } else {
                                -1
                            },
                        });
                    }
                }
                // Refused as a whole, though each record may fit: as Java, in pieces.
                ErrorCode::MessageSizeTooLarge | ErrorCode::MessageBatchTooLarge
                    if split_first(&mut partition.ready) =>
                {
                    let (topic, bytes) = (Arc::clone(&partition.topic), sent);
                    self.refused_batch(&topic, bytes);
                }
                _ => {
                    let detail = found.error_message.as_ref().map(|text| format!(": {text}"));
                    let context = place() + detail.as_deref().unwrap_or_default();
                    let error = error_of(i32::from(found.error_code), context);
                    if error.is_retriable() {
                        trouble = Some(error);
                    } else {
                        refused.push(WriteError {
                            error: in_transaction(error),
                            topic: Some(partition.topic.clone()),
                        });
                    }
                }
            }
        }
        trouble
    }

    /// Asks where the leaders of what is left are now. A topic that is gone is refused.
    fn look_again(&mut self, refused: &mut Vec<WriteError>) {
        let mut topics: Vec<Arc<str>> = Vec::new();
        for partition in self.partitions.iter().filter(|partition| !partition.ready.is_empty()) {
            if !topics.contains(&partition.topic) {
                topics.push(partition.topic.clone());
            }
        }
        for topic in topics {
            match self.cluster.refresh(&[&topic]) {
                Err(error) if error.code == ErrorCode::UnknownTopicOrPartition || !error.is_retriable() => {
                    refused.push(WriteError {
                        error,
                        topic: Some(topic),
                    });
                }
                // Until a broker answers the old leaders are as good as any.
                Err(_) | Ok(()) => {}
            }
        }
    }
}

/// The first of what is ready as two pieces. False: it is a single record.
fn split_first(ready: &mut VecDeque<Ready>) -> bool {
    let Some([left, right]) = ready.front().and_then(Ready::halves) else {
        return false;
    };
    ready.pop_front();
    ready.push_front(right);
    ready.push_front(left);
    true
}

/// Sequence numbers wrap at 2^31 - 1 to 0.
fn next_sequence(sequence: i32, records: i32) -> i32 {
    let next = i64::from(sequence) + i64::from(records);
    (next % (i64::from(i32::MAX) + 1)) as i32
}

/// A write with an old epoch says no more than that the transaction is over: the broker may have aborted it after
/// `transaction.timeout.ms`, or another producer has taken over. The abort that follows finds out which (KIP-588).
pub(super) fn in_transaction(error: KafkaError) -> KafkaError {
    match error.code {
        ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => {
            let context = format!("{}: the epoch is over", error.context);
            KafkaError::classified(ErrorCode::InvalidTransactionalState, context, true, false, true)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::next_sequence;

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!(next_sequence(0, 5), 5);
        assert_eq!(next_sequence(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 5), 3);
    }
}
