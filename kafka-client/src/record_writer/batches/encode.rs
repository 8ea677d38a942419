//! One record batch being written: message format v2 (KIP-98), without compression.
//!
//! ```text
//!  base offset 8 | length 4 | leader epoch 4 | magic 1 | crc 4 |
//!     attributes 2 | last offset delta 4 | base timestamp 8 | max timestamp 8 |      \ covered by the crc
//!     producer id 8 | producer epoch 2 | base sequence 4 | record count 4 | records  /
//!  record: length | attributes 1 | timestamp delta | offset delta | key | value | headers     (varints, zigzag)
//! ```

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes in front of the records.
const HEADER_BYTES: usize = 61;
/// Where the part starts that the checksum covers: the attributes.
const CHECKSUM_START: usize = 21;
/// Bytes in front of what the length field counts.
const LENGTH_PREFIX: usize = 12;
const MAGIC: i8 = 2;
const TRANSACTIONAL: i16 = 1 << 4;

/// Who writes a batch, and its place among the producer's batches of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
}

/// A batch that grows.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: BytesMut,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    records: i32,
}

/// A record's parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    pub timestamp_ms: i64,
}

impl Batch {
    /// An empty batch whose timestamps count from `timestamp_ms`.
    pub fn new(timestamp_ms: i64) -> Batch {
        let mut bytes = BytesMut::with_capacity(4096);
        bytes.put_bytes(0, HEADER_BYTES);
        Batch {
            bytes,
            base_timestamp_ms: timestamp_ms,
            max_timestamp_ms: timestamp_ms,
            records: 0,
        }
    }

    /// What its timestamps count from, in milliseconds.
    pub fn timestamp_ms(&self) -> i64 {
        self.base_timestamp_ms
    }

    /// Number of records.
    pub fn records(&self) -> i32 {
        self.records
    }

    /// Bytes so far, the header among them.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record; its offset will be the batch's base offset plus the number of records before it.
    pub fn push(&mut self, record: &Parts<'_>) {
        let timestamp_delta = record.timestamp_ms - self.base_timestamp_ms;
        let length = record_bytes(record, timestamp_delta, self.records);
        self.bytes.reserve(length + 5);
        put_varint(&mut self.bytes, length as i64);
        self.bytes.put_i8(0);
        put_varint(&mut self.bytes, timestamp_delta);
        put_varint(&mut self.bytes, i64::from(self.records));
        put_bytes(&mut self.bytes, record.key);
        put_bytes(&mut self.bytes, record.value);
        put_varint(&mut self.bytes, record.headers.len() as i64);
        for (name, value) in record.headers {
            put_bytes(&mut self.bytes, Some(name.as_bytes()));
            put_bytes(&mut self.bytes, *value);
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        self.records += 1;
    }

    /// Appends a record of another batch with the same base timestamp: what stands behind its length.
    fn push_encoded(&mut self, record: &[u8]) -> Option<()> {
        let (attributes, rest) = record.split_first()?;
        let (timestamp_delta, rest) = take_varint(rest)?;
        let (_, rest) = take_varint(rest)?;
        let length = 1 + varint_bytes(timestamp_delta) + varint_bytes(i64::from(self.records)) + rest.len();
        put_varint(&mut self.bytes, length as i64);
        self.bytes.put_u8(*attributes);
        put_varint(&mut self.bytes, timestamp_delta);
        put_varint(&mut self.bytes, i64::from(self.records));
        self.bytes.extend_from_slice(rest);
        self.max_timestamp_ms = self.max_timestamp_ms.max(self.base_timestamp_ms + timestamp_delta);
        self.records += 1;
        Some(())
    }

    /// The finished batch.
    pub fn finish(mut self, stamp: Stamp) -> Bytes {
        let length = (self.bytes.len() - LENGTH_PREFIX) as i32;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.put_i64(0);
        header.put_i32(length);
        header.put_i32(-1);
        header.put_i8(MAGIC);
        header.put_u32(0);
        header.put_i16(if stamp.transactional { TRANSACTIONAL } else { 0 });
        header.put_i32(self.records - 1);
        header.put_i64(self.base_timestamp_ms);
        header.put_i64(self.max_timestamp_ms);
        header.put_i64(stamp.producer_id);
        header.put_i16(stamp.producer_epoch);
        header.put_i32(stamp.base_sequence);
        header.put_i32(self.records);
        if let Some(place) = self.bytes.get_mut(..HEADER_BYTES) {
            place.copy_from_slice(&header);
        }
        let checksum = crc32c::crc32c(self.bytes.get(CHECKSUM_START..).unwrap_or_default());
        if let Some(place) = self.bytes.get_mut(CHECKSUM_START - 4..CHECKSUM_START) {
            place.copy_from_slice(&checksum.to_be_bytes());
        }
        self.bytes.freeze()
    }
}

/// Where a finished batch has its base timestamp.
const BASE_TIMESTAMP: usize = 27;

/// The records of a finished batch as two batches, in order, of about as many bytes each; none for a single record.
pub(super) fn halves(finished: &[u8]) -> Option<[Batch; 2]> {
    let timestamp = finished.get(BASE_TIMESTAMP..)?.first_chunk::<8>()?;
    let base_timestamp_ms = i64::from_be_bytes(*timestamp);
    let mut halves = [Batch::new(base_timestamp_ms), Batch::new(base_timestamp_ms)];
    let middle = HEADER_BYTES + (finished.len() - HEADER_BYTES) / 2;
    let mut rest = finished.get(HEADER_BYTES..)?;
    let [left, right] = &mut halves;
    while !rest.is_empty() {
        let (length, after) = take_varint(rest)?;
        let (record, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        // Both halves have a record, however large the first or the last is.
        let is_right = right.records > 0 || (left.records > 0 && (left.len() >= middle || after.is_empty()));
        if is_right { &mut *right } else { &mut *left }.push_encoded(record)?;
        rest = after;
    }
    (right.records > 0).then_some(halves)
}

/// Bytes that a batch with just this record has, at most.
pub(super) fn batch_bytes(record: &Parts<'_>) -> usize {
    HEADER_BYTES + record_bytes(record, 0, 0) + 15
}

fn record_bytes(record: &Parts<'_>, timestamp_delta: i64, offset_delta: i32) -> usize {
    let headers = record
        .headers
        .iter()
        .map(|(name, value)| sized(Some(name.as_bytes())) + sized(*value))
        .sum::<usize>();
    1 + varint_bytes(timestamp_delta)
        + varint_bytes(i64::from(offset_delta))
        + sized(record.key)
        + sized(record.value)
        + varint_bytes(record.headers.len() as i64)
        + headers
}

fn sized(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint_bytes(bytes.len() as i64) + bytes.len(),
        None => 1,
    }
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// A varint from the front, and what stands behind it.
fn take_varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let number = (value >> 1).cast_signed() ^ -((value & 1).cast_signed());
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    type Record = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>, i64);

    fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
        // The decoder keeps headers in a map: names differ.
        let headers =
            prop::collection::btree_map("[a-z.]{1,12}", bytes(), 0..4).prop_map(|map| map.into_iter().collect());
        (bytes(), bytes(), headers, 0..10_000_000_000_000i64)
    }

    proptest! {
        /// The oracle: the decoder of the kafka-protocol crate, which checks the checksum.
        #[test]
        fn a_batch_decodes_to_its_records(
            records in prop::collection::vec(any_record(), 1..40),
            producer_id in any::<i64>(), producer_epoch in any::<i16>(), base_sequence in 0..i32::MAX - 100,
            transactional in any::<bool>(),
        ) {
            let mut batch = Batch::new(records[0].3);
            for (key, value, headers, timestamp_ms) in &records {
                let headers: Vec<(&str, Option<&[u8]>)> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
                let parts = Parts { key: key.as_deref(), value: value.as_deref(), headers: &headers, timestamp_ms: *timestamp_ms };
                let before = batch.len();
                batch.push(&parts);
                prop_assert!(batch.len() - before <= batch_bytes(&parts));
            }
            let mut bytes = batch.finish(Stamp { producer_id, producer_epoch, base_sequence, transactional });
            let decoded = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
            prop_assert_eq!(decoded.len(), records.len());
            for (index, (record, (key, value, headers, timestamp_ms))) in decoded.iter().zip(&records).enumerate() {
                prop_assert_eq!(record.key.as_deref(), key.as_deref());
                prop_assert_eq!(record.value.as_deref(), value.as_deref());
                prop_assert_eq!(record.timestamp, *timestamp_ms);
                prop_assert_eq!(record.offset, index as i64);
                prop_assert_eq!(record.transactional, transactional);
                prop_assert_eq!((record.producer_id, record.producer_epoch), (producer_id, producer_epoch));
                let found: Vec<(String, Option<Vec<u8>>)> = record
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.as_ref().map(|value| value.to_vec())))
                    .collect();
                prop_assert_eq!(&found, headers);
            }
        }

        /// Halved again and again, down to single records, the batches decode to the same records in the same order.
        #[test]
        fn halves_have_the_records_of_the_whole(records in prop::collection::vec(any_record(), 1..40)) {
            let mut batch = Batch::new(records[0].3);
            for (key, value, headers, timestamp_ms) in &records {
                let headers: Vec<(&str, Option<&[u8]>)> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
                batch.push(&Parts {
                    key: key.as_deref(), value: value.as_deref(), headers: &headers, timestamp_ms: *timestamp_ms,
                });
            }
            let stamp = Stamp { producer_id: 1, producer_epoch: 2, base_sequence: 3, transactional: true };
            let decoded = |bytes: &Bytes| RecordBatchDecoder::decode(&mut bytes.clone()).unwrap().records;
            let parts = |record: &kafka_protocol::records::Record| {
                (record.key.clone(), record.value.clone(), record.headers.clone(), record.timestamp)
            };
            let whole = batch.finish(stamp);
            let expected: Vec<_> = decoded(&whole).iter().map(parts).collect();
            let mut open = std::collections::VecDeque::from([whole]);
            let mut found = Vec::new();
            while let Some(bytes) = open.pop_front() {
                match halves(&bytes) {
                    Some([left, right]) => {
                        prop_assert!(left.records > 0 && right.records > 0);
                        open.push_front(right.finish(stamp));
                        open.push_front(left.finish(stamp));
                    }
                    None => {
                        let single = decoded(&bytes);
                        prop_assert_eq!(single.len(), 1);
                        prop_assert_eq!(single[0].offset, 0);
                        found.push(parts(&single[0]));
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_varint_is_as_long_as_foretold_and_comes_back(value in any::<i64>()) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            out.put_u8(7);
            prop_assert_eq!(take_varint(&out), Some((value, &[7u8][..])));
        }
    }
}
