//! The thread that writes a task's transactions.

use super::commit::{Answer, Commit, CommitFailure, Committed};
use crate::metrics::Metrics;
use connect_api::error::ConnectError;
use connect_api::partitioned::PartitionedTaskContext;
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_client::{Deliveries, ErrorCode, KafkaError, Producer, ProducerRecord};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Kafka is waited for in slices, between which the thread sees that it is not wanted any more.
const SLICE: Duration = Duration::from_millis(500);
/// Wait after an error that came at once and may pass.
const RETRY_WAIT: Duration = Duration::from_millis(50);
/// A wait that is longer is spoken of.
const SLOW: Duration = Duration::from_secs(5);
/// Kafka's default for `transaction.timeout.ms`.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The committer of one task.
pub struct Committer {
    commits: Option<Sender<Commit>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

/// Told when a task begins to wait for Kafka for long (true), and when that is over.
pub type OnWaiting = Box<dyn Fn(bool) + Send>;

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
        on_waiting: OnWaiting,
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
        let timeout_ms = context.clients.producer.get("transaction.timeout.ms");
        let stopping = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            producer,
            reports,
            stopping: stopping.clone(),
            task: format!("{}-{}", context.connector, context.task),
            transaction_timeout: timeout_ms
                .and_then(|text| text.trim().parse().ok())
                .map_or(TRANSACTION_TIMEOUT, Duration::from_millis),
            on_waiting,
        };
        let (commits, received) = bounded::<Commit>(1);
        let (answer, answers) = bounded::<Answer>(1);
        let wake = context.wake.clone();
        let thread = std::thread::Builder::new()
            .name(format!("commit {}", writer.task))
            .spawn(move || {
                for commit in received {
                    let result = writer.run(&commit, &metrics);
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
            stopping,
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
        self.stopping.store(true, Ordering::Release);
        self.commits = None;
        if let Some(thread) = self.thread.take() {
            // A commit under way ends by itself or is given up within a slice; its answer has room.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Writer {
    producer: Producer,
    reports: Arc<Reports>,
    stopping: Arc<AtomicBool>,
    /// `CONNECTOR-TASK`
    task: String,
    transaction_timeout: Duration,
    on_waiting: OnWaiting,
}

fn plain(error: KafkaError) -> CommitFailure {
    CommitFailure { error, tenant: None }
}

impl Writer {
    fn run(&self, commit: &Commit, metrics: &Metrics) -> Answer {
        let started = Instant::now();
        let result = self.flush_outputs(commit).and_then(|()| self.transaction(commit));
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(0);
        metrics.stages.commit_ns.fetch_add(nanos, Ordering::Relaxed);
        metrics.commits.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Calls until the outcome is known: a broker that does not answer costs time and nothing else. Only a task that is
    /// given up gets the error of an attempt that might have succeeded later.
    fn patiently<T>(
        &self,
        doing: &str,
        mut attempt: impl FnMut(Duration) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let started = Instant::now();
        let mut told = false;
        let outcome = loop {
            match attempt(SLICE) {
                Err(error)
                    if error.is_retriable() && !is_own_fault(&error) && !self.stopping.load(Ordering::Acquire) =>
                {
                    if !told && started.elapsed() >= SLOW {
                        told = true;
                        (self.on_waiting)(true);
                        tracing::warn!(
                            task = %self.task,
                            error = %error,
                            "Kafka does not answer: the task waits with {doing} and goes on by itself, nothing is lost"
                        );
                    }
                    if !error.is_timeout() {
                        std::thread::sleep(RETRY_WAIT);
                    }
                }
                outcome => break outcome,
            }
        };
        if told {
            (self.on_waiting)(false);
            let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            if outcome.is_ok() {
                tracing::info!(task = %self.task, waited_ms, "Kafka answers again: the task goes on");
            }
        }
        outcome
    }

    /// Outputs that are sent at once are acknowledged before the positions behind them are committed.
    fn flush_outputs(&self, commit: &Commit) -> Result<(), CommitFailure> {
        let Some(sender) = commit.flush.as_ref().and_then(|outbox| outbox.sender()) else {
            return Ok(());
        };
        let failures = self
            .patiently("sending outputs", |slice| sender.flush(slice))
            .map_err(plain)?;
        let Some(failure) = failures.into_iter().next() else {
            return Ok(());
        };
        let error = KafkaError::new(
            ErrorCode::Fail,
            format!("outputs of tenant {}: {}", failure.tenant, failure.error),
        );
        Err(CommitFailure {
            error,
            tenant: Some(failure.tenant),
        })
    }

    fn transaction(&self, commit: &Commit) -> Answer {
        let begun = Instant::now();
        self.producer.begin_transaction().map_err(|error| plain(lost(error)))?;
        let result = self.write(commit);
        let Err(CommitFailure { error, tenant }) = result else {
            return result;
        };
        if error.is_fatal() || error.is_fenced() {
            return Err(plain(self.ended_by_others(error, begun)));
        }
        if self.stopping.load(Ordering::Acquire) {
            // Whoever opens the partitions next ends the transaction.
            return Err(plain(lost(error)));
        }
        match self.patiently("aborting a transaction", |slice| self.producer.abort_transaction(slice)) {
            Ok(()) => Err(CommitFailure { error, tenant }),
            Err(abort) => Err(plain(self.ended_by_others(lost(abort.while_doing(error)), begun))),
        }
    }

    /// A producer is fenced by another with its transactional id, or by the broker, which ends a transaction that takes too
    /// long: then nobody has taken over, and a new producer goes on.
    fn ended_by_others(&self, error: KafkaError, begun: Instant) -> KafkaError {
        if !error.is_fenced() || begun.elapsed() < self.transaction_timeout {
            return error;
        }
        let text = format!(
            "the transaction was still open after transaction.timeout.ms ({} ms), so the broker ended it: {error}",
            self.transaction_timeout.as_millis()
        );
        KafkaError::new(ErrorCode::Fatal, text)
    }

    fn send(&self, record: &ProducerRecord<'_>, token: u64) -> Result<(), KafkaError> {
        self.patiently("sending records", |slice| {
            self.producer.send_waiting(record, token, slice)
        })
    }

    /// Tokens: groups, then log entries, then one per batch of outputs, then shed events; from 1.
    fn write(&self, commit: &Commit) -> Answer {
        let (groups, log) = (commit.groups.len(), commit.log.len());
        self.reports.reset(groups + log);
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
                self.send(&record, token).map_err(plain)?;
            }
        }
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
            self.send(&record, (groups + index) as u64 + 1).map_err(plain)?;
        }
        let own = (groups + log) as u64 + 1;
        for (index, outputs) in commit.outputs.iter().enumerate() {
            let tenant = || Some(Arc::from(outputs.model.document.tenant.as_str()));
            outputs
                .try_for_each(|record| self.send(record, own + index as u64))
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
            self.send(&record, 0).map_err(plain)?;
        }
        let committed = self.patiently("committing a transaction", |slice| {
            self.producer.commit_transaction(slice)
        });
        let (offsets, failed) = self.reports.take();
        if let Err(error) = committed {
            if error.is_fatal() || error.is_fenced() {
                return Err(plain(error));
            }
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
}

/// An error after which nobody knows how the producer's transaction stands: only another producer with its id can tell.
fn lost(error: KafkaError) -> KafkaError {
    match error.is_fatal() || error.is_fenced() {
        true => error,
        false => KafkaError::new(ErrorCode::Fatal, error.to_string()),
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
