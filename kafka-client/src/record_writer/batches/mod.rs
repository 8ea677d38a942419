//! The writer with an encoder and connections of its own: records go straight into record batches.
//!
//! ```text
//!  append(record) -> encode: the open batch of its partition            Place: where its offset will be found
//!  write / commit -> transaction: add partitions -> rounds: one batch of each partition, one request per leader
//!                                     ^                       | leader moved, connection lost: cluster.refresh, again
//!                                     '-----------------------'
//!                 -> commit: EndTxn                                      Written: offsets by Place
//!  abort          -> EndTxn, InitProducerId with the next epoch (KIP-360)
//! ```
//! Requests block the calling thread. A batch goes out once more only under the sequence number it had (KIP-98), so a retry
//! never writes twice.

mod cluster;
mod connection;
mod coordinator;
mod encode;
mod rounds;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{GoesOn, Piece, Place, WriteError, Written, until};
use crate::clock::wall_ms;
use crate::config::ClientConfig;
use crate::error::Remedy;
use crate::error::{ErrorCode, KafkaError};
use crate::partitioner::partition_for_key;
use crate::producer_record::ProducerRecord;
use crate::topic_identity::TopicIdentity;
use cluster::{Cluster, RETRY_PAUSE};
use encode::{Batch, Parts, Stamp, batch_bytes};

/// `max.request.size` of Java's producer: what a batch may have in bytes.
const MAX_BATCH_BYTES: u64 = 1_048_576;
/// A batch with the one control record that ends a transaction (KIP-98): 61 bytes of the batch, 17 of the record. A coordinator
/// that cannot write it to each partition of a transaction never ends that transaction, nor begins another.
const END_OF_TRANSACTION_BYTES: usize = 78;
/// `transaction.timeout.ms` of Java's producer.
const TRANSACTION_TIMEOUT_MS: u64 = 60_000;

/// The writer. One thread uses it; at most one transaction is open.
pub(super) struct BatchWriter {
    cluster: Cluster,
    transactional_id: Option<String>,
    transaction_timeout: Duration,
    max_batch_bytes: usize,
    producer_id: i64,
    producer_epoch: i16,
    coordinator: Option<i32>,
    /// The coordinator may know partitions of the open transaction.
    transaction_open: bool,
    /// The coordinator was asked to commit it, and has not said that it did.
    commit_asked: bool,
    /// An outcome is not known: a new epoch must come before anything else is written.
    must_reset: bool,
    /// Topics that have refused records of the open transaction. They may be others when they are written to again, so
    /// that the next transaction has new numbers.
    refused: Vec<Arc<str>>,
    renumber: bool,
    partitions: Vec<PartitionBatches>,
    topics: HashMap<Arc<str>, Topic>,
    /// The topic of the last record, taken out of `topics`: records mostly come with the same topic in a row.
    recent: Option<Topic>,
    /// Counts writes: records without key or partition go to one partition per write, in turn.
    writes: usize,
}

/// A topic that was written to.
struct Topic {
    name: Arc<str>,
    /// index in `BatchWriter::partitions` by partition number; none before the first record
    slots: Vec<Option<usize>>,
    /// bytes that a batch for it may have: `max.message.bytes`, as far as brokers tell or it has refused one
    max_batch_bytes: usize,
}

/// What is to be written to one partition.
struct PartitionBatches {
    topic: Arc<str>,
    number: i32,
    open: Option<Batch>,
    /// complete, in order; the first of them has its stamp once it has been sent
    ready: VecDeque<Ready>,
    /// batches since the last write, the open one too
    batches: u32,
    /// those that are written
    pieces: Vec<Piece>,
    next_sequence: i32,
    in_transaction: bool,
}

/// A complete batch, or a piece of one.
struct Ready {
    /// [`Place::batch`] of its records
    batch: u32,
    /// [`Place::delta`] of the first of them
    first: i32,
    records: i32,
    form: Form,
}

enum Form {
    Unsent(Batch),
    Stamped(Bytes),
}

impl Ready {
    fn new(batch: u32, first: i32, records: Batch) -> Ready {
        Ready {
            batch,
            first,
            records: records.records(),
            form: Form::Unsent(records),
        }
    }

    /// Gives it its place among the producer's batches, unless it has one. Its length in bytes.
    fn stamp(&mut self, stamp: Stamp) -> usize {
        self.form = match std::mem::replace(&mut self.form, Form::Stamped(Bytes::new())) {
            Form::Unsent(batch) => Form::Stamped(batch.finish(stamp)),
            stamped @ Form::Stamped(_) => stamped,
        };
        self.bytes().map_or(0, Bytes::len)
    }

