//! A row of a global store: a JSON object decoded once, when the store loads it, and read by every event after.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::number::Number;

/// A decoded row. Fields of nested objects have dotted names; null fields and arrays are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CatalogRow {
    fields: Box<[(Arc<str>, RowValue)]>,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum RowValue {
    /// True or false.
    Bool(bool),
    /// A JSON number, as a double.
    Number(f64),
    /// A JSON number that is an integer beyond 2^53 on either side, which a double would round.
    Signed(i64),
    /// A JSON number that is an integer beyond 2^63.
    Unsigned(u64),
    /// Text.
    Text(Box<str>),
}

/// Which fields of a store's rows are kept. Names are shared by all the rows that one set decoded.
#[derive(Debug, Default)]
pub struct FieldSet {
    wanted: Option<HashSet<String>>,
    names: Mutex<HashSet<Arc<str>>>,
}

impl FieldSet {
    /// Every field.
    pub fn all() -> FieldSet {
        FieldSet::default()
    }

    /// Only these fields.
    pub fn named(names: impl IntoIterator<Item = impl Into<String>>) -> FieldSet {
        FieldSet {
            wanted: Some(names.into_iter().map(Into::into).collect()),
            names: Mutex::default(),
        }
    }

    fn shared(&self, name: &str) -> Arc<str> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = names.get(name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = name.into();
        names.insert(Arc::clone(&shared));
        shared
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(name))
    }
}

impl CatalogRow {
    /// Decodes a JSON object.
    ///
    /// # Errors
    /// A sentence, when the bytes are not a JSON object.
    pub fn decode(bytes: &[u8], fields: &FieldSet) -> Result<CatalogRow, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("not valid JSON: {error}"))?;
        let Value::Object(object) = value else {
            return Err("expected a JSON object".to_owned());
        };
        let mut row = Vec::with_capacity(object.len());
        flatten("", object, fields, &mut row);
        Ok(CatalogRow { fields: row.into() })
    }

    /// A row of given fields.
    pub fn from_fields<'n>(fields: impl IntoIterator<Item = (&'n str, RowValue)>) -> CatalogRow {
        CatalogRow {
            fields: fields
                .into_iter()
                .map(|(name, value)| (Arc::from(name), value))
                .collect(),
        }
    }

    /// The field of this name.
    pub fn get(&self, name: &str) -> Option<&RowValue> {
        self.fields
            .iter()
            .find(|(field, _)| **field == *name)
            .map(|(_, value)| value)
    }

    /// The fields in the order of the document.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &RowValue)> {
        self.fields.iter().map(|(name, value)| (&**name, value))
    }

    /// Approximate heap size in bytes, names not counted: they are shared.
    pub fn heap_bytes(&self) -> usize {
        let texts = self.fields.iter().map(|(_, value)| {
            if let RowValue::Text(text) = value {
                text.len()
            } else {
                0
            }
        });
        std::mem::size_of_val(&*self.fields) + texts.sum::<usize>()
    }

    /// Where the field of this name is. Rows of one store mostly have the same fields in the same order, so the place
    /// where it was in the last row is tried first.
    pub(crate) fn position(&self, name: &str, last: usize) -> Option<usize> {
        if self.fields.get(last).is_some_and(|(field, _)| **field == *name) {
            return Some(last);
        }
        self.fields.iter().position(|(field, _)| **field == *name)
    }

    pub(crate) fn value_at(&self, position: usize) -> Option<&RowValue> {
        self.fields.get(position).map(|(_, value)| value)
    }
}

fn flatten(
    prefix: &str,
    object: serde_json::Map<String, Value>,
    fields: &FieldSet,
    row: &mut Vec<(Arc<str>, RowValue)>,
) {
    for (name, value) in object {
        let name = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        let value = match value {
            Value::Null | Value::Array(_) => continue,
            Value::Object(nested) => {
                flatten(&name, nested, fields, row);
                continue;
            }
            Value::Bool(value) => RowValue::Bool(value),
            Value::Number(number) => match number_of(&number) {
                Some(number) => number,
                None => continue,
            },
            Value::String(text) => RowValue::Text(text.into()),
        };
        if fields.wants(&name) {
            row.push((fields.shared(&name), value));
        }
    }
}

fn number_of(number: &serde_json::Number) -> Option<RowValue> {
    Some(match Number::of_json(number)? {
        Number::Double(value) => RowValue::Number(value),
        Number::Signed(value) => RowValue::Signed(value),
        Number::Unsigned(value) => RowValue::Unsigned(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_64_bits_keep_their_digits() {
        let json =
            br#"{"a": 9007199254740992, "b": 9007199254740993, "c": -9223372036854775808, "d": 18446744073709551615}"#;
        let row = CatalogRow::decode(json, &FieldSet::all()).unwrap();
        assert_eq!(row.get("a"), Some(&RowValue::Number(9_007_199_254_740_992.0)));
        assert_eq!(row.get("b"), Some(&RowValue::Signed(9_007_199_254_740_993)));
        assert_eq!(row.get("c"), Some(&RowValue::Signed(i64::MIN)));
        assert_eq!(row.get("d"), Some(&RowValue::Unsigned(u64::MAX)));
    }

    #[test]
    fn decodes_scalars_and_flattens_objects() {
        let json = br#"{"id": 7, "brand": "Private", "gone": null, "tags": [1], "size": {"unit": "OZ", "n": 1.5}, "on": true}"#;
        let row = CatalogRow::decode(json, &FieldSet::all()).unwrap();
        assert_eq!(row.get("id"), Some(&RowValue::Number(7.0)));
        assert_eq!(row.get("size.unit"), Some(&RowValue::Text("OZ".into())));
        assert_eq!(
            row.fields().map(|(name, _)| name).collect::<Vec<_>>(),
            ["id", "brand", "size.unit", "size.n", "on"]
        );
        assert_eq!(row.position("on", 0), Some(4));
        assert_eq!(row.position("on", 4), Some(4));
        assert_eq!(row.position("gone", 4), None);
        let row = CatalogRow::decode(json, &FieldSet::named(["brand"])).unwrap();
        assert_eq!(row.fields().count(), 1);
    }

    #[test]
    fn refuses_what_is_not_an_object() {
        assert_eq!(
            CatalogRow::decode(b"[1]", &FieldSet::all()),
            Err("expected a JSON object".to_owned())
        );
        assert!(
            CatalogRow::decode(b"{", &FieldSet::all())
                .unwrap_err()
                .starts_with("not valid JSON")
        );
    }
}
