//! PostgreSQL's types as Debezium represents them (Debezium documentation, "PostgreSQL connector: Data type mappings"). Pure.
//!
//! ```text
//!   pg_type name, modifier --ColumnType::new--> ColumnType --schema--> shared schema
//!                                                    '-----read(text)--> value
//! ```
//! Both COPY and pgoutput send the text that a type's output function writes, so one reader serves both.

use super::array::{self, Elements};
use super::clock;
use super::config::{DecimalMode, TimeMode, ValueOptions};
use bytes::Bytes;
use connect_api::schema::{DATE, DECIMAL, TIME, TIMESTAMP};
use connect_api::{Schema, SchemaType, Struct, Value};
use indexmap::IndexMap;
use num_bigint::BigInt;
use std::sync::Arc;

/// How a column's text is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ColumnType {
    Boolean,
    Int16,
    Int32,
    /// int8 and oid
    Int64,
    Float32,
    Float64,
    /// text as it is, under the name of a logical type where there is one
    Text(Option<&'static str>),
    /// one of these, separated by commas
    Enum(Arc<str>),
    Bytes,
    /// digits in all, digits behind the point
    Decimal(i32, i32),
    /// digits behind the point differ from value to value; the schema of its structs
    VariableScaleDecimal(Arc<Schema>),
    DecimalAsDouble,
    DecimalAsText,
    /// days
    Date,
    /// milliseconds of the day
    TimeMillis,
    /// microseconds of the day
    TimeMicros,
    /// text in UTC
    ZonedTime,
    TimestampMillis,
    TimestampMicros,
    /// text in UTC with so many digits behind the point
    ZonedTimestamp(usize),
    ConnectDate,
    ConnectTime,
    ConnectTimestamp,
    Array(Box<ColumnType>, Arc<Schema>),
    /// a type that is not known, as bytes of its text
    Opaque,
}

/// What the catalog says of a column's type.
#[derive(Debug, Clone, Default)]
pub(super) struct CatalogType<'a> {
    /// `pg_type.typname`; of a domain, its base type's
    pub(super) name: &'a str,
    /// type modifier, -1 for none
    pub(super) modifier: i32,
    /// labels of an enum (of an array: of its elements), separated by commas
    pub(super) labels: Option<&'a str>,
}

/// A type that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotRead {
    /// Debezium has a representation, this connector does not
    Unsupported,
    /// nobody knows it
    Unknown,
}

/// A value that its representation cannot hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NotRepresentable {
    /// what is written for it, as Debezium does where it goes on
    pub(super) instead: Value,
    /// what kind of value it is; never the value itself
    pub(super) kind: &'static str,
}

fn no_value(kind: &'static str) -> NotRepresentable {
    NotRepresentable {
        instead: Value::Null,
        kind,
    }
}

/// Types that Debezium represents in ways that are not supported here.
const UNSUPPORTED: &[&str] = &[
    "bit",
    "varbit",
    "interval",
    "money",
    "point",
    "hstore",
    "geometry",
    "geography",
    "tsvector",
    "vector",
    "halfvec",
    "sparsevec",
    "isbn",
];

