//! A record to send, and what becomes of it.

use crate::error::KafkaError;

/// Receives what became of each record.
pub trait Deliveries: Send + Sync {
    /// Called once for each record that `send` accepted with a token other than 0, with the partition and offset it got
    /// (offset -1 with `acks=0`), or the error it failed with for good. For token 0 only failures are reported.
    ///
    /// Runs on the producer's delivery thread (or on one that flushes): it must be quick and must not block.
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>);
}

/// A record to send. Nothing of it is kept after `send` returns.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProducerRecord<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// A partition, or where Java's producer would put it: by its key, without a key anywhere.
    pub partition: Option<i32>,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch, or now.
    pub timestamp_ms: Option<i64>,
    /// Headers in order: name and value, or null.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Why a record was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// `buffer.memory` holds records that are not delivered yet. Try again when some are.
    #[error("the producer's buffer is full")]
    QueueFull,
    /// The record or the producer is refused.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}
