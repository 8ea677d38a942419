//! The thread that writes a task's transactions.

use super::commit::{Answer, Commit, CommitFailure, Committed};
use crate::metrics::Metrics;
use connect_api::error::ConnectError;
use connect_api::partitioned::PartitionedTaskContext;
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_client::{Deliveries, ErrorCode, KafkaError, Producer, ProducerRecord};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INIT_TIMEOUT: Duration = Duration::from_secs(60);
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The committer of one task.
pub struct Committer {
    commits: Option<Sender<Commit>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

/// Offsets by token, and what failed first.
#[derive(Default)]
struct Reports(Mutex<(Vec<i64>, Option<(u64, KafkaError)>)>);

impl Reports {
    fn reset(&self, tokens: usize) {
        *self.0.lock() = (vec![-1; tokens + 1], None);
    }

    fn take(&self) -> (Vec<i64>, Option<(u64, KafkaError)>) {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Deliveries for Reports {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        let mut reports = self.0.lock();
        match result {
            Ok((_, offset)) => {
                let known = usize::try_from(token).ok().and_then(|token| reports.0.get_mut(token));
                if let Some(known) = known {
                    *known = (*known).max(offset);
                }
            }
            Err(error) => {
                if reports.1.is_none() {
                    reports.1 = Some((token, error));
                }
            }
        }
    }
}

impl Committer {
    /// Starts the producer, which fences whoever has the same transactional id, and its thread.
    pub fn start(
        context: &PartitionedTaskContext,
        transactional_id: &str,
        metrics: Arc<Metrics>,
    ) -> Result<Committer, ConnectError> {
        let failed =
            |error: KafkaError| ConnectError::retriable(format!("transactional producer {transactional_id}: {error}"));
        let mut config = crate::service::client_config(&context.clients.producer)?;
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all");
        config.unset("max.in.flight.requests.per.connection").unset("retries");
        let reports = Arc::new(Reports::default());
        let producer = Producer::new(&config, reports.clone()).map_err(failed)?;
        producer.init_transactions(INIT_TIMEOUT).map_err(failed)?;
        let (commits, received) = bounded::<Commit>(1);
        let (answer, answers) = bounded::<Answer>(1);
        let wake = context.wake.clone();
        let thread = std::thread::Builder::new()
            .name(format!("commit {}-{}", context.connector, context.task))
            .spawn(move || {
                for commit in received {
                    let result = run(&producer, &reports, &commit, &metrics);
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

fn run(producer: &Producer, reports: &Reports, commit: &Commit, metrics: &Metrics) -> Answer {
    let started = Instant::now();
    let result = write(producer, reports, commit);
    if result.is_err()
        && let Err(error) = producer.abort_transaction(COMMIT_TIMEOUT)
    {
        tracing::warn!(error = %error, "transaction could not be aborted");
    }
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(0);
    metrics.stages.commit_ns.fetch_add(nanos, Ordering::Relaxed);
    metrics.commits.fetch_add(1, Ordering::Relaxed);
    result
}

/// Tokens: groups, then log entries, then one per batch of outputs, then shed events; from 1.
fn write(producer: &Producer, reports: &Reports, commit: &Commit) -> Answer {
    let plain = |error: KafkaError| CommitFailure { error, tenant: None };
    if let Some(outbox) = &commit.flush
        && let Some(sender) = outbox.sender()
    {
        let failures = sender.flush(COMMIT_TIMEOUT).map_err(plain)?;
        if let Some(failure) = failures.into_iter().next() {
            let error = KafkaError::new(
                ErrorCode::Fail,
                format!("outputs of tenant {}: {}", failure.tenant, failure.error),
            );
            return Err(CommitFailure {
                error,
                tenant: Some(failure.tenant),
            });
        }
    }
    crash_point::reached("commit.outputs_flushed");
    let (groups, log) = (commit.groups.len(), commit.log.len());
    reports.reset(groups + log);
    producer.begin_transaction().map_err(plain)?;
    crash_point::reached("commit.begun");
    for (index, group) in commit.groups.iter().enumerate() {
        let last = group.records.len().saturating_sub(1);
        for (number, record) in group.records.iter().enumerate() {
            let record = ProducerRecord {
                topic: &group.topic,
                partition: Some(group.partition),
                key: Some(&record.key),
                value: record.value.as_deref(),
                timestamp_ms: None,
                headers: &[],
            };
            // Only the last offset of a partition matters, and its records are in order.
            let token = if number == last { index as u64 + 1 } else { 0 };
            producer.send_waiting(&record, token, SEND_TIMEOUT).map_err(plain)?;
        }
    }
    crash_point::reached("commit.changelog_sent");
    let log_topic = commit.log_topic.as_deref().unwrap_or_default();
    for (index, entry) in commit.log.iter().enumerate() {
        let record = ProducerRecord {
            topic: log_topic,
            partition: Some(entry.partition),
            key: Some(entry.model.as_bytes()),
            value: Some(&entry.value),
            timestamp_ms: None,
            headers: &[],
        };
        producer
            .send_waiting(&record, (groups + index) as u64 + 1, SEND_TIMEOUT)
            .map_err(plain)?;
    }
    let own = (groups + log) as u64 + 1;
    for (index, outputs) in commit.outputs.iter().enumerate() {
        let tenant = || Some(Arc::from(outputs.model.document.tenant.as_str()));
        outputs
            .try_for_each(|record| producer.send_waiting(record, own + index as u64, SEND_TIMEOUT))
            .map_err(|error| CommitFailure {
                tenant: is_own_fault(&error).then(tenant).flatten(),
                error,
            })?;
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
        producer.send_waiting(&record, 0, SEND_TIMEOUT).map_err(plain)?;
    }
    crash_point::reached("commit.all_sent");
    let committed = producer.commit_transaction(COMMIT_TIMEOUT);
    let (offsets, failed) = reports.take();
    if let Err(error) = committed {
        let (token, error) = failed.unwrap_or((0, error));
        let outputs = usize::try_from(token.saturating_sub(own)).ok().filter(|_| token >= own);
        let batch = outputs.and_then(|index| commit.outputs.get(index));
        let tenant = batch
            .filter(|_| is_own_fault(&error))
            .map(|batch| Arc::from(batch.model.document.tenant.as_str()));
        return Err(CommitFailure { error, tenant });
    }
    Ok(Committed {
        ends: offsets.iter().skip(1).take(groups).map(|offset| offset + 1).collect(),
        log_offsets: offsets.iter().skip(1 + groups).take(log).copied().collect(),
    })
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
