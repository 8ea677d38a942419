//! Connect schemas and values into JSON text, straight into one buffer. Output is byte for byte what a Java worker
//! writes: members in order, floats in Java's form, characters beyond the basic plane as escaped surrogate pairs.

use super::DecimalFormat;
use crate::logical;
use base64::Engine as _;
use connect_api::java_text::{decimal_text, double_text, float_text};
use connect_api::schema::{DATE, DECIMAL, Schema, SchemaType, TIME, TIMESTAMP};
use connect_api::{ConnectError, Value};

/// How values are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteOptions {
    pub(super) decimal_format: DecimalFormat,
    pub(super) nulls_to_defaults: bool,
}

/// Writes the JSON form of a schema.
pub(super) fn write_schema(
    schema: &Schema,
    field: Option<&str>,
    options: WriteOptions,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(type_name(schema.schema_type).as_bytes());
    out.push(b'"');
    let part = |name: &str, part: &Option<std::sync::Arc<Schema>>, out: &mut Vec<u8>| {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        match part {
            Some(schema) => write_schema(schema, None, options, out),
            None => {
                out.extend_from_slice(b"null");
                Ok(())
            }
        }
    };
    match schema.schema_type {
        SchemaType::Array => part("items", &schema.value_schema, out)?,
        SchemaType::Map => {
            part("keys", &schema.key_schema, out)?;
            part("values", &schema.value_schema, out)?;
        }
        SchemaType::Struct => {
            out.extend_from_slice(b",\"fields\":[");
            for (index, field) in schema.fields.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_schema(&field.schema, Some(&field.name), options, out)?;
            }
            out.push(b']');
        }
        _ => {}
    }
    out.extend_from_slice(if schema.optional {
        b",\"optional\":true"
    } else {
        b",\"optional\":false"
    });
    if let Some(name) = &schema.name {
        out.extend_from_slice(b",\"name\":");
        write_string(name, out);
    }
    if let Some(version) = schema.version {
        out.extend_from_slice(format!(",\"version\":{version}").as_bytes());
    }
    if let Some(doc) = &schema.doc {
        out.extend_from_slice(b",\"doc\":");
        write_string(doc, out);
    }
    if let Some(parameters) = &schema.parameters {
        out.extend_from_slice(b",\"parameters\":{");
        for (index, (name, value)) in parameters.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(name, out);
            out.push(b':');
            write_string(value, out);
        }
        out.push(b'}');
    }
    if let Some(default) = &schema.default {
        out.extend_from_slice(b",\"default\":");
        write_value(Some(schema), default, options, out)?;
    }
    if let Some(field) = field {
        out.extend_from_slice(b",\"field\":");
        write_string(field, out);
    }
    out.push(b'}');
    Ok(())
}

fn type_name(schema_type: SchemaType) -> &'static str {
    match schema_type {
        SchemaType::Int8 => "int8",
        SchemaType::Int16 => "int16",
        SchemaType::Int32 => "int32",
        SchemaType::Int64 => "int64",
        SchemaType::Float32 => "float",
        SchemaType::Float64 => "double",
        SchemaType::Boolean => "boolean",
        SchemaType::String => "string",
        SchemaType::Bytes => "bytes",
        SchemaType::Array => "array",
        SchemaType::Map => "map",
        SchemaType::Struct => "struct",
    }
}

