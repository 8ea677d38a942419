//! The dead letter topic of a sink connector (contract 7.3).

use super::config::ErrorConfig;
use super::reporter::StoredRecord;
use crate::running::{Counters, client_config};
use connect_api::partitioned::ClientSettings;
use connect_api::{ConnectError, ErrorKind, Stage};
use kafka_client::{Admin, Deliveries, ErrorCode, KafkaError, NewTopic, Producer, ProducerRecord, Remedy};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for room in the producer's buffer.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// What is under way.
#[derive(Default)]
struct Progress {
    state: Mutex<ProgressState>,
    changed: Condvar,
}

#[derive(Default)]
struct ProgressState {
    in_flight: u64,
    /// first failure of a record that the connector reported, not yet told
    failure: Option<String>,
}

/// Record that the runtime reported: its failure is counted and logged only.
const OF_RUNTIME: u64 = 1;
/// Record that the connector reported: its failure fails the next flush.
const OF_CONNECTOR: u64 = 2;

struct Tracker {
    progress: Arc<Progress>,
    counters: Arc<Counters>,
    topic: String,
}

impl Deliveries for Tracker {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        let mut state = self.progress.state.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Err(error) = result {
            self.counters.dead_letter_failures.add(1);
            tracing::error!(topic = %self.topic, error = %error, "could not write to the dead letter topic");
            if token == OF_CONNECTOR {
                state.failure.get_or_insert_with(|| error.to_string());
            }
        }
        self.progress.changed.notify_all();
    }
}

/// Writes dead letters. Whoever drops it has called [`DeadLetters::finish`]: what is still under way is lost with the
/// producer.
pub(crate) struct DeadLetters {
    producer: Producer,
    topic: String,
    headers: bool,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
}

impl DeadLetters {
    /// A writer to `topic`, which is created with one partition where it is missing.
    pub(crate) async fn start(
        topic: &str,
        config: &ErrorConfig,
        clients: &ClientSettings,
        counters: Arc<Counters>,
    ) -> Result<Self, ConnectError> {
        let admin = Admin::new(&client_config(&clients.admin)).map_err(fatal)?;
        create_if_missing(&admin, topic, config.dead_letter_replication).await?;
        let progress = Arc::new(Progress::default());
        let tracker = Tracker {
            progress: Arc::clone(&progress),
            counters: Arc::clone(&counters),
            topic: topic.to_owned(),
        };
        let producer = Producer::new(&client_config(&clients.producer), Arc::new(tracker)).map_err(fatal)?;
        Ok(Self {
            producer,
            topic: topic.to_owned(),
            headers: config.dead_letter_headers,
            progress,
            counters,
        })
    }

    /// Sends `record` as it came, with headers that say what went wrong if they are wanted.
    pub(crate) fn send(&self, record: &StoredRecord, failure: &Failure<'_>, by_connector: bool) {
        let partition = record.partition.to_string();
        let offset = record.offset.to_string();
        let task = failure.task.to_string();
        let trace = failure.error.trace();
        let mut headers: Vec<(&str, Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        if self.headers {
            let context: [(&str, &str); 10] = [
                ("__connect.errors.topic", &record.topic),
                ("__connect.errors.partition", &partition),
                ("__connect.errors.offset", &offset),
                ("__connect.errors.connector.name", failure.connector),
                ("__connect.errors.task.id", &task),
                ("__connect.errors.stage", failure.stage.name()),
                ("__connect.errors.class.name", failure.class),
                ("__connect.errors.exception.class.name", failure.error.java_class()),
                ("__connect.errors.exception.message", failure.error.message()),
                ("__connect.errors.exception.stacktrace", &trace),
            ];
            headers.extend(context.iter().map(|(name, text)| (*name, Some(text.as_bytes()))));
        }
        let out = ProducerRecord {
            topic: &self.topic,
            partition: None,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            timestamp_ms: record.timestamp_ms,
            headers: &headers,
        };
        let token = if by_connector { OF_CONNECTOR } else { OF_RUNTIME };
        self.counters.dead_letter_requests.add(1);
        self.progress.state.lock().in_flight += 1;
        if let Err(error) = self.producer.send_waiting(&out, token, SEND_TIMEOUT) {
            self.counters.dead_letter_failures.add(1);
            tracing::error!(topic = %self.topic, error = %error, "could not write to the dead letter topic");
            let mut state = self.progress.state.lock();
            state.in_flight = state.in_flight.saturating_sub(1);
            if by_connector {
                state.failure.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// Waits until everything sent so far is in the topic; fails where a record that the connector reported is not.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), ConnectError> {
        let left = self.wait(timeout);
        if left > 0 {
            return Err(ConnectError::retriable(format!(
                "{left} records were not written to dead letter topic {} within {} ms",
                self.topic,
                timeout.as_millis()
            )));
        }
        match self.progress.state.lock().failure.take() {
            Some(failure) => Err(ConnectError::fatal(format!(
                "could not write a reported record to dead letter topic {}: {failure}",
                self.topic
            ))),
            None => Ok(()),
        }
    }

    /// The end of the task. The record that failed it is the last one that it sent, and is to be read by somebody.
    pub(crate) fn finish(&self, timeout: Duration) {
        let left = self.wait(timeout);
        if left > 0 {
            tracing::error!(
                topic = %self.topic,
                records = left,
                "records are not in the dead letter topic, since Kafka did not take them in time"
            );
        }
    }

    /// Waits until nothing is under way; how much still is.
    fn wait(&self, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout;
        let mut state = self.progress.state.lock();
        while state.in_flight > 0 && !self.progress.changed.wait_until(&mut state, deadline).timed_out() {}
        state.in_flight
    }
}

/// What went wrong with a record.
pub(crate) struct Failure<'a> {
    pub(crate) connector: &'a str,
    pub(crate) task: usize,
    pub(crate) stage: Stage,
    pub(crate) class: &'a str,
    pub(crate) error: &'a ConnectError,
}

async fn create_if_missing(admin: &Admin, topic: &str, replication: i16) -> Result<(), ConnectError> {
    const OPTION: &str = "errors.deadletterqueue.topic.replication.factor";
    let what = |error: KafkaError| {
        let kind = match error.remedy() {
            Remedy::Wait => ErrorKind::Retriable,
            _ => ErrorKind::Fatal,
        };
        let advice = match error.code {
            ErrorCode::InvalidReplicationFactor => {
                format!(": set {OPTION}, which is {replication}, to no more than there are brokers")
            }
            _ => String::new(),
        };
        ConnectError::new(
            kind,
            format!("could not initialize dead letter queue with topic={topic}{advice}"),
        )
        .caused_by(error)
    };
    if admin.topic(topic).await.map_err(what)?.is_some() {
        return Ok(());
    }
    for (_, result) in admin
        .create_topics(&[NewTopic::new(topic, 1, replication)])
        .await
        .map_err(what)?
    {
        match result {
            Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
            other => other.map_err(what)?,
        }
    }
    Ok(())
}

fn fatal(error: KafkaError) -> ConnectError {
    ConnectError::fatal(error.to_string())
}
