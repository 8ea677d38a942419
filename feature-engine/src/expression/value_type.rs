//! What is known of a value before any event has come.

use std::fmt;

/// Type of an expression's value, when it is not missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueType {
    Bool,
    Integer,
    Number,
    Text,
    Time,
    /// A JSON value: a double, text, a bool, or a list or an object. Never an int.
    Json,
    /// One of several types, as the branches of a conditional gave.
    Any,
    /// The row of a lookup.
    Row,
}

impl ValueType {
    /// Whether a value of this type can be of type `other`.
    pub fn may_be(self, other: ValueType) -> bool {
        match self {
            ValueType::Any => other != ValueType::Row,
            ValueType::Json => matches!(other, ValueType::Bool | ValueType::Number | ValueType::Text),
            known => known == other,
        }
    }

    /// Whether the type is only known when an event has come.
    pub fn is_dynamic(self) -> bool {
        matches!(self, ValueType::Json | ValueType::Any)
    }

    /// The type of a value that is of one type or the other.
    pub fn either(self, other: ValueType) -> ValueType {
        match (self, other) {
            (same, other) if same == other => same,
            (ValueType::Json, json) | (json, ValueType::Json) if ValueType::Json.may_be(json) => ValueType::Json,
            _ => ValueType::Any,
        }
    }
}

/// The type with its article, as messages have it.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueType::Bool => "a bool",
            ValueType::Integer => "an int",
            ValueType::Number => "a double",
            ValueType::Text => "a string",
            ValueType::Time => "a timestamp",
            ValueType::Json => "a JSON value",
            ValueType::Any => "a value",
            ValueType::Row => "a row",
        })
    }
}
