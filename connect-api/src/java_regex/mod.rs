//! Java's regular expressions (`java.util.regex`), in which users write topic patterns, routes and lists of tables.
//!
//! ```text
//!   pattern --translate (class, property)--> the syntax of fancy-regex --> matches, find, replace_first (replacement)
//! ```
//! Java's own meaning is kept: `.` and `$` know Java's line terminators, `\d` and `(?i)` are ASCII unless `(?U)` and
//! `(?u)` say otherwise, `\Q..\E`, possessive quantifiers, look-around and classes such as `[a-z&&[^aeiou]]` work. What
//! fancy-regex cannot express is refused by name: `\X`, `\N{name}`, `\b{g}`, blocks such as `\p{InGreek}`, and a
//! look-behind whose text has no fixed length (alternatives of different lengths are fine).
//!
//! A pattern can need more steps than anyone would wait for, `(a+)+b` for one. After a million the match is given up with
//! an error that names the pattern, where Java goes on for hours.

mod class;
mod property;
mod replacement;
mod translate;

use crate::error::ConnectError;
use fancy_regex::{Captures, RegexBuilder};
use std::fmt;

/// Backtracking steps of one match.
const STEPS: usize = 1_000_000;

/// Why a text is no regular expression, in Java's words where it is Java's fault that is found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl PatternError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A compiled pattern.
#[derive(Clone)]
pub struct JavaRegex {
    pattern: String,
    /// matches anywhere
    part: fancy_regex::Regex,
    /// matches whole texts
    whole: fancy_regex::Regex,
}

impl fmt::Debug for JavaRegex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JavaRegex({:?})", self.pattern)
    }
}

impl JavaRegex {
    /// `Pattern.compile(pattern)`.
    ///
    /// # Errors
    /// What is wrong with the pattern, or which part of it is not supported.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(pattern, translate::Flags::default())
    }

    /// `Pattern.compile(pattern, CASE_INSENSITIVE)`: ASCII letters match in any case.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn case_insensitive(pattern: &str) -> Result<Self, PatternError> {
        Self::compile(
            pattern,
            translate::Flags {
                case_insensitive: true,
                ..translate::Flags::default()
            },
        )
    }

    fn compile(pattern: &str, flags: translate::Flags) -> Result<Self, PatternError> {
        let translated = translate::translate(pattern, flags)?;
        Ok(Self {
            pattern: pattern.to_owned(),
            part: build(&translated)?,
            whole: build(&format!(r"\A(?:{translated})\z"))?,
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// `Matcher.matches()`: whether the whole of `text` matches.
    ///
    /// # Errors
    /// The match takes too many steps.
    pub fn matches(&self, text: &str) -> Result<bool, ConnectError> {
        self.whole.is_match(text).map_err(|error| self.gave_up(&error))
    }

    /// `Matcher.find()`: whether a part of `text` matches.
    ///
    /// # Errors
    /// As [`Self::matches`].
    pub fn find(&self, text: &str) -> Result<bool, ConnectError> {
        self.part.is_match(text).map_err(|error| self.gave_up(&error))
    }

    /// `Matcher.replaceFirst(replacement)`: `text` with its first match replaced; `text` itself without one.
    ///
    /// # Errors
    /// A replacement that is none, or names a group that the pattern does not have; too many steps.
    pub fn replace_first(&self, text: &str, replacement: &str) -> Result<String, ConnectError> {
        let captures = self.captures(text)?;
        let Some((captures, whole)) = captures
            .as_ref()
            .and_then(|captures| Some((captures, captures.get(0)?)))
        else {
            return Ok(text.to_owned());
        };
        let mut out = text.get(..whole.start()).unwrap_or_default().to_owned();
        replacement::expand(&self.part, captures, replacement, &mut out)?;
        out.push_str(text.get(whole.end()..).unwrap_or_default());
        Ok(out)
    }

    fn captures<'t>(&self, text: &'t str) -> Result<Option<Captures<'t, str>>, ConnectError> {
        self.part.captures(text).map_err(|error| self.gave_up(&error))
    }

    fn gave_up(&self, error: &fancy_regex::Error) -> ConnectError {
        let reason = match error {
            fancy_regex::Error::RuntimeError(fancy_regex::RuntimeError::BacktrackLimitExceeded) => {
                format!("the match takes more than {STEPS} steps; avoid repetitions within repetitions")
            }
            other => other.to_string(),
        };
        ConnectError::config(format!("regular expression {}: {reason}", self.pattern))
    }
}

fn build(translated: &str) -> Result<fancy_regex::Regex, PatternError> {
    RegexBuilder::new(translated)
        .backtrack_limit(STEPS)
        .build()
        .map_err(|error| match &error {
            fancy_regex::Error::CompileError(inner)
                if matches!(
                    **inner,
                    fancy_regex::CompileError::VariableLookBehindRequiresFeature
                        | fancy_regex::CompileError::LookBehindNotConst
                ) =>
            {
                PatternError::new("a look-behind whose text has no fixed length is not supported")
            }
            other => PatternError::new(other.to_string()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_match_that_never_ends_is_given_up_by_name() {
        let regex = JavaRegex::new(r"(?=x*)(a|a)*+b|((a+)+)+\2c").unwrap();
        let error = regex.matches(&"a".repeat(60)).unwrap_err();
        assert!(
            error.message().contains("(a|a)*+b") && error.message().contains("1000000 steps"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_expressed_is_refused_by_name() {
        for (pattern, said) in [
            (r"a\Xb", r"\X"),
            (r"\N{DIGIT ONE}", r"\N"),
            (r"\b{g}", r"\b{g}"),
            (r"\p{InGreek}", "InGreek"),
            (r"(?<=a{1,3})b", "look-behind"),
            (r"\p{javaMirrored}", "javaMirrored"),
        ] {
            let error = JavaRegex::new(pattern).unwrap_err().to_string();
            assert!(
                error.contains(said) && error.contains("not supported"),
                "{pattern}: {error}"
            );
        }
    }

    proptest! {
        /// A quoted text matches itself, and nothing else.
        #[test]
        fn a_quoted_text_matches_itself(text in "[^\\\\]{0,20}", other in "[^\\\\]{0,20}") {
            let regex = JavaRegex::new(&format!(r"\Q{text}\E")).unwrap();
            prop_assert!(regex.matches(&text).unwrap());
            prop_assert_eq!(regex.matches(&other).unwrap(), text == other);
            prop_assert_eq!(regex.replace_first(&text, r"\$").unwrap(), "$");
        }

        /// Any text is a pattern or an error, and a pattern matches or not.
        #[test]
        fn any_text_is_read(pattern in r"[-\[\](){}?*+|^$.\\&:=!<>,#a-cA-CpPdDwWQEx0-9 ]{0,14}", text in "[a-c0-9 .-]{0,8}") {
            if let Ok(regex) = JavaRegex::new(&pattern) {
                let _ = regex.matches(&text);
                let _ = regex.replace_first(&text, "$1");
            }
        }
    }
}
