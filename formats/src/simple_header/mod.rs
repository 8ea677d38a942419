//! `org.apache.kafka.connect.storage.SimpleHeaderConverter`: text, with the type guessed on reading (contract 5.4).

mod parse;
mod tokens;
mod write;

pub use parse::parse_string;

use super::java_decoders::utf8_text;
use bytes::Bytes;
use connect_api::config::{ConfigDef, ConfigMap};
use connect_api::{ConnectError, HeaderConverter, HeaderConverterPlugin, Schema, SchemaAndValue, SchemaType, Value};
use std::sync::Arc;

/// The converter's class.
pub struct SimpleHeaderConverterPlugin;

impl HeaderConverterPlugin for SimpleHeaderConverterPlugin {
    fn class(&self) -> &'static str {
        super::DEFAULT_HEADER_CONVERTER
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&self, _: &ConfigMap) -> Result<Arc<dyn HeaderConverter>, ConnectError> {
        Ok(Arc::new(SimpleHeaderConverter))
    }
}

struct SimpleHeaderConverter;

impl HeaderConverter for SimpleHeaderConverter {
    fn from_connect_header(
        &self,
        _topic: &str,
        _name: &str,
        data: &SchemaAndValue,
    ) -> Result<Option<Bytes>, ConnectError> {
        Ok(match &data.value {
            Value::Null => None,
            value => Some(Bytes::from(write::text(value))),
        })
    }

    fn to_connect_header(
        &self,
        _topic: &str,
        _name: &str,
        bytes: Option<&Bytes>,
    ) -> Result<SchemaAndValue, ConnectError> {
        let Some(bytes) = bytes else {
            return Ok(SchemaAndValue::NULL);
        };
        let text = utf8_text(bytes);
        if text.is_empty() {
            return Ok(SchemaAndValue {
                schema: Some(Arc::new(Schema::new(SchemaType::String))),
                value: Value::from(""),
            });
        }
        Ok(parse_string(&text))
    }

    fn reads_any_bytes(&self) -> bool {
        true
    }
}
