//! What a partition remembers of idempotent producers: the last five batches of each, so that a
//! resent batch is answered with its old offset and a gap is refused (KIP-98). Pure.

use std::collections::VecDeque;

use kafka_protocol::ResponseError;
use rustc_hash::FxHashMap;

use crate::batch::BatchHeader;

/// Batches per producer that a resend is recognised by; a producer has at most five in flight.
const REMEMBERED_BATCHES: usize = 5;

#[derive(Debug, Clone, Copy)]
struct RememberedBatch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp_ms: i64,
}

#[derive(Debug, Clone)]
struct Producer {
    epoch: i16,
    batches: VecDeque<RememberedBatch>,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is the next one: append it.
    Append,
    /// It is in the log already, at this offset.
    Duplicate {
        /// Offset of the batch's first record.
        base_offset: i64,
        /// Timestamp the batch was answered with, milliseconds.
        timestamp_ms: i64,
    },
}

/// The producers of one partition.
#[derive(Debug, Default)]
pub struct ProducerStates {
    by_id: FxHashMap<i64, Producer>,
}

impl ProducerStates {
    /// Decides about a batch of a producer with an id.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH` for an older epoch, `OUT_OF_ORDER_SEQUENCE_NUMBER` for a gap.
    pub fn check(&self, header: &BatchHeader) -> Result<SequenceCheck, ResponseError> {
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return Ok(SequenceCheck::Append);
        };
        if header.producer_epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if header.producer_epoch > producer.epoch {
            return match header.base_sequence {
                0 => Ok(SequenceCheck::Append),
                _ => Err(ResponseError::OutOfOrderSequenceNumber),
            };
        }
        let duplicate = producer.batches.iter().find(|batch| {
            batch.first_sequence == header.base_sequence && batch.last_sequence == header.last_sequence()
        });
        if let Some(batch) = duplicate {
            return Ok(SequenceCheck::Duplicate {
                base_offset: batch.base_offset,
                timestamp_ms: batch.timestamp_ms,
            });
        }
        let expected = producer.batches.back().map_or(0, |batch| match batch.last_sequence {
            i32::MAX => 0,
            last => last + 1,
        });
        if header.base_sequence == expected {
            Ok(SequenceCheck::Append)
        } else {
            Err(ResponseError::OutOfOrderSequenceNumber)
        }
    }

    /// Notes a batch that was appended (or read back from a file).
    pub fn appended(&mut self, header: &BatchHeader) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            batches: VecDeque::new(),
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if header.is_control() {
            return;
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(RememberedBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            timestamp_ms: header.max_timestamp,
        });
    }
}
