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
use crate::error::KafkaError;
use crate::error::Remedy;
use crate::producer_record::ProducerRecord;
use crate::topic_identity::TopicIdentity;
use batches::BatchWriter;
use client::ClientWriter;

/// Options of Kafka's producer that [`RecordWriter`] writes without, and whether it does so also where it goes through
/// librdkafka (TLS, SASL, compression).
pub const UNREAD_OPTIONS: [(&str, bool); 19] = [
    ("acks", true),
    ("enable.idempotence", true),
    ("retries", true),
    ("max.in.flight.requests.per.connection", true),
    ("transactional.id", true),
    ("buffer.memory", false),
    ("client.dns.lookup", false),
    ("connections.max.idle.ms", false),
    ("delivery.timeout.ms", false),
    ("enable.metrics.push", false),
    ("metadata.recovery.rebootstrap.trigger.ms", false),
    ("metadata.recovery.strategy", false),
    ("receive.buffer.bytes", false),
    ("reconnect.backoff.max.ms", false),
    ("reconnect.backoff.ms", false),
    ("retry.backoff.max.ms", false),
    ("retry.backoff.ms", false),
    ("send.buffer.bytes", false),
    ("socket.connection.setup.timeout.ms", false),
];

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

/// Where a piece of a batch was written: a batch that is too large for its topic goes out in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// [`Place::batch`]
    batch: u32,
    /// [`Place::delta`] of its first record
    first: i32,
    /// how many it has
    records: i32,
    /// the first one's offset; -1 if it is not known
    base: i64,
}

/// What a write has written.
#[derive(Debug, Default)]
pub struct Written {
    /// by [`Place::slot`], in the order of batches and their records
    pieces: Vec<Vec<Piece>>,
    /// Topics that refused records, each with its reason; the others are written all the same. In a transaction these are
    /// topics that refuse by themselves (rights, size, not there): it stands, without what was refused, and can be gone on
    /// with.
    pub refused: Vec<WriteError>,
}

impl Written {
    /// Whether a record that was appended before the write is written. The records of one partition are written up to one that
    /// was refused.
    pub fn has(&self, place: Place) -> bool {
        self.piece(place).is_some()
    }

    /// The offset of a record that was appended before the write; -1 if it is not known, or the record was refused.
    pub fn offset(&self, place: Place) -> i64 {
        match self.piece(place) {
            Some(piece) if piece.base >= 0 => piece.base + i64::from(place.delta - piece.first),
            _ => -1,
        }
    }

    /// The piece that a record went out with.
    fn piece(&self, place: Place) -> Option<&Piece> {
        let pieces = self.pieces.get(place.slot)?;
        let behind = pieces.partition_point(|piece| (piece.batch, piece.first) <= (place.batch, place.delta));
        let piece = pieces.get(behind.checked_sub(1)?)?;
        (piece.batch == place.batch && place.delta < piece.first + piece.records).then_some(piece)
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
        self.topic.is_some() && crate::error::is_of_topic(self.error.code)
    }

    /// Whether it is the records that the topic refuses, and others may be taken.
    pub fn is_of_records(&self) -> bool {
        self.is_of_topic() && self.error.remedy() == Remedy::Refused
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

    /// Topics as brokers tell of them now, in the order asked; `None` for one that is not there. Never has them made.
    ///
    /// # Errors
    /// A topic that may not be seen; no broker that answers, for as long as `goes_on` says.
    pub fn topics(&mut self, names: &[&str], goes_on: GoesOn<'_>) -> Result<Vec<Option<TopicIdentity>>, KafkaError> {
        match &mut self.0 {
            Kind::Batches(writer) => writer.topics(names, goes_on),
            Kind::Client(writer) => writer.topics(names, goes_on),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that a producer takes is passed over without [`UNREAD_OPTIONS`] saying so.
    #[test]
    fn every_option_of_producers_is_read_or_said_not_to_be() {
        // By the two below, or by whoever hands over the records (`linger.ms`, `batch.size`).
        let read = [
            "bootstrap.servers",
            "client.id",
            "metadata.max.age.ms",
            "request.timeout.ms",
            "allow.auto.create.topics",
            "max.request.size",
            "transaction.timeout.ms",
            "compression.type",
        ];
        let sources = [include_str!("batches/mod.rs"), include_str!("batches/cluster.rs")].concat();
        for option in read {
            assert!(sources.contains(&format!("\"{option}\"")), "{option} is not read");
        }
        let unread = UNREAD_OPTIONS.map(|(option, _)| option);
        for option in crate::config::of_producers() {
            let of_compression = option.starts_with("compression.");
            let lingers = matches!(option, "linger.ms" | "batch.size");
            assert!(
                read.contains(&option) || of_compression || lingers || unread.contains(&option),
                "nobody reads {option}, and nobody says so"
            );
        }
        for option in unread {
            assert!(crate::config::of_producers().any(|known| known == option), "{option}");
            assert!(!sources.contains(&format!("\"{option}\"")), "{option} is read");
        }
    }

    #[test]
    fn a_record_is_found_in_the_piece_that_it_went_out_with() {
        let piece = |batch, first, records, base| Piece {
            batch,
            first,
            records,
            base,
        };
        let written = Written {
            pieces: vec![
                Vec::new(),
                vec![
                    piece(0, 0, 4, 100),
                    piece(0, 4, 6, 120),
                    piece(1, 0, 3, 130),
                    piece(3, 0, 2, -1),
                ],
            ],
            refused: Vec::new(),
        };
        let at = |slot, batch, delta| Place { slot, batch, delta };
        let offset = |slot, batch, delta| written.offset(at(slot, batch, delta));
        assert_eq!((offset(1, 0, 0), offset(1, 0, 3), offset(1, 0, 4)), (100, 103, 120));
        assert_eq!((offset(1, 0, 9), offset(1, 1, 2)), (125, 132));
        assert_eq!((offset(1, 2, 0), offset(1, 3, 0)), (-1, -1), "refused, and a duplicate");
        assert_eq!((offset(0, 0, 0), offset(7, 0, 0)), (-1, -1));
        assert_eq!(offset(1, 1, 3), -1, "behind the piece that was refused");
        let has = |slot, batch, delta| written.has(at(slot, batch, delta));
        assert!(has(1, 0, 9) && has(1, 3, 1), "a duplicate is there");
        assert!(!has(1, 0, 10) && !has(1, 2, 0) && !has(0, 0, 0) && !has(7, 0, 0));
    }
}
