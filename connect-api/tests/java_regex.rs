//! Regular expressions against what `java.util.regex` did with the same patterns (`vectors/JavaRegexVectors.java`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use connect_api::java_regex::JavaRegex;
use serde_json::Value as Json;
use std::path::Path;

/// Patterns that differ from Java, and why.
const DEVIATIONS: &[(&str, &str)] = &[(
    "(?<=a*)b",
    "a look-behind whose text has no fixed length is refused by name",
)];

fn check(case: &Json) -> Result<(), String> {
    let pattern = case["pattern"].as_str().unwrap();
    let compiled = match case["anyCase"] == true {
        true => JavaRegex::case_insensitive(pattern),
        false => JavaRegex::new(pattern),
    };
    let regex = match (compiled, case.get("error")) {
        (Err(_), Some(_)) => return Ok(()),
        (Err(error), None) => return Err(format!("refused: {error}")),
        (Ok(_), Some(error)) => return Err(format!("accepted, where Java says {error}")),
        (Ok(regex), None) => regex,
    };
    for text in case["texts"].as_array().unwrap() {
        let subject = text["text"].as_str().unwrap();
        let say = |what: &str, found: String| Err(format!("{subject:?}: {what} {found}, Java: {text}"));
        let (matches, find) = (regex.matches(subject).unwrap(), regex.find(subject).unwrap());
        if matches != text["matches"].as_bool().unwrap() {
            return say("matches", matches.to_string());
        }
        if find != text["find"].as_bool().unwrap() {
            return say("find", find.to_string());
        }
        if let Some(group) = text["group"].as_str() {
            let found = regex.replace_first(subject, "<$0>").unwrap();
            if !found.contains(&format!("<{group}>")) {
                return say("finds", found);
            }
        }
        let replacements = case["replacements"].as_array().into_iter().flatten();
        for (replacement, expected) in replacements.zip(text["replaced"].as_array().into_iter().flatten()) {
            let replacement = replacement.as_str().unwrap();
            let found = regex.replace_first(subject, replacement);
            let same = match (&found, expected["text"].as_str()) {
                (Ok(found), Some(expected)) => found == expected,
                (Err(error), None) => error.java_class() == expected["class"] && error.message() == expected["message"],
                _ => false,
            };
            if !same {
                return say("", format!("replaced with {replacement:?}: {found:?}, not {expected}"));
            }
        }
    }
    Ok(())
}

#[test]
fn patterns_do_what_javas_do() {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/vectors/java-regex.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut unexpected, mut differing, mut ran) = (Vec::new(), Vec::new(), 0);
    for line in text.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        ran += 1;
        if let Err(difference) = check(&case) {
            let pattern = case["pattern"].as_str().unwrap().to_owned();
            if !DEVIATIONS.iter().any(|(known, _)| *known == pattern) {
                unexpected.push(format!("{pattern:?} {difference}"));
            }
            differing.push(pattern);
        }
    }
    let healed: Vec<&str> = DEVIATIONS
        .iter()
        .map(|(pattern, _)| *pattern)
        .filter(|pattern| !differing.iter().any(|found| found == pattern))
        .collect();
    assert_eq!(ran, 2250);
    assert!(
        unexpected.is_empty() && healed.is_empty(),
        "{} of {ran} patterns differ\n{}\nlisted, but they agree: {healed:?}",
        unexpected.len(),
        unexpected.join("\n")
    );
}
