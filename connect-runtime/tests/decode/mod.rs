//! Reads the conformance vectors: what real Java classes gave back (see `tests/vectors/README.md`).

#![allow(dead_code)] // each test uses the part that it needs

use base64::Engine as _;
use bytes::Bytes;
use connect_api::record::{SinkRecord, SourceRecord, TimestampType};
use connect_api::schema::{Field, Schema, SchemaType};
use connect_api::transform::Record;
use connect_api::{ConfigMap, ConnectError, Datum, Header, SchemaAndValue, Struct, Value};
use serde_json::Value as Json;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The cases of a file.
pub fn cases(file: &str) -> Vec<Json> {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
        .join("tests/vectors")
        .join(file);
    let bytes = std::fs::read(&path).unwrap();
    let mut text = String::new();
    if file.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text.lines().filter_map(case).collect()
}

/// One case. JSON text in it may hold an escape of an unpaired surrogate, which UTF-8 text cannot; and `None` for a value
/// nested deeper than the test's JSON reader goes (the parsers' own limits have unit tests).
fn case(line: &str) -> Option<Json> {
    match serde_json::from_str(line) {
        Ok(case) => Some(case),
        Err(error) if error.to_string().contains("recursion limit") => None,
        Err(_) => Some(serde_json::from_str(&line.replace("\\ud8", "\\u00").replace("\\uD8", "\\u00")).unwrap()),
    }
}

pub fn config(json: &Json) -> ConfigMap {
    let entries = json.as_object().unwrap().iter();
    entries
        .map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned)))
        .collect()
}

pub fn schema(json: &Json) -> Option<Arc<Schema>> {
    if json.is_null() {
        return None;
    }
    let schema_type = match json["type"].as_str().unwrap() {
        "INT8" => SchemaType::Int8,
        "INT16" => SchemaType::Int16,
        "INT32" => SchemaType::Int32,
        "INT64" => SchemaType::Int64,
        "FLOAT32" => SchemaType::Float32,
        "FLOAT64" => SchemaType::Float64,
        "BOOLEAN" => SchemaType::Boolean,
        "STRING" => SchemaType::String,
        "BYTES" => SchemaType::Bytes,
        "ARRAY" => SchemaType::Array,
        "MAP" => SchemaType::Map,
        "STRUCT" => SchemaType::Struct,
        other => panic!("schema type {other}"),
    };
    let mut schema_ = Schema::new(schema_type);
    schema_.optional = json["optional"].as_bool().unwrap();
    schema_.name = json["name"].as_str().map(Arc::from);
    schema_.version = json["version"].as_i64().map(|version| version as i32);
    schema_.doc = json["doc"].as_str().map(Arc::from);
    schema_.parameters = json["parameters"].as_object().map(|parameters| {
        parameters
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    });
    for (index, field) in json["fields"].as_array().into_iter().flatten().enumerate() {
        schema_.fields.push(Field {
            name: field["name"].as_str().unwrap().into(),
            index,
            schema: schema(&field["schema"]).unwrap(),
        });
    }
    schema_.key_schema = schema(&json["keySchema"]);
    schema_.value_schema = schema(&json["valueSchema"]);
    if let Some(default) = json.get("default") {
        let without_default = Arc::new(schema_.clone());
        schema_.default = Some(value(default, Some(&without_default)).unwrap());
    }
    Some(Arc::new(schema_))
}

