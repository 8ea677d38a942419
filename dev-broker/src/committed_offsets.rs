//! A group's committed offsets, and those of open transactions.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// A topic's name and a partition.
pub type PartitionKey = (String, i32);

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// Next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 when not known.
    pub leader_epoch: i32,
    /// The client's own note.
    pub metadata: String,
}

/// Offsets of one group.
#[derive(Debug, Clone, Default)]
pub struct GroupOffsets {
    /// Committed ones.
    pub committed: BTreeMap<PartitionKey, CommittedOffset>,
    /// Those of open transactions, by producer id.
    pub pending: FxHashMap<i64, BTreeMap<PartitionKey, CommittedOffset>>,
}

impl GroupOffsets {
    /// Whether an open transaction has an offset of that partition.
    pub fn is_unstable(&self, partition: &PartitionKey) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(partition))
    }

    /// Ends a producer's transaction: its offsets become committed, or are dropped. Returns those
    /// that became committed.
    pub fn end_transaction(&mut self, producer_id: i64, commit: bool) -> Vec<(PartitionKey, CommittedOffset)> {
        let Some(pending) = self.pending.remove(&producer_id) else {
            return Vec::new();
        };
        if !commit {
            return Vec::new();
        }
        self.committed.extend(pending.clone());
        pending.into_iter().collect()
    }

    /// Drops what there is of a topic.
    pub fn forget_topic(&mut self, topic: &str) {
        self.committed.retain(|(name, _), _| name != topic);
        for pending in self.pending.values_mut() {
            pending.retain(|(name, _), _| name != topic);
        }
    }
}
