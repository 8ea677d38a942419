//! Definitions of options against what Java's `ConfigDef` did with the same input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, ParsedValue, Validator};
use serde_json::Value as Json;
use std::path::Path;

/// Cases that differ from Java, and why.
const DEVIATIONS: &[(&str, &str)] = &[
    (
        "configdef/CLASS/4f09d260c0",
        "classes are plugins: the runtime looks them up, not the definition",
    ),
    ("configdef/INT/053b6e4fbf", "numbers are written in ASCII digits"),
    (
        "configdef/INT/2bcdfe2b8b",
        "options are text: there is no number of another width",
    ),
];

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// Splits at commas outside of parentheses.
fn arguments(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(character);
    }
    parts
}

fn validator(text: &str) -> Validator {
    let (name, rest) = text.split_once('(').unwrap_or((text, ")"));
    let inside = rest.strip_suffix(')').unwrap_or(rest);
    let parts = if inside.is_empty() {
        Vec::new()
    } else {
        arguments(inside)
    };
    let texts = || parts.iter().map(|part| leak(part)).collect::<Vec<_>>();
    match name {
        "between" => Validator::Between(parts[0].parse().unwrap(), parts[1].parse().unwrap()),
        "atLeast" => Validator::AtLeast(parts[0].parse().unwrap()),
        "in" => Validator::In(texts()),
        "caseInsensitiveIn" => Validator::CaseInsensitiveIn(texts()),
        "nonNull" => Validator::NonNull,
        "nonEmptyString" => Validator::NonEmptyString,
        "nonEmptyStringWithoutControlChars" => Validator::NonEmptyStringWithoutControlChars,
        "anyNonDuplicateValues" => Validator::AnyNonDuplicateValues {
            empty_allowed: parts[0] == "true",
            null_allowed: parts[1] == "true",
        },
        "listIn" => {
            let explicit = parts[0] == "true" || parts[0] == "false";
            Validator::ListIn {
                empty_allowed: !explicit || parts[0] == "true",
                values: texts().into_iter().skip(usize::from(explicit)).collect(),
            }
        }
        "listSize" => Validator::ListSize(parts[0].parse().unwrap()),
        "composite" => Validator::All(parts.iter().map(|part| validator(part)).collect()),
        other => panic!("validator {other}"),
    }
}

/// A vector's value in the form that text has in properties.
fn text_of(value: &Json) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let object = value.as_object()?;
    let (kind, content) = object.iter().next().unwrap();
    Some(match kind.as_str() {
        "string" | "float64" | "float32" | "class" | "password" => content.as_str().unwrap().to_owned(),
        "array" => content
            .as_array()
            .unwrap()
            .iter()
            .map(|one| text_of(one).unwrap())
            .collect::<Vec<_>>()
            .join(","),
        "boolean" => content.as_bool().unwrap().to_string(),
        _ => content.as_i64().unwrap().to_string(),
    })
}

fn definition(case: &Json) -> ConfigDef {
    if let Some(all) = case["definitions"].as_str() {
        return all.split("; ").fold(ConfigDef::new(), |definition, one| {
            let mut words = one.splitn(3, ' ');
            let key = ConfigKey::new(words.next().unwrap(), config_type(words.next().unwrap()));
            definition.define(match words.next().unwrap().strip_prefix("default ") {
                Some(text) => key.default(text.trim_matches('"')),
                None => key,
            })
        });
    }
    let definition = &case["definition"];
    let config_type = config_type(definition["type"].as_str().unwrap());
    let mut key = ConfigKey::new(definition["name"].as_str().unwrap(), config_type);
    if let Some(default) = definition.get("default") {
        key = match text_of(default) {
            Some(text) => key.default(text),
            None => key.default_null(),
        };
    }
    if let Some(text) = definition["validator"].as_str() {
        key = key.validator(validator(text));
    }
    ConfigDef::new().define(key)
}

fn config_type(name: &str) -> ConfigType {
    match name {
        "BOOLEAN" => ConfigType::Boolean,
        "STRING" => ConfigType::String,
        "INT" => ConfigType::Int,
        "SHORT" => ConfigType::Short,
        "LONG" => ConfigType::Long,
        "DOUBLE" => ConfigType::Double,
        "LIST" => ConfigType::List,
        "CLASS" => ConfigType::Class,
        _ => ConfigType::Password,
    }
}

fn same(expected: &Json, found: &ParsedValue) -> bool {
    match (expected.as_object().and_then(|object| object.iter().next()), found) {
        (None, ParsedValue::Null) => true,
        (Some((_, content)), ParsedValue::Double(number)) => content
            .as_str()
            .is_some_and(|text| text.parse() == Ok(*number) || number.is_nan() && text == "NaN"),
        (Some((_, content)), ParsedValue::Password(_)) => content.is_string(),
        (Some(_), found) => text_of(expected) == found.to_text(),
        _ => false,
    }
}

fn check(case: &Json) -> Result<(), String> {
    let expect = &case["expect"];
    if expect.get("error").is_some_and(|error| error["phase"] == "define") {
        let definition = definition(case);
        return match definition.parse(&ConfigMap::new()) {
            Err(_) => Ok(()),
            Ok(_) => Err("the default fits".to_owned()),
        };
    }
    let definition = definition(case);
    let props = case["props"].as_object().unwrap();
    let all_text = props
        .values()
        .all(|value| value.is_null() || value.is_string() || value.get("string").is_some());
    let config: ConfigMap = props
        .iter()
        .map(|(name, value)| (name.clone(), text_of(value)))
        .collect();
    if let Some(values) = expect["values"].as_array().filter(|_| all_text) {
        let outcome = definition.validate(&config);
        for expected in values {
            let found = outcome.iter().find(|found| expected["name"] == found.name).unwrap();
            let errors: Vec<&str> = expected["errors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e.as_str().unwrap())
                .collect();
            if errors != found.errors {
                return Err(format!("validate: expected {errors:?}\n   found {:?}", found.errors));
            }
        }
    }
    let parsed = definition.parse(&config);
    match (expect.get("parseError"), parsed) {
        (Some(error), Err(found)) if error["match"] == "class" || error["message"] == found.message() => Ok(()),
        (Some(error), found) => Err(format!("parse: expected {error}\n   found {found:?}")),
        (None, Ok(_)) if case.get("definitions").is_some() => Ok(()),
        (None, Err(found)) => Err(format!("parse: expected {}\n   found {found:?}", expect["parsed"])),
        (None, Ok(found)) => {
            let found = found.value(case["definition"]["name"].as_str().unwrap());
            match same(&expect["parsed"], found) {
                true => Ok(()),
                false => Err(format!("parse: expected {}\n   found {found:?}", expect["parsed"])),
            }
        }
    }
}

#[test]
fn definitions_do_what_javas_do() {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/vectors/configdef.jsonl");
    let mut differing = Vec::new();
    let mut ran = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let id = case["id"].as_str().unwrap();
        ran += 1;
        let listed = DEVIATIONS.iter().any(|(known, _)| *known == id);
        match check(&case) {
            Ok(()) if listed => differing.push(format!("{id} is listed, but agrees")),
            Err(text) if !listed => differing.push(format!("{id} {} {}\n   {text}", case["definition"], case["props"])),
            _ => {}
        }
    }
    assert!(
        ran > 100 && differing.is_empty(),
        "{} of {ran} cases differ\n{}",
        differing.len(),
        differing.join("\n")
    );
}
