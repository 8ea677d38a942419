//! How Java prints values (`toString`): seen by users in text sinks, string converters, headers and error messages
//! (contract 5.3, B.37). Numbers have the shortest digits that read back as the same number, as Java 19 and later print
//! them.

use crate::data::value::{Struct, Value};
use num_bigint::BigInt;
use std::fmt::{self, Write};

/// `Double.toString`: at least one digit behind the point; plain from 1e-3 up to 1e7, else `d.dddE±n`.
pub fn double_text(number: f64) -> String {
    if number.is_finite() && number != 0.0 {
        let mut scientific = format!("{:e}", number.abs());
        if !scientific.contains('.') {
            scientific = format!("{:.1e}", number.abs()); // Java chooses among two digits: 4.9E-324, not 5E-324
        }
        layout(number < 0.0, &scientific)
    } else {
        special_text(number)
    }
}

/// `Float.toString`; the form of [`double_text`].
pub fn float_text(number: f32) -> String {
    if number.is_finite() && number != 0.0 {
        let mut scientific = format!("{:e}", number.abs());
        if !scientific.contains('.') {
            scientific = format!("{:.1e}", number.abs());
        }
        layout(number < 0.0, &scientific)
    } else {
        special_text(f64::from(number))
    }
}

fn special_text(number: f64) -> String {
    if number.is_nan() {
        "NaN"
    } else if number == 0.0 {
        if number.is_sign_negative() { "-0.0" } else { "0.0" }
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .to_owned()
}

/// Lays `d.ddde±n` out as Java does.
fn layout(negative: bool, scientific: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    let mut text = String::with_capacity(26);
    if negative {
        text.push('-');
    }
    let or_zero = |rest: &str| {
        if rest.is_empty() {
            "0".to_owned()
        } else {
            rest.to_owned()
        }
    };
    match exponent {
        0..=6 => {
            let whole = exponent as usize + 1;
            let (head, tail) = digits.split_at(whole.min(digits.len()));
            text.push_str(head);
            text.extend(std::iter::repeat_n('0', whole - head.len()));
            text.push('.');
            text.push_str(&or_zero(tail));
        }
        -3..=-1 => {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
            text.push_str(digits);
        }
        _ => {
            let (head, tail) = digits.split_at(1);
            text.push_str(head);
            text.push('.');
            text.push_str(&or_zero(tail));
            text.push('E');
            text.push_str(&exponent.to_string());
        }
    }
    text
}

/// `BigDecimal.toString`: plain where the scale is not negative and the adjusted exponent not below -6.
pub fn decimal_text(unscaled: &BigInt, scale: i32) -> String {
    let negative = unscaled.sign() == num_bigint::Sign::Minus;
    let digits = unscaled.magnitude().to_string();
    let sign = if negative { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let adjusted = digits.len() as i64 - 1 - i64::from(scale);
    if scale > 0 && adjusted >= -6 {
        let scale = scale as usize;
        if digits.len() > scale {
            let (head, tail) = digits.split_at(digits.len() - scale);
            format!("{sign}{head}.{tail}")
        } else {
            format!("{sign}0.{}{digits}", "0".repeat(scale - digits.len()))
        }
    } else {
        let (head, tail) = digits.split_at(1);
        let point = if tail.is_empty() { "" } else { "." };
        match adjusted {
            0 => format!("{sign}{head}{point}{tail}"),
            _ => format!("{sign}{head}{point}{tail}E{adjusted:+}"),
        }
    }
}

/// Year, month (1-12), day (1-31) of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
/// (Howard Hinnant, "chrono-compatible low-level date algorithms".)
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`]; months and days out of range carry over, as Java's lenient calendar does.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month_index = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_index + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468 + day - 1
}

/// `java.util.Date.toString` in UTC: `Thu Jan 01 00:00:00 UTC 1970`.
pub fn date_text(millis: i64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let days = millis.div_euclid(86_400_000);
    let second = millis.rem_euclid(86_400_000) / 1000;
    let (year, month, day) = civil_from_days(days);
    let weekday = WEEKDAYS.get(days.rem_euclid(7) as usize).unwrap_or(&"");
    let month = MONTHS.get(month as usize - 1).unwrap_or(&"");
    let year = if year > 0 { year } else { 1 - year }; // years before Christ print without their era
    format!(
        "{weekday} {month} {day:02} {:02}:{:02}:{:02} UTC {year:04}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

impl Value {
    /// The Java class that holds such a value (`java.lang.String`, `[B`), as error messages name it.
    pub fn java_class(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Boolean(_) => "java.lang.Boolean",
            Value::Int8(_) => "java.lang.Byte",
            Value::Int16(_) => "java.lang.Short",
            Value::Int32(_) => "java.lang.Integer",
            Value::Int64(_) => "java.lang.Long",
            Value::Float32(_) => "java.lang.Float",
            Value::Float64(_) => "java.lang.Double",
            Value::String(_) => "java.lang.String",
            Value::Bytes(_) => "[B",
            Value::Array(_) => "java.util.ArrayList",
            Value::Map(_) => "java.util.LinkedHashMap",
            Value::Struct(_) => "org.apache.kafka.connect.data.Struct",
            Value::Decimal { .. } => "java.math.BigDecimal",
            Value::Date(_) => "java.util.Date",
        }
    }
}

impl fmt::Display for Value {
    /// Java's `toString`: `{k=v, k2=v2}`, `Struct{a=1,b=x}`, `[a, b]`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => out.write_str("null"),
            Value::Boolean(value) => write!(out, "{value}"),
            Value::Int8(value) => write!(out, "{value}"),
            Value::Int16(value) => write!(out, "{value}"),
            Value::Int32(value) => write!(out, "{value}"),
            Value::Int64(value) => write!(out, "{value}"),
            Value::Float32(value) => out.write_str(&float_text(*value)),
            Value::Float64(value) => out.write_str(&double_text(*value)),
            Value::String(text) => out.write_str(text),
            Value::Bytes(bytes) => {
                // Java prints an identity hash; this one depends on the content, so that output is the same every time
                let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
                    (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
                });
                write!(out, "[B@{hash:x}")
            }
            Value::Array(elements) => {
                out.write_char('[')?;
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.write_str(", ")?;
                    }
                    write!(out, "{element}")?;
                }
                out.write_char(']')
            }
            Value::Map(entries) => {
                out.write_char('{')?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.write_str(", ")?;
                    }
                    write!(out, "{key}={value}")?;
                }
                out.write_char('}')
            }
            Value::Struct(structure) => write!(out, "{structure}"),
            Value::Decimal { unscaled, scale } => out.write_str(&decimal_text(unscaled, *scale)),
            Value::Date(millis) => out.write_str(&date_text(*millis)),
        }
    }
}

impl fmt::Display for Struct {
    /// Fields that are null are left out.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Struct{")?;
        let mut first = true;
        for (field, value) in self.schema.fields.iter().zip(&self.values) {
            if *value == Value::Null {
                continue;
            }
            if !first {
                out.write_char(',')?;
            }
            first = false;
            write!(out, "{}={value}", field.name)?;
        }
        out.write_char('}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_java_prints_them() {
        for (number, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (0.001, "0.001"),
            (9.999e-4, "9.999E-4"),
            (2e23, "2.0E23"),
            (f64::from_bits(1), "4.9E-324"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double_text(number), text);
        }
        assert_eq!(float_text(0.1), "0.1");
        assert_eq!(float_text(f32::from_bits(1)), "1.4E-45");
    }

    #[test]
    fn days_and_dates_agree() {
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, i64::from(month), i64::from(day)), days);
        }
        assert_eq!(date_text(0), "Thu Jan 01 00:00:00 UTC 1970");
    }
}
