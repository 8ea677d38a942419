//! Every dependency has a licence that `deny.toml` allows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

/// Whether an SPDX expression can be met with the allowed licences. Knows `OR`, `AND`, parentheses and the old `/`.
fn allowed(expression: &str, licences: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut depth = 0_i32;
    let mut alternatives = vec![String::new()];
    for word in expression.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if word == "OR" && depth == 0 {
            alternatives.push(String::new());
        } else {
            let last = alternatives.last_mut().unwrap();
            last.push_str(word);
            last.push(' ');
        }
    }
    alternatives.iter().any(|alternative| {
        split_and(alternative).iter().all(|term| {
            let term = term.trim();
            match term.strip_prefix("( ").and_then(|inner| inner.strip_suffix(" )")) {
                Some(inner) => allowed(inner, licences),
                None => licences.iter().any(|licence| licence == term),
            }
        })
    })
}

fn split_and(expression: &str) -> Vec<String> {
    let mut depth = 0_i32;
    let mut terms = vec![String::new()];
    for word in expression.split_whitespace() {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if word == "AND" && depth == 0 {
            terms.push(String::new());
        } else {
            let last = terms.last_mut().unwrap();
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    terms
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let root = tests::process::workspace();
    let deny = std::fs::read_to_string(root.join("deny.toml")).unwrap();
    let list = deny.split("allow = [").nth(1).unwrap().split(']').next().unwrap();
    let licences: Vec<String> = list
        .split(',')
        .map(|licence| licence.trim().trim_matches('"').to_owned())
        .filter(|l| !l.is_empty())
        .collect();
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut refused = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("none");
        if !allowed(licence, &licences) {
            refused.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    assert!(refused.is_empty(), "not allowed by deny.toml:\n{}", refused.join("\n"));
}

#[test]
fn expressions_are_read() {
    let licences = ["MIT".to_owned(), "Apache-2.0".to_owned(), "ISC".to_owned()];
    assert!(allowed("MIT OR GPL-3.0", &licences));
    assert!(allowed("(MIT OR GPL-3.0) AND ISC", &licences));
    assert!(allowed("MIT/Apache-2.0", &licences));
    assert!(!allowed("GPL-3.0", &licences));
    assert!(!allowed("MIT AND GPL-3.0", &licences));
    assert!(!allowed("(GPL-2.0 OR GPL-3.0) AND MIT", &licences));
}
