//! Fetched records as a sink task gets them: what the records of a batch have in common is made once, and keys, values and headers
//! stay in the client's memory until somebody reads them.
//!
//! ```text
//!   messages of one partition -> FetchedBatch --record--> SinkRecord --looked at--> key, value, headers
//!                                                            '-- the last of them frees the messages
//! ```

use super::pipeline::Pipeline;
use crate::errors::{FailedRecord, Reporter, StoredRecord};
use bytes::Bytes;
use connect_api::datum::{RawBytes, RecordBytes};
use connect_api::{
    ConnectError, Datum, FetchedRecords, Header, HeaderConverter, SchemaAndValue, SinkRecord, Stage, TimestampType,
};
use kafka_client::{Message, Messages};
use std::sync::Arc;

/// What the records of one topic in a batch have in common.
struct FetchedBatch {
    topic: Arc<str>,
    messages: Arc<Messages>,
    keys: Arc<RawBytes>,
    values: Arc<RawBytes>,
    header_converter: Arc<dyn HeaderConverter>,
}

/// The messages of one topic as records, to be read by a pipeline's converters.
pub(super) fn batch(pipeline: &Pipeline, topic: &Arc<str>, messages: &Arc<Messages>) -> Arc<dyn FetchedRecords> {
    let side = |converter, of| {
        let messages = Arc::clone(messages);
        RawBytes::new(Arc::clone(topic), converter, Side { messages, of })
    };
    Arc::new(FetchedBatch {
        topic: Arc::clone(topic),
        messages: Arc::clone(messages),
        keys: side(pipeline.key_converter(), Message::key),
        values: side(pipeline.value_converter(), Message::value),
        header_converter: Arc::clone(&pipeline.header),
    })
}

/// The record of a message, which is the one at `at`.
pub(super) fn record(batch: &Arc<dyn FetchedRecords>, message: &Message, at: usize) -> SinkRecord {
    let at = u32::try_from(at).unwrap_or(u32::MAX); // a batch has 65,536 at most
    let mut record = SinkRecord::fetched(batch, at, message.partition(), message.offset());
    (record.timestamp_ms, record.timestamp_type) = timestamp(message);
    record
}

impl FetchedRecords for FetchedBatch {
    fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn key(&self, record: u32) -> Datum {
        self.keys.datum(record)
    }

    fn value(&self, record: u32) -> Datum {
        self.values.datum(record)
    }

    fn headers(&self, record: u32) -> Vec<Header> {
        let Some(message) = self.messages.get(record as usize) else {
            return Vec::new();
        };
        let read = |(name, bytes): (&str, Option<&[u8]>)| {
            let bytes = bytes.map(Bytes::copy_from_slice);
            let data = self
                .header_converter
                .to_connect_header(&self.topic, name, bytes.as_ref());
            Header {
                name: name.into(),
                // a converter that may fail has read them before
                data: data.unwrap_or(SchemaAndValue::NULL),
            }
        };
        message.headers().map(read).collect()
    }
}

/// The keys, or the values, of fetched records.
struct Side {
    messages: Arc<Messages>,
    of: fn(&Message) -> Option<&[u8]>,
}

impl RecordBytes for Side {
    fn bytes(&self, record: u32) -> Option<Bytes> {
        let at = record as usize;
        (self.of)(self.messages.get(at)?)?;
        Some(Bytes::from_owner(Part {
            messages: Arc::clone(&self.messages),
            of: self.of,
            at,
        }))
    }
}

/// The bytes of one key or value, which keep the batch.
struct Part {
    messages: Arc<Messages>,
    of: fn(&Message) -> Option<&[u8]>,
    at: usize,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.messages.get(self.at).and_then(self.of).unwrap_or_default()
    }
}

/// A fetched record, for reports.
pub(super) struct FetchedRecord<'a> {
    pub(super) topic: &'a Arc<str>,
    pub(super) message: &'a Message,
}

impl FailedRecord for FetchedRecord<'_> {
    fn report(&self, reporter: &Reporter, stage: Stage, class: &str, error: &ConnectError) {
        let record = stored(self.message, Arc::clone(self.topic));
        reporter.sink(&record, stage, class, error, false);
    }
}

/// A copy of a fetched record, with its topic's shared name.
pub(super) fn stored(message: &Message, topic: Arc<str>) -> StoredRecord {
    let (timestamp_ms, timestamp_type) = timestamp(message);
    StoredRecord {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms,
        timestamp_type,
        key: message.key_bytes(),
        value: message.value_bytes(),
        headers: message
            .headers()
            .map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice)))
            .collect(),
    }
}

/// The timestamp of a fetched record, and what it means.
pub(super) fn timestamp(message: &Message) -> (Option<i64>, TimestampType) {
    let (millis, kind) = message.timestamp();
    match kind {
        kafka_client::TimestampType::CreateTime => (Some(millis), TimestampType::CreateTime),
        kafka_client::TimestampType::LogAppendTime => (Some(millis), TimestampType::LogAppendTime),
        kafka_client::TimestampType::NotAvailable => (None, TimestampType::NoTimestamp),
    }
}
