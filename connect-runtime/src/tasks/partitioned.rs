//! The loop of a task that owns partitions with their state (connect-api, `PartitionedSinkTask`).
//!
//! ```text
//!   describe topics -> own p mod n = i -> open -> assign at StartAt
//!     loop: fetch -> hand_over -> advance -> { durable: mirror to the group, rewind: seek, full: stop fetching }
//!   retriable error: close, wait, open again            stop, pause: barrier, mirror, close
//! ```
//! The task has a thread of its own. Its positions are authoritative: the consumer group only mirrors them for people and
//! tools. A broker that cannot be reached costs time, never the task.

use super::control::Target;
use super::fetched::timestamp;
use super::{TaskEnvironment, client_config, kafka_error, partitions};
use crate::task_runner::TaskState;
use connect_api::delivery::SinkOffsets;
use connect_api::{
    Advance, ConnectError, Durable, ErrorKind, PartitionedSinkTask, PartitionedTaskContext, RawHeaders, RawRecord,
    StartAt, TopicPartition,
};
use kafka_client::{Admin, CommitMode, Consumer, Message, StartOffset, Waker};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Makes the task once its context is known.
type MakeTask = Box<dyn FnOnce(PartitionedTaskContext) -> Result<Box<dyn PartitionedSinkTask>, ConnectError> + Send>;

/// Records handed over at once, at most.
const BATCH: usize = 4096;
/// Longest time without a call of `advance`.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// Time between two commits to the mirroring consumer group.
const MIRROR_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two looks at the partition counts of the topics.
const LAYOUT_INTERVAL: Duration = Duration::from_secs(60);
/// Waits before the task is opened again.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Starts the loop.
pub(super) fn spawn(environment: TaskEnvironment, make: MakeTask) {
    environment.spawn_thread(move |environment, runtime| {
        let wake = Arc::new(Wake::default());
        let own = Arc::clone(&wake);
        environment.control.on_change(move || own.wake());
        runtime.block_on(environment.control.while_paused());
        if environment.control.stopping() {
            return Ok(());
        }
        let errors = loop {
            match runtime.block_on(environment.error_handler()) {
                Err(error) if error.kind() == ErrorKind::Retriable && !environment.control.stopping() => {
                    runtime.block_on(environment.control.sleep(LONGEST_BACKOFF));
                }
                other => break other?,
            }
        };
        let spec = &environment.spec;
        let wake_task = Arc::clone(&wake);
        let task = make(PartitionedTaskContext {
            group_id: Arc::clone(&environment.runner.worker.group_id),
            connector: Arc::clone(&spec.connector),
            task: spec.task,
            tasks: spec.tasks,
            config: spec.task_config.clone(),
            clients: environment.clients.clone(),
            reporter: Arc::clone(&errors.reporter) as Arc<dyn connect_api::ErrantRecordReporter>,
            wake: Arc::new(move || wake_task.wake()),
        })?;
        let result = PartitionedLoop {
            environment,
            runtime,
            wake,
            task,
        }
        .run();
        errors.reporter.finish(environment.runner.worker.offset_flush_timeout);
        result
    });
}

/// Ends a wait of the task's thread, wherever it waits.
#[derive(Default)]
struct Wake {
    consumer: Mutex<Option<Waker>>,
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    fn wake(&self) {
        *self.woken.lock() = true;
        self.changed.notify_all();
        if let Some(waker) = self.consumer.lock().as_ref() {
            waker.wake();
        }
    }

    fn clear(&self) {
        *self.woken.lock() = false;
    }

    /// Waits without fetching, until woken.
    fn wait(&self, time: Duration) {
        let mut woken = self.woken.lock();
        if !*woken {
            self.changed.wait_for(&mut woken, time);
        }
        *woken = false;
    }
}

/// Why a session with open partitions ended.
enum Ended {
    Stopped,
    Paused,
}

struct PartitionedLoop<'a> {
    environment: &'a TaskEnvironment,
    runtime: &'a Handle,
    wake: Arc<Wake>,
    task: Box<dyn PartitionedSinkTask>,
}

