//! Records to rows: match, features and state once per event, then one row for each model that wants it.

use super::evaluation::{Globals, KeyedStores};
use super::partition::PartitionState;
use super::topology::{Subscriber, ViewPlan};
use super::{Open, TaskModel, is_broken};
use crate::detach::Reason;
use crate::flow::{RowBlock, RowSource};
use crate::limits::Verdict;
use crate::metrics::ShedReason;
use crate::models::{InputError, write_inputs};
use crate::trigger::{Observed, WindowEntry};
use connect_api::error::{ConnectError, Stage};
use connect_api::partitioned::RawRecord;
use feature_engine::{Evaluator, Event, EventError};
use state_store::AheadOfWallClock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// One event in this many is timed in detail; the counters are scaled up.
const TIMED: u64 = 64;

/// Why an event is no event.
enum Unusable {
    /// its own fault: to the dead letter topic
    Record(String),
    /// the task's
    Task(ConnectError),
}

impl Open {
    pub(super) fn hand_over(&mut self, records: &[RawRecord<'_>]) -> Result<(), ConnectError> {
        let started_at = Instant::now();
        let arrived_us = self.started.pool.now_us();
        let wall_ms = crate::clock::wall_ms();
        let mut headers: Vec<(String, Option<Vec<u8>>)> = Vec::new();
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
            match self.take(record, topic, &headers, arrived_us, wall_ms) {
                Ok(()) => {}
                Err(Unusable::Record(error)) => {
                    self.dead_letters += 1;
                    self.metrics.dead_letters.fetch_add(1, Ordering::Relaxed);
                    let error = ConnectError::data(format!(
                        "{}-{} offset {}: {error}",
                        record.topic, record.partition, record.offset
                    ));
                    self.context
                        .reporter
                        .report_raw(record, Stage::ValueConverter, &error)?;
                }
                Err(Unusable::Task(error)) => return Err(error),
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

    fn take(
        &mut self,
        record: &RawRecord<'_>,
        topic: usize,
        headers: &[(String, Option<Vec<u8>>)],
        arrived_us: u64,
        wall_ms: i64,
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
        let mut verdicts: Vec<Option<Verdict>> = Vec::new();
        for plan in plans {
            evaluate(plan, partition, &event, wall_ms)?;
            let event_time_ms = plan.evaluator.event_time_ms();
            let stream_ms = partition
                .stream_time
                .observe(event_time_ms, wall_ms)
                .map_err(|error: AheadOfWallClock| Unusable::Record(error.to_string()))?;
            let source = RowSource {
                topic: u16::try_from(topic).unwrap_or(u16::MAX),
                partition: record.partition,
                offset: record.offset,
                event_time_ms,
                arrived_us,
                log_offset: -1,
            };
            for subscriber in &plan.models {
                if !subscriber.wants(&plan.evaluator) {
                    continue;
                }
                let verdict = if self.limits.is_empty() {
                    Verdict::Pass
                } else {
                    if verdicts.len() <= subscriber.tenant {
                        verdicts.resize(subscriber.tenant + 1, None);
                    }
                    let tenant = &subscriber.model.document.tenant;
                    let limit = self.limits.get_mut(tenant.as_str());
                    // What waits in the feature log already is judged when it is read from there.
                    let limit =
                        limit.filter(|limit| !(limit.waits() && partition.is_diverted(&subscriber.model.identity)));
                    match (limit, verdicts.get_mut(subscriber.tenant)) {
                        (Some(limit), Some(verdict)) => *verdict.get_or_insert_with(|| {
                            let verdict = limit.judge(spread(record.offset, record.partition));
                            if verdict == Verdict::Shed {
                                self.metrics.shed(tenant, ShedReason::Rate, 1);
                                // A topic that refuses records gets none for a while: the event is counted all the same.
                                if let Some(shed) = self.topology.shed_topics.get(tenant.as_str())
                                    && let Some(owner) = self.topology.tenants.get(subscriber.tenant)
                                    && !is_broken(&self.broken_outputs, tenant)
                                {
                                    self.shed.push(crate::barrier::ShedEvent::of(owner, shed, record));
                                }
                            }
                            verdict
                        }),
                        _ => Verdict::Pass,
                    }
                };
                if verdict == Verdict::Shed {
                    continue;
                }
                if verdict == Verdict::Wait {
                    partition.divert(&subscriber.model, Reason::OverRate);
                }
                if let Some(window) = &subscriber.window {
                    let mut key = Vec::new();
                    for part in &window.by {
                        plan.evaluator.scalar(*part).write_plain(&mut key);
                        key.push(0);
                    }
                    let mut row = subscriber.model.empty_inputs();
                    if let Err(error) = write_inputs(&plan.evaluator, &subscriber.slots, &mut row) {
                        subscriber.refuse_input(&error, record);
                        continue;
                    }
                    let mut output_key = Vec::new();
                    let has_key = subscriber.write_key(&plan.evaluator, record.key, &mut output_key);
                    let entry = WindowEntry {
                        row,
                        output_key: has_key.then_some(output_key),
                        topic: source.topic,
                        offset: record.offset,
                        event_time_ms,
                    };
                    let windows = partition.windows_of(&subscriber.model, window, &self.topics);
                    if windows.observe(&key, entry, stream_ms) == Observed::Late {
                        subscriber.runtime.late.fetch_add(1, Ordering::Relaxed);
                        self.metrics
                            .shed(&subscriber.model.document.tenant, ShedReason::Late, 1);
                        continue;
                    }
                    if !window.updates {
                        continue;
                    }
                }
                let block = row_block(&mut self.models, partition, &subscriber.model, subscriber.index);
                let Some(block) = block else { continue };
                if let Err(error) = write_inputs(&plan.evaluator, &subscriber.slots, &mut block.inputs) {
                    subscriber.refuse_input(&error, record);
                    continue;
                }
                block.end_row(source, |out| subscriber.write_key(&plan.evaluator, record.key, out));
            }
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

    /// Closes the windows that stream time has passed.
    pub(super) fn close_windows(&mut self, arrived_us: u64) {
        for (number, partition) in &mut self.partitions {
            let Some(stream_ms) = partition.stream_time.now_ms() else {
                continue;
            };
            for (model, closed) in partition.close_windows(stream_ms) {
                let known = self
                    .models
                    .iter()
                    .position(|known| known.pending.model.identity == model);
                let Some((index, served)) =
                    known.and_then(|index| Some((index, self.models.get(index)?.pending.model.clone())))
                else {
                    continue;
                };
                self.changed = true;
                for window in closed {
                    if !served.takes(&window.entry.row) {
                        let runtime = self.models.get(index).map(|model| &model.flow.runtime);
                        let (topic, offset) = (self.topics.get(usize::from(window.entry.topic)), window.entry.offset);
                        let source = format!("{}-{number} offset {offset}", topic.map_or("", |topic| topic));
                        let reason = "a window was opened for other inputs than the model takes now";
                        runtime.inspect(|runtime| runtime.refused_input(format!("{source}: {reason}")));
                        continue;
                    }
                    let Some(block) = row_block(&mut self.models, partition, &served, index) else {
                        continue;
                    };
                    block.push_inputs(&window.entry.row);
                    let source = RowSource {
                        topic: window.entry.topic,
                        partition: *number,
                        offset: window.entry.offset,
                        event_time_ms: window.entry.event_time_ms,
                        arrived_us,
                        log_offset: -1,
                    };
                    let key = window.entry.output_key;
                    block.end_row(source, |out| key.map(|key| out.extend_from_slice(&key)).is_some());
                }
            }
        }
        self.push_pending();
    }
}

/// Where a model's next row of a partition goes: to its flow, or to what waits for the feature log.
fn row_block<'a>(
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
) -> Result<(), Unusable> {
    let mut globals = Globals(&plan.globals);
    let mut state = KeyedStores {
        stores: &mut partition.stores,
        group_stores: &plan.group_stores,
        wall_ms,
    };
    plan.evaluator
        .evaluate(event, &mut globals, &mut state)
        .map_err(|error| match error {
            EventError::State(fault) => match fault.0.downcast_ref::<AheadOfWallClock>() {
                Some(ahead) => Unusable::Record(ahead.to_string()),
                None => Unusable::Task(ConnectError::retriable(fault.to_string())),
            },
            own => Unusable::Record(own.to_string()),
        })
}

impl Subscriber {
    /// Counts an event that gives the model no row.
    #[cold]
    fn refuse_input(&self, error: &InputError, record: &RawRecord<'_>) {
        let source = format!("{}-{} offset {}", record.topic, record.partition, record.offset);
        self.runtime.refused_input(format!("{source}: {}", self.model.input_error(error)));
    }

    fn wants(&self, evaluator: &Evaluator) -> bool {
        if let Some((id, types)) = &self.event_type {
            let matches = match evaluator.scalar(*id) {
                feature_engine::Scalar::Text(text) => types.iter().any(|wanted| wanted == text),
                _ => false,
            };
            if !matches {
                return false;
            }
        }
        self.filter.is_none_or(|filter| evaluator.scalar(filter).is_true())
    }

    fn write_key(&self, evaluator: &Evaluator, event_key: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        match self.key {
            Some(key) => evaluator.scalar(key).write_plain(out),
            None => event_key.map(|key| out.extend_from_slice(key)).is_some(),
        }
    }
}

/// A number that is uniform over events (SplitMix64).
fn spread(offset: i64, partition: i32) -> u64 {
    let x = (offset as u64).wrapping_add((partition as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
