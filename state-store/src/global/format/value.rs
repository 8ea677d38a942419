//! Values of records as rows: JSON objects, without what converters and change capture wrap around them.

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::LazyLock;

use super::{RejectReason, Unreadable, envelope_payload, object_fields};

/// How the values of a topic are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "format")]
pub enum ValueFormat {
    /// By `JsonConverter`, with or without its envelope. The row is the object; of a Debezium change event (an object with
    /// `op`, `source`, and `before` or `after`) it is `after`, and `op: d` deletes the row, as do `null` as payload and a
    /// true `__deleted`, which `ExtractNewRecordState` writes. A change event of no single row is rejected.
    #[default]
    Json,
    /// The bytes as they are.
    Bytes,
}

/// What was taken off a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrapping {
    pub(crate) envelope: bool,
    pub(crate) change_event: bool,
}

/// A value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadValue<'a> {
    /// The row; none: it is deleted.
    pub(crate) row: Option<&'a [u8]>,
    pub(crate) wrapping: Wrapping,
}

fn wrong(detail: impl Into<String>) -> Unreadable {
    Unreadable::new(RejectReason::Value, detail)
}

type Field<'a> = (Cow<'a, str>, &'a RawValue);

impl ValueFormat {
    /// The row of a value. Error: what is wrong with it, without its content.
    ///
    /// A plain row is looked at from outside only: whether its JSON is valid shows when it is decoded.
    pub(crate) fn read(self, value: &[u8]) -> Result<ReadValue<'_>, Unreadable> {
        let plain = ReadValue {
            row: Some(value),
            wrapping: Wrapping::default(),
        };
        if self == ValueFormat::Bytes {
            return Ok(plain);
        }
        check_shape(value)?;
        if !may_be_wrapped(value) {
            return Ok(plain);
        }
        let fields = object_fields(value).ok_or_else(|| wrong("the value is not valid JSON"))?;
        let mut wrapping = Wrapping::default();
        let (fields, row) = match envelope_payload(&fields) {
            None => (fields, value),
            Some(payload) => {
                wrapping.envelope = true;
                if payload.get() == "null" {
                    return Ok(ReadValue { row: None, wrapping });
                }
                let inner = payload.get().as_bytes();
                let fields = object_fields(inner)
                    .ok_or_else(|| wrong("the payload of the value's envelope is no struct, a row is one"))?;
                (fields, inner)
            }
        };
        if !is_change_event(&fields) {
            let row = (!is_marked_deleted(&fields)).then_some(row);
            return Ok(ReadValue { row, wrapping });
        }
        wrapping.change_event = true;
        let row = changed_row(&fields)?;
        Ok(ReadValue { row, wrapping })
    }
}

/// A JSON object, as far as its first and last byte tell.
fn check_shape(value: &[u8]) -> Result<(), Unreadable> {
    let inner = value.trim_ascii();
    match (inner.first(), inner.last()) {
        (Some(b'{'), Some(b'}')) => Ok(()),
        (Some(0), _) => Err(wrong(
            "the value is not JSON; it begins as the values of a schema registry's converters (Avro, Protobuf) do: have the \
             topic written by JsonConverter",
        )),
        (None, _) => Err(wrong(
            "the value is empty; a row is a JSON object, and a deletion has no value",
        )),
        _ if value.starts_with(b"Struct{") => Err(wrong(
            "the value is a struct as StringConverter prints it (Struct{...}): have the topic written by JsonConverter",
        )),
        _ => Err(wrong("the value is no JSON object")),
    }
}

/// Whether a value contains the names of fields that only wrapped rows have. Converters write them without escapes.
fn may_be_wrapped(value: &[u8]) -> bool {
    static NAMES: LazyLock<[Finder<'static>; 3]> =
        LazyLock::new(|| ["\"payload\"", "\"op\"", "\"__deleted\""].map(Finder::new));
    NAMES.iter().any(|name| name.find(value).is_some())
}

fn field<'a>(fields: &[Field<'a>], wanted: &str) -> Option<&'a RawValue> {
    fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value)
}

