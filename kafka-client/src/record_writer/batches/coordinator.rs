//! What is asked of coordinators: producer ids and epochs, partitions of a transaction, its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, EndTxnRequest, InitProducerIdRequest, ProducerId, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::BatchWriter;
use super::cluster::RETRY_PAUSE;
use crate::error::Remedy;
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::error_of;
use crate::record_writer::{GoesOn, WriteError};

/// While the markers of the transaction before are being written the next one cannot start.
const CONCURRENT_PAUSE: Duration = Duration::from_millis(1);
/// A topic that a coordinator has not heard of by then is refused, though brokers know it: all other records wait.
const LEARNING: Duration = Duration::from_secs(5);

/// Versions whose layout this file knows: the last ones before the epoch of each transaction differs (KIP-890).
const INIT_PRODUCER_ID: i16 = 4;
const ADD_PARTITIONS_TO_TXN: i16 = 3;
const END_TXN: i16 = 4;

/// A partition that could be added, beside one that could not.
const OPERATION_NOT_ATTEMPTED: i16 = ErrorCode::OperationNotAttempted as i16;

impl BatchWriter {
    /// Takes a producer id; in the name of a transactional id, with an epoch that fences older ones. A writer that has an
    /// epoch takes the next one, unless another producer has fenced it (KIP-360).
    pub(super) fn init_producer_id(&mut self, goes_on: GoesOn<'_>) -> Result<(), KafkaError> {
        let transactional = self.transactional_id.is_some();
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(self.transactional_id.as_deref().map(transactional_id))
            .with_transaction_timeout_ms(i32::try_from(self.transaction_timeout.as_millis()).unwrap_or(i32::MAX))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        if transactional && self.producer_id >= 0 {
            request.producer_id = ProducerId(self.producer_id);
            request.producer_epoch = self.producer_epoch;
        }
        let answer = self.ask(&request, INIT_PRODUCER_ID, goes_on, "take a producer id", |answer| {
            answer.error_code
        })?;
        self.producer_id = answer.producer_id.0;
        self.producer_epoch = answer.producer_epoch;
        self.must_reset = false;
        self.renumber = false;
        for partition in &mut self.partitions {
            partition.next_sequence = 0;
        }
        Ok(())
    }

    /// Adds the partitions that the write needs to the transaction. Gives the topics that cannot be added, whose records are
    /// dropped: one of them keeps all from being added, so it is tried again without it.
    pub(super) fn add_partitions(&mut self, goes_on: GoesOn<'_>) -> Result<Vec<WriteError>, WriteError> {
        let mut refused: Vec<WriteError> = Vec::new();
        let deadline = Instant::now() + LEARNING;
        loop {
            let topics = self.partitions_to_add();
            if topics.is_empty() {
                break;
            }
            let found = self.try_add(topics, goes_on)?;
            if found.is_empty() {
                break;
            }
            let found = self.refused_for_good(found, deadline, goes_on);
            for error in &found {
                self.drop_topic(error.topic.as_deref().unwrap_or_default());
            }
            refused.extend(found);
        }
        for partition in &mut self.partitions {
            partition.in_transaction |= !partition.ready.is_empty();
        }
        Ok(refused)
    }

    fn partitions_to_add(&self) -> Vec<AddPartitionsToTxnTopic> {
        let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
        let new = self
            .partitions
            .iter()
            .filter(|partition| !partition.ready.is_empty() && !partition.in_transaction);
        for partition in new {
            match topics.iter_mut().find(|topic| **topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(partition.number),
                None => topics.push(
                    AddPartitionsToTxnTopic::default()
                        .with_name(TopicName(StrBytes::from_string(partition.topic.to_string())))
                        .with_partitions(vec![partition.number]),
                ),
            }
        }
        topics
    }