impl PartitionedLoop<'_> {
    fn run(mut self) -> Result<(), ConnectError> {
        let control = Arc::clone(&self.environment.control);
        let mut backoff = FIRST_BACKOFF;
        loop {
            self.runtime.block_on(control.while_paused());
            if control.stopping() {
                return Ok(());
            }
            let mut progressed = false;
            let session = self.session(&mut progressed);
            self.task.close();
            self.wake.consumer.lock().take();
            match session {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::Paused) => backoff = FIRST_BACKOFF,
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    if progressed {
                        backoff = FIRST_BACKOFF;
                    }
                    tracing::warn!(
                        connector = %self.environment.spec.connector,
                        task = self.environment.spec.task,
                        error = %error.trace(),
                        wait_ms = backoff.as_millis() as u64,
                        "task is opened again after a wait"
                    );
                    self.runtime.block_on(control.sleep(backoff));
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// From opening the partitions to giving them up.
    fn session(&mut self, progressed: &mut bool) -> Result<Ended, ConnectError> {
        let admin = Admin::new(&client_config(&self.environment.clients.admin)?).map_err(kafka_error)?;
        let topics = self.runtime.block_on(self.layout(&admin))?;
        let spec = &self.environment.spec;
        let owned = partitions::owned(&topics, spec.task, spec.tasks)?;
        let starts = self.task.open(&owned)?;
        let consumer = Consumer::new(&client_config(&self.environment.clients.consumer)?).map_err(kafka_error)?;
        let waker = consumer.waker();
        *self.wake.consumer.lock() = Some(waker.clone());
        let assignment: Vec<_> = starts
            .iter()
            .map(|(partition, start)| (to_client(partition), start_offset(*start)))
            .collect();
        consumer.assign(&assignment).map_err(kafka_error)?;
        self.environment.control.counters.partitions.set(owned.len() as u64);
        for (topic, _) in &topics {
            self.environment.control.topic_used(&Arc::from(topic.as_str()));
        }
        let layout_changed = LayoutWatch::start(self.runtime, admin, topics, Arc::clone(&self.wake));
        self.environment.control.report(TaskState::Running);
        let mut session = Session {
            environment: self.environment,
            task: self.task.as_mut(),
            consumer: &consumer,
            wake: &self.wake,
            mirror: Mirror::default(),
            progress: Progress::default(),
            full: false,
            wake_at: None,
        };
        session.run(&layout_changed, progressed)
    }

    /// The connector's topics with their partition counts.
    async fn layout(&self, admin: &Admin) -> Result<Vec<(String, i32)>, ConnectError> {
        let config = &self.environment.spec.connector_config;
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
        let mut topics = Vec::new();
        for topic in text("topics")
            .split(',')
            .map(str::trim)
            .filter(|topic| !topic.is_empty())
        {
            let described = admin.topic(topic).await.map_err(kafka_error)?.ok_or_else(|| {
                ConnectError::retriable(format!(
                    "topic {topic} does not exist: create it, or take it out of topics"
                ))
            })?;
            topics.push((
                topic.to_owned(),
                i32::try_from(described.partitions.len()).unwrap_or(i32::MAX),
            ));
        }
        Ok(topics)
    }
}

/// Looks at the partition counts now and then, so that a change fails the task by name instead of splitting its state.
struct LayoutWatch {
    change: Arc<Mutex<Option<String>>>,
    changed: Arc<AtomicBool>,
    looking: tokio::task::JoinHandle<()>,
}

impl LayoutWatch {
    fn start(runtime: &Handle, admin: Admin, topics: Vec<(String, i32)>, wake: Arc<Wake>) -> Self {
        let change = Arc::new(Mutex::new(None));
        let changed = Arc::new(AtomicBool::new(false));
        let (found, flag) = (Arc::clone(&change), Arc::clone(&changed));
        let looking = runtime.spawn(async move {
            loop {
                tokio::time::sleep(LAYOUT_INTERVAL).await;
                for (topic, before) in &topics {
                    if let Ok(Some(description)) = admin.topic(topic).await
                        && i32::try_from(description.partitions.len()).is_ok_and(|now| now != *before && now > 0)
                    {
                        *found.lock() = Some(format!(
                            "topic {topic} has {} partitions now, {before} when the task started: keys may lie in other \
                             partitions than their state; restart the connector after repartitioning",
                            description.partitions.len()
                        ));
                        flag.store(true, Ordering::Release);
                        wake.wake();
                        return;
                    }
                }
            }
        });
        Self {
            change,
            changed,
            looking,
        }
    }

    fn check(&self) -> Result<(), ConnectError> {
        if !self.changed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(ConnectError::config(self.change.lock().clone().unwrap_or_default()))
    }
}

impl Drop for LayoutWatch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// Durable positions that the consumer group does not show yet.
#[derive(Default)]
struct Mirror {
    offsets: SinkOffsets,
    due: Option<Instant>,
}

impl Mirror {
    fn add(&mut self, durable: SinkOffsets, now: Instant) {
        self.offsets.extend(durable);
        if !self.offsets.is_empty() {
            self.due.get_or_insert(now + MIRROR_INTERVAL);
        }
    }

    fn commit(&mut self, consumer: &Consumer, mode: CommitMode) {
        self.due = None;
        if self.offsets.is_empty() {
            return;
        }
        let offsets: Vec<_> = self
            .offsets
            .drain(..)
            .map(|(partition, offset)| (to_client(&partition), offset))
            .collect();
        if let Err(error) = consumer.commit(&offsets, mode) {
            // positions are kept by the task; only what people see of them is late
            tracing::warn!(error = %error, "could not mirror positions to the consumer group");
        }
    }
}

/// How far each partition has been handed over, and how far that is durable, since the session began.
#[derive(Default)]
struct Progress(Vec<PartitionProgress>);

struct PartitionProgress {
    topic: Arc<str>,
    partition: i32,
    durable: i64,
    next: i64,
}

impl Progress {
    fn handed_over(&mut self, messages: &[Message]) {
        for run in messages.chunk_by(Message::same_partition) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let next = last.offset() + 1;
            match self.of(first.topic(), first.partition()) {
                Some(known) => known.next = next,
                None => self.0.push(PartitionProgress {
                    topic: first.topic().into(),
                    partition: first.partition(),
                    durable: first.offset(),
                    next,
                }),
            }
        }
    }

    fn of(&mut self, topic: &str, partition: i32) -> Option<&mut PartitionProgress> {
        let mut all = self.0.iter_mut();
        all.find(|known| known.partition == partition && *known.topic == *topic)
    }

    fn durable(&mut self, positions: &SinkOffsets) {
        for (partition, offset) in positions {
            if let Some(known) = self.of(&partition.topic, partition.partition) {
                known.durable = *offset;
            }
        }
    }

    fn rewound(&mut self, partition: &TopicPartition, offset: i64) {
        if let Some(known) = self.of(&partition.topic, partition.partition) {
            known.next = offset;
        }
    }

    /// Offsets that are handed over and not durable.
    fn open(&self) -> u64 {
        let open = |known: &PartitionProgress| u64::try_from(known.next.saturating_sub(known.durable)).ok();
        self.0.iter().filter_map(open).sum()
    }
}

