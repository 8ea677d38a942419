//! The loop of a task that owns partitions with their state (connect-api, `PartitionedSinkTask`).
//!
//! ```text
//!   describe topics -> own p mod n = i -> open -> assign at StartAt
//!     loop: fetch -> hand_over -> advance -> { durable: mirror to the group, rewind: seek, full: stop fetching }
//!   retriable error: close, wait, open again            stop, pause: barrier, mirror, close
//!   before it has run: what it waits for is shown, as UNASSIGNED
//! ```
//! The task has a thread of its own. Its positions are authoritative: the consumer group only mirrors them for people and
//! tools, and the consumer never goes anywhere by itself (`auto.offset.reset=none`). A broker that cannot be reached costs
//! time, never the task.

use super::fetched::timestamp;
use super::layout::{LayoutWatch, admin, input_topics, reachable};
use super::progress::Progress;
use super::{FIRST_WAIT, LONGEST_WAIT, TaskEnvironment, partitions};
use crate::running::Target;
use crate::running::TaskState;
use crate::running::{client_config, kafka_error, to_client};
use connect_api::delivery::SinkOffsets;
use connect_api::{
    Advance, ConnectError, Durable, ErrorKind, PartitionedSinkTask, PartitionedTaskContext, RawHeaders, RawRecord,
    StartAt,
};
use indexmap::IndexMap;
use kafka_client::{CommitMode, Consumer, KafkaError, Message, Remedy, StartOffset, Waker};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
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
/// What a running task reads and does not find (a topic, or a position in it) is gone for good after this time. A broker that
/// has just started may not know all of its topics yet.
const GONE_AFTER: Duration = Duration::from_secs(30);

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
        let Some(errors) = runtime.block_on(environment.error_handler_in_time())? else {
            return Ok(());
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
            has_run: false,
            missed_since: None,
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
    /// It has shown itself running: a broker that is away does not change that.
    has_run: bool,
    /// since when something that it had read is not found
    missed_since: Option<Instant>,
}

