//! The record batch header (message format v2, KIP-98), read and stamped in place; the records
//! behind it stay the bytes that arrived.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

/// Bytes from the start of a batch up to and including the record count.
pub const HEADER_LENGTH: usize = 61;
/// Bytes that come before what the length field counts: base offset and the length itself.
pub const LENGTH_PREFIX: usize = 12;
/// Where the checksummed part starts (the attributes).
const CHECKSUM_START: usize = 21;

const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
const ATTRIBUTE_CONTROL: i16 = 1 << 5;
const ATTRIBUTE_DELETE_HORIZON: i16 = 1 << 6;

/// The leader epoch of every batch: there is one node and it never changes.
pub const LEADER_EPOCH: i32 = 0;

/// Header of one record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record (before compaction).
    pub base_offset: i64,
    /// Length of the batch in bytes, whole.
    pub size_bytes: usize,
    /// CRC-32C of everything from the attributes on.
    pub checksum: u32,
    /// Compression, timestamp type, transactional, control.
    pub attributes: i16,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas start from, or the delete horizon (KIP-534).
    pub base_timestamp: i64,
    /// Largest timestamp in the batch, milliseconds.
    pub max_timestamp: i64,
    /// Producer id, -1 without one.
    pub producer_id: i64,
    /// Producer epoch, -1 without one.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 without one.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header of the batch that `bytes` starts with; `bytes` may hold more after it.
    ///
    /// # Errors
    /// `CORRUPT_MESSAGE` when it is shorter than it says, `UNSUPPORTED_FOR_MESSAGE_FORMAT` when it
    /// is of an older format.
    pub fn read(bytes: &[u8]) -> Result<BatchHeader, ResponseError> {
        if bytes.len() < HEADER_LENGTH {
            return Err(ResponseError::CorruptMessage);
        }
        let total = bytes.len();
        let mut buffer = bytes;
        let base_offset = buffer.get_i64();
        let length = buffer.get_i32();
        let _leader_epoch = buffer.get_i32();
        let magic = buffer.get_i8();
        if magic != 2 {
            return Err(ResponseError::UnsupportedForMessageFormat);
        }
        let size_bytes = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LENGTH_PREFIX))
            .filter(|size| (HEADER_LENGTH..=total).contains(size))
            .ok_or(ResponseError::CorruptMessage)?;
        Ok(BatchHeader {
            base_offset,
            size_bytes,
            checksum: buffer.get_u32(),
            attributes: buffer.get_i16(),
            last_offset_delta: buffer.get_i32(),
            base_timestamp: buffer.get_i64(),
            max_timestamp: buffer.get_i64(),
            producer_id: buffer.get_i64(),
            producer_epoch: buffer.get_i16(),
            base_sequence: buffer.get_i32(),
            record_count: buffer.get_i32(),
        })
    }

    /// Compares the checksum in the header with that of the bytes.
    ///
    /// # Errors
    /// `CORRUPT_MESSAGE` when they differ.
    pub fn verify_checksum(&self, batch: &[u8]) -> Result<(), ResponseError> {
        let covered = batch.get(CHECKSUM_START..self.size_bytes);
        match covered {
            Some(covered) if crc32c::crc32c(covered) == self.checksum => Ok(()),
            _ => Err(ResponseError::CorruptMessage),
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// Whether the batch holds a transaction marker instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// When this batch's tombstones (or its marker) may go, once compaction has set it (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & ATTRIBUTE_DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Sequence of the last record; sequences wrap from 2^31-1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last % (i64::from(i32::MAX) + 1)).unwrap_or(0)
    }

    /// Codec number in the attributes: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> i16 {
        self.attributes & 0x07
    }
}

/// Checks what a producer sent for one partition: exactly one whole batch (produce v3 and later),
/// of format v2, with the checksum it claims, and no control records.
///
/// # Errors
/// The code that Kafka answers.
pub fn validate_produced(records: &[u8]) -> Result<BatchHeader, ResponseError> {
    let header = BatchHeader::read(records)?;
    if header.size_bytes != records.len() {
        return Err(ResponseError::InvalidRecord);
    }
    header.verify_checksum(records)?;
    let counted = i64::from(header.last_offset_delta) + 1;
    if header.is_control() || header.record_count < 1 || counted != i64::from(header.record_count) {
        return Err(ResponseError::InvalidRecord);
    }
    if header.compression() > 4 {
        return Err(ResponseError::UnsupportedCompressionType);
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return Err(ResponseError::InvalidRecord);
    }
    Ok(header)
}

