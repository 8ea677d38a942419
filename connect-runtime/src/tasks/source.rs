//! The loop of a source task (contract 9.4).
//!
//! ```text
//!   poll -> pipeline -> [create topic] -> producer ----.
//!                            offsets.submit            | inbox: acknowledged, failed
//!   every offset.flush.interval.ms:                    v
//!     OffsetStore::write <- offsets.take <- offsets.acknowledge
//!       '-> task.commit(Durable)
//! ```
//! One async task; it has no thread and no client until its first record. What is under way is bounded by bytes: the loop
//! does not poll while the budget is used up.

use super::pipeline::{OutRecord, Pipeline};
use super::producers::TaskProducer;
use super::source_offsets::{Committable, SourceOffsets};
use super::topic_creation::TopicCreation;
use super::written_topics::KafkaTopics;
use super::{TaskEnvironment, panic_error};
use crate::errors::Tolerance;
use crate::running::Target;
use crate::running::TaskState;
use crate::storage::OffsetStore;
use async_trait::async_trait;
use connect_api::record::SourceMap;
use connect_api::source::{OffsetReader, SourcePositions};
use connect_api::{ConnectError, Durable, ErrorKind, SourceRecord, SourceTask, SourceTaskContext, Stage};
use futures::FutureExt as _;
use kafka_client::{ProducerRecord, Remedy, SendError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Bytes of one task that may be under way to Kafka.
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// Longest wait for room where another task's records fill a shared producer: nothing tells this task of their delivery.
const ROOM_WAIT: Duration = Duration::from_millis(10);
/// Wait before a poll or a topic creation is tried again after a retriable error.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// Starts the loop.
pub(super) fn spawn(environment: TaskEnvironment, task: Box<dyn SourceTask>) {
    let control = Arc::clone(&environment.control);
    tokio::spawn(async move {
        let run = std::panic::AssertUnwindSafe(run(environment, task)).catch_unwind();
        let result = run.await.unwrap_or_else(|panic| Err(panic_error(panic.as_ref())));
        control.ended(result);
    });
}

/// Committed offsets of the task's connector.
struct StoredOffsets {
    store: Arc<dyn OffsetStore>,
    connector: Arc<str>,
}

#[async_trait]
impl OffsetReader for StoredOffsets {
    async fn offset(&self, partition: &SourceMap) -> Result<Option<SourceMap>, ConnectError> {
        self.store.read(&self.connector, partition).await
    }
}

async fn run(environment: TaskEnvironment, mut task: Box<dyn SourceTask>) -> Result<(), ConnectError> {
    environment.control.while_paused().await;
    let result = match SourceLoop::new(&environment).await {
        Ok(Some(mut source)) => {
            let moved = source.start_and_move(task.as_mut()).await;
            let finished = source.finish(task.as_mut()).await;
            moved.and(finished)
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    // a task that hangs in stop has had its time: it is dropped
    tokio::select! {
        () = task.stop() => {}
        () = environment.control.out_of_time() => {}
    }
    result
}

struct SourceLoop<'a> {
    environment: &'a TaskEnvironment,
    pipeline: Pipeline,
    topics: TopicCreation,
    producer: Option<TaskProducer>,
    offsets: SourceOffsets,
    newest_ticket: u64,
    /// a write of offsets that is under way
    commit: Option<JoinHandle<(Committable, Result<(), ConnectError>)>>,
    commit_started: Instant,
    next_commit: Instant,
}

impl<'a> SourceLoop<'a> {
    /// None: the task is to end.
    async fn new(environment: &'a TaskEnvironment) -> Result<Option<Self>, ConnectError> {
        let Some(errors) = environment.error_handler_in_time().await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            pipeline: Pipeline::new(environment, errors)?,
            topics: TopicCreation::new(
                &environment.spec.connector_config,
                environment.runner.worker.topic_creation_enable,
                environment.clients.admin.clone(),
            )?,
            environment,
            producer: None,
            offsets: SourceOffsets::default(),
            newest_ticket: 0,
            commit: None,
            commit_started: Instant::now(),
            next_commit: Instant::now() + environment.runner.worker.offset_flush_interval,
        }))
    }

    async fn start_and_move(&mut self, task: &mut dyn SourceTask) -> Result<(), ConnectError> {
        let control = Arc::clone(&self.environment.control);
        if control.stopping() {
            return Ok(());
        }
        let spec = &self.environment.spec;
        let context = SourceTaskContext {
            connector: Arc::clone(&spec.connector),
            task: spec.task,
            config: spec.task_config.clone(),
            offsets: Arc::new(StoredOffsets {
                store: Arc::clone(&self.environment.runner.offsets),
                connector: Arc::clone(&spec.connector),
            }),
            topics: Arc::new(KafkaTopics::new(&self.environment.clients)),
            key_converter: self.pipeline.key_converter(),
            value_converter: self.pipeline.value_converter(),
        };
        tokio::select! {
            started = task.start(context) => started?,
            () = control.out_of_time() => return Ok(()),
        }
        let mut watch = control.watch();
        loop {
            let target = *watch.borrow_and_update(); // what changes from here on ends the wait for the poll
            match target {
                Target::Stop => return Ok(()),
                Target::Pause => {
                    self.while_paused(task).await?;
                    continue;
                }
                Target::Run => control.report(TaskState::Running),
            }
            self.acknowledge()?;
            if self.offsets.in_flight_bytes() >= IN_FLIGHT_BYTES {
                self.wait_for_deliveries(task).await?;
                continue;
            }
            let started = Instant::now();
            let polled = tokio::select! {
                biased;
                _ = watch.changed() => continue,
                polled = task.poll() => polled,
                () = commit_due(&mut self.commit, self.next_commit, self.offsets.has_committable()) => {
                    self.advance_commit(task).await?;
                    continue;
                }
                () = arrived(self.producer.as_ref()) => continue,
            };
            match polled {
                Ok(records) => {
                    control.counters.batch.record(started.elapsed());
                    control.counters.records_in.add(records.len() as u64);
                    if self.send_all(task, records).await? {
                        self.take_positions(task.positions());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    tracing::warn!(connector = %spec.connector, task = spec.task, error = %error, "poll failed, trying again");
                    control.sleep(RETRY_WAIT).await;
                }
                Err(error) => return Err(error),
            }
            if self.commit_is_due() {
                self.advance_commit(task).await?;
            }
        }
    }

    /// Waits for the end of a pause; what was sent before goes on being acknowledged and committed.
    async fn while_paused(&mut self, task: &mut dyn SourceTask) -> Result<(), ConnectError> {
        let control = Arc::clone(&self.environment.control);
        let mut watch = control.watch();
        if *watch.borrow_and_update() != Target::Pause {
            return Ok(());
        }
        control.report(TaskState::Paused);
        loop {
            self.acknowledge()?;
            tokio::select! {
                _ = watch.changed() => return Ok(()),
                () = commit_due(&mut self.commit, self.next_commit, self.offsets.has_committable()) => {
                    self.advance_commit(task).await?;
                }
                () = arrived(self.producer.as_ref()) => {}
            }
        }
    }

    async fn wait_for_deliveries(&mut self, task: &mut dyn SourceTask) -> Result<(), ConnectError> {
        let control = Arc::clone(&self.environment.control);
        tokio::select! {
            () = control.stop_requested() => {}
            () = arrived(self.producer.as_ref()) => {}
            () = commit_due(&mut self.commit, self.next_commit, self.offsets.has_committable()) => {
                self.advance_commit(task).await?;
            }
        }
        Ok(())
    }

    /// Sends records; false where the task was stopped before the last one: what was not sent is read again after a restart.
    async fn send_all(&mut self, task: &mut dyn SourceTask, records: Vec<SourceRecord>) -> Result<bool, ConnectError> {
        for record in records {
            let partition = Arc::clone(&record.source_partition);
            let offset = Arc::clone(&record.source_offset);
            match self.pipeline.to_kafka(record).await? {
                None => {
                    self.newest_ticket = self.offsets.submit(&partition, offset, 0);
                    self.offsets.acknowledge(self.newest_ticket);
                }
                Some(out) => {
                    while self.offsets.in_flight_bytes() >= IN_FLIGHT_BYTES {
                        if self.environment.control.stopping() {
                            return Ok(false);
                        }
                        self.wait_for_deliveries(task).await?;
                        self.acknowledge()?;
                    }
                    if !self.ensure_topic(&out.topic).await? {
                        return Ok(false);
                    }
                    self.newest_ticket = self.offsets.submit(&partition, offset, out.size());
                    self.send(&out, self.newest_ticket).await?;
                }
            }
        }
        self.environment
            .control
            .counters
            .active
            .set(self.offsets.in_flight() as u64);
        Ok(true)
    }

    /// Takes in offsets without records. They are rare, and a source may wait for them: they are written at once.
    fn take_positions(&mut self, positions: SourcePositions) {
        for (partition, offset) in positions {
            self.newest_ticket = self.offsets.submit(&partition, offset, 0);
            self.offsets.acknowledge(self.newest_ticket);
            self.next_commit = Instant::now();
        }
    }

    /// Whether the topic is there; false where the task was stopped before it could be made.
    async fn ensure_topic(&mut self, topic: &Arc<str>) -> Result<bool, ConnectError> {
        while self.topics.is_new(topic) {
            match self.topics.ensure(topic).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    tracing::warn!(topic = %topic, error = %error, "could not create topic, trying again");
                    self.environment.control.sleep(RETRY_WAIT).await;
                }
                Err(error) => return Err(error),
            }
            if self.environment.control.stopping() && self.topics.is_new(topic) {
                return Ok(false);
            }
        }
        self.environment.control.topic_used(topic);
        Ok(true)
    }

    async fn send(&mut self, out: &OutRecord, ticket: u64) -> Result<(), ConnectError> {
        let producer = match &self.producer {
            Some(producer) => producer,
            None => self
                .producer
                .insert(TaskProducer::open(&self.environment.clients.producer)?),
        };
        let headers: Vec<(&str, Option<&[u8]>)> = out
            .headers
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_deref()))
            .collect();
        let record = ProducerRecord {
            topic: &out.topic,
            partition: out.partition,
            key: out.key.as_deref(),
            value: out.value.as_deref(),
            timestamp_ms: out.timestamp_ms,
            headers: &headers,
        };
        loop {
            match producer.send(&record, ticket) {
                Ok(()) => return Ok(()),
                Err(SendError::QueueFull) => {
                    if self.environment.control.stopping() {
                        return Ok(()); // never acknowledged, so never committed: it is read again after a restart
                    }
                    let _ = tokio::time::timeout(ROOM_WAIT, producer.inbox.arrived()).await;
                }
                Err(SendError::Kafka(error)) if error.is_retriable() => {
                    self.environment.control.sleep(Duration::from_millis(100)).await;
                    if self.environment.control.stopping() {
                        return Ok(());
                    }
                }
                Err(SendError::Kafka(error)) => return self.not_sent(ticket, &error),
            }
        }
    }

    /// A record that Kafka will not take: skipped where the connector tolerates it.
    fn not_sent(&mut self, ticket: u64, error: &kafka_client::KafkaError) -> Result<(), ConnectError> {
        let cause = ConnectError::fatal(match error.remedy() {
            Remedy::Missing => format!(
                "{error}: the topic is not there, and the brokers do not make it (auto.create.topics.enable): create it, or \
                 have the worker do so with topic.creation.default.partitions and topic.creation.default.replication.factor"
            ),
            _ => error.to_string(),
        });
        let reporter = &self.pipeline.errors.reporter;
        self.environment.control.counters.record_failures.add(1);
        reporter.source(
            String::new,
            Stage::KafkaProduce,
            "org.apache.kafka.clients.producer.KafkaProducer",
            &cause,
        );
        match self.pipeline.errors.config.tolerance {
            Tolerance::All if !error.is_fatal() => {
                self.environment.control.counters.records_skipped.add(1);
                self.offsets.acknowledge(ticket);
                Ok(())
            }
            _ => Err(ConnectError::fatal("Unrecoverable exception from producer send callback").caused_by(cause)),
        }
    }

    /// Takes in what the producer has told since the last time.
    fn acknowledge(&mut self) -> Result<(), ConnectError> {
        let reports = match &self.producer {
            Some(producer) => producer.inbox.take(),
            None => return Ok(()),
        };
        for (report, result) in reports {
            let ticket = TaskProducer::ticket(report, self.newest_ticket);
            match result {
                Ok(()) => {
                    self.environment.control.counters.records_out.add(1);
                    self.offsets.acknowledge(ticket);
                }
                Err(error) => self.not_sent(ticket, &error)?,
            }
        }
        self.environment
            .control
            .counters
            .active
            .set(self.offsets.in_flight() as u64);
        Ok(())
    }

    fn commit_is_due(&self) -> bool {
        match &self.commit {
            Some(commit) => commit.is_finished(),
            None => self.offsets.has_committable() && Instant::now() >= self.next_commit,
        }
    }

    /// Starts a write of offsets, or takes in the end of the one under way.
    async fn advance_commit(&mut self, task: &mut dyn SourceTask) -> Result<(), ConnectError> {
        match self.commit.take() {
            None => self.begin_commit(),
            Some(commit) => self.end_commit(task, commit).await?,
        }
        Ok(())
    }

    fn begin_commit(&mut self) {
        let offsets = self.offsets.take();
        self.commit_started = Instant::now();
        let store = Arc::clone(&self.environment.runner.offsets);
        let connector = Arc::clone(&self.environment.spec.connector);
        let timeout = self.environment.runner.worker.offset_flush_timeout;
        self.commit = Some(tokio::spawn(async move {
            let writes: Vec<_> = offsets
                .iter()
                .map(|(partition, offset)| (Arc::clone(partition), Some((**offset).clone())))
                .collect();
            let result = match tokio::time::timeout(timeout, store.write(&connector, &writes)).await {
                Ok(written) => written,
                Err(_) => Err(ConnectError::retriable(format!(
                    "offsets were not written within offset.flush.timeout.ms ({} ms)",
                    timeout.as_millis()
                ))),
            };
            (offsets, result)
        }));
    }

    async fn end_commit(
        &mut self,
        task: &mut dyn SourceTask,
        commit: JoinHandle<(Committable, Result<(), ConnectError>)>,
    ) -> Result<(), ConnectError> {
        let counters = &self.environment.control.counters;
        self.next_commit = Instant::now() + self.environment.runner.worker.offset_flush_interval;
        let (offsets, result) = commit
            .await
            .map_err(|error| ConnectError::fatal(format!("writing offsets panicked: {error}")))?;
        counters.commit.record(self.commit_started.elapsed());
        match result {
            Ok(()) => {
                counters.commit_successes.add(1);
                if let Err(error) = task.commit(Durable::up_to(offsets)).await {
                    tracing::error!(
                        connector = %self.environment.spec.connector,
                        task = self.environment.spec.task,
                        error = %error.trace(),
                        "the task's own commit failed"
                    );
                }
            }
            Err(error) => {
                counters.commit_failures.add(1);
                tracing::error!(
                    connector = %self.environment.spec.connector,
                    task = self.environment.spec.task,
                    error = %error.trace(),
                    "could not commit source offsets, trying again at the next interval"
                );
                self.offsets.put_back(offsets);
            }
        }
        Ok(())
    }

    /// Waits for what is under way, for at most the flush timeout, and commits what was acknowledged.
    async fn finish(&mut self, task: &mut dyn SourceTask) -> Result<(), ConnectError> {
        let deadline = Instant::now() + self.environment.runner.worker.offset_flush_timeout;
        let mut result = self.acknowledge();
        while self.offsets.in_flight() > 0 && result.is_ok() && Instant::now() < deadline {
            let waited = tokio::time::timeout_at(deadline.into(), arrived(self.producer.as_ref())).await;
            result = self.acknowledge();
            if waited.is_err() {
                break;
            }
        }
        if let Some(commit) = self.commit.take() {
            self.end_commit(task, commit).await?;
        }
        if self.offsets.has_committable() {
            self.begin_commit();
            self.advance_commit(task).await?;
        }
        result
    }
}

/// Completes when a write of offsets has ended, or is due; never where there is nothing to write.
async fn commit_due(
    commit: &mut Option<JoinHandle<(Committable, Result<(), ConnectError>)>>,
    next: Instant,
    has_committable: bool,
) {
    match commit {
        Some(commit) => {
            while !commit.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        None if has_committable => tokio::time::sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}

/// Completes when the producer has told something; never without one.
async fn arrived(producer: Option<&TaskProducer>) {
    match producer {
        Some(producer) => producer.inbox.arrived().await,
        None => std::future::pending().await,
    }
}
