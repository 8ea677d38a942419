//! The gate of a global store: what a version must fulfil to be served. Pure.
//!
//! `min_rows` and `max_shrink` compare versions where they end; a version that fails is not served, and the last good one
//! keeps serving. `required` looks at single rows: a change that fails keeps the old row.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a version must fulfil.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The fewest rows a version may have.
    pub min_rows: Option<u64>,
    /// The largest part of the serving version's rows that the next may lack: 0.1 for 10%.
    pub max_shrink: Option<f64>,
    /// Fields that every row must have, not null. Rows are JSON objects.
    pub required: Vec<String>,
}

/// Why a version is not served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It has fewer rows than `min_rows`.
    MinRows {
        /// Its rows.
        rows: u64,
        /// The fewest allowed.
        min_rows: u64,
    },
    /// It has lost more rows than `max_shrink` allows.
    MaxShrink {
        /// Its rows.
        rows: u64,
        /// Rows of the version that serves.
        serving: u64,
        /// The largest part that may be lost.
        max_shrink: f64,
    },
    /// None of its records could be read as a row, and a version serves.
    NothingReadable {
        /// Its records.
        rejected: u64,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::MinRows { rows, min_rows } => write!(f, "{rows} rows, fewer than gate.min_rows {min_rows}"),
            Refusal::MaxShrink {
                rows,
                serving,
                max_shrink,
            } => {
                write!(
                    f,
                    "{rows} rows of {serving} before, a loss above gate.max_shrink {max_shrink}"
                )
            }
            Refusal::NothingReadable { rejected } => {
                write!(f, "none of its {rejected} records could be read as a row")
            }
        }
    }
}

impl Gate {
    /// Whether versions are compared at all; if not, rows are served as they come.
    pub fn compares_versions(&self) -> bool {
        self.min_rows.is_some() || self.max_shrink.is_some()
    }

    /// Compares a version of `rows` rows with the one that serves (none: nothing serves yet).
    pub fn verdict(&self, serving: Option<u64>, rows: u64) -> Result<(), Refusal> {
        if let Some(min_rows) = self.min_rows
            && rows < min_rows
        {
            return Err(Refusal::MinRows { rows, min_rows });
        }
        if let (Some(max_shrink), Some(serving)) = (self.max_shrink, serving) {
            // A quotient is rounded as the share itself was, so that exactly 29% of 100 rows pass at `29%`.
            let lost = serving.saturating_sub(rows) as f64 / (serving as f64).max(1.0);
            if lost > max_shrink {
                return Err(Refusal::MaxShrink {
                    rows,
                    serving,
                    max_shrink,
                });
            }
        }
        Ok(())
    }

    /// Checks a row's required fields. Error: which is missing, or that the row is no JSON object.
    pub fn check_row(&self, value: &[u8]) -> Result<(), String> {
        if self.required.is_empty() {
            return Ok(());
        }
        let fields = object_fields(value)?;
        match self
            .required
            .iter()
            .find(|name| fields.get(*name).is_none_or(|value| value.get() == "null"))
        {
            Some(missing) => Err(format!("required field {missing} is missing")),
            None => Ok(()),
        }
    }
}

fn object_fields(bytes: &[u8]) -> Result<std::collections::HashMap<String, &RawValue>, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("the row is not a JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_version_passes_exactly_if_it_is_large_enough(serving in prop::option::of(0u64..1000), rows in 0u64..1000, min in 0u64..1000, percent in 0u32..=100) {
            let gate = Gate { min_rows: Some(min), max_shrink: Some(f64::from(percent) / 100.0), required: vec![] };
            let passes = gate.verdict(serving, rows).is_ok();
            let shrunk = serving.is_some_and(|serving| {
                serving.saturating_sub(rows) * 100 > u64::from(percent) * serving
            });
            prop_assert_eq!(passes, rows >= min && !shrunk);
        }
    }

    #[test]
    fn required_fields_are_looked_for() {
        let gate = Gate {
            required: vec!["id".into(), "type".into()],
            ..Gate::default()
        };
        assert_eq!(gate.check_row(br#"{"id":1,"type":"a","more":[1,2]}"#), Ok(()));
        assert_eq!(
            gate.check_row(br#"{"id":1,"type":null}"#).unwrap_err(),
            "required field type is missing"
        );
        assert!(gate.check_row(br#"{"id":1}"#).unwrap_err().contains("type"));
        assert!(gate.check_row(b"\0\x01").unwrap_err().contains("not a JSON object"));
        assert_eq!(Gate::default().check_row(b"\0"), Ok(()));
    }
}