    /// Adds these; gives the topics that refuse, with none added then.
    fn try_add(
        &mut self,
        topics: Vec<AddPartitionsToTxnTopic>,
        goes_on: GoesOn<'_>,
    ) -> Result<Vec<WriteError>, WriteError> {
        let was_open = std::mem::replace(&mut self.transaction_open, true);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.own_transactional_id())
            .with_v3_and_below_producer_id(ProducerId(self.producer_id))
            .with_v3_and_below_producer_epoch(self.producer_epoch)
            .with_v3_and_below_topics(topics);
        let doing = "add partitions to the transaction";
        let answer = self.ask_unread(&request, ADD_PARTITIONS_TO_TXN, goes_on, doing, worst)?;
        let mut refused: Vec<WriteError> = Vec::new();
        for topic in &answer.results_by_topic_v3_and_below {
            for result in &topic.results_by_partition {
                if matches!(result.partition_error_code, 0 | OPERATION_NOT_ATTEMPTED) {
                    continue;
                }
                let context = format!("{doing}: {}-{}", topic.name.0, result.partition_index);
                let error = error_of(i32::from(result.partition_error_code), context);
                let error = WriteError::of_topic(topic.name.0.as_str(), super::rounds::in_transaction(error));
                if !error.is_of_topic() {
                    return Err(error);
                }
                if !refused.iter().any(|known| known.topic == error.topic) {
                    refused.push(error);
                }
            }
        }
        if !refused.is_empty() {
            self.transaction_open = was_open;
        }
        Ok(refused)
    }

    /// Of topics that a coordinator does not add, those that it is not asked for again. It learns of a new topic a little later
    /// than whoever has made it, so it is asked again, as Java does, as long as the topic is there.
    fn refused_for_good(&mut self, found: Vec<WriteError>, deadline: Instant, goes_on: GoesOn<'_>) -> Vec<WriteError> {
        let mut refused = Vec::new();
        let mut may_learn = false;
        for error in found {
            let topic: Arc<str> = error.topic.clone().unwrap_or_default();
            if error.error.remedy() != Remedy::Missing || Instant::now() >= deadline || !goes_on(&error.error) {
                refused.push(error);
                continue;
            }
            match self.cluster.refresh(&[&topic]) {
                Err(error) if error.remedy() == Remedy::Missing => refused.push(WriteError::of_topic(&topic, error)),
                // Without an answer the coordinator is asked all the same.
                Ok(()) | Err(_) => may_learn = true,
            }
        }
        if may_learn {
            std::thread::sleep(RETRY_PAUSE);
        }
        refused
    }

    /// Commits or aborts.
    pub(super) fn end_transaction(&mut self, commit: bool, goes_on: GoesOn<'_>) -> Result<(), KafkaError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.own_transactional_id())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.producer_epoch)
            .with_committed(commit);
        let doing = if commit { "commit" } else { "abort" };
        self.ask(&request, END_TXN, goes_on, doing, |answer| answer.error_code)
            .map(drop)
    }

    fn own_transactional_id(&self) -> TransactionalId {
        transactional_id(self.transactional_id.as_deref().unwrap_or_default())
    }

    /// Asks until the answer's code is none that may pass; then any other code is an error.
    fn ask<R: Request>(
        &mut self,
        request: &R,
        at_most: i16,
        goes_on: GoesOn<'_>,
        doing: &str,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, KafkaError> {
        let answer = self.ask_unread(request, at_most, goes_on, doing, &code)?;
        match code(&answer) {
            0 => Ok(answer),
            code => Err(error_of(i32::from(code), self.doing(doing))),
        }
    }

    /// Asks until the answer's code is none that may pass.
    fn ask_unread<R: Request>(
        &mut self,
        request: &R,
        at_most: i16,
        goes_on: GoesOn<'_>,
        doing: &str,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, KafkaError> {
        loop {
            let answer = self
                .coordinator()
                .and_then(|broker| self.cluster.call(broker, request, at_most));
            let error = match answer {
                Ok(answer) => match error_of(i32::from(code(&answer)), self.doing(doing)) {
                    // The same request may succeed later, at the same coordinator or another.
                    error if error.remedy() == Remedy::Wait => error,
                    _ => return Ok(answer),
                },
                Err(error) if error.is_retriable() => error.while_doing(self.doing(doing)),
                Err(error) => return Err(error.while_doing(self.doing(doing))),
            };
            if !goes_on(&error) {
                return Err(error);
            }
            if error.code == ErrorCode::ConcurrentTransactions {
                std::thread::sleep(CONCURRENT_PAUSE);
            } else {
                self.coordinator = None;
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }

    /// The coordinator of the transactional id; without one any broker, asked through the metadata of no topic.
    fn coordinator(&mut self) -> Result<i32, KafkaError> {
        if let Some(broker) = self.coordinator {
            return Ok(broker);
        }
        let broker = match &self.transactional_id {
            Some(id) => self.cluster.coordinator(id)?,
            None => self.cluster.any_broker()?,
        };
        self.coordinator = Some(broker);
        Ok(broker)
    }

    fn doing(&self, what: &str) -> String {
        match &self.transactional_id {
            Some(id) => format!("{what}, transactional.id {id}"),
            None => what.to_owned(),
        }
    }
}

/// The code that stands for all partitions of an answer: if one cannot be added, none is.
fn worst(answer: &AddPartitionsToTxnResponse) -> i16 {
    let topics = answer.results_by_topic_v3_and_below.iter();
    let codes = topics.flat_map(|topic| topic.results_by_partition.iter().map(|one| one.partition_error_code));
    codes
        .filter(|code| *code != 0)
        .max_by_key(|code| *code != OPERATION_NOT_ATTEMPTED)
        .unwrap_or(0)
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}
