//! One pass over a JSON document (RFC 8259): all of it is validated, and the values at the needed paths are put into
//! registers. Text without escapes stays where it is; text with escapes is unescaped into the arena when it is needed.
//! A member that comes twice counts as it came last. A number beyond the range of doubles is a missing value.

// The scanner reads one byte at a time at positions that it has just compared with the length.
#![allow(clippy::indexing_slicing)]

use super::EventError;
use super::field_paths::FieldPaths;
use super::number::Decimal;
use crate::slot::{Slot, TextRef};

/// Nesting that is followed; a document that is deeper is refused, as the stack is finite.
const DEEPEST: u32 = 127;

/// Scans `value` into `registers`, which hold [`Slot::Missing`] where a path is absent. Gives the value as text.
pub(crate) fn scan<'a>(
    value: &'a [u8],
    paths: &FieldPaths,
    registers: &mut [Slot],
    arena: &mut String,
) -> Result<&'a str, EventError> {
    if value.len() > u32::MAX as usize {
        return Err(EventError::Json {
            position: 0,
            reason: "longer than 4 GiB",
        });
    }
    let text = std::str::from_utf8(value).map_err(|error| EventError::Json {
        position: error.valid_up_to(),
        reason: "not valid UTF-8",
    })?;
    let mut scanner = Scanner {
        text,
        bytes: value,
        at: 0,
        depth: 0,
        paths,
        registers,
        arena,
    };
    scanner.document()?;
    Ok(text)
}

struct Scanner<'a, 's> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    paths: &'s FieldPaths,
    registers: &'s mut [Slot],
    arena: &'s mut String,
}

/// The node of a value that no path leads to.
const UNWANTED: Option<u32> = None;

type Scan<T> = Result<T, EventError>;

impl Scanner<'_, '_> {
    fn document(&mut self) -> Scan<()> {
        self.skip_space();
        self.value(Some(0))?;
        self.skip_space();
        if self.at < self.bytes.len() {
            self.fail("expected the end of the document")
        } else {
            Ok(())
        }
    }

    fn value(&mut self, node: Option<u32>) -> Scan<()> {
        let value = match self.peek() {
            Some(b'"') => match node {
                Some(node) if self.paths.is_wanted(node) => self.wanted_text()?,
                _ => {
                    self.string()?;
                    Slot::Missing
                }
            },
            Some(b'-' | b'0'..=b'9') => self.number(node.is_some())?,
            Some(b'{') => return self.object(node),
            Some(b'[') => self.array()?,
            Some(b't') => self.word(b"true", Slot::Bool(true))?,
            Some(b'f') => self.word(b"false", Slot::Bool(false))?,
            Some(b'n') => self.word(b"null", Slot::Missing)?,
            Some(_) => return self.fail("expected a value"),
            None => return self.fail("expected a value, found the end"),
        };
        if let Some(node) = node {
            self.paths.set(node, value, self.registers);
        }
        Ok(())
    }

