//! Does a value fit its schema? (`ConnectSchema.validateValue`, `Struct.validate`; contract 5.1)

use crate::data::schema::{DATE, DECIMAL, Schema, SchemaType, TIME, TIMESTAMP};
use crate::data::value::{Struct, Value};
use crate::error::ConnectError;

/// Checks that `value` fits `schema`; `field` is named in the error where there is one.
pub fn validate_value(field: Option<&str>, schema: &Schema, value: &Value) -> Result<(), ConnectError> {
    let place = match field {
        Some(name) => format!("field: \"{name}\""),
        None => "value".to_owned(),
    };
    validate_at(&place, schema, value)
}

/// `schema type: STRING`, with the schema's name in front where it has one.
fn describe(schema: &Schema) -> String {
    match &schema.name {
        Some(name) => format!("\"{name}\" with type {}", schema.schema_type.name()),
        None => format!("with type {}", schema.schema_type.name()),
    }
}

fn validate_at(place: &str, schema: &Schema, value: &Value) -> Result<(), ConnectError> {
    if *value == Value::Null {
        return match schema.optional {
            true => Ok(()),
            false => Err(ConnectError::data(format!(
                "Invalid value: null used for required {place}, schema type: {}",
                schema.schema_type.name()
            ))),
        };
    }
    if !fits(schema, value) {
        return Err(ConnectError::data(format!(
            "Invalid Java object for schema {}: class {} for {place}",
            describe(schema),
            value.java_class()
        )));
    }
    match value {
        Value::Struct(structure) => {
            if *structure.schema != *schema {
                return Err(ConnectError::data("Struct schemas do not match."));
            }
            structure.validate()
        }
        Value::Array(elements) => match &schema.value_schema {
            Some(element_schema) => elements
                .iter()
                .try_for_each(|element| validate_at(&format!("element of array {place}"), element_schema, element)),
            None => Err(ConnectError::data(format!(
                "No schema defined for element of array {place}"
            ))),
        },
        Value::Map(entries) => {
            let (Some(key_schema), Some(value_schema)) = (&schema.key_schema, &schema.value_schema) else {
                let missing = if schema.key_schema.is_none() { "key" } else { "value" };
                return Err(ConnectError::data(format!(
                    "No schema defined for {missing} of map {place}"
                )));
            };
            entries.iter().try_for_each(|(key, value)| {
                validate_at(&format!("key of map {place}"), key_schema, key)?;
                validate_at(&format!("value of map {place}"), value_schema, value)
            })
        }
        _ => Ok(()),
    }
}

/// Whether the value's own type is one that the schema allows; a logical type allows only its own.
fn fits(schema: &Schema, value: &Value) -> bool {
    match schema.name.as_deref() {
        Some(DECIMAL) => return matches!(value, Value::Decimal { .. }),
        Some(DATE | TIME | TIMESTAMP) => return matches!(value, Value::Date(_)),
        _ => {}
    }
    matches!(
        (schema.schema_type, value),
        (SchemaType::Int8, Value::Int8(_))
            | (SchemaType::Int16, Value::Int16(_))
            | (SchemaType::Int32, Value::Int32(_))
            | (SchemaType::Int64, Value::Int64(_))
            | (SchemaType::Float32, Value::Float32(_))
            | (SchemaType::Float64, Value::Float64(_))
            | (SchemaType::Boolean, Value::Boolean(_))
            | (SchemaType::String, Value::String(_))
            | (SchemaType::Bytes, Value::Bytes(_))
            | (SchemaType::Array, Value::Array(_))
            | (SchemaType::Map, Value::Map(_))
            | (SchemaType::Struct, Value::Struct(_))
    )
}

impl Struct {
    /// Checks every field; null in a required field passes where the field has a default.
    pub fn validate(&self) -> Result<(), ConnectError> {
        for (field, value) in self.schema.fields.iter().zip(&self.values) {
            if *value == Value::Null && (field.schema.optional || field.schema.default.is_some()) {
                continue;
            }
            validate_value(Some(&field.name), &field.schema, value)?;
        }
        Ok(())
    }
}
