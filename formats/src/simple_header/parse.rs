//! Text into values of guessed types (`Values.parseString`; contract 5.4, B.38-39).

use super::tokens::{Tokens, java_trim};
use crate::logical;
use connect_api::java_text::days_from_civil;
use connect_api::schema::{DATE, DECIMAL, Schema, SchemaType, TIME, TIMESTAMP};
use connect_api::{SchemaAndValue, Value};
use std::sync::Arc;

/// Containers nested deeper are read as text.
const MAX_DEPTH: usize = 1000;

/// The value that `text` looks like: null, boolean, array, map, date, time, timestamp, number, or else a string.
pub fn parse_string(text: &str) -> SchemaAndValue {
    if text.is_empty() {
        return of(SchemaType::String, Value::from(""));
    }
    let mut parser = Parser {
        tokens: Tokens::new(text),
    };
    match parser.value(false, 0) {
        Ok(Some(data)) => data,
        Ok(None) => SchemaAndValue::NULL,
        Err(NotContainer) => of(SchemaType::String, Value::from(text)),
    }
}

fn of(schema_type: SchemaType, value: Value) -> SchemaAndValue {
    SchemaAndValue {
        schema: Some(Arc::new(Schema::new(schema_type))),
        value,
    }
}

/// The text is no array or map after all.
struct NotContainer;

type Parsed = Result<Option<SchemaAndValue>, NotContainer>;

struct Parser<'a> {
    tokens: Tokens<'a>,
}

impl Parser<'_> {
    /// The next value; `None` is null. `embedded` in a container, only quoted text is a string.
    fn value(&mut self, embedded: bool, depth: usize) -> Parsed {
        if depth > MAX_DEPTH {
            return Err(NotContainer);
        }
        if !self.tokens.has_next() {
            return Ok(None);
        }
        if embedded && self.tokens.can_consume("\"") {
            return Ok(Some(self.quoted()));
        }
        if self.can_be("null", embedded) {
            return Ok(None);
        }
        for (literal, value) in [("true", true), ("false", false)] {
            if self.can_be(literal, embedded) {
                return Ok(Some(of(SchemaType::Boolean, Value::Boolean(value))));
            }
        }
        let start = self.tokens.mark();
        let container = if self.tokens.can_consume("[") {
            Some(self.array(depth))
        } else if self.tokens.can_consume("{") {
            Some(self.map(depth))
        } else {
            None
        };
        match container {
            Some(Ok(data)) => return Ok(Some(data)),
            Some(Err(NotContainer)) => self.tokens.rewind_to(start),
            None => {}
        }
        let token = self.tokens.next();
        if java_trim(token).is_empty() {
            return Ok(Some(of(SchemaType::String, Value::from(token))));
        }
        let token = java_trim(token);
        let starts_with_digit = token.chars().next().is_some_and(|first| digit(first).is_some());
        if starts_with_digit && let Some(temporal) = self.temporal(token) {
            return Ok(Some(temporal));
        }
        if (starts_with_digit || token.starts_with(['+', '-']))
            && let Some(number) = number(token)
        {
            return Ok(Some(number));
        }
        match embedded {
            true => Err(NotContainer),
            false => Ok(Some(of(SchemaType::String, Value::from(self.tokens.original())))),
        }
    }

    /// Consumes a literal of one token. Outside of containers nothing may follow it: `true}` is text.
    fn can_be(&mut self, literal: &str, embedded: bool) -> bool {
        let start = self.tokens.mark();
        if self.tokens.can_consume(literal) && (embedded || !self.tokens.has_next()) {
            return true;
        }
        self.tokens.rewind_to(start);
        false
    }

    /// Blanks between delimiters are passed over, so that `" "` is empty.
    fn quoted(&mut self) -> SchemaAndValue {
        let mut text = String::new();
        while self.tokens.has_next() && !self.tokens.can_consume("\"") {
            text.push_str(self.tokens.next());
        }
        temporal(&text).unwrap_or_else(|| of(SchemaType::String, Value::from(text)))
    }

    fn array(&mut self, depth: usize) -> Result<SchemaAndValue, NotContainer> {
        let mut elements = Vec::new();
        let mut common = CommonSchema::default();
        while self.tokens.has_next() {
            if self.tokens.can_consume("]") {
                let mut schema = Schema::new(SchemaType::Array);
                schema.value_schema = common.schema;
                for element in &mut elements {
                    align(element, schema.value_schema.as_deref())?;
                }
                return Ok(SchemaAndValue {
                    schema: Some(Arc::new(schema)),
                    value: Value::Array(elements),
                });
            }
            if self.tokens.can_consume(",") {
                return Err(NotContainer);
            }
            let element = self.value(true, depth + 1)?;
            common.merge(element.as_ref());
            elements.push(element.map_or(Value::Null, |element| element.value));
            let mark = self.tokens.mark();
            if self.tokens.can_consume("]") {
                self.tokens.rewind_to(mark);
            } else if !self.tokens.can_consume(",") {
                return Err(NotContainer);
            }
        }
        Err(NotContainer)
    }

    fn map(&mut self, depth: usize) -> Result<SchemaAndValue, NotContainer> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        let (mut keys, mut values) = (CommonSchema::default(), CommonSchema::default());
        while self.tokens.has_next() {
            if self.tokens.can_consume("}") {
                let mut schema = Schema::new(SchemaType::Map);
                if keys.schema.is_some() {
                    schema.key_schema = keys.schema;
                    schema.value_schema = values.schema;
                }
                for (key, value) in &mut entries {
                    align(key, schema.key_schema.as_deref())?;
                    align(value, schema.value_schema.as_deref())?;
                }
                return Ok(SchemaAndValue {
                    schema: Some(Arc::new(schema)),
                    value: Value::Map(entries),
                });
            }
            if self.tokens.can_consume(",") {
                return Err(NotContainer);
            }
            let Some(key) = self.value(true, depth + 1)? else {
                return Err(NotContainer);
            };
            if !self.tokens.can_consume(":") {
                return Err(NotContainer);
            }
            let value = self.value(true, depth + 1)?;
            keys.merge(Some(&key));
            values.merge(value.as_ref());
            let value = value.map_or(Value::Null, |value| value.value);
            match entries.iter_mut().find(|(known, _)| *known == key.value) {
                Some(entry) => entry.1 = value,
                None => entries.push((key.value, value)),
            }
            self.tokens.can_consume(",");
        }
        Err(NotContainer)
    }

    /// A time or timestamp is cut into five tokens by its colons, unless they are escaped.
    fn temporal(&mut self, token: &str) -> Option<SchemaAndValue> {
        let position = self.tokens.mark();
        if let Some(rest) = self.tokens.next_joined(4)
            && let Some(found) = temporal(&format!("{token}{rest}"))
        {
            return Some(found);
        }
        self.tokens.rewind_to(position);
        temporal(token)
    }
}

