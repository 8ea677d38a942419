//! The log of one partition: append with sequence checks, read up to the high watermark or the
//! last stable offset, transaction markers and the index of aborted transactions.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use rustc_hash::FxHashMap;

use super::compaction::CompactionInput;
use super::producers::{ProducerStates, SequenceCheck};
use crate::batch::{self, BatchHeader, StoredBatch};
use crate::storage::segments::PartitionFiles;

/// A transaction that was aborted in this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// Offset of its first record here.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
}

/// Which records a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All.
    ReadUncommitted,
    /// Only those before the first open transaction.
    ReadCommitted,
}

impl Isolation {
    /// From the request's field: 1 is read_committed.
    pub fn from_code(code: i8) -> Isolation {
        match code {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        }
    }
}

/// Where a produced batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// The broker's time if the topic uses it, else -1, milliseconds.
    pub log_append_time_ms: i64,
    /// False when the batch was there already.
    pub new: bool,
}

/// What a fetch got.
#[derive(Debug, Clone)]
pub struct ReadResult {
    /// Whole batches, one after the other; the first may start before the wanted offset.
    pub records: Bytes,
    /// Transactions that a read_committed reader of these records must skip.
    pub aborted: Vec<AbortedTransaction>,
}

/// One partition's log.
#[derive(Debug, Default)]
pub struct PartitionLog {
    batches: VecDeque<StoredBatch>,
    log_start_offset: i64,
    next_offset: i64,
    size_bytes: usize,
    producers: ProducerStates,
    /// First offset of each open transaction, by producer.
    open: FxHashMap<i64, i64>,
    /// The same offsets in order: the first is the last stable offset.
    open_offsets: BTreeSet<i64>,
    aborted: Vec<AbortedTransaction>,
    files: Option<PartitionFiles>,
    /// Everything before this offset has been compacted.
    clean_end: i64,
}

impl PartitionLog {
    /// A log that is kept in files too: goes on with the batches that were in them, from
    /// `log_start_offset` on.
    pub fn with_files(files: PartitionFiles, batches: Vec<StoredBatch>, log_start_offset: i64) -> PartitionLog {
        let mut log = PartitionLog::default();
        for batch in batches {
            log.take_in(batch);
        }
        log.next_offset = log.next_offset.max(log_start_offset);
        log.files = Some(files);
        log.drop_before(log_start_offset);
        log
    }

    /// Offset of the first record that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Offset of the next record: with one node the high watermark too.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Offset before which every transaction has ended.
    pub fn last_stable_offset(&self) -> i64 {
        self.open_offsets.first().copied().unwrap_or(self.next_offset)
    }

    /// Offset up to which this reader may read.
    pub fn readable_end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.next_offset,
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// The batches, oldest first.
    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &StoredBatch> {
        self.batches.iter()
    }

    /// Whether the producer has an open transaction here.
    pub fn has_open_transaction(&self, producer_id: i64) -> bool {
        self.open.contains_key(&producer_id)
    }

    /// Appends a batch that [`batch::validate_produced`] has passed. `log_append_time_ms` is given
    /// when the topic stamps records itself.
    ///
    /// # Errors
    /// Sequence and epoch errors, as [`ProducerStates::check`] says.
    pub fn append(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        log_append_time_ms: Option<i64>,
    ) -> Result<Appended, ResponseError> {
        if header.producer_id >= 0
            && let SequenceCheck::Duplicate {
                base_offset,
                timestamp_ms,
            } = self.producers.check(header)?
        {
            let log_append_time_ms = log_append_time_ms.map_or(-1, |_| timestamp_ms);
            return Ok(Appended {
                base_offset,
                log_append_time_ms,
                new: false,
            });
        }
        let base_offset = self.next_offset;
        let stored = match log_append_time_ms {
            Some(now_ms) => batch::stamp_log_append_time(bytes, base_offset, now_ms),
            None => batch::stamp(bytes, base_offset),
        };
        let mut header = BatchHeader { base_offset, ..*header };
        if let Some(now_ms) = log_append_time_ms {
            header.max_timestamp = now_ms;
        }
        self.push(StoredBatch { header, bytes: stored })?;
        Ok(Appended {
            base_offset,
            log_append_time_ms: log_append_time_ms.unwrap_or(-1),
            new: true,
        })
    }

