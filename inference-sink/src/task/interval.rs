//! One interval: drain, detach what did not finish, gather everything, hand it to the committer, take the answer.

use super::open::changelog_topic;
use super::partition::PROGRESS;
use super::{Open, is_broken};
use crate::barrier::{Answer, Commit, CommitFailure, LogEntry, RecordGroup};
use crate::detach::{Reason, encode_entry};
use crate::expiry::Archiver;
use crate::flow::RowBlock;
use connect_api::delivery::{SinkOffsets, TopicPartition};
use connect_api::error::ConnectError;
use state_store::{ChangeRecord, Changes, Position};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A transaction under way.
pub(super) struct InFlight {
    groups: Vec<GroupInFlight>,
    /// partition and model of each feature log entry
    log: Vec<(i32, Arc<str>)>,
    offsets: SinkOffsets,
}

struct GroupInFlight {
    partition: i32,
    /// index of the keyed store; none for the progress store
    store: Option<usize>,
    changes: Changes,
    input_offset: i64,
    stream_time_ms: i64,
}

impl Open {
    /// Ends the interval and hands it to the committer.
    pub(super) fn begin_commit(&mut self, drain: Duration) -> Result<(), ConnectError> {
        self.mark_reached();
        self.push_candidates();
        self.drain(drain);
        self.gather_results();
        self.settle_modes();
        if self.dead_letters > 0 {
            self.context.reporter.flush(Duration::from_secs(30))?;
            self.dead_letters = 0;
        }
        let (commit, in_flight) = self.gather();
        self.changed = false;
        if commit.is_empty() {
            return Ok(());
        }
        crash_point::reached("inference.gathered");
        self.in_flight = Some(in_flight);
        self.committer.commit(commit)
    }

    /// Lets in-step models finish what they have; those that have not in time are detached with their rows.
    fn drain(&mut self, drain: Duration) {
        let started_at = Instant::now();
        let pool = &self.started.pool;
        let busy = |model: &super::TaskModel| model.flow.outstanding() > 0 && !model.flow.runtime.is_stopped();
        for model in self.models.iter().filter(|model| busy(model)) {
            pool.set_closing(&model.flow, true);
        }
        let waited: Vec<_> = self
            .models
            .iter()
            .filter(|model| !self.is_only_detached(model))
            .map(|m| m.flow.clone())
            .collect();
        self.outbox.wait_until(Instant::now() + drain, || {
            waited
                .iter()
                .all(|flow| flow.outstanding() == 0 || flow.runtime.is_stopped())
        });
        let nanos = u64::try_from(started_at.elapsed().as_nanos()).unwrap_or(0);
        self.metrics.stages.drain_ns.fetch_add(nanos, Ordering::Relaxed);
        for model in &self.models {
            pool.set_closing(&model.flow, false);
            let late = model.flow.outstanding() > 0 && !self.is_only_detached(model);
            if !late {
                continue;
            }
            let reason = match &model.flow.runtime {
                runtime if runtime.is_suspended() => Reason::Suspended,
                runtime if runtime.is_stopped() => Reason::Breaker,
                _ => Reason::Slow,
            };
            let identity = &model.pending.model.identity;
            // Each goes before those that wait already.
            for rows in pool.take_back(&model.flow).into_iter().rev() {
                put_back(&mut self.partitions, &mut self.log_reader, identity, rows, reason);
            }
        }
    }

    /// Whether all that a model's flow has comes from the feature log: then a barrier does not wait for it. A model that was
    /// diverted within the interval may have rows of before.
    fn is_only_detached(&self, model: &super::TaskModel) -> bool {
        let identity = &model.pending.model.identity;
        !self.partitions.is_empty()
            && self.partitions.iter().all(|(number, partition)| {
                partition.mode(identity).is_detached() && !self.candidates.contains(&(*number, identity.clone()))
            })
    }

