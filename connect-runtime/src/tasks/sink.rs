//! The loop of a sink task (contract 9.3).
//!
//! ```text
//!   fetch -> pipeline -> put --accepted--> pre_commit --durable--> consumer group offsets
//!     |                   '-- retriable: pause, give the same records again
//!     '-- rebalance (inside fetch): revoked -> pre_commit, close, commit; lost -> close; assigned -> open
//! ```
//! The task has a thread of its own, on which the consumer is fetched from; the task's methods are driven on it.

use super::TaskEnvironment;
use super::fetched::stored;
use super::pipeline::Pipeline;
use super::topic_pattern::TopicPattern;
use crate::errors::{Reporter, delay};
use crate::running::TaskState;
use crate::running::{Control, Target};
use crate::running::{client_config, kafka_error, to_client};
use connect_api::delivery::SinkOffsets;
use connect_api::{ConnectError, ErrorKind, SinkRecord, SinkTask, SinkTaskContext, TopicPartition};
use indexmap::{IndexMap, IndexSet};
use kafka_client::{CommitMode, Consumer, Message, Messages, RebalanceListener, Remedy};
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Records fetched at once where the consumer's settings do not say (`max.poll.records`).
const MAX_POLL_RECORDS: usize = 500;
/// Longest wait for the names of the topics that a pattern is matched with.
const TOPIC_NAMES: Duration = Duration::from_secs(2);
/// Longest wait between two attempts of a put.
const LONGEST_PUT_WAIT_MS: i64 = 10_000;

/// Starts the loop.
pub(super) fn spawn(environment: TaskEnvironment, task: Box<dyn SinkTask>) {
    environment.spawn_thread(move |environment, runtime| run(environment, runtime, task));
}

fn run(environment: &TaskEnvironment, runtime: &Handle, task: Box<dyn SinkTask>) -> Result<(), ConnectError> {
    let control = &environment.control;
    let Some(errors) = runtime.block_on(environment.error_handler_in_time())? else {
        return Ok(());
    };
    let reporter = Arc::clone(&errors.reporter);
    let pipeline = Pipeline::new(environment, errors)?;
    let consumer = Consumer::new(&client_config(&environment.clients.consumer)).map_err(kafka_error)?;
    let waker = consumer.waker();
    control.on_change(move || waker.wake());
    let session = Arc::new(Mutex::new(Session {
        task,
        runtime: runtime.clone(),
        control: Arc::clone(control),
        reporter: Arc::clone(&reporter),
        flush_timeout: environment.runner.worker.offset_flush_timeout,
        owned: IndexSet::new(),
        accepted: SinkOffsets::new(),
        committed: SinkOffsets::new(),
        first: SinkOffsets::new(),
        pending: Vec::new(),
        reached: SinkOffsets::new(),
        paused: false,
        failure: None,
        sequence: 0,
        completed_sequence: Arc::new(AtomicU64::new(0)),
        commit_deadline: None,
    }));
    let result = start(environment, runtime, &session, &reporter, &consumer).and_then(|pattern| {
        let poll_records = environment
            .clients
            .consumer
            .get("max.poll.records")
            .and_then(|text| text.parse().ok());
        let mut sink = SinkLoop {
            environment,
            runtime,
            pipeline,
            consumer: &consumer,
            session: Arc::clone(&session),
            poll_records: poll_records.unwrap_or(MAX_POLL_RECORDS),
            pattern,
            topics: IndexMap::new(),
            next_commit: Instant::now() + environment.runner.worker.offset_flush_interval,
            attempt: 0,
            retry_at: None,
        };
        sink.run()
    });
    if result.is_err() {
        // what the task accepted is not committed: it comes again
        session
            .lock()
            .failure
            .get_or_insert_with(|| ConnectError::fatal("the task has failed"));
    }
    let closed = consumer.close();
    reporter.finish(environment.runner.worker.offset_flush_timeout);
    let mut session = session.lock();
    let stop_limit = control.out_of_time();
    let _ = runtime.block_on(async {
        tokio::select! {
            () = session.task.stop() => true,
            () = stop_limit => false,
        }
    });
    if let Err(error) = closed {
        tracing::warn!(connector = %environment.spec.connector, error = %error, "consumer did not leave its group in time");
    }
    result
}

