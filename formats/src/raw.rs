//! `org.apache.kafka.connect.converters.ByteArrayConverter`: bytes as they are.

use bytes::Bytes;
use connect_api::config::{ConfigDef, ConfigMap};
use connect_api::converter::ConverterUse;
use connect_api::{ConnectError, Converter, ConverterPlugin, Schema, SchemaAndValue, SchemaType, Value};
use std::sync::Arc;

/// The converter's class.
pub struct ByteArrayConverterPlugin;

impl ConverterPlugin for ByteArrayConverterPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.converters.ByteArrayConverter"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&self, _: &ConfigMap, _: ConverterUse) -> Result<Arc<dyn Converter>, ConnectError> {
        Ok(Arc::new(ByteArrayConverter {
            schema: Arc::new(Schema::optional(SchemaType::Bytes)),
        }))
    }
}

struct ByteArrayConverter {
    schema: Arc<Schema>,
}

impl Converter for ByteArrayConverter {
    fn from_connect_data(&self, _topic: &str, data: &SchemaAndValue) -> Result<Option<Bytes>, ConnectError> {
        if let Some(schema) = &data.schema
            && schema.schema_type != SchemaType::Bytes
        {
            return Err(ConnectError::data(format!(
                "Invalid schema type for ByteArrayConverter: {}",
                schema.schema_type.name()
            )));
        }
        match &data.value {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes.clone())),
            other => Err(ConnectError::data(format!(
                "ByteArrayConverter is not compatible with objects of type class {}",
                other.java_class()
            ))),
        }
    }

    fn to_connect_data(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        Ok(SchemaAndValue {
            schema: Some(Arc::clone(&self.schema)),
            value: bytes.cloned().map_or(Value::Null, Value::Bytes),
        })
    }

    fn reads_any_bytes(&self) -> bool {
        true
    }
}
