//! Single message transforms and predicates (contract part 6).

use crate::config::{ConfigDef, ConfigMap};
use crate::datum::Datum;
use crate::error::ConnectError;
use crate::record::{Header, SinkRecord, SourceRecord};
use std::sync::Arc;

/// A record of either direction, as a transform sees it.
#[derive(Debug, Clone)]
pub enum Record {
    /// on its way to a sink task
    Sink(SinkRecord),
    /// on its way to Kafka
    Source(SourceRecord),
}

impl Record {
    /// The topic.
    pub fn topic(&self) -> &Arc<str> {
        match self {
            Record::Sink(record) => record.topic(),
            Record::Source(record) => &record.topic,
        }
    }

    /// Sets the topic.
    pub fn set_topic(&mut self, topic: Arc<str>) {
        match self {
            Record::Sink(record) => record.set_topic(topic),
            Record::Source(record) => record.topic = topic,
        }
    }

    /// The key.
    pub fn key(&self) -> &Datum {
        match self {
            Record::Sink(record) => record.key(),
            Record::Source(record) => &record.key,
        }
    }

    /// The value.
    pub fn value(&self) -> &Datum {
        match self {
            Record::Sink(record) => record.value(),
            Record::Source(record) => &record.value,
        }
    }

    /// Sets the key.
    pub fn set_key(&mut self, key: Datum) {
        match self {
            Record::Sink(record) => record.set_key(key),
            Record::Source(record) => record.key = key,
        }
    }

    /// Sets the value.
    pub fn set_value(&mut self, value: Datum) {
        match self {
            Record::Sink(record) => record.set_value(value),
            Record::Source(record) => record.value = value,
        }
    }

    /// The headers.
    pub fn headers(&self) -> &[Header] {
        match self {
            Record::Sink(record) => record.headers(),
            Record::Source(record) => &record.headers,
        }
    }

    /// The partition, if one is set.
    pub fn partition(&self) -> Option<i32> {
        match self {
            Record::Sink(record) => Some(record.partition),
            Record::Source(record) => record.partition,
        }
    }

    /// The timestamp in ms since the epoch, if one is set.
    pub fn timestamp_ms(&self) -> Option<i64> {
        match self {
            Record::Sink(record) => record.timestamp_ms,
            Record::Source(record) => record.timestamp_ms,
        }
    }
}

/// Changes or drops one record at a time. Called in order, on one thread per task; a transform that reads one field
/// causes the record to be parsed, one that reads none does not.
pub trait Transformation: Send + Sync {
    /// The changed record, or `None` to drop it; a dropped record's offset still advances.
    fn apply(&self, record: Record) -> Result<Option<Record>, ConnectError>;
}

/// Decides whether a transform applies to a record.
pub trait Predicate: Send + Sync {
    /// Whether it holds.
    fn test(&self, record: &Record) -> Result<bool, ConnectError>;
}

/// A transformation class.
pub trait TransformationPlugin: Send + Sync {
    /// Fully qualified class name (`org.apache.kafka.connect.transforms.InsertField$Value`).
    fn class(&self) -> &'static str;
    /// Its options, without the `transforms.ALIAS.` prefix.
    fn config_def(&self) -> ConfigDef;
    /// A configured transform.
    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError>;
}

/// A predicate class.
pub trait PredicatePlugin: Send + Sync {
    /// Fully qualified class name.
    fn class(&self) -> &'static str;
    /// Its options, without the `predicates.ALIAS.` prefix.
    fn config_def(&self) -> ConfigDef;
    /// A configured predicate.
    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Predicate>, ConnectError>;
}
