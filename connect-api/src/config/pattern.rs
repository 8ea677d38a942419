//! Options that hold a regular expression of Java.

use super::{ParsedValue, Validator};
use crate::error::ConnectError;
use crate::java_regex::JavaRegex;
use std::sync::Arc;

/// The pattern that a user wrote for `option`.
///
/// # Errors
/// It is none; the option is named.
pub fn java_regex(option: &str, pattern: &str) -> Result<JavaRegex, ConnectError> {
    JavaRegex::new(pattern).map_err(|error| ConnectError::config(invalid(option, pattern, &error)))
}

/// A text, or a list of texts, that must be regular expressions.
pub fn regex_validator() -> Validator {
    Validator::Custom(
        "valid regex",
        Arc::new(|option, value| {
            let patterns = match value {
                ParsedValue::String(pattern) => std::slice::from_ref(pattern),
                ParsedValue::List(patterns) => patterns,
                _ => &[],
            };
            patterns.iter().try_for_each(|pattern| {
                let compiled = JavaRegex::new(pattern).map(drop);
                compiled.map_err(|error| invalid(option, pattern, &error))
            })
        }),
    )
}

fn invalid(option: &str, pattern: &str, error: &impl std::fmt::Display) -> String {
    format!("Invalid value {pattern} for configuration {option}: Invalid regex: {error}")
}
