//! What stands for a large value that an update did not change and that PostgreSQL does not send (TOAST). Pure.
//!
//! ```text
//!   text, JSON, XML, numeric as text     the text of unavailable.value.placeholder
//!   bytes, decimals                      its bytes
//!   arrays of texts or bytes             one element, as above
//!   arrays of uuids                      one element, the name-based UUID (version 3) of its bytes
//!   arrays of numbers, dates, times      its bytes, one element each
//!   arrays of booleans                   its bits
//! ```
//! Where Debezium has a placeholder (text, bytes, arrays of text, bytea, int, bigint, date, uuid) it is the same. Where it
//! writes null, which a reader takes for the row's value, it goes on by the same rule.

use super::clock::MILLIS_OF_DAY;
use super::types::{ColumnType, variable_scale};
use bytes::Bytes;
use connect_api::Value;
use md5::{Digest, Md5};
use num_bigint::BigInt;
use std::sync::Arc;

/// `unavailable.value.placeholder`.
#[derive(Debug, Clone)]
pub(super) struct Placeholder {
    text: Arc<str>,
    bytes: Bytes,
    uuid: Arc<str>,
}

impl Placeholder {
    /// Reads the option: a text, or `hex:` and the hexadecimal digits of bytes.
    ///
    /// # Errors
    /// What follows `hex:` is not hexadecimal.
    pub(super) fn new(option: &str) -> Result<Self, String> {
        let bytes = match option.strip_prefix("hex:") {
            None => Bytes::copy_from_slice(option.as_bytes()),
            Some(digits) => {
                hexadecimal(digits).ok_or("an even number of hexadecimal digits must follow hex:".to_owned())?
            }
        };
        Ok(Self {
            text: String::from_utf8_lossy(&bytes).into(),
            uuid: name_based_uuid(&bytes).into(),
            bytes,
        })
    }

    /// What is written in a column of this type.
    pub(super) fn of(&self, column: &ColumnType) -> Value {
        match column {
            ColumnType::Text(_) | ColumnType::Enum(_) | ColumnType::DecimalAsText => {
                Value::String(Arc::clone(&self.text))
            }
            ColumnType::Bytes | ColumnType::Opaque => Value::Bytes(self.bytes.clone()),
            ColumnType::Decimal(_, scale) => Value::Decimal {
                unscaled: BigInt::from_signed_bytes_be(&self.bytes),
                scale: *scale,
            },
            ColumnType::VariableScaleDecimal(schema) => variable_scale(schema, 0, self.bytes.to_vec()),
            ColumnType::DecimalAsDouble => Value::Float64(f64::NAN),
            ColumnType::Array(element, _) => Value::Array(self.elements(element)),
            // of fixed length: PostgreSQL always sends them
            other => other.zero(),
        }
    }

    fn elements(&self, element: &ColumnType) -> Vec<Value> {
        let each = |value: &dyn Fn(i8) -> Value| self.bytes.iter().map(|byte| value(byte.cast_signed())).collect();
        match element {
            ColumnType::Boolean => {
                let bits = self
                    .bytes
                    .iter()
                    .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
                bits.map(Value::Boolean).collect()
            }
            ColumnType::Int16 => each(&|byte| Value::Int16(byte.into())),
            ColumnType::Int32 | ColumnType::Date | ColumnType::TimeMillis => each(&|byte| Value::Int32(byte.into())),
            ColumnType::Int64 | ColumnType::TimeMicros | ColumnType::TimestampMillis | ColumnType::TimestampMicros => {
                each(&|byte| Value::Int64(byte.into()))
            }
            ColumnType::Float32 => each(&|byte| Value::Float32(byte.into())),
            ColumnType::Float64 | ColumnType::DecimalAsDouble => each(&|byte| Value::Float64(byte.into())),
            ColumnType::Decimal(_, scale) => {
                let unit = BigInt::from(10).pow(u32::try_from(*scale).unwrap_or_default());
                each(&|byte| Value::Decimal {
                    unscaled: &unit * byte,
                    scale: *scale,
                })
            }
            ColumnType::VariableScaleDecimal(schema) => {
                each(&|byte| variable_scale(schema, 0, BigInt::from(byte).to_signed_bytes_be()))
            }
            ColumnType::ConnectDate => each(&|byte| Value::Date(i64::from(byte) * MILLIS_OF_DAY)),
            ColumnType::ConnectTime | ColumnType::ConnectTimestamp => each(&|byte| Value::Date(byte.into())),
            ColumnType::Text(Some("io.debezium.data.Uuid")) => vec![Value::String(Arc::clone(&self.uuid))],
            ColumnType::ZonedTime | ColumnType::ZonedTimestamp(_) => vec![Value::String(Arc::clone(&self.text))],
            ColumnType::Text(_)
            | ColumnType::Enum(_)
            | ColumnType::DecimalAsText
            | ColumnType::Bytes
            | ColumnType::Opaque
            | ColumnType::Array(..) => vec![self.of(element)],
        }
    }
}

