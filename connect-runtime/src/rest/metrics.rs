//! `GET /metrics`: Prometheus text under the names that dashboards for Connect use (contract 10): `kafka_connect_`, the
//! group without `-metrics`, the metric. docs/METRICS.md lists them all; a test compares the two.

use super::state::{ExtensionState, Ready, RestState};
use crate::records::status_table::{State, Status};
use crate::running::MetricKind::{self, Counter, Gauge};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

struct Family {
    kind: MetricKind,
    help: &'static str,
    /// labels and value, as they are written
    samples: Vec<String>,
}

#[derive(Default)]
struct Families(BTreeMap<String, Family>);

impl Families {
    fn add(&mut self, name: &str, kind: MetricKind, help: &'static str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let sample = match labels.is_empty() {
            true => format!(" {value}"),
            false => format!("{{{}}} {value}", labels.join(",")),
        };
        let family = self.0.entry(name.to_owned()).or_insert_with(|| Family {
            kind,
            help,
            samples: Vec::new(),
        });
        family.samples.push(sample);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.0 {
            let kind = match family.kind {
                Counter => "counter",
                Gauge => "gauge",
            };
            // writing to a string cannot fail
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for sample in &family.samples {
                let _ = writeln!(text, "{name}{sample}");
            }
        }
        text
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn text(state: &RestState) -> String {
    let mut families = Families::default();
    if let Some(ready) = state.ready.get() {
        add_statuses(&mut families, ready, &state.worker_id);
        add_starts(&mut families, ready);
        add_tasks(&mut families, ready);
    }
    let mut text = families.text();
    for mounted in &state.extensions {
        if *mounted.state.read() == ExtensionState::Started {
            text.push_str(&mounted.extension.metrics());
        }
    }
    text
}

/// What this worker's connectors and tasks do, as the status topic has it.
fn add_statuses(families: &mut Families, ready: &Ready, worker_id: &str) {
    let own = |status: &Status| status.worker_id == *worker_id;
    let statuses = ready.herder.statuses().read();
    let (mut connectors, mut tasks) = (0.0, 0.0);
    for (name, held) in statuses.connectors() {
        if let Some(status) = held.connector.as_ref().filter(|status| own(status)) {
            connectors += 1.0;
            families.add(
                "kafka_connect_connector_status",
                Gauge,
                "1 for the state that a connector of this worker is in.",
                &[("connector", name), ("status", &status.state.name().to_lowercase())],
                1.0,
            );
        }
        let mut by_state: BTreeMap<State, f64> = BTreeMap::new();
        for (task, status) in held.tasks.iter().filter(|(_, status)| own(status)) {
            tasks += 1.0;
            *by_state.entry(status.state).or_default() += 1.0;
            let (task, shown) = (task.to_string(), status.state.name().to_lowercase());
            families.add(
                "kafka_connect_connector_task_status",
                Gauge,
                "1 for the state that a task of this worker is in.",
                &[("connector", name), ("task", &task), ("status", &shown)],
                1.0,
            );
        }
        families.add(
            "kafka_connect_worker_connector_total_task_count",
            Gauge,
            "Tasks of a connector on this worker.",
            &[("connector", name)],
            by_state.values().sum(),
        );
        for (state, metric, help) in [
            (
                State::Running,
                "running",
                "Tasks of a connector that run on this worker.",
            ),
            (
                State::Paused,
                "paused",
                "Tasks of a connector that are paused on this worker.",
            ),
            (
                State::Failed,
                "failed",
                "Tasks of a connector that have failed on this worker.",
            ),
            (
                State::Unassigned,
                "unassigned",
                "Tasks of a connector that this worker has given up and nobody has taken over.",
            ),
            (
                State::Restarting,
                "restarting",
                "Tasks of a connector that are being restarted on this worker.",
            ),
        ] {
            families.add(
                &format!("kafka_connect_worker_connector_{metric}_task_count"),
                Gauge,
                help,
                &[("connector", name)],
                by_state.get(&state).copied().unwrap_or_default(),
            );
        }
    }
    families.add(
        "kafka_connect_worker_connector_count",
        Gauge,
        "Connectors that run on this worker.",
        &[],
        connectors,
    );
    families.add(
        "kafka_connect_worker_task_count",
        Gauge,
        "Tasks that run on this worker.",
        &[],
        tasks,
    );
}

/// Starts of connectors and tasks on this worker.
fn add_starts(families: &mut Families, ready: &Ready) {
    #[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let counters = ready.herder.counters();
    for (what, succeeded, failed, help) in [
        (
            "connector",
            count(&counters.connector_successes),
            count(&counters.connector_failures),
            [
                "Connectors that started or failed to.",
                "Connectors that started.",
                "Connectors that failed to start.",
                "Part of the connectors' starts that succeeded, from 0 to 1.",
                "Part of the connectors' starts that failed, from 0 to 1.",
            ],
        ),
        (
            "task",
            count(&counters.task_successes),
            count(&counters.task_failures),
            [
                "Tasks that started or failed to.",
                "Tasks that started.",
                "Tasks that failed before they had started.",
                "Part of the tasks' starts that succeeded, from 0 to 1.",
                "Part of the tasks' starts that failed, from 0 to 1.",
            ],
        ),
    ] {
        let attempts = succeeded + failed;
        let part = |count: f64| count / attempts.max(1.0);
        let metrics = [
            ("attempts_total", Counter, attempts),
            ("success_total", Counter, succeeded),
            ("failure_total", Counter, failed),
            ("success_percentage", Gauge, part(succeeded)),
            ("failure_percentage", Gauge, part(failed)),
        ];
        for ((metric, kind, value), help) in metrics.into_iter().zip(help) {
            let name = format!("kafka_connect_worker_{what}_startup_{metric}");
            families.add(&name, kind, help, &[], value);
        }
    }
}

/// What the running tasks measure.
fn add_tasks(families: &mut Families, ready: &Ready) {
    let running = ready.herder.running().lock().clone();
    for ((connector, task), handle) in running {
        let task = task.to_string();
        for metric in handle.metrics() {
            let group = metric.group.strip_suffix("-metrics").unwrap_or(metric.group);
            let name = format!("kafka_connect_{group}_{}", metric.name).replace('-', "_");
            families.add(
                &name,
                metric.kind,
                metric.help,
                &[("connector", &connector), ("task", &task)],
                metric.value,
            );
        }
    }
}
