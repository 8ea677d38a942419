//! What two answers have in common, and where they differ.
//!
//! Left out everywhere, because it has to differ:
//! - who answers: addresses, directories, the group's name, the time, versions, the commit;
//! - documentation of options, which is each worker's own text, and stack traces;
//! - `order`, the name that `order_in_group` had up to 4.1, and `warnings`, which only ours sends beside the others;
//! - classes of plugins that only one of the two has, where classes are listed;
//! - the order of client overrides and of converters' own options in a validation, which is that of a `HashMap`.
//!
//! Left out everywhere, because ours is better:
//! - error pages of the HTTP server itself, which are HTML: ours are JSON; the status counts;
//! - the text of a `NullPointerException`;
//! - the configuration, values and all, in `Connector config {...} contains no connector type`;
//! - what a JSON parser says of text that is no JSON, and where;
//! - what ours adds to a class that could not be found: whether it is known, what is there instead, what was meant.

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
        let text = text
            .replace("available versions: [4.3.1]", "available versions: {version}")
            .replace(
                &format!("available versions: [{OURS}]"),
                "available versions: {version}",
            );
        match text.as_str() {
            "4.3.1" | OURS => "{version}".to_owned(),
            _ => without_particulars(&text),
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
                let is_validation = members.contains_key("error_count") && members.contains_key("configs");
                let member = |(name, value): (String, Value)| match (name.as_str(), &value) {
                    ("documentation", _) if is_definition => None,
                    ("order", _) if is_definition => None,
                    ("warnings", _) if is_validation => None,
                    ("commit", Value::String(_)) => Some((name, json!("{commit}"))),
                    ("configs", Value::Array(_)) if is_validation => {
                        Some((name, Value::Array(sorted(self.neutral_value(value)))))
                    }
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
        let header = |name: &str| response.header(name).map(|value| self.neutral(value));
        if response.status >= 400 && response.body.starts_with("<html>") {
            return json!({ "status": response.status, HTML: true });
        }
        let body = match serde_json::from_str(&response.body) {
            Ok(body) => self.neutral_value(body),
            Err(_) => Value::String(self.neutral(&response.body)),
        };
        json!({
            "status": response.status,
            "content-type": header("content-type"),
            "allow": header("allow"),
            "location": header("location"),
            "body": body,
        })
    }
}

/// Marks an error page.
const HTML: &str = "html";

const OURS: &str = env!("CARGO_PKG_VERSION");

/// A message without what is each worker's own.
fn without_particulars(text: &str) -> String {
    const NOT_JSON: [&str; 7] = [
        "Unexpected c",
        "Unexpected end-of-input",
        "Unrecognized token",
        "Unrecognized character escape",
        "Trailing token",
        "Non-standard token",
        "Invalid numeric value",
    ];
    const NO_TYPE: &str = " contains no connector type";
    if NOT_JSON.iter().any(|beginning| text.starts_with(beginning)) {
        return "{not JSON}".to_owned();
    }
    let mut text = text.to_owned();
    if let (Some(start), Some(end)) = (text.find("Connector config {"), text.rfind(NO_TYPE)) {
        text.replace_range(start + "Connector config".len()..end, "");
    }
    // a second attempt with the same class has the exception's class in front
    let again = "org.apache.kafka.connect.errors.ConnectException: Failed to find any class";
    if text.starts_with(again) {
        text = text.replacen("org.apache.kafka.connect.errors.ConnectException: ", "", 1);
    }
    if let Some(end) = text.find("available connectors are: ") {
        text.truncate(end);
    }
    let lines = text
        .split('\n')
        .map(|line| match line.split_once(" could not be found. ") {
            Some((beginning, _)) => format!("{beginning} could not be found."),
            None => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// The options of a validation: those whose order is nobody's at the end, by name.
fn sorted(options: Value) -> Vec<Value> {
    let Value::Array(options) = options else {
        return Vec::new();
    };
    let name = |option: &Value| option["value"]["name"].as_str().unwrap_or_default().to_owned();
    let is_unordered = |option: &Value| {
        let name = name(option);
        let of_converter = ["key.converter.", "value.converter.", "header.converter."]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        name.contains(".override.") || of_converter && !name.ends_with(".plugin.version")
    };
    let (mut last, mut sorted): (Vec<Value>, Vec<Value>) = options.into_iter().partition(is_unordered);
    last.sort_by_key(name);
    sorted.append(&mut last);
    sorted
}

/// The class that an element of a list of classes is about.
fn class(element: &Value) -> Option<&str> {
    let class = element.get("class").unwrap_or(element).as_str()?;
    ["org.apache.kafka.connect.", "io.debezium.", "millrace."]
        .iter()
        .any(|package| class.starts_with(package))
        .then_some(class)
}

/// Both lists without the classes that only one of the two has; `None` where they are no lists of classes.
fn common_classes(one: &[Value], other: &[Value]) -> Option<(Vec<Value>, Vec<Value>)> {
    let (first, second): (Option<Vec<&str>>, Option<Vec<&str>>) =
        (one.iter().map(class).collect(), other.iter().map(class).collect());
    let (first, second) = (first?, second?);
    let keep = |list: &[Value], of: &[&str]| {
        let mut kept = list.to_vec();
        kept.retain(|element| class(element).is_some_and(|class| of.contains(&class)));
        kept
    };
    let kept = (keep(one, &second), keep(other, &first));
    // two lists that have nothing in common are two different things
    (!kept.0.is_empty()).then_some(kept)
}

/// Where two values differ: pointer, what is there on either side.
pub fn differences(java: &Value, ours: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    if java.get(HTML).is_some() {
        compare("/status".to_owned(), &java["status"], &ours["status"], &mut found);
        return found;
    }
    compare(String::new(), java, ours, &mut found);
    found
}

fn compare(at: String, java: &Value, ours: &Value, found: &mut Vec<(String, String, String)>) {
    match (java, ours) {
        (Value::String(java), Value::String(_)) if java.starts_with("Cannot invoke \"") => {}
        (Value::Array(one), Value::Array(other)) if one != other && common_classes(one, other).is_some() => {
            let (one, other) = common_classes(one, other).unwrap_or_default();
            if one != other {
                let show = |list| Value::Array(list).to_string();
                found.push((at, show(one), show(other)));
            }
        }
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
