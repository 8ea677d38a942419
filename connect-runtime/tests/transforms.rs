//! The built-in transforms and predicates against what the Java classes did with the same record.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod decode;

use connect_api::transform::Record;
use decode::{check_error, check_record, config, record, verdict};
use serde_json::Value as Json;

/// Cases that differ from Java, and why.
const DEVIATIONS: &[(&str, &str)] = &[];

fn check(case: &Json) -> Option<Result<(), String>> {
    let class = case["class"].as_str().unwrap();
    let plugins = transforms::transformations();
    let plugin = plugins.iter().find(|plugin| plugin.class() == class)?;
    let expect = &case["expect"];
    let Some(input) = record(&case["input"]) else {
        return Some(Err("the record cannot be held".to_owned()));
    };
    let outcome = plugin
        .configure(&config(&case["config"]))
        .and_then(|transform| transform.apply(input));
    Some(match (expect.get("error"), outcome) {
        (Some(error), Err(found)) => check_error(error, &found),
        (Some(error), Ok(found)) => Err(format!("expected {error}\n   found {found:?}")),
        (None, Err(found)) => Err(format!("expected {expect}\n   found error {found:?}")),
        (None, Ok(None)) if expect["dropped"] == true => Ok(()),
        (None, Ok(None)) => Err("dropped".to_owned()),
        (None, Ok(Some(found))) => {
            let expected: Record = record(&expect["record"]).unwrap();
            check_record(&expected, &found)
        }
    })
}

#[test]
fn transforms_do_what_javas_do() {
    let (mut failures, mut ran) = (Vec::new(), 0);
    for case in decode::cases("transform.jsonl.gz") {
        let Some(outcome) = check(&case) else { continue };
        ran += 1;
        if let Err(text) = outcome {
            failures.push((
                case["id"].as_str().unwrap().to_owned(),
                format!("{} {}\n   {text}", case["config"], case["input"]),
            ));
        }
    }
    assert!(ran > 400, "only {ran} cases are of built-in classes");
    let listed: Vec<(&str, &str)> = DEVIATIONS
        .iter()
        .filter(|(id, _)| id.starts_with("transform/"))
        .copied()
        .collect();
    verdict("transform.jsonl.gz", failures, &listed, ran);
}

#[test]
fn predicates_do_what_javas_do() {
    let (mut failures, mut ran) = (Vec::new(), 0);
    for case in decode::cases("predicate.jsonl") {
        let class = case["class"].as_str().unwrap();
        let plugins = transforms::predicates();
        let plugin = plugins.iter().find(|plugin| plugin.class() == class).unwrap();
        ran += 1;
        let input = record(&case["input"]).unwrap();
        let outcome = plugin
            .configure(&config(&case["config"]))
            .and_then(|predicate| predicate.test(&input));
        let expect = &case["expect"];
        let result = match (expect.get("error"), outcome) {
            (Some(error), Err(found)) => check_error(error, &found),
            (None, Ok(found)) if expect["result"] == found => Ok(()),
            (_, found) => Err(format!("expected {expect}\n   found {found:?}")),
        };
        if let Err(text) = result {
            failures.push((
                case["id"].as_str().unwrap().to_owned(),
                format!("{} {}\n   {text}", case["config"], case["input"]),
            ));
        }
    }
    let listed: Vec<(&str, &str)> = DEVIATIONS
        .iter()
        .filter(|(id, _)| id.starts_with("predicate/"))
        .copied()
        .collect();
    verdict("predicate.jsonl", failures, &listed, ran);
}
