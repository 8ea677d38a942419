//! The thread that writes a task's transactions.

use super::commit::{Answer, Commit, CommitFailure, Committed, ShedEvent};
use crate::metrics::Metrics;
use crate::output::{EncodedOutputs, tenant_at_fault};
use connect_api::error::ConnectError;
use connect_api::partitioned::PartitionedTaskContext;
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_client::{ErrorCode, KafkaError, Place, ProducerRecord, RecordWriter, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Outputs are waited for in slices, between which the thread sees that it is not wanted any more.
const SLICE: Duration = Duration::from_millis(500);
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

impl Committer {
    /// Starts the writer, which fences whoever has the same transactional id, and its thread.
    pub fn start(
        context: &PartitionedTaskContext,
        transactional_id: &str,
        metrics: Arc<Metrics>,
        on_waiting: OnWaiting,
    ) -> Result<Committer, ConnectError> {
        let failed =
            |error: KafkaError| ConnectError::retriable(format!("transactional producer {transactional_id}: {error}"));
        let config = crate::service::client_config(&context.clients.producer)?;
        let writer = RecordWriter::transactional(&config, transactional_id, INIT_TIMEOUT).map_err(failed)?;
        let timeout_ms = context.clients.producer.get("transaction.timeout.ms");
        let stopping = Arc::new(AtomicBool::new(false));
        let mut transactions = Transactions {
            writer,
            patience: Patience {
                stopping: stopping.clone(),
                task: format!("{}-{}", context.connector, context.task),
                on_waiting,
                since: None,
                told: false,
            },
            timeout: timeout_ms
                .and_then(|text| text.trim().parse().ok())
                .map_or(TRANSACTION_TIMEOUT, Duration::from_millis),
        };
        let (commits, received) = bounded::<Commit>(1);
        let (answer, answers) = bounded::<Answer>(1);
        let wake = context.wake.clone();
        let thread = std::thread::Builder::new()
            .name(format!("commit {}-{}", context.connector, context.task))
            .spawn(move || {
                for commit in received {
                    let result = transactions.run(&commit, &metrics);
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
            // A commit under way ends by itself or is given up with the attempt at hand; its answer has room.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Transactions {
    writer: RecordWriter,
    patience: Patience,
    /// `transaction.timeout.ms`
    timeout: Duration,
}

impl Transactions {
    fn run(&mut self, commit: &Commit, metrics: &Metrics) -> Answer {
        let started = Instant::now();
        let result = self.flush_outputs(commit).and_then(|()| {
            write(&mut self.writer, &mut self.patience, commit).map_err(|failure| self.abort(failure, started))
        });
        self.patience.end(result.is_ok());
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(0);
        metrics.stages.commit_ns.fetch_add(nanos, Ordering::Relaxed);
        metrics.commits.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Predictions that were sent at once are acknowledged before the positions behind them are committed.
    fn flush_outputs(&mut self, commit: &Commit) -> Result<(), CommitFailure> {
        let Some(sender) = commit.flush.as_ref().and_then(|outbox| outbox.sender()) else {
            return Ok(());
        };
        let failures = loop {
            match sender.flush(SLICE) {
                Err(error) if error.is_timeout() && self.patience.goes_on("sending outputs", &error) => {}
                outcome => break outcome.map_err(|error| CommitFailure { error, tenant: None })?,
            }
        };
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

    /// Aborts. What the failure is then: the abort may find that nobody knows how the transaction stands, or that it is
    /// somebody else's by now.
    fn abort(&mut self, failure: CommitFailure, begun: Instant) -> CommitFailure {
        let plain = |error| CommitFailure { error, tenant: None };
        if failure.error.is_fatal() || failure.error.is_fenced() {
            return plain(self.ended_by_others(failure.error, begun));
        }
        let patience = &mut self.patience;
        match self
            .writer
            .abort(&mut |error| patience.goes_on("aborting a transaction", error))
        {
            Ok(()) => failure,
            Err(abort) => plain(self.ended_by_others(lost(abort.while_doing(failure.error)), begun)),
        }
    }

    /// A writer is fenced by another with its transactional id, or by the broker, which ends a transaction that takes too
    /// long: then nobody has taken over, and a new writer goes on.
    fn ended_by_others(&self, error: KafkaError, begun: Instant) -> KafkaError {
        if !error.is_fenced() || begun.elapsed() < self.timeout {
            return error;
        }
        let text = format!(
            "the transaction was still open after transaction.timeout.ms ({} ms), so the broker ended it: {error}",
            self.timeout.as_millis()
        );
        KafkaError::new(ErrorCode::Fatal, text)
    }
}

/// A broker that does not answer costs time and nothing else. Only a task that is given up gets the error of an attempt that
/// might have succeeded later.
struct Patience {
    stopping: Arc<AtomicBool>,
    /// `CONNECTOR-TASK`
    task: String,
    on_waiting: OnWaiting,
    /// the first failure of the commit at hand
    since: Option<Instant>,
    told: bool,
}

impl Patience {
    fn goes_on(&mut self, doing: &str, error: &KafkaError) -> bool {
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if !self.told && since.elapsed() >= SLOW {
            self.told = true;
            (self.on_waiting)(true);
            tracing::warn!(
                task = %self.task,
                error = %error,
                "Kafka does not answer: the task waits with {doing} and goes on by itself, nothing is lost"
            );
        }
        true
    }

    fn end(&mut self, well: bool) {
        let since = self.since.take();
        if !std::mem::take(&mut self.told) {
            return;
        }
        (self.on_waiting)(false);
        let waited_ms = since.map_or(0, |since| {
            u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
        });
        if well {
            tracing::info!(task = %self.task, waited_ms, "Kafka answers again: the task goes on");
        }
    }
}

/// An error after which nobody knows how the transaction stands: only another writer with its id can tell.
fn lost(error: KafkaError) -> KafkaError {
    match error.is_fatal() || error.is_fenced() {
        true => error,
        false => KafkaError::new(ErrorCode::Fatal, error.to_string()),
    }
}

fn write(writer: &mut RecordWriter, patience: &mut Patience, commit: &Commit) -> Answer {
    crash_point::reached("commit.outputs_flushed");
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
    crash_point::reached("commit.changelog_appended");
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
    crash_point::reached("commit.all_appended");
    let written = writer
        .write(&mut |error| patience.goes_on("writing a transaction", error))
        .map_err(failed)?;
    crash_point::reached("commit.all_sent");
    writer
        .commit(&mut |error| patience.goes_on("committing a transaction", error))
        .map_err(failed)?;
    Ok(Committed {
        ends: ends
            .into_iter()
            .map(|last| last.map_or(-1, |last| written.offset(last)) + 1)
            .collect(),
        log_offsets: log.into_iter().map(|place| written.offset(place)).collect(),
    })
}

/// Whose failure it is: that of the tenant whose own topic is at fault, or everybody's.
fn failure(commit: &Commit, error: WriteError) -> CommitFailure {
    let outputs = commit.outputs.iter().map(EncodedOutputs::owner);
    let shed = commit.shed.iter().map(ShedEvent::owner);
    CommitFailure {
        tenant: tenant_at_fault(&error, outputs.chain(shed)),
        error: error.error,
    }
}
