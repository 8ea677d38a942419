//! The topics that a source connector writes to, read back for the tasks that ask.

use crate::running::{client_config, kafka_error};
use async_trait::async_trait;
use connect_api::partitioned::ClientSettings;
use connect_api::source::{TopicLayout, VisitRecord, WrittenTopics};
use connect_api::{ConnectError, ErrorKind};
use indexmap::IndexMap;
use kafka_client::{Admin, Consumer, StartOffset, TopicPartition};
use std::time::Duration;

/// Records fetched at once.
const BATCH: usize = 10_000;
/// Longest wait for one fetch.
const FETCH_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for the end offset of a partition.
const WATERMARK_WAIT: Duration = Duration::from_secs(30);

/// Reads with the connector's own client settings; a client lives as long as one call.
pub(super) struct KafkaTopics {
    admin: IndexMap<String, String>,
    consumer: IndexMap<String, String>,
}

impl KafkaTopics {
    pub(super) fn new(clients: &ClientSettings) -> Self {
        let mut consumer = clients.consumer.clone();
        consumer.shift_remove("group.id"); // nothing is committed
        Self {
            admin: clients.admin.clone(),
            consumer,
        }
    }
}

#[async_trait]
impl WrittenTopics for KafkaTopics {
    async fn layout(&self, topic: &str) -> Result<Option<TopicLayout>, ConnectError> {
        let admin = Admin::new(&client_config(&self.admin)).map_err(kafka_error)?;
        let Some(description) = admin.topic(topic).await.map_err(kafka_error)? else {
            return Ok(None);
        };
        Ok(Some(TopicLayout {
            id: description.id.map(|id| id.to_string()),
            partitions: i32::try_from(description.partitions.len()).unwrap_or(i32::MAX),
            config: admin.describe_topic_config(topic).await.map_err(kafka_error)?,
        }))
    }

    async fn read(&self, topic: &str, visit: VisitRecord) -> Result<(), ConnectError> {
        let Some(layout) = self.layout(topic).await? else {
            return Ok(());
        };
        let (settings, topic) = (self.consumer.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read_to_end(&settings, &topic, layout.partitions, visit))
            .await
            .map_err(|error| ConnectError::fatal(format!("reading the topic panicked: {error}")))?
    }
}

fn read_to_end(
    settings: &IndexMap<String, String>,
    topic: &str,
    partitions: i32,
    mut visit: VisitRecord,
) -> Result<(), ConnectError> {
    let consumer = Consumer::new(&client_config(settings)).map_err(kafka_error)?;
    let mut ends = IndexMap::new();
    for number in 0..partitions {
        let partition = TopicPartition::new(topic, number);
        let (low, high) = consumer.watermarks(&partition, WATERMARK_WAIT).map_err(kafka_error)?;
        if high > low {
            ends.insert(number, high);
        }
    }
    let assignment: Vec<_> = ends
        .keys()
        .map(|number| (TopicPartition::new(topic, *number), StartOffset::Beginning))
        .collect();
    consumer.assign(&assignment).map_err(kafka_error)?;
    while !ends.is_empty() {
        let fetched = consumer.fetch(BATCH, FETCH_WAIT).map_err(kafka_error)?;
        if let Some(error) = fetched.errors.into_iter().find(|error| !error.is_retriable()) {
            return Err(ConnectError::new(
                ErrorKind::Fatal,
                format!("reading topic {topic}: {error}"),
            ));
        }
        for message in &fetched.messages {
            visit(message.partition(), message.key(), message.value());
        }
        // the position passes records that compaction or transactions took away, too
        let mut done = Vec::new();
        for (number, end) in &ends {
            let reached = consumer
                .position(&TopicPartition::new(topic, *number))
                .map_err(kafka_error)?;
            let ended = fetched
                .end_of_partition
                .iter()
                .any(|partition| partition.partition == *number);
            if ended || reached.is_some_and(|position| position >= *end) {
                done.push(*number);
            }
        }
        for number in done {
            ends.shift_remove(&number);
        }
    }
    Ok(())
}
