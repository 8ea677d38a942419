//! docs/DOCUMENTS.md against the code: its examples are documents, and no member that the code reads is left out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use feature_engine::resource::parse_document;
use regex::Regex;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn file(path: &str) -> String {
    // Asked when the test runs: what cargo said when it was compiled is another checkout's where they share a target directory.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn examples_are_documents() {
    let page = file("../docs/DOCUMENTS.md");
    let blocks = Regex::new("(?s)```yaml\n(.*?)```").unwrap();
    let mut kinds = BTreeSet::new();
    for block in blocks.captures_iter(&page) {
        let document: serde_json::Value = serde_norway::from_str(&block[1]).expect(&block[1]);
        let resource = parse_document(&document).unwrap_or_else(|errors| panic!("{}\n{errors:?}", &block[1]));
        kinds.insert(resource.kind());
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
}

/// Members are read by name (`fields.text("sha256")`), so the names stand in the sources.
#[test]
fn every_member_is_listed() {
    let page = file("../docs/DOCUMENTS.md");
    let code = Regex::new("`[^`\n]+`").unwrap();
    let words = Regex::new("[a-z_0-9]+").unwrap();
    let listed: BTreeSet<&str> = code
        .find_iter(&page)
        .flat_map(|code| words.find_iter(code.as_str()))
        .map(|word| word.as_str())
        .collect();
    let reads = Regex::new(r#"\.(?:text|required_text|name|optional_name|topics?|texts|flag|whole|positive|share|span|positive_span|size|object|choice|value|unsupported|not_supported|require)\(\s*"([a-z_0-9]+)""#).unwrap();
    let mut missing = BTreeSet::new();
    let mut found = 0;
    for source in ["tenant", "store", "feature_view", "model"] {
        for read in reads.captures_iter(&file(&format!("src/resource/{source}.rs"))) {
            found += 1;
            if !listed.contains(&read[1]) {
                missing.insert(read[1].to_owned());
            }
        }
    }
    assert!(
        found > 60,
        "only {found} reads were found: the pattern is no longer that of the code"
    );
    assert!(missing.is_empty(), "docs/DOCUMENTS.md does not list {missing:?}");
}