    /// As it goes out; none before it has its stamp.
    fn bytes(&self) -> Option<&Bytes> {
        match &self.form {
            Form::Unsent(_) => None,
            Form::Stamped(bytes) => Some(bytes),
        }
    }

    /// Itself as two; none where it is a single record.
    fn halves(&self) -> Option<[Ready; 2]> {
        let [left, right] = encode::halves(self.bytes()?)?;
        let middle = self.first + left.records();
        Some([
            Ready::new(self.batch, self.first, left),
            Ready::new(self.batch, middle, right),
        ])
    }
}

impl BatchWriter {
    /// Whether a configuration asks for nothing that only librdkafka's producer does: TLS, SASL, compression.
    pub fn supports(config: &ClientConfig) -> bool {
        let is = |name: &str, value: &str| {
            config
                .get(name)
                .is_none_or(|found| found.trim().eq_ignore_ascii_case(value))
        };
        is("security.protocol", "PLAINTEXT") && is("compression.type", "none")
    }

    /// A writer; with an id it is transactional and fences every other that has the id.
    pub fn new(config: &ClientConfig, id: Option<&str>, timeout: Duration) -> Result<BatchWriter, KafkaError> {
        let max_batch_bytes = number_option(config, "max.request.size", MAX_BATCH_BYTES)?;
        let mut writer = BatchWriter {
            cluster: Cluster::new(config)?,
            transactional_id: id.map(str::to_owned),
            transaction_timeout: millis_option(config, "transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)?,
            max_batch_bytes: usize::try_from(max_batch_bytes).unwrap_or(usize::MAX),
            producer_id: -1,
            producer_epoch: -1,
            coordinator: None,
            transaction_open: false,
            commit_asked: false,
            must_reset: false,
            refused: Vec::new(),
            renumber: false,
            partitions: Vec::new(),
            topics: HashMap::new(),
            recent: None,
            writes: 0,
        };
        writer.init_producer_id(&mut until(Instant::now() + timeout))?;
        Ok(writer)
    }

    /// Encodes a record into the open batch of its partition. The first record of a topic asks the cluster for its partitions.
    pub fn append(&mut self, record: &ProducerRecord<'_>) -> Result<Place, WriteError> {
        let at_fault = |error| WriteError::of_topic(record.topic, error);
        let (slot, topic_limit) = self.slot(record).map_err(at_fault)?;
        let limit = self.max_batch_bytes;
        if self.transactional_id.is_some() && topic_limit < END_OF_TRANSACTION_BYTES {
            // It may be mended: the next record for it asks again.
            self.recent = None;
            let reason = format!(
                "max.message.bytes of {} is {topic_limit}, which the end of a transaction ({END_OF_TRANSACTION_BYTES} bytes) \
                 does not fit into: raise it",
                record.topic
            );
            return Err(at_fault(KafkaError::new(ErrorCode::PolicyViolation, reason)));
        }
        let Some(partition) = self.partitions.get_mut(slot) else {
            return Err(at_fault(KafkaError::new(ErrorCode::UnknownPartition, record.topic)));
        };
        let timestamp_ms = |batch: Option<&Batch>| {
            let created = batch.map_or_else(wall_ms, Batch::timestamp_ms);
            record.timestamp_ms.unwrap_or(created)
        };
        let parts = Parts {
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: timestamp_ms(partition.open.as_ref()),
        };
        let bytes = batch_bytes(&parts);
        if bytes > limit {
            let reason = format!(
                "a record for {} of {bytes} bytes, max.request.size is {limit}",
                record.topic
            );
            return Err(at_fault(KafkaError::new(ErrorCode::MessageSizeTooLarge, reason)));
        }
        let fits = |open: &Batch| open.len() + bytes <= limit.min(topic_limit);
        if partition.open.as_ref().is_some_and(|open| !fits(open)) {
            partition.close_batch();
        }
        let batch = match &mut partition.open {
            Some(batch) => batch,
            open => {
                partition.batches += 1;
                open.insert(Batch::new(parts.timestamp_ms))
            }
        };
        let delta = batch.records();
        batch.push(&parts);
        Ok(Place {
            slot,
            batch: partition.batches - 1,
            delta,
        })
    }

    /// The index in `partitions` of where a record goes, and the bytes that its batch may have.
    fn slot(&mut self, record: &ProducerRecord<'_>) -> Result<(usize, usize), KafkaError> {
        let writes = self.writes;
        let topic = self.topic(record.topic)?;
        let unknown = || KafkaError::new(ErrorCode::UnknownPartition, format!("a record for {}", record.topic));
        let count = i32::try_from(topic.slots.len()).unwrap_or(i32::MAX).max(1);
        let number = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => i32::try_from(writes % topic.slots.len().max(1)).unwrap_or(0),
        };
        let place = usize::try_from(number).map_err(|_| unknown())?;
        let limit = topic.max_batch_bytes;
        let slot = topic.slots.get_mut(place).ok_or_else(unknown)?;
        if let Some(slot) = slot {
            return Ok((*slot, limit));
        }
        let name = Arc::clone(&topic.name);
        let known = |partition: &PartitionBatches| partition.number == number && partition.topic == name;
        let found = self.partitions.iter().position(known);
        let slot = found.unwrap_or_else(|| {
            self.partitions.push(PartitionBatches::new(name, number));
            self.partitions.len() - 1
        });
        if let Some(place) = self.topic(record.topic)?.slots.get_mut(place) {
            *place = Some(slot);
        }
        Ok((slot, limit))
    }

