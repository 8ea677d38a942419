//! Rows of a CSV file as events.

use super::config::ReplayConfig;
use connect_api::java_text::days_from_civil;
use connect_api::{ConnectError, Value};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;

/// Bytes read from the file at once.
const READ_BYTES: usize = 256 * 1024;

/// Why a file cannot be replayed: which option, and what is wrong with it.
#[derive(Debug)]
pub(super) struct OpenError {
    pub(super) option: &'static str,
    pub(super) reason: String,
}

impl From<OpenError> for ConnectError {
    fn from(error: OpenError) -> Self {
        ConnectError::config(format!("option {}: {}", error.option, error.reason))
    }
}

/// One event.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub(super) key: Option<Value>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) value: Value,
}

/// How a column's text is taken.
struct Column {
    name: Value,
    numeric: bool,
}

/// An open file.
pub(super) struct Rows {
    reader: csv::Reader<Box<dyn Read + Send>>,
    columns: Vec<Column>,
    key: Option<usize>,
    timestamp: Option<usize>,
    row_name: Option<Value>,
    row: csv::StringRecord,
    /// rows read
    pub(super) position: u64,
}

impl Rows {
    /// Opens the file and finds the named columns.
    pub(super) fn open(config: &ReplayConfig) -> Result<Self, OpenError> {
        let of_file = |reason: String| OpenError { option: "file", reason };
        let path = &config.file;
        let file = File::open(path).map_err(|error| of_file(format!("could not open {}: {error}", path.display())))?;
        let buffered = BufReader::with_capacity(READ_BYTES, file);
        let compressed = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        let plain: Box<dyn Read + Send> = if compressed {
            Box::new(MultiGzDecoder::new(buffered))
        } else {
            Box::new(buffered)
        };
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(READ_BYTES).from_reader(plain);
        let headers = reader
            .headers()
            .map_err(|error| of_file(format!("could not read the header line: {error}")))?;
        let names: Vec<String> = headers.iter().map(str::to_owned).collect();
        let find = |option: &'static str, name: &str| {
            names.iter().position(|column| column == name).ok_or_else(|| OpenError {
                option,
                reason: format!(
                    "{} has no column {name}; its columns are {}",
                    path.display(),
                    names.join(", ")
                ),
            })
        };
        for name in &config.numeric_fields {
            find("fields.numeric", name)?;
        }
        Ok(Self {
            key: config
                .key_field
                .as_deref()
                .map(|name| find("key.field", name))
                .transpose()?,
            timestamp: config
                .timestamp_field
                .as_deref()
                .map(|name| find("timestamp.field", name))
                .transpose()?,
            row_name: config.row_field.as_ref().map(|name| Value::String(Arc::clone(name))),
            columns: names
                .iter()
                .map(|name| Column {
                    name: Value::from(name.as_str()),
                    numeric: config.numeric_fields.contains(name),
                })
                .collect(),
            reader,
            row: csv::StringRecord::new(),
            position: 0,
        })
    }

    /// Leaves out rows until `position` are read; false where the file has fewer.
    pub(super) fn skip_to(&mut self, position: u64) -> Result<bool, ConnectError> {
        while self.position < position {
            if !self.advance()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn advance(&mut self) -> Result<bool, ConnectError> {
        let read = self
            .reader
            .read_record(&mut self.row)
            .map_err(|error| ConnectError::data(format!("row {} cannot be read: {error}", self.position)))?;
        self.position += u64::from(read);
        Ok(read)
    }

    /// The next event; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Event>, ConnectError> {
        if !self.advance()? {
            return Ok(None);
        }
        let number = self.position - 1;
        let text = |column: usize| self.row.get(column).unwrap_or_default();
        let value_of = |column: usize, numeric: bool| match numeric {
            true => numeric_value(text(column)).ok_or_else(|| {
                ConnectError::data(format!(
                    "row {number}: column {} is {:?}, not a number; take it out of fields.numeric",
                    self.columns
                        .get(column)
                        .map_or(String::new(), |column| column.name.to_string()),
                    text(column)
                ))
            }),
            false => Ok(Value::from(text(column))),
        };
        let mut entries = Vec::with_capacity(self.columns.len() + 1);
        for (index, column) in self.columns.iter().enumerate() {
            entries.push((column.name.clone(), value_of(index, column.numeric)?));
        }
        if let Some(name) = &self.row_name {
            entries.push((name.clone(), Value::Int64(i64::try_from(number).unwrap_or(i64::MAX))));
        }
        let timestamp_ms = match self.timestamp {
            None => None,
            Some(column) => Some(timestamp_ms(text(column)).ok_or_else(|| {
                ConnectError::data(format!(
                    "row {number}: timestamp.field is {:?}, neither milliseconds since the epoch nor RFC 3339",
                    text(column)
                ))
            })?),
        };
        Ok(Some(Event {
            key: self.key.map(|column| Value::from(text(column))),
            timestamp_ms,
            value: Value::Map(entries),
        }))
    }
}

fn numeric_value(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Value::Null);
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(Value::Int64(whole));
    }
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .map(Value::Float64)
}

/// Milliseconds since the epoch of a number of them, or of a time in RFC 3339 (section 5.6).
pub(super) fn timestamp_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(millis) = text.parse() {
        return Some(millis);
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten()
    };
    let is = |at: usize, allowed: &str| text.get(at..=at).is_some_and(|found| allowed.contains(found));
    if !(is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
        None => ("", rest),
    };
    if fraction.is_empty() && rest.starts_with('.') {
        return None;
    }
    let millis: i64 = fraction
        .chars()
        .chain("000".chars())
        .take(3)
        .collect::<String>()
        .parse()
        .ok()?;
    let zone_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = match zone.get(..1)? {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let two = |text: &str| {
                (text.len() == 2)
                    .then(|| text.parse::<u8>().ok())
                    .flatten()
                    .map(i64::from)
            };
            sign * (two(hours)? * 60 + two(minutes)?)
        }
    };
    let minutes = days_from_civil(year, month, day) * 1440 + hour * 60 + minute - zone_minutes;
    Some((minutes * 60 + second) * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_in_both_forms() {
        assert_eq!(timestamp_ms("1483284984000"), Some(1_483_284_984_000));
        assert_eq!(timestamp_ms("2017-01-01T15:36:24Z"), Some(1_483_284_984_000));
        assert_eq!(timestamp_ms("2017-01-01T16:36:24.5+01:00"), Some(1_483_284_984_500));
        assert_eq!(timestamp_ms("1969-12-31T23:59:59.999Z"), Some(-1));
        for wrong in [
            "",
            "2017-01-01",
            "2017-01-01T15:36:24",
            "2017-13-01T15:36:24Z",
            "2017-01-01T15:36:24.Z",
            "x",
        ] {
            assert_eq!(timestamp_ms(wrong), None, "{wrong}");
        }
    }
}