fn start(
    environment: &TaskEnvironment,
    runtime: &Handle,
    session: &Arc<Mutex<Session>>,
    reporter: &Arc<Reporter>,
    consumer: &Consumer,
) -> Result<Option<TopicPattern>, ConnectError> {
    let spec = &environment.spec;
    let context = SinkTaskContext {
        connector: Arc::clone(&spec.connector),
        task: spec.task,
        config: spec.task_config.clone(),
        reporter: Arc::clone(reporter) as Arc<dyn connect_api::ErrantRecordReporter>,
    };
    {
        let mut session = session.lock();
        let started = session.task.start(context);
        in_time(runtime, &environment.control, started)??;
    }
    let text = |name: &str| {
        spec.connector_config
            .get(name)
            .and_then(Option::as_deref)
            .map(str::trim)
            .unwrap_or_default()
    };
    match text("topics.regex") {
        "" => {
            let topics = text("topics").split(',').map(str::trim);
            let topics: Vec<String> = topics.filter(|topic| !topic.is_empty()).map(str::to_owned).collect();
            let listener = Listener(Arc::clone(session));
            consumer.subscribe(&topics, Box::new(listener)).map_err(kafka_error)?;
            Ok(None)
        }
        // the loop subscribes to what matches
        pattern => TopicPattern::new(pattern, &environment.clients.consumer, Instant::now()).map(Some),
    }
}

/// Drives `future`, giving it up when the time for stopping is over.
fn in_time<T>(runtime: &Handle, control: &Control, future: impl Future<Output = T>) -> Result<T, ConnectError> {
    runtime.block_on(async {
        tokio::select! {
            done = future => Ok(done),
            () = control.out_of_time() => Err(ConnectError::fatal("the task did not answer before the time for stopping was over")),
        }
    })
}

/// What the loop and the rebalance listener share; the listener runs inside `Consumer::fetch`, on the same thread.
struct Session {
    task: Box<dyn SinkTask>,
    runtime: Handle,
    control: Arc<Control>,
    reporter: Arc<Reporter>,
    flush_timeout: Duration,
    owned: IndexSet<TopicPartition>,
    /// next offset to read behind what the task has taken, by partition
    accepted: SinkOffsets,
    /// what the group has, as far as this task knows
    committed: SinkOffsets,
    /// first offset read since the partitions were assigned: where reading goes back to before the first commit
    first: SinkOffsets,
    /// records that `put` could not take yet
    pending: Vec<SinkRecord>,
    /// next offset behind what was converted, records left out included; accepted once `pending` is taken
    reached: SinkOffsets,
    paused: bool,
    /// what went wrong inside a callback; the loop fails with it
    failure: Option<ConnectError>,
    sequence: u64,
    completed_sequence: Arc<AtomicU64>,
    commit_deadline: Option<Instant>,
}

struct Listener(Arc<Mutex<Session>>);

impl RebalanceListener for Listener {
    fn assigned(&mut self, consumer: &Consumer, partitions: &[kafka_client::TopicPartition]) {
        self.0.lock().assigned(consumer, partitions);
    }

    fn revoked(&mut self, consumer: &Consumer, partitions: &[kafka_client::TopicPartition]) {
        self.0.lock().revoked(consumer, partitions);
    }

    fn lost(&mut self, _consumer: &Consumer, partitions: &[kafka_client::TopicPartition]) {
        self.0.lock().lost(partitions);
    }
}

impl Session {
    fn fail(&mut self, error: ConnectError) {
        self.failure.get_or_insert(error);
    }

    fn assigned(&mut self, consumer: &Consumer, partitions: &[kafka_client::TopicPartition]) {
        let partitions: Vec<TopicPartition> = partitions.iter().map(from_client).collect();
        self.owned.extend(partitions.iter().cloned());
        self.control.counters.partitions.set(self.owned.len() as u64);
        if self.failure.is_none() && !partitions.is_empty() {
            let runtime = self.runtime.clone();
            let opened = in_time(&runtime, &self.control, self.task.open(&partitions)).and_then(|opened| opened);
            if let Err(error) = opened {
                self.fail(error);
            }
        }
        if self.paused || !self.pending.is_empty() {
            let all: Vec<_> = partitions.iter().map(to_client).collect();
            if let Err(error) = consumer.pause(&all) {
                self.fail(kafka_error(error));
            }
        }
    }

