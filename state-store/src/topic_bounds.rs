//! What the brokers say of a topic that a local copy follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_client::{Admin, IsolationLevel, KafkaError, TopicId, TopicPartition};

/// Kafka's default `delete.retention.ms`, for topics whose configuration may not be read.
const DEFAULT_DELETE_RETENTION_MS: i64 = 86_400_000;

/// A topic, as far as planning a copy of it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicBounds {
    /// Its id; none: the brokers have none.
    pub id: Option<TopicId>,
    /// Start and end offset (of committed records) by partition.
    pub bounds: BTreeMap<i32, (i64, i64)>,
    /// Where each partition really ends: what has been written behind its last committed record is counted too.
    pub written_ends: BTreeMap<i32, i64>,
    /// For how long it keeps tombstones, in milliseconds.
    pub delete_retention_ms: i64,
}

impl TopicBounds {
    /// Asks the brokers. None: there is no such topic.
    pub async fn ask(admin: &Admin, topic: &str) -> Result<Option<TopicBounds>, KafkaError> {
        let Some(found) = admin.topic(topic).await? else {
            return Ok(None);
        };
        let name: Arc<str> = topic.into();
        let partitions: Vec<TopicPartition> = found
            .partitions
            .iter()
            .map(|partition| TopicPartition::new(name.clone(), partition.partition))
            .collect();
        let starts = admin.beginning_offsets(&partitions).await?;
        let ends = admin.end_offsets(&partitions, IsolationLevel::ReadCommitted).await?;
        let written_ends = admin.end_offsets(&partitions, IsolationLevel::ReadUncommitted).await?;
        // Rights to read a topic's records do not include its configuration.
        let retention = match admin.describe_topic_config(topic).await {
            Ok(settings) => settings.get("delete.retention.ms").and_then(|text| text.parse().ok()),
            Err(_) => None,
        };
        let bounds = starts
            .into_iter()
            .zip(ends)
            .map(|((partition, start), (_, end))| (partition.partition, (start, end)));
        Ok(Some(TopicBounds {
            id: found.id,
            bounds: bounds.collect(),
            written_ends: written_ends
                .into_iter()
                .map(|(partition, end)| (partition.partition, end))
                .collect(),
            delete_retention_ms: retention.unwrap_or(DEFAULT_DELETE_RETENTION_MS),
        }))
    }

    /// End offsets by partition.
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        self.bounds
            .iter()
            .map(|(&partition, &(_, end))| (partition, end))
            .collect()
    }
}
