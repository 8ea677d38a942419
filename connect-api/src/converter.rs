//! Converters between Kafka's bytes and Connect data (contract part 5).

use crate::config::{ConfigDef, ConfigMap};
use crate::data::value::SchemaAndValue;
use crate::error::ConnectError;
use bytes::Bytes;
use std::sync::Arc;

/// Translates keys or values. A converter is configured once, then shared by threads; it keeps no state of a record.
pub trait Converter: Send + Sync {
    /// Bytes for Kafka; `None` is a null key or a tombstone. Fails with a data error where the data does not fit.
    fn from_connect_data(&self, topic: &str, data: &SchemaAndValue) -> Result<Option<Bytes>, ConnectError>;

    /// Data from Kafka's bytes. Fails with a data error that says what the bytes look like and which option to change.
    fn to_connect_data(&self, topic: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError>;

    /// Whether `to_connect_data` makes something of any bytes. Where it does not, a sink's records are read before its task has
    /// them, so that one that cannot be read fails in the converter's stage; where it does, they are read when somebody asks.
    fn reads_any_bytes(&self) -> bool {
        false
    }
}

/// Translates the values of headers.
pub trait HeaderConverter: Send + Sync {
    /// Bytes of a header's value.
    fn from_connect_header(
        &self,
        topic: &str,
        name: &str,
        data: &SchemaAndValue,
    ) -> Result<Option<Bytes>, ConnectError>;

    /// A header's value from bytes.
    fn to_connect_header(&self, topic: &str, name: &str, bytes: Option<&Bytes>)
    -> Result<SchemaAndValue, ConnectError>;

    /// As [`Converter::reads_any_bytes`].
    fn reads_any_bytes(&self) -> bool {
        false
    }
}

/// What a converter is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConverterUse {
    /// keys
    Key,
    /// values
    Value,
    /// headers
    Header,
}

impl ConverterUse {
    /// As the option `converter.type` names it.
    pub fn name(self) -> &'static str {
        match self {
            ConverterUse::Key => "key",
            ConverterUse::Value => "value",
            ConverterUse::Header => "header",
        }
    }
}

/// A converter class.
pub trait ConverterPlugin: Send + Sync {
    /// Fully qualified class name.
    fn class(&self) -> &'static str;
    /// Its options, without the `key.converter.` prefix.
    fn config_def(&self) -> ConfigDef;
    /// A configured converter.
    fn configure(&self, config: &ConfigMap, converter_use: ConverterUse) -> Result<Arc<dyn Converter>, ConnectError>;
}

/// A header converter class.
pub trait HeaderConverterPlugin: Send + Sync {
    /// Fully qualified class name.
    fn class(&self) -> &'static str;
    /// Its options, without the `header.converter.` prefix.
    fn config_def(&self) -> ConfigDef;
    /// A configured header converter.
    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn HeaderConverter>, ConnectError>;
}
