//! The commands of the README's first five minutes, run as they stand: each prints what the README shows.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What has not been shown by then never will be.
const PATIENCE: Duration = Duration::from_secs(120);

/// A demo, which ends with the test.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        ended.expect("the demo could not be ended");
    }
}

/// A command of the README, and what it shows.
#[derive(Debug)]
struct Step {
    command: String,
    shown: String,
}

/// The blocks of `sh` of the section that each have a block of `text` after them.
fn steps(readme: &str) -> Vec<Step> {
    let section = readme
        .split("\n## ")
        .find(|part| part.starts_with("The first five minutes"));
    let blocks = section.unwrap().split("```sh\n").skip(1);
    blocks
        .map(|block| {
            let (command, rest) = block
                .split_once("\n```\n```text\n")
                .unwrap_or_else(|| panic!("no output: {block}"));
            let (shown, _) = rest.split_once("\n```").unwrap();
            Step {
                command: command.to_owned(),
                shown: shown.to_owned(),
            }
        })
        .collect()
}

/// Numbers differ from run to run.
fn without_numbers(text: &str) -> String {
    let mut result = String::new();
    let mut number = false;
    for character in text.chars() {
        match character {
            '0'..='9' => number = true,
            '.' if number => {}
            _ => {
                if std::mem::take(&mut number) {
                    result.push('0');
                }
                result.push(character);
            }
        }
    }
    if number {
        result.push('0');
    }
    result
}

/// Whether `printed` has what is shown, in its order, with anything where `...` stands.
fn has(printed: &str, shown: &str) -> bool {
    let mut left = printed;
    shown.split("...").all(|part| {
        let part = without_numbers(part);
        match left.find(&part) {
            Some(place) => {
                left = &left[place + part.len()..];
                true
            }
            None => false,
        }
    })
}

#[test]
fn every_command_prints_what_the_readme_shows() {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let root = Path::new(&package).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["demo", "--port", "0", "--rate", "500", "--directory"])
        .arg(directory.path().join("demo"))
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .map(Demo)
        .unwrap();
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let worker = lines.find_map(|line| Some(line.unwrap().strip_prefix("worker  http://")?.to_owned()));
    let worker = worker.expect("the demo says where its worker is");
    // it goes on talking
    std::thread::spawn(move || lines.for_each(drop));

    let steps = steps(&std::fs::read_to_string(root.join("README.md")).unwrap());
    assert!(steps.len() > 8, "{steps:#?}");
    let file = directory.path().join("predictions.txt");
    for step in steps {
        let command = step.command.replace("localhost:8083", &worker);
        let command = command.replace("/tmp/predictions.txt", file.to_str().unwrap());
        let begun = Instant::now();
        loop {
            let output = Command::new("bash")
                .args(["-c", &command])
                .current_dir(root)
                .output()
                .unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            if has(&without_numbers(&printed), &step.shown) {
                break;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{command}\nprints\n{printed}\nand not\n{}",
                step.shown
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_step_that_shows_something_else_is_found() {
    let printed = without_numbers("{\"a\":1.5,\"b\":[1,2],\"c\":\"x\"}");
    assert!(has(&printed, "{\"a\":7,...,\"c\":\"x\"}"));
    assert!(!has(&printed, "{\"a\":7,...,\"d\":\"x\"}"));
    assert!(!has(&printed, "\"c\":...\"a\":"));
}
