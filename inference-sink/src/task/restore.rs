//! Restores local copies from their changelogs.

use crate::service::Started;
use connect_api::error::ConnectError;
use kafka_client::{ClientConfig, Consumer, KafkaError, StartOffset, TopicPartition};
use state_store::{KeyedPartition, RestorePlan, StateValue, plan_restore};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Kafka's default `delete.retention.ms`.
const DELETE_RETENTION_MS: i64 = 86_400_000;
/// A restore that reads nothing for so long has lost its broker.
const STALLED: Duration = Duration::from_secs(60);

/// Reads what the local copies lack from partition after partition of one changelog topic.
pub(super) fn restore<V: StateValue>(
    started: &Started,
    config: &ClientConfig,
    topic: &str,
    stores: &mut BTreeMap<i32, KeyedPartition<V>>,
) -> Result<(), ConnectError> {
    let failed = |error: KafkaError| ConnectError::retriable(format!("restore from {topic}: {error}"));
    let partitions: Vec<TopicPartition> = stores
        .keys()
        .map(|number| TopicPartition::new(topic, *number))
        .collect();
    let admin = kafka_client::Admin::new(config).map_err(failed)?;
    let runtime = &started.runtime;
    let starts = runtime.block_on(admin.beginning_offsets(&partitions)).map_err(failed)?;
    let isolation = kafka_client::IsolationLevel::ReadCommitted;
    let ends: BTreeMap<i32, i64> = runtime
        .block_on(admin.end_offsets(&partitions, isolation))
        .map_err(failed)?
        .into_iter()
        .map(|(partition, end)| (partition.partition, end))
        .collect();
    let mut assignment = Vec::new();
    for (partition, start) in starts {
        let end = ends.get(&partition.partition).copied().unwrap_or(start);
        let Some(store) = stores.get_mut(&partition.partition) else {
            continue;
        };
        let copy = (store.changelog_offset() > 0).then(|| store.changelog_offset());
        let plan = plan_restore(
            copy,
            store.written_at_ms(),
            start,
            end,
            crate::clock::wall_ms(),
            DELETE_RETENTION_MS,
        );
        let from = match plan {
            RestorePlan::From(offset) => offset,
            RestorePlan::Rebuild(reason) => {
                tracing::info!(partition = %partition, reason = ?reason, "local copy is rebuilt");
                store
                    .clear()
                    .map_err(|error| ConnectError::retriable(error.to_string()))?;
                start
            }
        };
        if from < end {
            assignment.push((partition, StartOffset::At(from)));
        }
    }
    if !assignment.is_empty() {
        read(config, &assignment, &ends, stores)
            .map_err(|error| ConnectError::retriable(format!("restore from {topic}: {error}")))?;
    }
    for (number, store) in stores.iter_mut() {
        let end = ends.get(number).copied().unwrap_or(0);
        store
            .finish_restore(end)
            .map_err(|error| ConnectError::retriable(error.to_string()))?;
        crash_point::reached("restore.partition_written");
    }
    Ok(())
}

fn read<V: StateValue>(
    config: &ClientConfig,
    assignment: &[(TopicPartition, StartOffset)],
    ends: &BTreeMap<i32, i64>,
    stores: &mut BTreeMap<i32, KeyedPartition<V>>,
) -> Result<(), String> {
    let mut config = config.clone();
    config
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest");
    let consumer = Consumer::new(&config).map_err(|error| error.to_string())?;
    consumer.assign(assignment).map_err(|error| error.to_string())?;
    let mut open: Vec<i32> = assignment.iter().map(|(partition, _)| partition.partition).collect();
    let mut last_progress = Instant::now();
    while !open.is_empty() {
        let fetched = consumer
            .fetch(10_000, Duration::from_millis(500))
            .map_err(|error| error.to_string())?;
        if let Some(error) = fetched.errors.first() {
            return Err(error.to_string());
        }
        if !fetched.is_empty() {
            last_progress = Instant::now();
        } else if last_progress.elapsed() > STALLED {
            return Err("nothing could be read for 60 s".to_owned());
        }
        if !fetched.messages.is_empty() {
            crash_point::reached("restore.fetched");
        }
        for message in &fetched.messages {
            let Some(store) = stores.get_mut(&message.partition()) else {
                continue;
            };
            let key = message.key().unwrap_or_default();
            store
                .restore(key, message.value(), message.offset())
                .map_err(|error| error.to_string())?;
        }
        for (partition, end) in fetched.end_of_partition.iter().zip(&fetched.end_offsets) {
            if ends.get(&partition.partition).is_none_or(|wanted| end >= wanted) {
                open.retain(|number| *number != partition.partition);
            }
        }
    }
    Ok(())
}
