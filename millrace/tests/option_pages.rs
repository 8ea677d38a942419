//! The pages of `docs/options` and the tables of `docs/COMPATIBILITY.md` say what the code declares, and what they list is read.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn option_pages_match_the_declarations() {
    let root = root();
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["options", "--check", "docs/options"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn root() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&package).parent().unwrap().to_owned()
}

/// Options that are named once in the sources, and why that is right.
const NAMED_ONCE: [(&str, &str); 8] = [
    ("config.storage.replication.factor", "read with the topic's prefix"),
    ("offset.storage.replication.factor", "read with the topic's prefix"),
    ("status.storage.replication.factor", "read with the topic's prefix"),
    ("offset.storage.partitions", "read with the topic's prefix"),
    ("status.storage.partitions", "read with the topic's prefix"),
    (
        "config.action.reload",
        "its page says that the built-in providers never ask for it",
    ),
    ("inference.feature.log", "one value is accepted"),
    ("plugin.name", "one value is accepted"),
];

/// An option is named where it is defined and again where it is read; one that is named once and not said to be without effect
/// promises what nobody does.
#[test]
fn every_option_of_the_pages_is_read_somewhere() {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for page in std::fs::read_dir(root().join("docs/options")).unwrap() {
        let page = page.unwrap().path();
        // those of clients have a test of their own, in kafka-client
        if page.ends_with("clients.md") || page.ends_with("README.md") {
            continue;
        }
        for row in std::fs::read_to_string(&page).unwrap().lines() {
            let Some((name, rest)) = row.strip_prefix("| `").and_then(|row| row.split_once("` | ")) else {
                continue;
            };
            let says_so = ["without effect", "Not supported", "not supported |", "is accepted"];
            if !says_so.iter().any(|words| rest.contains(words)) && !name.contains('`') && rest.matches('|').count() > 3
            {
                names.insert(name.to_owned(), page.display().to_string());
            }
        }
    }
    assert!(names.len() > 150, "{}", names.len());
    let mut sources = String::new();
    let crates = [
        "connect-runtime",
        "formats",
        "transforms",
        "objects",
        "connectors",
        "catalog-source",
        "inference-sink",
        "kafka-client",
        "state-store",
    ];
    for folder in crates {
        collect(&root().join(folder).join("src"), &mut sources);
    }
    let mut unread = Vec::new();
    for (name, page) in names {
        let quoted = format!("\"{name}\"");
        let named = sources.matches(&quoted).count() + sources.matches(&format!("&str = {quoted}")).count();
        if named < 2 && !NAMED_ONCE.iter().any(|(known, _)| *known == name) {
            unread.push(format!("{name} ({page})"));
        }
    }
    assert!(unread.is_empty(), "nobody reads {unread:#?}");
}

/// Sources below a folder, without their tests.
fn collect(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, sources);
        } else if name.ends_with(".rs") && !name.contains("tests") {
            let text = std::fs::read_to_string(&path).unwrap();
            sources.push_str(text.split("#[cfg(test)]\nmod ").next().unwrap());
        }
    }
}