    /// Takes what executors have left.
    pub(super) fn gather_results(&mut self) {
        for result in self.outbox.take() {
            if let Some(outputs) = result.outputs {
                self.outputs.push(outputs);
                self.changed = true;
            }
            for (number, next) in result.log_done {
                if let Some(partition) = self.partitions.get_mut(&number) {
                    let mut mode = partition.mode(&result.model);
                    mode.done(next);
                    partition.set_mode(&result.model, mode);
                    self.changed = true;
                }
            }
        }
    }

    /// Attaches candidates that have finished, and detaches what was diverted.
    fn settle_modes(&mut self) {
        for (number, model) in std::mem::take(&mut self.candidates) {
            if let Some(partition) = self.partitions.get_mut(&number)
                && !partition.has_waiting(&model)
            {
                let mut mode = partition.mode(&model);
                if mode.attach() {
                    crash_point::reached("detached.attached");
                    partition.set_mode(&model, mode);
                    self.log_reader.forget(number, &model);
                    tracing::info!(model = %model, partition = number, "model attached");
                    self.publish_modes = true;
                }
            }
        }
        for (number, partition) in &mut self.partitions {
            for (model, reason) in partition.take_diverted() {
                let mut mode = partition.mode(&model);
                mode.detach(reason, self.log_ends.get(number).copied().unwrap_or(0));
                partition.set_mode(&model, mode);
                tracing::info!(model = %model, partition = *number, reason = ?reason, "model detached");
                self.publish_modes = true;
            }
        }
    }

    /// Detached models that have done all of the log, and may run: the rows of this interval run in it, and if they finish
    /// the model is attached.
    fn push_candidates(&mut self) {
        let now_ms = crate::clock::wall_ms();
        for model in &self.models {
            let identity = &model.pending.model.identity;
            if self.is_held_back(identity) || !model.flow.runtime.allows(now_ms) {
                continue;
            }
            for (number, partition) in &mut self.partitions {
                let mode = partition.mode(identity);
                if !mode.is_detached() || !mode.has_caught_up() || self.log_reader.has_unread(*number, identity, &mode)
                {
                    continue;
                }
                if let Some(limit) = self.limits.get_mut(&*model.flow.runtime.tenant)
                    && limit.waits()
                    && !limit.admits_all(partition.waiting_rows(identity))
                {
                    continue;
                }
                let rows = partition.take_waiting(identity).into_iter();
                self.started.pool.push(rows.map(|rows| (&*model.flow, rows)));
                self.candidates.insert((*number, identity.clone()));
                self.changed = true;
            }
        }
    }

    /// Whether somebody or something other than its pace keeps a model detached.
    pub(super) fn is_held_back(&self, model: &str) -> bool {
        let tenant = model.split('/').next().unwrap_or(model);
        self.topology.paused.contains(model) || is_broken(&self.broken_outputs, tenant)
    }

