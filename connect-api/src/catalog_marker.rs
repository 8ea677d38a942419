//! The marker record that ends a version of a catalog: a catalog source writes it into its own compacted topic, and whoever
//! fills a store from the topic reads it.
//!
//! ```text
//! key      any encoding of the text `millrace.catalog.marker`: the JSON {"millrace.catalog.marker":true}, the same inside a
//!          schema envelope, or the text itself. One marker key per partition, so compaction keeps the last marker only.
//! value    {"version":7,"rows":50000,"partitions":3,"digest":"...","at":1700000000000}, also as `payload` of an envelope
//! header   millrace.marker, with the same JSON as text, for topics whose values are not JSON
//! ```
//! A source writes the marker to every partition of its topic, after the version's last row. Only `version` must be there.

use crate::data::value::{SchemaAndValue, Value};
use crate::record::Header;
use serde::{Deserialize, Serialize};

/// The text that every encoding of a marker's key contains. A row's key must not.
pub const KEY_TEXT: &str = "millrace.catalog.marker";

/// A marker's key where keys are JSON.
pub const JSON_KEY: &[u8] = br#"{"millrace.catalog.marker":true}"#;

/// The header that carries the marker's JSON where values are not JSON.
pub const HEADER: &str = "millrace.marker";

/// The end of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Which version ends. Grows with every version.
    pub version: u64,
    /// How many rows it has in all partitions, if the source knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many partitions carry a marker of it: the version ends when that many have been read.
    #[serde(default = "one")]
    pub partitions: u32,
    /// SHA-256 of the source's content, in hexadecimal; empty where the source has no such thing.
    #[serde(default)]
    pub digest: String,
    /// When the version was read, in milliseconds since the epoch.
    #[serde(default)]
    pub at: i64,
}

fn one() -> u32 {
    1
}

impl Marker {
    /// The end of a version of which no more is known.
    pub fn new(version: u64, partitions: u32) -> Marker {
        Marker {
            version,
            rows: None,
            partitions,
            digest: String::new(),
            at: 0,
        }
    }

    /// The key of a marker record.
    pub fn key() -> SchemaAndValue {
        SchemaAndValue::schemaless(Value::Map(vec![(Value::from(KEY_TEXT), Value::Boolean(true))]))
    }

    /// Whether a record's key is a marker's, in any encoding.
    pub fn is_key(key: &[u8]) -> bool {
        let text = KEY_TEXT.as_bytes();
        (text.len()..=1024).contains(&key.len()) && key.windows(text.len()).any(|window| window == text)
    }

    /// The value of a marker record.
    pub fn value(&self) -> SchemaAndValue {
        let number = |number: u64| Value::Int64(i64::try_from(number).unwrap_or(i64::MAX));
        let mut members = vec![(Value::from("version"), number(self.version))];
        members.extend(self.rows.map(|rows| (Value::from("rows"), number(rows))));
        members.extend([
            (
                Value::from("partitions"),
                Value::Int32(i32::try_from(self.partitions).unwrap_or(i32::MAX)),
            ),
            (Value::from("digest"), Value::from(self.digest.as_str())),
            (Value::from("at"), Value::Int64(self.at)),
        ]);
        SchemaAndValue::schemaless(Value::Map(members))
    }

    /// The JSON that is a marker's value, and its header's.
    pub fn to_json(&self) -> String {
        // Numbers and a text always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The header of a marker record.
    pub fn header(&self) -> Header {
        Header {
            name: HEADER.into(),
            data: SchemaAndValue::schemaless(Value::from(self.to_json())),
        }
    }

    /// Reads a marker record: the header if it has one, the value otherwise.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(value: Option<&[u8]>, header: Option<&[u8]>) -> Result<Marker, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Encoded {
            Plain(Marker),
            Envelope { payload: Marker },
        }
        let bytes = header
            .or(value)
            .ok_or("the marker has neither a value nor the header millrace.marker")?;
        match serde_json::from_slice(bytes) {
            Ok(Encoded::Plain(marker) | Encoded::Envelope { payload: marker }) => Ok(marker),
            Err(error) => Err(format!("the marker is not JSON with a version: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn markers_come_back(version: u64, rows: Option<u64>, partitions: u32, digest in "[0-9a-f]{0,64}", at: i64) {
            let marker = Marker { version, rows, partitions, digest, at };
            let json = marker.to_json();
            let read = |value: &[u8], header: Option<&[u8]>| Marker::parse(Some(value), header).ok();
            prop_assert_eq!(read(json.as_bytes(), None), Some(marker.clone()));
            prop_assert_eq!(read(b"\0avro", Some(json.as_bytes())), Some(marker.clone()));
            let envelope = format!(r#"{{"schema":null,"payload":{json}}}"#);
            prop_assert_eq!(read(envelope.as_bytes(), None), Some(marker));
        }

        #[test]
        fn any_bytes_give_a_marker_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(marker) = Marker::parse(Some(&bytes), None) {
                prop_assert_eq!(Marker::parse(Some(marker.to_json().as_bytes()), None), Ok(marker));
            }
        }
    }

    #[test]
    fn what_a_source_does_not_say_has_a_meaning() {
        let marker = Marker::parse(Some(br#"{"version":7}"#), None).unwrap();
        assert_eq!((marker.rows, marker.partitions), (None, 1));
    }

    #[test]
    fn keys_are_known_in_every_encoding() {
        assert!(Marker::is_key(JSON_KEY));
        assert!(Marker::is_key(KEY_TEXT.as_bytes()));
        assert!(Marker::is_key(
            br#"{"schema":{},"payload":{"millrace.catalog.marker":true}}"#
        ));
        assert!(!Marker::is_key(b"millrace.catalog.market"));
        assert!(!Marker::is_key(b""));
        assert!(!Marker::is_key(&[JSON_KEY, &[b' '; 1024]].concat()));
    }
}
