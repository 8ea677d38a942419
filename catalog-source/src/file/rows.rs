//! Rows of a catalog file.

use super::config::{CatalogConfig, Format};
use connect_api::catalog_marker;
use connect_api::{ConnectError, Value};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::io::{BufRead, Read};

/// One row: its key and its object.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) value: Value,
}

/// A file's rows and the SHA-256 of its content, in hexadecimal.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) rows: Vec<Row>,
    pub(super) digest: String,
}

/// Reads the rows of the file's content.
pub(super) fn read(config: &CatalogConfig, content: &[u8]) -> Result<Catalog, ConnectError> {
    let digest = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let rows = match config.compressed {
        true => parse(config, MultiGzDecoder::new(content)),
        false => parse(config, content),
    };
    let path = config.file.display();
    Ok(Catalog {
        rows: rows.map_err(|reason| ConnectError::data(format!("catalog file {path}: {reason}")))?,
        digest,
    })
}

fn parse(config: &CatalogConfig, content: impl Read) -> Result<Vec<Row>, String> {
    let rows = match config.format {
        Format::Csv => csv_rows(config, content)?,
        Format::JsonLines => json_rows(config, content)?,
    };
    let mut seen = std::collections::HashSet::with_capacity(rows.len());
    for row in &rows {
        if !seen.insert(row.key.as_str()) {
            return Err(format!(
                "two rows have {} = {:?}; each key must be there once",
                config.key_field, row.key
            ));
        }
        if row.key.contains(catalog_marker::KEY_TEXT) {
            return Err(format!("the key {:?} is reserved for markers", row.key));
        }
    }
    Ok(rows)
}

fn csv_rows(config: &CatalogConfig, content: impl Read) -> Result<Vec<Row>, String> {
    let mut reader = csv::Reader::from_reader(content);
    let names: Vec<String> = reader
        .headers()
        .map_err(|error| error.to_string())?
        .iter()
        .map(str::to_owned)
        .collect();
    let column = |option: &str, name: &String| {
        let found = names.iter().position(|column| column == name);
        found.ok_or_else(|| {
            format!(
                "option {option}: there is no column {name}; the columns are {}",
                names.join(", ")
            )
        })
    };
    let key_at = column("key.field", &config.key_field)?;
    for name in &config.numeric_fields {
        column("fields.numeric", name)?;
    }
    let columns: Vec<(Value, bool)> = names
        .iter()
        .map(|name| (Value::from(name.as_str()), config.numeric_fields.contains(name)))
        .collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let mut entries = Vec::with_capacity(columns.len());
        for ((name, numeric), text) in columns.iter().zip(record.iter()) {
            let value = if *numeric {
                number(text).ok_or_else(|| format!("row {}: column {name} is {text:?}, not a number", rows.len()))?
            } else {
                Value::from(text)
            };
            entries.push((name.clone(), value));
        }
        let key = record.get(key_at).unwrap_or_default();
        if key.is_empty() {
            return Err(format!("row {}: {} is empty", rows.len(), config.key_field));
        }
        rows.push(Row {
            key: key.to_owned(),
            value: Value::Map(entries),
        });
    }
    Ok(rows)
}

fn number(text: &str) -> Option<Value> {
    match text.trim() {
        "" => Some(Value::Null),
        text => text.parse().map(Value::Int64).ok().or_else(|| {
            text.parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Value::Float64)
        }),
    }
}

fn json_rows(config: &CatalogConfig, content: impl Read) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (index, line) in std::io::BufReader::new(content).lines().enumerate() {
        let line = line.map_err(|error| error.to_string())?;
        if line.trim().is_empty() {
            continue;
        }
        let number = index + 1;
        let parsed: serde_json::Value =
            serde_json::from_str(&line).map_err(|error| format!("line {number} is not JSON: {error}"))?;
        let serde_json::Value::Object(members) = &parsed else {
            return Err(format!("line {number} is not a JSON object"));
        };
        let key = match members.get(&config.key_field) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => text.clone(),
            Some(serde_json::Value::Number(number)) => number.to_string(),
            Some(serde_json::Value::Bool(value)) => value.to_string(),
            _ => {
                return Err(format!(
                    "line {number}: {} must be text, a number or a boolean",
                    config.key_field
                ));
            }
        };
        rows.push(Row {
            key,
            value: value(&parsed),
        });
    }
    Ok(rows)
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int64(whole),
            None => Value::Float64(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(elements) => Value::Array(elements.iter().map(value).collect()),
        serde_json::Value::Object(members) => Value::Map(
            members
                .iter()
                .map(|(name, member)| (Value::from(name.as_str()), value(member)))
                .collect(),
        ),
    }
}
