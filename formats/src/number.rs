//! The converters of booleans and numbers: big-endian, of fixed size.

use bytes::Bytes;
use connect_api::config::{ConfigDef, ConfigMap};
use connect_api::converter::ConverterUse;
use connect_api::{ConnectError, Converter, ConverterPlugin, Schema, SchemaAndValue, SchemaType, Value};
use std::sync::Arc;

/// Which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    /// 2 bytes
    Short,
    /// 4 bytes
    Integer,
    /// 8 bytes
    Long,
    /// 4 bytes, IEEE 754
    Float,
    /// 8 bytes, IEEE 754
    Double,
}

impl NumberKind {
    /// Every kind.
    pub const ALL: [NumberKind; 5] = [
        NumberKind::Short,
        NumberKind::Integer,
        NumberKind::Long,
        NumberKind::Float,
        NumberKind::Double,
    ];

    fn name(self) -> &'static str {
        match self {
            NumberKind::Short => "short",
            NumberKind::Integer => "integer",
            NumberKind::Long => "long",
            NumberKind::Float => "float",
            NumberKind::Double => "double",
        }
    }

    fn schema_type(self) -> SchemaType {
        match self {
            NumberKind::Short => SchemaType::Int16,
            NumberKind::Integer => SchemaType::Int32,
            NumberKind::Long => SchemaType::Int64,
            NumberKind::Float => SchemaType::Float32,
            NumberKind::Double => SchemaType::Float64,
        }
    }

    fn size(self) -> usize {
        match self {
            NumberKind::Short => 2,
            NumberKind::Integer | NumberKind::Float => 4,
            NumberKind::Long | NumberKind::Double => 8,
        }
    }
}

/// A number converter's class.
pub struct NumberConverterPlugin(pub NumberKind);

impl ConverterPlugin for NumberConverterPlugin {
    fn class(&self) -> &'static str {
        match self.0 {
            NumberKind::Short => "org.apache.kafka.connect.converters.ShortConverter",
            NumberKind::Integer => "org.apache.kafka.connect.converters.IntegerConverter",
            NumberKind::Long => "org.apache.kafka.connect.converters.LongConverter",
            NumberKind::Float => "org.apache.kafka.connect.converters.FloatConverter",
            NumberKind::Double => "org.apache.kafka.connect.converters.DoubleConverter",
        }
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&self, _: &ConfigMap, _: ConverterUse) -> Result<Arc<dyn Converter>, ConnectError> {
        Ok(Arc::new(NumberConverter {
            kind: self.0,
            schema: Arc::new(Schema::optional(self.0.schema_type())),
        }))
    }
}

struct NumberConverter {
    kind: NumberKind,
    schema: Arc<Schema>,
}

impl Converter for NumberConverter {
    fn from_connect_data(&self, _topic: &str, data: &SchemaAndValue) -> Result<Option<Bytes>, ConnectError> {
        Ok(Some(match (self.kind, &data.value) {
            (_, Value::Null) => return Ok(None),
            (NumberKind::Short, Value::Int16(number)) => Bytes::copy_from_slice(&number.to_be_bytes()),
            (NumberKind::Integer, Value::Int32(number)) => Bytes::copy_from_slice(&number.to_be_bytes()),
            (NumberKind::Long, Value::Int64(number)) => Bytes::copy_from_slice(&number.to_be_bytes()),
            (NumberKind::Float, Value::Float32(number)) => Bytes::copy_from_slice(&number.to_be_bytes()),
            (NumberKind::Double, Value::Float64(number)) => Bytes::copy_from_slice(&number.to_be_bytes()),
            (_, other) => {
                return Err(ConnectError::data(format!(
                    "Failed to serialize to {} (was class {}): ",
                    self.kind.name(),
                    other.java_class()
                )));
            }
        }))
    }

    fn to_connect_data(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let wrong = || {
            ConnectError::data(format!("Failed to deserialize {}: ", self.kind.name()))
                .caused_by(WrongSize(self.kind.size()))
        };
        let value = match bytes.map(|bytes| bytes.as_ref()) {
            None => Value::Null,
            Some(bytes) => match self.kind {
                NumberKind::Short => Value::Int16(i16::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
                NumberKind::Integer => Value::Int32(i32::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
                NumberKind::Long => Value::Int64(i64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
                NumberKind::Float => Value::Float32(f32::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
                NumberKind::Double => Value::Float64(f64::from_be_bytes(bytes.try_into().map_err(|_| wrong())?)),
            },
        };
        Ok(SchemaAndValue {
            schema: Some(Arc::clone(&self.schema)),
            value,
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("Size of data received by Deserializer is not {0}")]
struct WrongSize(usize);

/// The class of `BooleanConverter`: one byte, 0 or 1.
pub struct BooleanConverterPlugin;

impl ConverterPlugin for BooleanConverterPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.converters.BooleanConverter"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&self, _: &ConfigMap, _: ConverterUse) -> Result<Arc<dyn Converter>, ConnectError> {
        Ok(Arc::new(BooleanConverter {
            schema: Arc::new(Schema::optional(SchemaType::Boolean)),
        }))
    }
}

struct BooleanConverter {
    schema: Arc<Schema>,
}

impl Converter for BooleanConverter {
    fn from_connect_data(&self, _topic: &str, data: &SchemaAndValue) -> Result<Option<Bytes>, ConnectError> {
        if let Some(schema) = &data.schema
            && schema.schema_type != SchemaType::Boolean
        {
            return Err(ConnectError::data(format!(
                "Invalid schema type for BooleanConverter: {}",
                schema.schema_type.name()
            )));
        }
        match &data.value {
            Value::Null => Ok(None),
            Value::Boolean(value) => Ok(Some(Bytes::from_static(if *value { &[1] } else { &[0] }))),
            other => Err(ConnectError::data(format!(
                "BooleanConverter is not compatible with objects of type class {}",
                other.java_class()
            ))),
        }
    }

    fn to_connect_data(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let value = match bytes.map(|bytes| bytes.as_ref()) {
            None => Value::Null,
            Some([0]) => Value::Boolean(false),
            Some([1]) => Value::Boolean(true),
            Some(_) => return Err(ConnectError::data("Failed to deserialize boolean: ")),
        };
        Ok(SchemaAndValue {
            schema: Some(Arc::clone(&self.schema)),
            value,
        })
    }
}