    fn revoked(&mut self, consumer: &Consumer, partitions: &[kafka_client::TopicPartition]) {
        let partitions: Vec<TopicPartition> = partitions.iter().map(from_client).collect();
        if self.failure.is_none() {
            let offsets = match self.durable(&partitions) {
                Ok(offsets) => offsets,
                Err(error) => {
                    tracing::error!(error = %error.trace(), "pre-commit failed while partitions were revoked, not committing");
                    SinkOffsets::new()
                }
            };
            self.close(&partitions);
            let changed = self.changed(offsets);
            if !changed.is_empty() {
                match consumer.commit(&to_client_offsets(&changed), CommitMode::Sync) {
                    Ok(()) => self.committed.extend(changed),
                    Err(error) => tracing::warn!(error = %error, "could not commit offsets of revoked partitions"),
                }
            }
        }
        self.forget(&partitions);
    }

    fn lost(&mut self, partitions: &[kafka_client::TopicPartition]) {
        let partitions: Vec<TopicPartition> = partitions.iter().map(from_client).collect();
        if self.failure.is_none() {
            self.close(&partitions);
        }
        self.forget(&partitions);
    }

    fn close(&mut self, partitions: &[TopicPartition]) {
        let runtime = self.runtime.clone();
        let closed = in_time(&runtime, &self.control, self.task.close(partitions)).and_then(|closed| closed);
        if let Err(error) = closed {
            self.fail(error);
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.owned.shift_remove(partition);
            self.accepted.shift_remove(partition);
            self.reached.shift_remove(partition);
            self.first.shift_remove(partition);
            self.committed.shift_remove(partition);
        }
        self.pending.retain(|record| {
            !partitions
                .iter()
                .any(|gone| gone.partition == record.partition && gone.topic == *record.original_topic())
        });
        self.control.counters.partitions.set(self.owned.len() as u64);
        self.count_active();
    }

    /// What the task says is durable of `partitions`, checked.
    fn durable(&mut self, partitions: &[TopicPartition]) -> Result<SinkOffsets, ConnectError> {
        let accepted: SinkOffsets = self
            .accepted
            .iter()
            .filter(|(partition, _)| partitions.contains(partition))
            .map(|(partition, offset)| (partition.clone(), *offset))
            .collect();
        if accepted.is_empty() {
            return Ok(accepted);
        }
        let runtime = self.runtime.clone();
        let durable = in_time(&runtime, &self.control, self.task.pre_commit(accepted.clone()))??;
        // records that the task reported must be in the dead letter topic before the offsets behind them are committed
        if let Err(error) = connect_api::ErrantRecordReporter::flush(self.reporter.as_ref(), self.flush_timeout) {
            if error.kind() != ErrorKind::Retriable {
                self.fail(error.clone());
            }
            return Err(error);
        }
        let mut checked = SinkOffsets::new();
        for (partition, offset) in durable.into_positions() {
            match accepted.get(&partition) {
                Some(limit) if offset <= *limit => {
                    checked.insert(partition, offset);
                }
                Some(limit) => {
                    tracing::warn!(partition = %partition, offset, accepted = limit, "the task's offset lies behind what it was given, ignored");
                }
                None => {
                    tracing::warn!(partition = %partition, offset, "the task's offset is of a partition it does not own, ignored")
                }
            }
        }
        Ok(checked)
    }

    /// Counts the offsets that were read and that no commit says yet.
    fn count_active(&self) {
        let of = |partition: &TopicPartition| {
            let read = self.reached.get(partition).or_else(|| self.accepted.get(partition));
            let committed = self.committed.get(partition).or_else(|| self.first.get(partition));
            let open = read?.saturating_sub(*committed?);
            u64::try_from(open).ok()
        };
        self.control.counters.active.set(self.owned.iter().filter_map(of).sum());
    }

