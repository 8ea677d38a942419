//! The record that ends a version of a catalog; what reads it is `state-store`'s global store.
//!
//! ```text
//!   key      {"millrace.catalog.marker":true}
//!   value    {"version":7,"rows":50000,"partitions":3,"digest":"...","at":1700000000000}
//!   header   millrace.marker, with the same JSON as text, for topics whose values are not JSON
//! ```
//! One goes to every partition of the topic, behind the version's last row.

use bytes::Bytes;
use connect_api::{Header, SchemaAndValue, Value};
use serde::{Deserialize, Serialize};

/// What every encoding of a marker's key contains; a row's key must not.
pub const KEY_TEXT: &str = "millrace.catalog.marker";

/// Name of the marker's header.
pub const HEADER: &str = "millrace.marker";

/// The end of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// which version ends; grows by one
    pub version: u64,
    /// rows of the version in all partitions
    pub rows: u64,
    /// partitions that carry a marker of it
    pub partitions: i32,
    /// SHA-256 of the source's content, in hexadecimal
    #[serde(default)]
    pub digest: String,
    /// when the version was read, in ms since the epoch
    #[serde(default)]
    pub at: i64,
}

impl Marker {
    /// The key of a marker record.
    pub fn key() -> SchemaAndValue {
        SchemaAndValue::schemaless(Value::Map(vec![(Value::from(KEY_TEXT), Value::Boolean(true))]))
    }

    /// Whether the bytes of a key are a marker's, in any encoding.
    pub fn is_key(key: &[u8]) -> bool {
        key.len() <= 1024 && key.windows(KEY_TEXT.len()).any(|window| window == KEY_TEXT.as_bytes())
    }

    /// The value of a marker record.
    pub fn value(&self) -> SchemaAndValue {
        SchemaAndValue::schemaless(Value::Map(vec![
            (
                Value::from("version"),
                Value::Int64(i64::try_from(self.version).unwrap_or(i64::MAX)),
            ),
            (
                Value::from("rows"),
                Value::Int64(i64::try_from(self.rows).unwrap_or(i64::MAX)),
            ),
            (Value::from("partitions"), Value::Int32(self.partitions)),
            (Value::from("digest"), Value::from(self.digest.as_str())),
            (Value::from("at"), Value::Int64(self.at)),
        ]))
    }

    /// The header of a marker record.
    pub fn header(&self) -> Header {
        let json = serde_json::to_string(self).unwrap_or_default();
        Header {
            name: HEADER.into(),
            data: SchemaAndValue::schemaless(Value::from(json)),
        }
    }

    /// Reads the value of a marker record: JSON, with or without a schema envelope.
    pub fn parse(value: &[u8]) -> Option<Marker> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Encoded {
            Plain(Marker),
            Envelope { payload: Marker },
        }
        match serde_json::from_slice(value).ok()? {
            Encoded::Plain(marker) | Encoded::Envelope { payload: marker } => Some(marker),
        }
    }
}

/// The bytes of a key, and of the value that a record has or `None` for a tombstone.
pub type Encoded = (Bytes, Option<Bytes>);
