//! Text into values of guessed types (`Values.parseString`).

use crate::converters::logical;
use connect_api::schema::{DECIMAL, Schema, SchemaType};
use connect_api::{SchemaAndValue, Value};
use std::sync::Arc;

/// The value that `text` looks like: null, boolean, array, map, date, number, or else a string.
pub fn parse_string(text: &str) -> SchemaAndValue {
    let trimmed = text.trim();
    match trimmed {
        "null" => SchemaAndValue::NULL,
        "true" | "false" => of(SchemaType::Boolean, Value::Boolean(trimmed == "true")),
        _ => number(trimmed).unwrap_or_else(|| of(SchemaType::String, Value::from(text))),
    }
}

fn of(schema_type: SchemaType, value: Value) -> SchemaAndValue {
    SchemaAndValue { schema: Some(Arc::new(Schema::new(schema_type))), value }
}

/// The smallest type that holds a number: whole numbers exactly, others as a float as soon as it is finite.
fn number(text: &str) -> Option<SchemaAndValue> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) || !digits.bytes().all(|byte| b"0123456789.eE+-".contains(&byte)) {
        return None;
    }
    let (unscaled, scale) = logical::parse_decimal(text.strip_prefix('+').unwrap_or(text))?;
    let whole = logical::truncate(&unscaled, scale).filter(|_| scale <= 0 || {
        logical::truncate(&unscaled, scale).is_some_and(|whole| whole * num_bigint::BigInt::from(10).pow(scale.min(5000) as u32) == unscaled)
    });
    if let Some(whole) = whole.and_then(|whole| i64::try_from(whole).ok()) {
        return Some(if let Ok(small) = i8::try_from(whole) {
            of(SchemaType::Int8, Value::Int8(small))
        } else if let Ok(small) = i16::try_from(whole) {
            of(SchemaType::Int16, Value::Int16(small))
        } else if let Ok(small) = i32::try_from(whole) {
            of(SchemaType::Int32, Value::Int32(small))
        } else {
            of(SchemaType::Int64, Value::Int64(whole))
        });
    }
    let float: f32 = text.parse().ok()?;
    if float.is_finite() {
        return Some(of(SchemaType::Float32, Value::Float32(float)));
    }
    let double: f64 = text.parse().ok()?;
    if double.is_finite() {
        return Some(of(SchemaType::Float64, Value::Float64(double)));
    }
    let mut schema = Schema::new(SchemaType::Bytes).named(DECIMAL);
    schema.version = Some(1);
    schema.parameters = Some([("scale".to_owned(), scale.to_string())].into_iter().collect());
    Some(SchemaAndValue { schema: Some(Arc::new(schema)), value: Value::Decimal { unscaled, scale } })
}
