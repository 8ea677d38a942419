//! Names of fields: a plain name (V1), or dotted steps with backticks around names that hold dots (V2; KIP-821).

use super::side::{field_value, map_get, schema_field};
use connect_api::{ConnectError, Field, Schema, Struct, Value};

const PURPOSE: &str = "nested field access";

/// The way to one field.
#[derive(Debug, PartialEq)]
pub(super) struct FieldPath {
    steps: Vec<String>,
}

impl FieldPath {
    /// Reads a path in the syntax `version` (`V1` or `V2`, in any case).
    pub(super) fn new(path: &str, version: &str) -> Result<Self, ConnectError> {
        let steps = if version.eq_ignore_ascii_case("V2") {
            steps(path)?
        } else {
            vec![path.to_owned()]
        };
        Ok(Self { steps })
    }

    fn split(&self) -> Result<(&String, &[String]), ConnectError> {
        self.steps.split_last().ok_or_else(|| {
            ConnectError::fatal("fromIndex(0) > toIndex(-1)").with_java_class("java.lang.IllegalArgumentException")
        })
    }

    /// The field in a schema; `None` where a step is missing.
    pub(super) fn field<'a>(&self, schema: &'a Schema) -> Result<Option<&'a Field>, ConnectError> {
        let (last, parents) = self.split()?;
        let mut current = schema;
        for step in parents {
            match schema_field(current, step)? {
                Some(field) => current = &field.schema,
                None => return Ok(None),
            }
        }
        schema_field(current, last)
    }

    /// The field's value in a struct; null where a step is missing or null.
    pub(super) fn of_struct(&self, structure: &Struct, defaults: bool) -> Result<Value, ConnectError> {
        let (last, parents) = self.split()?;
        let mut current = structure.clone();
        for step in parents {
            match field_value(&current, step, defaults) {
                None | Some(Value::Null) => return Ok(Value::Null),
                Some(Value::Struct(inner)) => current = inner,
                Some(other) => {
                    return Err(ConnectError::data(format!(
                        "Only Struct objects supported for [{PURPOSE}], found: {}",
                        other.java_class()
                    )));
                }
            }
        }
        Ok(field_value(&current, last, defaults).unwrap_or(Value::Null))
    }

    /// The value in a map; null where a step is missing or null.
    pub(super) fn of_map(&self, entries: &[(Value, Value)]) -> Result<Value, ConnectError> {
        let (last, parents) = self.split()?;
        let mut current = entries;
        for step in parents {
            match map_get(current, step) {
                None | Some(Value::Null) => return Ok(Value::Null),
                Some(Value::Map(inner)) => current = inner,
                Some(other) => {
                    return Err(ConnectError::data(format!(
                        "Only Map objects supported in absence of schema for [{PURPOSE}], found: {}",
                        other.java_class()
                    )));
                }
            }
        }
        Ok(map_get(current, last).cloned().unwrap_or(Value::Null))
    }
}

/// Cuts a dotted path. A step in backticks ends at a backtick that a dot or the end follows and that no backslash escapes.
fn steps(path: &str) -> Result<Vec<String>, ConnectError> {
    let part = |from: usize, to: usize| path.get(from..to).unwrap_or_default();
    let mut steps = Vec::new();
    let mut at = 0;
    while at < path.len() {
        if !part(at, path.len()).starts_with('`') {
            match part(at, path.len()).find('.') {
                Some(dot) => {
                    steps.push(part(at, at + dot).to_owned());
                    at += dot + 1;
                }
                None => {
                    steps.push(part(at, path.len()).to_owned());
                    break;
                }
            }
            continue;
        }
        let opening = at;
        let incomplete = || {
            ConnectError::config(format!(
                "Incomplete backtick pair in path: [{path}], consider adding a backslash before backtick at position \
                 {opening} to escape it"
            ))
        };
        let mut step = String::new();
        let mut start = at + 1;
        let mut search = start;
        loop {
            let found = search + part(search, path.len()).find('`').ok_or_else(incomplete)?;
            let escaped = part(0, found).ends_with('\\');
            if found + 1 >= path.len() {
                if escaped {
                    return Err(incomplete());
                }
                step.push_str(part(start, found));
                at = found + 1;
                break;
            }
            if !part(found + 1, path.len()).starts_with('.') {
                search = found + 1;
            } else if escaped {
                step.push_str(part(start, found - 1));
                step.push('`');
                start = found + 1;
                search = start;
            } else {
                step.push_str(part(start, found));
                at = found + 2;
                break;
            }
        }
        steps.push(step);
    }
    if path.ends_with('.') {
        steps.push(String::new());
    }
    Ok(steps)
}
