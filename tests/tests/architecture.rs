//! The directions between crates, and who may touch what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    tests::process::workspace()
}

/// Dependencies of each workspace crate, development dependencies left out.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), dependencies)
        })
        .collect()
}

/// What each crate may depend on inside the workspace.
const ALLOWED: &[(&str, &[&str])] = &[
    ("connect-api", &[]),
    ("kafka-client", &[]),
    ("model-engine", &[]),
    ("feature-engine", &[]),
    ("dev-broker", &[]),
    ("crash-point", &[]),
    ("connect-runtime", &["connect-api", "kafka-client", "crash-point"]),
    ("state-store", &["connect-api", "kafka-client", "crash-point"]),
    ("connectors", &["connect-api"]),
    ("catalog-source", &["connect-api"]),
    (
        "inference-sink",
        &[
            "connect-api",
            "kafka-client",
            "state-store",
            "model-engine",
            "feature-engine",
            "crash-point",
        ],
    ),
    (
        "millrace",
        &[
            "connect-api",
            "kafka-client",
            "connect-runtime",
            "state-store",
            "model-engine",
            "feature-engine",
            "connectors",
            "catalog-source",
            "inference-sink",
            "dev-broker",
        ],
    ),
];

#[test]
fn crates_depend_only_in_the_drawn_direction() {
    let dependencies = dependencies();
    for (name, found) in &dependencies {
        if name == "tests" || name == "benches" {
            continue;
        }
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(crate_name, _)| crate_name == name)
            .unwrap_or_else(|| panic!("{name} has no rule"));
        for dependency in found.iter().filter(|dependency| dependencies.contains_key(*dependency)) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn only_kafka_client_touches_librdkafka() {
    for (name, found) in dependencies() {
        let touches = found.iter().any(|dependency| dependency.starts_with("rdkafka"));
        assert_eq!(touches, name == "kafka-client", "{name}");
    }
}

#[test]
fn unsafe_code_is_allowed_in_kafka_client_only() {
    for name in dependencies().keys().filter(|name| *name != "kafka-client") {
        for file in rust_files(&root().join(name)) {
            let text = std::fs::read_to_string(&file).unwrap();
            let allows = text.contains("allow(unsafe_code)") && !file.ends_with("architecture.rs");
            assert!(!allows, "{} allows unsafe code", file.display());
        }
    }
}

#[test]
fn what_is_shipped_carries_neither_the_demo_broker_nor_its_view() {
    let crates = |arguments: &[&str]| tree(&[&["--package", "millrace", "--edges", "normal"], arguments].concat());
    let shipped = crates(&["--no-default-features"]);
    for name in ["dev-broker ", "ratatui "] {
        assert!(!shipped.contains(name), "{name}");
        // The check can fail: the demo has them.
        assert!(crates(&[]).contains(name), "{name}");
    }
}

#[test]
fn the_millrace_binary_on_its_own_has_no_crash_points() {
    let features = |arguments: &[&str]| {
        let edges = ["--edges", "normal,features", "--invert", "crash-point"];
        tree(&[edges.as_slice(), arguments].concat())
    };
    assert!(!features(&["--package", "millrace"]).contains("armed"));
    // The check can fail: where the tests are built too, they are on.
    assert!(features(&["--workspace"]).contains("armed"));
}

/// What `cargo tree` says.
fn tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix", "none"])
        .args(arguments)
        // a developer's own setting must not unify features over the workspace here
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
