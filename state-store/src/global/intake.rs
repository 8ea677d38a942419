//! What became of the records of a topic: counted, and kept with the copy, so that a restart forgets nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::{ReadKey, ReadValue, RejectReason};

/// What became of a topic's records since its copy was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intake {
    /// Rows taken, changed ones among them.
    pub rows: u64,
    /// Deletions taken: records without a value, and values that say so.
    pub deletions: u64,
    /// Keys taken out of JSON: strings in quotation marks, structs, envelopes.
    pub json_keys: u64,
    /// Values taken out of the envelope of `JsonConverter`.
    pub envelopes: u64,
    /// Change events of Debezium, of which the row after the change was taken.
    pub change_events: u64,
    /// Records that could not be taken, by reason: the old row stays.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// The last of them: topic-partition-offset, and what is wrong. Nothing of its content but names of fields.
    pub last_rejection: Option<String>,
}

impl Intake {
    /// Records that could not be taken.
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// There were records, and not one row could be taken.
    pub fn took_nothing(&self) -> bool {
        self.rows == 0 && self.rejected() > 0
    }

    pub(crate) fn took(&mut self, key: &ReadKey<'_>, value: Option<&ReadValue<'_>>) {
        self.json_keys += u64::from(key.from_json);
        if let Some(value) = value {
            self.envelopes += u64::from(value.wrapping.envelope);
            self.change_events += u64::from(value.wrapping.change_event);
        }
        match value.and_then(|value| value.row) {
            Some(_) => self.rows += 1,
            None => self.deletions += 1,
        }
    }

    pub(crate) fn rejects(&mut self, reason: RejectReason, place: String) {
        *self.rejected.entry(reason).or_default() += 1;
        self.last_rejection = Some(place);
    }
}