fn hexadecimal(digits: &str) -> Option<Bytes> {
    let digit = |at: u8| char::from(at).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

/// The UUID of version 3 of a name (RFC 9562, section 5.3; `UUID.nameUUIDFromBytes`).
fn name_based_uuid(name: &[u8]) -> String {
    let mut digest: [u8; 16] = Md5::digest(name).into();
    digest[6] = digest[6] & 0x0f | 0x30;
    digest[8] = digest[8] & 0x3f | 0x80;
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut parts = Vec::new();
    let mut rest = text.as_str();
    for length in [8, 4, 4, 4, 12] {
        let (part, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        parts.push(part);
        rest = behind;
    }
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::super::config::{DecimalMode, TimeMode, ValueOptions};
    use super::super::types::CatalogType;
    use super::*;
    use connect_api::validation::validate_value;

    fn column(name: &str, modifier: i32, decimals: DecimalMode, times: TimeMode) -> ColumnType {
        let options = ValueOptions {
            decimals,
            times,
            unknown_types: false,
        };
        let catalog = CatalogType {
            name,
            modifier,
            labels: name.contains("mood").then_some("a,b"),
        };
        ColumnType::new(&catalog, &options, true).unwrap()
    }

    /// What Debezium 3.6.1 writes with its default placeholder.
    #[test]
    fn as_debezium_writes_it() {
        let placeholder = Placeholder::new("__debezium_unavailable_value").unwrap();
        let of = |name| placeholder.of(&column(name, -1, DecimalMode::Precise, TimeMode::Adaptive));
        assert_eq!(of("text"), Value::from("__debezium_unavailable_value"));
        assert_eq!(of("_jsonb"), Value::Array(vec![of("text")]));
        assert_eq!(
            of("bytea"),
            Value::Bytes(Bytes::from_static(b"__debezium_unavailable_value"))
        );
        assert_eq!(
            of("_uuid"),
            Value::Array(vec![Value::from("b68a35a7-17ad-35b3-af2a-ae46edb4545a")])
        );
        let Value::Array(dates) = of("_date") else { panic!() };
        assert_eq!(
            (dates.len(), &dates[..3]),
            (28, &[Value::Int32(95), Value::Int32(95), Value::Int32(100)][..])
        );
        assert_eq!(of("_int4"), Value::Array(dates));
    }

    #[test]
    fn every_type_has_one_that_fits_its_schema_and_is_not_null() {
        let placeholder = Placeholder::new("hex:41ff42").unwrap();
        assert_eq!(&*placeholder.text, "A\u{fffd}B");
        let names = [
            "bool",
            "int2",
            "int4",
            "int8",
            "oid",
            "float4",
            "float8",
            "text",
            "varchar",
            "bpchar",
            "citext",
            "inet",
            "int4range",
            "json",
            "xml",
            "uuid",
            "ltree",
            "bytea",
            "numeric",
            "date",
            "time",
            "timetz",
            "timestamp",
            "timestamptz",
            "mood",
        ];
        for decimals in [DecimalMode::Precise, DecimalMode::Double, DecimalMode::String] {
            for times in [
                TimeMode::Adaptive,
                TimeMode::AdaptiveTimeMicroseconds,
                TimeMode::Connect,
            ] {
                for modifier in [-1, 0, 3, (10 << 16 | 2) + 4, (3 << 16 | 0x7fe) + 4] {
                    for name in names {
                        for name in [name.to_owned(), format!("_{name}")] {
                            let column = column(&name, modifier, decimals, times);
                            let value = placeholder.of(&column);
                            validate_value(None, &column.schema(true), &value).unwrap();
                            let Value::Array(elements) = value else { continue };
                            assert!(!elements.is_empty() && !elements.contains(&Value::Null), "{name}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_hexadecimal_is_refused() {
        for wrong in ["hex:4", "hex:4g", "hex:é1"] {
            assert!(Placeholder::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(&*Placeholder::new("hex").unwrap().text, "hex");
    }
}
