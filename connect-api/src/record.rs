//! Records on their way between Kafka and a task. A record stays raw bytes until somebody reads it.

use crate::data::value::SchemaAndValue;
use crate::datum::Datum;
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

/// A header: a name and data. Names may repeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// name
    pub name: Arc<str>,
    /// data
    pub data: SchemaAndValue,
}

/// Records of one topic that were fetched together. What they have in common is made once, and a [`SinkRecord`] costs one count
/// of its users; the last one of them frees it.
pub trait FetchedRecords: Send + Sync {
    /// The topic.
    fn topic(&self) -> &Arc<str>;
    /// The key of one of the records.
    fn key(&self, record: u32) -> Datum;
    /// The value of one of the records.
    fn value(&self, record: u32) -> Datum;
    /// The headers of one of the records, in order.
    fn headers(&self, record: u32) -> Vec<Header>;
}

/// A record for a sink task. Its key, value and headers are made of what was fetched when somebody looks at them.
#[derive(Clone)]
pub struct SinkRecord {
    fetched: Arc<dyn FetchedRecords>,
    record: u32,
    /// partition it was read from
    pub partition: i32,
    /// offset it was read at
    pub offset: i64,
    /// milliseconds since the epoch
    pub timestamp_ms: Option<i64>,
    /// what the timestamp means
    pub timestamp_type: TimestampType,
    /// where a transform has changed it
    topic: Option<Arc<str>>,
    key: OnceLock<Datum>,
    value: OnceLock<Datum>,
    headers: OnceLock<Vec<Header>>,
}

impl SinkRecord {
    /// One of the records that were fetched, at a partition and an offset.
    pub fn fetched(fetched: &Arc<dyn FetchedRecords>, record: u32, partition: i32, offset: i64) -> Self {
        Self {
            fetched: Arc::clone(fetched),
            record,
            partition,
            offset,
            timestamp_ms: None,
            timestamp_type: TimestampType::NoTimestamp,
            topic: None,
            key: OnceLock::new(),
            value: OnceLock::new(),
            headers: OnceLock::new(),
        }
    }

    /// A record without key, value, headers and timestamp, which may be set.
    pub fn new(topic: Arc<str>, partition: i32, offset: i64) -> Self {
        let nothing: Arc<dyn FetchedRecords> = Arc::new(Nothing(topic));
        Self::fetched(&nothing, 0, partition, offset)
    }

    /// The topic; transforms may change it.
    pub fn topic(&self) -> &Arc<str> {
        self.topic.as_ref().unwrap_or_else(|| self.original_topic())
    }

    /// Sets the topic.
    pub fn set_topic(&mut self, topic: Arc<str>) {
        self.topic = Some(topic);
    }

    /// The topic that it was read from.
    pub fn original_topic(&self) -> &Arc<str> {
        self.fetched.topic()
    }

    /// The key.
    pub fn key(&self) -> &Datum {
        self.key.get_or_init(|| self.fetched.key(self.record))
    }

    /// Sets the key.
    pub fn set_key(&mut self, key: Datum) {
        self.key = OnceLock::from(key);
    }

    /// The value; null is a tombstone.
    pub fn value(&self) -> &Datum {
        self.value.get_or_init(|| self.fetched.value(self.record))
    }

    /// Sets the value.
    pub fn set_value(&mut self, value: Datum) {
        self.value = OnceLock::from(value);
    }

    /// The headers, in order.
    pub fn headers(&self) -> &[Header] {
        self.headers.get_or_init(|| self.fetched.headers(self.record))
    }

    /// Sets the headers.
    pub fn set_headers(&mut self, headers: Vec<Header>) {
        self.headers = OnceLock::from(headers);
    }

    /// Adds a header behind the others.
    pub fn push_header(&mut self, header: Header) {
        let read = self.headers.take();
        let mut headers = read.unwrap_or_else(|| self.fetched.headers(self.record));
        headers.push(header);
        self.set_headers(headers);
    }
}

impl std::fmt::Debug for SinkRecord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut record = formatter.debug_struct("SinkRecord");
        record.field("topic", self.topic());
        record.field("partition", &self.partition).field("offset", &self.offset);
        record.field("timestamp_ms", &self.timestamp_ms);
        record.field("key", &self.key.get()).field("value", &self.value.get());
        record.field("headers", &self.headers.get()).finish_non_exhaustive()
    }
}

/// Nothing was fetched: the record was built.
struct Nothing(Arc<str>);

impl FetchedRecords for Nothing {
    fn topic(&self) -> &Arc<str> {
        &self.0
    }

    fn key(&self, _record: u32) -> Datum {
        Datum::null()
    }

    fn value(&self, _record: u32) -> Datum {
        Datum::null()
    }

    fn headers(&self, _record: u32) -> Vec<Header> {
        Vec::new()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::value::Value;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Counts how often it is asked.
    struct Counted {
        topic: Arc<str>,
        asked: AtomicU32,
    }

    impl Counted {
        fn datum(&self, text: String) -> Datum {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Value::from(text.as_str()).into()
        }
    }

    impl FetchedRecords for Counted {
        fn topic(&self) -> &Arc<str> {
            &self.topic
        }

        fn key(&self, record: u32) -> Datum {
            self.datum(format!("key {record}"))
        }

        fn value(&self, record: u32) -> Datum {
            self.datum(format!("value {record}"))
        }

        fn headers(&self, record: u32) -> Vec<Header> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            vec![header(&record.to_string())]
        }
    }

    fn header(name: &str) -> Header {
        Header {
            name: name.into(),
            data: SchemaAndValue::NULL,
        }
    }

    fn text(datum: &Datum) -> String {
        datum.get().unwrap().value.to_string()
    }

    #[test]
    fn what_was_fetched_is_asked_for_once_and_when_somebody_looks() {
        let counted = Arc::new(Counted {
            topic: "t".into(),
            asked: AtomicU32::new(0),
        });
        let fetched: Arc<dyn FetchedRecords> = counted.clone();
        let record = SinkRecord::fetched(&fetched, 3, 1, 40);
        let mut more = record.clone();
        assert_eq!(counted.asked.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            assert_eq!(
                (text(record.key()), text(record.value())),
                ("key 3".into(), "value 3".into())
            );
            assert_eq!(record.headers(), [header("3")]);
        }
        assert_eq!(counted.asked.load(Ordering::Relaxed), 3);
        more.push_header(header("new"));
        more.push_header(header("newer"));
        assert_eq!(more.headers(), [header("3"), header("new"), header("newer")]);
        assert_eq!(counted.asked.load(Ordering::Relaxed), 4);
        more.set_key(Value::from("other").into());
        assert_eq!((text(more.key()), text(record.key())), ("other".into(), "key 3".into()));
    }

    #[test]
    fn a_record_knows_the_topic_that_it_was_read_from() {
        let mut record = SinkRecord::new("orders".into(), 0, 7);
        assert_eq!((&**record.topic(), &**record.original_topic()), ("orders", "orders"));
        record.set_topic("archive".into());
        record.set_topic("archive.2024".into());
        assert_eq!(
            (&**record.topic(), &**record.original_topic()),
            ("archive.2024", "orders")
        );
        assert_eq!(record.value().get().unwrap().value, Value::Null);
        assert!(record.headers().is_empty());
    }
}
