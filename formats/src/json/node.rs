//! JSON text into nodes, with the reading rules of the Jackson parser that a Java worker uses (contract 5.2, B.34-35):
//! leading zeros are allowed, numbers with a fraction or exponent keep their digits, of duplicate names the last wins,
//! content behind the first value is ignored, a byte order mark and UTF-16/32 text are understood.

use num_bigint::BigInt;
use std::borrow::Cow;
use std::ops::Range;

/// Values nested deeper than this are refused (Jackson's default).
const MAX_DEPTH: usize = 500;
/// Numbers longer than this are refused (Jackson's default).
const MAX_NUMBER_LENGTH: usize = 1000;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    /// there was no value: empty or blank input
    Missing,
    Null,
    Boolean(bool),
    Integer(i64),
    /// beyond 64 bits
    BigInteger(BigInt),
    /// digits as written: a fraction or an exponent is there
    Decimal(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// members in the order of first appearance
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// Name of the node's type, as Jackson's `JsonNodeType` prints it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Node::Missing => "MISSING",
            Node::Null => "NULL",
            Node::Boolean(_) => "BOOLEAN",
            Node::Integer(_) | Node::BigInteger(_) | Node::Decimal(_) => "NUMBER",
            Node::String(_) => "STRING",
            Node::Array(_) => "ARRAY",
            Node::Object(_) => "OBJECT",
        }
    }

    /// The member called `name`, if this is an object that has it.
    pub(super) fn member(&self, name: &str) -> Option<&Node<'a>> {
        match self {
            Node::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Node::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Text of `bytes`, whatever Unicode form they have; `None` if they have none.
pub(super) fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let utf16 = |bytes: &[u8], big: bool| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|pair| {
            if big {
                u16::from_be_bytes(*pair)
            } else {
                u16::from_le_bytes(*pair)
            }
        });
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.ok().filter(|_| rest.is_empty()).map(Cow::Owned)
    };
    let utf32 = |bytes: &[u8], big: bool| {
        let (quads, rest) = bytes.as_chunks::<4>();
        let units = quads.iter().map(|quad| {
            if big {
                u32::from_be_bytes(*quad)
            } else {
                u32::from_le_bytes(*quad)
            }
        });
        let text: Option<String> = units.map(char::from_u32).collect();
        text.filter(|_| rest.is_empty()).map(Cow::Owned)
    };
    match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => std::str::from_utf8(rest).ok().map(Cow::Borrowed),
        [0, 0, 0xFE, 0xFF, rest @ ..] => utf32(rest, true),
        [0xFF, 0xFE, 0, 0, rest @ ..] => utf32(rest, false),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, true),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, false),
        [0, 0, 0, _, ..] => utf32(bytes, true),
        [first, 0, 0, 0, ..] if *first != 0 => utf32(bytes, false),
        [0, second, ..] if *second != 0 => utf16(bytes, true),
        [first, 0, ..] if *first != 0 => utf16(bytes, false),
        _ => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
    }
}

/// What is wrong with a text, and at which byte.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SyntaxError {
    pub(super) reason: &'static str,
    pub(super) at: usize,
}

/// Reads the first JSON value of `text`.
pub(super) fn parse(text: &str) -> Result<Node<'_>, SyntaxError> {
    Ok(parse_with_spans(text)?.0)
}

