//! What became of the features of a view: lookups that missed, defaults that were used, values that were missing.

use feature_engine::{Evaluator, LookupCounts};
use serde::Serialize;
use std::collections::BTreeMap;

/// Figures of one feature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FeatureFigures {
    /// events in which it was missing and has no default: models had no value
    pub missing: u64,
    /// events in which it was missing and had its default
    pub defaults_used: u64,
    /// of a lookup
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<LookupFigures>,
}

/// Figures of a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LookupFigures {
    /// the global store
    pub store: String,
    /// rows asked for
    pub asked: u64,
    /// of these, rows that were not there
    pub missed: u64,
    /// events in which the key was missing, so that no row could be asked for
    pub without_key: u64,
}

/// Features by name.
pub type Features = BTreeMap<String, FeatureFigures>;

/// Adds what an evaluator has counted since it was asked last.
pub fn add(features: &mut Features, evaluator: &mut Evaluator) {
    evaluator.take_lookups(|feature, store, counts: LookupCounts| {
        let lookup = features
            .entry(feature.to_owned())
            .or_default()
            .lookup
            .get_or_insert_with(|| LookupFigures {
                store: store.to_owned(),
                ..LookupFigures::default()
            });
        lookup.asked += counts.asked;
        lookup.missed += counts.missed;
        lookup.without_key += counts.without_key;
    });
    let plan = evaluator.plan().clone();
    evaluator.take_missing(|feature, count| {
        let figures = features.entry(feature.to_owned()).or_default();
        match plan.has_default(feature) {
            true => figures.defaults_used += count,
            false => figures.missing += count,
        }
    });
}
