//! Records to rows: match, features and state once per event and view, then one row for each model that wants it.
//!
//! What is wrong with a record is the record's fault: it is no event for anybody, and goes to the dead letter topic, or fails
//! the task, as `errors.tolerance` says. What is wrong between an event and a view (it has no event time there, say) is
//! between the two: the view's models get no row of it, which they and the view count, and the other views go on.

use super::evaluation::{Globals, KeyedStores};
use super::offer::Models;
use super::partition::PartitionState;
use super::topology::ViewPlan;
use super::{Open, TaskModel};
use crate::flow::{RowBlock, RowSource};
use connect_api::error::{ConnectError, Stage};
use connect_api::partitioned::RawRecord;
use feature_engine::{Event, EventError};
use state_store::StateError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// One event in this many is timed in detail; the counters are scaled up.
const TIMED: u64 = 64;

/// Why a record gives no rows.
enum Unusable {
    /// its own fault
    Record(String),
    /// the task's
    Task(ConnectError),
}

/// Why an event gives a view's models no rows.
enum Failed {
    /// it is no event at all
    Record(String),
    /// it is none for this view
    View(String),
    /// the task's fault
    Task(ConnectError),
}

/// An event that is none for one view.
struct FailedView {
    view: Arc<str>,
    error: String,
    /// to the dead letter topic
    reported: bool,
}

