//! Values while an event is computed: small, copied freely, without lifetimes, so that registers are reused from event to
//! event. Text is a reference into one of four places and is resolved when it is read.

use std::sync::Arc;

use crate::catalog_row::{CatalogRow, RowValue};
use crate::number::{Number, whole_double};

/// Index of a register.
pub(crate) type Register = u32;

/// What a register holds. JSON null is [`Slot::Missing`]: in a feature something null is something missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Slot {
    /// Nothing: an absent field, null, or the result of what cannot be computed.
    #[default]
    Missing,
    Bool(bool),
    /// A CEL int.
    Integer(i64),
    /// A number that a double is, see [`Number`].
    Number(f64),
    /// A number: an integer beyond 2^53 on either side.
    Signed(i64),
    /// A number: an integer beyond 2^63.
    Unsigned(u64),
    /// Epoch milliseconds.
    Time(i64),
    Text(TextRef),
    /// A JSON array with so many elements; only its size is known.
    List(u32),
    /// A JSON object, or the row of a lookup.
    Object,
}

impl Slot {
    /// The number that it is; an int of CEL is none.
    #[inline]
    pub fn number(self) -> Option<Number> {
        match self {
            Slot::Number(value) => Some(Number::Double(value)),
            Slot::Signed(value) => Some(Number::Signed(value)),
            Slot::Unsigned(value) => Some(Number::Unsigned(value)),
            _ => None,
        }
    }
}

impl From<Number> for Slot {
    #[inline]
    fn from(number: Number) -> Slot {
        match number {
            Number::Double(value) => Slot::Number(value),
            Number::Signed(value) => Slot::Signed(value),
            Number::Unsigned(value) => Slot::Unsigned(value),
        }
    }
}

/// Where a text is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TextRef {
    /// Bytes of the event's value.
    Event { start: u32, end: u32 },
    /// The evaluator's arena: unescaped, converted and joined texts of this event.
    Arena { start: u32, end: u32 },
    /// The plan's constants.
    Constant { start: u32, end: u32 },
    /// A field of a looked-up row.
    Row { row: u32, field: u32 },
}

/// The places that texts are in.
#[derive(Clone, Copy)]
pub(crate) struct Texts<'a> {
    pub event: &'a str,
    pub arena: &'a str,
    pub constants: &'a str,
    pub rows: &'a [Option<Arc<CatalogRow>>],
}

impl<'a> Texts<'a> {
    pub fn get(self, text: TextRef) -> &'a str {
        let (place, start, end) = match text {
            TextRef::Event { start, end } => (self.event, start, end),
            TextRef::Arena { start, end } => (self.arena, start, end),
            TextRef::Constant { start, end } => (self.constants, start, end),
            TextRef::Row { row, field } => {
                let row = self.rows.get(row as usize).and_then(Option::as_deref);
                return match row.and_then(|row| row.value_at(field as usize)) {
                    Some(RowValue::Text(text)) => text,
                    _ => "",
                };
            }
        };
        place.get(start as usize..end as usize).unwrap_or("")
    }

    pub fn scalar(self, slot: Slot) -> Scalar<'a> {
        match slot {
            Slot::Missing | Slot::List(_) | Slot::Object => Scalar::Missing,
            Slot::Bool(value) => Scalar::Bool(value),
            Slot::Integer(value) | Slot::Signed(value) => Scalar::Integer(value),
            Slot::Number(value) => Scalar::Number(value),
            Slot::Unsigned(value) => Scalar::Unsigned(value),
            Slot::Time(value) => Scalar::Timestamp(value),
            Slot::Text(text) => Scalar::Text(self.get(text)),
        }
    }
}

/// The value of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// Something that the expression needs is missing or null, or it cannot be computed.
    Missing,
    /// True or false.
    Bool(bool),
    /// A CEL int, or a JSON number that is an integer beyond 2^53 on either side.
    Integer(i64),
    /// Any other JSON number, or a CEL double.
    Number(f64),
    /// A JSON number that is an integer beyond 2^63.
    Unsigned(u64),
    /// Text.
    Text(&'a str),
    /// Epoch milliseconds.
    Timestamp(i64),
}

impl Scalar<'_> {
    /// Whether it is `true`; what a filter asks.
    pub fn is_true(&self) -> bool {
        matches!(self, Scalar::Bool(true))
    }

    /// Appends the value as plain text, the form that keys of records and of global stores have: text as it is, integers
    /// of up to 64 bits with all their digits and without a fraction, other numbers in their shortest form, timestamps as
    /// epoch milliseconds. Gives false, and appends nothing, when it is missing.
    pub fn write_plain(&self, out: &mut Vec<u8>) -> bool {
        match *self {
            Scalar::Missing => return false,
            Scalar::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Scalar::Integer(value) | Scalar::Timestamp(value) => {
                out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            }
            Scalar::Unsigned(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
            Scalar::Number(value) => match whole_double(value) {
                Some(whole) => out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes()),
                None => out.extend_from_slice(ryu::Buffer::new().format(value).as_bytes()),
            },
            Scalar::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
        true
    }
}
