//! Records on their way between Kafka and a task. A record stays raw bytes until somebody reads it.

use crate::datum::{Datum, Headers};
use crate::value::SchemaAndValue;
use std::sync::Arc;

/// What the timestamp of a record means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// the record has none
    NoTimestamp,
    /// set by the producer
    CreateTime,
    /// set by the broker
    LogAppendTime,
}

/// A header: a name and data. Names may repeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// name
    pub name: Arc<str>,
    /// data
    pub data: SchemaAndValue,
}

/// A record for a sink task.
#[derive(Debug, Clone)]
pub struct SinkRecord {
    /// topic; transforms may change it
    pub topic: Arc<str>,
    /// partition it was read from
    pub partition: i32,
    /// offset it was read at
    pub offset: i64,
    /// milliseconds since the epoch
    pub timestamp_ms: Option<i64>,
    /// what the timestamp means
    pub timestamp_type: TimestampType,
    /// key
    pub key: Datum,
    /// value; null is a tombstone
    pub value: Datum,
    /// headers
    pub headers: Headers,
    /// topic before transforms, where one has changed it
    pub original_topic: Option<Arc<str>>,
}

impl SinkRecord {
    /// The topic that it was read from.
    pub fn original_topic(&self) -> &Arc<str> {
        self.original_topic.as_ref().unwrap_or(&self.topic)
    }
}

/// A source's own name for a stream it reads (`{"filename": "/tmp/in"}`), and for a place in it. Values are null,
/// numbers, strings or booleans; integers come back as 64-bit.
pub type SourceMap = serde_json::Map<String, serde_json::Value>;

/// A record from a source task.
#[derive(Debug, Clone)]
pub struct SourceRecord {
    /// which stream of the source it came from
    pub source_partition: Arc<SourceMap>,
    /// where to go on after it; shared, because it goes with the record from one end of the worker to the other
    pub source_offset: Arc<SourceMap>,
    /// topic to write to
    pub topic: Arc<str>,
    /// partition to write to; `None`: by key, as Java's default partitioner does
    pub partition: Option<i32>,
    /// milliseconds since the epoch; `None`: the time of sending
    pub timestamp_ms: Option<i64>,
    /// key
    pub key: Datum,
    /// value; null is a tombstone
    pub value: Datum,
    /// headers
    pub headers: Vec<Header>,
}
