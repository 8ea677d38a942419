//! The internal topics themselves: created at start where they are missing, refused where compaction is not set
//! (contract 2.1).

use super::StorageError;
use crate::config::WorkerConfig;
use connect_api::config::with_prefix;
use kafka_client::{Admin, ErrorCode, KafkaError, NewTopic, Remedy};
use std::time::{Duration, Instant};

/// One of the three internal topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InternalTopic {
    /// connector configurations, task configurations, target states
    Config,
    /// source offsets
    Offsets,
    /// statuses
    Status,
}

/// How long the creation of a topic is tried again.
const CREATION_BUDGET: Duration = Duration::from_secs(60);
const CREATION_BACKOFF: Duration = Duration::from_secs(1);

impl InternalTopic {
    /// `config.storage.`: prefix of its options.
    pub fn prefix(self) -> &'static str {
        match self {
            InternalTopic::Config => "config.storage.",
            InternalTopic::Offsets => "offset.storage.",
            InternalTopic::Status => "status.storage.",
        }
    }

    /// Its name in this worker's properties.
    pub fn name(self, worker: &WorkerConfig) -> &str {
        worker
            .parsed()
            .text(&format!("{}topic", self.prefix()))
            .unwrap_or_default()
    }

    /// How it is created: one partition for the configurations, the worker's number for the others; always compacted.
    pub fn description(self, worker: &WorkerConfig) -> NewTopic {
        let number = |option: &str| worker.parsed().integer(&format!("{}{option}", self.prefix()));
        let partitions = match self {
            InternalTopic::Config => 1,
            InternalTopic::Offsets | InternalTopic::Status => number("partitions")
                .and_then(|count| i32::try_from(count).ok())
                .unwrap_or(-1),
        };
        let replication = number("replication.factor")
            .and_then(|factor| i16::try_from(factor).ok())
            .unwrap_or(-1);
        let mut topic = NewTopic::new(self.name(worker), partitions, replication).with("cleanup.policy", "compact");
        for (option, value) in with_prefix(worker.properties(), self.prefix()) {
            match (option.as_str(), value) {
                ("topic" | "partitions" | "replication.factor", _) | (_, None) => {}
                ("cleanup.policy", Some(_)) => {
                    let option = format!("{}cleanup.policy", self.prefix());
                    tracing::warn!(%option, "option is ignored: internal topics are compacted");
                }
                (_, Some(value)) => topic = topic.with(&option, &value),
            }
        }
        topic
    }

    /// Creates the topic if it is missing, and checks what is there. `tell` hears of what keeps it from being created.
    ///
    /// # Errors
    /// A topic that is missing and may not be created, has another `cleanup.policy` than `compact`, or, for the
    /// configurations, more than one partition.
    pub async fn ensure(
        self,
        admin: &Admin,
        worker: &WorkerConfig,
        tell: &(dyn Fn(String) + Sync),
    ) -> Result<(), StorageError> {
        let name = self.name(worker);
        if self.exists(admin, worker).await?.is_none() {
            if !worker.parsed().boolean("internal.topics.automatic.creation.enable") {
                return Err(StorageError::Refused(format!(
                    "topic {name} ({}topic) does not exist and internal.topics.automatic.creation.enable is false: create it with cleanup.policy=compact",
                    self.prefix()
                )));
            }
            self.create(admin, worker, tell).await?;
        }
        match admin.describe_topic_config(name).await {
            Ok(options) => match options.get("cleanup.policy").map(String::as_str) {
                Some("compact") | None => {}
                Some(policy) => {
                    return Err(StorageError::Refused(format!(
                        "Topic '{name}' supplied via the '{}topic' property is required to have 'cleanup.policy=compact' to guarantee consistency and durability of Connect's data, but found the topic currently has 'cleanup.policy={policy}'. Continuing would likely result in eventually losing data and problems restarting this Connect cluster in the future. Change the '{}topic' property in the Connect worker configurations to use a topic with 'cleanup.policy=compact'.",
                        self.prefix(),
                        self.prefix()
                    )));
                }
            },
            Err(error) => {
                tracing::info!(topic = %name, %error, "cleanup policy of the topic could not be checked");
            }
        }
        match self.exists(admin, worker).await? {
            Some(partitions) if self == InternalTopic::Config && partitions != 1 => {
                Err(StorageError::Refused(format!(
                    "Topic '{name}' supplied via the 'config.storage.topic' property is required to have a single partition in order to guarantee consistency of connector configurations, but found {partitions} partitions."
                )))
            }
            _ => Ok(()),
        }
    }

    /// Number of partitions, if it exists.
    async fn exists(self, admin: &Admin, worker: &WorkerConfig) -> Result<Option<usize>, StorageError> {
        let topic = admin.topic(self.name(worker)).await?;
        Ok(topic.map(|topic| topic.partitions.len()))
    }

    async fn create(
        self,
        admin: &Admin,
        worker: &WorkerConfig,
        tell: &(dyn Fn(String) + Sync),
    ) -> Result<(), StorageError> {
        let topic = self.description(worker);
        let give_up = Instant::now() + CREATION_BUDGET;
        loop {
            let outcome = match admin.create_topics(std::slice::from_ref(&topic)).await {
                Ok(results) => results.into_iter().next().map_or(Ok(()), |(_, result)| result),
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(()) => {
                    tracing::info!(topic = %topic.name, partitions = topic.partitions, "created internal topic");
                    return Ok(());
                }
                Err(error) if error.code == ErrorCode::TopicAlreadyExists => return Ok(()),
                Err(error) => error,
            };
            let passes = error.remedy() == Remedy::Wait;
            // fewer brokers than replicas while a cluster comes up
            let may_pass = passes || error.code == ErrorCode::InvalidReplicationFactor;
            let refused = self.refusal(&topic, error);
            if !may_pass || Instant::now() >= give_up {
                return Err(refused);
            }
            tracing::warn!(topic = %topic.name, error = %refused, "internal topic could not be created, trying again");
            tell(refused.to_string());
            tokio::time::sleep(CREATION_BACKOFF).await;
        }
    }

    /// Why the topic is not created, with the option that says how it is.
    fn refusal(self, topic: &NewTopic, error: KafkaError) -> StorageError {
        let (name, prefix) = (&topic.name, self.prefix());
        let advice = match error.code {
            ErrorCode::InvalidReplicationFactor => format!(
                "set {prefix}replication.factor, which is {}, to no more than there are brokers",
                topic.replication_factor
            ),
            ErrorCode::InvalidPartitions => {
                format!(
                    "set {prefix}partitions, which is {}, to what the brokers allow",
                    topic.partitions
                )
            }
            ErrorCode::InvalidTopic => format!("give {prefix}topic a name that Kafka takes"),
            ErrorCode::InvalidConfig | ErrorCode::PolicyViolation => format!("see the options {prefix}*"),
            _ if error.is_authorization() => {
                format!(
                    "give the worker the right to create it, or create it with cleanup.policy=compact ({prefix}topic)"
                )
            }
            _ => return StorageError::Kafka(error.while_doing(format!("creating topic {name} ({prefix}topic)"))),
        };
        StorageError::Refused(format!(
            "topic {name} ({prefix}topic) cannot be created: {advice}: {error}"
        ))
    }
}
