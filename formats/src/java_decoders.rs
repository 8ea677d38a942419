//! Bytes as `new String(bytes, UTF_8)` and UTF_16 read them. Like every decoder Java's put U+FFFD for what is malformed; how many of
//! them is their own: one for a surrogate of three bytes, one for two units of UTF-16 of which only the first is one of a pair,
//! and one for all that is left where the text ends within a character.

use std::borrow::Cow;

/// The text of units of UTF-16, without a byte order mark.
pub(super) fn utf16_text(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (units, _) = rest.as_chunks::<2>();
        let mut units = units.iter().map(|pair| unit(*pair));
        let (character, length) = match (units.next(), units.next()) {
            (Some(first @ 0xD800..=0xDBFF), Some(second)) => {
                let pair = char::decode_utf16([first, second]).next();
                (pair.and_then(Result::ok), 4)
            }
            (Some(0xD800..=0xDBFF) | None, _) => (None, rest.len()),
            (Some(first), _) => (char::from_u32(u32::from(first)), 2),
        };
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = rest.get(length..).unwrap_or_default();
    }
    text
}

/// The text of `bytes`.
pub(super) fn utf8_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(error) => {
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            let mut text = String::from_utf8_lossy(valid).into_owned();
            replace_malformed(rest, &mut text);
            Cow::Owned(text)
        }
    }
}

fn replace_malformed(mut rest: &[u8], text: &mut String) {
    while !rest.is_empty() {
        let (character, length) = first_character(rest);
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// The first character, none where it is malformed, and how many bytes go with it.
fn first_character(bytes: &[u8]) -> (Option<char>, usize) {
    let to_the_end = (None, bytes.len());
    let decoded = |length: usize| {
        let own = bytes.get(..length).and_then(|own| std::str::from_utf8(own).ok());
        (own.and_then(|own| own.chars().next()), length)
    };
    match *bytes {
        [0x00..=0x7F, ..] => decoded(1),
        [0xC2..=0xDF, second, ..] if is_continuation(second) => decoded(2),
        [0xC2..=0xDF] => to_the_end,
        [first @ 0xE0..=0xEF, second, third, ..] => match (is_second_of_three(first, second), is_continuation(third)) {
            (true, true) => decoded(3),
            (true, false) => (None, 2),
            (false, _) => (None, 1),
        },
        [first @ 0xE0..=0xEF, second] if !is_second_of_three(first, second) => (None, 1),
        [0xE0..=0xEF, ..] => to_the_end,
        [first @ 0xF0..=0xF7, second, third, fourth, ..] => {
            match (
                is_second_of_four(first, second),
                is_continuation(third),
                is_continuation(fourth),
            ) {
                (true, true, true) => decoded(4),
                (true, true, false) => (None, 3),
                (true, false, _) => (None, 2),
                (false, ..) => (None, 1),
            }
        }
        [first @ 0xF0..=0xF7, second, ..] if !is_second_of_four(first, second) => (None, 1),
        [0xF5..=0xF7] => (None, 1),
        [0xF0..=0xF7, _, third] if !is_continuation(third) => (None, 2),
        [0xF0..=0xF7, ..] => to_the_end,
        _ => (None, 1),
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// A surrogate has a second byte like any other; only what is written longer than it needs has none.
fn is_second_of_three(first: u8, second: u8) -> bool {
    is_continuation(second) && !(first == 0xE0 && second < 0xA0)
}

fn is_second_of_four(first: u8, second: u8) -> bool {
    match first {
        0xF0 => (0x90..=0xBF).contains(&second),
        0xF4 => (0x80..=0x8F).contains(&second),
        0xF1..=0xF3 => is_continuation(second),
        _ => false,
    }
}
