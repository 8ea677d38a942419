//! Lists of regular expressions as Debezium reads them: separated by commas (`\,` is a comma of a pattern), each matching
//! whole names, regardless of case. Pure.

use connect_api::java_regex::JavaRegex;

/// A list of patterns.
#[derive(Debug, Clone, Default)]
pub(super) struct RegexList {
    patterns: Vec<JavaRegex>,
}

impl RegexList {
    /// Reads a list.
    ///
    /// # Errors
    /// Why a pattern is not a regular expression.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let patterns = split(text)
            .into_iter()
            .map(|pattern| {
                JavaRegex::case_insensitive(&pattern)
                    .map_err(|error| format!("{pattern} is not a regular expression: {error}"))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { patterns })
    }

    /// Whether there is no pattern.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether this list of what is wanted has `name`: it is empty, or one of its patterns matches the whole of it.
    pub(super) fn includes(&self, name: &str) -> bool {
        self.is_empty() || self.matches(name, false)
    }

    /// Whether this list of what is not wanted has `name`.
    pub(super) fn excludes(&self, name: &str) -> bool {
        self.matches(name, true)
    }

    /// A pattern that takes too many steps leaves the name out, on either list: what nobody may see stays unseen.
    fn matches(&self, name: &str, given_up: bool) -> bool {
        self.patterns.iter().any(|pattern| {
            pattern.matches(name).unwrap_or_else(|error| {
                tracing::error!(name, %error, "left out: it cannot be told whether the name is on the list");
                given_up
            })
        })
    }

    /// Patterns that match none of `names` though they are plain names: somebody expected them to be there.
    pub(super) fn plain_without_match<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a str> {
        let found = |pattern: &JavaRegex| names.iter().any(|name| pattern.matches(name).unwrap_or(true));
        self.patterns
            .iter()
            .filter(move |pattern| is_plain(pattern.as_str()) && !found(pattern))
            .map(JavaRegex::as_str)
    }
}

fn is_plain(pattern: &str) -> bool {
    let literal = pattern.replace("\\.", ".");
    literal
        .chars()
        .all(|character| character.is_alphanumeric() || matches!(character, '_' | '.' | '-' | ' '))
}

/// Cuts at commas that no backslash escapes; blanks around patterns and empty patterns are dropped.
fn split(text: &str) -> Vec<String> {
    let mut patterns = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let Some(last) = patterns.last_mut() else { break };
        match character {
            '\\' if characters.peek() == Some(&',') => {
                characters.next();
                last.push(',');
            }
            '\\' => {
                last.push('\\');
                last.extend(characters.next());
            }
            ',' => patterns.push(String::new()),
            other => last.push(other),
        }
    }
    patterns
        .into_iter()
        .map(|pattern| pattern.trim().to_owned())
        .filter(|pattern| !pattern.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_whole_names_in_any_case() {
        let list = RegexList::new(r"public\.products, inventory\.[a-c]{1\,2}").unwrap();
        assert!(list.includes("public.products"));
        assert!(list.includes("PUBLIC.Products"));
        assert!(!list.includes("public.products_old"));
        assert!(!list.includes("xpublic.products"));
        assert!(list.includes("inventory.ab"));
        assert!(!list.includes("inventory.abc"));
        let list = RegexList::new(r"public\.(?!secret)\w++").unwrap();
        assert!(list.includes("public.orders") && !list.includes("public.secrets"));
        assert!(
            RegexList::new("a,(")
                .unwrap_err()
                .contains("( is not a regular expression")
        );
        assert!(RegexList::new(" , ").unwrap().is_empty());
    }

    #[test]
    fn a_pattern_that_takes_too_long_leaves_out_what_it_is_asked_about() {
        let name = "a".repeat(60);
        let list = RegexList::new(r"(?=a)(a|a)*+b|((a+)+)+\2c").unwrap();
        assert!(!list.includes(&name) && list.excludes(&name));
    }

    #[test]
    fn a_plain_name_that_is_nowhere_is_found() {
        let list = RegexList::new(r"public\.a,public.b,public\.c.*").unwrap();
        let names = ["public.a".to_owned()];
        assert_eq!(list.plain_without_match(&names).collect::<Vec<_>>(), ["public.b"]);
    }

    proptest! {
        /// A list of plain names matches exactly these names.
        #[test]
        fn names_match_themselves(names in proptest::collection::vec("[a-z]{1,4}", 1..5), other in "[a-z]{1,4}") {
            let list = RegexList::new(&names.join(",")).unwrap();
            prop_assert_eq!(list.excludes(&other), names.contains(&other));
            for name in &names {
                prop_assert!(list.includes(&name.to_uppercase()));
            }
        }

        /// Any text is a list or an error.
        #[test]
        fn any_text_is_read(text in ".{0,40}") {
            let _ = RegexList::new(&text);
        }
    }
}
