//! The syntax of Java's `.properties` files (`java.util.Properties.load`).
//!
//! A natural line ends at CR, LF or CRLF. A logical line may span several by an odd number of backslashes at the end.
//! Blank lines and lines whose first character is `#` or `!` are skipped; a comment is never continued. The key ends at
//! the first unescaped `=`, `:` or blank. `\uXXXX` is one UTF-16 unit; a backslash before any other character stands for
//! that character.

use indexmap::IndexMap;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// a `\u` without four hexadecimal digits
    #[error("Malformed \\uxxxx encoding.")]
    MalformedEscape,
    /// bytes that are not UTF-8, where UTF-8 is asked for
    #[error("malformed input: not UTF-8")]
    NotUtf8,
}

/// Parses a file of ISO-8859-1 bytes: the worker's own, and those of standalone connectors.
pub fn parse_latin1(bytes: &[u8]) -> Result<IndexMap<String, String>, PropertiesError> {
    parse(&bytes.iter().map(|byte| u16::from(*byte)).collect::<Vec<u16>>())
}

/// Parses a file of UTF-8 text: those that FileConfigProvider reads.
pub fn parse_utf8(bytes: &[u8]) -> Result<IndexMap<String, String>, PropertiesError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PropertiesError::NotUtf8)?;
    parse(&text.encode_utf16().collect::<Vec<u16>>())
}

const BACKSLASH: u16 = b'\\' as u16;

fn is_blank(unit: u16) -> bool {
    matches!(u8::try_from(unit), Ok(b' ' | b'\t' | 0x0c))
}

fn is_line_end(unit: u16) -> bool {
    matches!(u8::try_from(unit), Ok(b'\n' | b'\r'))
}

fn is_separator(unit: u16) -> bool {
    matches!(u8::try_from(unit), Ok(b'=' | b':'))
}

fn parse(units: &[u16]) -> Result<IndexMap<String, String>, PropertiesError> {
    let mut entries = IndexMap::new();
    for line in logical_lines(units) {
        let (key, value) = split(&line);
        entries.insert(unescape(key)?, unescape(value)?);
    }
    Ok(entries)
}

/// Logical lines without comments and blank lines; escapes are still in place, escaped line ends are gone.
fn logical_lines(units: &[u16]) -> Vec<Vec<u16>> {
    let mut lines = Vec::new();
    let mut line: Vec<u16> = Vec::new();
    let mut continued = false;
    let mut rest = units;
    while !rest.is_empty() {
        let end = rest.iter().position(|unit| is_line_end(*unit)).unwrap_or(rest.len());
        let (natural, tail) = rest.split_at(end);
        let crlf = tail.starts_with(&[13, 10]);
        let at_end_of_file = tail.is_empty();
        rest = tail.get(if crlf { 2 } else { 1 }..).unwrap_or_default();

        let start = natural
            .iter()
            .position(|unit| !is_blank(*unit))
            .unwrap_or(natural.len());
        let text = natural.get(start..).unwrap_or_default();
        if !continued {
            let comment = matches!(
                text.first().and_then(|unit| u8::try_from(*unit).ok()),
                Some(b'#' | b'!')
            );
            if text.is_empty() || comment {
                continue;
            }
        }
        let backslashes = text.iter().rev().take_while(|unit| **unit == BACKSLASH).count();
        continued = backslashes % 2 == 1;
        let kept = if continued { text.len() - 1 } else { text.len() };
        line.extend_from_slice(text.get(..kept).unwrap_or_default());
        if !continued || at_end_of_file {
            lines.push(std::mem::take(&mut line));
            continued = false;
        }
    }
    if continued {
        lines.push(line);
    }
    lines
}

/// The key and the value of a logical line.
fn split(line: &[u16]) -> (&[u16], &[u16]) {
    let mut escaped = false;
    let end = line
        .iter()
        .position(|unit| {
            if escaped {
                escaped = false;
                return false;
            }
            escaped = *unit == BACKSLASH;
            is_blank(*unit) || is_separator(*unit)
        })
        .unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    let skip_blanks = |units: &[u16]| units.iter().position(|unit| !is_blank(*unit)).unwrap_or(units.len());
    let mut value = skip_blanks(rest);
    if rest.get(value).is_some_and(|unit| is_separator(*unit)) {
        value += 1;
        value += skip_blanks(rest.get(value..).unwrap_or_default());
    }
    (key, rest.get(value..).unwrap_or_default())
}

fn unescape(text: &[u16]) -> Result<String, PropertiesError> {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(unit) = rest.next() {
        if unit != BACKSLASH {
            units.push(unit);
            continue;
        }
        let Some(escaped) = rest.next() else { break };
        units.push(match u8::try_from(escaped) {
            Ok(b'u') => {
                let mut value: u16 = 0;
                for _ in 0..4 {
                    let digit = rest
                        .next()
                        .and_then(|unit| char::from_u32(u32::from(unit)))
                        .and_then(|digit| digit.to_digit(16))
                        .and_then(|digit| u16::try_from(digit).ok())
                        .ok_or(PropertiesError::MalformedEscape)?;
                    value = value << 4 | digit;
                }
                value
            }
            Ok(b't') => 9,
            Ok(b'n') => 10,
            Ok(b'f') => 12,
            Ok(b'r') => 13,
            _ => escaped,
        });
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use proptest::prelude::*;
    use serde_json::Value;

    fn text(value: &Value) -> String {
        match value.get("string16") {
            Some(units) => {
                let units: Vec<u16> = units
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|unit| u16::try_from(unit.as_u64().unwrap()).unwrap())
                    .collect();
                String::from_utf16_lossy(&units)
            }
            None => value["string"].as_str().unwrap().to_owned(),
        }
    }

    /// What `java.util.Properties` makes of the same bytes.
    #[test]
    fn files_are_read_as_java_reads_them() {
        for line in include_str!("../../tests/vectors/properties.jsonl").lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(case["file"]["base64"].as_str().unwrap())
                .unwrap();
            let parsed = match case["mode"].as_str().unwrap() {
                "latin1-stream" => parse_latin1(&bytes),
                _ => parse_utf8(&bytes),
            };
            match case["expect"].get("entries") {
                None => assert!(parsed.is_err(), "{}", case["id"]),
                Some(entries) => {
                    let expected: IndexMap<String, String> = entries
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|pair| (text(&pair[0]), text(&pair[1])))
                        .collect();
                    assert_eq!(parsed.unwrap(), expected, "{}", case["id"]);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_latin1(&bytes);
            let _ = parse_utf8(&bytes);
        }

        #[test]
        fn plain_entries_are_read_back(key in "[a-z.]{1,12}", value in "[a-zA-Z0-9:=/][a-zA-Z0-9 :=#!/]{0,20}") {
            let parsed = parse_utf8(format!("# comment\n  {key} = {value}\n").as_bytes()).unwrap();
            prop_assert_eq!(parsed.get(&key), Some(&value));
        }
    }
}