/// Reads the first JSON value of `text`; where it is an object, also says where the values of its members lie.
pub(super) fn parse_with_spans(text: &str) -> Result<(Node<'_>, Vec<Range<usize>>), SyntaxError> {
    let mut parser = Parser {
        text,
        at: 0,
        spans: Vec::new(),
    };
    parser.skip_blanks();
    if parser.peek().is_none() {
        return Ok((Node::Missing, Vec::new()));
    }
    let is_scalar = !matches!(parser.peek(), Some(b'{' | b'[' | b'"'));
    let node = parser.value(0)?;
    if is_scalar && !matches!(parser.peek(), None | Some(b' ' | b'\t' | b'\n' | b'\r')) {
        return Err(parser.error("unexpected character behind the value"));
    }
    Ok((node, parser.spans))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    spans: Vec<Range<usize>>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, reason: &'static str) -> SyntaxError {
        SyntaxError { reason, at: self.at }
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte that is not blank.
    fn token(&mut self) -> Result<u8, SyntaxError> {
        self.skip_blanks();
        self.peek().ok_or_else(|| self.error("unexpected end"))
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        match self.token()? {
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => Ok(Node::String(self.string()?)),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Node::Boolean(true)),
            b'f' => self.word("false", Node::Boolean(false)),
            b'n' => self.word("null", Node::Null),
            _ => Err(self.error("expected a value")),
        }
    }

    fn word(&mut self, word: &str, node: Node<'a>) -> Result<Node<'a>, SyntaxError> {
        let end = self.at + word.len();
        let followed = self.text.as_bytes().get(end).copied();
        if self.text.get(self.at..end) != Some(word)
            || followed.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$')
        {
            return Err(self.error("unrecognized token"));
        }
        self.at = end;
        Ok(node)
    }

    fn array(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.at += 1;
        let mut elements = Vec::new();
        if self.token()? == b']' {
            self.at += 1;
            return Ok(Node::Array(elements));
        }
        loop {
            elements.push(self.value(depth)?);
            match self.token()? {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(Node::Array(elements));
                }
                _ => return Err(self.error("expected a comma or the end of the array")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
        let mut index: Option<std::collections::HashMap<String, usize>> = None;
        if self.token()? == b'}' {
            self.at += 1;
            return Ok(Node::Object(members));
        }
        loop {
            if self.token()? != b'"' {
                return Err(self.error("expected a member's name"));
            }
            let name = self.string()?;
            if self.token()? != b':' {
                return Err(self.error("expected a colon"));
            }
            self.at += 1;
            self.skip_blanks();
            let start = self.at;
            let value = self.value(depth)?;
            let known = match &index {
                Some(index) => index.get(name.as_ref()).copied(),
                None => members.iter().position(|(key, _)| *key == name),
            };
            match known.and_then(|known| members.get_mut(known).map(|member| (known, member))) {
                Some((known, member)) => {
                    member.1 = value;
                    if depth == 1
                        && let Some(span) = self.spans.get_mut(known)
                    {
                        *span = start..self.at;
                    }
                }
                None => {
                    if let Some(index) = &mut index {
                        index.insert(name.to_string(), members.len());
                    }
                    members.push((name, value));
                    if depth == 1 {
                        self.spans.push(start..self.at);
                    }
                    if members.len() == 32 {
                        // a scan of the members would cost more than a map from here on
                        index = Some(
                            members
                                .iter()
                                .enumerate()
                                .map(|(at, (key, _))| (key.to_string(), at))
                                .collect(),
                        );
                    }
                }
            }
            match self.token()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(Node::Object(members));
                }
                _ => return Err(self.error("expected a comma or the end of the object")),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek().ok_or_else(|| self.error("unexpected end in a string"))? {
                b'"' => {
                    let text = self.slice(start, self.at);
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                b'\\' => break,
                0..=0x1F => return Err(self.error("unescaped control character in a string")),
                _ => self.at += 1,
            }
        }
        let mut text = self.slice(start, self.at).to_owned();
        loop {
            let from = self.at;
            match self.peek().ok_or_else(|| self.error("unexpected end in a string"))? {
                b'"' => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                b'\\' => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                0..=0x1F => return Err(self.error("unescaped control character in a string")),
                _ => {
                    while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1F)) {
                        self.at += 1;
                    }
                    text.push_str(self.slice(from, self.at));
                }
            }
        }
    }

    /// What stands behind a backslash. An unpaired surrogate, which no UTF-8 text can hold, becomes U+FFFD.
    fn escape(&mut self) -> Result<char, SyntaxError> {
        let kind = self.peek().ok_or_else(|| self.error("unexpected end in an escape"))?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex4()?;
                if (0xD800..0xDC00).contains(&unit) && self.slice(self.at, self.at + 2) == "\\u" {
                    let back = self.at;
                    self.at += 2;
                    let low = self.hex4()?;
                    if (0xDC00..0xE000).contains(&low) {
                        let code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = back;
                }
                char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(self.error("unrecognized escape")),
        })
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.slice(self.at, self.at + 4);
        if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.error("expected four hexadecimal digits"));
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.error("expected four hexadecimal digits"))
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Node<'a>, SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.digits() == 0 {
            return Err(self.error("expected a digit"));
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.error("expected a digit behind the point"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            whole = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.error("expected a digit in the exponent"));
            }
        }
        let text = self.slice(start, self.at);
        if text.len() > MAX_NUMBER_LENGTH {
            return Err(self.error("number too long"));
        }
        if !whole {
            return Ok(Node::Decimal(text));
        }
        match text.parse::<i64>() {
            Ok(number) => Ok(Node::Integer(number)),
            Err(_) => text
                .parse()
                .map(Node::BigInteger)
                .map_err(|_| self.error("not a number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duplicates_keep_their_place_and_their_last_value() {
        let (node, spans) = parse_with_spans(r#"{"a":1,"b":[2],"a":3}"#).unwrap();
        assert_eq!(node.member("a"), Some(&Node::Integer(3)));
        assert_eq!(spans, vec![19..20, 11..14]);
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_both_accept(text in r#"[\[\]{}:,"a0-9.eE+ \\u-]{0,24}"#) {
            if let Ok(expected) = serde_json::from_str::<serde_json::Value>(&text) {
                prop_assert!(same(&parse(&text).unwrap(), &expected), "{text}");
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(text) = decode(&bytes) {
                let _ = parse(&text);
            }
        }
    }

    fn same(node: &Node<'_>, value: &serde_json::Value) -> bool {
        match (node, value) {
            (Node::Null, serde_json::Value::Null) => true,
            (Node::Boolean(a), serde_json::Value::Bool(b)) => a == b,
            (Node::String(a), serde_json::Value::String(b)) => a == b,
            (Node::Integer(a), serde_json::Value::Number(b)) => b.as_i64() == Some(*a) || b.as_f64() == Some(*a as f64),
            (Node::Decimal(a), serde_json::Value::Number(b)) => a.parse::<f64>().ok() == b.as_f64(),
            (Node::BigInteger(_), serde_json::Value::Number(_)) => true,
            (Node::Array(a), serde_json::Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Node::Object(a), serde_json::Value::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(key, value)| b.get(key.as_ref()).is_some_and(|b| same(value, b)))
            }
            _ => false,
        }
    }
}