impl ColumnType {
    /// The representation of a type, in a column that is `optional` or not.
    pub(super) fn new(catalog: &CatalogType<'_>, options: &ValueOptions, optional: bool) -> Result<Self, NotRead> {
        if let Some(element) = catalog.name.strip_prefix('_') {
            let element = CatalogType {
                name: element,
                ..catalog.clone()
            };
            let element = Self::new(&element, options, true)?;
            return match element {
                ColumnType::Opaque => Err(NotRead::Unknown),
                ColumnType::Array(..) => Err(NotRead::Unsupported),
                element => {
                    let schema = Arc::new(element.schema(true));
                    Ok(ColumnType::Array(Box::new(element), schema))
                }
            };
        }
        if UNSUPPORTED.contains(&catalog.name) {
            return Err(NotRead::Unsupported);
        }
        let connect = options.times == TimeMode::Connect;
        let digits = if (0..=6).contains(&catalog.modifier) {
            catalog.modifier
        } else {
            6
        };
        Ok(match catalog.name {
            "bool" => ColumnType::Boolean,
            "int2" => ColumnType::Int16,
            "int4" => ColumnType::Int32,
            "int8" | "oid" => ColumnType::Int64,
            "float4" => ColumnType::Float32,
            "float8" => ColumnType::Float64,
            "text" | "varchar" | "bpchar" | "name" | "char" | "citext" | "inet" | "cidr" | "macaddr" | "macaddr8"
            | "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" => ColumnType::Text(None),
            "json" | "jsonb" => ColumnType::Text(Some("io.debezium.data.Json")),
            "xml" => ColumnType::Text(Some("io.debezium.data.Xml")),
            "uuid" => ColumnType::Text(Some("io.debezium.data.Uuid")),
            "ltree" => ColumnType::Text(Some("io.debezium.data.Ltree")),
            "bytea" => ColumnType::Bytes,
            "numeric" => Self::numeric(catalog.modifier, options.decimals, optional),
            "date" if connect => ColumnType::ConnectDate,
            "date" => ColumnType::Date,
            "time" if connect => ColumnType::ConnectTime,
            "time" if digits <= 3 && options.times == TimeMode::Adaptive => ColumnType::TimeMillis,
            "time" => ColumnType::TimeMicros,
            "timetz" => ColumnType::ZonedTime,
            "timestamp" if connect => ColumnType::ConnectTimestamp,
            "timestamp" if digits <= 3 => ColumnType::TimestampMillis,
            "timestamp" => ColumnType::TimestampMicros,
            "timestamptz" => ColumnType::ZonedTimestamp(usize::try_from(digits).unwrap_or(6)),
            _ => match catalog.labels {
                Some(labels) => ColumnType::Enum(labels.into()),
                None if options.unknown_types => ColumnType::Opaque,
                None => return Err(NotRead::Unknown),
            },
        })
    }

    fn numeric(modifier: i32, mode: DecimalMode, optional: bool) -> Self {
        match mode {
            DecimalMode::Double => ColumnType::DecimalAsDouble,
            DecimalMode::String => ColumnType::DecimalAsText,
            DecimalMode::Precise if modifier < 4 => {
                let fields = [("scale", SchemaType::Int32), ("value", SchemaType::Bytes)];
                let mut schema = Schema::structure(fields.map(|(name, of)| (name, Arc::new(Schema::new(of)))));
                schema.doc = Some("Variable scaled decimal".into());
                schema.optional = optional;
                ColumnType::VariableScaleDecimal(Arc::new(named(schema, "io.debezium.data.VariableScaleDecimal")))
            }
            DecimalMode::Precise => {
                let packed = modifier - 4;
                // 11 bits with a sign: a scale may be negative
                ColumnType::Decimal(packed >> 16, ((packed & 0x7ff) ^ 1024) - 1024)
            }
        }
    }

