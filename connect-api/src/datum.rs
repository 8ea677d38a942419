//! Keys and values that stay bytes until somebody reads them.
//!
//! ```text
//!   fetched batch --RawBytes: topic, converter--> Datum of a record --get--> schema and value, read once
//! ```
//! What the records of a batch have in common is made once for the batch; a datum costs a count of its users.

use crate::converter::Converter;
use crate::data::value::{SchemaAndValue, Value};
use crate::error::ConnectError;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// The keys, or the values, of a batch of records.
pub trait RecordBytes: Send + Sync {
    /// The bytes of one of the records; `None` is null.
    fn bytes(&self, record: u32) -> Option<Bytes>;
}

/// A key or a value: raw bytes with the converter that reads them, or data that was built, or both.
///
/// Reading is lazy and happens once for a datum and the clones that are made after it. A record that is only passed on is never
/// parsed: where the bytes are there and the converter that is to write them is the one that would have read them, the bytes are
/// written as they are.
#[derive(Clone)]
pub struct Datum {
    raw: Option<Raw>,
    read: OnceLock<Arc<Result<SchemaAndValue, ConnectError>>>,
}

/// Keys, or values, of records of one topic, with the converter that reads them.
pub struct RawBytes {
    topic: Arc<str>,
    converter: Arc<dyn Converter>,
    bytes: Box<dyn RecordBytes>,
}

#[derive(Clone)]
struct Raw {
    of: Arc<RawBytes>,
    record: u32,
}

/// The bytes of a single record.
struct Single(Option<Bytes>);

impl RecordBytes for Single {
    fn bytes(&self, _record: u32) -> Option<Bytes> {
        self.0.clone()
    }
}

impl RawBytes {
    /// Bytes of records of `topic`, to be read by `converter`.
    pub fn new(topic: Arc<str>, converter: Arc<dyn Converter>, bytes: impl RecordBytes + 'static) -> Arc<Self> {
        Arc::new(Self {
            topic,
            converter,
            bytes: Box::new(bytes),
        })
    }

    /// The datum of one of the records, to be read when somebody asks.
    pub fn datum(self: &Arc<Self>, record: u32) -> Datum {
        Datum {
            raw: Some(Raw {
                of: Arc::clone(self),
                record,
            }),
            read: OnceLock::new(),
        }
    }
}

impl Raw {
    fn bytes(&self) -> Option<Bytes> {
        self.of.bytes.bytes(self.record)
    }
}

impl Datum {
    /// Bytes of a record of `topic`, to be read by `converter` when somebody asks.
    pub fn lazy(topic: Arc<str>, bytes: Option<Bytes>, converter: Arc<dyn Converter>) -> Self {
        RawBytes::new(topic, converter, Single(bytes)).datum(0)
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
                Some(raw) => raw.of.converter.to_connect_data(&raw.of.topic, raw.bytes().as_ref()),
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
            && Arc::ptr_eq(&raw.of.converter, converter)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TextConverter;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Counts how often it is asked.
    #[derive(Default)]
    struct Counted(AtomicU32);

    impl RecordBytes for Arc<Counted> {
        fn bytes(&self, record: u32) -> Option<Bytes> {
            self.0.fetch_add(1, Ordering::Relaxed);
            (record > 0).then(|| Bytes::from(record.to_string()))
        }
    }

    #[test]
    fn a_datum_is_read_once_with_the_clones_that_follow() {
        let counted = Arc::new(Counted::default());
        let converter: Arc<dyn Converter> = Arc::new(TextConverter);
        let batch = RawBytes::new("t".into(), Arc::clone(&converter), Arc::clone(&counted));
        let (one, null) = (batch.datum(1), batch.datum(0));
        assert!(one.is_unread());
        assert_eq!(one.get().unwrap().value, Value::from("1"));
        let clone = one.clone();
        assert!(!clone.is_unread());
        assert_eq!(clone.get().unwrap().value, Value::from("1"));
        assert_eq!(counted.0.load(Ordering::Relaxed), 1);
        assert_eq!(null.get().unwrap().value, Value::Null);
        assert_eq!((one.raw(), null.raw()), (Some(Some("1".into())), Some(None)));
        assert_eq!(batch.datum(7).to_bytes("t", &converter).unwrap(), Some("7".into()));
    }
}