    fn object(&mut self, node: Option<u32>) -> Scan<()> {
        if let Some(node) = node {
            self.paths.set(node, Slot::Object, self.registers);
        }
        self.enter()?;
        if self.peek() == Some(b'}') {
            return self.leave();
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fail("expected a member name");
            }
            let member = self.member_name(node)?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.fail("expected ':' after a member name");
            }
            self.at += 1;
            self.skip_space();
            self.value(member)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => return self.leave(),
                _ => return self.fail("expected ',' or '}'"),
            }
            self.skip_space();
        }
    }

    /// Reads a member's name and finds its node.
    fn member_name(&mut self, node: Option<u32>) -> Scan<Option<u32>> {
        let (start, end, escaped) = self.string()?;
        let Some(node) = node else { return Ok(UNWANTED) };
        if !escaped {
            return Ok(self.paths.member(node, &self.bytes[start..end]));
        }
        let unescaped = self.arena.len();
        unescape(&self.text[start..end], self.arena);
        let member = self.paths.member(node, &self.arena.as_bytes()[unescaped..]);
        self.arena.truncate(unescaped);
        Ok(member)
    }

    fn array(&mut self) -> Scan<Slot> {
        self.enter()?;
        let mut elements = 0;
        if self.peek() == Some(b']') {
            self.leave()?;
            return Ok(Slot::List(0));
        }
        loop {
            self.value(UNWANTED)?;
            elements += 1;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.leave()?;
                    return Ok(Slot::List(elements));
                }
                _ => return self.fail("expected ',' or ']'"),
            }
            self.skip_space();
        }
    }

    fn enter(&mut self) -> Scan<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.fail("nested deeper than 127 levels");
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn leave(&mut self) -> Scan<()> {
        self.depth -= 1;
        self.at += 1;
        Ok(())
    }

    fn wanted_text(&mut self) -> Scan<Slot> {
        let (start, end, escaped) = self.string()?;
        if !escaped {
            return Ok(Slot::Text(TextRef::Event {
                start: start as u32,
                end: end as u32,
            }));
        }
        let from = self.arena.len() as u32;
        unescape(&self.text[start..end], self.arena);
        Ok(Slot::Text(TextRef::Arena {
            start: from,
            end: self.arena.len() as u32,
        }))
    }

    /// Reads a string; gives where its content starts and ends, and whether it has escapes.
    fn string(&mut self) -> Scan<(usize, usize, bool)> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_length(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    let end = self.at;
                    self.at += 1;
                    return Ok((start, end, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fail("a control character in a string must be escaped"),
                None => return self.fail("a string has no end"),
            }
        }
    }

    fn escape(&mut self) -> Scan<()> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let first = self.unicode_escape()?;
                match first {
                    0xD800..0xDC00 => {
                        let second = match self.bytes.get(self.at..self.at + 2) {
                            Some(b"\\u") => self.unicode_escape()?,
                            _ => return self.fail("half of a surrogate pair"),
                        };
                        if (0xDC00..0xE000).contains(&second) {
                            Ok(())
                        } else {
                            self.fail("half of a surrogate pair")
                        }
                    }
                    0xDC00..0xE000 => self.fail("half of a surrogate pair"),
                    _ => Ok(()),
                }
            }
            _ => self.fail("not a known escape"),
        }
    }

    fn unicode_escape(&mut self) -> Scan<u32> {
        match self.bytes.get(self.at + 2..self.at + 6).and_then(hexadecimal) {
            Some(code) => {
                self.at += 6;
                Ok(code)
            }
            None => self.fail("expected four hexadecimal digits after \\u"),
        }
    }

    fn number(&mut self, wanted: bool) -> Scan<Slot> {
        let start = self.at;
        let mut decimal = Decimal {
            negative: false,
            mantissa: 0,
            digits: 0,
            exponent: 0,
        };
        if self.peek() == Some(b'-') {
            decimal.negative = true;
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(&mut decimal),
            _ => return self.fail("expected a digit"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            let fraction = self.at;
            self.digits(&mut decimal);
            if self.at == fraction {
                return self.fail("expected a digit after the point");
            }
            decimal.exponent -= i32::try_from(self.at - fraction).unwrap_or(i32::MAX);
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            let exponent = self.exponent()?;
            decimal.exponent = decimal.exponent.saturating_add(exponent);
        }
        if !wanted {
            return Ok(Slot::Missing);
        }
        Ok(decimal
            .to_number(&self.text[start..self.at])
            .map_or(Slot::Missing, Slot::from))
    }

    fn digits(&mut self, decimal: &mut Decimal) {
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            decimal.mantissa = decimal.mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            // Leading zeros are not significant.
            if decimal.mantissa != 0 || decimal.digits != 0 {
                decimal.digits += 1;
            }
            self.at += 1;
        }
    }

    fn exponent(&mut self) -> Scan<i32> {
        let negative = self.peek() == Some(b'-');
        if let Some(b'-' | b'+') = self.peek() {
            self.at += 1;
        }
        let start = self.at;
        let mut exponent = 0i32;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == start {
            return self.fail("expected a digit in the exponent");
        }
        Ok(if negative { -exponent } else { exponent })
    }

    fn word(&mut self, word: &[u8], value: Slot) -> Scan<Slot> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(value);
        }
        self.fail("expected true, false or null")
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn fail<T>(&self, reason: &'static str) -> Scan<T> {
        Err(EventError::Json {
            position: self.at,
            reason,
        })
    }
}

/// Number of leading bytes that are neither a quote, a backslash nor a control character, eight at a time: a byte of
/// `(x - n) & !x & 0x80` is set where x is below n, exactly so up to and including the lowest such byte.
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let mut length = 0;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        let word = u64::from_le_bytes(eight);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = quote | backslash | below(word, 0x20);
        if found != 0 {
            return length + (found.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length
        + chunks
            .remainder()
            .iter()
            .take_while(|b| **b >= 0x20 && **b != b'"' && **b != b'\\')
            .count()
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0, |code, digit| Some(code * 16 + (*digit as char).to_digit(16)?))
}

/// Appends `text`, whose escapes are known to be valid, to `out`.
fn unescape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let bytes = rest.as_bytes();
        let mut used = 2;
        out.push(match bytes.get(at + 1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                used = 6;
                let unit = |at: usize| bytes.get(at + 2..at + 6).and_then(hexadecimal).unwrap_or_default();
                let mut code = unit(at);
                if (0xD800..0xDC00).contains(&code) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (unit(at + 6) & 0x3FF);
                    used = 12;
                }
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            Some(other) => *other as char,
            None => char::REPLACEMENT_CHARACTER,
        });
        rest = rest.get(at + used..).unwrap_or_default();
    }
    out.push_str(rest);
}