    /// Everything converted so far was taken.
    fn accept_reached(&mut self) {
        for (partition, offset) in std::mem::take(&mut self.reached) {
            if self.owned.contains(&partition) {
                self.accepted.insert(partition, offset);
            }
        }
    }

    fn changed(&self, offsets: SinkOffsets) -> SinkOffsets {
        offsets
            .into_iter()
            .filter(|(partition, offset)| self.committed.get(partition) != Some(offset))
            .collect()
    }

    /// Back to what the group has: records taken since then come again.
    fn rewind(&mut self, consumer: &Consumer) -> Result<(), ConnectError> {
        let partitions: Vec<TopicPartition> = self.accepted.keys().cloned().collect();
        for partition in partitions {
            let known = self
                .committed
                .get(&partition)
                .or_else(|| self.first.get(&partition))
                .copied();
            if let Some(offset) = known {
                consumer.seek(&to_client(&partition), offset).map_err(kafka_error)?;
                self.accepted.shift_remove(&partition);
            }
        }
        self.count_active();
        Ok(())
    }
}

struct SinkLoop<'a> {
    environment: &'a TaskEnvironment,
    runtime: &'a Handle,
    pipeline: Pipeline,
    consumer: &'a Consumer,
    session: Arc<Mutex<Session>>,
    poll_records: usize,
    /// `topics.regex`
    pattern: Option<TopicPattern>,
    /// one shared name for each topic
    topics: IndexMap<String, Arc<str>>,
    next_commit: Instant,
    /// failed attempts to put the pending records
    attempt: u32,
    retry_at: Option<Instant>,
}

