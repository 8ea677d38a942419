//! Classes of characters: `[a-z&&[^aeiou]]`, unions, intersections and complements, as Java nests them. Pure.

use super::PatternError;
use super::translate::{Escaped, Reader, code_point};

/// Classes nested deeper than this are refused.
const DEPTH: usize = 100;

/// Reads the class that begins here with its `[`.
pub(super) fn read(reader: &mut Reader, depth: usize) -> Result<String, PatternError> {
    let class = class(reader, depth)?;
    let flags = reader.flags;
    // letters of ASCII have been written out in both cases
    match depth == 0 && flags.case_insensitive && flags.unicode_case {
        true => Ok(format!("(?i:{class})")),
        false => Ok(class),
    }
}

fn class(reader: &mut Reader, depth: usize) -> Result<String, PatternError> {
    if depth > DEPTH {
        return Err(PatternError::new(format!(
            "classes are nested deeper than {DEPTH}: not supported"
        )));
    }
    reader.take();
    let negated = reader.take_if('^');
    let members = members(reader, depth)?;
    match reader.take_if(']') {
        true if negated => Ok(format!("[^{members}]")),
        true => Ok(format!("[{members}]")),
        false => Err(reader.error("Unclosed character class")),
    }
}

/// Members up to the closing bracket, which is left.
fn members(reader: &mut Reader, depth: usize) -> Result<String, PatternError> {
    let mut members = String::new();
    loop {
        match reader.peek() {
            Some(']') if !members.is_empty() => return Ok(members),
            Some('[') => members.push_str(&read(reader, depth + 1)?),
            Some('&') if reader.peek_second() == Some('&') => {
                reader.take();
                reader.take();
                let right = intersected(reader, depth)?;
                members = match (members.is_empty(), right.is_empty()) {
                    (true, true) => return Err(reader.error("Bad class syntax")),
                    (true, false) => right,
                    (false, true) => members,
                    (false, false) => format!("[{members}]&&[{right}]"),
                };
                // what is united with an intersection must not become a part of it
                members = format!("[{members}]");
            }
            _ => members.push_str(&member(reader)?),
        }
    }
}

/// What stands behind `&&`: everything up to the closing bracket, or to the next `&&`.
fn intersected(reader: &mut Reader, depth: usize) -> Result<String, PatternError> {
    match reader.peek() {
        Some(']' | '&') => Ok(String::new()),
        _ => members(reader, depth),
    }
}

/// One character, a range, or a class that an escape stands for.
fn member(reader: &mut Reader) -> Result<String, PatternError> {
    let Some(first) = character(reader)? else {
        return Err(reader.error("Unclosed character class"));
    };
    let low = match first {
        Escaped::Literal(low) => low,
        Escaped::Class(text) => return Ok(text),
        Escaped::Other(_) => return Err(reader.error("Illegal/unsupported escape sequence")),
    };
    let is_range = reader.peek() == Some('-') && !matches!(reader.peek_second(), Some('[' | ']') | None);
    if !is_range {
        return Ok(in_both_cases(reader, low, low));
    }
    reader.take();
    match character(reader)? {
        Some(Escaped::Literal(high)) if high >= low => Ok(in_both_cases(reader, low, high)),
        _ => Err(reader.error("Illegal character range")),
    }
}

fn character(reader: &mut Reader) -> Result<Option<Escaped>, PatternError> {
    match reader.take() {
        Some(('\\', false)) => reader.escape(true).map(Some),
        Some((character, _)) => Ok(Some(Escaped::Literal(character))),
        None => Ok(None),
    }
}

/// A range, with the other case of its ASCII letters where case does not matter.
fn in_both_cases(reader: &Reader, low: char, high: char) -> String {
    let mut text = range(low, high);
    if reader.flags.case_insensitive {
        for (first, last, shift) in [('a', 'z', -32_i32), ('A', 'Z', 32)] {
            let (from, to) = (low.max(first), high.min(last));
            let other = |letter: char| u32::from(letter).checked_add_signed(shift).and_then(char::from_u32);
            if let (true, Some(from), Some(to)) = (from <= to, other(from), other(to)) {
                text.push_str(&range(from, to));
            }
        }
    }
    text
}

fn range(low: char, high: char) -> String {
    match low == high {
        true => code_point(low),
        false => format!("{}-{}", code_point(low), code_point(high)),
    }
}
