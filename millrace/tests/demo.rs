//! `millrace demo --exit` as a user runs it: every event accounted for, online and offline AUC alike.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use std::path::Path;
use std::process::Command;

const EVENTS: u64 = 20_000;

#[test]
fn every_event_is_accounted_for_and_auc_agrees() {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let root = Path::new(&package).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["demo", "--exit", "--port", "0", "--events"])
        .arg(EVENTS.to_string())
        .arg("--directory")
        .arg(directory.path())
        .current_dir(root)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(printed.contains("curl -X PUT"), "the calls are printed:\n{printed}");
    let log = String::from_utf8_lossy(&output.stderr).into_owned() + &printed;
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(warnings.is_empty(), "a healthy start warns of nothing: {warnings:#?}");
    let line: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(line["events_in"], EVENTS);
    assert_eq!(line["dead_lettered"], 0);
    for model in ["personalization/reorder", "marketing/coupon", "research/ensemble"] {
        assert_eq!(line["predictions"][model], EVENTS, "{model}: {line}");
    }
    let shed = line["shed"]["trial"].as_u64().unwrap_or(0);
    assert_eq!(
        line["predictions"]["trial/reorder"].as_u64().unwrap() + shed,
        EVENTS,
        "{line}"
    );
    for (model, auc) in line["auc"].as_object().unwrap() {
        let (online, offline) = (auc["online"].as_f64().unwrap(), auc["offline"].as_f64().unwrap());
        assert!((online - offline).abs() < 0.005, "{model}: {auc}");
        // Event by event: what the training script predicted from features of its own.
        let difference = auc["largest_difference"].as_f64().unwrap();
        assert!(difference < 1e-4, "{model}: {auc}");
    }
}
