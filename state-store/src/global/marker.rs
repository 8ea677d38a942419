//! The marker record that ends a version of a catalog, written by the catalog source into its own compacted topic.
//!
//! ```text
//! key      any encoding of the text `millrace.catalog.marker`: the JSON {"millrace.catalog.marker":true}, the same inside a
//!          schema envelope, or the text itself. One marker key per partition, so compaction keeps the last marker only.
//! value    JSON {"version":7,"rows":50000,"partitions":3} (also as `payload` of a schema envelope)
//! header   millrace.marker, with that JSON, for topics whose values are not JSON
//! ```
//! `version` grows with every version. `rows` is how many rows the version has in all partitions, if the source knows.
//! `partitions` is how many partitions carry a marker of this version (1 if absent); the version ends when that many have
//! been read. A source writes the marker to every partition of its topic, after the version's last row.

use serde::{Deserialize, Serialize};

/// The text that every encoding of a marker's key contains. A row's key must not.
pub const KEY_TEXT: &str = "millrace.catalog.marker";

/// A marker's key where keys are JSON.
pub const JSON_KEY: &[u8] = br#"{"millrace.catalog.marker":true}"#;

/// The header that carries the marker's JSON where values are not JSON.
pub const HEADER: &str = "millrace.marker";

/// The end of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Which version ends.
    pub version: u64,
    /// How many rows it has, if the source knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many partitions carry a marker of it.
    #[serde(default = "one")]
    pub partitions: u32,
}

fn one() -> u32 {
    1
}

impl Marker {
    /// Whether a record's key is a marker's, in any encoding.
    pub fn is_key(key: &[u8]) -> bool {
        let text = KEY_TEXT.as_bytes();
        key.len() >= text.len() && key.len() <= 1024 && key.windows(text.len()).any(|window| window == text)
    }

    /// The JSON that is a marker's value, and its header's.
    pub fn to_json(&self) -> Vec<u8> {
        // A struct of three numbers always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a marker record: the header if it has one, the value otherwise. Error: what is wrong with both.
    pub fn parse(value: Option<&[u8]>, header: Option<&[u8]>) -> Result<Marker, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Plain(Marker),
            Envelope { payload: Marker },
        }
        let bytes = header
            .or(value)
            .ok_or("the marker has neither a value nor the header millrace.marker")?;
        match serde_json::from_slice(bytes) {
            Ok(Value::Plain(marker) | Value::Envelope { payload: marker }) => Ok(marker),
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
        fn markers_come_back(version: u64, rows: Option<u64>, partitions: u32) {
            let marker = Marker { version, rows, partitions };
            let json = marker.to_json();
            prop_assert_eq!(Marker::parse(Some(&json), None), Ok(marker));
            prop_assert_eq!(Marker::parse(Some(b"\0avro"), Some(&json)), Ok(marker));
            let envelope = format!(r#"{{"schema":null,"payload":{}}}"#, String::from_utf8(json).unwrap());
            prop_assert_eq!(Marker::parse(Some(envelope.as_bytes()), None), Ok(marker));
        }

        #[test]
        fn any_bytes_give_a_marker_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(marker) = Marker::parse(Some(&bytes), None) {
                prop_assert_eq!(Marker::parse(Some(&marker.to_json()), None), Ok(marker));
            }
        }
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
    }
}
