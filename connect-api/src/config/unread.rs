//! Options that nobody reads: names that no definition has.
//!
//! A Java worker passes over them without a word, so that a name that is misspelt, or that an option had in an earlier
//! version, leaves its default in force. Here such a name is refused with the right one; any other is worth a warning,
//! since tools add options of their own.

use super::ConfigMap;
use super::definition::{ConfigDef, Former};

/// An option that nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadOption {
    /// its name, as the user wrote it
    pub name: String,
    /// whether it was once, or nearly is, an option: then it is an error
    pub refused: bool,
    /// what to tell the user
    pub message: String,
}

impl UnreadOption {
    /// An option without effect, which is worth a warning.
    pub fn without_effect(name: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            refused: false,
            message: format!("Unknown configuration '{name}': {reason}"),
        }
    }

    /// An option that is known and accepted, and of which nothing comes, which is worth a warning. `reason` is a clause.
    pub fn known(name: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            refused: false,
            message: format!("Configuration '{name}' has no effect: {reason}"),
        }
    }

    fn refused(name: &str, reason: &str) -> Self {
        Self {
            refused: true,
            ..Self::without_effect(name, reason)
        }
    }
}

impl ConfigDef {
    /// Options of `config` that are defined, and of which nothing comes.
    pub fn without_effect(&self, config: &ConfigMap) -> Vec<UnreadOption> {
        let set = self.keys().filter(|key| config.contains_key(&key.name));
        set.filter_map(|key| Some(UnreadOption::known(&key.name, key.without_effect?)))
            .collect()
    }

    /// What is to be said of each option of `config` that this definition does not have, in the order of `config`.
    pub fn unread(&self, config: &ConfigMap) -> Vec<UnreadOption> {
        config.keys().filter_map(|name| self.unread_option(name)).collect()
    }

    /// What is to be said of `name`; `None` for an option that is defined, or that somebody reads though it is not.
    pub fn unread_option(&self, name: &str) -> Option<UnreadOption> {
        let understood = self.understood().iter().any(|known| known == name);
        if self.key(name).is_some() || understood || self.reads_below(name) {
            return None;
        }
        let names = self.keys().map(|key| &key.name).chain(self.understood());
        Some(match self.former(name) {
            Some(Former::Renamed(successor)) => UnreadOption::refused(name, &format!("its name is '{successor}' now")),
            Some(Former::Removed(advice)) => {
                UnreadOption::refused(name, &format!("it is no option any more; {advice}"))
            }
            None => match nearest(name, names.map(String::as_str)) {
                Some(nearest) => UnreadOption::refused(name, &format!("did you mean '{nearest}'?")),
                None => UnreadOption::without_effect(name, "nobody reads it, it has no effect"),
            },
        })
    }
}

/// The candidate that whoever wrote `name` most likely meant: the same words with other separators or capitals, the same
/// words in another order, all words but the last, or a slip of one letter (of two in a long name).
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (written, ordered) = (letters(name), words(name));
    let slips = if written.chars().count() < 8 { 1 } else { 2 };
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let letters = letters(candidate);
            if letters == written {
                return Some((0, candidate));
            }
            if ordered.len() > 1 && words(candidate) == ordered {
                return Some((1, candidate));
            }
            let without_last = candidate
                .rsplit_once(is_separator)
                .map(|(first, _)| self::letters(first));
            if ordered.len() > 1 && without_last.is_some_and(|first| first == written) {
                return Some((2, candidate));
            }
            let distance = strsim::osa_distance(&letters, &written);
            // a slip in a name of two letters leaves nothing of it
            (distance <= slips && letters.chars().count() > 2 * distance).then_some((distance + 1, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn letters(name: &str) -> String {
    let of_a_word = name.chars().filter(|character| !is_separator(*character));
    of_a_word.flat_map(char::to_lowercase).collect()
}

fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = name.split(is_separator).map(str::to_lowercase).collect();
    words.sort();
    words
}

fn is_separator(character: char) -> bool {
    matches!(character, '.' | '_' | '-' | ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigKey, ConfigType};
    use proptest::prelude::*;

    fn definition() -> ConfigDef {
        let key = |name: &str| ConfigKey::new(name, ConfigType::String).default("");
        ConfigDef::new()
            .define(key("table.include.list"))
            .define(key("table.exclude.list"))
            .define(key("schemas.enable"))
            .define(key("file"))
            .renamed("table.whitelist", "table.include.list")
            .removed("rest.port", "give the port in listeners")
            .understands("message.key.columns")
            .reads_prefix("driver.")
    }

    fn said(name: &str) -> Option<(bool, String)> {
        let unread = definition().unread_option(name)?;
        assert_eq!(unread.name, name);
        Some((unread.refused, unread.message))
    }

    #[test]
    fn a_name_that_was_or_nearly_is_an_option_is_refused_with_the_right_one() {
        for (name, right) in [
            ("table.whitelist", "its name is 'table.include.list' now"),
            ("rest.port", "it is no option any more; give the port in listeners"),
            ("table.inlcude.list", "did you mean 'table.include.list'?"),
            ("table_include_list", "did you mean 'table.include.list'?"),
            ("tableIncludeList", "did you mean 'table.include.list'?"),
            ("include.table.list", "did you mean 'table.include.list'?"),
            ("schema.enable", "did you mean 'schemas.enable'?"),
            ("Schemas.Enable", "did you mean 'schemas.enable'?"),
            ("flie", "did you mean 'file'?"),
            ("table.exclude", "did you mean 'table.exclude.list'?"),
            ("message.key.column", "did you mean 'message.key.columns'?"),
        ] {
            let message = format!("Unknown configuration '{name}': {right}");
            assert_eq!(said(name), Some((true, message)));
        }
    }

    #[test]
    fn any_other_name_is_a_warning_and_what_is_read_is_none() {
        for name in ["owner.of.this.connector", "filter", "table", "x", ""] {
            let message = format!("Unknown configuration '{name}': nobody reads it, it has no effect");
            assert_eq!(said(name), Some((false, message)));
        }
        assert_eq!(said("file"), None);
        assert_eq!(said("driver.anything"), None);
        assert_eq!(said("message.key.columns"), None);
    }

    #[test]
    fn names_keep_their_prefix_when_a_definition_is_embedded() {
        let embedded = ConfigDef::new().embed("value.converter.", None, definition());
        let said = |name: &str| embedded.unread_option(name).map(|unread| unread.message);
        let message = said("value.converter.table.whitelist").unwrap();
        assert!(
            message.ends_with("its name is 'value.converter.table.include.list' now"),
            "{message}"
        );
        assert_eq!(said("value.converter.driver.x"), None);
        assert_eq!(said("value.converter.message.key.columns"), None);
        assert!(said("driver.x").is_some());
    }

    proptest! {
        /// What is nearest is one of the candidates, and a candidate is nearest to itself.
        #[test]
        fn a_name_is_nearest_to_itself(names in proptest::collection::btree_set("[a-z]{1,5}(\\.[a-z]{1,5}){0,2}", 1..8)) {
            for name in &names {
                let found = nearest(name, names.iter().map(String::as_str)).unwrap();
                prop_assert!(letters(found) == letters(name), "{} {}", name, found);
            }
        }
    }
}