/// Writes a value as its schema says; without a schema, as its own type says.
pub(super) fn write_value(
    schema: Option<&Schema>,
    value: &Value,
    options: WriteOptions,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    let Some(schema) = schema else {
        return write_schemaless(value, options, out);
    };
    if *value == Value::Null {
        return match &schema.default {
            Some(default) if options.nulls_to_defaults => write_value(Some(schema), default, options, out),
            _ if schema.optional => {
                out.extend_from_slice(b"null");
                Ok(())
            }
            _ => Err(ConnectError::data(
                "Conversion error: null value for field that is required and has no default value",
            )),
        };
    }
    if let Some(name) = schema.name.as_deref()
        && let Some(written) = write_logical(name, schema, value, options, out)
    {
        return written;
    }
    match (schema.schema_type, value) {
        (SchemaType::Array, Value::Array(elements)) => {
            write_array(elements, schema.value_schema.as_deref(), options, out)
        }
        (SchemaType::Map, Value::Map(entries)) => {
            let object = schema
                .key_schema
                .as_ref()
                .is_some_and(|key| key.schema_type == SchemaType::String);
            let schemas = (schema.key_schema.as_deref(), schema.value_schema.as_deref());
            write_map(entries, object, schemas, options, out)
        }
        (SchemaType::Struct, Value::Struct(structure)) => {
            if !std::ptr::eq(structure.schema.as_ref(), schema) && *structure.schema != *schema {
                return Err(ConnectError::data("Mismatching schema."));
            }
            out.push(b'{');
            for (index, (field, value)) in schema.fields.iter().zip(&structure.values).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(&field.name, out);
                out.push(b':');
                write_value(Some(&field.schema), value, options, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        (SchemaType::Int8, Value::Int8(_))
        | (SchemaType::Int16, Value::Int16(_))
        | (SchemaType::Int32, Value::Int32(_))
        | (SchemaType::Int64, Value::Int64(_))
        | (SchemaType::Float32, Value::Float32(_))
        | (SchemaType::Float64, Value::Float64(_))
        | (SchemaType::Boolean, Value::Boolean(_))
        | (SchemaType::String, Value::String(_))
        | (SchemaType::Bytes, Value::Bytes(_)) => write_schemaless(value, options, out),
        (SchemaType::Bytes, _) => Err(ConnectError::data(format!(
            "Invalid type for bytes type: class {}",
            value.java_class()
        ))),
        (schema_type, _) => Err(ConnectError::data(format!(
            "Invalid type for {}: class {}",
            schema_type.name(),
            value.java_class()
        ))),
    }
}

/// Writes a value of a logical type; `None` where `name` is none.
fn write_logical(
    name: &str,
    schema: &Schema,
    value: &Value,
    options: WriteOptions,
    out: &mut Vec<u8>,
) -> Option<Result<(), ConnectError>> {
    let wrong = |logical: &str, class: &str| {
        Err(ConnectError::data(format!(
            "Invalid type for {logical}, expected {class} but was class {}",
            value.java_class()
        )))
    };
    Some(match (name, value) {
        (DECIMAL, Value::Decimal { unscaled, scale }) => match options.decimal_format {
            DecimalFormat::Numeric => {
                out.extend_from_slice(decimal_text(unscaled, *scale).as_bytes());
                Ok(())
            }
            DecimalFormat::Base64 => logical::decimal_to_bytes(schema, unscaled, *scale).map(|bytes| {
                write_base64(&bytes, out);
            }),
        },
        (DECIMAL, _) => wrong("Decimal", "BigDecimal"),
        (DATE, Value::Date(millis)) => logical::days_of_date(*millis).map(|days| {
            out.extend_from_slice(itoa::Buffer::new().format(days).as_bytes());
        }),
        (DATE, _) => wrong("Date", "Date"),
        (TIME, Value::Date(millis)) => logical::millis_of_time(*millis).map(|millis| {
            out.extend_from_slice(itoa::Buffer::new().format(millis).as_bytes());
        }),
        (TIME, _) => wrong("Time", "Date"),
        (TIMESTAMP, Value::Date(millis)) => {
            out.extend_from_slice(itoa::Buffer::new().format(*millis).as_bytes());
            Ok(())
        }
        (TIMESTAMP, _) => wrong("Timestamp", "Date"),
        _ => return None,
    })
}

fn write_schemaless(value: &Value, options: WriteOptions, out: &mut Vec<u8>) -> Result<(), ConnectError> {
    let mut integer = itoa::Buffer::new();
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Int8(number) => out.extend_from_slice(integer.format(*number).as_bytes()),
        Value::Int16(number) => out.extend_from_slice(integer.format(*number).as_bytes()),
        Value::Int32(number) => out.extend_from_slice(integer.format(*number).as_bytes()),
        Value::Int64(number) => out.extend_from_slice(integer.format(*number).as_bytes()),
        Value::Float32(number) => write_float(&float_text(*number), number.is_finite(), out),
        Value::Float64(number) => write_float(&double_text(*number), number.is_finite(), out),
        Value::String(text) => write_string(text, out),
        Value::Bytes(bytes) => write_base64(bytes, out),
        Value::Array(elements) => write_array(elements, None, options, out)?,
        Value::Map(entries) => {
            let object = entries.iter().all(|(key, _)| matches!(key, Value::String(_)));
            write_map(entries, object, (None, None), options, out)?;
        }
        // a struct never equals "no schema"
        Value::Struct(_) => return Err(ConnectError::data("Mismatching schema.")),
        Value::Decimal { .. } | Value::Date(_) => {
            return Err(ConnectError::data(format!(
                "Java class class {} does not have corresponding schema type.",
                value.java_class()
            )));
        }
    }
    Ok(())
}

fn write_float(text: &str, finite: bool, out: &mut Vec<u8>) {
    match finite {
        true => out.extend_from_slice(text.as_bytes()),
        false => write_string(text, out),
    }
}

fn write_array(
    elements: &[Value],
    schema: Option<&Schema>,
    options: WriteOptions,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    out.push(b'[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_value(schema, element, options, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_map(
    entries: &[(Value, Value)],
    object: bool,
    (key_schema, value_schema): (Option<&Schema>, Option<&Schema>),
    options: WriteOptions,
    out: &mut Vec<u8>,
) -> Result<(), ConnectError> {
    out.push(if object { b'{' } else { b'[' });
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match (object, key) {
            (true, Value::String(name)) => {
                write_string(name, out);
                out.push(b':');
                write_value(value_schema, value, options, out)?;
            }
            (true, _) => {
                let mut name = Vec::new();
                write_value(key_schema, key, options, &mut name)?;
                match name.first() {
                    Some(b'"') => out.extend_from_slice(&name),
                    _ => write_string(&String::from_utf8_lossy(&name), out),
                }
                out.push(b':');
                write_value(value_schema, value, options, out)?;
            }
            (false, _) => {
                out.push(b'[');
                write_value(key_schema, key, options, out)?;
                out.push(b',');
                write_value(value_schema, value, options, out)?;
                out.push(b']');
            }
        }
    }
    out.push(if object { b'}' } else { b']' });
    Ok(())
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Writes a string literal.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain_from = 0;
    for (at, character) in text.char_indices() {
        let special = match character {
            '"' | '\\' | '\0'..='\x1F' => true,
            _ => character > '\u{FFFF}',
        };
        if !special {
            continue;
        }
        out.extend_from_slice(text.get(plain_from..at).unwrap_or_default().as_bytes());
        plain_from = at + character.len_utf8();
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04X}").as_bytes());
                }
            }
        }
    }
    out.extend_from_slice(text.get(plain_from..).unwrap_or_default().as_bytes());
    out.push(b'"');
}
