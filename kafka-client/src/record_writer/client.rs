//! The writer over librdkafka's producer.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{GoesOn, Piece, Place, WriteError, Written};
use crate::config::ClientConfig;
use crate::error::{ErrorCode, KafkaError};
use crate::producer::Producer;
use crate::producer_record::{Deliveries, ProducerRecord};
use crate::topic_identity::TopicIdentity;

/// How long a full buffer may stay full.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Kafka is waited for in slices, between which the caller may give up.
const SLICE: Duration = Duration::from_millis(500);
/// Wait after an error that came at once and may pass.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// The writer.
pub(super) struct ClientWriter {
    producer: Producer,
    reports: Arc<Reports>,
    transactional: bool,
    /// librdkafka has a transaction open
    begun: bool,
    /// by record since the last write: which of `topics` it is for
    records: Vec<u32>,
    topics: Vec<Arc<str>>,
}

/// What became of each record; its token is its number since the last write, plus 1.
#[derive(Default)]
struct Reports(Mutex<Outcome>);

#[derive(Default)]
struct Outcome {
    offsets: Vec<i64>,
    failed: Vec<(usize, KafkaError)>,
}

impl Deliveries for Reports {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        let Some(number) = usize::try_from(token).ok().and_then(|token| token.checked_sub(1)) else {
            return;
        };
        let mut outcome = self.0.lock();
        match result {
            Ok((_, offset)) => {
                if outcome.offsets.len() <= number {
                    outcome.offsets.resize(number + 1, -1);
                }
                if let Some(place) = outcome.offsets.get_mut(number) {
                    *place = offset;
                }
            }
            Err(error) => outcome.failed.push((number, error)),
        }
    }
}

impl ClientWriter {
    pub fn new(config: &ClientConfig, id: Option<&str>, timeout: Duration) -> Result<ClientWriter, KafkaError> {
        let mut config = config.clone();
        config.set("enable.idempotence", "true").set("acks", "all");
        if config.get("batch.size").is_none() {
            // Java's. The library's own of a million bytes is refused whole by topics with a smaller max.message.bytes.
            config.set("batch.size", "16384");
        }
        if let Some(id) = id {
            config.set("transactional.id", id);
            config.unset("max.in.flight.requests.per.connection").unset("retries");
        }
        let reports = Arc::new(Reports::default());
        let producer = Producer::new(&config, reports.clone())?;
        if id.is_some() {
            producer.init_transactions(timeout)?;
        }
        Ok(ClientWriter {
            producer,
            reports,
            transactional: id.is_some(),
            begun: false,
            records: Vec::new(),
            topics: Vec::new(),
        })
    }

    pub fn append(&mut self, record: &ProducerRecord<'_>) -> Result<Place, WriteError> {
        let at_fault = |error| WriteError::of_topic(record.topic, error);
        if self.transactional && !self.begun {
            self.producer.begin_transaction()?;
            self.begun = true;
        }
        let known = self.topics.iter().position(|topic| **topic == *record.topic);
        let topic = known.unwrap_or_else(|| {
            self.topics.push(record.topic.into());
            self.topics.len() - 1
        });
        let number = self.records.len();
        self.producer
            .send_waiting(record, number as u64 + 1, SEND_TIMEOUT)
            .map_err(at_fault)?;
        self.records.push(topic as u32);
        Ok(Place {
            slot: number,
            batch: 0,
            delta: 0,
        })
    }

    pub fn write(&mut self, goes_on: GoesOn<'_>) -> Result<Written, WriteError> {
        let flushed = patiently(goes_on, || self.producer.flush(SLICE));
        let (written, failed) = self.take_outcome();
        if let Err(error) = flushed {
            self.producer.purge();
            return Err(error.into());
        }
        match failed.into_iter().next() {
            Some(first) if self.transactional => Err(first),
            _ => Ok(written),
        }
    }

    pub fn commit(&mut self, goes_on: GoesOn<'_>) -> Result<Written, WriteError> {
        let written = self.write(goes_on)?;
        if self.begun {
            // Called again until its outcome is known: after a call that timed out nothing else is allowed.
            patiently(goes_on, || self.producer.commit_transaction(SLICE))?;
            self.begun = false;
        }
        Ok(written)
    }

    pub fn abort(&mut self, goes_on: GoesOn<'_>) -> Result<(), KafkaError> {
        if self.begun {
            patiently(goes_on, || self.producer.abort_transaction(SLICE))?;
            self.begun = false;
        }
        self.take_outcome();
        Ok(())
    }

    pub fn topics(&mut self, names: &[&str], goes_on: GoesOn<'_>) -> Result<Vec<Option<TopicIdentity>>, KafkaError> {
        let described = patiently(goes_on, || self.producer.describe_topics(names, SLICE))?;
        let topics = described.into_iter().map(|found| match found {
            Ok(topic) => Ok(Some(TopicIdentity::of(&topic))),
            Err(error) if error.code == ErrorCode::UnknownTopicOrPartition => Ok(None),
            Err(error) => Err(error),
        });
        topics.collect()
    }

    fn take_outcome(&mut self) -> (Written, Vec<WriteError>) {
        let outcome = std::mem::take(&mut *self.reports.0.lock());
        let records = std::mem::take(&mut self.records);
        let mut refused: Vec<WriteError> = Vec::new();
        for (number, error) in outcome.failed {
            let topic = records
                .get(number)
                .and_then(|topic| self.topics.get(*topic as usize))
                .cloned();
            if !refused.iter().any(|other| other.topic == topic) {
                refused.push(WriteError { error, topic });
            }
        }
        let pieces = outcome.offsets.into_iter().map(|base| {
            let piece = Piece {
                batch: 0,
                first: 0,
                records: 1,
                base,
            };
            if base < 0 { Vec::new() } else { vec![piece] }
        });
        let written = Written {
            pieces: pieces.collect(),
            refused: refused.clone(),
        };
        (written, refused)
    }
}

/// Calls again what may pass.
fn patiently<T>(goes_on: GoesOn<'_>, mut attempt: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    loop {
        match attempt() {
            Err(error) if error.is_retriable() && goes_on(&error) => {
                if !error.is_timeout() {
                    std::thread::sleep(RETRY_WAIT);
                }
            }
            outcome => return outcome,
        }
    }
}
