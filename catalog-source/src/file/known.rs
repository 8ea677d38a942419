//! What is in the topic, and how a new version differs from it. Pure.

use bytes::Bytes;
use connect_api::catalog_marker::Marker;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

/// Half of a SHA-256: two different rows do not meet by accident.
type Hash = [u8; 16];

fn hash(value: &[u8]) -> Hash {
    let digest = Sha256::digest(value);
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(digest) {
        *to = from;
    }
    half
}

/// The bytes of a key, and of the value that a record has or `None` for a tombstone.
pub(super) type Encoded = (Bytes, Option<Bytes>);

/// The rows of the topic, by the bytes of their keys, and its newest markers.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    rows: FxHashMap<Bytes, Hash>,
    /// newest marker, and how many partitions carry it
    newest: Option<(Marker, u32)>,
}

impl Known {
    /// Takes in a record of the topic.
    pub(super) fn observe(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let Some(key) = key else { return };
        if Marker::is_key(key) {
            if let Some(marker) = value.and_then(|value| Marker::parse(Some(value), None).ok()) {
                match &mut self.newest {
                    Some((newest, carriers)) if *newest == marker => *carriers += 1,
                    Some((newest, _)) if newest.version > marker.version => {}
                    _ => self.newest = Some((marker, 1)),
                }
            }
            return;
        }
        match value {
            Some(value) => self.rows.insert(Bytes::copy_from_slice(key), hash(value)),
            None => self.rows.remove(key),
        };
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The version that comes next.
    pub(super) fn next_version(&self) -> u64 {
        self.newest.as_ref().map_or(1, |(marker, _)| marker.version + 1)
    }

    /// Whether a version with content `digest` is complete in the topic: every partition carries its marker.
    pub(super) fn is_complete(&self, digest: &str) -> bool {
        self.newest
            .as_ref()
            .is_some_and(|(marker, carriers)| marker.digest == digest && *carriers >= marker.partitions)
    }

    /// What must be sent so that the topic holds exactly `rows`; knows it as sent from then on. Changed and new rows come
    /// in their order, then tombstones in the order of their keys.
    pub(super) fn replace(&mut self, rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> Vec<Encoded> {
        let mut next = FxHashMap::default();
        let mut changes = Vec::new();
        for (key, value) in rows {
            let now = hash(&value);
            if self.rows.get(&key) != Some(&now) {
                changes.push((key.clone(), Some(value)));
            }
            next.insert(key, now);
        }
        let mut gone: Vec<Bytes> = self
            .rows
            .keys()
            .filter(|key| !next.contains_key(*key))
            .cloned()
            .collect();
        gone.sort_unstable();
        changes.extend(gone.into_iter().map(|key| (key, None)));
        self.rows = next;
        changes
    }

    /// The marker is sent to every partition.
    pub(super) fn marked(&mut self, marker: Marker) {
        let carriers = marker.partitions;
        self.newest = Some((marker, carriers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Applying the changes of every version to a compacted topic leaves exactly the last version, also when a
        /// restart between two versions forgets everything but the topic.
        #[test]
        fn the_topic_holds_the_last_version(
            versions in proptest::collection::vec(proptest::collection::btree_map(0_u8..12, 0_u8..4, 0..10), 1..8),
            restarts in proptest::collection::vec(any::<bool>(), 8),
        ) {
            let mut topic: BTreeMap<Bytes, Bytes> = BTreeMap::new();
            let mut known = Known::default();
            for (version, restart) in versions.iter().zip(&restarts) {
                if *restart {
                    known = Known::default();
                    for (key, value) in &topic {
                        known.observe(Some(key), Some(value));
                    }
                }
                let rows: Vec<(Bytes, Bytes)> = version.iter().map(|(k, v)| (vec![*k].into(), vec![*v].into())).collect();
                let before = topic.clone();
                for (key, value) in known.replace(rows.clone()) {
                    match value {
                        Some(value) => {
                            prop_assert_ne!(before.get(&key), Some(&value), "an unchanged row was sent");
                            topic.insert(key, value);
                        }
                        None => prop_assert!(topic.remove(&key).is_some(), "a tombstone for nothing"),
                    }
                }
                prop_assert_eq!(topic.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>(), rows);
                prop_assert_eq!(known.len(), topic.len());
            }
        }
    }
}
