//! Configuration: one declaration of an option gives its type, default, checks, documentation, REST form and docs page
//! (upstream's `ConfigDef`; contract 4.4 and 4.6).
//!
//! ```text
//! ConfigDef::new().define(ConfigKey::new("topic", ConfigType::String)...)
//!     |-- validate(&ConfigMap) -> Vec<ConfigValue>      every error, by option: REST validate, 400 answers
//!     |-- parse(&ConfigMap)    -> ParsedConfig          typed values, or the first error
//!     |-- unread(&ConfigMap)   -> Vec<UnreadOption>     names that it does not have: misspelt, of old, or of nobody
//!     `-- keys()               -> docs pages, REST definitions
//! ```

mod definition;
mod parse;
mod pattern;
mod unread;
mod validate;

pub use definition::{ConfigDef, ConfigKey, ConfigType, Default, Importance, Validator, Width};
pub use parse::{ParsedConfig, ParsedValue, split_list};
pub use pattern::{java_regex, regex_validator};
pub use unread::{UnreadOption, nearest};
pub use validate::{ConfigValue, entry};

/// Options as they were posted: text, or an explicit null.
pub type ConfigMap = indexmap::IndexMap<String, Option<String>>;

/// Options below `prefix`, with the prefix cut off.
pub fn with_prefix(config: &ConfigMap, prefix: &str) -> ConfigMap {
    config
        .iter()
        .filter_map(|(name, value)| name.strip_prefix(prefix).map(|rest| (rest.to_owned(), value.clone())))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}