    fn topic(&mut self, name: &str) -> Result<&mut Topic, KafkaError> {
        let recent = self.recent.take_if(|recent| *recent.name != *name);
        if let Some(other) = recent {
            self.topics.insert(Arc::clone(&other.name), other);
        }
        if self.recent.is_none() {
            self.recent = self.topics.remove(name);
        }
        match &mut self.recent {
            Some(topic) => Ok(topic),
            none => {
                let count = usize::try_from(self.cluster.partitions(name)?).unwrap_or(0);
                Ok(none.insert(Topic {
                    name: name.into(),
                    slots: vec![None; count],
                    max_batch_bytes: self.cluster.max_message_bytes(name).unwrap_or(usize::MAX),
                }))
            }
        }
    }

    /// A topic has refused a batch of so many bytes: the next ones are smaller.
    fn refused_batch(&mut self, topic: &str, bytes: usize) {
        if let Ok(topic) = self.topic(topic) {
            topic.max_batch_bytes = topic.max_batch_bytes.min((bytes / 2).max(END_OF_TRANSACTION_BYTES));
        }
    }

    pub fn write(&mut self, goes_on: GoesOn<'_>) -> Result<Written, WriteError> {
        self.follow_growth();
        let written = self.write_ready(goes_on);
        self.writes = self.writes.wrapping_add(1);
        match written {
            Ok(refused) => {
                for topic in refused.iter().filter_map(|error| error.topic.as_ref()) {
                    match self.transactional_id {
                        Some(_) => self.refused.push(topic.clone()),
                        None => self.forget(topic),
                    }
                }
                Ok(self.take_written(refused))
            }
            Err(error) => {
                self.must_reset = true;
                self.drop_batches();
                if let Some(topic) = &error.topic {
                    self.forget(topic);
                }
                Err(error)
            }
        }
    }

    /// A topic that was refused may be another one when it is written to again: its numbers start anew.
    fn forget(&mut self, topic: &str) {
        self.cluster.forget(topic);
        self.recent.take_if(|recent| *recent.name == *topic);
        self.topics.remove(topic);
        self.must_reset = true;
    }

    /// Looks now and then whether topics have more partitions, as Java's producer does.
    fn follow_growth(&mut self) {
        for name in self.cluster.aged() {
            // Without an answer the old number holds until the next write.
            if self.cluster.refresh(&[&name]).is_ok()
                && let Ok(count) = self.cluster.partitions(&name)
                && let Ok(topic) = self.topic(&name)
            {
                let count = usize::try_from(count).unwrap_or(0);
                topic.slots.resize(count.max(topic.slots.len()), None);
                let limit = self.cluster.max_message_bytes(&name);
                if let (Some(limit), Ok(topic)) = (limit, self.topic(&name)) {
                    topic.max_batch_bytes = limit;
                }
            }
        }
    }

    fn write_ready(&mut self, goes_on: GoesOn<'_>) -> Result<Vec<WriteError>, WriteError> {
        for partition in &mut self.partitions {
            partition.close_batch();
        }
        if self.must_reset {
            if self.transactional_id.is_some() {
                let reason = "the transaction before was not aborted";
                return Err(KafkaError::new(ErrorCode::State, reason).into());
            }
            self.init_producer_id(goes_on)?;
        }
        if self.renumber && !self.transaction_open {
            self.init_producer_id(goes_on)?;
        }
        let refused = match self.transactional_id {
            Some(_) => self.add_partitions(goes_on)?,
            None => Vec::new(),
        };
        self.send_rounds(refused, goes_on)
    }

