//! The directions between crates, and who may touch what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "architecture/directions.rs"]
mod directions;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    tests::process::workspace()
}

/// What the manifests of the workspace say.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Dependencies of each workspace crate, development dependencies left out.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    packages()
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
    ("formats", &["connect-api"]),
    ("objects", &[]),
    ("transforms", &["connect-api"]),
    (
        "connect-runtime",
        &["connect-api", "formats", "transforms", "kafka-client", "crash-point"],
    ),
    (
        "state-store",
        &["connect-api", "kafka-client", "objects", "crash-point"],
    ),
    ("connectors", &["connect-api"]),
    ("catalog-source", &["connect-api"]),
    (
        "inference-sink",
        &[
            "connect-api",
            "kafka-client",
            "state-store",
            "objects",
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

/// Dependencies whose name no line of the crate needs, with what they are there for.
const FOR_THEIR_FEATURES: &[(&str, &str)] = &[
    // gives the client of object_store its TLS
    ("objects", "reqwest"),
];

/// A dependency is used by its name: in `src/`, or for development in `tests/`, `examples/`, `benches/` and the tests of `src/` too.
#[test]
fn every_dependency_that_a_manifest_declares_is_used() {
    let mut unused = Vec::new();
    let mut declared = BTreeSet::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let root = PathBuf::from(package["manifest_path"].as_str().unwrap());
        let root = root.parent().unwrap();
        let words = |parts: &[&str]| -> BTreeSet<String> {
            let files = parts.iter().map(|part| root.join(part)).filter(|part| part.exists());
            files
                .flat_map(|part| rust_files(&part))
                .flat_map(|file| words(&file))
                .collect()
        };
        let (code, build) = (words(&["src"]), words(&["build.rs"]));
        let all = words(&["src", "tests", "examples", "benches"]);
        for dependency in package["dependencies"].as_array().unwrap() {
            let crate_name = dependency["name"].as_str().unwrap();
            declared.insert(crate_name.to_owned());
            let library = match crate_name {
                "md-5" => "md5",
                other => dependency["rename"].as_str().unwrap_or(other),
            };
            let used_in = match dependency["kind"].as_str() {
                None => &code,
                Some("build") => &build,
                Some(_) => &all,
            };
            let for_features = FOR_THEIR_FEATURES.contains(&(name, crate_name));
            assert!(
                !(for_features && used_in.contains(library)),
                "{name} uses {crate_name}: no exception"
            );
            if !for_features && !used_in.contains(&library.replace('-', "_")) {
                unused.push(format!("{name}: {crate_name}"));
            }
        }
    }
    assert!(unused.is_empty(), "declared and not used: {unused:#?}");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, offered) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let offered = offered.lines().take_while(|line| !line.starts_with('['));
    let offered = offered.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()));
    let unused: Vec<_> = offered.filter(|name| !declared.contains(name)).collect();
    assert!(
        unused.is_empty(),
        "offered by the workspace and asked for by no crate: {unused:?}"
    );
}

/// The identifiers of a file's code, comments left out.
fn words(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .map(str::to_owned)
        .collect()
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

/// Those of a folder, or the file itself.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    if directory.is_file() {
        return vec![directory.to_path_buf()];
    }
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
