//! `millrace demo`, interrupted at any moment and started again on the same directory: it ends in order, and goes on where
//! it was, so that the last line accounts for every event once.

#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const EVENTS: u64 = 20_000;
/// A line that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// A demo at work, with the lines of its standard output and of its standard error as they come.
struct Demo {
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Demo {
    fn start(directory: &Path, further: &[&str]) -> Self {
        let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["demo", "--port", "0", "--events", &EVENTS.to_string(), "--directory"])
            .arg(directory)
            .args(further)
            .current_dir(Path::new(&package).parent().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(process.stdout.take().unwrap()),
            Box::new(process.stderr.take().unwrap()),
        ];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // Nobody listens to a demo that the test has given up.
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            process,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line.
    fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("{what}: {error}\n{}", self.seen.join("\n")),
            }
        }
    }

    /// SIGINT, as Ctrl-C sends it, and what it printed; it must end well.
    fn interrupt(self) -> Vec<String> {
        let process = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &process])
                .status()
                .unwrap()
                .success()
        );
        self.end()
    }

    /// Waits for its end, which must be a good one, and gives what it printed.
    fn end(mut self) -> Vec<String> {
        // Both outputs end with the process.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.seen.join("\n"));
        let complaints: Vec<&String> = self.seen.iter().filter(|line| line.contains(" ERROR ")).collect();
        assert!(complaints.is_empty(), "errors in the log: {complaints:#?}");
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended, unless the test fails.
        let _ = self.process.kill();
    }
}

/// Events of a line of progress.
fn progress(line: &str) -> u64 {
    let (events, _) = line.split_once(" of ").unwrap_or_default();
    events.parse().unwrap_or(0)
}

fn summary(lines: &[String]) -> Value {
    let line = lines.iter().rev().find(|line| line.starts_with('{'));
    serde_json::from_str(line.expect("no summary")).unwrap()
}

fn check(summary: &Value) {
    assert_eq!(summary["events_in"], EVENTS, "{summary}");
    assert_eq!(summary["dead_lettered"], 0, "{summary}");
    for model in ["personalization/reorder", "marketing/coupon", "research/ensemble"] {
        assert_eq!(summary["predictions"][model], EVENTS, "{model}: {summary}");
    }
    let shed = summary["shed"]["trial"].as_u64().unwrap_or(0);
    let predicted = summary["predictions"]["trial/reorder"].as_u64().unwrap();
    assert_eq!(predicted + shed, EVENTS, "{summary}");
    for (model, auc) in summary["auc"].as_object().unwrap() {
        let (online, offline) = (auc["online"].as_f64().unwrap(), auc["offline"].as_f64().unwrap());
        assert!((online - offline).abs() < 0.005, "{model}: {auc}");
        // Event by event: what the training script predicted from features of its own.
        let difference = auc["largest_difference"].as_f64().unwrap();
        assert!(difference < 1e-4, "{model}: {auc}");
    }
}

#[test]
fn an_interrupted_demo_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();

    let mut configuring = Demo::start(directory.path(), &[]);
    configuring.until("tenants", |line| line.starts_with("tenants subscribe"));
    configuring.interrupt();

    let mut replaying = Demo::start(directory.path(), &["--rate", "4000"]);
    replaying.until("progress", |line| progress(line) > 0);
    let lines = replaying.interrupt();
    let done = lines.iter().map(|line| progress(line)).max().unwrap();
    assert!((1..EVENTS).contains(&done), "interrupted after {done} events");
    assert!(
        !lines.iter().any(|line| line.starts_with('{')),
        "a summary in the middle"
    );

    let mut replayed = Demo::start(directory.path(), &[]);
    replayed.until("the end of the replay", |line| {
        line.starts_with("everything was replayed")
    });
    check(&summary(&replayed.interrupt()));

    // Nothing is left to do, and nothing is done again.
    check(&summary(&Demo::start(directory.path(), &["--exit"]).end()));
}
