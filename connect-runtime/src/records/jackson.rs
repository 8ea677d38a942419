//! JSON bytes exactly as Jackson writes them: they are compared as bytes by compaction and by other workers.
//!
//! No blanks; text outside the basic plane as escaped surrogate pairs; hexadecimal digits in upper case; floating point
//! numbers in Java's form.

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};
use std::io::{self, Write};

/// The bytes of `value`.
pub fn to_bytes(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let mut serializer = Serializer::with_formatter(&mut bytes, Jackson);
    // writing a Value to memory has nothing that could fail: keys are strings and Vec grows
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok());
    bytes
}

struct Jackson;

impl Formatter for Jackson {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            let mut units = [0u16; 2];
            match character.encode_utf16(&mut units) {
                [unit] if *unit == 0x7f || *unit >= 0x20 => {
                    write!(writer, "{character}")?;
                }
                units => {
                    for unit in units.iter() {
                        write!(writer, "\\u{unit:04X}")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04X}"),
        }
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(java_double(value).as_bytes())
    }
}

/// `Double.toString` of Java 19 and later: shortest digits that read back as the same number, at least one after the
/// point, plain between 1e-3 and 1e7.
fn java_double(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value:?}");
    }
    let magnitude = value.abs();
    if (1e-3..1e7).contains(&magnitude) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_look_as_jackson_writes_them() {
        let value =
            serde_json::json!({"a/ü": "\u{1F600}\n\u{1f}\"\\", "n": [1.0, 1e10, 1e-5, 123456.5, null, true, -0.0]});
        assert_eq!(
            String::from_utf8(to_bytes(&value)).unwrap(),
            r#"{"a/ü":"\uD83D\uDE00\n\u001F\"\\","n":[1.0,1.0E10,1.0E-5,123456.5,null,true,-0.0]}"#
        );
    }
}
