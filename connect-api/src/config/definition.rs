//! The declaration of options.

use super::parse::ParsedValue;
use indexmap::IndexMap;
use std::sync::Arc;

/// Type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it all
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl ConfigType {
    /// Upper-case name, as in REST.
    pub fn name(self) -> &'static str {
        match self {
            ConfigType::Boolean => "BOOLEAN",
            ConfigType::String => "STRING",
            ConfigType::Int => "INT",
            ConfigType::Short => "SHORT",
            ConfigType::Long => "LONG",
            ConfigType::Double => "DOUBLE",
            ConfigType::List => "LIST",
            ConfigType::Class => "CLASS",
            ConfigType::Password => "PASSWORD",
        }
    }
}

/// How much an option matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Importance {
    High,
    Medium,
    Low,
}

impl Importance {
    /// Upper-case name, as in REST.
    pub fn name(self) -> &'static str {
        match self {
            Importance::High => "HIGH",
            Importance::Medium => "MEDIUM",
            Importance::Low => "LOW",
        }
    }
}

/// How wide a form should show an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Width {
    None,
    Short,
    Medium,
    Long,
}

impl Width {
    /// Upper-case name, as in REST.
    pub fn name(self) -> &'static str {
        match self {
            Width::None => "NONE",
            Width::Short => "SHORT",
            Width::Medium => "MEDIUM",
            Width::Long => "LONG",
        }
    }
}

/// What holds where an option is not given.
#[derive(Debug, Clone, PartialEq)]
pub enum Default {
    /// it must be given
    Required,
    /// nothing holds (Java's null)
    Null,
    /// this text, parsed like a given one
    Text(String),
}

/// A function that checks a parsed value: option name, value; the error is the whole message.
pub type Check = Arc<dyn Fn(&str, &ParsedValue) -> Result<(), String> + Send + Sync>;

/// Checks a parsed value.
#[derive(Clone)]
pub enum Validator {
    /// a number from the first to the second, inclusive
    Between(f64, f64),
    /// a number not below
    AtLeast(f64),
    /// one of these texts
    In(Vec<&'static str>),
    /// one of these texts in any case
    CaseInsensitiveIn(Vec<&'static str>),
    /// not null
    NonNull,
    /// not empty and not only blanks
    NonEmptyString,
    /// not empty, no control characters
    NonEmptyStringWithoutControlChars,
    /// a list without duplicates and empty elements; may be empty, may be null
    AnyNonDuplicateValues {
        /// whether the empty list passes
        empty_allowed: bool,
        /// whether null passes
        null_allowed: bool,
    },
    /// a list of these values
    ListIn {
        /// the allowed elements
        values: Vec<&'static str>,
        /// whether the empty list passes
        empty_allowed: bool,
    },
    /// a list of at most so many elements
    ListSize(usize),
    /// all of these, in order
    All(Vec<Validator>),
    /// any other rule, with a description for docs pages
    Custom(&'static str, Check),
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.describe())
    }
}

/// One option.
#[derive(Debug, Clone)]
pub struct ConfigKey {
    /// name as the user writes it
    pub name: String,
    /// type of its value
    pub config_type: ConfigType,
    /// what holds without it
    pub default: Default,
    /// check of the parsed value
    pub validator: Option<Validator>,
    /// importance
    pub importance: Importance,
    /// documentation: what it does, its unit, what follows from it
    pub documentation: String,
    /// group in forms and pages
    pub group: Option<String>,
    /// place in its group, from 1; -1 without a group
    pub order: i32,
    /// width in forms
    pub width: Width,
    /// name in forms
    pub display_name: String,
    /// options whose meaning depends on this one
    pub dependents: Vec<String>,
    /// values to offer
    pub recommended: Vec<String>,
    /// why nothing comes of setting it, where it is accepted only because other workers know it
    pub without_effect: Option<&'static str>,
}

impl ConfigKey {
    /// A required option without documentation; the methods below complete it.
    pub fn new(name: impl Into<String>, config_type: ConfigType) -> Self {
        let name = name.into();
        Self {
            display_name: name.clone(),
            name,
            config_type,
            default: Default::Required,
            validator: None,
            importance: Importance::Medium,
            documentation: String::new(),
            group: None,
            order: -1,
            width: Width::None,
            dependents: Vec::new(),
            recommended: Vec::new(),
            without_effect: None,
        }
    }

    /// What holds where it is not given.
    pub fn default(mut self, text: impl Into<String>) -> Self {
        self.default = Default::Text(text.into());
        self
    }

    /// Nothing holds where it is not given.
    pub fn default_null(mut self) -> Self {
        self.default = Default::Null;
        self
    }

    /// A check of the parsed value.
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validator = Some(validator);
        self
    }

    /// Importance.
    pub fn importance(mut self, importance: Importance) -> Self {
        self.importance = importance;
        self
    }

    /// Documentation.
    pub fn doc(mut self, documentation: impl Into<String>) -> Self {
        self.documentation = documentation.into();
        self
    }

    /// It is accepted, and nothing comes of it; whoever sets it is told so. `reason` is a clause.
    pub fn without_effect(mut self, reason: &'static str) -> Self {
        self.documentation = format!("Accepted, without effect: {reason}.");
        self.without_effect = Some(reason);
        self
    }