/// Copies a batch with the offset that the log gave it. Neither field is covered by the checksum.
pub fn stamp(batch: &[u8], base_offset: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(batch.len());
    out.put_i64(base_offset);
    out.extend_from_slice(batch.get(8..12).unwrap_or_default());
    out.put_i32(LEADER_EPOCH);
    out.extend_from_slice(batch.get(16..).unwrap_or_default());
    out.freeze()
}

/// Copies a batch with its offset, with `now_ms` as the timestamp of every record
/// (`message.timestamp.type=LogAppendTime`), and a new checksum.
pub fn stamp_log_append_time(batch: &[u8], base_offset: i64, now_ms: i64) -> Bytes {
    let attributes = batch.get(21..23).map_or(0, |mut bytes| bytes.get_i16());
    let mut covered = BytesMut::with_capacity(batch.len());
    covered.put_i16(attributes | ATTRIBUTE_LOG_APPEND_TIME);
    covered.extend_from_slice(batch.get(23..35).unwrap_or_default());
    covered.put_i64(now_ms);
    covered.extend_from_slice(batch.get(43..).unwrap_or_default());
    assemble(base_offset, &covered)
}

/// Puts the first 21 bytes of a batch before its checksummed part.
fn assemble(base_offset: i64, covered: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(CHECKSUM_START + covered.len());
    out.put_i64(base_offset);
    let length = CHECKSUM_START - LENGTH_PREFIX + covered.len();
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    out.put_i32(LEADER_EPOCH);
    out.put_i8(2);
    out.put_u32(crc32c::crc32c(covered));
    out.extend_from_slice(covered);
    out.freeze()
}

/// Builds the batch that holds `records` (already encoded, deltas relative to `header`'s base
/// offset and `base_timestamp`), uncompressed, keeping every other field of `header`.
pub fn rebuild(
    header: &BatchHeader,
    records: &[u8],
    record_count: i32,
    delete_horizon_ms: Option<i64>,
    base_timestamp: i64,
    max_timestamp: i64,
) -> Bytes {
    let mut attributes = header.attributes & !0x07 & !ATTRIBUTE_DELETE_HORIZON;
    if delete_horizon_ms.is_some() {
        attributes |= ATTRIBUTE_DELETE_HORIZON;
    }
    let mut covered = BytesMut::with_capacity(HEADER_LENGTH + records.len());
    covered.put_i16(attributes);
    covered.put_i32(header.last_offset_delta);
    covered.put_i64(base_timestamp);
    covered.put_i64(max_timestamp);
    covered.put_i64(header.producer_id);
    covered.put_i16(header.producer_epoch);
    covered.put_i32(header.base_sequence);
    covered.put_i32(record_count);
    covered.extend_from_slice(records);
    assemble(header.base_offset, &covered)
}

/// Builds the control batch that ends a transaction in a partition: key = (version, type),
/// value = (version, coordinator epoch).
///
/// # Errors
/// `UNKNOWN_SERVER_ERROR` if the codec refuses it.
pub fn transaction_marker(
    base_offset: i64,
    producer_id: i64,
    producer_epoch: i16,
    commit: bool,
    now_ms: i64,
) -> Result<Bytes, ResponseError> {
    let mut key = BytesMut::with_capacity(4);
    key.put_i16(0);
    key.put_i16(i16::from(commit));
    let mut value = BytesMut::with_capacity(6);
    value.put_i16(0);
    value.put_i32(0);
    let record = Record {
        transactional: true,
        control: true,
        delete_horizon: false,
        partition_leader_epoch: LEADER_EPOCH,
        producer_id,
        producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: base_offset,
        sequence: -1,
        timestamp: now_ms,
        key: Some(key.freeze()),
        value: Some(value.freeze()),
        headers: Default::default(),
    };
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, [&record], &options).map_err(|_| ResponseError::UnknownServerError)?;
    Ok(out.freeze())
}

/// Whether the control batch commits (true) or aborts (false) its transaction; `None` for a
/// control record of another type.
pub fn marker_commits(batch: &Bytes) -> Option<bool> {
    let mut buffer = batch.clone();
    let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut buffer).ok()?;
    let key = set.records.first()?.key.clone()?;
    let mut kind = key.get(2..4)?;
    match kind.get_i16() {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// A batch in the log.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// Its header, with the offset that the log gave it.
    pub header: BatchHeader,
    /// The whole batch.
    pub bytes: Bytes,
}