/// The schema that elements seen so far share.
#[derive(Default)]
struct CommonSchema {
    schema: Option<Arc<Schema>>,
    mixed: bool,
}

impl CommonSchema {
    fn merge(&mut self, latest: Option<&SchemaAndValue>) {
        let Some(latest) = latest.and_then(|latest| latest.schema.as_ref()) else {
            return;
        };
        if self.mixed {
            return;
        }
        self.schema = match &self.schema {
            None => Some(Arc::clone(latest)),
            Some(known) if known.schema_type == latest.schema_type => Some(Arc::clone(latest)),
            Some(known) => match (width(known.schema_type), width(latest.schema_type)) {
                (Some(a), Some(b)) => Some(Arc::clone(if a > b { known } else { latest })),
                _ => {
                    self.mixed = true;
                    None
                }
            },
        };
    }
}

/// Order of the numeric types, from narrow to wide.
fn width(schema_type: SchemaType) -> Option<u8> {
    Some(match schema_type {
        SchemaType::Int8 => 0,
        SchemaType::Int16 => 1,
        SchemaType::Int32 => 2,
        SchemaType::Int64 => 3,
        SchemaType::Float32 => 4,
        SchemaType::Float64 => 5,
        _ => return None,
    })
}

/// Converts a number to the schema that its container's elements share: a wider type, or the logical type of the others. Null
/// fits no shared schema, and neither does a date among wider numbers.
fn align(value: &mut Value, schema: Option<&Schema>) -> Result<(), NotContainer> {
    let Some(schema) = schema else { return Ok(()) };
    let whole = match value {
        Value::Null => return Err(NotContainer),
        Value::Int8(number) => i64::from(*number),
        Value::Int16(number) => i64::from(*number),
        Value::Int32(number) => i64::from(*number),
        Value::Int64(number) => *number,
        Value::Date(_) if schema.name.is_none() => return Err(NotContainer),
        Value::Float32(number) if schema.schema_type == SchemaType::Float64 => {
            *value = Value::Float64(f64::from(*number));
            return Ok(());
        }
        _ => return Ok(()),
    };
    match schema.name.as_deref() {
        Some(DATE) => {
            *value = Value::Date(whole.wrapping_mul(logical::MILLIS_PER_DAY));
            return Ok(());
        }
        Some(TIME | TIMESTAMP) => {
            *value = Value::Date(whole);
            return Ok(());
        }
        _ => {}
    }
    match schema.schema_type {
        SchemaType::Int16 => *value = Value::Int16(whole as i16),
        SchemaType::Int32 => *value = Value::Int32(whole as i32),
        SchemaType::Int64 => *value = Value::Int64(whole),
        SchemaType::Float32 => *value = Value::Float32(whole as f32),
        SchemaType::Float64 => *value = Value::Float64(whole as f64),
        _ => {}
    }
    Ok(())
}

fn logical_schema(schema_type: SchemaType, name: &str) -> Arc<Schema> {
    let mut schema = Schema::new(schema_type).named(name);
    schema.version = Some(1);
    Arc::new(schema)
}

