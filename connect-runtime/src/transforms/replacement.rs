//! Replacements as Java writes them: `$1`, `${name}`, and `\` in front of a character that means itself.

use connect_api::ConnectError;
use regex::{Captures, Regex};

fn illegal(message: impl Into<String>) -> ConnectError {
    ConnectError::fatal(message).with_java_class("java.lang.IllegalArgumentException")
}

/// `text` with the first match of `regex` replaced; `text` itself without a match.
pub(super) fn replace_first(regex: &Regex, text: &str, replacement: &str) -> Result<String, ConnectError> {
    let Some(captures) = regex.captures(text) else {
        return Ok(text.to_owned());
    };
    let Some(whole) = captures.get(0) else {
        return Ok(text.to_owned());
    };
    let mut out = text.get(..whole.start()).unwrap_or_default().to_owned();
    expand(&captures, replacement, &mut out)?;
    out.push_str(text.get(whole.end()..).unwrap_or_default());
    Ok(out)
}

/// Appends the replacement with its group references resolved (`Matcher.appendReplacement`).
fn expand(captures: &Captures<'_>, replacement: &str, out: &mut String) -> Result<(), ConnectError> {
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
                    let name: String = characters.by_ref().take_while(|character| *character != '}').collect();
                    match captures.name(&name) {
                        Some(group) => out.push_str(group.as_str()),
                        None => return Err(illegal(format!("No group with name {{{name}}}"))),
                    }
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

/// Compiles a pattern that a user wrote for `option`.
pub(super) fn compile(option: &str, pattern: &str) -> Result<Regex, ConnectError> {
    Regex::new(pattern).map_err(|error| {
        ConnectError::config(format!(
            "Invalid value {pattern} for configuration {option}: Invalid regex: {error}"
        ))
    })
}

/// The same pattern, matching whole texts only.
pub(super) fn compile_whole(option: &str, pattern: &str) -> Result<Regex, ConnectError> {
    compile(option, pattern)?;
    compile(option, &format!(r"\A(?:{pattern})\z"))
}
