//! Prometheus text (exposition format 0.0.4). docs/METRICS.md lists every name with its labels; a test compares the two.

use super::Metrics;
use crate::detach::Mode;
use crate::service::Started;
use std::fmt::Write;
use std::sync::atomic::Ordering;

pub(super) struct Text(String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(
            self.0,
            "# HELP millrace_inference_{name} {help}\n# TYPE millrace_inference_{name} {kind}"
        );
    }

    pub(super) fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(self.0, "millrace_inference_{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Metrics {
    /// The figures as Prometheus reads them.
    pub fn prometheus(&self, started: Option<&Started>) -> String {
        let snapshot = self.snapshot(started);
        let mut text = Text(String::new());
        text.single(
            "events_total",
            "counter",
            "Records handed over to inference tasks, those that came again after an abort included.",
            snapshot.events_in as f64,
        );
        text.single(
            "dead_letters_total",
            "counter",
            "Events that could not be read, and were reported as dead letters.",
            snapshot.dead_lettered as f64,
        );
        text.single(
            "commits_total",
            "counter",
            "Transactions of state, positions and outputs that were committed.",
            snapshot.commits as f64,
        );
        let aborted = self.aborted.load(Ordering::Relaxed) as f64;
        text.single(
            "commits_aborted_total",
            "counter",
            "Transactions that were aborted: their records are read again.",
            aborted,
        );
        let changes = self.state_changes.load(Ordering::Relaxed) as f64;
        text.single(
            "state_changes_total",
            "counter",
            "Changelog records of keyed stores that were sent.",
            changes,
        );
        text.single(
            "expired_total",
            "counter",
            "Entries of keyed stores that expired.",
            snapshot.expired as f64,
        );
        text.single(
            "archived_total",
            "counter",
            "Entries of keyed stores that were archived.",
            snapshot.archived as f64,
        );
        text.family(
            "archive_waiting",
            "gauge",
            "Failed attempts at the object that a partition's expired entries wait for; 0 or absent: nothing waits.",
        );
        for ((connector, store, partition), attempts) in started.map(Started::archive_attempts).unwrap_or_default() {
            let labels = [
                ("connector", connector.as_str()),
                ("store", store.as_str()),
                ("partition", &partition.to_string()),
            ];
            text.value("archive_waiting", &labels, f64::from(attempts));
        }
        text.single(
            "fairness_index",
            "gauge",
            "Jain's index since start over what tenants got of their fair share of CPU: 1 where each got what it asked for, or its weight's worth.",
            snapshot.fairness,
        );
        text.family(
            "stage_seconds_total",
            "counter",
            "Time of tasks by stage: match_and_features (sampled), commit, drain.",
        );
        for (stage, nanos) in [
            ("match_and_features", &self.stages.match_and_features_ns),
            ("commit", &self.stages.commit_ns),
            ("drain", &self.stages.drain_ns),
        ] {
            text.value(
                "stage_seconds_total",
                &[("stage", stage)],
                nanos.load(Ordering::Relaxed) as f64 / 1e9,
            );
        }
        text.family(
            "shed_total",
            "counter",
            "Events that were dropped for a tenant's model, by reason: rate, late.",
        );
        for ((tenant, reason), count) in self.shed_counts() {
            text.value(
                "shed_total",
                &[("tenant", &tenant), ("reason", reason.name())],
                count as f64,
            );
        }
        add_views(&mut text, &self.views());
        text.family(
            "tenant_cpu_seconds_total",
            "counter",
            "CPU of the runs of a tenant's models.",
        );
        for (name, tenant) in &snapshot.tenants {
            text.value(
                "tenant_cpu_seconds_total",
                &[("tenant", name)],
                tenant.cpu_us as f64 / 1e6,
            );
        }
        text.family(
            "store_rows",
            "gauge",
            "Rows of a store on this worker, of keyed stores estimated.",
        );
        for (name, store) in &snapshot.stores {
            text.value(
                "store_rows",
                &[("store", name), ("kind", store.kind)],
                store.rows as f64,
            );
        }
        if let Some(started) = started {
            super::stores::add(&mut text, started);
            add_models(&mut text, started);
        }
        text.0
    }
}

fn add_views(text: &mut Text, views: &std::collections::BTreeMap<String, super::ViewFigures>) {
    type Figure = fn(&super::ViewFigures) -> u64;
    let families: [(&str, &str, Figure); 4] = [
        (
            "view_events_total",
            "Events that a feature view was computed for.",
            |view| view.events,
        ),
        (
            "view_events_failed_total",
            "Events that were none for a feature view: its models have no rows of them.",
            |view| view.failed,
        ),
        (
            "view_lookups_missed_total",
            "Rows of global stores that a feature view asked for and that were not there.",
            |view| view.lookups_missed,
        ),
        (
            "view_texts_refused_total",
            "Texts that a feature view's expressions would have made too long.",
            |view| view.texts_refused,
        ),
    ];
    for (name, help, figure) in families {
        text.family(name, "counter", help);
        for (view, figures) in views {
            text.value(name, &[("view", view)], figure(figures) as f64);
        }
    }
    add_features(text, views);
}

