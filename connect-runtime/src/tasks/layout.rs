//! Whether the topics that a partition-owning task reads are still those that it was opened with.
//!
//! ```text
//!  describe -> TopicIdentity (name, id, partitions) -> the task is opened
//!      ^ every 5 s, and at every sign: a partition that is gone, an offset that is out of range or goes back
//!      '- change: gone | made again (another id) | repartitioned    -> nothing more is handed over
//! ```

use crate::running::{client_config, kafka_error};
use connect_api::config::ConfigMap;
use connect_api::partitioned::ClientSettings;
use connect_api::{ConnectError, ErrorKind, StartAt, TopicPartition};
use kafka_client::{Admin, IsolationLevel, TopicChange, TopicIdentity};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Time between two looks at the topics.
const INTERVAL: Duration = Duration::from_secs(5);

/// The error for what has become of a topic: of kind `NotFound` for one that is not there now, which passes when somebody makes
/// it.
fn change_error(change: TopicChange) -> ConnectError {
    match change {
        TopicChange::Gone { .. } => ConnectError::new(ErrorKind::NotFound, change.to_string())
            .with_java_class("org.apache.kafka.common.errors.UnknownTopicOrPartitionException"),
        TopicChange::MadeAgain { .. } | TopicChange::Repartitioned { .. } => ConnectError::config(change.to_string()),
    }
}

/// The topics of a connector's configuration.
///
/// # Errors
/// `NotFound` for one that is not there; a pattern instead of names.
pub(super) async fn input_topics(admin: &Admin, config: &ConfigMap) -> Result<Vec<TopicIdentity>, ConnectError> {
    let text = |name: &str| {
        config
            .get(name)
            .and_then(Option::as_deref)
            .map(str::trim)
            .unwrap_or_default()
    };
    if !text("topics.regex").is_empty() {
        return Err(ConnectError::config(
            "topics.regex is not supported by a connector that keeps state by partition: list its topics in topics",
        ));
    }
    let names: Vec<&str> = text("topics")
        .split(',')
        .map(str::trim)
        .filter(|topic| !topic.is_empty())
        .collect();
    let described = admin.describe_topics(&names).await.map_err(kafka_error)?;
    let topics = described.into_iter().map(|(name, found)| {
        let found = found.map_err(kafka_error)?.as_ref().map(TopicIdentity::of);
        let gone = || change_error(TopicChange::Gone { topic: name.into() });
        found.filter(|topic| topic.partitions > 0).ok_or_else(gone)
    });
    topics.collect()
}

/// Where reading starts, once it is known that the log has that place, and how many records are lost by that.
///
/// # Errors
/// `NotFound` where a position lies behind the end of its partition: brokers that have just started may not know their own
/// ends yet, and otherwise the topic was cut off. A position before the first record is where retention has overtaken the
/// task: `auto.offset.reset` decides, and `none` is an error.
pub(super) async fn reachable(
    admin: &Admin,
    clients: &ClientSettings,
    mut starts: Vec<(TopicPartition, StartAt)>,
) -> Result<(Vec<(TopicPartition, StartAt)>, u64), ConnectError> {
    let at: Vec<kafka_client::TopicPartition> = starts
        .iter()
        .filter(|(_, start)| matches!(start, StartAt::Offset(_)))
        .map(|(partition, _)| crate::running::to_client(partition))
        .collect();
    if at.is_empty() {
        return Ok((starts, 0));
    }
    let first = admin.beginning_offsets(&at).await.map_err(kafka_error)?;
    let end = admin
        .end_offsets(&at, IsolationLevel::ReadUncommitted)
        .await
        .map_err(kafka_error)?;
    let bound = |bounds: &[(kafka_client::TopicPartition, i64)], wanted: &TopicPartition| {
        let found = bounds
            .iter()
            .find(|(partition, _)| partition.partition == wanted.partition && partition.topic == wanted.topic);
        found.map(|(_, offset)| *offset)
    };
    let reset = clients
        .consumer
        .get("auto.offset.reset")
        .map(|reset| reset.trim().to_ascii_lowercase());
    let mut lost = 0;
    for (partition, start) in &mut starts {
        let StartAt::Offset(offset) = *start else { continue };
        let (Some(first), Some(end)) = (bound(&first, partition), bound(&end, partition)) else {
            continue;
        };
        *start = start_within(partition, offset, (first, end), reset.as_deref())?;
        if *start != StartAt::Offset(offset) {
            tracing::error!(
                partition = %partition, position = offset, first, lost = first - offset,
                "records were deleted before the task had read them (retention, or somebody): they are lost to it"
            );
            lost += first.abs_diff(offset);
        }
    }
    Ok((starts, lost))
}

