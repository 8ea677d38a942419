//! Schemas, validation and structs against what the Java classes did.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod decode;

use connect_api::validation::validate_value;
use connect_api::{ConnectError, Struct, Value};
use decode::{check_error, same, schema, value, verdict};

/// Cases that differ from Java, and why.
const DEVIATIONS: &[(&str, &str)] = &[];

fn check(file: &str, mut run: impl FnMut(&serde_json::Value) -> Result<(), String>) {
    let cases = decode::cases(file);
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(text) = run(case) {
            failures.push((case["id"].as_str().unwrap().to_owned(), text));
        }
    }
    let listed: Vec<(&str, &str)> = DEVIATIONS
        .iter()
        .filter(|(id, _)| cases.iter().any(|case| case["id"] == *id))
        .copied()
        .collect();
    verdict(file, failures, &listed, cases.len());
}

#[test]
fn schemas_are_equal_where_javas_are() {
    check("schema-equals.jsonl", |case| {
        let (a, b) = (schema(&case["a"]).unwrap(), schema(&case["b"]).unwrap());
        match (*a == *b) == case["expect"]["equal"].as_bool().unwrap() {
            true => Ok(()),
            false => Err(format!("{a:?} {b:?} {}", case["expect"])),
        }
    });
}

fn compare(expect: &serde_json::Value, outcome: Result<(), ConnectError>) -> Result<(), String> {
    match (expect.get("error"), outcome) {
        (None, Ok(())) => Ok(()),
        (Some(error), Err(found)) => check_error(error, &found),
        (expected, found) => Err(format!("expected {expected:?}, found {found:?}")),
    }
}

#[test]
fn values_are_valid_where_javas_are() {
    check("schema-validate.jsonl", |case| {
        let schema = schema(&case["schema"]).unwrap();
        let value = value(&case["value"], Some(&schema)).ok_or("the value cannot be held")?;
        compare(&case["expect"], validate_value(case["field"].as_str(), &schema, &value))
    });
}

#[test]
fn structs_behave_as_javas() {
    check("struct.jsonl", |case| {
        let schema = schema(&case["schema"]).unwrap();
        let mut structure = Struct::new(std::sync::Arc::clone(&schema));
        for put in case["put"].as_array().unwrap() {
            let name = put[0].as_str().unwrap();
            let field = schema.field(name).unwrap();
            let value = value(&put[1], Some(&field.schema)).ok_or("the value cannot be held")?;
            if let Err(error) = validate_value(Some(name), &field.schema, &value) {
                return compare(&case["expect"], Err(error));
            }
            structure.put(name, value);
        }
        compare(&case["expect"], structure.validate())?;
        if case["expect"].get("error").is_some() {
            return Ok(());
        }
        for pair in case["expect"]["get"].as_array().unwrap() {
            let name = pair[0].as_str().unwrap();
            let expected = value(&pair[1], Some(&schema.field(name).unwrap().schema)).unwrap_or(Value::Null);
            let found = structure.get(name).unwrap();
            if !same(&expected, found) {
                return Err(format!("{name}: expected {expected:?}, found {found:?}"));
            }
        }
        let expected = case["expect"]["toString"].as_str().unwrap();
        let found = structure.to_string();
        match expected.split("<hash>").all(|part| found.contains(part)) {
            true => Ok(()),
            false => Err(format!("expected {expected}, found {found}")),
        }
    });
}