/// The value; `None` where this data model cannot hold it (unpaired surrogates, BigInteger, arbitrary Java objects).
pub fn value(json: &Json, schema_: Option<&Arc<Schema>>) -> Option<Value> {
    let Some(object) = json.as_object() else {
        return Some(Value::Null);
    };
    let (kind, content) = object.iter().next().unwrap();
    let number = || content.as_i64().unwrap();
    Some(match kind.as_str() {
        "int8" => Value::Int8(number() as i8),
        "int16" => Value::Int16(number() as i16),
        "int32" => Value::Int32(number() as i32),
        "int64" => Value::Int64(number()),
        "float32" => Value::Float32(java_float(content.as_str().unwrap()) as f32),
        "float64" => Value::Float64(java_float(content.as_str().unwrap())),
        "boolean" => Value::Boolean(content.as_bool().unwrap()),
        "string" => Value::from(content.as_str().unwrap()),
        "bytes" => Value::Bytes(base64(content.as_str().unwrap())),
        "decimal" => Value::Decimal {
            unscaled: content["unscaled"].as_str().unwrap().parse().unwrap(),
            scale: content["scale"].as_i64().unwrap() as i32,
        },
        "date" => Value::Date(number()),
        "array" => {
            let element = schema_.and_then(|schema| schema.value_schema.as_ref());
            Value::Array(
                content
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| value(one, element))
                    .collect::<Option<_>>()?,
            )
        }
        "map" => {
            let key = schema_.and_then(|schema| schema.key_schema.as_ref());
            let element = schema_.and_then(|schema| schema.value_schema.as_ref());
            let mut entries = Vec::new();
            for entry in content.as_array().unwrap() {
                entries.push((value(&entry[0], key)?, value(&entry[1], element)?));
            }
            Value::Map(entries)
        }
        "struct" => {
            let own = content.get("schema").and_then(schema);
            let of = own.as_ref().or(schema_)?.clone();
            let mut structure = Struct::new(Arc::clone(&of));
            for pair in content["fields"].as_array().unwrap() {
                let name = pair[0].as_str().unwrap();
                let field_schema = of.field(name)?.schema.clone();
                structure.put(name, value(&pair[1], Some(&field_schema))?);
            }
            Value::Struct(structure)
        }
        _ => return None,
    })
}

fn java_float(text: &str) -> f64 {
    match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        number => number.parse().unwrap(),
    }
}

pub fn base64(text: &str) -> Bytes {
    Bytes::from(base64::engine::general_purpose::STANDARD.decode(text).unwrap())
}

/// Whether two values are the same: floats by value and sign, maps without regard to order.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float32(a), Value::Float32(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        (Value::Float64(a), Value::Float64(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(k, v)| b.iter().any(|(k2, v2)| same(k, k2) && same(v, v2)))
        }
        (Value::Struct(a), Value::Struct(b)) => {
            same_schema(Some(&a.schema), Some(&b.schema))
                && a.values.len() == b.values.len()
                && a.values.iter().zip(&b.values).all(|(a, b)| same(a, b))
        }
        _ => a == b,
    }
}

pub fn same_schema(a: Option<&Arc<Schema>>, b: Option<&Arc<Schema>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.schema_type == b.schema_type
                && a.optional == b.optional
                && a.name == b.name
                && a.version == b.version
                && a.doc == b.doc
                && a.parameters.as_ref().filter(|p| !p.is_empty()) == b.parameters.as_ref().filter(|p| !p.is_empty())
                && match (&a.default, &b.default) {
                    (None, None) => true,
                    (Some(a), Some(b)) => same(a, b),
                    _ => false,
                }
                && a.fields.len() == b.fields.len()
                && a.fields.iter().zip(&b.fields).all(|(a, b)| {
                    a.name == b.name && a.index == b.index && same_schema(Some(&a.schema), Some(&b.schema))
                })
                && same_schema(a.key_schema.as_ref(), b.key_schema.as_ref())
                && same_schema(a.value_schema.as_ref(), b.value_schema.as_ref())
        }
        _ => false,
    }
}

pub fn data(schema_json: &Json, value_json: &Json) -> Option<SchemaAndValue> {
    let schema_ = schema(schema_json);
    let value_ = value(value_json, schema_.as_ref())?;
    Some(SchemaAndValue {
        schema: schema_,
        value: value_,
    })
}

/// Compares an outcome with an expected error; says what differs.
pub fn check_error(expected: &Json, error: &ConnectError) -> Result<(), String> {
    let (message, class) = (
        expected["message"].as_str().unwrap_or(""),
        expected["class"].as_str().unwrap(),
    );
    let found = format!("{}: {}", error.java_class(), error.message());
    match expected["match"].as_str().unwrap() {
        "class" => Ok(()),
        "exact" | "names" if without_class_names(message) == without_class_names(error.message()) => Ok(()),
        _ => Err(format!("expected {class}: {message}\n   found {found}")),
    }
}

/// Names of Java classes are compared by their simple names' kind: which list or map class it was is an accident.
fn without_class_names(message: &str) -> String {
    let mut text = message.to_owned();
    for (name, plain) in [
        ("java.util.ImmutableCollections$ListN", "LIST"),
        ("java.util.ImmutableCollections$List12", "LIST"),
        ("java.util.ArrayList", "LIST"),
        ("java.util.LinkedHashMap", "MAP"),
        ("java.util.HashMap", "MAP"),
        ("java.nio.HeapByteBuffer", "[B"),
    ] {
        text = text.replace(name, plain);
    }
    text
}