    /// Group, place in it (from 1) and width in forms.
    pub fn group(mut self, group: impl Into<String>, order: i32, width: Width) -> Self {
        self.group = Some(group.into());
        self.order = order;
        self.width = width;
        self
    }

    /// Width in forms, of an option without a group.
    pub fn width(mut self, width: Width) -> Self {
        self.width = width;
        self
    }

    /// Name in forms.
    pub fn display_name(mut self, name: impl Into<String>) -> Self {
        self.display_name = name.into();
        self
    }

    /// Values to offer.
    pub fn recommend(mut self, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.recommended = values.into_iter().map(Into::into).collect();
        self
    }

    /// Options whose meaning depends on this one.
    pub fn dependents(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.dependents = names.into_iter().map(Into::into).collect();
        self
    }
}

/// What has become of a name that an option had once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Former {
    /// the option goes by this name now
    Renamed(String),
    /// there is no such option any more: what to do instead
    Removed(String),
}

/// Options in the order of their definition.
#[derive(Debug, Clone, std::default::Default)]
pub struct ConfigDef {
    keys: IndexMap<String, ConfigKey>,
    former: IndexMap<String, Former>,
    understood: Vec<String>,
    read_prefixes: Vec<String>,
    /// options of the framework that their owner does not read, with the reason
    ignored: IndexMap<String, String>,
}

impl ConfigDef {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an option; a later definition of the same name takes the place of the earlier.
    pub fn define(mut self, key: ConfigKey) -> Self {
        self.keys.insert(key.name.clone(), key);
        self
    }

    /// `former` is a name that the option `name` had in earlier versions: it is refused, with `name`.
    pub fn renamed(mut self, former: impl Into<String>, name: impl Into<String>) -> Self {
        self.former.insert(former.into(), Former::Renamed(name.into()));
        self
    }

    /// `former` was an option in earlier versions, and is none any more: it is refused. `advice` is a clause that says
    /// what to do instead.
    pub fn removed(mut self, former: impl Into<String>, advice: impl Into<String>) -> Self {
        self.former.insert(former.into(), Former::Removed(advice.into()));
        self
    }

    /// `name` is understood though it is not defined: the plugin refuses it, or knows that what it asks for holds anyway.
    pub fn understands(mut self, name: impl Into<String>) -> Self {
        self.understood.push(name.into());
        self
    }

    /// Options below `prefix` are read though they are not defined one by one.
    pub fn reads_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.read_prefixes.push(prefix.into());
        self
    }

    /// The framework's option `name`, and what lies below it, is not read by this connector; whoever sets it is told so.
    /// `reason` is a clause.
    pub fn ignores(mut self, name: impl Into<String>, reason: impl Into<String>) -> Self {
        self.ignored.insert(name.into(), reason.into());
        self
    }

    /// Why the option `name` is not read, if this definition says so.
    pub fn ignored(&self, name: &str) -> Option<&str> {
        let below = |option: &str| {
            name.strip_prefix(option)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let found = self.ignored.iter().find(|(option, _)| below(option));
        found.map(|(_, reason)| reason.as_str())
    }

    /// Adds all options of `other`, their names prefixed by `prefix`, under `group`; former names likewise.
    pub fn embed(mut self, prefix: &str, group: Option<&str>, other: ConfigDef) -> Self {
        for (name, mut key) in other.keys {
            key.name = format!("{prefix}{name}");
            key.dependents = key
                .dependents
                .iter()
                .map(|dependent| format!("{prefix}{dependent}"))
                .collect();
            if let Some(group) = group {
                key.group = Some(group.to_owned());
            }
            self.keys.insert(key.name.clone(), key);
        }
        self.former.extend(other.former.into_iter().map(|(name, former)| {
            let former = match former {
                Former::Renamed(successor) => Former::Renamed(format!("{prefix}{successor}")),
                removed => removed,
            };
            (format!("{prefix}{name}"), former)
        }));
        let prefixed = |names: Vec<String>| names.into_iter().map(|name| format!("{prefix}{name}"));
        self.understood.extend(prefixed(other.understood));
        self.read_prefixes.extend(prefixed(other.read_prefixes));
        self
    }

    /// This definition, with the former names, the prefixes and what is understood of `other`.
    pub fn with_former_names_of(mut self, other: &ConfigDef) -> Self {
        self.former.extend(other.former.clone());
        self.understood.extend(other.understood.iter().cloned());
        self.read_prefixes.extend(other.read_prefixes.iter().cloned());
        self
    }

    /// What has become of `name`, if it was an option once.
    pub(super) fn former(&self, name: &str) -> Option<&Former> {
        self.former.get(name)
    }

    /// Names of the options that are understood without being defined.
    pub(super) fn understood(&self) -> &[String] {
        &self.understood
    }

    /// Whether `name` lies below a prefix whose options are read.
    pub fn reads_below(&self, name: &str) -> bool {
        self.read_prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    /// The options in order.
    pub fn keys(&self) -> impl Iterator<Item = &ConfigKey> {
        self.keys.values()
    }

    /// The option called `name`.
    pub fn key(&self, name: &str) -> Option<&ConfigKey> {
        self.keys.get(name)
    }

    /// Names of the groups, in order of first use.
    pub fn groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::new();
        for group in self.keys.values().filter_map(|key| key.group.as_ref()) {
            if !groups.contains(group) {
                groups.push(group.clone());
            }
        }
        groups
    }
}