    /// The schema of a column of this type.
    pub(super) fn schema(&self, optional: bool) -> Schema {
        let plain = |of| Schema::new(of);
        let schema = match self {
            ColumnType::Boolean => plain(SchemaType::Boolean),
            ColumnType::Int16 => plain(SchemaType::Int16),
            ColumnType::Int32 => plain(SchemaType::Int32),
            ColumnType::Int64 => plain(SchemaType::Int64),
            ColumnType::Float32 => plain(SchemaType::Float32),
            ColumnType::Float64 | ColumnType::DecimalAsDouble => plain(SchemaType::Float64),
            ColumnType::Text(None) | ColumnType::DecimalAsText => plain(SchemaType::String),
            ColumnType::Text(Some(name)) => named(plain(SchemaType::String), name),
            ColumnType::Enum(labels) => {
                let mut schema = named(plain(SchemaType::String), "io.debezium.data.Enum");
                schema.parameters = Some(IndexMap::from([("allowed".to_owned(), labels.to_string())]));
                schema
            }
            ColumnType::Bytes | ColumnType::Opaque => plain(SchemaType::Bytes),
            ColumnType::Decimal(precision, scale) => {
                let mut schema = named(plain(SchemaType::Bytes), DECIMAL);
                schema.parameters = Some(IndexMap::from([
                    ("scale".to_owned(), scale.to_string()),
                    ("connect.decimal.precision".to_owned(), precision.to_string()),
                ]));
                schema
            }
            ColumnType::VariableScaleDecimal(schema) => (**schema).clone(),
            ColumnType::Date => named(plain(SchemaType::Int32), "io.debezium.time.Date"),
            ColumnType::TimeMillis => named(plain(SchemaType::Int32), "io.debezium.time.Time"),
            ColumnType::TimeMicros => named(plain(SchemaType::Int64), "io.debezium.time.MicroTime"),
            ColumnType::ZonedTime => named(plain(SchemaType::String), "io.debezium.time.ZonedTime"),
            ColumnType::TimestampMillis => named(plain(SchemaType::Int64), "io.debezium.time.Timestamp"),
            ColumnType::TimestampMicros => named(plain(SchemaType::Int64), "io.debezium.time.MicroTimestamp"),
            ColumnType::ZonedTimestamp(_) => named(plain(SchemaType::String), "io.debezium.time.ZonedTimestamp"),
            ColumnType::ConnectDate => named(plain(SchemaType::Int32), DATE),
            ColumnType::ConnectTime => named(plain(SchemaType::Int32), TIME),
            ColumnType::ConnectTimestamp => named(plain(SchemaType::Int64), TIMESTAMP),
            ColumnType::Array(_, element) => Schema::array(Arc::clone(element)),
        };
        Schema { optional, ..schema }
    }

    /// Reads the text of a value.
    ///
    /// # Errors
    /// A value that the representation cannot hold, with what is written for it.
    pub(super) fn read(&self, text: &[u8]) -> Result<Value, NotRepresentable> {
        let text = match (self, std::str::from_utf8(text)) {
            (ColumnType::Opaque, _) => return Ok(Value::Bytes(Bytes::copy_from_slice(text))),
            (_, Ok(text)) => text,
            (ColumnType::Text(_) | ColumnType::Enum(_), Err(_)) => {
                return Err(NotRepresentable {
                    instead: Value::from(String::from_utf8_lossy(text).as_ref()),
                    kind: "text that is not UTF-8",
                });
            }
            (_, Err(_)) => return Err(no_value("text that is not UTF-8")),
        };
        match self {
            ColumnType::Text(_) | ColumnType::Enum(_) => Ok(Value::from(text)),
            ColumnType::Decimal(..) | ColumnType::VariableScaleDecimal(_)
                if matches!(text, "NaN" | "Infinity" | "-Infinity") =>
            {
                Err(no_value(
                    "NaN or Infinity, which no Decimal can be: set decimal.handling.mode to string or double",
                ))
            }
            ColumnType::Decimal(_, scale) => decimal_of_scale(text, *scale),
            ColumnType::TimestampMicros => match clock::timestamp_micros(text) {
                Ok(Some(micros)) => Ok(Value::Int64(micros)),
                Ok(None) => Err(NotRepresentable {
                    instead: Value::Int64(i64::MAX),
                    kind: "a timestamp after 294247-01-10, beyond 64 bits of microseconds",
                }),
                Err(_) => Err(no_value(NOT_OF_ITS_TYPE)),
            },
            ColumnType::Array(element, _) => read_array(element, text),
            _ => self.read_scalar(text).map_err(|_| no_value(NOT_OF_ITS_TYPE)),
        }
    }

