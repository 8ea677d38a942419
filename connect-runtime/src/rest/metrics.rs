//! `GET /metrics`: Prometheus text under the names that dashboards for Connect use (contract 10): `kafka_connect_`, the
//! group without `-metrics`, the metric.

use super::state::{ExtensionState, RestState};
use crate::storage::status_table::{State, Status};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

#[derive(Default)]
struct Families(BTreeMap<String, Vec<String>>);

impl Families {
    fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut line = name.to_owned();
        if !labels.is_empty() {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                .collect();
            line.push_str(&format!("{{{}}}", labels.join(",")));
        }
        line.push_str(&format!(" {value}"));
        self.0.entry(name.to_owned()).or_default().push(line);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, lines) in &self.0 {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            // writing to a string cannot fail
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for line in lines {
                let _ = writeln!(text, "{line}");
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
        let herder = &ready.herder;
        let counters = herder.counters();
        #[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let own = |status: &Status| status.worker_id == *state.worker_id;
        let statuses = herder.statuses().read();
        let (mut connectors, mut tasks) = (0.0, 0.0);
        for (name, held) in statuses.connectors() {
            if let Some(status) = held.connector.as_ref().filter(|status| own(status)) {
                connectors += 1.0;
                let shown = status.state.name().to_lowercase();
                families.add(
                    "kafka_connect_connector_status",
                    &[("connector", name), ("status", &shown)],
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
                    &[("connector", name), ("task", &task), ("status", &shown)],
                    1.0,
                );
            }
            families.add(
                "kafka_connect_worker_connector_total_task_count",
                &[("connector", name)],
                by_state.values().sum(),
            );
            for known in [
                State::Running,
                State::Paused,
                State::Failed,
                State::Unassigned,
                State::Restarting,
            ] {
                families.add(
                    &format!(
                        "kafka_connect_worker_connector_{}_task_count",
                        known.name().to_lowercase()
                    ),
                    &[("connector", name)],
                    by_state.get(&known).copied().unwrap_or_default(),
                );
            }
        }
        let starts = [
            (
                "connector",
                count(&counters.connector_attempts),
                count(&counters.connector_failures),
            ),
            ("task", count(&counters.task_attempts), count(&counters.task_failures)),
        ];
        for (what, attempts, failures) in starts {
            families.add(
                &format!("kafka_connect_worker_{what}_startup_attempts_total"),
                &[],
                attempts,
            );
            families.add(
                &format!("kafka_connect_worker_{what}_startup_failure_total"),
                &[],
                failures,
            );
            families.add(
                &format!("kafka_connect_worker_{what}_startup_success_total"),
                &[],
                (attempts - failures).max(0.0),
            );
        }
        families.add("kafka_connect_worker_connector_count", &[], connectors);
        families.add("kafka_connect_worker_task_count", &[], tasks);
        let running = herder.running().lock().clone();
        for ((connector, task), handle) in running {
            let task = task.to_string();
            for metric in handle.metrics() {
                let group = metric.group.strip_suffix("-metrics").unwrap_or(metric.group);
                let name = format!("kafka_connect_{group}_{}", metric.name).replace('-', "_");
                families.add(&name, &[("connector", &connector), ("task", &task)], metric.value);
            }
        }
    }
    let mut text = families.text();
    for mounted in &state.extensions {
        if *mounted.state.read() == ExtensionState::Started {
            text.push_str(&mounted.extension.metrics());
        }
    }
    text
}
