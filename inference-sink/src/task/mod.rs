//! The task: owns partitions with their state, turns records into rows, commits at barriers.
//!
//! ```text
//! open       topics, layout, fencing, changelogs (topics) -> restore (partition) -> where to read
//! hand_over  match, features, state (evaluation) -> rows -> flows, or what waits for the feature log
//! advance    committer's answer; feature log reader; barrier when due (barrier)
//! ```

mod evaluation;
mod expire;
mod feature_log;
mod hand_over;
mod interval;
mod kept_signatures;
mod lifecycle;
mod offer;
mod open;
mod output_topics;
mod partition;
mod prerequisites;
mod quiet;
mod refusals;
mod refused;
mod remakes;
mod restore;
mod stored_row;
mod stored_windows;
mod topic_names;
mod topology;

pub(crate) use topic_names::changelog_topic;

use crate::barrier::Committer;
use crate::connector::ConnectorOptions;
use crate::flow::{Batch, Flow, Outbox, RowBlock};
use crate::limits::RateLimit;
use crate::metrics::Metrics;
use crate::output::EncodedOutputs;
use crate::service::{InferenceService, Started};
use connect_api::delivery::{Accepted, Durable, SinkOffsets, TopicPartition};
use connect_api::error::ConnectError;
use connect_api::partitioned::{Advance, PartitionedSinkTask, PartitionedTaskContext, RawRecord, StartAt};
use partition::PartitionState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use topology::Topology;

/// A task of the inference sink.
pub struct InferenceTask {
    service: Arc<InferenceService>,
    context: PartitionedTaskContext,
    options: ConnectorOptions,
    open: Option<Open>,
}

/// What an open task works with.
struct Open {
    started: Arc<Started>,
    metrics: Arc<Metrics>,
    context: PartitionedTaskContext,
    options: ConnectorOptions,
    /// input topics by number
    topics: Arc<[Arc<str>]>,
    /// partitions of the input, over all tasks
    partition_count: i32,
    partitions: BTreeMap<i32, PartitionState>,
    topology: Topology,
    /// in the order of the topology's models
    models: Vec<TaskModel>,
    limits: BTreeMap<String, RateLimit>,
    outbox: Arc<Outbox>,
    committer: Committer,
    in_flight: Option<interval::InFlight>,
    /// what models have made in the interval
    made: Vec<Made>,
    /// shed events that their tenants asked for
    shed: Vec<crate::barrier::ShedEvent>,
    changed: bool,
    /// reported in the interval: records that are no events
    dead_letters: u64,
    /// and events that are none for one view
    view_letters: u64,
    /// the dead letter topic does not take those: from when on they are reported again
    view_letters_from: Option<Instant>,
    last_barrier: Instant,
    durable: Option<SinkOffsets>,
    rewind: Option<SinkOffsets>,
    log_reader: crate::detach::LogReader,
    /// end of the feature log as far as this task knows, by partition
    log_ends: BTreeMap<i32, i64>,
    /// as it was set last
    log_retention_ms: Option<u64>,
    /// detached models that run this interval's rows: attached if they finish
    candidates: BTreeSet<(i32, Arc<str>)>,
    /// models whose output topics refuse records
    refusals: refusals::Refusals,
    output_topics: output_topics::OutputTopics,
    /// asked whether the input is idle, where stream time moves on then
    quiet: Option<quiet::QuietInput>,
    full: bool,
    publish_modes: bool,
    last_expiry: Instant,
    last_store_look: Instant,
}

/// What a model has made of some rows. The rows are kept until the outputs are committed: where they are refused, the rows wait
/// in the feature log instead.
struct Made {
    /// for the transaction; none: they were sent at once
    outputs: Option<EncodedOutputs>,
    batch: Batch,
}

/// One model in this task.
struct TaskModel {
    flow: Arc<Flow>,
    /// rows of the call at hand
    pending: RowBlock,
}

impl InferenceTask {
    /// A task that has no partitions yet.
    pub fn new(service: Arc<InferenceService>, context: PartitionedTaskContext) -> Result<InferenceTask, ConnectError> {
        let options = ConnectorOptions::parse(&context.config)?;
        options.check_consumer(&context.clients.consumer)?;
        Ok(InferenceTask {
            service,
            context,
            options,
            open: None,
        })
    }

    fn opened(&mut self) -> Result<&mut Open, ConnectError> {
        self.open
            .as_mut()
            .ok_or_else(|| ConnectError::fatal("the task has no partitions"))
    }
}

impl PartitionedSinkTask for InferenceTask {
    fn open(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, StartAt)>, ConnectError> {
        self.close();
        let started = self.service.started()?;
        let (open, starts) = Open::open(
            started,
            self.service.metrics.clone(),
            self.context.clone(),
            self.options,
            partitions,
        )?;
        self.open = Some(open);
        Ok(starts)
    }

    fn consumer_settings(&self) -> Vec<(&'static str, String)> {
        let isolation = self.options.isolation(&self.context.clients.consumer);
        isolation
            .map(|level| ("isolation.level", level.to_owned()))
            .into_iter()
            .collect()
    }

    fn hand_over(&mut self, records: &[RawRecord<'_>]) -> Result<Accepted, ConnectError> {
        self.opened()?.hand_over(records)?;
        Ok(Accepted { records: records.len() })
    }

    fn advance(&mut self, now: Instant) -> Result<Advance, ConnectError> {
        self.opened()?.advance(now)
    }

    fn barrier(&mut self, timeout: Duration) -> Result<Durable<SinkOffsets>, ConnectError> {
        self.opened()?.barrier(timeout)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.close();
        }
    }
}

impl Drop for InferenceTask {
    fn drop(&mut self) {
        self.close();
    }
}