pub fn record(json: &Json) -> Option<Record> {
    let mut headers = Vec::new();
    for header in json["headers"].as_array().unwrap() {
        headers.push(Header {
            name: header["name"].as_str().unwrap().into(),
            data: data(&header["schema"], &header["value"])?,
        });
    }
    let key = Datum::new(data(&json["keySchema"], &json["key"])?);
    let value = Datum::new(data(&json["valueSchema"], &json["value"])?);
    let topic: Arc<str> = json["topic"].as_str().unwrap_or_default().into();
    Some(match json["kind"].as_str().unwrap() {
        "sink" => {
            let partition = json["partition"].as_i64().unwrap_or(0) as i32;
            let mut record = SinkRecord::new(topic, partition, json["offset"].as_i64().unwrap());
            record.timestamp_ms = json["timestamp"].as_i64();
            record.timestamp_type = match json["timestampType"].as_str().unwrap() {
                "NO_TIMESTAMP_TYPE" => TimestampType::NoTimestamp,
                "CREATE_TIME" => TimestampType::CreateTime,
                _ => TimestampType::LogAppendTime,
            };
            record.set_key(key);
            record.set_value(value);
            record.set_headers(headers);
            Record::Sink(record)
        }
        _ => Record::Source(SourceRecord {
            source_partition: Arc::new(serde_json::Map::new()),
            source_offset: Arc::default(),
            topic,
            partition: json["partition"].as_i64().map(|partition| partition as i32),
            timestamp_ms: json["timestamp"].as_i64(),
            key,
            value,
            headers,
        }),
    })
}

/// Says where two records differ.
pub fn check_record(expected: &Record, found: &Record) -> Result<(), String> {
    struct Common<'a>(&'a str, Option<i32>, Option<i64>, &'a Datum, &'a Datum, &'a [Header]);
    fn common(record: &Record) -> Common<'_> {
        match record {
            Record::Sink(r) => Common(
                r.topic(),
                Some(r.partition),
                r.timestamp_ms,
                r.key(),
                r.value(),
                r.headers(),
            ),
            Record::Source(r) => Common(&r.topic, r.partition, r.timestamp_ms, &r.key, &r.value, &r.headers),
        }
    }
    let (a, b) = (common(expected), common(found));
    let differ = |what: &str, a: String, b: String| Err(format!("{what}: expected {a}\n   found {b}"));
    if a.0 != b.0 {
        return differ("topic", a.0.into(), b.0.into());
    }
    if (a.1, a.2) != (b.1, b.2) {
        return differ(
            "partition, timestamp",
            format!("{:?} {:?}", a.1, a.2),
            format!("{:?} {:?}", b.1, b.2),
        );
    }
    for (what, a, b) in [("key", a.3, b.3), ("value", a.4, b.4)] {
        let (a, b) = (a.get().unwrap(), b.get().map_err(|error| error.to_string())?);
        if !same(&a.value, &b.value) || !same_schema(a.schema.as_ref(), b.schema.as_ref()) {
            return differ(what, format!("{a:?}"), format!("{b:?}"));
        }
    }
    let same_headers = a.5.len() == b.5.len()
        && a.5.iter().zip(b.5).all(|(a, b)| {
            a.name == b.name
                && same(&a.data.value, &b.data.value)
                && same_schema(a.data.schema.as_ref(), b.data.schema.as_ref())
        });
    if !same_headers {
        return differ("headers", format!("{:?}", a.5), format!("{:?}", b.5));
    }
    Ok(())
}

/// Fails with the cases that differ, unless they are listed with a reason; fails, too, for listed ones that agree.
pub fn verdict(file: &str, failures: Vec<(String, String)>, deviations: &[(&str, &str)], ran: usize) {
    let unexpected: Vec<String> = failures
        .iter()
        .filter(|(id, _)| !deviations.iter().any(|(known, _)| known == id))
        .map(|(id, text)| format!("{id}\n   {text}"))
        .collect();
    let healed: Vec<&str> = deviations
        .iter()
        .map(|(id, _)| *id)
        .filter(|id| !failures.iter().any(|(failed, _)| failed == id))
        .collect();
    assert!(ran > 0, "{file}: no case ran");
    assert!(
        unexpected.is_empty() && healed.is_empty(),
        "{file}: {} of {ran} cases differ\n{}\nlisted, but they agree: {healed:?}",
        unexpected.len(),
        unexpected.join("\n")
    );
}
