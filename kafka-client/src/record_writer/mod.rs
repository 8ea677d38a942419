//! Writes many records at once and waits for all of them: what a commit of the inference sink does.
//!
//! ```text
//!  append(record) -> Place      write | commit -> Written: the offset at each Place      abort
//!        |
//!        +-- batches/    our own encoder and connections, where the configuration allows it (PLAINTEXT, no compression):
//!        |               a record costs no queue entry, no allocation and no copy but into its batch
//!        '-- client.rs   librdkafka's producer, for TLS, SASL and compression
//! ```

mod batches;
mod client;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::ClientConfig;
use crate::error::{ErrorCode, KafkaError};
use crate::producer::ProducerRecord;
use batches::BatchWriter;
use client::ClientWriter;

/// Asked before each new attempt at what may pass, with the error of the last one: false gives up, and the error is the
/// outcome. Without an answer an attempt ends after `request.timeout.ms`.
pub type GoesOn<'a> = &'a mut dyn FnMut(&KafkaError) -> bool;

/// A writer, transactional or idempotent. One thread uses it; at most one transaction is open.
pub struct RecordWriter(Kind);

enum Kind {
    Batches(Box<BatchWriter>),
    Client(Box<ClientWriter>),
}

/// Where a record's offset will be found once it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    slot: usize,
    batch: u32,
    delta: i32,
}

/// What a write has written.
#[derive(Debug, Default)]
pub struct Written {
    /// base offsets by [`Place::slot`] and [`Place::batch`]
    bases: Vec<Vec<i64>>,
    /// Topics that refused records, each with its reason; the others are written all the same. In a transaction these are
    /// topics that refuse by themselves (rights, size, not there): it stands, without what was refused, and can be gone on
    /// with.
    pub refused: Vec<WriteError>,
}

impl Written {
    /// Whether a record that was appended before the write is written. The records of one partition are written up to one that
    /// was refused.
    pub fn has(&self, place: Place) -> bool {
        let bases = self.bases.get(place.slot);
        bases.is_some_and(|bases| bases.get(place.batch as usize).is_some())
    }

    /// The offset of a record that was appended before the write; -1 if it is not known, or the record was refused.
    pub fn offset(&self, place: Place) -> i64 {
        let bases = self.bases.get(place.slot);
        match bases.and_then(|bases| bases.get(place.batch as usize)) {
            Some(base) if *base >= 0 => base + i64::from(place.delta),
            _ => -1,
        }
    }
}

/// Why nothing, or not everything, was written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct WriteError {
    /// the error
    pub error: KafkaError,
    /// the topic that is at fault, if it is one topic's
    pub topic: Option<Arc<str>>,
}

/// Goes on until a time.
fn until(deadline: Instant) -> impl FnMut(&KafkaError) -> bool {
    move |_| Instant::now() < deadline
}

impl From<KafkaError> for WriteError {
    fn from(error: KafkaError) -> WriteError {
        WriteError { error, topic: None }
    }
}

impl WriteError {
    /// Whether one topic refuses by itself (rights, size, it is not there): what is for others can be written without it.
    pub fn is_of_topic(&self) -> bool {
        let own = matches!(
            self.error.code,
            ErrorCode::TopicAuthorizationFailed
                | ErrorCode::MessageSizeTooLarge
                | ErrorCode::UnknownTopic
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownPartition
                | ErrorCode::InvalidTopic
                | ErrorCode::InvalidRecord
                | ErrorCode::PolicyViolation
        );
        own && self.topic.is_some()
    }

    /// Whether it is the records that the topic refuses, and others may be taken.
    pub fn is_of_records(&self) -> bool {
        self.is_of_topic()
            && matches!(
                self.error.code,
                ErrorCode::MessageSizeTooLarge | ErrorCode::InvalidRecord
            )
    }

    fn of_topic(topic: &str, error: KafkaError) -> WriteError {
        WriteError {
            error,
            topic: Some(topic.into()),
        }
    }
}

impl RecordWriter {
    /// A writer without transactions, idempotent.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option; or no broker could be asked for a producer id within `timeout`.
    pub fn idempotent(config: &ClientConfig, timeout: Duration) -> Result<RecordWriter, KafkaError> {
        Self::new(config, None, timeout)
    }

    /// A transactional writer. It fences every other producer that has this id, and aborts what that one had open.
    ///
    /// # Errors
    /// As [`Self::idempotent`].
    pub fn transactional(
        config: &ClientConfig,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<RecordWriter, KafkaError> {
        Self::new(config, Some(transactional_id), timeout)
    }

    fn new(config: &ClientConfig, id: Option<&str>, timeout: Duration) -> Result<RecordWriter, KafkaError> {
        config.check_producer()?;
        Ok(RecordWriter(if BatchWriter::supports(config) {
            Kind::Batches(Box::new(BatchWriter::new(config, id, timeout)?))
        } else {
            Kind::Client(Box::new(ClientWriter::new(config, id, timeout)?))
        }))
    }

    /// Takes a record for the next write. Nothing of it is kept but its bytes.
    ///
    /// # Errors
    /// What is wrong with the record or its topic, which the error names: `MessageSizeTooLarge`, `UnknownPartition`, no such
    /// topic.
    pub fn append(&mut self, record: &ProducerRecord<'_>) -> Result<Place, WriteError> {
        match &mut self.0 {
            Kind::Batches(writer) => writer.append(record),
            Kind::Client(writer) => writer.append(record),
        }
    }

    /// Sends everything appended so far and waits until it is acknowledged by all in-sync replicas, for as long as
    /// `goes_on` says.
    ///
    /// # Errors
    /// Nothing is known of what was appended: a transaction must be aborted. Without transactions what was appended is
    /// dropped, and the writer can be used again.
    pub fn write(&mut self, goes_on: GoesOn<'_>) -> Result<Written, WriteError> {
        match &mut self.0 {
            Kind::Batches(writer) => writer.write(goes_on),
            Kind::Client(writer) => writer.write(goes_on),
        }
    }

    /// Writes everything appended and commits it, together with what was written since the last commit.
    ///
    /// # Errors
    /// As [`Self::write`], and the first refusal where there is one; [`Self::abort`] then. Who can do without what is refused
    /// calls `write` first.
    pub fn commit(&mut self, goes_on: GoesOn<'_>) -> Result<Written, WriteError> {
        match &mut self.0 {
            Kind::Batches(writer) => writer.commit(goes_on),
            Kind::Client(writer) => writer.commit(goes_on),
        }
    }

    /// Drops everything since the last commit, here and at the brokers.
    ///
    /// # Errors
    /// [`KafkaError::is_fenced`] where another producer has taken over the id; otherwise the coordinator could not be
    /// reached, and the transaction is aborted by the next call of this, or by the broker after
    /// `transaction.timeout.ms`.
    pub fn abort(&mut self, goes_on: GoesOn<'_>) -> Result<(), KafkaError> {
        match &mut self.0 {
            Kind::Batches(writer) => writer.abort(goes_on),
            Kind::Client(writer) => writer.abort(goes_on),
        }
    }
}
