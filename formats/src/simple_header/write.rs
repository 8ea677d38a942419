//! Values as text (`Values.convertToString`).

use base64::Engine as _;
use connect_api::Value;
use connect_api::java_text::civil_from_days;

const MILLIS_PER_DAY: i64 = 86_400_000;

/// Text of a value: strings as they are at the top, quoted inside containers.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    append(&mut out, value, false);
    out
}

fn append(out: &mut String, value: &Value, embedded: bool) {
    match value {
        Value::Null => out.push_str("null"),
        Value::String(text) if embedded => {
            out.push('"');
            out.push_str(&text.replace('\\', "\\\\").replace('"', "\\\""));
            out.push('"');
        }
        Value::String(text) => out.push_str(text),
        Value::Bytes(bytes) => {
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            append(out, &Value::from(encoded), embedded);
        }
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                append(out, element, true);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                append(out, key, true);
                out.push(':');
                append(out, value, true);
            }
            out.push('}');
        }
        Value::Struct(structure) => {
            out.push('{');
            for (index, field) in structure.schema.fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                append(out, &Value::String(std::sync::Arc::clone(&field.name)), true);
                out.push(':');
                append(out, structure.get(&field.name).unwrap_or(&Value::Null), true);
            }
            out.push('}');
        }
        Value::Date(millis) => out.push_str(&date(*millis)),
        other => out.push_str(&other.to_string()),
    }
}

/// By value, not by schema: less than a day is a time of day, whole days are a date, anything else both.
fn date(millis: i64) -> String {
    let (year, month, day) = civil_from_days(millis.div_euclid(MILLIS_PER_DAY));
    let of_day = millis.rem_euclid(MILLIS_PER_DAY);
    let time = format!(
        "{:02}:{:02}:{:02}.{:03}Z",
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1000 % 60,
        of_day % 1000
    );
    if millis < MILLIS_PER_DAY {
        time
    } else if of_day == 0 {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{year:04}-{month:02}-{day:02}T{time}")
    }
}
