//! The records inside a batch, when somebody must look: a search by time, or compaction.

use bytes::{Buf, Bytes};
use kafka_protocol::compression::{Decompressor, Gzip, Lz4, Snappy, Zstd};

use super::batch::{BatchHeader, HEADER_LENGTH};
use super::partition::StoredBatch;

/// One record of a batch, with the bytes that it is encoded in.
#[derive(Debug, Clone)]
pub struct EncodedRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Whether it has a value; without one it deletes its key.
    pub has_value: bool,
    /// Length and all.
    pub encoded: Bytes,
}

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The codec refuses it.
    #[error("batch at offset {offset} cannot be decompressed: {cause}")]
    Decompress {
        /// The batch.
        offset: i64,
        /// What the codec says.
        cause: String,
    },
    /// It is not what its header says.
    #[error("batch at offset {offset} ends inside a record")]
    Truncated {
        /// The batch.
        offset: i64,
    },
}

/// The first record for which `wanted` holds. A batch that cannot be read has none.
pub fn find(batch: &StoredBatch, wanted: impl Fn(&EncodedRecord) -> bool) -> Option<EncodedRecord> {
    match read(batch) {
        Ok(records) => records.into_iter().find(|record| wanted(record)),
        Err(error) => {
            tracing::warn!(%error, "batch skipped in a search by time");
            None
        }
    }
}

/// All records of a batch.
///
/// # Errors
/// When the batch is damaged.
pub fn read(batch: &StoredBatch) -> Result<Vec<EncodedRecord>, RecordsError> {
    let header = &batch.header;
    let mut payload = decompress(header, batch.bytes.slice(HEADER_LENGTH.min(batch.bytes.len())..))?;
    let mut records = Vec::with_capacity(usize::try_from(header.record_count).unwrap_or(0));
    for _ in 0..header.record_count {
        let record = read_record(header, &mut payload).ok_or(RecordsError::Truncated {
            offset: header.base_offset,
        })?;
        records.push(record);
    }
    Ok(records)
}

fn decompress(header: &BatchHeader, mut payload: Bytes) -> Result<Bytes, RecordsError> {
    let take = |buffer: &mut Bytes| Ok(std::mem::take(buffer));
    let result = match header.compression() {
        0 => return Ok(payload),
        1 => Gzip::decompress(&mut payload, take),
        2 => Snappy::decompress(&mut payload, take),
        3 => Lz4::decompress(&mut payload, take),
        _ => Zstd::decompress(&mut payload, take),
    };
    result.map_err(|error| RecordsError::Decompress {
        offset: header.base_offset,
        cause: error.to_string(),
    })
}

fn read_record(header: &BatchHeader, payload: &mut Bytes) -> Option<EncodedRecord> {
    let whole = payload.clone();
    let length = usize::try_from(read_varint(payload)?).ok()?;
    let prefix = whole.len() - payload.len();
    if payload.len() < length {
        return None;
    }
    let mut body = payload.split_to(length);
    let encoded = whole.slice(..prefix + length);
    let _attributes = body.try_get_i8().ok()?;
    let timestamp_delta = read_varint(&mut body)?;
    let offset_delta = read_varint(&mut body)?;
    let key_length = read_varint(&mut body)?;
    let key = match usize::try_from(key_length) {
        Ok(length) if length <= body.len() => Some(body.split_to(length)),
        Ok(_) => return None,
        Err(_) => None,
    };
    let has_value = read_varint(&mut body)? >= 0;
    let log_append_time = header.attributes & (1 << 3) != 0;
    let timestamp = match log_append_time {
        true => header.max_timestamp,
        false => header.base_timestamp + timestamp_delta,
    };
    let offset = header.base_offset + offset_delta;
    Some(EncodedRecord {
        offset,
        timestamp,
        key,
        has_value,
        encoded,
    })
}

/// A zigzag variable-length integer, as protocol buffers have it.
fn read_varint(buffer: &mut Bytes) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let byte = buffer.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}
