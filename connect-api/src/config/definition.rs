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

    /// Group, place in it (from 1) and width in forms.
    pub fn group(mut self, group: impl Into<String>, order: i32, width: Width) -> Self {
        self.group = Some(group.into());
        self.order = order;
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

/// Options in the order of their definition.
#[derive(Debug, Clone, std::default::Default)]
pub struct ConfigDef {
    keys: IndexMap<String, ConfigKey>,
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

    /// Adds all options of `other`, their names prefixed by `prefix`, under `group`.
    pub fn embed(mut self, prefix: &str, group: Option<&str>, other: ConfigDef) -> Self {
        for (name, mut key) in other.keys {
            key.name = format!("{prefix}{name}");
            key.display_name = if key.display_name == name {
                key.name.clone()
            } else {
                key.display_name
            };
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
        self
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
