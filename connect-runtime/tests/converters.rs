//! The built-in converters against what the Java classes did with the same input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod decode;

use connect_api::converter::ConverterUse;
use connect_api::{ConnectError, SchemaAndValue};
use decode::{base64, check_error, config, data, same, same_schema, verdict};
use serde_json::Value as Json;

/// Cases that differ from Java, and why.
const DEVIATIONS: &[(&str, &str)] = &[
    ("converter/JsonConverter/9d3f21ae33", SURROGATE),
    ("converter/JsonConverter/a12886799e", SURROGATE),
    ("converter/StringConverter/9c83852a5c", SURROGATE),
    (
        "converter/StringConverter/347d40f41e",
        "an unknown encoding is refused when the converter is configured",
    ),
];

/// Cases of `text.jsonl.gz` that differ from Java, and why.
const TEXT_DEVIATIONS: &[(&str, &str)] = &[];

const SURROGATE: &str = "text is UTF-8, which has no unpaired surrogates: they become U+FFFD";

/// What a case gave: bytes or data.
enum Outcome {
    Bytes(Option<bytes::Bytes>),
    Data(SchemaAndValue),
}

fn run(case: &Json) -> Option<Result<Outcome, ConnectError>> {
    let class = case["class"].as_str().unwrap();
    let config = config(&case["config"]);
    let input = &case["input"];
    let bytes = input["bytes"]["base64"].as_str().map(base64);
    let op = case["op"].as_str().unwrap();
    if op.ends_with("Header") {
        let plugins = formats::header_converters();
        let plugin = plugins.iter().find(|plugin| plugin.class() == class).unwrap();
        let converter = match plugin.configure(&config) {
            Ok(converter) => converter,
            Err(error) => return Some(Err(error)),
        };
        return Some(if op.starts_with("from") {
            let data = data(&input["schema"], &input["value"])?;
            converter.from_connect_header("t", "h", &data).map(Outcome::Bytes)
        } else {
            converter.to_connect_header("t", "h", bytes.as_ref()).map(Outcome::Data)
        });
    }
    let plugins = formats::converters();
    let plugin = plugins.iter().find(|plugin| plugin.class() == class).unwrap();
    let converter_use = if case["as"] == "key" {
        ConverterUse::Key
    } else {
        ConverterUse::Value
    };
    let converter = match plugin.configure(&config, converter_use) {
        Ok(converter) => converter,
        Err(error) => return Some(Err(error)),
    };
    Some(if op.starts_with("from") {
        let data = data(&input["schema"], &input["value"])?;
        converter.from_connect_data("t", &data).map(Outcome::Bytes)
    } else {
        converter.to_connect_data("t", bytes.as_ref()).map(Outcome::Data)
    })
}

fn check(expect: &Json, outcome: Result<Outcome, ConnectError>) -> Result<(), String> {
    match (expect.get("error"), outcome) {
        (Some(error), Err(found)) => check_error(error, &found),
        (Some(error), Ok(Outcome::Bytes(bytes))) => Err(format!(
            "expected {error}\n   found bytes {:?}",
            bytes.map(|b| String::from_utf8_lossy(&b).into_owned())
        )),
        (Some(error), Ok(Outcome::Data(data))) => Err(format!("expected {error}\n   found {data:?}")),
        (None, Err(found)) => Err(format!("expected {expect}\n   found error {found:?}")),
        (None, Ok(Outcome::Bytes(found))) => match expect["bytes"].get("textWithHash").and_then(Json::as_str) {
            Some(text) => {
                let found = String::from_utf8(found.unwrap().to_vec()).unwrap();
                let parts: Vec<&str> = text.split("<hash>").collect();
                match parts.iter().all(|part| found.contains(part)) {
                    true => Ok(()),
                    false => Err(format!("expected {text}\n   found {found}")),
                }
            }
            None => {
                let expected = expect["bytes"]["base64"].as_str().map(base64);
                match expected == found {
                    true => Ok(()),
                    false => {
                        let text = |bytes: &Option<bytes::Bytes>| {
                            bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                        };
                        Err(format!("expected {:?}\n   found {:?}", text(&expected), text(&found)))
                    }
                }
            }
        },
        (None, Ok(Outcome::Data(found))) => {
            if expect["value"].get("string16").is_some() {
                return Err(format!("expected an unpaired surrogate, found {found:?}"));
            }
            let expected = data(&expect["schema"], &expect["value"]).unwrap();
            match same(&expected.value, &found.value) && same_schema(expected.schema.as_ref(), found.schema.as_ref()) {
                true => Ok(()),
                false => Err(format!("expected {expected:?}\n   found {found:?}")),
            }
        }
    }
}

/// Runs the cases of a file and compares each outcome with Java's.
fn compare(file: &str, deviations: &[(&str, &str)]) -> usize {
    let mut failures = Vec::new();
    let mut ran = 0;
    for case in decode::cases(file) {
        let id = case["id"].as_str().unwrap().to_owned();
        ran += 1;
        match run(&case) {
            None => failures.push((id, "the value cannot be held".to_owned())),
            Some(outcome) => {
                if let Err(text) = check(&case["expect"], outcome) {
                    failures.push((
                        id,
                        format!("{} {} {}\n   {text}", case["op"], case["config"], case["input"]),
                    ));
                }
            }
        }
    }
    verdict(file, failures, deviations, ran);
    ran
}

#[test]
fn converters_do_what_javas_do() {
    compare("converter.jsonl", DEVIATIONS);
}

#[test]
fn texts_and_bytes_at_the_edges_are_read_and_written_as_javas_are() {
    assert_eq!(compare("text.jsonl.gz", TEXT_DEVIATIONS), 8858);
}