    /// Everything of the interval as one transaction.
    fn gather(&mut self) -> (Commit, InFlight) {
        let mut commit = Commit {
            outputs: std::mem::take(&mut self.outputs),
            shed: std::mem::take(&mut self.shed),
            flush: self.outbox.sender().is_some().then(|| self.outbox.clone()),
            ..Commit::default()
        };
        let mut in_flight = InFlight {
            groups: Vec::new(),
            log: Vec::new(),
            offsets: SinkOffsets::new(),
        };
        for (number, partition) in &mut self.partitions {
            for (model, blocks) in partition.take_all_waiting() {
                for block in blocks {
                    for row in 0..block.rows() {
                        commit.log.push(LogEntry {
                            partition: *number,
                            model: model.clone(),
                            value: encode_entry(&block, row, &self.topics),
                        });
                        in_flight.log.push((*number, model.clone()));
                    }
                }
            }
            let mut input_offset = 0;
            for (index, topic) in self.topics.iter().enumerate() {
                if let Some(next) = partition.position(index) {
                    in_flight
                        .offsets
                        .insert(TopicPartition::new(topic.clone(), *number), next);
                    input_offset = input_offset.max(next);
                }
            }
            let stream_time_ms = partition.stream_time.now_ms().unwrap_or(i64::MIN);
            let mut add = |store: Option<usize>, name: &str, changes: Changes, mut records: Vec<ChangeRecord>| {
                records.push(changes.position_record(input_offset, stream_time_ms));
                commit.groups.push(RecordGroup {
                    topic: changelog_topic(&self.context.connector, name).into(),
                    partition: *number,
                    records,
                });
                in_flight.groups.push(GroupInFlight {
                    partition: *number,
                    store,
                    changes,
                    input_offset,
                    stream_time_ms,
                });
            };
            for (index, (store, slot)) in partition.stores.iter_mut().zip(&self.topology.stores).enumerate() {
                let archived = partition.archivers.get_mut(index).and_then(Option::as_mut);
                if store.dirty_entries() > 0 || archived.as_ref().is_some_and(|archiver| archiver.has_records()) {
                    let mut changes = store.changes();
                    for record in archived.map(Archiver::take_records).unwrap_or_default() {
                        changes.push(record);
                    }
                    let records = changes.records.clone();
                    self.metrics
                        .state_changes
                        .fetch_add(records.len() as u64, Ordering::Relaxed);
                    add(Some(index), &slot.name, changes, records);
                }
            }
            let owner_records = partition.take_owner_records(&self.topics);
            if !owner_records.is_empty() {
                let mut changes = partition.progress.changes();
                for record in owner_records {
                    changes.push(record);
                }
                let records = changes.records.clone();
                add(None, PROGRESS, changes, records);
            }
        }
        commit.log_topic = (!commit.log.is_empty()).then(|| self.log_reader.topic().clone());
        (commit, in_flight)
    }

    /// Takes the committer's answer, if it is there or `deadline` lets it come. True: nothing is under way any more.
    pub(super) fn finish_commit(&mut self, deadline: Option<Instant>) -> Result<bool, ConnectError> {
        if self.in_flight.is_none() {
            return Ok(true);
        }
        let answer = match deadline {
            Some(deadline) => self.committer.wait_answer(deadline),
            None => self.committer.try_answer(),
        };
        let Some(answer) = answer else { return Ok(false) };
        let Some(in_flight) = self.in_flight.take() else {
            return Ok(true);
        };
        match self.accept(answer, in_flight) {
            Ok(()) => Ok(true),
            Err(failure) => self.roll_back(failure).map(|()| true),
        }
    }

    fn accept(&mut self, answer: Answer, in_flight: InFlight) -> Result<(), Rollback> {
        let committed = answer.map_err(Rollback::Commit)?;
        crash_point::reached("commit.committed");
        let logged = !in_flight.log.is_empty();
        for (group, end) in in_flight.groups.into_iter().zip(committed.ends) {
            let Some(partition) = self.partitions.get_mut(&group.partition) else {
                continue;
            };
            let position = Position {
                input_offset: group.input_offset,
                stream_time_ms: group.stream_time_ms,
                changelog_offset: end,
            };
            let written = match group.store {
                None => partition.progress.committed(group.changes, &position),
                Some(index) => match partition.stores.get_mut(index) {
                    Some(store) => store.committed(group.changes, &position),
                    None => Ok(()),
                },
            };
            written.map_err(|error| Rollback::Local(error.to_string()))?;
            crash_point::reached("commit.some_stores_written");
            let archiver = group
                .store
                .and_then(|index| partition.archivers.get_mut(index)?.as_mut());
            if let Some(archiver) = archiver {
                self.metrics.archived.fetch_add(archiver.committed(), Ordering::Relaxed);
                self.changed = true;
            }
        }
        for ((number, model), offset) in in_flight.log.into_iter().zip(committed.log_offsets) {
            if let Some(partition) = self.partitions.get_mut(&number) {
                let mut mode = partition.mode(&model);
                mode.appended(offset);
                partition.set_mode(&model, mode);
                let end = self.log_ends.entry(number).or_insert(0);
                *end = (*end).max(offset + 1);
                self.changed = true;
            }
        }
        crash_point::reached("commit.stores_written");
        if logged {
            crash_point::reached("detached.rows_logged");
        }
        self.durable = Some(in_flight.offsets);
        if std::mem::take(&mut self.publish_modes) || self.has_detached_work() {
            self.publish();
        }
        Ok(())
    }

