//! The logical types Decimal, Date, Time and Timestamp (contract 5.1) and the arithmetic of Java's BigDecimal.

use bytes::Bytes;
use connect_api::schema::Schema;
use connect_api::{ConnectError, Value};
use num_bigint::BigInt;

/// Milliseconds of a day.
pub(crate) const MILLIS_PER_DAY: i64 = 86_400_000;

/// Digits in front of which a whole number is not spelled out: 10^n is divisible by 2^64 long before.
const MAX_EXPONENT: i32 = 100_000;

/// `unscaled` and `scale` of a number as `BigDecimal(String)` reads it: `1.50` is 150, 2; `1e3` is 1, -3.
pub(crate) fn parse_decimal(text: &str) -> Option<(BigInt, i32)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => {
            let (mantissa, exponent) = text.split_at(at);
            (mantissa, exponent.get(1..)?.parse::<i64>().ok()?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    Some((digits.parse().ok()?, i32::try_from(scale).ok()?))
}

/// The whole part of a decimal, rounded towards zero; `None` where it has too many digits to be spelled out (its low 64
/// bits are zero then).
pub(crate) fn truncate(unscaled: &BigInt, scale: i32) -> Option<BigInt> {
    match scale {
        0 => Some(unscaled.clone()),
        1.. if scale > MAX_EXPONENT => Some(BigInt::ZERO),
        1.. => Some(unscaled / BigInt::from(10).pow(scale as u32)),
        _ if scale < -MAX_EXPONENT => None,
        _ => Some(unscaled * BigInt::from(10).pow(scale.unsigned_abs())),
    }
}

/// The exact whole number that a decimal is, if it is one of fewer than some thousand digits.
pub(crate) fn whole(unscaled: &BigInt, scale: i32) -> Option<BigInt> {
    match scale {
        ..=0 if scale < -4000 => None,
        ..=0 => truncate(unscaled, scale),
        _ if *unscaled == BigInt::ZERO => Some(BigInt::ZERO),
        _ if scale > 4000 => None,
        _ => {
            let power = BigInt::from(10).pow(scale as u32);
            let whole = unscaled / &power;
            (&whole * power == *unscaled).then_some(whole)
        }
    }
}

fn scale_of(schema: &Schema) -> Result<i32, ConnectError> {
    let text = schema
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.get("scale"))
        .ok_or_else(|| ConnectError::data("Invalid Decimal schema: scale parameter not found."))?;
    text.parse().map_err(|_| {
        ConnectError::data("Invalid scale parameter found in Decimal schema: ").caused_by(NotANumber(text.clone()))
    })
}

#[derive(Debug, thiserror::Error)]
#[error("not a whole number: {0}")]
struct NotANumber(String);

/// A decimal from its unscaled big-endian two's complement.
pub(crate) fn decimal_from_bytes(schema: &Schema, bytes: &[u8]) -> Result<Value, ConnectError> {
    let scale = scale_of(schema)?;
    if bytes.is_empty() {
        return Err(ConnectError::data("Zero length BigInteger").with_java_class("java.lang.NumberFormatException"));
    }
    Ok(Value::Decimal {
        unscaled: BigInt::from_signed_bytes_be(bytes),
        scale,
    })
}

/// The unscaled big-endian two's complement of a decimal whose scale is the schema's.
pub(crate) fn decimal_to_bytes(schema: &Schema, unscaled: &BigInt, scale: i32) -> Result<Bytes, ConnectError> {
    let expected = scale_of(schema)?;
    if scale != expected {
        return Err(ConnectError::data(format!(
            "Decimal value has mismatching scale for given Decimal schema. Schema has scale {expected}, value has scale {scale}."
        )));
    }
    Ok(Bytes::from(unscaled.to_signed_bytes_be()))
}

/// A Time from milliseconds of the day; midnight at the end of the day passes.
pub(crate) fn time_from_millis(millis: i64) -> Result<Value, ConnectError> {
    match millis {
        0..=MILLIS_PER_DAY => Ok(Value::Date(millis)),
        _ => Err(ConnectError::data(
            "Time values must use number of milliseconds greater than 0 and less than 86400000",
        )),
    }
}

/// Days since the epoch of a Date, which has no time of day.
pub(crate) fn days_of_date(millis: i64) -> Result<i32, ConnectError> {
    match millis.rem_euclid(MILLIS_PER_DAY) {
        0 => Ok((millis / MILLIS_PER_DAY) as i32),
        _ => Err(ConnectError::data(
            "Kafka Connect Date type should not have any time fields set to non-zero values.",
        )),
    }
}

/// Milliseconds of the day of a Time, which has no date.
pub(crate) fn millis_of_time(millis: i64) -> Result<i32, ConnectError> {
    match millis {
        0..=MILLIS_PER_DAY => Ok(millis as i32),
        _ => Err(ConnectError::data(
            "Kafka Connect Time type should not have any date fields set to non-zero values.",
        )),
    }
}
