//! Checks, and the answer that carries every error.

use super::ConfigMap;
use super::definition::{ConfigDef, Validator};
use super::parse::ParsedValue;

/// The outcome for one option.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigValue {
    /// option
    pub name: String,
    /// its value as REST shows it; passwords hidden
    pub value: Option<String>,
    /// values to offer
    pub recommended_values: Vec<String>,
    /// everything that is wrong with it
    pub errors: Vec<String>,
    /// whether a form should show it
    pub visible: bool,
}

impl ConfigValue {
    /// An option without errors.
    pub fn new(name: impl Into<String>, value: Option<String>) -> Self {
        Self {
            name: name.into(),
            value,
            recommended_values: Vec::new(),
            errors: Vec::new(),
            visible: true,
        }
    }
}

/// The entry for `name`, made if it is not there.
pub fn entry<'a>(values: &'a mut Vec<ConfigValue>, name: &str) -> &'a mut ConfigValue {
    let index = match values.iter().position(|value| value.name == name) {
        Some(index) => index,
        None => {
            values.push(ConfigValue::new(name, None));
            values.len() - 1
        }
    };
    #[allow(clippy::indexing_slicing)] // found or pushed just above
    &mut values[index]
}

impl ConfigDef {
    /// The outcome for every defined option, in order of definition, each with all its errors.
    pub fn validate(&self, config: &ConfigMap) -> Vec<ConfigValue> {
        self.keys()
            .map(|key| {
                let mut outcome = ConfigValue::new(&key.name, None);
                outcome.recommended_values.clone_from(&key.recommended);
                let value = key.parse(config).unwrap_or_else(|error| {
                    outcome.errors.push(error);
                    ParsedValue::Null
                });
                if let Some(Err(error)) = key
                    .validator
                    .as_ref()
                    .map(|validator| validator.check(&key.name, &value))
                {
                    outcome.errors.push(error);
                }
                outcome.value = value.to_text();
                outcome
            })
            .collect()
    }
}

