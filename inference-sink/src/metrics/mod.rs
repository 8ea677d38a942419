//! Figures of the inference part of a worker: counters, a snapshot, Prometheus text.

mod features;
mod prometheus;
mod snapshot;
mod stores;

pub use features::{FeatureFigures, LookupFigures, add as add_features};
pub use snapshot::{Snapshot, StoreFigures, TenantSnapshot};

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

/// Why something was shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShedReason {
    /// over the tenant's rate
    Rate,
    /// the event's window had closed
    Late,
    /// a part of the event's window key was missing
    NoKey,
    /// the feature log that it waited in was deleted
    FeatureLog,
}

impl ShedReason {
    /// As in labels.
    pub fn name(self) -> &'static str {
        match self {
            ShedReason::Rate => "rate",
            ShedReason::Late => "late",
            ShedReason::NoKey => "no_window_key",
            ShedReason::FeatureLog => "feature_log",
        }
    }
}

/// Nanoseconds spent by stage, for the benchmark; divide by the number of events.
#[derive(Debug, Default)]
pub struct Stages {
    /// matching, features and state (sampled)
    pub match_and_features_ns: AtomicU64,
    /// commits: changelog, outputs of exactly_once_v2, positions
    pub commit_ns: AtomicU64,
    /// waiting for models at barriers
    pub drain_ns: AtomicU64,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Metrics {
    /// events handed over
    pub events_in: AtomicU64,
    /// events sent to the dead letter topic
    pub dead_letters: AtomicU64,
    /// transactions
    pub commits: AtomicU64,
    /// transactions that were aborted
    pub aborted: AtomicU64,
    /// changelog records of keyed stores
    pub state_changes: AtomicU64,
    /// entries that expired
    pub expired: AtomicU64,
    /// entries that were archived
    pub archived: AtomicU64,
    /// by stage
    pub stages: Stages,
    shed: Mutex<BTreeMap<(String, ShedReason), u64>>,
    views: Mutex<BTreeMap<String, ViewFigures>>,
}

/// Figures of one feature view.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ViewFigures {
    /// events computed
    pub events: u64,
    /// events that were none for the view: its models have no rows of them
    pub failed: u64,
    /// why, of the last one
    pub last_error: Option<String>,
    /// rows of global stores asked for
    pub lookups: u64,
    /// rows of global stores that were not there
    pub lookups_missed: u64,
    /// texts that an expression would have made too long: they were missing
    pub texts_refused: u64,
    /// by feature, of those that were missing once or look rows up
    pub features: features::Features,
}

impl Metrics {
    /// Counts what was shed of a tenant.
    pub fn shed(&self, tenant: &str, reason: ShedReason, events: u64) {
        let mut shed = self.shed.lock();
        match shed
            .iter_mut()
            .find(|((known, known_reason), _)| known == tenant && *known_reason == reason)
        {
            Some((_, count)) => *count += events,
            None => {
                shed.insert((tenant.to_owned(), reason), events);
            }
        }
    }

    /// Counts an event that a view could not use.
    pub fn view_failed(&self, view: &str, error: String) {
        self.with_view(view, |figures| {
            figures.failed += 1;
            figures.last_error = Some(error);
        });
    }

    /// Adds to a view's figures.
    pub fn with_view(&self, view: &str, add: impl FnOnce(&mut ViewFigures)) {
        let mut views = self.views.lock();
        match views.get_mut(view) {
            Some(figures) => add(figures),
            None => add(views.entry(view.to_owned()).or_default()),
        }
    }

    /// Figures by view.
    pub fn views(&self) -> BTreeMap<String, ViewFigures> {
        self.views.lock().clone()
    }

    /// Figures of one view.
    pub fn view(&self, view: &str) -> ViewFigures {
        self.views.lock().get(view).cloned().unwrap_or_default()
    }

    /// What was shed, by tenant and reason.
    pub fn shed_counts(&self) -> BTreeMap<(String, ShedReason), u64> {
        self.shed.lock().clone()
    }
}
