//! Restores local copies from their changelogs.

use crate::failure::{failed, kafka_failure};
use crate::service::Started;
use connect_api::error::ConnectError;
use kafka_client::{ClientConfig, Consumer, StartOffset, TopicPartition};
use state_store::{KeyedPartition, RestorePlan, StateError, StateValue, TopicBounds, TopicState, plan_restore};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A restore that reads nothing for so long has lost its broker.
const STALLED: Duration = Duration::from_secs(60);

/// An error of a store, as a task ends with it: what a restart cannot mend is not tried again.
pub(super) fn state_error(error: &StateError) -> ConnectError {
    match error {
        StateError::Format { .. }
        | StateError::Setting { .. }
        | StateError::Corrupt { .. }
        | StateError::AnothersChangelog { .. } => ConnectError::config(error.to_string()),
        _ => ConnectError::retriable(error.to_string()),
    }
}

/// Reads what the local copies lack from partition after partition of one changelog topic. A copy that cannot be carried on
/// is made anew.
pub(super) fn restore<V: StateValue>(
    started: &Started,
    config: &ClientConfig,
    topic: &str,
    stores: &mut BTreeMap<i32, KeyedPartition<V>>,
) -> Result<(), ConnectError> {
    let doing = format!("restore from {topic}");
    let failed = failed(&doing);
    let admin = kafka_client::Admin::new(config).map_err(&failed)?;
    let found = started
        .runtime
        .block_on(TopicBounds::ask(&admin, topic))
        .map_err(&failed)?;
    let found = found.ok_or_else(|| ConnectError::retriable(format!("{doing}: there is no such topic")))?;
    let ends = found.ends();
    let mut assignment = Vec::new();
    for (number, store) in stores.iter_mut() {
        let Some(&(start, end)) = found.bounds.get(number) else {
            return Err(ConnectError::config(format!(
                "changelog {topic} has {} partitions, and partition {number} of the input keeps its state in one of its own: \
                 the topic was made by somebody else or made again; delete it while the connector is stopped, and it is made \
                 with as many partitions as the input has",
                found.bounds.len()
            )));
        };
        let state = TopicState {
            start,
            end,
            written_end: found.written_ends.get(number).copied().unwrap_or(end),
            id: found.id,
            delete_retention_ms: found.delete_retention_ms,
        };
        let copy = store.copy_state();
        let from = match plan_restore(&copy, &state, crate::clock::wall_ms()) {
            RestorePlan::From(offset) => offset,
            RestorePlan::Rebuild(reason) => {
                tracing::warn!(
                    store = %store.spec(),
                    reason = ?reason,
                    copied_to = copy.offset,
                    topic_start = start,
                    topic_end = end,
                    "the local copy is deleted and restored from its changelog"
                );
                store.rebuild(reason).map_err(|error| state_error(&error))?;
                start
            }
        };
        if from < state.written_end && end < state.written_end {
            // The writer of these records has been fenced, so that none of its transactions is open.
            tracing::warn!(
                store = %store.spec(),
                committed_to = end,
                written_to = state.written_end,
                "the changelog has records of a transaction that brokers have ended without saying how (they were shut down \
                 meanwhile, and no other replica was there): what came of it may be computed once more"
            );
        }
        store.set_changelog_id(found.id);
        if from < end {
            assignment.push((TopicPartition::new(topic, *number), StartOffset::At(from)));
        }
    }
    if !assignment.is_empty() {
        read(config, &doing, &assignment, &ends, stores)?;
    }
    for (number, store) in stores.iter_mut() {
        let end = ends.get(number).copied().unwrap_or(0);
        store.finish_restore(end).map_err(|error| state_error(&error))?;
        crash_point::reached("restore.partition_written");
    }
    Ok(())
}

fn read<V: StateValue>(
    config: &ClientConfig,
    doing: &str,
    assignment: &[(TopicPartition, StartOffset)],
    ends: &BTreeMap<i32, i64>,
    stores: &mut BTreeMap<i32, KeyedPartition<V>>,
) -> Result<(), ConnectError> {
    let failed = failed(doing);
    let mut config = config.clone();
    config
        .set("isolation.level", "read_committed")
        // An offset that is gone by now is an error: the copy is planned again.
        .set("auto.offset.reset", "none");
    let consumer = Consumer::new(&config).map_err(&failed)?;
    consumer.assign(assignment).map_err(&failed)?;
    let mut open: Vec<i32> = assignment.iter().map(|(partition, _)| partition.partition).collect();
    let mut last_progress = Instant::now();
    while !open.is_empty() {
        let fetched = consumer.fetch(10_000, Duration::from_millis(500)).map_err(&failed)?;
        match fetched.errors.first() {
            Some(error) if error.is_about_offsets() => {
                return Err(ConnectError::retriable(format!("{doing}: {error}")));
            }
            Some(error) => return Err(kafka_failure(doing, error)),
            None => {}
        }
        if !fetched.is_empty() {
            last_progress = Instant::now();
        } else if last_progress.elapsed() > STALLED {
            return Err(ConnectError::retriable(format!(
                "{doing}: nothing could be read for 60 s"
            )));
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
                .map_err(|error| state_error(&error))?;
        }
        for (partition, end) in fetched.end_of_partition.iter().zip(&fetched.end_offsets) {
            if ends.get(&partition.partition).is_none_or(|wanted| end >= wanted) {
                open.retain(|number| *number != partition.partition);
            }
        }
    }
    Ok(())
}