    fn read_scalar(&self, text: &str) -> Result<Value, String> {
        Ok(match self {
            ColumnType::Boolean => match text {
                "t" => Value::Boolean(true),
                "f" => Value::Boolean(false),
                _ => return Err("not a boolean".to_owned()),
            },
            ColumnType::Int16 => Value::Int16(number(text)?),
            ColumnType::Int32 => Value::Int32(number(text)?),
            ColumnType::Int64 => Value::Int64(number(text)?),
            ColumnType::Float32 => Value::Float32(number(text)?),
            ColumnType::Float64 | ColumnType::DecimalAsDouble => Value::Float64(number(text)?),
            ColumnType::Bytes => Value::Bytes(hexadecimal(text)?),
            ColumnType::VariableScaleDecimal(schema) => {
                let (unscaled, scale) = decimal(text)?;
                variable_scale(schema, scale, unscaled.to_signed_bytes_be())
            }
            // as Java writes its enum of these values, and Debezium with it
            ColumnType::DecimalAsText => Value::from(match text {
                "NaN" => "NAN",
                "Infinity" => "POSITIVE_INFINITY",
                "-Infinity" => "NEGATIVE_INFINITY",
                digits => digits,
            }),
            ColumnType::Date => Value::Int32(clock::days(text)?),
            ColumnType::ConnectDate => Value::Date(i64::from(clock::days(text)?) * clock::MILLIS_OF_DAY),
            ColumnType::TimeMillis => {
                Value::Int32(i32::try_from(clock::time_micros(text)? / 1000).map_err(|error| error.to_string())?)
            }
            ColumnType::TimeMicros => Value::Int64(clock::time_micros(text)?),
            ColumnType::ConnectTime => Value::Date(clock::time_micros(text)? / 1000),
            ColumnType::ZonedTime => Value::from(clock::zoned_time(text)?),
            ColumnType::TimestampMillis => Value::Int64(clock::timestamp_millis(text)?),
            ColumnType::ConnectTimestamp => Value::Date(clock::timestamp_millis(text)?),
            ColumnType::ZonedTimestamp(digits) => Value::from(clock::zoned_timestamp(text, *digits)?),
            // `read` has them
            ColumnType::Text(_)
            | ColumnType::Enum(_)
            | ColumnType::Opaque
            | ColumnType::Decimal(..)
            | ColumnType::TimestampMicros
            | ColumnType::Array(..) => return Err("not a scalar".to_owned()),
        })
    }

    /// What stands for null in a column that allows none, where the value was not sent (Debezium does the same).
    pub(super) fn zero(&self) -> Value {
        match self {
            ColumnType::Boolean => Value::Boolean(false),
            ColumnType::Int16 => Value::Int16(0),
            ColumnType::Int32 | ColumnType::Date | ColumnType::TimeMillis => Value::Int32(0),
            ColumnType::Int64 | ColumnType::TimeMicros | ColumnType::TimestampMillis | ColumnType::TimestampMicros => {
                Value::Int64(0)
            }
            ColumnType::Float32 => Value::Float32(0.0),
            ColumnType::Float64 | ColumnType::DecimalAsDouble => Value::Float64(0.0),
            ColumnType::Text(_) | ColumnType::Enum(_) | ColumnType::DecimalAsText => Value::from(""),
            ColumnType::Bytes | ColumnType::Opaque => Value::Bytes(Bytes::new()),
            ColumnType::Decimal(_, scale) => Value::Decimal {
                unscaled: BigInt::ZERO,
                scale: *scale,
            },
            ColumnType::VariableScaleDecimal(schema) => variable_scale(schema, 0, vec![0]),
            ColumnType::ZonedTime => Value::from("00:00:00Z"),
            ColumnType::ZonedTimestamp(_) => Value::from("1970-01-01T00:00:00Z"),
            ColumnType::ConnectDate | ColumnType::ConnectTime | ColumnType::ConnectTimestamp => Value::Date(0),
            ColumnType::Array(..) => Value::Array(Vec::new()),
        }
    }
}