impl Open {
    pub(super) fn hand_over(&mut self, records: &[RawRecord<'_>]) -> Result<(), ConnectError> {
        if !self.follow_deployment()? {
            return Ok(());
        }
        let started_at = Instant::now();
        let arrived_us = self.started.pool.now_us();
        let wall_ms = crate::clock::wall_ms();
        let mut headers: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        let mut failed_views = Vec::new();
        for record in records {
            let Some(topic) = self.topics.iter().position(|topic| **topic == *record.topic) else {
                continue;
            };
            headers.clear();
            if self.topology.reads_headers {
                record.headers.visit(&mut |name, value| {
                    headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
                    true
                });
            }
            match self.take(record, topic, &headers, (arrived_us, wall_ms), &mut failed_views) {
                Ok(()) => {}
                Err(Unusable::Record(error)) => self.dead_letter(record, &error)?,
                Err(Unusable::Task(error)) => return Err(error),
            }
            for failed in failed_views.drain(..) {
                self.view_failed(record, failed);
            }
            if let Some(partition) = self.partitions.get_mut(&record.partition) {
                partition.read_to(topic, record.offset + 1);
            }
        }
        self.changed |= !records.is_empty();
        self.metrics
            .events_in
            .fetch_add(records.len() as u64, Ordering::Relaxed);
        self.push_pending();
        self.charge_features(started_at);
        Ok(())
    }

    /// A record that is no event for anybody.
    fn dead_letter(&mut self, record: &RawRecord<'_>, error: &str) -> Result<(), ConnectError> {
        self.dead_letters += 1;
        self.metrics.dead_letters.fetch_add(1, Ordering::Relaxed);
        let error = ConnectError::data(format!("{}: {error}", place(record)));
        self.context.reporter.report_raw(record, Stage::ValueConverter, &error)
    }

    /// An event that is none for one view. It is reported with the view's name; what `errors.tolerance` says of it is not
    /// asked, since nobody but the view's models lacks it.
    fn view_failed(&mut self, record: &RawRecord<'_>, failed: FailedView) {
        let FailedView { view, error, reported } = failed;
        let error = format!("{}: feature view {view}: {error}", place(record));
        if reported && self.view_letters_from.is_none_or(|from| from <= Instant::now()) {
            self.view_letters += 1;
            let report = ConnectError::data(error.clone());
            let reporter = &self.context.reporter;
            let _ = reporter.report_raw(record, Stage::ValueConverter, &report);
        }
        let plans = self.topology.topics.iter().flatten();
        for subscriber in plans.filter(|plan| plan.name == view).flat_map(|plan| &plan.models) {
            subscriber.runtime.unusable(&error);
        }
        self.metrics.view_failed(&view, error);
    }

    fn take(
        &mut self,
        record: &RawRecord<'_>,
        topic: usize,
        headers: &[(String, Option<Vec<u8>>)],
        (arrived_us, wall_ms): (u64, i64),
        failed_views: &mut Vec<FailedView>,
    ) -> Result<(), Unusable> {
        let plans = self
            .topology
            .topics
            .get_mut(topic)
            .map_or(&mut [] as &mut [ViewPlan], Vec::as_mut_slice);
        let Some(partition) = self.partitions.get_mut(&record.partition) else {
            return Err(Unusable::Task(ConnectError::fatal(format!(
                "record of partition {}, which the task does not own",
                record.partition
            ))));
        };
        if plans.is_empty() {
            return Ok(());
        }
        let Some(value) = record.value else {
            return Err(Unusable::Record(
                "the record has no value, an event must be a JSON object".to_owned(),
            ));
        };
        let borrowed: Vec<(&str, Option<&[u8]>)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let event = Event {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms.unwrap_or(wall_ms),
            key: record.key,
            value,
            headers: &borrowed,
        };
        let timed = record.offset.unsigned_abs().is_multiple_of(TIMED).then(Instant::now);
        let mut models = Models {
            models: &mut self.models,
            limits: &mut self.limits,
            shed: &mut self.shed,
            shed_topics: &self.topology.shed_topics,
            refusals: &self.refusals,
            metrics: &self.metrics,
            verdicts: Vec::new(),
        };
        for plan in plans {
            if let Some((_, why)) = &plan.held {
                failed_views.push(FailedView {
                    view: plan.name.clone(),
                    error: why.clone(),
                    // A view that has had no event yet begins when its stores are ready.
                    reported: partition.time_of(&BTreeSet::from([plan.view])).is_some(),
                });
                continue;
            }
            match evaluate(plan, partition, &event, wall_ms) {
                Ok(()) => {}
                Err(Failed::View(error)) => {
                    failed_views.push(FailedView {
                        view: plan.name.clone(),
                        error,
                        reported: true,
                    });
                    continue;
                }
                Err(Failed::Record(error)) => return Err(Unusable::Record(error)),
                Err(Failed::Task(error)) => return Err(Unusable::Task(error)),
            }
            let source = RowSource {
                topic: u16::try_from(topic).unwrap_or(u16::MAX),
                partition: record.partition,
                offset: record.offset,
                event_time_ms: plan.evaluator.event_time_ms(),
                arrived_us,
                log_offset: -1,
            };
            for subscriber in &plan.models {
                if subscriber.wants(&plan.evaluator) {
                    models.offer(subscriber, &plan.evaluator, partition, record, source);
                }
            }
            plan.evaluator.give_back();
        }
        if let Some(timed) = timed {
            let nanos = u64::try_from(timed.elapsed().as_nanos())
                .unwrap_or(0)
                .saturating_mul(TIMED);
            self.metrics
                .stages
                .match_and_features_ns
                .fetch_add(nanos, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Hands what the call has gathered to the flows.
    pub(super) fn push_pending(&mut self) {
        let rows = self.models.iter_mut().filter(|model| model.pending.rows() > 0);
        self.started.pool.push(rows.map(|model| {
            let next = RowBlock::new(&model.pending.model);
            (&*model.flow, std::mem::replace(&mut model.pending, next))
        }));
    }

    /// Feature computation is charged to its subscribers in equal parts.
    fn charge_features(&self, started_at: Instant) {
        let tenants = &self.topology.tenants;
        if tenants.is_empty() {
            return;
        }
        let us = u64::try_from(started_at.elapsed().as_micros()).unwrap_or(0) / tenants.len() as u64;
        for tenant in tenants {
            self.started.pool.charge_features(tenant, us);
        }
    }

    /// Closes the windows that their models' times have passed. A window of another version than the one that is served is
    /// made again for that one.
    pub(super) fn close_windows(&mut self, arrived_us: u64) {
        let topology = &mut self.topology;
        for (number, partition) in &mut self.partitions {
            for model in partition.windowed() {
                let index = topology.by_identity.get(&model).copied();
                let Some((index, serving)) = index.and_then(|at| Some((at, topology.models.get(at)?))) else {
                    continue;
                };
                let served = &serving.served;
                for (_, entry) in partition.close_windows(&served.identity, &serving.views) {
                    self.changed = true;
                    let Some(block) = row_block(&mut self.models, partition, served, index) else {
                        continue;
                    };
                    let made = (&*entry.signature, &entry.row[..]);
                    let taken_up = topology.remakes.take_up(&mut topology.topics, entry.topic, made, block);
                    if let Err(error) = taken_up {
                        let topic = self.topics.get(usize::from(entry.topic)).map_or("", |topic| topic);
                        let (offset, version) = (entry.offset, entry.version);
                        serving.runtime.refused_input(format!(
                            "{topic}-{number} offset {offset}: its window was opened for version {version}, and {error}"
                        ));
                        continue;
                    }
                    let source = RowSource {
                        topic: entry.topic,
                        partition: *number,
                        offset: entry.offset,
                        event_time_ms: entry.event_time_ms,
                        arrived_us,
                        log_offset: -1,
                    };
                    let key = entry.output_key;
                    block.end_row(source, |out| key.map(|key| out.extend_from_slice(&key)).is_some());
                }
            }
        }
        self.push_pending();
    }
}

/// Where a model's next row of a partition goes: to its flow, or to what waits for the feature log.
pub(super) fn row_block<'a>(
    models: &'a mut [TaskModel],
    partition: &'a mut PartitionState,
    model: &Arc<crate::models::ServedModel>,
    index: usize,
) -> Option<&'a mut RowBlock> {
    if partition.is_diverted(&model.identity) {
        return partition.waiting_block(model);
    }
    models.get_mut(index).map(|task_model| &mut task_model.pending)
}

fn evaluate(
    plan: &mut ViewPlan,
    partition: &mut PartitionState,
    event: &Event<'_>,
    wall_ms: i64,
) -> Result<(), Failed> {
    let mut globals = Globals(&plan.globals);
    let Some((time, stores)) = partition.time_and_stores(plan.view) else {
        let error = format!(
            "feature view {} has no time in partition {}",
            plan.name, event.partition
        );
        return Err(Failed::Task(ConnectError::fatal(error)));
    };
    let mut state = KeyedStores {
        stores,
        group_stores: &plan.group_stores,
        time,
        now_ms: i64::MIN,
        wall_ms,
    };
    let evaluated = plan.evaluator.evaluate(event, &mut globals, &mut state);
    evaluated.map_err(|error| match error {
        EventError::State(fault) => match fault.0.downcast_ref::<StateError>() {
            // One entry that cannot be read is its view's trouble.
            Some(StateError::Format { .. }) => Failed::View(fault.to_string()),
            _ => Failed::Task(ConnectError::retriable(fault.to_string())),
        },
        error if error.is_of_record() => Failed::Record(error.to_string()),
        error => Failed::View(error.to_string()),
    })
}

/// Where a record is, as messages have it.
pub(super) fn place(record: &RawRecord<'_>) -> String {
    format!("{}-{} offset {}", record.topic, record.partition, record.offset)
}
