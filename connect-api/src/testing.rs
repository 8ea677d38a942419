//! In-memory stand-ins for what the runtime gives to a task, for tests of connectors.

use crate::config::ConfigMap;
use crate::converter::Converter;
use crate::data::value::{SchemaAndValue, Value};
use crate::error::ConnectError;
use crate::record::SourceMap;
use crate::source::{OffsetReader, SourceTaskContext, TopicLayout, VisitRecord, WrittenTopics};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

/// Writes the text of values and reads it as text.
pub struct TextConverter;

impl Converter for TextConverter {
    fn from_connect_data(&self, _topic: &str, data: &SchemaAndValue) -> Result<Option<Bytes>, ConnectError> {
        Ok(match &data.value {
            Value::Null => None,
            value => Some(Bytes::from(value.to_string())),
        })
    }

    fn to_connect_data(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        Ok(match bytes {
            None => SchemaAndValue::NULL,
            Some(bytes) => SchemaAndValue::schemaless(Value::from(String::from_utf8_lossy(bytes).into_owned())),
        })
    }
}

/// No offset was committed.
pub struct NoOffsets;

#[async_trait]
impl OffsetReader for NoOffsets {
    async fn offset(&self, _partition: &SourceMap) -> Result<Option<SourceMap>, ConnectError> {
        Ok(None)
    }
}

/// A partition, a key and a value.
pub type TestRecord = (i32, Option<Bytes>, Option<Bytes>);

/// One topic in memory.
#[derive(Default)]
pub struct TestTopic {
    /// the topic; `None`: there is none
    pub layout: Mutex<Option<TopicLayout>>,
    /// its records
    pub records: Mutex<Vec<TestRecord>>,
}

#[async_trait]
impl WrittenTopics for TestTopic {
    async fn layout(&self, _topic: &str) -> Result<Option<TopicLayout>, ConnectError> {
        Ok(self.layout.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn read(&self, _topic: &str, mut visit: VisitRecord) -> Result<(), ConnectError> {
        for (partition, key, value) in self.records.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            visit(*partition, key.as_deref(), value.as_deref());
        }
        Ok(())
    }
}

/// A context with `config` and `offsets`, no topic, and converters of text.
pub fn source_context(config: ConfigMap, offsets: Arc<dyn OffsetReader>) -> SourceTaskContext {
    SourceTaskContext {
        connector: "test".into(),
        task: 0,
        config,
        offsets,
        topics: Arc::new(TestTopic::default()),
        key_converter: Arc::new(TextConverter),
        value_converter: Arc::new(TextConverter),
    }
}
