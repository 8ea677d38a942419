//! Aggregates that share a key, and the form of that key.
//!
//! A key is the group's identity (8 bytes, big-endian) followed by its parts in order, each a tag and its content, so
//! that no two lists of values have one encoding:
//!
//! | tag | content |
//! |-----|---------|
//! | 1   | bool: 1 byte, 0 or 1 |
//! | 2   | number: 8 bytes, the double big-endian; integers within 2^53 too, -0 as 0 |
//! | 3   | text: length in bytes, 4 bytes big-endian, then UTF-8 |
//! | 4   | integer beyond 2^53: 8 bytes big-endian |
//! | 5   | time: epoch milliseconds, 8 bytes big-endian |
//! | 6   | integer beyond 2^63: 8 bytes big-endian |
//!
//! Equal numbers have equal bytes, be they ints or doubles.

use crate::aggregate::{CellPlan, CellRead};
use crate::number::{Number, whole_double};
use crate::resource::Ttl;
use crate::slot::{Register, Scalar};

/// Aggregates over the same key in the same store: one [`crate::AggregateRow`] per key holds them all, so one event
/// costs one look into state per group.
#[derive(Clone, Debug)]
pub struct AggregateGroup {
    /// The keyed store, by default the one with the view's name.
    pub store: String,
    /// The expressions of the key.
    pub by: Vec<String>,
    /// Time to live of its rows: the aggregates' own, else the store's.
    pub ttl: Option<Ttl>,
    /// Names of the features in it.
    pub features: Vec<String>,
    /// First 8 bytes of its keys: a stable hash of the view, the store, the key's expressions and the aggregates'
    /// own time to live.
    pub identity: u64,
    pub(crate) key: Vec<Register>,
    pub(crate) cells: Vec<CellPlan>,
    /// Per cell, what it takes; `None` counts every event.
    pub(crate) of: Vec<Option<Register>>,
    /// Whether a cell counts what is there, whatever its type.
    pub(crate) counts: Vec<bool>,
    pub(crate) outputs: Vec<Output>,
}

/// A feature of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub register: Register,
    pub cell: usize,
    pub read: CellRead,
    pub including_this: bool,
}

/// Appends one part of a key; gives false when the value is missing.
pub(crate) fn encode_key_part(value: Scalar<'_>, out: &mut Vec<u8>) -> bool {
    match value {
        Scalar::Missing => return false,
        Scalar::Bool(value) => out.extend_from_slice(&[1, u8::from(value)]),
        Scalar::Number(value) if value.is_nan() => return false,
        Scalar::Number(value) => match whole_double(value) {
            Some(whole) => encode_number(Number::of_integer(whole), out),
            None => encode_number(Number::Double(value), out),
        },
        Scalar::Integer(value) => encode_number(Number::of_integer(value.into()), out),
        Scalar::Unsigned(value) => encode_number(Number::of_integer(value.into()), out),
        Scalar::Text(text) => {
            out.push(3);
            // Texts come out of events, which are below 4 GiB.
            out.extend_from_slice(&(text.len() as u32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        Scalar::Timestamp(value) => {
            out.push(5);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
    true
}

fn encode_number(number: Number, out: &mut Vec<u8>) {
    match number {
        Number::Double(value) => {
            out.push(2);
            // Adding 0 makes -0 a 0.
            out.extend_from_slice(&(value + 0.0).to_be_bytes());
        }
        Number::Signed(value) => {
            out.push(4);
            out.extend_from_slice(&value.to_be_bytes());
        }
        Number::Unsigned(value) => {
            out.push(6);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Part {
        Bool(bool),
        Integer(i64),
        Unsigned(u64),
        Number(f64),
        Text(String),
    }

    impl Part {
        fn scalar(&self) -> Scalar<'_> {
            match self {
                Part::Bool(value) => Scalar::Bool(*value),
                Part::Integer(value) => Scalar::Integer(*value),
                Part::Unsigned(value) => Scalar::Unsigned(*value),
                Part::Number(value) => Scalar::Number(*value),
                Part::Text(text) => Scalar::Text(text),
            }
        }
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            any::<bool>().prop_map(Part::Bool),
            any::<i64>().prop_map(Part::Integer),
            (1 << 63..=u64::MAX).prop_map(Part::Unsigned),
            (-2..2i64).prop_map(Part::Integer),
            (-2..2i32).prop_map(|n| Part::Number(f64::from(n) + 0.5)),
            "[ab\u{0}\u{1}]{0,3}".prop_map(Part::Text),
        ]
    }

    fn encoded(parts: &[Part]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            assert!(encode_key_part(part.scalar(), &mut out));
        }
        out
    }

    proptest! {
        #[test]
        fn different_keys_have_different_bytes(
            a in prop::collection::vec(part(), 0..4), b in prop::collection::vec(part(), 0..4)
        ) {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
        }
    }

    #[test]
    fn equal_numbers_have_equal_bytes_and_missing_has_none() {
        assert_eq!(encoded(&[Part::Integer(7)]), encoded(&[Part::Number(7.0)]));
        assert_eq!(encoded(&[Part::Number(-0.0)]), encoded(&[Part::Number(0.0)]));
        assert_eq!(
            encoded(&[Part::Integer(1 << 60)]),
            encoded(&[Part::Number((1u64 << 60) as f64)])
        );
        assert_eq!(
            encoded(&[Part::Unsigned(1 << 63)]),
            encoded(&[Part::Number((1u64 << 63) as f64)])
        );
        let mut out = Vec::new();
        assert!(!encode_key_part(Scalar::Missing, &mut out));
        assert!(!encode_key_part(Scalar::Number(f64::NAN), &mut out));
        assert!(out.is_empty());
    }
}