/// Where to start instead of `offset`, of a partition that has records from `first` up to `end`. Pure.
fn start_within(
    partition: &TopicPartition,
    offset: i64,
    (first, end): (i64, i64),
    reset: Option<&str>,
) -> Result<StartAt, ConnectError> {
    if offset > end {
        return Err(ConnectError::new(
            ErrorKind::NotFound,
            format!(
                "position {offset} of {partition} lies behind its end ({end}): the topic was cut off or made again, so its \
                 records are not those that positions and state come from; make a connector with another name"
            ),
        ));
    }
    if offset >= first {
        return Ok(StartAt::Offset(offset));
    }
    match reset {
        Some("latest") => Ok(StartAt::End),
        Some("none") => Err(ConnectError::config(format!(
            "position {offset} of {partition} lies before its first record ({first}), and auto.offset.reset is none: its \
             records were deleted before they were read"
        ))),
        _ => Ok(StartAt::Offset(first)),
    }
}

/// Looks at the topics now and then, and when it is told to.
pub(super) struct LayoutWatch {
    admin: Admin,
    topics: Arc<[TopicIdentity]>,
    found: Arc<Found>,
    looking: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Found {
    error: Mutex<Option<ConnectError>>,
    is_there: AtomicBool,
}

impl LayoutWatch {
    /// `wake` is called when something has changed.
    pub(super) fn start(
        runtime: &Handle,
        admin: Admin,
        topics: Vec<TopicIdentity>,
        wake: impl Fn() + Send + 'static,
    ) -> Self {
        let (topics, found): (Arc<[TopicIdentity]>, Arc<Found>) = (topics.into(), Arc::default());
        let (own_admin, own_topics, own_found) = (admin.clone(), Arc::clone(&topics), Arc::clone(&found));
        let looking = runtime.spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                // Without an answer nothing is known: an outage.
                if let Ok(Some(error)) = look(&own_admin, &own_topics).await {
                    *own_found.error.lock() = Some(error);
                    own_found.is_there.store(true, Ordering::Release);
                    wake();
                    return;
                }
            }
        });
        Self {
            admin,
            topics,
            found,
            looking,
        }
    }

    /// What was found by itself, if something was.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        if !self.found.is_there.load(Ordering::Acquire) {
            return Ok(());
        }
        let error = self.found.error.lock().clone();
        Err(error.unwrap_or_else(|| ConnectError::fatal("the topics have changed")))
    }

    /// Looks now. Without an answer the error is retriable.
    pub(super) fn look_now(&self, runtime: &Handle) -> Result<(), ConnectError> {
        match runtime.block_on(look(&self.admin, &self.topics))? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Drop for LayoutWatch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(admin: &Admin, topics: &[TopicIdentity]) -> Result<Option<ConnectError>, ConnectError> {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let described = admin.describe_topics(&names).await.map_err(kafka_error)?;
    for (before, (_, now)) in topics.iter().zip(described) {
        let now = now.map_err(kafka_error)?.as_ref().map(TopicIdentity::of);
        if let Some(change) = before.change(now.as_ref()) {
            return Ok(Some(change_error(change)));
        }
    }
    Ok(None)
}

/// Administration with the task's settings.
pub(super) fn admin(clients: &ClientSettings) -> Result<Admin, ConnectError> {
    Admin::new(&client_config(&clients.admin)).map_err(kafka_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_never_starts_where_nothing_is(offset in 0_i64..50, first in 0_i64..50, records in 0_i64..50, reset in 0_usize..4) {
            let reset = [None, Some("earliest"), Some("latest"), Some("none")][reset];
            let (partition, end) = (TopicPartition::new("events", 0), first + records);
            match start_within(&partition, offset, (first, end), reset) {
                Ok(StartAt::Offset(start)) => {
                    prop_assert!(start >= first && start <= end);
                    prop_assert!(start == offset || offset < first, "moved without need");
                }
                Ok(StartAt::End) => prop_assert!(offset < first && reset == Some("latest")),
                Ok(StartAt::Beginning) => prop_assert!(false),
                Err(error) if error.kind() == ErrorKind::NotFound => prop_assert!(offset > end),
                Err(_) => prop_assert!(offset < first && reset == Some("none")),
            }
        }
    }
}
