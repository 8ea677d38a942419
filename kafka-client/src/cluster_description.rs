//! Topics and groups, as an administrator describes them and has them described.

use indexmap::IndexMap;

use crate::topic_partition::TopicId;

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's `num.partitions`.
    pub partitions: i32,
    /// How many replicas; -1 for the broker's `default.replication.factor`.
    pub replication_factor: i16,
    /// Topic options, for example `cleanup.policy`.
    pub config: IndexMap<String, String>,
}

impl NewTopic {
    /// A topic without options.
    pub fn new(name: impl Into<String>, partitions: i32, replication_factor: i16) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor,
            config: IndexMap::new(),
        }
    }

    /// The same topic with one option more.
    #[must_use]
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.config.insert(option.to_owned(), value.to_owned());
        self
    }
}

/// A topic as brokers tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// What it is known by: another one once it was deleted and made again. `None` from brokers before 2.8.
    pub id: Option<TopicId>,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as brokers tell of it; nodes by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// Brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are up to date.
    pub in_sync_replicas: Vec<i32>,
}

/// A group as its coordinator tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// `Stable`, `Empty`, `Dead`, `PreparingRebalance`, `CompletingRebalance`, ...
    pub state: String,
    /// How many members it has.
    pub members: usize,
}

/// What becomes of a topic's option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// It gets this value.
    Set(String),
    /// It goes back to the broker's default.
    Default,
}
