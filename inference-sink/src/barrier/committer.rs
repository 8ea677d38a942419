//! The thread that writes a task's transactions.

use super::commit::{Answer, Commit, CommitFailure, Committed};
use crate::metrics::Metrics;
use connect_api::error::ConnectError;
use connect_api::partitioned::PartitionedTaskContext;
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_client::{ErrorCode, KafkaError, Place, ProducerRecord, RecordWriter, WriteError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INIT_TIMEOUT: Duration = Duration::from_secs(60);
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The committer of one task.
pub struct Committer {
    commits: Option<Sender<Commit>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the writer, which fences whoever has the same transactional id, and its thread.
    pub fn start(
        context: &PartitionedTaskContext,
        transactional_id: &str,
        metrics: Arc<Metrics>,
    ) -> Result<Committer, ConnectError> {
        let failed =
            |error: KafkaError| ConnectError::retriable(format!("transactional producer {transactional_id}: {error}"));
        let config = crate::service::client_config(&context.clients.producer)?;
        let mut writer = RecordWriter::transactional(&config, transactional_id, INIT_TIMEOUT).map_err(failed)?;
        let (commits, received) = bounded::<Commit>(1);
        let (answer, answers) = bounded::<Answer>(1);
        let wake = context.wake.clone();
        let thread = std::thread::Builder::new()
            .name(format!("commit {}-{}", context.connector, context.task))
            .spawn(move || {
                for commit in received {
                    let result = run(&mut writer, &commit, &metrics);
                    drop(commit);
                    if answer.send(result).is_err() {
                        return;
                    }
                    wake();
                }
            })
            .map_err(|error| ConnectError::fatal(format!("start the commit thread: {error}")))?;
        Ok(Committer {
            commits: Some(commits),
            answers,
            thread: Some(thread),
        })
    }

    /// Hands a transaction over; the caller waits for its answer before the next.
    pub fn commit(&self, commit: Commit) -> Result<(), ConnectError> {
        let gone = || ConnectError::fatal("the commit thread has ended");
        self.commits.as_ref().ok_or_else(gone)?.send(commit).map_err(|_| gone())
    }

    /// The answer, if it is there.
    pub fn try_answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Waits for the answer.
    pub fn wait_answer(&self, deadline: Instant) -> Option<Answer> {
        self.answers.recv_deadline(deadline).ok()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            // A commit under way ends by itself within its timeout; its answer has room.
            let _ = thread.join();
        }
    }
}

fn run(writer: &mut RecordWriter, commit: &Commit, metrics: &Metrics) -> Answer {
    let started = Instant::now();
    let result = write(writer, commit).or_else(|failure| Err(abort(writer, failure)));
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(0);
    metrics.stages.commit_ns.fetch_add(nanos, Ordering::Relaxed);
    metrics.commits.fetch_add(1, Ordering::Relaxed);
    result
}

/// Aborts; what the failure is if somebody else has taken over.
fn abort(writer: &mut RecordWriter, failure: CommitFailure) -> CommitFailure {
    match writer.abort(COMMIT_TIMEOUT) {
        Ok(()) => failure,
        Err(error) if error.is_fenced() => CommitFailure { error, tenant: None },
        Err(error) => {
            tracing::warn!(error = %error, "transaction could not be aborted");
            failure
        }
    }
}

fn write(writer: &mut RecordWriter, commit: &Commit) -> Answer {
    flush_outputs(commit)?;
    let failed = |error: WriteError| failure(commit, error);
    let mut ends: Vec<Option<Place>> = Vec::with_capacity(commit.groups.len());
    for group in &commit.groups {
        let mut last = None;
        for record in &group.records {
            let record = ProducerRecord {
                topic: &group.topic,
                partition: Some(group.partition),
                key: Some(&record.key),
                value: record.value.as_deref(),
                timestamp_ms: None,
                headers: &[],
            };
            last = Some(writer.append(&record).map_err(failed)?);
        }
        ends.push(last);
    }
    let log_topic = commit.log_topic.as_deref().unwrap_or_default();
    let mut log = Vec::with_capacity(commit.log.len());
    for entry in &commit.log {
        let record = ProducerRecord {
            topic: log_topic,
            partition: Some(entry.partition),
            key: Some(entry.model.as_bytes()),
            value: Some(&entry.value),
            timestamp_ms: None,
            headers: &[],
        };
        log.push(writer.append(&record).map_err(failed)?);
    }
    for outputs in &commit.outputs {
        outputs
            .try_for_each(|record| writer.append(record).map(drop))
            .map_err(failed)?;
    }
    for event in &commit.shed {
        let (key, value, source) = event.parts();
        let headers = [(crate::output::SOURCE_HEADER, Some(source.as_bytes()))];
        let record = ProducerRecord {
            topic: &event.topic,
            partition: None,
            key,
            value,
            timestamp_ms: None,
            headers: &headers,
        };
        writer.append(&record).map_err(failed)?;
    }
    let written = writer.commit(COMMIT_TIMEOUT).map_err(failed)?;
    Ok(Committed {
        ends: ends
            .into_iter()
            .map(|last| last.map_or(-1, |last| written.offset(last)) + 1)
            .collect(),
        log_offsets: log.into_iter().map(|place| written.offset(place)).collect(),
    })
}

/// Predictions that were sent at once are acknowledged before the positions behind them are committed.
fn flush_outputs(commit: &Commit) -> Result<(), CommitFailure> {
    let Some(sender) = commit.flush.as_ref().and_then(|outbox| outbox.sender()) else {
        return Ok(());
    };
    let failures = sender
        .flush(COMMIT_TIMEOUT)
        .map_err(|error| CommitFailure { error, tenant: None })?;
    match failures.into_iter().next() {
        None => Ok(()),
        Some(failure) => Err(CommitFailure {
            error: KafkaError::new(
                ErrorCode::Fail,
                format!("outputs of tenant {}: {}", failure.tenant, failure.error),
            ),
            tenant: Some(failure.tenant),
        }),
    }
}

/// Whose failure it is: that of the tenant whose own topic is at fault, or everybody's.
fn failure(commit: &Commit, WriteError { error, topic }: WriteError) -> CommitFailure {
    let own = topic.filter(|_| is_own_fault(&error)).and_then(|topic| {
        let mut models = commit.outputs.iter().map(|outputs| &outputs.model);
        models.find(|model| *model.output_topic == *topic)
    });
    CommitFailure {
        tenant: own.map(|model| Arc::from(model.document.tenant.as_str())),
        error,
    }
}

/// Errors of a tenant's own topic, which no other tenant should pay for.
fn is_own_fault(error: &KafkaError) -> bool {
    matches!(
        error.code,
        ErrorCode::TopicAuthorizationFailed
            | ErrorCode::MessageSizeTooLarge
            | ErrorCode::UnknownTopic
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownPartition
            | ErrorCode::InvalidTopic
            | ErrorCode::InvalidRecord
            | ErrorCode::PolicyViolation
    )
}