impl Validator {
    /// Checks `value` of the option `name`; the error is the whole message.
    pub fn check(&self, name: &str, value: &ParsedValue) -> Result<(), String> {
        let shown = || match value {
            ParsedValue::List(elements) => format!("[{}]", elements.join(", ")),
            other => other.to_text().unwrap_or_else(|| "null".to_owned()),
        };
        // bounds print as the value's type prints
        let bound = |number: f64| match value {
            ParsedValue::Double(_) => crate::java_text::double_text(number),
            _ => number.to_string(),
        };
        let invalid = |reason: String| Err(format!("Invalid value {} for configuration {name}: {reason}", shown()));
        match self {
            Validator::Between(minimum, maximum) => match value.as_number() {
                None => invalid("Value must be non-null".to_owned()),
                Some(number) if number < *minimum => invalid(format!("Value must be at least {}", bound(*minimum))),
                Some(number) if number > *maximum => invalid(format!("Value must be no more than {}", bound(*maximum))),
                Some(_) => Ok(()),
            },
            Validator::AtLeast(minimum) => match value.as_number() {
                None => invalid("Value must be non-null".to_owned()),
                Some(number) if number < *minimum => invalid(format!("Value must be at least {}", bound(*minimum))),
                Some(_) => Ok(()),
            },
            Validator::In(allowed) => match value {
                ParsedValue::String(text) if allowed.contains(&text.as_str()) => Ok(()),
                _ => invalid(format!("String must be one of: {}", allowed.join(", "))),
            },
            Validator::CaseInsensitiveIn(allowed) => match value {
                ParsedValue::String(text) if allowed.iter().any(|one| one.eq_ignore_ascii_case(text)) => Ok(()),
                _ => invalid(format!(
                    "String must be one of (case insensitive): {}",
                    allowed.join(", ").to_uppercase()
                )),
            },
            Validator::NonNull if *value == ParsedValue::Null => invalid("entry must be non null".to_owned()),
            Validator::NonNull => Ok(()),
            Validator::NonEmptyString => match value {
                ParsedValue::String(text) if text.is_empty() => invalid("String must be non-empty".to_owned()),
                _ => Ok(()),
            },
            Validator::NonEmptyStringWithoutControlChars => match value {
                ParsedValue::String(text) if text.is_empty() => invalid("String may not be empty".to_owned()),
                ParsedValue::String(text) if text.chars().any(char::is_control) => {
                    let codes: Vec<String> = text
                        .chars()
                        .filter(|c| c.is_control())
                        .map(|c| u32::from(c).to_string())
                        .collect();
                    invalid(format!(
                        "String may not contain control sequences but had the following ASCII chars: {}",
                        codes.join(", ")
                    ))
                }
                // a missing value is the business of the required check
                _ => Ok(()),
            },
            Validator::AnyNonDuplicateValues {
                empty_allowed,
                null_allowed,
            } => match value {
                ParsedValue::Null if *null_allowed => Ok(()),
                ParsedValue::Null => Err(format!("Configuration '{name}' values must not be null.")),
                ParsedValue::List(values) if values.is_empty() && !empty_allowed => Err(format!(
                    "Configuration '{name}' must not be empty. Valid values include: {}",
                    self.describe()
                )),
                ParsedValue::List(values) => check_elements(name, values),
                _ => Ok(()),
            },
            Validator::ListIn {
                values: allowed,
                empty_allowed,
            } => match value {
                ParsedValue::List(values) if values.is_empty() && !empty_allowed => Err(format!(
                    "Configuration '{name}' must not be empty. Valid values include: {}",
                    self.describe()
                )),
                ParsedValue::List(values) => {
                    check_elements(name, values)?;
                    match values.iter().find(|element| !allowed.contains(&element.as_str())) {
                        Some(element) => Err(format!(
                            "Invalid value {element} for configuration {name}: String must be one of: {}",
                            allowed.join(", ")
                        )),
                        None => Ok(()),
                    }
                }
                _ => Ok(()),
            },
            Validator::ListSize(maximum) => match value {
                ParsedValue::List(values) if values.len() > *maximum => {
                    invalid(format!("exceeds maximum list size of [{maximum}]."))
                }
                _ => Ok(()),
            },
            Validator::All(validators) => validators.iter().try_for_each(|validator| validator.check(name, value)),
            Validator::Custom(_, check) => check(name, value),
        }
    }

    /// What passes, in words, for docs pages.
    pub fn describe(&self) -> String {
        match self {
            Validator::Between(minimum, maximum) => format!("[{minimum},...,{maximum}]"),
            Validator::AtLeast(minimum) => format!("[{minimum},...]"),
            Validator::In(allowed) => format!("[{}]", allowed.join(", ")),
            Validator::CaseInsensitiveIn(allowed) => {
                format!("(case insensitive) [{}]", allowed.join(", ").to_uppercase())
            }
            Validator::NonNull => "non-null".to_owned(),
            Validator::NonEmptyString => "non-empty string".to_owned(),
            Validator::NonEmptyStringWithoutControlChars => {
                "non-empty string without ISO control characters".to_owned()
            }
            Validator::AnyNonDuplicateValues {
                empty_allowed,
                null_allowed,
            } => {
                let mut text = if *empty_allowed {
                    "any value".to_owned()
                } else {
                    "any non-empty value".to_owned()
                };
                if *null_allowed {
                    text.push_str(" or null");
                }
                text
            }
            Validator::ListIn { values, .. } => format!("[{}]", values.join(", ")),
            Validator::ListSize(maximum) => format!("list of at most {maximum} elements"),
            Validator::All(validators) => validators
                .iter()
                .map(Validator::describe)
                .collect::<Vec<_>>()
                .join(", "),
            Validator::Custom(description, _) => (*description).to_owned(),
        }
    }
}

fn check_elements(name: &str, values: &[String]) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    if !values.iter().all(|value| seen.insert(value)) {
        return Err(format!("Configuration '{name}' values must not be duplicated."));
    }
    match values.iter().any(String::is_empty) {
        true => Err(format!("Configuration '{name}' values must not be empty.")),
        false => Ok(()),
    }
}