/// What is said of a text that its type's output function never writes.
const NOT_OF_ITS_TYPE: &str = "a text that is not one of its type";

/// A `VariableScaleDecimal`.
pub(super) fn variable_scale(schema: &Arc<Schema>, scale: i32, unscaled: Vec<u8>) -> Value {
    Value::Struct(Struct {
        schema: Arc::clone(schema),
        values: vec![Value::Int32(scale), Value::Bytes(unscaled.into())],
    })
}

fn read_array(element: &ColumnType, text: &str) -> Result<Value, NotRepresentable> {
    let elements = match array::elements(text) {
        Ok(Elements::Flat(elements)) => elements,
        Ok(Elements::Nested(arrays)) => {
            return Err(NotRepresentable {
                // as many nulls as the outermost dimension is long, as Debezium writes it
                instead: Value::Array(vec![Value::Null; arrays]),
                kind: "an array of more than one dimension",
            });
        }
        Err(_) => return Err(no_value(NOT_OF_ITS_TYPE)),
    };
    let mut lost = None;
    let values = elements
        .into_iter()
        .map(|text| match text.map(|text| element.read(text.as_bytes())) {
            None => Value::Null,
            Some(Ok(value)) => value,
            Some(Err(NotRepresentable { instead, kind })) => {
                lost = Some(kind);
                instead
            }
        })
        .collect();
    match lost {
        None => Ok(Value::Array(values)),
        Some(kind) => Err(NotRepresentable {
            instead: Value::Array(values),
            kind,
        }),
    }
}

fn decimal_of_scale(text: &str, scale: i32) -> Result<Value, NotRepresentable> {
    let (unscaled, written) = decimal(text).map_err(|_| no_value(NOT_OF_ITS_TYPE))?;
    let ten = |exponent: u32| BigInt::from(10).pow(exponent);
    let unscaled = match u32::try_from(scale - written) {
        Ok(more) => unscaled * ten(more),
        Err(_) => {
            let unit = ten((written - scale).unsigned_abs());
            if &unscaled % &unit != BigInt::ZERO {
                return Err(no_value(
                    "a number with more digits behind the point than its column has",
                ));
            }
            unscaled / unit
        }
    };
    Ok(Value::Decimal { unscaled, scale })
}

/// Debezium's own logical types all have version 1, Connect's too.
fn named(schema: Schema, name: &str) -> Schema {
    Schema {
        version: Some(1),
        ..schema.named(name)
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String>
where
    N::Err: std::fmt::Display,
{
    text.parse().map_err(|error| format!("{error}"))
}

/// `\x` and hexadecimal digits.
fn hexadecimal(text: &str) -> Result<Bytes, String> {
    let wrong = || "not bytes in the hex format: set bytea_output=hex for the role".to_owned();
    let digits = text.strip_prefix("\\x").ok_or_else(wrong)?.as_bytes();
    if digits.len() % 2 != 0 {
        return Err(wrong());
    }
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(value(*high)? << 4 | value(*low)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .map(Bytes::from)
        .ok_or_else(wrong)
}

/// Unscaled value and scale, as written.
fn decimal(text: &str) -> Result<(BigInt, i32), String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = i32::try_from(fraction.len()).map_err(|error| error.to_string())?;
    // most fit 64 bits, which need no arithmetic of big numbers
    if whole.len() + fraction.len() <= 18 {
        let whole_number: i64 = number(whole)?;
        let fraction_number: i64 = if fraction.is_empty() { 0 } else { number(fraction)? };
        let scaled = whole_number * 10_i64.pow(scale.unsigned_abs()); // at most 18 digits
        let negative = whole.starts_with('-');
        let unscaled = if negative {
            scaled - fraction_number
        } else {
            scaled + fraction_number
        };
        return Ok((unscaled.into(), scale));
    }
    let digits = [whole, fraction].concat();
    Ok((number(&digits)?, scale))
}

#[cfg(test)]
#[path = "types_tests.rs"]
mod tests;