impl SinkLoop<'_> {
    fn run(&mut self) -> Result<(), ConnectError> {
        let control = Arc::clone(&self.environment.control);
        loop {
            if let Some(error) = self.session.lock().failure.clone() {
                return Err(error);
            }
            match control.target() {
                Target::Stop => {
                    self.final_commit();
                    return Ok(());
                }
                Target::Pause => {
                    self.set_paused(true)?;
                    control.report(TaskState::Paused);
                }
                Target::Run => {
                    self.set_paused(false)?;
                    control.report(TaskState::Running);
                }
            }
            let now = Instant::now();
            if now >= self.next_commit {
                self.commit();
                self.next_commit = now + self.environment.runner.worker.offset_flush_interval;
            }
            if self.retry_at.is_some_and(|at| now >= at) && control.target() == Target::Run {
                self.retry_at = None;
                self.put()?;
            }
            if self.next_look().is_some_and(|at| now >= at) {
                self.look_at_topics()?;
            }
            let until = [
                Some(self.next_commit),
                self.retry_at,
                self.next_look(),
                self.session.lock().commit_deadline,
            ];
            let until = until.into_iter().flatten().min().unwrap_or(self.next_commit);
            let wait = until
                .saturating_duration_since(Instant::now())
                .min(Duration::from_secs(60));
            let fetched = self.consumer.fetch(self.poll_records, wait).map_err(kafka_error)?;
            self.expire_commit();
            for error in fetched.errors {
                match error.remedy() {
                    // as Java's consumer throws: no right, no committed offset with auto.offset.reset=none, a bad name, ...
                    Remedy::Mend | Remedy::GiveWay | Remedy::Renew => return Err(kafka_error(error)),
                    // and as it waits for topics that somebody makes later
                    Remedy::Wait | Remedy::Missing | Remedy::Refused | Remedy::Unexpected => {
                        tracing::warn!(connector = %self.environment.spec.connector, error = %error, "consumer error");
                    }
                }
            }
            if !fetched.messages.is_empty() {
                self.deliver(&Arc::new(fetched.messages))?;
            }
        }
    }

    fn next_look(&self) -> Option<Instant> {
        self.pattern.as_ref().map(TopicPattern::next_look)
    }

    /// Subscribes to the topics that the pattern matches now, where they are others than before.
    fn look_at_topics(&mut self) -> Result<(), ConnectError> {
        let Some(pattern) = &mut self.pattern else {
            return Ok(());
        };
        let spec = &self.environment.spec;
        let names = match self.consumer.topic_names(TOPIC_NAMES) {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(connector = %spec.connector, task = spec.task, %error, "the topics could not be listed for topics.regex");
                pattern.not_seen(Instant::now());
                return Ok(());
            }
        };
        if let Some(topics) = pattern.seen(names, Instant::now())? {
            tracing::info!(connector = %spec.connector, task = spec.task, ?topics, "topics that topics.regex matches");
            let listener = Listener(Arc::clone(&self.session));
            self.consumer
                .subscribe(topics, Box::new(listener))
                .map_err(kafka_error)?;
        } else if pattern.matches_nothing() {
            tracing::warn!(connector = %spec.connector, task = spec.task, "topics.regex matches no topic yet");
        }
        Ok(())
    }

    /// The shared name of a topic; the first record of one tells that it is used.
    fn topic(&mut self, name: &str) -> Arc<str> {
        if let Some(topic) = self.topics.get(name) {
            return Arc::clone(topic);
        }
        let topic: Arc<str> = Arc::from(name);
        self.topics.insert(name.to_owned(), Arc::clone(&topic));
        self.environment.control.topic_used(&topic);
        topic
    }

    /// Converts records and gives them to the task.
    fn deliver(&mut self, messages: &Arc<Messages>) -> Result<(), ConnectError> {
        let counters = &self.environment.control.counters;
        counters.records_in.add(messages.len() as u64);
        counters.active.add(messages.len() as u64);
        let session = Arc::clone(&self.session);
        let mut session = session.lock();
        let (mut kept, mut at) = (Vec::new(), 0);
        for run in messages.chunk_by(Message::same_partition) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let topic = self.topic(first.topic());
            let places = at..at + run.len();
            at = places.end;
            self.runtime
                .block_on(self.pipeline.to_task(&topic, messages, places, &mut session.pending))?;
            if self.pipeline.errors.reporter.keeps_records() {
                kept.extend(run.iter().map(|message| stored(message, Arc::clone(&topic))));
            }
            let partition = TopicPartition {
                topic,
                partition: first.partition(),
            };
            session.first.entry(partition.clone()).or_insert(first.offset());
            session.reached.insert(partition, last.offset() + 1);
        }
        if self.pipeline.errors.reporter.keeps_records() {
            *self.pipeline.errors.reporter.batch.lock() = kept;
        }
        if session.pending.is_empty() {
            session.accept_reached();
            return Ok(());
        }
        drop(session);
        self.put()
    }

    /// Gives the pending records to the task. A retriable error pauses the partitions until it takes them.
    fn put(&mut self) -> Result<(), ConnectError> {
        let control = Arc::clone(&self.environment.control);
        let mut guard = self.session.lock();
        let session = &mut *guard;
        let count = session.pending.len() as u64;
        let started = Instant::now();
        let taken = in_time(self.runtime, &control, session.task.put(&session.pending))?;
        control.counters.batch.record(started.elapsed());
        match taken {
            Ok(_accepted) => {
                control.counters.records_out.add(count);
                session.pending.clear();
                session.accept_reached();
                if self.attempt > 0 {
                    self.attempt = 0;
                    if !session.paused {
                        resume_all(self.consumer, session)?;
                    }
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Retriable => {
                if self.attempt == 0 {
                    pause_all(self.consumer, session)?;
                }
                self.attempt += 1;
                let wait = delay(self.attempt, LONGEST_PUT_WAIT_MS, -1, 0, 0.5);
                self.retry_at = Some(Instant::now() + Duration::from_millis(wait.unsigned_abs()));
                tracing::warn!(
                    connector = %self.environment.spec.connector,
                    task = self.environment.spec.task,
                    error = %error,
                    wait_ms = wait,
                    "put failed, the same records are given again"
                );
                Ok(())
            }
            Err(error) => {
                Err(ConnectError::fatal("Exiting WorkerSinkTask due to unrecoverable exception.").caused_by(error))
            }
        }
    }

    fn set_paused(&mut self, paused: bool) -> Result<(), ConnectError> {
        let mut session = self.session.lock();
        if session.paused == paused {
            return Ok(());
        }
        session.paused = paused;
        match paused {
            true => pause_all(self.consumer, &session),
            false if session.pending.is_empty() => resume_all(self.consumer, &session),
            false => Ok(()),
        }
    }

    /// Asks the task what is durable and commits it, without waiting for the answer.
    fn commit(&mut self) {
        let mut session = self.session.lock();
        let all: Vec<TopicPartition> = session.owned.iter().cloned().collect();
        let offsets = match session.durable(&all) {
            Ok(offsets) => offsets,
            Err(error) => {
                self.environment.control.counters.commit_failures.add(1);
                tracing::error!(
                    connector = %self.environment.spec.connector,
                    task = self.environment.spec.task,
                    error = %error.trace(),
                    "pre-commit failed, reading again from the last committed offsets"
                );
                session.pending.clear();
                let reached = std::mem::take(&mut session.reached);
                session.accepted.extend(reached);
                let rewound = session.rewind(self.consumer);
                let resumed = match std::mem::take(&mut self.attempt) > 0 && !session.paused {
                    true => resume_all(self.consumer, &session),
                    false => Ok(()),
                };
                self.retry_at = None;
                if let Err(error) = rewound.and(resumed) {
                    session.fail(error);
                }
                return;
            }
        };
        let changed = session.changed(offsets);
        if changed.is_empty() {
            return;
        }
        session.sequence += 1;
        session.commit_deadline = Some(Instant::now() + self.environment.runner.worker.offset_flush_timeout);
        let sequence = session.sequence;
        let completed = Arc::clone(&session.completed_sequence);
        let counters = Arc::clone(&self.environment.control.counters);
        counters.commit_sequence.set(sequence);
        let started = Instant::now();
        let done = move |result: Result<(), kafka_client::KafkaError>| {
            counters.commit.record(started.elapsed());
            match result {
                Ok(()) => {
                    completed.fetch_max(sequence, Ordering::AcqRel);
                    counters.commit_successes.add(1);
                }
                Err(error) => {
                    counters.commit_failures.add(1);
                    tracing::error!(error = %error, sequence, "commit of offsets failed");
                }
            }
        };
        match self.consumer.commit_with(&to_client_offsets(&changed), Box::new(done)) {
            Ok(()) => {
                session.committed.extend(changed);
                session.count_active();
            }
            Err(error) => tracing::error!(error = %error, "could not commit offsets"),
        }
    }

    /// Gives a commit up that has not ended in time; the next interval commits again.
    fn expire_commit(&mut self) {
        let mut session = self.session.lock();
        if session.commit_deadline.is_none() {
            return;
        }
        if session.completed_sequence.load(Ordering::Acquire) >= session.sequence {
            session.commit_deadline = None;
        } else if session
            .commit_deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            session.commit_deadline = None;
            session.committed.clear(); // nobody knows what the group has: the next commit says everything again
            self.environment.control.counters.commit_failures.add(1);
            tracing::warn!(
                connector = %self.environment.spec.connector,
                task = self.environment.spec.task,
                "commit of offsets did not end within offset.flush.timeout.ms"
            );
        }
    }

    /// The last commit before the task leaves its group; closing the consumer calls `revoked`, which commits.
    fn final_commit(&mut self) {
        // an asynchronous commit under way is overtaken by the synchronous one
        self.session.lock().committed.clear();
    }
}

fn pause_all(consumer: &Consumer, session: &Session) -> Result<(), ConnectError> {
    let all: Vec<_> = session.owned.iter().map(to_client).collect();
    consumer.pause(&all).map_err(kafka_error)
}

fn resume_all(consumer: &Consumer, session: &Session) -> Result<(), ConnectError> {
    let all: Vec<_> = session.owned.iter().map(to_client).collect();
    consumer.resume(&all).map_err(kafka_error)
}

fn from_client(partition: &kafka_client::TopicPartition) -> TopicPartition {
    TopicPartition {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
    }
}

fn to_client_offsets(offsets: &SinkOffsets) -> Vec<(kafka_client::TopicPartition, i64)> {
    offsets
        .iter()
        .map(|(partition, offset)| (to_client(partition), *offset))
        .collect()
}