/// Figures of features and their lookups, by view.
fn add_features(text: &mut Text, views: &std::collections::BTreeMap<String, super::ViewFigures>) {
    type Figure = fn(&super::FeatureFigures) -> u64;
    let families: [(&str, &str, Figure); 2] = [
        (
            "view_features_missing_total",
            "How often a feature was missing, and had its default where it has one.",
            |feature| feature.missing + feature.defaults_used,
        ),
        (
            "view_feature_defaults_used_total",
            "How often a feature was missing and had its default.",
            |feature| feature.defaults_used,
        ),
    ];
    for (name, help, figure) in families {
        text.family(name, "counter", help);
        for (view, figures) in views {
            for (feature, figures) in figures.features.iter().filter(|(_, figures)| figure(figures) > 0) {
                text.value(name, &[("view", view), ("feature", feature)], figure(figures) as f64);
            }
        }
    }
    type Lookup = fn(&super::LookupFigures) -> u64;
    let families: [(&str, &str, Lookup); 3] = [
        (
            "view_feature_lookups_total",
            "Rows of a global store that a feature asked for.",
            |lookup| lookup.asked,
        ),
        (
            "view_feature_lookups_missed_total",
            "Rows of a global store that a feature asked for and that were not there.",
            |lookup| lookup.missed,
        ),
        (
            "view_feature_lookups_without_key_total",
            "Events in which the key of a lookup was missing.",
            |lookup| lookup.without_key,
        ),
    ];
    for (name, help, figure) in families {
        text.family(name, "counter", help);
        for (view, figures) in views {
            for (feature, figures) in &figures.features {
                let Some(lookup) = &figures.lookup else { continue };
                let labels = [("view", view.as_str()), ("feature", feature), ("store", &lookup.store)];
                text.value(name, &labels, figure(lookup) as f64);
            }
        }
    }
}

fn add_models(text: &mut Text, started: &Started) {
    let deployment = started.deployment();
    text.single(
        "tasks_waiting_for_kafka",
        "gauge",
        "Tasks whose transaction Kafka keeps waiting.",
        started.tasks_waiting() as f64,
    );
    let models: Vec<_> = deployment
        .runtimes
        .iter()
        .map(|(name, runtime)| (name.as_str(), runtime.figures()))
        .collect();
    let detached = |model: &str| started.modes_of(model).into_values().filter(Mode::is_detached);
    for (name, help, value) in [
        (
            "detached_partitions",
            "Partitions in which a model reads from the feature log.",
            &(|model: &str| detached(model).count() as f64) as &dyn Fn(&str) -> f64,
        ),
        (
            "detached_lag_rows",
            "Rows of the feature log that a detached model has not done, at most.",
            &(|model: &str| detached(model).map(|mode| mode.lag() as f64).sum::<f64>()) as &dyn Fn(&str) -> f64,
        ),
    ] {
        text.family(name, "gauge", help);
        for (model, _) in &models {
            text.value(name, &[("tenant", tenant_of(model)), ("model", model)], value(model));
        }
    }
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&crate::models::RuntimeFigures) -> f64| {
        text.family(name, kind, help);
        for (model, figures) in &models {
            let labels = [("tenant", tenant_of(model)), ("model", model)];
            text.value(name, &labels, value(figures));
        }
    };
    family(
        "predictions_total",
        "counter",
        "Rows that gave an output.",
        &|figures| figures.predictions as f64,
    );
    family(
        "model_errors_total",
        "counter",
        "Rows that a model failed on.",
        &|figures| figures.errors as f64,
    );
    family(
        "model_input_errors_total",
        "counter",
        "Events that gave a model no row: a feature was no element of its tensor.",
        &|figures| figures.input_errors as f64,
    );
    family(
        "model_cpu_seconds_total",
        "counter",
        "CPU of a model's runs.",
        &|figures| figures.cpu_us as f64 / 1e6,
    );
    family(
        "deadlines_missed_total",
        "counter",
        "Predictions that came after the model's deadline.",
        &|figures| figures.deadlines_missed as f64,
    );
    family(
        "model_events_unusable_total",
        "counter",
        "Events that a model was given no row of, as they were none for its feature view or had no window key.",
        &|figures| figures.unusable as f64,
    );
    family(
        "detached_rows_total",
        "counter",
        "Rows of a detached model that were read from the feature log.",
        &|figures| figures.detached_rows as f64,
    );
    family(
        "outputs_refused",
        "gauge",
        "1 while a model's outputs wait, as its tenant's topics are missing or refuse them; its status says why.",
        &|figures| f64::from(u8::from(figures.outputs_refused.is_some())),
    );
    text.family(
        "latency_seconds",
        "gauge",
        "Time from a record's arrival at the task to its prediction, since start, by quantile.",
    );
    for (model, figures) in &models {
        let tenant = tenant_of(model);
        for (quantile, ms) in [("0.5", figures.latency_p50_ms), ("0.99", figures.latency_p99_ms)] {
            text.value(
                "latency_seconds",
                &[("tenant", tenant), ("model", model), ("quantile", quantile)],
                ms / 1e3,
            );
        }
    }
}

/// The tenant of `tenant/name`.
fn tenant_of(model: &str) -> &str {
    model.split('/').next().unwrap_or(model)
}
