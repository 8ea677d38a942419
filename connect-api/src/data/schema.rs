//! Schemas (contract 5.1). A schema is shared by `Arc` and never copied per record.

use crate::data::value::Value;
use indexmap::IndexMap;
use std::sync::Arc;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it all
pub enum SchemaType {
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Boolean,
    String,
    Bytes,
    Array,
    Map,
    Struct,
}

impl SchemaType {
    /// The upper-case name, as upstream prints it (`INT8`).
    pub fn name(self) -> &'static str {
        match self {
            SchemaType::Int8 => "INT8",
            SchemaType::Int16 => "INT16",
            SchemaType::Int32 => "INT32",
            SchemaType::Int64 => "INT64",
            SchemaType::Float32 => "FLOAT32",
            SchemaType::Float64 => "FLOAT64",
            SchemaType::Boolean => "BOOLEAN",
            SchemaType::String => "STRING",
            SchemaType::Bytes => "BYTES",
            SchemaType::Array => "ARRAY",
            SchemaType::Map => "MAP",
            SchemaType::Struct => "STRUCT",
        }
    }
}

/// Schema name of the logical type Decimal: BYTES, unscaled big-endian two's complement, parameter `scale`.
pub const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
/// Schema name of the logical type Date: INT32, days since the epoch.
pub const DATE: &str = "org.apache.kafka.connect.data.Date";
/// Schema name of the logical type Time: INT32, milliseconds of the day.
pub const TIME: &str = "org.apache.kafka.connect.data.Time";
/// Schema name of the logical type Timestamp: INT64, milliseconds since the epoch.
pub const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";

/// A named field of a struct schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// field name
    pub name: Arc<str>,
    /// position in the struct, from 0
    pub index: usize,
    /// schema of the field's value
    pub schema: Arc<Schema>,
}

/// The schema of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// type of the value
    pub schema_type: SchemaType,
    /// whether null is allowed
    pub optional: bool,
    /// value that stands for null, if any
    pub default: Option<Value>,
    /// schema name; names a logical type or a record type
    pub name: Option<Arc<str>>,
    /// version of the schema
    pub version: Option<i32>,
    /// documentation
    pub doc: Option<Arc<str>>,
    /// further attributes, in order; `None` where never set
    pub parameters: Option<IndexMap<String, String>>,
    /// fields of a STRUCT, in order
    pub fields: Vec<Field>,
    /// key schema of a MAP
    pub key_schema: Option<Arc<Schema>>,
    /// element schema of an ARRAY, value schema of a MAP
    pub value_schema: Option<Arc<Schema>>,
}

impl Schema {
    /// A required schema of `schema_type` with nothing else set.
    pub fn new(schema_type: SchemaType) -> Self {
        Self {
            schema_type,
            optional: false,
            default: None,
            name: None,
            version: None,
            doc: None,
            parameters: None,
            fields: Vec::new(),
            key_schema: None,
            value_schema: None,
        }
    }

    /// An optional schema of `schema_type`.
    pub fn optional(schema_type: SchemaType) -> Self {
        Self {
            optional: true,
            ..Self::new(schema_type)
        }
    }

    /// An array of `element`.
    pub fn array(element: Arc<Schema>) -> Self {
        Self {
            value_schema: Some(element),
            ..Self::new(SchemaType::Array)
        }
    }

    /// A map from `key` to `value`.
    pub fn map(key: Arc<Schema>, value: Arc<Schema>) -> Self {
        Self {
            key_schema: Some(key),
            value_schema: Some(value),
            ..Self::new(SchemaType::Map)
        }
    }

    /// A struct with `fields` in order.
    pub fn structure<N: Into<Arc<str>>>(fields: impl IntoIterator<Item = (N, Arc<Schema>)>) -> Self {
        let fields = fields
            .into_iter()
            .enumerate()
            .map(|(index, (name, schema))| Field {
                name: name.into(),
                index,
                schema,
            })
            .collect();
        Self {
            fields,
            ..Self::new(SchemaType::Struct)
        }
    }

    /// The same schema under a name.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| &*field.name == name)
    }
}