/// Debezium's envelope: `op` is text, `source` a struct, and the row before or after the change is there, if only as null.
fn is_change_event(fields: &[Field<'_>]) -> bool {
    let begins = |name: &str, first: &str| field(fields, name).is_some_and(|value| value.get().starts_with(first));
    begins("op", "\"")
        && begins("source", "{")
        && (field(fields, "before").is_some() || field(fields, "after").is_some())
}

/// What `ExtractNewRecordState` writes with `delete.tombstone.handling.mode=rewrite`.
fn is_marked_deleted(fields: &[Field<'_>]) -> bool {
    field(fields, "__deleted").is_some_and(|value| matches!(value.get(), "\"true\"" | "true"))
}

/// The row after a change; none: it was deleted.
fn changed_row<'a>(fields: &[Field<'a>]) -> Result<Option<&'a [u8]>, Unreadable> {
    let refused = |detail: String| Unreadable::new(RejectReason::ChangeEvent, detail);
    let operation = field(fields, "op").map_or("", RawValue::get).trim_matches('"');
    match operation {
        "c" | "r" | "u" => match field(fields, "after").filter(|after| after.get().starts_with('{')) {
            Some(after) => Ok(Some(after.get().as_bytes())),
            None => Err(refused(format!("the change event (op {operation}) has no row in its field after"))),
        },
        "d" => Ok(None),
        "t" => Err(refused(
            "the change event (op t) empties the whole table, which is not carried out: delete the rows, or delete the \
             topic and have the connector make it again"
                .to_owned(),
        )),
        "m" => Err(refused("the change event (op m) is a message of the database and no row".to_owned())),
        _ => Err(refused("the change event has an op that is none of c, r, u, d, t, m".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> Result<(Option<String>, Wrapping), String> {
        ValueFormat::Json
            .read(value.as_bytes())
            .map(|read| {
                let row = read.row.map(|row| String::from_utf8(row.to_vec()).unwrap());
                (row, read.wrapping)
            })
            .map_err(|error| format!("{}: {}", error.reason.name(), error.detail))
    }

    const PLAIN: Wrapping = Wrapping {
        envelope: false,
        change_event: false,
    };

    fn envelope(payload: &str) -> String {
        format!(
            r#"{{"schema":{{"type":"struct","fields":[],"optional":false,"name":"shop.public.products.Envelope"}},"payload":{payload}}}"#
        )
    }

    fn change(op: &str, before: &str, after: &str) -> String {
        format!(
            r#"{{"before":{before},"after":{after},"source":{{"version":"3.6.1","connector":"postgresql","table":"products"}},"transaction":null,"op":"{op}","ts_ms":1}}"#
        )
    }

    proptest! {
        /// A row is the same however it is wrapped, and a row that only looks like a wrapping is left alone.
        #[test]
        fn every_wrapping_gives_the_row(
            fields in prop::collection::btree_map("[a-z]{1,8}|op|payload|schema|source|after", "[^\\p{C}]{0,8}", 0..5),
        ) {
            let row = serde_json::to_string(&fields).unwrap();
            prop_assert_eq!(read(&row), Ok((Some(row.clone()), PLAIN)));
            for op in ["c", "r", "u"] {
                let event = change(op, "null", &row);
                let unwrapped = Wrapping { envelope: false, change_event: true };
                prop_assert_eq!(read(&event), Ok((Some(row.clone()), unwrapped)));
                let both = Wrapping { envelope: true, change_event: true };
                prop_assert_eq!(read(&envelope(&event)), Ok((Some(row.clone()), both)));
            }
            let only = Wrapping { envelope: true, change_event: false };
            prop_assert_eq!(read(&envelope(&row)), Ok((Some(row), only)));
        }

        #[test]
        fn any_bytes_give_a_part_of_themselves_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(ReadValue { row: Some(row), .. }) = ValueFormat::Json.read(&bytes) {
                prop_assert_eq!(row.trim_ascii_start().first(), Some(&b'{'));
                prop_assert!(memchr::memmem::find(&bytes, row).is_some());
            }
        }
    }

    #[test]
    fn deletions_in_every_form() {
        for value in [
            change("d", r#"{"id":1}"#, "null"),
            envelope(&change("d", r#"{"id":1}"#, "null")),
            envelope("null"),
            r#"{"id":1,"__deleted":"true"}"#.to_owned(),
            envelope(r#"{"id":1,"__deleted":true}"#),
        ] {
            assert_eq!(read(&value).unwrap().0, None, "{value}");
        }
        let kept = r#"{"id":1,"__deleted":"false"}"#;
        assert_eq!(read(kept), Ok((Some(kept.to_owned()), PLAIN)));
    }

    #[test]
    fn what_is_no_row_says_what_to_do_and_nothing_of_its_content() {
        for (value, expected) in [
            (
                "\0\0\0\0\u{1}secret".to_owned(),
                "value: the value is not JSON; it begins as",
            ),
            (String::new(), "value: the value is empty"),
            ("[\"secret\"]".to_owned(), "value: the value is no JSON object"),
            ("Struct{name=secret}".to_owned(), "StringConverter"),
            ("{\"op\": secret}".to_owned(), "value: the value is not valid JSON"),
            (envelope("\"secret\""), "is no struct"),
            (
                change("t", "null", "null"),
                "change_event: the change event (op t) empties",
            ),
            (change("m", "null", "null"), "message of the database"),
            (change("secret", "null", "null"), "none of c, r, u, d, t, m"),
            (change("u", "null", "null"), "no row in its field after"),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_row_with_fields_named_alike_is_a_row() {
        for row in [
            r#"{"schema":"dbo","payload":5}"#,
            r#"{"schema":{"name":"dbo"},"payload":{"a":1}}"#,
            r#"{"schema":null,"payload":{"a":1},"id":1}"#,
            r#"{"op":"d","id":7}"#,
            r#"{"op":"d","source":"web","after":"x"}"#,
        ] {
            assert_eq!(read(row), Ok((Some(row.to_owned()), PLAIN)), "{row}");
        }
    }
}
