//! The records inside a batch, when somebody must look: a search by time, or compaction.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{Decompressor, Gzip, Lz4, Snappy, Zstd};

use crate::batch::StoredBatch;
use crate::batch::{BatchHeader, HEADER_LENGTH};

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
    attributes: i8,
    /// What comes after the timestamp's delta: the offset's delta, key, value, headers.
    rest: Bytes,
}

impl EncodedRecord {
    /// Writes it as a record of a batch with that base timestamp; nothing else of it changes.
    pub fn write(&self, base_timestamp: i64, out: &mut BytesMut) {
        let mut delta = BytesMut::with_capacity(10);
        write_varint(self.timestamp.wrapping_sub(base_timestamp), &mut delta);
        let length = 1 + delta.len() + self.rest.len();
        write_varint(i64::try_from(length).unwrap_or(i64::MAX), out);
        out.put_i8(self.attributes);
        out.extend_from_slice(&delta);
        out.extend_from_slice(&self.rest);
    }
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
    read_bytes(&batch.header, &batch.bytes)
}

/// All records of a batch that is not in a log yet.
///
/// # Errors
/// When the batch is damaged.
pub fn read_bytes(header: &BatchHeader, batch: &Bytes) -> Result<Vec<EncodedRecord>, RecordsError> {
    let mut payload = decompress(header, batch.slice(HEADER_LENGTH.min(batch.len())..))?;
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
    let length = usize::try_from(read_varint(payload)?).ok()?;
    if payload.len() < length {
        return None;
    }
    let mut body = payload.split_to(length);
    let attributes = body.try_get_i8().ok()?;
    let timestamp_delta = read_varint(&mut body)?;
    let rest = body.clone();
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
        false => header.base_timestamp.wrapping_add(timestamp_delta),
    };
    let offset = header.base_offset.wrapping_add(offset_delta);
    Some(EncodedRecord {
        offset,
        timestamp,
        key,
        has_value,
        attributes,
        rest,
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

fn write_varint(value: i64, out: &mut BytesMut) {
    let mut zigzag = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    while zigzag > 0x7f {
        out.put_u8((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}
