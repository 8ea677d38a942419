//! Records on their way between Kafka and a task. A record stays raw bytes until somebody reads it.

use crate::converter::Converter;
use crate::error::ConnectError;
use crate::value::{SchemaAndValue, Value};
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

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

/// A key or a value: raw bytes with the converter that reads them, or data that was built, or both.
///
/// Reading is lazy and happens once for a datum and the clones that were made after it. A record that is only passed on is never
/// parsed: where the bytes are there and the converter that is to write them is the one that would have read them, the bytes are
/// written as they are.
#[derive(Clone)]
pub struct Datum {
    raw: Option<Raw>,
    read: OnceLock<Arc<Result<SchemaAndValue, ConnectError>>>,
}

/// Bytes of keys, or of values, of records of one topic, in memory that they share, with the converter that reads them. It is
/// freed with the last record that was made of it.
pub struct RawBytes {
    topic: Arc<str>,
    memory: Bytes,
    converter: Arc<dyn Converter>,
}

/// A part of shared memory, or null.
#[derive(Clone)]
struct Raw {
    bytes: Arc<RawBytes>,
    place: Option<Range<u32>>,
}

impl RawBytes {
    /// Memory with the bytes of records of `topic`, at most 4 GiB.
    pub fn new(topic: Arc<str>, memory: Bytes, converter: Arc<dyn Converter>) -> Arc<Self> {
        Arc::new(Self {
            topic,
            memory,
            converter,
        })
    }

    /// The datum whose bytes lie at `place`; `None` is null. To be read by the converter when somebody asks. Bytes that are not
    /// there are null.
    pub fn datum(self: &Arc<Self>, place: Option<Range<u32>>) -> Datum {
        Datum {
            raw: Some(Raw {
                bytes: Arc::clone(self),
                place,
            }),
            read: OnceLock::new(),
        }
    }
}

impl Raw {
    fn bytes(&self) -> Option<Bytes> {
        let place = self.place.as_ref()?;
        let (start, end) = (place.start as usize, place.end as usize);
        let memory = &self.bytes.memory;
        memory.get(start..end).map(|part| memory.slice_ref(part))
    }

    fn read(&self) -> Result<SchemaAndValue, ConnectError> {
        let bytes = &self.bytes;
        bytes.converter.to_connect_data(&bytes.topic, self.bytes().as_ref())
    }
}

impl Datum {
    /// Bytes of a record of `topic`, to be read by `converter` when somebody asks.
    pub fn lazy(topic: Arc<str>, bytes: Option<Bytes>, converter: Arc<dyn Converter>) -> Self {
        let length = bytes
            .as_ref()
            .map(|bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        RawBytes::new(topic, bytes.unwrap_or_default(), converter).datum(length.map(|length| 0..length))
    }

    /// Data that was built.
    pub fn new(data: SchemaAndValue) -> Self {
        Self {
            raw: None,
            read: OnceLock::from(Arc::new(Ok(data))),
        }
    }

    /// No key, or a tombstone.
    pub fn null() -> Self {
        Self::new(SchemaAndValue::NULL)
    }

    /// The data, read now if it was not read before. An error is the converter's, and is the same at every call.
    pub fn get(&self) -> Result<&SchemaAndValue, ConnectError> {
        let read = self.read.get_or_init(|| {
            Arc::new(match &self.raw {
                Some(raw) => raw.read(),
                None => Ok(SchemaAndValue::NULL),
            })
        });
        match read.as_ref() {
            Ok(data) => Ok(data),
            Err(error) => Err(error.clone()),
        }
    }

    /// The bytes as they came from Kafka; the outer `None` if the data was built here.
    pub fn raw(&self) -> Option<Option<Bytes>> {
        self.raw.as_ref().map(Raw::bytes)
    }

    /// Whether nobody has read it yet.
    pub fn is_unread(&self) -> bool {
        self.read.get().is_none()
    }

    /// The bytes that `converter` would write. No parsing where `converter` is the one that would have read them.
    pub fn to_bytes(&self, topic: &str, converter: &Arc<dyn Converter>) -> Result<Option<Bytes>, ConnectError> {
        if let Some(raw) = &self.raw
            && Arc::ptr_eq(&raw.bytes.converter, converter)
        {
            return Ok(raw.bytes());
        }
        converter.from_connect_data(topic, self.get()?)
    }
}

impl std::fmt::Debug for Datum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.read.get().map(Arc::as_ref) {
            Some(Ok(data)) => write!(formatter, "{:?}", data.value),
            Some(Err(error)) => write!(formatter, "unreadable: {error}"),
            None => formatter.write_str("unread"),
        }
    }
}

impl From<Value> for Datum {
    fn from(value: Value) -> Self {
        Datum::new(SchemaAndValue::schemaless(value))
    }
}

/// A header: a name and data. Names may repeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// name
    pub name: Arc<str>,
    /// data
    pub data: SchemaAndValue,
}

/// Headers in order.
pub type Headers = Vec<Header>;

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
    pub headers: Headers,
}
