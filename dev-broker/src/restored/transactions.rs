//! Transactional ids and what is open of each: pure.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use crate::committed_offsets::PartitionKey;
use crate::storage::journal::{Entry, TransactionState, TransactionalProducer};

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id.
    pub producer_id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// Transactional ids and the next producer id.
#[derive(Debug, Default)]
pub struct Transactions {
    /// By transactional id.
    pub by_id: BTreeMap<String, TransactionalProducer>,
    /// The id that the next producer gets.
    pub next_producer_id: i64,
}

impl Transactions {
    /// Takes in what a journal says.
    pub fn restore(&mut self, entry: Entry) {
        match entry {
            Entry::NextProducerId { next } => self.next_producer_id = self.next_producer_id.max(next),
            Entry::Transaction {
                transactional_id,
                producer,
            } => {
                self.by_id.insert(transactional_id, producer);
            }
            _ => {}
        }
    }

    /// The entries that lead to this state.
    pub fn entries(&self) -> Vec<Entry> {
        let next = Entry::NextProducerId {
            next: self.next_producer_id,
        };
        let producers = self.by_id.iter().map(|(id, producer)| Entry::Transaction {
            transactional_id: id.clone(),
            producer: producer.clone(),
        });
        std::iter::once(next).chain(producers).collect()
    }

    /// Whether that partition is in the producer's open transaction: only then may a
    /// transactional batch be appended. Hold the coordinator's lock until it is.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `INVALID_PRODUCER_EPOCH`, `INVALID_TXN_STATE`.
    pub fn check_append(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partition: &PartitionKey,
    ) -> Result<(), ResponseError> {
        let entry = self.find(transactional_id, producer, ResponseError::InvalidProducerEpoch)?;
        let added = entry.partitions.contains(partition);
        match entry.state {
            TransactionState::Ongoing if added => Ok(()),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Whether that group is in the producer's open transaction.
    ///
    /// # Errors
    /// As [`Transactions::check_append`].
    pub fn check_offsets(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        group: &str,
    ) -> Result<(), ResponseError> {
        let entry = self.find(transactional_id, producer, ResponseError::InvalidProducerEpoch)?;
        match entry.state {
            TransactionState::Ongoing if entry.groups.contains(group) => Ok(()),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// The entry of a producer.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`; `fenced`, where the producer has another epoch.
    pub fn find(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        fenced: ResponseError,
    ) -> Result<&TransactionalProducer, ResponseError> {
        match self.by_id.get(transactional_id) {
            Some(entry) if entry.producer_id == producer.producer_id => {
                if entry.epoch == producer.epoch {
                    Ok(entry)
                } else {
                    Err(fenced)
                }
            }
            _ => Err(ResponseError::InvalidProducerIdMapping),
        }
    }
}
