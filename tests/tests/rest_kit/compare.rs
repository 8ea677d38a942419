//! What two answers have in common, and where they differ.
//!
//! Left out everywhere, because it has to differ:
//! - who answers: addresses, directories, the group's name, the time, versions of plugins;
//! - documentation of options, which is each worker's own text, and stack traces;
//! - `order`, the name that `order_in_group` had up to 4.1, which only ours sends beside it;
//! - where in a body Jackson stopped reading, and what it would have read;
//! - classes of plugins that only one of the two has.

use crate::http::Response;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// One of the two workers: what of its answers is its own.
pub struct Side {
    /// `host:port`
    pub address: String,
    pub directory: String,
    pub group: String,
}

impl Side {
    /// Text of the script, for this worker.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{dir}", &self.directory).replace("{group}", &self.group)
    }

    fn neutral(&self, text: &str) -> String {
        let text = text
            .replace(&self.directory, "{dir}")
            .replace(&self.address, "{worker}")
            .replace(&self.group, "{group}");
        let text = match text.find("\n at [Source") {
            Some(end) => text[..end].to_owned(),
            None => text,
        };
        match text.as_str() {
            "4.3.1" | env!("CARGO_PKG_VERSION") => "{version}".to_owned(),
            _ => text,
        }
    }

    fn neutral_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.neutral(&text)),
            Value::Array(elements) => elements
                .into_iter()
                .map(|element| self.neutral_value(element))
                .collect(),
            Value::Object(members) => {
                let is_definition = members.contains_key("order_in_group");
                let member = |(name, value): (String, Value)| match (name.as_str(), &value) {
                    ("documentation", _) if is_definition => None,
                    ("order", _) if is_definition => None,
                    ("trace", Value::String(trace)) if !trace.is_empty() => Some((name, json!("{trace}"))),
                    ("last_modified", Value::Number(_)) => Some((name, json!("{time}"))),
                    _ => Some((self.neutral(&name), self.neutral_value(value))),
                };
                Value::Object(members.into_iter().filter_map(member).collect::<Map<_, _>>())
            }
            other => other,
        }
    }

    /// The parts of an answer that are compared.
    pub fn comparable(&self, response: &Response) -> Value {
        let body = match serde_json::from_str(&response.body) {
            Ok(body) => self.neutral_value(body),
            Err(_) => Value::String(self.neutral(&response.body)),
        };
        let header = |name: &str| response.header(name).map(|value| self.neutral(value));
        json!({
            "status": response.status,
            "content-type": header("content-type"),
            "allow": header("allow"),
            "location": header("location"),
            "body": body,
        })
    }
}

/// Where two values differ: pointer, what is there on either side.
pub fn differences(java: &Value, ours: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    compare(String::new(), java, ours, &mut found);
    found
}

fn compare(at: String, java: &Value, ours: &Value, found: &mut Vec<(String, String, String)>) {
    match (java, ours) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let at = format!("{at}/{name}");
                match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => compare(at, one, other, found),
                    (one, other) => {
                        let show =
                            |value: Option<&Value>| value.map_or_else(|| "(nothing)".to_owned(), Value::to_string);
                        found.push((at, show(one), show(other)));
                    }
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(format!("{at}/{index}"), one, other, found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push((at, one.to_string(), other.to_string())),
    }
}
