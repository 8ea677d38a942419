//! The thread that writes a task's transactions.

use super::commit::{Amendment, Answer, Commit, CommitFailure, Committed, Refused};
use super::transaction::write;
use crate::metrics::Metrics;
use crate::output::writer_config;
use connect_api::error::ConnectError;
use connect_api::partitioned::PartitionedTaskContext;
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_client::{ErrorCode, KafkaError, RecordWriter, TopicIdentity};
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
    amendments: Option<Sender<Option<Amendment>>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

/// Told when a task begins to wait for Kafka for long (true), and when that is over.
pub type OnWaiting = Box<dyn Fn(bool) + Send>;

impl Committer {
    /// Starts the writer, which fences whoever has the same transactional id, and its thread. `inputs` are the topics that the
    /// task reads: nothing is committed once they are others. `refused` says why there is no writer.
    pub fn start(
        context: &PartitionedTaskContext,
        transactional_id: &str,
        inputs: Vec<TopicIdentity>,
        metrics: Arc<Metrics>,
        on_waiting: OnWaiting,
        refused: impl FnOnce(KafkaError) -> ConnectError,
    ) -> Result<Committer, ConnectError> {
        let config = writer_config(&context.clients.producer)?;
        let writer = RecordWriter::transactional(&config, transactional_id, INIT_TIMEOUT).map_err(refused)?;
        let timeout_ms = context.clients.producer.get("transaction.timeout.ms");
        let stopping = Arc::new(AtomicBool::new(false));
        let mut transactions = Transactions {
            writer,
            inputs,
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
        let (amend, amendments) = bounded::<Option<Amendment>>(1);
        // Room for a refusal that nobody takes any more, and the end after it.
        let (answer, answers) = bounded::<Answer>(2);
        let dialogue = Dialogue {
            answer,
            amendments,
            wake: context.wake.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("commit {}-{}", context.connector, context.task))
            .spawn(move || {
                for commit in received {
                    let result = transactions.run(&commit, &metrics, &dialogue);
                    drop(commit);
                    if !dialogue.say(Answer::Done(result)) {
                        return;
                    }
                }
            })
            .map_err(|error| ConnectError::fatal(format!("start the commit thread: {error}")))?;
        Ok(Committer {
            commits: Some(commits),
            amendments: Some(amend),
            answers,
            thread: Some(thread),
            stopping,
        })
    }

    /// Hands a transaction over; the caller waits for its end before the next.
    pub fn commit(&self, commit: Commit) -> Result<(), ConnectError> {
        let gone = || ConnectError::fatal("the commit thread has ended");
        self.commits.as_ref().ok_or_else(gone)?.send(commit).map_err(|_| gone())
    }

    /// Says what a transaction writes instead of what was refused; none: it cannot do without, and is aborted.
    pub fn amend(&self, amendment: Option<Amendment>) -> Result<(), ConnectError> {
        let gone = || ConnectError::fatal("the commit thread has ended");
        let amendments = self.amendments.as_ref().ok_or_else(gone)?;
        amendments.send(amendment).map_err(|_| gone())
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
        self.amendments = None;
        if let Some(thread) = self.thread.take() {
            // A commit under way ends by itself or is given up with the attempt at hand; its answer has room.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Transactions {
    writer: RecordWriter,
    inputs: Vec<TopicIdentity>,
    patience: Patience,
    /// `transaction.timeout.ms`
    timeout: Duration,
}

/// What the thread and its task say to each other about a transaction under way.
pub(super) struct Dialogue {
    answer: Sender<Answer>,
    amendments: Receiver<Option<Amendment>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Dialogue {
    /// False: the task has gone.
    fn say(&self, answer: Answer) -> bool {
        let heard = self.answer.send(answer).is_ok();
        (self.wake)();
        heard
    }

    /// What is to be written instead of what was refused.
    pub(super) fn ask(&self, refused: Refused) -> Result<Amendment, CommitFailure> {
        let first = refused.topics.first().cloned();
        let error = first.as_ref().map_or_else(String::new, |refused| refused.error.clone());
        self.say(Answer::Refused(refused));
        let amendment = self.amendments.recv().ok().flatten();
        amendment.ok_or_else(|| CommitFailure {
            refused: first.map(Box::new),
            ..CommitFailure::of(KafkaError::new(ErrorCode::Fail, error))
        })
    }
}

impl Transactions {
    fn run(&mut self, commit: &Commit, metrics: &Metrics, dialogue: &Dialogue) -> Result<Committed, CommitFailure> {
        let started = Instant::now();
        let result = self.flush_outputs(commit, dialogue).and_then(|amendment| {
            let (writer, patience) = (&mut self.writer, &mut self.patience);
            write(writer, patience, &self.inputs, commit, amendment, dialogue)
                .map_err(|failure| self.abort(failure, started))
        });
        self.patience.end(result.is_ok());
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(0);
        metrics.stages.commit_ns.fetch_add(nanos, Ordering::Relaxed);
        metrics.commits.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Predictions that were sent at once are acknowledged before the positions behind them are committed. Gives what is to be
    /// written instead of those that were refused.
    fn flush_outputs(&mut self, commit: &Commit, dialogue: &Dialogue) -> Result<Option<Amendment>, CommitFailure> {
        let Some(sender) = commit.flush.as_ref().and_then(|outbox| outbox.sender()) else {
            return Ok(None);
        };
        let topics = loop {
            match sender.flush(SLICE) {
                Err(error) if error.is_timeout() && self.patience.goes_on("sending outputs", &error) => {}
                outcome => break outcome.map_err(CommitFailure::of)?,
            }
        };
        if topics.is_empty() {
            return Ok(None);
        }
        dialogue.ask(Refused { topics, rows: None }).map(Some)
    }

    /// Aborts. What the failure is then: the abort may find that nobody knows how the transaction stands, or that it is
    /// somebody else's by now.
    fn abort(&mut self, failure: CommitFailure, begun: Instant) -> CommitFailure {
        let ends = failure.ends.clone();
        let plain = |error| CommitFailure {
            ends: ends.clone(),
            ..CommitFailure::of(error)
        };
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
pub(super) struct Patience {
    stopping: Arc<AtomicBool>,
    /// `CONNECTOR-TASK`
    task: String,
    on_waiting: OnWaiting,
    /// the first failure of the commit at hand
    since: Option<Instant>,
    told: bool,
}

impl Patience {
    pub(super) fn goes_on(&mut self, doing: &str, error: &KafkaError) -> bool {
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
