//! Replacements as Java writes them: `$1`, `${name}`, and `\` in front of a character that means itself.

use crate::error::ConnectError;
use fancy_regex::{Captures, Regex};

fn illegal(message: impl Into<String>) -> ConnectError {
    ConnectError::fatal(message).with_java_class("java.lang.IllegalArgumentException")
}

/// Appends the replacement with its references resolved (`Matcher.appendReplacement`). A group that took no part in the
/// match is empty.
pub(super) fn expand(
    regex: &Regex,
    captures: &Captures<'_, str>,
    replacement: &str,
    out: &mut String,
) -> Result<(), ConnectError> {
    let mut characters = replacement.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.push(
                characters
                    .next()
                    .ok_or_else(|| illegal("character to be escaped is missing"))?,
            ),
            '$' => match characters.next() {
                Some('{') => {
                    let name: String = std::iter::from_fn(|| characters.next_if(char::is_ascii_alphanumeric)).collect();
                    if name.is_empty() {
                        return Err(illegal("named capturing group has 0 length name"));
                    }
                    if characters.next() != Some('}') {
                        return Err(illegal("named capturing group is missing trailing '}'"));
                    }
                    if name.starts_with(|first: char| first.is_ascii_digit()) {
                        return Err(illegal(format!(
                            "capturing group name {{{name}}} starts with digit character"
                        )));
                    }
                    if !regex.capture_names().flatten().any(|known| known == name) {
                        return Err(illegal(format!("No group with name {{{name}}}")));
                    }
                    out.push_str(captures.name(&name).map_or("", |found| found.as_str()));
                }
                Some(first) if first.is_ascii_digit() => {
                    let mut group = first as usize - '0' as usize;
                    if group >= captures.len() {
                        return Err(ConnectError::fatal(format!("No group {group}"))
                            .with_java_class("java.lang.IndexOutOfBoundsException"));
                    }
                    while let Some(digit) = characters.peek().and_then(|next| next.to_digit(10)) {
                        let longer = group * 10 + digit as usize;
                        if longer >= captures.len() {
                            break;
                        }
                        group = longer;
                        characters.next();
                    }
                    out.push_str(captures.get(group).map_or("", |found| found.as_str()));
                }
                Some(_) => return Err(illegal("Illegal group reference")),
                None => return Err(illegal("Illegal group reference: group index is missing")),
            },
            plain => out.push(plain),
        }
    }
    Ok(())
}
