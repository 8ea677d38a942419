//! How a record of the topic becomes a row: key and value as the usual converters write them. Pure.
//!
//! ```text
//! key   -> key    -> plain text, the form in which lookups write their keys: abc, 42, true
//! value -> value  -> a row (a JSON object, without what converters and change capture wrap around it), or a deletion
//! ```
//! Each record is read by itself, by one rule that knows nothing of the records before: the same bytes are always the same
//! row, however long the topic lives. What the rule cannot read is rejected with a reason and never becomes a row.

mod key;
mod value;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use key::KeyFormat;
pub(crate) use key::ReadKey;
pub(crate) use value::ReadValue;
pub use value::ValueFormat;

/// How the records of a topic are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFormat {
    /// The keys.
    pub key: KeyFormat,
    /// The values.
    pub value: ValueFormat,
}

impl RowFormat {
    /// Keys and values as they lie in the topic, whatever they are.
    pub const AS_IT_IS: RowFormat = RowFormat {
        key: KeyFormat::String,
        value: ValueFormat::Bytes,
    };
}

/// Why a record is no row: which part of the rule it failed, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The record has no key.
    NoKey,
    /// The key is not written as the store's `key` says.
    Key,
    /// The value is not written as the store's `value` says.
    Value,
    /// The value is a change event that changes no single row (`truncate`, `message`).
    ChangeEvent,
    /// A field of `gate.required` is missing.
    Required,
    /// A marker record that is none.
    Marker,
}

impl RejectReason {
    /// As in status and labels.
    pub fn name(self) -> &'static str {
        match self {
            RejectReason::NoKey => "no_key",
            RejectReason::Key => "key",
            RejectReason::Value => "value",
            RejectReason::ChangeEvent => "change_event",
            RejectReason::Required => "required",
            RejectReason::Marker => "marker",
        }
    }
}

/// A record that is no row. `detail` says what is wrong and what to do, and holds nothing of the record's content but names
/// of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) reason: RejectReason,
    pub(crate) detail: String,
}

impl Unreadable {
    pub(crate) fn new(reason: RejectReason, detail: impl Into<String>) -> Unreadable {
        Unreadable {
            reason,
            detail: detail.into(),
        }
    }
}

/// The fields of a JSON object in their order, each as it is written. None: the bytes are no JSON object.
fn object_fields(bytes: &[u8]) -> Option<Vec<(std::borrow::Cow<'_, str>, &RawValue)>> {
    struct Fields;

    impl<'de> serde::de::Visitor<'de> for Fields {
        type Value = Vec<(std::borrow::Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some(Name(name)) = map.next_key()? {
                fields.push((name, map.next_value()?));
            }
            Ok(fields)
        }
    }

    /// A name, borrowed where it has no escapes.
    #[derive(Deserialize)]
    struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

    let mut json = serde_json::Deserializer::from_slice(bytes);
    let fields = serde::de::Deserializer::deserialize_map(&mut json, Fields).ok()?;
    json.end().ok()?;
    Some(fields)
}

/// What the envelope of Connect's `JsonConverter` (`schemas.enable=true`) holds: an object with exactly `schema` and
/// `payload`, whose schema is null or an object with a `type`. None: it is no such envelope.
fn envelope_payload<'a>(fields: &[(std::borrow::Cow<'a, str>, &'a RawValue)]) -> Option<&'a RawValue> {
    if fields.len() != 2 {
        return None;
    }
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let (schema, payload) = (field("schema")?, field("payload")?);
    let is_schema = schema.get() == "null"
        || object_fields(schema.get().as_bytes()).is_some_and(|schema| schema.iter().any(|(name, _)| name == "type"));
    is_schema.then_some(payload)
}