    /// Ends the producer's transaction in this partition with a marker.
    ///
    /// # Errors
    /// `UNKNOWN_SERVER_ERROR` if the marker cannot be encoded.
    pub fn append_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        commit: bool,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let bytes = batch::transaction_marker(self.next_offset, producer_id, producer_epoch, commit, now_ms)?;
        let header = BatchHeader::read(&bytes)?;
        self.push(StoredBatch { header, bytes })?;
        Ok(())
    }

    fn push(&mut self, stored: StoredBatch) -> Result<(), ResponseError> {
        if let Some(files) = &mut self.files
            && let Err(error) = files.append(&stored)
        {
            tracing::error!(%error, "the partition's file cannot be written");
            return Err(ResponseError::KafkaStorageError);
        }
        self.take_in(stored);
        Ok(())
    }

    /// Takes a batch in as it is, with everything that follows from it: the way of every append
    /// and of every batch read back from a file.
    fn take_in(&mut self, stored: StoredBatch) {
        let header = stored.header;
        self.producers.appended(&header);
        if header.is_control() {
            self.close_transaction(&stored);
        } else if header.is_transactional() && !self.open.contains_key(&header.producer_id) {
            self.open.insert(header.producer_id, header.base_offset);
            self.open_offsets.insert(header.base_offset);
        }
        self.next_offset = header.last_offset() + 1;
        self.size_bytes += stored.bytes.len();
        self.batches.push_back(stored);
    }

    fn close_transaction(&mut self, marker: &StoredBatch) {
        let producer_id = marker.header.producer_id;
        let Some(first_offset) = self.open.remove(&producer_id) else {
            return;
        };
        self.open_offsets.remove(&first_offset);
        if batch::marker_commits(&marker.bytes) == Some(false) {
            let last_offset = marker.header.base_offset;
            self.aborted.push(AbortedTransaction {
                producer_id,
                first_offset,
                last_offset,
            });
        }
    }

    /// Reads whole batches from `offset` on, as many as fit into `max_bytes`; if
    /// `at_least_one`, the first whatever its size.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` outside of the log.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        isolation: Isolation,
        at_least_one: bool,
    ) -> Result<ReadResult, ResponseError> {
        if offset < self.log_start_offset || offset > self.next_offset {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let end = self.readable_end(isolation);
        let first = self
            .batches
            .partition_point(|batch| batch.header.last_offset() < offset);
        let mut wanted: Vec<&StoredBatch> = Vec::new();
        let mut bytes = 0;
        for batch in self.batches.range(first..) {
            let must = wanted.is_empty() && at_least_one;
            let fits = must || bytes + batch.bytes.len() <= max_bytes;
            if batch.header.base_offset >= end || !fits {
                break;
            }
            bytes += batch.bytes.len();
            wanted.push(batch);
        }
        let read_end = wanted.last().map_or(offset, |batch| batch.header.last_offset() + 1);
        let aborted = match isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => self
                .aborted
                .iter()
                .filter(|aborted| aborted.last_offset >= offset && aborted.first_offset < read_end)
                .copied()
                .collect(),
        };
        Ok(ReadResult {
            records: concatenate(&wanted, bytes),
            aborted,
        })
    }

    /// Bytes that could be read from `offset` on, without reading them.
    pub fn available_bytes(&self, offset: i64, isolation: Isolation, enough: usize) -> usize {
        let end = self.readable_end(isolation);
        let first = self
            .batches
            .partition_point(|batch| batch.header.last_offset() < offset);
        let mut bytes = 0;
        for batch in self.batches.range(first..) {
            if batch.header.base_offset >= end || bytes >= enough {
                break;
            }
            bytes += batch.bytes.len();
        }
        bytes
    }

    /// Makes everything before `offset` unreadable and drops the batches that are wholly before it.
    ///
    /// # Errors
    /// `OFFSET_OUT_OF_RANGE` when the offset is past the end of the log.
    pub fn delete_before(&mut self, offset: i64) -> Result<i64, ResponseError> {
        if offset > self.next_offset || offset < 0 {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.drop_before(offset);
        if let Some(files) = &mut self.files
            && let Err(error) = files.delete_before(self.log_start_offset)
        {
            tracing::error!(%error, "a segment of deleted records cannot be removed");
        }
        Ok(self.log_start_offset)
    }

    fn drop_before(&mut self, offset: i64) {
        self.log_start_offset = self.log_start_offset.max(offset);
        while let Some(front) = self.batches.front()
            && front.header.last_offset() < self.log_start_offset
        {
            self.size_bytes -= front.bytes.len();
            self.batches.pop_front();
        }
        let log_start_offset = self.log_start_offset;
        self.aborted.retain(|aborted| aborted.last_offset >= log_start_offset);
    }

    /// Where records must be deleted up to so that none is older than `oldest_ms` and all together
    /// are not more than `max_bytes`: an offset after the log's start, if there is one. Records of
    /// open transactions stay.
    pub fn retention_offset(&self, oldest_ms: Option<i64>, max_bytes: Option<usize>) -> Option<i64> {
        let end = self.last_stable_offset();
        let mut size = self.size_bytes;
        let mut offset = None;
        for batch in &self.batches {
            let is_old = oldest_ms.is_some_and(|oldest| batch.header.max_timestamp < oldest);
            let is_too_much = max_bytes.is_some_and(|max| size > max);
            if !(is_old || is_too_much) || batch.header.last_offset() >= end {
                break;
            }
            size -= batch.bytes.len();
            offset = Some(batch.header.last_offset() + 1);
        }
        offset
    }

    /// What a compaction starts from.
    pub fn compaction_input(&self) -> CompactionInput {
        CompactionInput {
            batches: self.batches.iter().cloned().collect(),
            aborted: self.aborted.clone(),
            stable_end: self.last_stable_offset(),
        }
    }

    /// Share of bytes that were never compacted, 0 to 1, and the oldest timestamp among them.
    pub fn dirtiness(&self) -> (f64, Option<i64>) {
        let first = self
            .batches
            .partition_point(|batch| batch.header.base_offset < self.clean_end);
        let dirty = self.batches.range(first..);
        let bytes: usize = dirty.clone().map(|batch| batch.bytes.len()).sum();
        let oldest = dirty.map(|batch| batch.header.max_timestamp).min();
        (bytes as f64 / self.size_bytes.max(1) as f64, oldest)
    }

    /// Puts the outcome of a compaction in the place of what it started from; what was appended
    /// since stays.
    ///
    /// # Errors
    /// `KAFKA_STORAGE_ERROR` when the files cannot be replaced; nothing is changed then.
    pub fn replace_compacted(&mut self, compacted: Vec<StoredBatch>, clean_end: i64) -> Result<(), ResponseError> {
        let first = self
            .batches
            .partition_point(|batch| batch.header.base_offset < clean_end);
        let mut batches: VecDeque<StoredBatch> = compacted.into();
        batches.extend(self.batches.range(first..).cloned());
        if let Some(files) = &mut self.files
            && let Err(error) = files.replace(batches.iter())
        {
            tracing::error!(%error, "the compacted files cannot be written");
            return Err(ResponseError::KafkaStorageError);
        }
        self.size_bytes = batches.iter().map(|batch| batch.bytes.len()).sum();
        self.batches = batches;
        self.clean_end = clean_end;
        // Nothing is left of what was aborted before there.
        self.aborted.retain(|aborted| aborted.last_offset >= clean_end);
        self.drop_before(self.log_start_offset);
        Ok(())
    }
}

fn concatenate(batches: &[&StoredBatch], bytes: usize) -> Bytes {
    if let [only] = batches {
        return only.bytes.clone();
    }
    let mut out = BytesMut::with_capacity(bytes);
    for batch in batches {
        out.extend_from_slice(&batch.bytes);
    }
    out.freeze()
}