/// A date, time or timestamp, told apart by length; numbers out of range carry over, as Java's lenient calendar does.
fn temporal(text: &str) -> Option<SchemaAndValue> {
    let text = text.replace("\\:", ":");
    let (schema_type, name, pattern) = match text.chars().count() {
        10 => (SchemaType::Int32, DATE, "y-M-d"),
        13 => (SchemaType::Int32, TIME, "h:m:s.SZ"),
        24 => (SchemaType::Int64, TIMESTAMP, "y-M-dTh:m:s.SZ"),
        _ => return None,
    };
    let millis = lenient(&text, pattern)?;
    Some(SchemaAndValue {
        schema: Some(logical_schema(schema_type, name)),
        value: Value::Date(millis),
    })
}

/// Reads numbers where `pattern` has a letter and literals elsewhere; what follows the pattern does not matter.
fn lenient(text: &str, pattern: &str) -> Option<i64> {
    let mut fields = [1970_i64, 1, 1, 0, 0, 0, 0];
    let mut rest = text;
    for letter in pattern.chars() {
        let index = match letter {
            'y' => 0,
            'M' => 1,
            'd' => 2,
            'h' => 3,
            'm' => 4,
            's' => 5,
            'S' => 6,
            literal => {
                rest = rest.strip_prefix(literal)?;
                continue;
            }
        };
        // As Java's number format: blanks before a number are passed over, and it may be negative.
        rest = rest.trim_start_matches([' ', '\t']);
        let sign = if let Some(after) = rest.strip_prefix('-') {
            rest = after;
            -1
        } else {
            1
        };
        let digits = rest.chars().take_while(|character| digit(*character).is_some()).count();
        let bytes: usize = rest.chars().take(digits).map(char::len_utf8).sum();
        let (number, after) = rest.split_at_checked(bytes)?;
        let ascii: String = number
            .chars()
            .filter_map(digit)
            .map(|value| char::from(b'0' + value))
            .collect();
        *fields.get_mut(index)? = sign * ascii.parse::<i64>().ok()?;
        rest = after;
    }
    let [year, month, day, hour, minute, second, millisecond] = fields;
    Some(
        days_of_calendar(year, month, day) * logical::MILLIS_PER_DAY
            + ((hour * 60 + minute) * 60 + second) * 1000
            + millisecond,
    )
}

/// Days since 1970 of a date in Java's calendar, which is the Julian one before 15 October 1582; the ten days that were left out
/// then are counted on.
fn days_of_calendar(year: i64, month: i64, day: i64) -> i64 {
    const FIRST_GREGORIAN_DAY: i64 = -141_427;
    let gregorian = days_from_civil(year, month, day);
    if year >= 1582 && gregorian >= FIRST_GREGORIAN_DAY {
        return gregorian;
    }
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    // 1 March of the year 0 is 719,470 days before 1970.
    year * 365 + year.div_euclid(4) + (153 * month + 2) / 5 + day - 1 - 719_470
}

/// The value of a decimal digit of any of the scripts that come up in practice.
fn digit(character: char) -> Option<u8> {
    const ZEROS: [u32; 21] = [
        0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0xF20,
        0x1040, 0x17E0, 0x1810, 0xA8D0, 0xFF10,
    ];
    let code = u32::from(character);
    let zero = ZEROS.iter().rev().find(|zero| **zero <= code)?;
    u8::try_from(code - zero).ok().filter(|value| *value < 10)
}

/// The smallest type that holds a number: whole ones exactly, others as a float as soon as it is finite.
fn number(token: &str) -> Option<SchemaAndValue> {
    let ascii: String = token
        .chars()
        .map(|c| digit(c).map_or(c, |value| char::from(b'0' + value)))
        .collect();
    let unsigned = ascii.strip_prefix(['-', '+']).unwrap_or(&ascii);
    let known = unsigned
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if !known || !unsigned.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if unsigned.starts_with(['+', '-']) {
        return None;
    }
    let (unscaled, scale) = logical::parse_decimal(ascii.strip_prefix('+').unwrap_or(&ascii))?;
    if let Some(whole) = logical::whole(&unscaled, scale).and_then(|whole| i64::try_from(whole).ok()) {
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
    if scale != 0 {
        let float: f32 = ascii.parse().ok()?;
        if float.is_finite() {
            return Some(of(
                SchemaType::Float32,
                Value::Float32(if float == 0.0 { 0.0 } else { float }),
            ));
        }
        let double: f64 = ascii.parse().ok()?;
        if double.is_finite() {
            return Some(of(SchemaType::Float64, Value::Float64(double)));
        }
    }
    let mut schema = Schema::new(SchemaType::Bytes).named(DECIMAL);
    schema.version = Some(1);
    schema.parameters = Some([("scale".to_owned(), scale.to_string())].into_iter().collect());
    Some(SchemaAndValue {
        schema: Some(Arc::new(schema)),
        value: Value::Decimal { unscaled, scale },
    })
}
