//! JSON nodes into Connect schemas and values.

use super::node::Node;
use crate::logical;
use base64::Engine as _;
use bytes::Bytes;
use connect_api::schema::{DATE, DECIMAL, Field, Schema, SchemaType, TIME, TIMESTAMP};
use connect_api::validation::validate_value;
use connect_api::{ConnectError, Struct, Value};
use num_bigint::BigInt;
use std::sync::Arc;

/// Schema in its JSON form; JSON null is no schema.
pub(super) fn schema_from_json(
    node: Option<&Node<'_>>,
    nulls_to_defaults: bool,
) -> Result<Option<Schema>, ConnectError> {
    let node = match node {
        None | Some(Node::Null) => return Ok(None),
        Some(node) => node,
    };
    let Some(type_name) = node.member("type").and_then(Node::text) else {
        return Err(ConnectError::data("Schema must contain 'type' field"));
    };
    let part = |member: &str, missing: &'static str| -> Result<Arc<Schema>, ConnectError> {
        schema_from_json(node.member(member), nulls_to_defaults)?
            .map(Arc::new)
            .ok_or_else(|| ConnectError::data(missing))
    };
    let mut schema = match type_name {
        "boolean" => Schema::new(SchemaType::Boolean),
        "int8" => Schema::new(SchemaType::Int8),
        "int16" => Schema::new(SchemaType::Int16),
        "int32" => Schema::new(SchemaType::Int32),
        "int64" => Schema::new(SchemaType::Int64),
        "float" => Schema::new(SchemaType::Float32),
        "double" => Schema::new(SchemaType::Float64),
        "bytes" => Schema::new(SchemaType::Bytes),
        "string" => Schema::new(SchemaType::String),
        "array" => Schema::array(part("items", "Array schema did not specify the element type")?),
        "map" => Schema::map(
            part("keys", "Map schema did not specify the key type")?,
            part("values", "Map schema did not specify the value type")?,
        ),
        "struct" => struct_schema(node, nulls_to_defaults)?,
        other => return Err(ConnectError::data(format!("Unknown schema type: {other}"))),
    };
    schema.optional = node.member("optional") == Some(&Node::Boolean(true));
    schema.name = node.member("name").and_then(Node::text).map(Arc::from);
    schema.version = match node.member("version") {
        Some(Node::Integer(version)) => Some(*version as i32),
        Some(Node::BigInteger(version)) => Some(low_64_bits(version) as i32),
        _ => None,
    };
    schema.doc = node.member("doc").and_then(Node::text).map(Arc::from);
    if let Some(Node::Object(members)) = node.member("parameters") {
        for (name, value) in members {
            let Some(text) = value.text() else {
                return Err(ConnectError::data("Schema parameters must have string values."));
            };
            let parameters = schema.parameters.get_or_insert_default();
            parameters.insert(name.to_string(), text.to_owned());
        }
    }
    if let Some(default) = node.member("default") {
        let default = value_from_json(Some(&Arc::new(schema.clone())), Some(default), nulls_to_defaults)?;
        if default != Value::Null {
            validate_value(None, &schema, &default)
                .map_err(|error| schema_builder_error("Invalid default value").caused_by(error))?;
            if schema.schema_type == SchemaType::Struct {
                // upstream's default of a struct is one of the builder's schema, which never equals the built one
                return Err(schema_builder_error("Invalid default value"));
            }
            schema.default = Some(default);
        }
    }
    Ok(Some(schema))
}

fn schema_builder_error(message: impl Into<String>) -> ConnectError {
    ConnectError::data(message).with_java_class("org.apache.kafka.connect.errors.SchemaBuilderException")
}

fn struct_schema(node: &Node<'_>, nulls_to_defaults: bool) -> Result<Schema, ConnectError> {
    let Some(Node::Array(elements)) = node.member("fields") else {
        return Err(ConnectError::data(
            "Struct schema's \"fields\" argument is not an array.",
        ));
    };
    let mut schema = Schema::new(SchemaType::Struct);
    for (index, element) in elements.iter().enumerate() {
        let Some(name) = element.member("field").and_then(Node::text) else {
            return Err(ConnectError::data("Struct schema's field name not specified properly"));
        };
        let Some(field_schema) = schema_from_json(Some(element), nulls_to_defaults)? else {
            return Err(schema_builder_error(format!(
                "fieldSchema for field {name} cannot be null."
            )));
        };
        if name.is_empty() {
            return Err(schema_builder_error("fieldName cannot be null."));
        }
        if schema.field(name).is_some() {
            return Err(schema_builder_error(format!(
                "Cannot create field because of field name duplication {name}"
            )));
        }
        schema.fields.push(Field {
            name: name.into(),
            index,
            schema: Arc::new(field_schema),
        });
    }
    Ok(schema)
}

