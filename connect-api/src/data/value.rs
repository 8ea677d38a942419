//! Values (contract 5.1).

use crate::data::schema::Schema;
use bytes::Bytes;
use num_bigint::BigInt;
use std::sync::Arc;

/// A value of a record's key, value or header. Text and bytes are shared, so a clone is cheap for leaves.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the plain variants are named after their types
pub enum Value {
    Null,
    Boolean(bool),
    Int8(i8),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Float32(f32),
    Float64(f64),
    String(Arc<str>),
    Bytes(Bytes),
    Array(Vec<Value>),
    /// entries in the order they were put
    Map(Vec<(Value, Value)>),
    Struct(Struct),
    /// `unscaled * 10^-scale` (java.math.BigDecimal)
    Decimal {
        unscaled: BigInt,
        scale: i32,
    },
    /// milliseconds since the epoch (java.util.Date): the value of the logical types Date, Time and Timestamp
    Date(i64),
}

/// A value with its fields in the order of its schema. A slot holds [`Value::Null`] where nothing was put.
#[derive(Debug, Clone, PartialEq)]
pub struct Struct {
    /// schema, of type STRUCT
    pub schema: Arc<Schema>,
    /// one value for each field of the schema, in its order
    pub values: Vec<Value>,
}

impl Struct {
    /// A struct of `schema` with every field null.
    pub fn new(schema: Arc<Schema>) -> Self {
        let values = vec![Value::Null; schema.fields.len()];
        Self { schema, values }
    }

    /// The value of the field called `name`, with the field's default in place of null; `None` if there is no such field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let field = self.schema.field(name)?;
        let value = self.values.get(field.index)?;
        match value {
            Value::Null => Some(field.schema.default.as_ref().unwrap_or(value)),
            _ => Some(value),
        }
    }

    /// Sets the field called `name`; says whether there is one.
    pub fn put(&mut self, name: &str, value: Value) -> bool {
        match self.schema.field(name).map(|field| field.index) {
            Some(index) => match self.values.get_mut(index) {
                Some(slot) => {
                    *slot = value;
                    true
                }
                None => false,
            },
            None => false,
        }
    }
}

/// A value with the schema it was read or is to be written with; no schema for schemaless data.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaAndValue {
    /// schema, or `None` for schemaless data
    pub schema: Option<Arc<Schema>>,
    /// value
    pub value: Value,
}

impl SchemaAndValue {
    /// Null without a schema: a tombstone, or a key that is not there.
    pub const NULL: SchemaAndValue = SchemaAndValue {
        schema: None,
        value: Value::Null,
    };

    /// A value without a schema.
    pub fn schemaless(value: Value) -> Self {
        Self { schema: None, value }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int64(number)
    }
}
