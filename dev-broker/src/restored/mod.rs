//! The state that a journal leads to: a pure fold over its entries, and back.

mod transactions;

pub use transactions::{ProducerIdentity, Transactions};

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::committed_offsets::GroupOffsets;
use crate::storage::journal::Entry;

/// A topic without its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredTopic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its own settings.
    pub config: BTreeMap<String, String>,
    /// Where its partitions begin, if not at 0.
    pub log_starts: BTreeMap<i32, i64>,
}

/// A group without its members: those join again.
#[derive(Debug, Clone, Default)]
pub struct RestoredGroup {
    /// The last generation.
    pub generation: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: Option<String>,
    /// Its offsets.
    pub offsets: GroupOffsets,
}

/// Everything that is not a record.
#[derive(Debug, Default)]
pub struct Restored {
    /// Id of the cluster, if it has been started before.
    pub cluster_id: Option<String>,
    /// Topics by name.
    pub topics: BTreeMap<String, RestoredTopic>,
    /// Groups by id.
    pub groups: BTreeMap<String, RestoredGroup>,
    /// Transactional ids.
    pub transactions: Transactions,
}

impl Restored {
    /// Folds the entries in order.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> Restored {
        let mut restored = Restored::default();
        for entry in entries {
            restored.apply(entry);
        }
        restored
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Cluster { id } => self.cluster_id = Some(id),
            Entry::TopicCreated {
                name,
                id,
                partitions,
                config,
            } => {
                let id = Uuid::from_u128(id);
                let log_starts = BTreeMap::new();
                self.topics.insert(
                    name,
                    RestoredTopic {
                        id,
                        partitions,
                        config,
                        log_starts,
                    },
                );
            }
            Entry::TopicDeleted { name } => {
                self.topics.remove(&name);
                for group in self.groups.values_mut() {
                    group.offsets.forget_topic(&name);
                }
            }
            Entry::PartitionsAdded { name, partitions } => {
                self.topics
                    .entry(name)
                    .and_modify(|topic| topic.partitions = partitions);
            }
            Entry::ConfigChanged { name, config } => {
                self.topics.entry(name).and_modify(|topic| topic.config = config);
            }
            Entry::LogStart {
                topic,
                partition,
                offset,
            } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.log_starts.insert(partition, offset);
                }
            }
            Entry::Generation {
                group,
                generation,
                protocol_type,
            } => {
                let group = self.groups.entry(group).or_default();
                group.generation = generation;
                group.protocol_type = protocol_type;
            }
            Entry::Offsets { group, offsets } => {
                self.groups.entry(group).or_default().offsets.committed.extend(offsets);
            }
            Entry::OffsetsDeleted { group, partitions } => {
                let group = self.groups.entry(group).or_default();
                group.offsets.committed.retain(|key, _| !partitions.contains(key));
            }
            Entry::GroupDeleted { group } => {
                self.groups.remove(&group);
            }
            Entry::PendingOffsets {
                group,
                producer_id,
                offsets,
            } => {
                let group = self.groups.entry(group).or_default();
                group.offsets.pending.entry(producer_id).or_default().extend(offsets);
            }
            Entry::PendingEnded {
                group,
                producer_id,
                commit,
            } => {
                let group = self.groups.entry(group).or_default();
                group.offsets.end_transaction(producer_id, commit);
            }
            Entry::NextProducerId { .. } | Entry::Transaction { .. } => {
                self.transactions.restore(entry);
            }
        }
    }

    /// The shortest journal that leads here.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        entries.extend(self.cluster_id.iter().map(|id| Entry::Cluster { id: id.clone() }));
        for (name, topic) in &self.topics {
            entries.push(Entry::TopicCreated {
                name: name.clone(),
                id: topic.id.as_u128(),
                partitions: topic.partitions,
                config: topic.config.clone(),
            });
            entries.extend(topic.log_starts.iter().map(|(partition, offset)| Entry::LogStart {
                topic: name.clone(),
                partition: *partition,
                offset: *offset,
            }));
        }
        for (id, group) in &self.groups {
            entries.extend(group_entries(id, group));
        }
        entries.extend(self.transactions.entries());
        entries
    }
}

fn group_entries(id: &str, group: &RestoredGroup) -> Vec<Entry> {
    let committed = group.offsets.committed.iter();
    let pending = group.offsets.pending.iter().map(|(producer_id, offsets)| {
        let offsets = offsets.iter().map(|(key, offset)| (key.clone(), offset.clone()));
        Entry::PendingOffsets {
            group: id.to_owned(),
            producer_id: *producer_id,
            offsets: offsets.collect(),
        }
    });
    let mut entries = vec![
        Entry::Generation {
            group: id.to_owned(),
            generation: group.generation,
            protocol_type: group.protocol_type.clone(),
        },
        Entry::Offsets {
            group: id.to_owned(),
            offsets: committed.map(|(key, offset)| (key.clone(), offset.clone())).collect(),
        },
    ];
    entries.extend(pending);
    entries
}