impl PartitionedLoop<'_> {
    fn run(mut self) -> Result<(), ConnectError> {
        let control = Arc::clone(&self.environment.control);
        let mut wait = FIRST_WAIT;
        loop {
            self.runtime.block_on(control.while_paused());
            if control.stopping() {
                return Ok(());
            }
            let mut progressed = false;
            let session = self.session(&mut progressed);
            self.task.close();
            self.wake.consumer.lock().take();
            if progressed {
                wait = FIRST_WAIT;
            }
            match session {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::Paused) => wait = FIRST_WAIT,
                Err(error) => {
                    self.goes_on_after(error, wait)?;
                    self.runtime.block_on(control.sleep(wait));
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// Whether the task is opened again after an error, and what is shown of it meanwhile. Otherwise the error is its end.
    fn goes_on_after(&mut self, error: ConnectError, wait: Duration) -> Result<(), ConnectError> {
        let control = &self.environment.control;
        match error.kind() {
            ErrorKind::Retriable if self.has_run => tracing::warn!(
                connector = %self.environment.spec.connector,
                task = self.environment.spec.task,
                error = %error.trace(),
                wait_ms = wait.as_millis() as u64,
                "task is opened again after a wait"
            ),
            ErrorKind::Retriable => control.waits_for(&error),
            ErrorKind::NotFound => {
                let since = *self.missed_since.get_or_insert_with(Instant::now);
                if self.has_run && since.elapsed() >= GONE_AFTER {
                    return Err(error);
                }
                control.waits_for(&error);
            }
            ErrorKind::Data | ErrorKind::Config | ErrorKind::Unsupported | ErrorKind::Fatal => return Err(error),
        }
        Ok(())
    }

    /// A position that is behind the end of its partition is looked for again for a while: nobody can mend that, and brokers
    /// that have just started may.
    fn position_lost(&mut self, error: ConnectError) -> ConnectError {
        if error.kind() != ErrorKind::NotFound {
            return error;
        }
        match self.missed_since.get_or_insert_with(Instant::now).elapsed() < GONE_AFTER {
            true => ConnectError::retriable(error.message()),
            false => ConnectError::config(error.message()),
        }
    }

    /// From opening the partitions to giving them up.
    fn session(&mut self, progressed: &mut bool) -> Result<Ended, ConnectError> {
        let (spec, clients) = (&self.environment.spec, &self.environment.clients);
        let admin = admin(clients)?;
        let topics = self.runtime.block_on(input_topics(&admin, &spec.connector_config))?;
        let owned = partitions::owned(&topics, spec.task, spec.tasks)?;
        let starts = self.task.open(&owned)?;
        let reachable = self.runtime.block_on(reachable(&admin, clients, starts));
        let (starts, lost) = reachable.map_err(|error| self.position_lost(error))?;
        self.environment.control.counters.records_skipped.add(lost);
        let settings = consumer_config(&clients.consumer, self.task.consumer_settings())?;
        let consumer = Consumer::new(&settings).map_err(kafka_error)?;
        let waker = consumer.waker();
        *self.wake.consumer.lock() = Some(waker.clone());
        let assignment: Vec<_> = starts
            .iter()
            .map(|(partition, start)| (to_client(partition), start_offset(*start)))
            .collect();
        consumer.assign(&assignment).map_err(kafka_error)?;
        self.environment.control.counters.partitions.set(owned.len() as u64);
        for topic in &topics {
            self.environment.control.topic_used(&topic.name);
        }
        let wake = Arc::clone(&self.wake);
        let layout = LayoutWatch::start(self.runtime, admin, topics, move || wake.wake());
        self.environment.control.report(TaskState::Running);
        self.has_run = true;
        self.missed_since = None;
        let mut session = Session {
            environment: self.environment,
            runtime: self.runtime,
            task: self.task.as_mut(),
            consumer: &consumer,
            wake: &self.wake,
            layout,
            mirror: Mirror::default(),
            progress: Progress::from_starts(starts),
            full: false,
            wake_at: None,
        };
        session.run(progressed)
    }
}

/// The consumer of a task that keeps its own positions: a broker that says that there is no such offset must not send it to
/// the beginning, where everything would be computed once more.
fn consumer_config(
    settings: &IndexMap<String, String>,
    of_the_task: Vec<(&'static str, String)>,
) -> Result<kafka_client::ClientConfig, ConnectError> {
    let mut config = client_config(settings);
    for (option, value) in of_the_task {
        config.set(option, &value);
    }
    config
        .set("auto.offset.reset", "none")
        .set("allow.auto.create.topics", "false");
    Ok(config)
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

struct Session<'a> {
    environment: &'a TaskEnvironment,
    runtime: &'a Handle,
    task: &'a mut dyn PartitionedSinkTask,
    consumer: &'a Consumer,
    wake: &'a Wake,
    layout: LayoutWatch,
    mirror: Mirror,
    progress: Progress,
    full: bool,
    wake_at: Option<Instant>,
}

impl Session<'_> {
    fn run(&mut self, progressed: &mut bool) -> Result<Ended, ConnectError> {
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
            self.layout.check()?;
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
                    self.consumer_error(error)?;
                }
                self.check_order(&fetched.messages)?;
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

    /// What is wrong beside the messages of a fetch. What it says of the topics is looked into before anything is handed over.
    fn consumer_error(&self, error: KafkaError) -> Result<(), ConnectError> {
        match error.remedy() {
            Remedy::Missing => {
                self.layout.look_now(self.runtime)?;
                // The brokers have it: the client has heard of it late.
                tracing::warn!(connector = %self.environment.spec.connector, error = %error, "consumer error");
            }
            Remedy::Mend if error.is_about_offsets() => {
                self.layout.look_now(self.runtime)?;
                return Err(ConnectError::retriable(format!(
                    "the position is looked for again: {error}"
                )));
            }
            Remedy::Mend | Remedy::GiveWay => return Err(kafka_error(error)),
            Remedy::Renew => {
                return Err(ConnectError::retriable(format!(
                    "the consumer can do nothing any more: {error}"
                )));
            }
            Remedy::Wait | Remedy::Refused | Remedy::Unexpected => {
                tracing::warn!(connector = %self.environment.spec.connector, error = %error, "consumer error");
            }
        }
        Ok(())
    }

    /// Offsets of a partition never go back, or its records are others than before.
    fn check_order(&mut self, messages: &[Message]) -> Result<(), ConnectError> {
        for run in messages.chunk_by(Message::same_partition) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let offsets = first.offset()..=last.offset();
            if let Err(next) = self.progress.fetched(first.topic(), first.partition(), offsets) {
                self.layout.look_now(self.runtime)?;
                return Err(ConnectError::retriable(format!(
                    "{} gave offset {} where {next} or a later one was to come",
                    first.topic_partition(),
                    first.offset()
                )));
            }
        }
        Ok(())
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

    /// A last barrier, and its positions to the consumer group. The task is closed before: a coordinator that is away holds the
    /// mirror up, and must not hold up who opens the partitions next.
    fn settle(&mut self) -> Result<(), ConnectError> {
        let timeout = self
            .environment
            .runner
            .worker
            .task_shutdown_graceful_timeout
            .mul_f64(0.8);
        let durable = self.task.barrier(timeout)?;
        self.made_durable(durable);
        self.task.close();
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

fn start_offset(start: StartAt) -> StartOffset {
    match start {
        StartAt::Beginning => StartOffset::Beginning,
        StartAt::End => StartOffset::End,
        StartAt::Offset(offset) => StartOffset::At(offset),
    }
}