    pub fn commit(&mut self, goes_on: GoesOn<'_>) -> Result<Written, WriteError> {
        let written = self.write(goes_on)?;
        if let Some(refused) = written.refused.first().filter(|_| self.transactional_id.is_some()) {
            self.must_reset = true;
            return Err(refused.clone());
        }
        if self.transaction_open {
            self.commit_asked = true;
            let ended = self.end_transaction(true, goes_on);
            self.must_reset |= ended.is_err();
            ended.map_err(rounds::in_transaction)?;
            self.leave_transaction();
        }
        Ok(written)
    }

    pub fn abort(&mut self, goes_on: GoesOn<'_>) -> Result<(), KafkaError> {
        self.drop_batches();
        self.must_reset = true;
        let mut unknown = None;
        if self.transaction_open {
            match self.end_transaction(false, goes_on) {
                Ok(()) => {}
                // The broker has ended it itself, or took an epoch of its own for that; the next epoch tells.
                Err(error)
                    if matches!(
                        error.code,
                        ErrorCode::InvalidTransactionalState
                            | ErrorCode::InvalidProducerEpoch
                            | ErrorCode::ProducerFenced
                    ) =>
                {
                    unknown = self.commit_asked.then(|| outcome_unknown(&error));
                }
                Err(error) => return Err(error),
            }
        }
        self.leave_transaction();
        self.init_producer_id(goes_on)?;
        unknown.map_or(Ok(()), Err)
    }

    pub fn topics(&mut self, names: &[&str], goes_on: GoesOn<'_>) -> Result<Vec<Option<TopicIdentity>>, KafkaError> {
        loop {
            match self.cluster.describe(names) {
                Err(error) if error.remedy() == Remedy::Wait && goes_on(&error) => std::thread::sleep(RETRY_PAUSE),
                described => return described,
            }
        }
    }

    fn leave_transaction(&mut self) {
        self.transaction_open = false;
        self.commit_asked = false;
        for topic in std::mem::take(&mut self.refused) {
            self.renumber = true;
            self.cluster.forget(&topic);
            self.recent.take_if(|recent| recent.name == topic);
            self.topics.remove(&topic);
        }
        for partition in &mut self.partitions {
            partition.in_transaction = false;
        }
    }

    fn take_written(&mut self, refused: Vec<WriteError>) -> Written {
        let pieces = self.partitions.iter_mut().map(|partition| {
            partition.batches = 0;
            std::mem::take(&mut partition.pieces)
        });
        Written {
            pieces: pieces.collect(),
            refused,
        }
    }

    fn drop_batches(&mut self) {
        for partition in &mut self.partitions {
            partition.open = None;
            partition.ready.clear();
            partition.pieces.clear();
            partition.batches = 0;
        }
    }

    /// Drops what was appended for a topic.
    fn drop_topic(&mut self, topic: &str) {
        for partition in self
            .partitions
            .iter_mut()
            .filter(|partition| *partition.topic == *topic)
        {
            partition.open = None;
            partition.ready.clear();
        }
    }

    fn stamp(&self, base_sequence: i32) -> Stamp {
        Stamp {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence,
            transactional: self.transactional_id.is_some(),
        }
    }
}

impl PartitionBatches {
    fn new(topic: Arc<str>, number: i32) -> PartitionBatches {
        PartitionBatches {
            topic,
            number,
            open: None,
            ready: VecDeque::new(),
            batches: 0,
            pieces: Vec::new(),
            next_sequence: 0,
            in_transaction: false,
        }
    }

    fn close_batch(&mut self) {
        if let Some(batch) = self.open.take() {
            self.ready
                .push_back(Ready::new(self.batches.saturating_sub(1), 0, batch));
        }
    }
}

/// The coordinator was asked to commit a transaction, and now refuses to abort it: with the same words for one that it has
/// committed and for one that it has aborted itself. Only what was written tells, to whoever reads it anew.
fn outcome_unknown(error: &KafkaError) -> KafkaError {
    let context = format!("{}, after a commit whose outcome is not known", error.context);
    KafkaError::classified(ErrorCode::InvalidTransactionalState, context, false, true, false)
}

/// An option in milliseconds.
fn millis_option(config: &ClientConfig, name: &str, default: u64) -> Result<Duration, KafkaError> {
    number_option(config, name, default).map(Duration::from_millis)
}

fn number_option(config: &ClientConfig, name: &str, default: u64) -> Result<u64, KafkaError> {
    match config.get(name) {
        None => Ok(default),
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| KafkaError::option(name, format_args!("{text} is not a number"))),
    }
}