struct Session<'a> {
    environment: &'a TaskEnvironment,
    task: &'a mut dyn PartitionedSinkTask,
    consumer: &'a Consumer,
    wake: &'a Wake,
    mirror: Mirror,
    progress: Progress,
    full: bool,
    wake_at: Option<Instant>,
}

impl Session<'_> {
    fn run(&mut self, layout: &LayoutWatch, progressed: &mut bool) -> Result<Ended, ConnectError> {
        let control = &self.environment.control;
        loop {
            match control.target() {
                Target::Run => {}
                Target::Pause => {
                    self.settle()?;
                    return Ok(Ended::Paused);
                }
                Target::Stop => {
                    // what could not be made durable comes again after the next start
                    if let Err(error) = self.settle() {
                        tracing::warn!(error = %error.trace(), "the last barrier failed, its records will be read again");
                    }
                    return Ok(Ended::Stopped);
                }
            }
            layout.check()?;
            let now = Instant::now();
            let mut wait = IDLE_WAIT;
            for due in [self.wake_at, self.mirror.due].into_iter().flatten() {
                wait = wait.min(due.saturating_duration_since(now));
            }
            if self.full {
                self.wake.wait(wait);
            } else if control.target() == Target::Run {
                let fetched = self.consumer.fetch(BATCH, wait).map_err(|error| {
                    ConnectError::retriable(format!("the consumer can do nothing any more: {error}"))
                })?;
                self.wake.clear(); // a wake from here on is followed by the advance below
                for error in fetched.errors {
                    if error.is_authorization() {
                        return Err(ConnectError::fatal(error.to_string()));
                    }
                    tracing::warn!(connector = %self.environment.spec.connector, error = %error, "consumer error");
                }
                self.hand_over(&fetched.messages)?;
                *progressed |= !fetched.messages.is_empty();
            }
            let advance = self.task.advance(Instant::now())?;
            self.follow(advance)?;
            if self.mirror.due.is_some_and(|due| due <= Instant::now()) {
                self.mirror.commit(self.consumer, CommitMode::Async);
            }
        }
    }

    fn hand_over(&mut self, messages: &[Message]) -> Result<(), ConnectError> {
        if messages.is_empty() {
            return Ok(());
        }
        let headers: Vec<MessageHeaders<'_>> = messages.iter().map(MessageHeaders).collect();
        let records: Vec<RawRecord<'_>> = messages
            .iter()
            .zip(&headers)
            .map(|(message, headers)| {
                let (timestamp_ms, timestamp_type) = timestamp(message);
                RawRecord {
                    topic: message.topic(),
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp_ms,
                    timestamp_type,
                    key: message.key(),
                    value: message.value(),
                    headers,
                }
            })
            .collect();
        let counters = &self.environment.control.counters;
        let started = Instant::now();
        crash_point::reached("sink.fetched");
        let accepted = self.task.hand_over(&records)?;
        crash_point::reached("sink.handed_over");
        counters.batch.record(started.elapsed());
        counters.records_in.add(messages.len() as u64);
        counters.records_out.add(accepted.records as u64);
        self.progress.handed_over(messages);
        counters.active.set(self.progress.open());
        Ok(())
    }

    fn follow(&mut self, advance: Advance) -> Result<(), ConnectError> {
        if let Some(durable) = advance.durable {
            let counters = &self.environment.control.counters;
            counters.commit_successes.add(1);
            counters.commit_sequence.set(counters.commit_successes.get());
            self.made_durable(durable);
        }
        for (partition, offset) in advance.rewind.into_iter().flatten() {
            self.progress.rewound(&partition, offset);
            self.consumer.seek(&to_client(&partition), offset).map_err(|error| {
                ConnectError::retriable(format!("could not seek to {partition} offset {offset}: {error}"))
            })?;
        }
        self.full = advance.full;
        self.wake_at = advance.wake_at;
        Ok(())
    }

    /// A last barrier, and its positions to the consumer group.
    fn settle(&mut self) -> Result<(), ConnectError> {
        let timeout = self
            .environment
            .runner
            .worker
            .task_shutdown_graceful_timeout
            .mul_f64(0.8);
        let durable = self.task.barrier(timeout)?;
        self.made_durable(durable);
        self.mirror.commit(self.consumer, CommitMode::Sync);
        Ok(())
    }

    fn made_durable(&mut self, durable: Durable<SinkOffsets>) {
        let positions = durable.into_positions();
        self.progress.durable(&positions);
        self.environment.control.counters.active.set(self.progress.open());
        self.mirror.add(positions, Instant::now());
    }
}

/// The headers of a fetched record, read when asked for.
struct MessageHeaders<'a>(&'a Message);

impl RawHeaders for MessageHeaders<'_> {
    fn visit(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>) -> bool) {
        for (name, value) in self.0.headers() {
            if !visit(name, value) {
                return;
            }
        }
    }
}

fn to_client(partition: &TopicPartition) -> kafka_client::TopicPartition {
    kafka_client::TopicPartition {
        topic: Arc::clone(&partition.topic),
        partition: partition.partition,
    }
}

fn start_offset(start: StartAt) -> StartOffset {
    match start {
        StartAt::Beginning => StartOffset::Beginning,
        StartAt::End => StartOffset::End,
        StartAt::Offset(offset) => StartOffset::At(offset),
    }
}