    /// Forgets everything since the last commit and asks for the records again.
    fn roll_back(&mut self, failure: Rollback) -> Result<(), ConnectError> {
        let (error, tenant) = match failure {
            // The transaction is committed and only the local copy is behind: opening again restores it.
            Rollback::Local(error) => return Err(ConnectError::retriable(error)),
            Rollback::Commit(CommitFailure { error, tenant }) => (error, tenant),
        };
        if error.is_fenced() {
            return Err(ConnectError::fatal(format!(
                "another task has taken over this one's partitions (its transactional id was fenced): {error}"
            )));
        }
        if error.is_fatal() {
            return Err(ConnectError::retriable(format!("commit: {error}")));
        }
        tracing::warn!(error = %error, tenant = tenant.as_deref(), "commit failed: reading again from the last committed position");
        self.metrics.aborted.fetch_add(1, Ordering::Relaxed);
        for model in &mut self.models {
            drop(self.started.pool.take_back(&model.flow));
            model.pending = RowBlock::new(&model.pending.model);
        }
        drop(self.outbox.take());
        self.outputs.clear();
        self.shed.clear();
        self.candidates.clear();
        self.log_reader.reset();
        let mut rewind = SinkOffsets::new();
        for (number, partition) in &mut self.partitions {
            partition.progress.forget_uncommitted();
            for store in &mut partition.stores {
                store.forget_uncommitted();
            }
            partition
                .reload(&self.topics, self.options.idle_after_ms)
                .map_err(|error| ConnectError::retriable(format!("progress of partition {number}: {error}")))?;
            for (index, topic) in self.topics.iter().enumerate() {
                rewind.insert(
                    TopicPartition::new(topic.clone(), *number),
                    partition.position(index).unwrap_or(0),
                );
            }
        }
        self.assume_log_ends();
        self.open_archivers()?;
        if let Some(tenant) = tenant {
            self.break_outputs(&tenant);
        }
        self.rewind = Some(rewind);
        self.changed = false;
        self.last_barrier = Instant::now();
        Ok(())
    }

    /// A tenant whose topic refuses records is detached for a while; the others go on.
    fn break_outputs(&mut self, tenant: &str) {
        self.broken_outputs
            .insert(tenant.to_owned(), Instant::now() + Duration::from_secs(30));
        for model in self.models.iter().filter(|model| *model.flow.runtime.tenant == *tenant) {
            for partition in self.partitions.values_mut() {
                partition.divert(&model.pending.model, Reason::Outputs);
            }
        }
    }
}

enum Rollback {
    Commit(CommitFailure),
    Local(String),
}

/// Rows that did not finish go to what waits for the feature log, partition by partition; those that came from the log
/// are read from it again.
fn put_back(
    partitions: &mut std::collections::BTreeMap<i32, super::partition::PartitionState>,
    reader: &mut crate::detach::LogReader,
    model: &Arc<str>,
    rows: RowBlock,
    reason: Reason,
) {
    for (number, partition) in partitions {
        let mut own = RowBlock::new(&rows.model);
        for row in 0..rows.rows() {
            let Some(meta) = rows.metas.get(row).filter(|meta| meta.partition == *number) else {
                continue;
            };
            if meta.log_offset >= 0 {
                reader.forget(*number, model);
            } else {
                own.append(rows.only(row));
            }
        }
        if own.rows() > 0 {
            partition.divert(&rows.model, reason);
            partition.wait_first(model, vec![own]);
        }
    }
}
