//! Everything the broker holds, shared by its connections and timers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::config::DevBrokerConfig;
use crate::faults::Faults;
use crate::groups::coordinator::GroupCoordinator;
use crate::log::partition::PartitionLog;
use crate::storage::DataDirectory;
use crate::storage::journal::{Entry, Journal};
use crate::storage::segments::PartitionFiles;
use crate::topic_config::TopicConfig;
use crate::topics::{Partition, Topic, Topics, is_valid_name};
use crate::transactions::TransactionCoordinator;

/// Most partitions that one topic may have.
const MAX_PARTITIONS: i32 = 10_000;

/// The broker.
#[derive(Debug)]
pub struct Broker {
    /// Settings.
    pub config: DevBrokerConfig,
    /// Id of the cluster.
    pub cluster_id: StrBytes,
    /// Host that clients are told.
    pub host: StrBytes,
    /// Port that clients are told.
    pub port: i32,
    /// Topics.
    pub topics: Arc<Topics>,
    /// Groups.
    pub groups: Arc<GroupCoordinator>,
    /// Transactions.
    pub transactions: TransactionCoordinator,
    /// Where changes are kept.
    pub journal: Journal,
    /// Where files are, if there are any.
    pub data: Option<DataDirectory>,
    /// Faults to inject.
    pub faults: Faults,
}

/// An error with what is wrong.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Kafka's code.
    pub error: ResponseError,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(error: ResponseError, message: impl Into<String>) -> Refusal {
        Refusal {
            error,
            message: message.into(),
        }
    }
}

impl Broker {
    /// Creates a topic, or only checks whether it could.
    ///
    /// # Errors
    /// As Kafka refuses it: the name, the count, the settings, or because it exists.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        config: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Arc<Topic>, Refusal> {
        if !is_valid_name(name) {
            let message = format!("Topic name is invalid: '{name}'");
            return Err(Refusal::new(ResponseError::InvalidTopicException, message));
        }
        if self.topics.get(name).is_some() {
            return Err(already_exists(name));
        }
        let partitions = if partitions == -1 {
            self.config.default_partitions
        } else {
            partitions
        };
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let message = format!(
                "Number of partitions was set to an invalid value {partitions}, it must be 1 to {MAX_PARTITIONS}"
            );
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        let config = TopicConfig::new(config).map_err(|message| Refusal::new(ResponseError::InvalidConfig, message))?;
        let id = Uuid::new_v4();
        let count = usize::try_from(partitions).unwrap_or(1);
        let empty = match validate_only {
            true => (0..count).map(|_| Arc::new(Partition::default())).collect(),
            false => self.new_partitions(id, 0..count, &config)?,
        };
        let own = config.own().clone();
        let topic = Arc::new(Topic::new(StrBytes::from_string(name.to_owned()), id, empty, config));
        if validate_only {
            return Ok(topic);
        }
        if !self.topics.insert(topic.clone()) {
            return Err(already_exists(name));
        }
        let name = name.to_owned();
        self.journal.record(&Entry::TopicCreated {
            name,
            id: id.as_u128(),
            partitions,
            config: own,
        });
        Ok(topic)
    }

    fn new_partitions(
        &self,
        topic: Uuid,
        indexes: Range<usize>,
        config: &TopicConfig,
    ) -> Result<Vec<Arc<Partition>>, Refusal> {
        let partitions = indexes.map(|index| {
            open_partition(self.data.as_ref(), topic, index, config, 0).map_err(|error| {
                let message = format!("the files of partition {index} cannot be opened: {error}");
                Refusal::new(ResponseError::KafkaStorageError, message)
            })
        });
        partitions.collect()
    }

    /// Deletes a topic with the offsets that groups have of it.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub fn delete_topic(&self, name: &str) -> Result<Arc<Topic>, ResponseError> {
        let topic = self.topics.remove(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        self.journal.record(&Entry::TopicDeleted { name: name.to_owned() });
        if let Some(data) = &self.data {
            data.remove_topic(topic.id);
        }
        self.groups.forget_topic(name);
        Ok(topic)
    }

    /// Gives a topic more partitions, `count` altogether.
    ///
    /// # Errors
    /// As Kafka refuses it.
    pub fn create_partitions(&self, name: &str, count: i32, validate_only: bool) -> Result<(), Refusal> {
        let Some(topic) = self.topics.get(name) else {
            let message = "This server does not host this topic-partition.";
            return Err(Refusal::new(ResponseError::UnknownTopicOrPartition, message));
        };
        let current = topic.partition_count();
        let wanted = usize::try_from(count).unwrap_or(0);
        if wanted <= current || count > MAX_PARTITIONS {
            let message =
                format!("The topic {name} currently has {current} partition(s); {count} would not be an increase.");
            return Err(Refusal::new(ResponseError::InvalidPartitions, message));
        }
        if !validate_only {
            let config = topic.config.read().clone();
            topic.extend(self.new_partitions(topic.id, current..wanted, &config)?);
            let name = name.to_owned();
            self.journal.record(&Entry::PartitionsAdded {
                name,
                partitions: count,
            });
        }
        Ok(())
    }

    /// Sets a topic's own settings.
    ///
    /// # Errors
    /// As Kafka refuses it.
    pub fn set_topic_config(
        &self,
        topic: &Topic,
        config: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let config = TopicConfig::new(config).map_err(|message| Refusal::new(ResponseError::InvalidConfig, message))?;
        if !validate_only {
            let name = topic.name.to_string();
            let own = config.own().clone();
            *topic.config.write() = config;
            self.journal.record(&Entry::ConfigChanged { name, config: own });
        }
        Ok(())
    }
}

/// Opens a partition with what is in its files, if the broker keeps any.
///
/// # Errors
/// When they cannot be read or written.
pub fn open_partition(
    data: Option<&DataDirectory>,
    topic: Uuid,
    index: usize,
    config: &TopicConfig,
    log_start_offset: i64,
) -> std::io::Result<Arc<Partition>> {
    let log = match data {
        None => PartitionLog::default(),
        Some(data) => {
            let directory = data.partition(topic, index);
            let (files, batches) = PartitionFiles::open(directory, config.segment_bytes())?;
            PartitionLog::with_files(files, batches, log_start_offset)
        }
    };
    Ok(Arc::new(Partition::new(log)))
}

fn already_exists(name: &str) -> Refusal {
    Refusal::new(
        ResponseError::TopicAlreadyExists,
        format!("Topic '{name}' already exists."),
    )
}