/// The value in `node`, read as `schema` says; without a schema, as JSON says.
pub(super) fn value_from_json(
    schema: Option<&Arc<Schema>>,
    node: Option<&Node<'_>>,
    nulls_to_defaults: bool,
) -> Result<Value, ConnectError> {
    let Some(schema) = schema else {
        return Ok(node.map(schemaless).unwrap_or(Value::Null));
    };
    let node = match node {
        None | Some(Node::Null) => {
            return match &schema.default {
                Some(default) if nulls_to_defaults => Ok(default.clone()),
                _ if schema.optional => Ok(Value::Null),
                _ => Err(ConnectError::data(format!(
                    "Invalid null value for required {} field",
                    schema.schema_type.name()
                ))),
            };
        }
        Some(node) => node,
    };
    if let Some(value) = logical_value(schema, node) {
        return value;
    }
    Ok(match schema.schema_type {
        SchemaType::Boolean => Value::Boolean(*node == Node::Boolean(true)),
        SchemaType::Int8 => Value::Int8(integer(node) as i8),
        SchemaType::Int16 => Value::Int16(integer(node) as i16),
        SchemaType::Int32 => Value::Int32(integer(node) as i32),
        SchemaType::Int64 => Value::Int64(integer(node)),
        SchemaType::Float32 => Value::Float32(match node {
            Node::Integer(number) => *number as f32,
            Node::BigInteger(number) => number.to_string().parse().unwrap_or(0.0),
            Node::Decimal(text) => without_negative_zero(f64::from(text.parse::<f32>().unwrap_or(0.0))) as f32,
            _ => 0.0,
        }),
        SchemaType::Float64 => Value::Float64(float(node)),
        SchemaType::String => node.text().map(Value::from).unwrap_or(Value::Null),
        SchemaType::Bytes => match node.text() {
            Some(text) => Value::Bytes(from_base64(text).ok_or_else(|| ConnectError::data("Invalid bytes field"))?),
            None => Value::Null,
        },
        SchemaType::Array => {
            let element = schema.value_schema.as_ref();
            let read = |node| value_from_json(element, Some(node), nulls_to_defaults);
            Value::Array(match node {
                Node::Array(elements) => elements.iter().map(read).collect::<Result<_, _>>()?,
                Node::Object(members) => members.iter().map(|(_, node)| read(node)).collect::<Result<_, _>>()?,
                _ => Vec::new(),
            })
        }
        SchemaType::Map => map_value(schema, node, nulls_to_defaults)?,
        SchemaType::Struct => struct_value(schema, node, nulls_to_defaults)?,
    })
}

