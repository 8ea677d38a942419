//! From text to typed values.

use super::ConfigMap;
use super::definition::{ConfigDef, ConfigKey, ConfigType, Default, Validator};
use crate::error::ConnectError;
use crate::java_parse::{parse_double, trim};
use indexmap::IndexMap;

/// A typed value of an option.
#[derive(Clone, PartialEq)]
#[allow(missing_docs)] // named after the types
pub enum ParsedValue {
    Null,
    Boolean(bool),
    String(String),
    Short(i16),
    Int(i32),
    Long(i64),
    Double(f64),
    List(Vec<String>),
    Class(String),
    /// never printed
    Password(String),
}

impl ParsedValue {
    /// The text that REST shows; `None` for null; passwords are hidden.
    pub fn to_text(&self) -> Option<String> {
        match self {
            ParsedValue::Null => None,
            ParsedValue::Boolean(value) => Some(value.to_string()),
            ParsedValue::String(value) | ParsedValue::Class(value) => Some(value.clone()),
            ParsedValue::Short(value) => Some(value.to_string()),
            ParsedValue::Int(value) => Some(value.to_string()),
            ParsedValue::Long(value) => Some(value.to_string()),
            ParsedValue::Double(value) => Some(format!("{value:?}")),
            ParsedValue::List(values) => Some(values.join(",")),
            ParsedValue::Password(_) => Some(HIDDEN.to_owned()),
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            ParsedValue::Short(value) => Some(f64::from(*value)),
            ParsedValue::Int(value) => Some(f64::from(*value)),
            ParsedValue::Long(value) => Some(*value as f64),
            ParsedValue::Double(value) => Some(*value),
            _ => None,
        }
    }
}

/// What stands in the place of a password.
pub const HIDDEN: &str = "[hidden]";

impl std::fmt::Debug for ParsedValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.to_text().as_deref().unwrap_or("null"))
    }
}

/// Parses `text` as `config_type`. The error is the whole message, with the option's name.
pub(super) fn parse_text(name: &str, text: &str, config_type: ConfigType) -> Result<ParsedValue, String> {
    let trimmed = trim(text);
    let invalid = |reason: &str| format!("Invalid value {trimmed} for configuration {name}: {reason}");
    let number = |kind: &str| invalid(&format!("Not a number of type {kind}"));
    match config_type {
        ConfigType::Boolean => match trimmed.to_ascii_lowercase().as_str() {
            "true" => Ok(ParsedValue::Boolean(true)),
            "false" => Ok(ParsedValue::Boolean(false)),
            _ => Err(invalid("Expected value to be either true or false")),
        },
        ConfigType::String => Ok(ParsedValue::String(trimmed.to_owned())),
        ConfigType::Password => Ok(ParsedValue::Password(trimmed.to_owned())),
        ConfigType::Class => Ok(ParsedValue::Class(trimmed.to_owned())),
        ConfigType::Short => trimmed.parse().map(ParsedValue::Short).map_err(|_| number("SHORT")),
        ConfigType::Int => trimmed.parse().map(ParsedValue::Int).map_err(|_| number("INT")),
        ConfigType::Long => trimmed.parse().map(ParsedValue::Long).map_err(|_| number("LONG")),
        ConfigType::Double => parse_double(trimmed)
            .map(ParsedValue::Double)
            .ok_or_else(|| number("DOUBLE")),
        ConfigType::List => Ok(ParsedValue::List(
            split_list(trimmed).into_iter().map(str::to_owned).collect(),
        )),
    }
}

/// The elements of a LIST's text, without the blanks around commas; duplicates and empty elements included.
pub fn split_list(text: &str) -> Vec<&str> {
    const BLANKS: [char; 6] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];
    match trim(text) {
        "" => Vec::new(),
        text => text.split(',').map(|element| element.trim_matches(BLANKS)).collect(),
    }
}

impl ConfigKey {
    /// The value that holds where the option is not given; an error if there is none or it does not fit.
    pub(super) fn default_value(&self) -> Result<ParsedValue, String> {
        match &self.default {
            Default::Required => Err(format!(
                "Missing required configuration \"{}\" which has no default value.",
                self.name
            )),
            Default::Null => Ok(ParsedValue::Null),
            Default::Text(text) => parse_text(&self.name, text, self.config_type),
        }
    }

    pub(super) fn parse(&self, config: &ConfigMap) -> Result<ParsedValue, String> {
        match config.get(&self.name) {
            None => self.default_value(),
            Some(None) => Ok(ParsedValue::Null),
            Some(Some(text)) => parse_text(&self.name, text, self.config_type),
        }
    }
}

/// Typed values of all options of a definition.
#[derive(Debug, Clone)]
pub struct ParsedConfig {
    values: IndexMap<String, ParsedValue>,
}

impl ConfigDef {
    /// Typed values, or the first error in the order of the definition. Options that are not defined are left out.
    pub fn parse(&self, config: &ConfigMap) -> Result<ParsedConfig, ConnectError> {
        let mut values = IndexMap::new();
        for key in self.keys() {
            let mut value = key.parse(config).map_err(ConnectError::config)?;
            if let (
                ParsedValue::List(elements),
                Some(Validator::AnyNonDuplicateValues { .. } | Validator::ListIn { .. }),
            ) = (&mut value, &key.validator)
            {
                // as upstream does: validate reports duplicates, parse removes them
                let mut seen = std::collections::HashSet::new();
                elements.retain(|element| seen.insert(element.clone()));
            }
            if let Some(validator) = &key.validator {
                validator.check(&key.name, &value).map_err(ConnectError::config)?;
            }
            values.insert(key.name.clone(), value);
        }
        Ok(ParsedConfig { values })
    }
}

impl ParsedConfig {
    /// The value of an option; null where it is not defined.
    pub fn value(&self, name: &str) -> &ParsedValue {
        self.values.get(name).unwrap_or(&ParsedValue::Null)
    }

    /// Text of a STRING, CLASS or PASSWORD; `None` for null.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            ParsedValue::String(value) | ParsedValue::Class(value) | ParsedValue::Password(value) => Some(value),
            _ => None,
        }
    }

    /// A whole number; `None` for null.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            ParsedValue::Short(value) => Some(i64::from(*value)),
            ParsedValue::Int(value) => Some(i64::from(*value)),
            ParsedValue::Long(value) => Some(*value),
            _ => None,
        }
    }

    /// A DOUBLE; `None` for null.
    pub fn double(&self, name: &str) -> Option<f64> {
        self.value(name).as_number()
    }

    /// A BOOLEAN; false for null.
    pub fn boolean(&self, name: &str) -> bool {
        matches!(self.value(name), ParsedValue::Boolean(true))
    }

    /// A LIST; empty for null.
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            ParsedValue::List(values) => values,
            _ => &[],
        }
    }
}
