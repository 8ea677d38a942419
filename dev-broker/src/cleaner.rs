//! The broker's cleaning: retention by age and size, and compaction, of every topic in turn.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use crate::log::compaction::{self, CompactionRules};
use crate::state::Broker;
use crate::storage::journal::Entry;
use crate::topic_config::TopicConfig;
use crate::topics::{Partition, Topic};
use crate::transactions::now_ms;

/// Cleans every `interval`, for ever. Compaction is work for a processor and runs beside the
/// broker's own thread.
pub async fn run(broker: Arc<Broker>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let broker = broker.clone();
        let cleaned = tokio::task::spawn_blocking(move || clean(&broker)).await;
        if let Err(error) = cleaned {
            tracing::error!(%error, "cleaning ended in a panic");
        }
    }
}

fn clean(broker: &Broker) {
    for topic in broker.topics.all() {
        let config = topic.config.read().clone();
        for (index, partition) in topic.partitions().iter().enumerate() {
            if config.deletes_by_retention() {
                delete_old(broker, &topic, &config, index, partition);
            }
            if config.is_compacted()
                && needs_compaction(partition, &config)
                && let Err(error) = compact_partition(partition, &config)
            {
                tracing::error!(topic = %topic.name.as_str(), partition = index, ?error, "compaction failed");
            }
        }
    }
}

fn delete_old(broker: &Broker, topic: &Topic, config: &TopicConfig, index: usize, partition: &Partition) {
    let oldest_ms = config.retention_ms().map(|age| now_ms().saturating_sub(age));
    let mut log = partition.log.lock();
    let Some(offset) = log.retention_offset(oldest_ms, config.retention_bytes()) else {
        return;
    };
    let Ok(index) = i32::try_from(index) else { return };
    broker.journal.record(&Entry::LogStart {
        topic: topic.name.to_string(),
        partition: index,
        offset,
    });
    if let Err(error) = log.delete_before(offset) {
        tracing::error!(topic = %topic.name.as_str(), partition = index, ?error, "retention failed");
    }
}

fn needs_compaction(partition: &Partition, config: &TopicConfig) -> bool {
    let (dirty_ratio, oldest) = partition.log.lock().dirtiness();
    let is_due = oldest.is_some_and(|oldest| now_ms().saturating_sub(oldest) > config.max_compaction_lag_ms());
    dirty_ratio > config.min_cleanable_dirty_ratio() || (is_due && dirty_ratio > 0.0)
}

/// Compacts all partitions of a topic now, whatever its settings say about when.
///
/// # Errors
/// `UNKNOWN_TOPIC_OR_PARTITION`; `POLICY_VIOLATION` when the topic is not compacted;
/// `CORRUPT_MESSAGE` for a batch that cannot be read; `KAFKA_STORAGE_ERROR`.
pub fn compact_topic(broker: &Broker, topic: &str) -> Result<(), ResponseError> {
    let topic = broker.topics.get(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let config = topic.config.read().clone();
    if !config.is_compacted() {
        return Err(ResponseError::PolicyViolation);
    }
    for partition in topic.partitions() {
        compact_partition(&partition, &config)?;
    }
    Ok(())
}

fn compact_partition(partition: &Partition, config: &TopicConfig) -> Result<(), ResponseError> {
    let _one_at_a_time = partition.compacting.lock();
    let input = partition.log.lock().compaction_input();
    let rules = CompactionRules {
        now_ms: now_ms(),
        delete_retention_ms: config.delete_retention_ms(),
        min_lag_ms: config.min_compaction_lag_ms(),
    };
    let compacted = compaction::compact(&input, rules).map_err(|error| {
        tracing::error!(%error, "a partition cannot be compacted");
        ResponseError::CorruptMessage
    })?;
    if compacted.end == 0 {
        return Ok(());
    }
    partition.log.lock().replace_compacted(compacted.batches, compacted.end)
}