fn map_value(schema: &Schema, node: &Node<'_>, nulls_to_defaults: bool) -> Result<Value, ConnectError> {
    let (key_schema, value_schema) = (schema.key_schema.as_ref(), schema.value_schema.as_ref());
    let mut entries: Vec<(Value, Value)> = Vec::new();
    if key_schema.is_some_and(|key| key.schema_type == SchemaType::String) {
        let Node::Object(members) = node else {
            return Err(ConnectError::data(format!(
                "Maps with string fields should be encoded as JSON objects, but found {}",
                node.type_name()
            )));
        };
        for (name, value) in members {
            let value = value_from_json(value_schema, Some(value), nulls_to_defaults)?;
            entries.push((Value::from(name.as_ref()), value));
        }
    } else {
        let Node::Array(tuples) = node else {
            return Err(ConnectError::data(format!(
                "Maps with non-string fields should be encoded as JSON array of tuples, but found {}",
                node.type_name()
            )));
        };
        for tuple in tuples {
            let Node::Array(pair) = tuple else {
                return Err(ConnectError::data(format!(
                    "Found invalid map entry instead of array tuple: {}",
                    tuple.type_name()
                )));
            };
            let [key, value] = pair.as_slice() else {
                return Err(ConnectError::data(format!(
                    "Found invalid map entry, expected length 2 but found :{}",
                    pair.len()
                )));
            };
            let key = value_from_json(key_schema, Some(key), nulls_to_defaults)?;
            let value = value_from_json(value_schema, Some(value), nulls_to_defaults)?;
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
    }
    Ok(Value::Map(entries))
}

fn struct_value(schema: &Arc<Schema>, node: &Node<'_>, nulls_to_defaults: bool) -> Result<Value, ConnectError> {
    if !matches!(node, Node::Object(_)) {
        return Err(ConnectError::data(format!(
            "Structs should be encoded as JSON objects, but found {}",
            node.type_name()
        )));
    }
    let mut values = Vec::with_capacity(schema.fields.len());
    for field in &schema.fields {
        let value = value_from_json(Some(&field.schema), node.member(&field.name), nulls_to_defaults)?;
        validate_value(Some(&field.name), &field.schema, &value)?;
        values.push(value);
    }
    Ok(Value::Struct(Struct {
        schema: Arc::clone(schema),
        values,
    }))
}

/// The value of a logical type; `None` where the schema names none.
fn logical_value(schema: &Schema, node: &Node<'_>) -> Option<Result<Value, ConnectError>> {
    let wrong = |logical: &str, wanted: &str| {
        Err(ConnectError::data(format!(
            "Invalid type for {logical}, underlying representation should be {wanted} but was {}",
            node.type_name()
        )))
    };
    let int = match node {
        Node::Integer(number) => i32::try_from(*number).ok(),
        _ => None,
    };
    Some(match schema.name.as_deref()? {
        DECIMAL => match node {
            Node::Integer(number) => Ok(Value::Decimal {
                unscaled: BigInt::from(*number),
                scale: 0,
            }),
            Node::BigInteger(number) => Ok(Value::Decimal {
                unscaled: number.clone(),
                scale: 0,
            }),
            Node::Decimal(text) => match logical::parse_decimal(text) {
                Some((unscaled, scale)) => Ok(Value::Decimal { unscaled, scale }),
                None => Err(ConnectError::data("Invalid number for Decimal field")),
            },
            Node::String(text) => from_base64(text)
                .ok_or_else(|| ConnectError::data("Invalid bytes for Decimal field"))
                .and_then(|bytes| {
                    logical::decimal_from_bytes(schema, &bytes)
                        .map_err(|error| ConnectError::data("Invalid bytes for Decimal field").caused_by(error))
                }),
            _ => wrong("Decimal", "numeric or bytes"),
        },
        DATE => match int {
            Some(days) => Ok(Value::Date(i64::from(days) * logical::MILLIS_PER_DAY)),
            None => wrong("Date", "integer"),
        },
        TIME => match int {
            Some(millis) => logical::time_from_millis(i64::from(millis)),
            None => wrong("Time", "integer"),
        },
        TIMESTAMP => match node {
            Node::Integer(_) | Node::BigInteger(_) => Ok(Value::Date(integer(node))),
            _ => wrong("Timestamp", "integral"),
        },
        _ => return None,
    })
}

fn schemaless(node: &Node<'_>) -> Value {
    match node {
        Node::Missing | Node::Null => Value::Null,
        Node::Boolean(value) => Value::Boolean(*value),
        Node::Integer(_) | Node::BigInteger(_) => Value::Int64(integer(node)),
        Node::Decimal(_) => Value::Float64(float(node)),
        Node::String(text) => Value::String(Arc::from(text.as_ref())),
        Node::Array(elements) => Value::Array(elements.iter().map(schemaless).collect()),
        Node::Object(members) => Value::Map(
            members
                .iter()
                .map(|(name, value)| (Value::String(Arc::from(name.as_ref())), schemaless(value)))
                .collect(),
        ),
    }
}

/// The low 64 bits of a number, as Java narrows it; 0 where it is none.
fn integer(node: &Node<'_>) -> i64 {
    match node {
        Node::Integer(number) => *number,
        Node::BigInteger(number) => low_64_bits(number),
        Node::Decimal(text) => logical::parse_decimal(text).map_or(0, |(unscaled, scale)| {
            logical::truncate(&unscaled, scale).map_or(0, |whole| low_64_bits(&whole))
        }),
        _ => 0,
    }
}

fn low_64_bits(number: &BigInt) -> i64 {
    let magnitude = number.iter_u64_digits().next().unwrap_or(0) as i64;
    if number.sign() == num_bigint::Sign::Minus {
        magnitude.wrapping_neg()
    } else {
        magnitude
    }
}

fn float(node: &Node<'_>) -> f64 {
    match node {
        Node::Integer(number) => *number as f64,
        Node::BigInteger(number) => number.to_string().parse().unwrap_or(0.0),
        Node::Decimal(text) => without_negative_zero(text.parse().unwrap_or(0.0)),
        _ => 0.0,
    }
}

/// Java's BigDecimal, through which the number goes, has no negative zero.
fn without_negative_zero(number: f64) -> f64 {
    if number == 0.0 { 0.0 } else { number }
}

/// Jackson skips blanks between groups of four.
fn from_base64(text: &str) -> Option<Bytes> {
    let engine = base64::engine::general_purpose::STANDARD;
    match engine.decode(text) {
        Ok(bytes) => Some(Bytes::from(bytes)),
        Err(_) => {
            let dense: String = text.chars().filter(|character| *character > ' ').collect();
            engine.decode(dense).ok().map(Bytes::from)
        }
    }
}
