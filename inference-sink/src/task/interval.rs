//! One interval: drain, detach what did not finish, gather everything, hand it to the committer, take the answer.

use super::partition::{PROGRESS, PartitionState};
use super::topic_names::changelog_topic;
use super::{Made, Open};
use crate::barrier::{Answer, Commit, CommitFailure, Committed, LogEntry, RecordGroup};
use crate::detach::{Reason, encode_entry};
use crate::expiry::Archiver;
use crate::failure::kafka_failure;
use crate::flow::{Batch, RowBlock};
use connect_api::delivery::{SinkOffsets, TopicPartition};
use connect_api::error::ConnectError;
use kafka_client::{ErrorCode, Remedy};
use state_store::{ChangeRecord, Changes, Position};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long dead letters are waited for.
const DEAD_LETTERS: Duration = Duration::from_secs(30);
const VIEW_LETTERS: Duration = Duration::from_secs(1);
/// How long a topic that does not take them gets none of views.
const VIEW_LETTERS_PAUSE: Duration = Duration::from_secs(30);

/// A transaction under way.
pub(super) struct InFlight {
    pub groups: Vec<GroupInFlight>,
    /// partition and model of each feature log entry
    pub log: Vec<(i32, Arc<str>)>,
    /// rows whose outputs are in it, in the order of the commit's outputs, or were sent at once
    pub batches: Vec<Batch>,
    offsets: SinkOffsets,
}

pub(super) struct GroupInFlight {
    pub partition: i32,
    /// index of the keyed store; none for the progress store
    pub store: Option<usize>,
    pub changes: Changes,
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
        self.publish_view_figures();
        self.flush_dead_letters()?;
        let (commit, in_flight) = self.gather();
        self.changed = false;
        if commit.is_empty() {
            return Ok(());
        }
        crash_point::reached("inference.gathered");
        self.in_flight = Some(in_flight);
        self.committer.commit(commit)
    }

    /// What was reported is in the dead letter topic before the interval is committed. For what one view cannot use nobody
    /// waits long, or in vain more than now and then: that is counted, and the other views have no trouble.
    fn flush_dead_letters(&mut self) -> Result<(), ConnectError> {
        let of_views = std::mem::take(&mut self.view_letters);
        if std::mem::take(&mut self.dead_letters) > 0 {
            return self.context.reporter.flush(DEAD_LETTERS);
        }
        if of_views > 0
            && let Err(error) = self.context.reporter.flush(VIEW_LETTERS)
        {
            tracing::warn!(error = %error, "events that a feature view cannot use are not reported for a while");
            self.view_letters_from = Some(Instant::now() + VIEW_LETTERS_PAUSE);
        }
        Ok(())
    }

    /// Adds what was counted since the last barrier to the views' figures.
    fn publish_view_figures(&mut self) {
        for plan in self.topology.topics.iter_mut().flatten() {
            let counts = plan.evaluator.take_counts();
            if counts.events == 0 {
                continue;
            }
            self.metrics.with_view(&plan.name, |figures| {
                figures.events += counts.events;
                figures.lookups += counts.lookups;
                figures.lookups_missed += counts.lookups_missed;
                figures.texts_refused += counts.texts_refused;
                crate::metrics::add_features(&mut figures.features, &mut plan.evaluator);
            });
        }
    }

    /// Lets in-step models finish what they have; those that have not in time are detached with their rows.
    fn drain(&mut self, drain: Duration) {
        let started_at = Instant::now();
        let pool = &self.started.pool;
        let is_stopped = |flow: &crate::flow::Flow| flow.runtime.is_stopped(crate::clock::wall_ms());
        let busy = |model: &super::TaskModel| model.flow.outstanding() > 0 && !is_stopped(&model.flow);
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
            waited.iter().all(|flow| flow.outstanding() == 0 || is_stopped(flow))
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
                runtime if runtime.is_broken() => Reason::Breaker,
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
            if result.records > 0 {
                self.made.push(Made {
                    outputs: result.outputs,
                    batch: result.batch,
                });
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
                    if let Some(own) = self.models.iter().find(|own| own.pending.model.identity == model) {
                        own.flow.runtime.outputs_taken();
                    }
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
        self.end_refusals();
        let now_ms = crate::clock::wall_ms();
        for model in &self.models {
            let identity = &model.pending.model.identity;
            if self.is_held_back(identity) || self.refusals.has(identity) || !model.flow.runtime.allows(now_ms) {
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

    /// Models whose outputs were refused, and that have done all of the log since.
    fn end_refusals(&mut self) {
        for model in &self.models {
            let identity = &model.pending.model.identity;
            let waits = |(number, partition): (&i32, &PartitionState)| {
                let mode = partition.mode(identity);
                mode.is_detached() && (!mode.has_caught_up() || self.log_reader.has_unread(*number, identity, &mode))
            };
            if self.refusals.has(identity)
                && !self.partitions.iter().any(waits)
                && self.refusals.nothing_waits(identity)
            {
                tracing::info!(model = %identity, "outputs are taken again");
            }
        }
    }

    /// Whether somebody or something other than its pace keeps a model detached.
    pub(super) fn is_held_back(&self, model: &str) -> bool {
        self.topology.held.contains_key(model)
    }

    /// Everything of the interval as one transaction.
    fn gather(&mut self) -> (Commit, InFlight) {
        let made = std::mem::take(&mut self.made);
        let (outputs, batches): (Vec<_>, Vec<_>) = made.into_iter().map(|made| (made.outputs, made.batch)).unzip();
        let mut commit = Commit {
            outputs: outputs.into_iter().flatten().collect(),
            shed: std::mem::take(&mut self.shed),
            flush: self.outbox.sender().is_some().then(|| self.outbox.clone()),
            ..Commit::default()
        };
        let mut in_flight = InFlight {
            groups: Vec::new(),
            log: Vec::new(),
            batches,
            offsets: SinkOffsets::new(),
        };
        for (number, partition) in &mut self.partitions {
            for (model, blocks) in partition.take_all_waiting() {
                for block in blocks {
                    partition.signatures.keep(&model, &block.model.signature);
                    for row in 0..block.rows() {
                        commit.log.push(LogEntry {
                            partition: *number,
                            end: self.log_ends.get(number).copied().unwrap_or(0),
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
            let store_times: Vec<i64> = self
                .topology
                .writers
                .iter()
                .map(|views| partition.time_of(views).unwrap_or(i64::MIN))
                .collect();
            let latest_ms = partition.latest_time().unwrap_or(i64::MIN);
            let mut add =
                |store: Option<usize>, name: &str, end: i64, changes: Changes, mut records: Vec<ChangeRecord>| {
                    let own_ms = store.and_then(|store| store_times.get(store).copied());
                    let stream_time_ms = own_ms.unwrap_or(latest_ms);
                    records.push(changes.position_record(input_offset, stream_time_ms));
                    commit.groups.push(RecordGroup {
                        topic: changelog_topic(&self.context.connector, name).into(),
                        partition: *number,
                        end,
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
                    add(Some(index), &slot.name, store.changelog_offset(), changes, records);
                }
            }
            let owner_records = partition.take_owner_records(&self.topics);
            if !owner_records.is_empty() {
                let mut changes = partition.progress.changes();
                for record in owner_records {
                    changes.push(record);
                }
                let records = changes.records.clone();
                add(None, PROGRESS, partition.progress.changelog_offset(), changes, records);
            }
        }
        commit.log_topic = (!commit.log.is_empty()).then(|| self.log_reader.topic().clone());
        (commit, in_flight)
    }

    /// Takes the committer's answer, if it is there or `deadline` lets it come. True: nothing is under way any more.
    pub(super) fn finish_commit(&mut self, deadline: Option<Instant>) -> Result<bool, ConnectError> {
        loop {
            if self.in_flight.is_none() {
                return Ok(true);
            }
            let answer = match deadline {
                Some(deadline) => self.committer.wait_answer(deadline),
                None => self.committer.try_answer(),
            };
            let Some(answer) = answer else { return Ok(false) };
            let Some(mut in_flight) = self.in_flight.take() else {
                return Ok(true);
            };
            let result = match answer {
                Answer::Done(result) => result,
                Answer::Refused(refused) => {
                    let amendment = self.amend(refused, &mut in_flight);
                    self.in_flight = Some(in_flight);
                    self.committer.amend(amendment)?;
                    continue;
                }
            };
            return match self.accept(result, in_flight) {
                Ok(()) => Ok(true),
                Err(failure) => self.roll_back(failure).map(|()| true),
            };
        }
    }

    fn accept(&mut self, result: Result<Committed, CommitFailure>, in_flight: InFlight) -> Result<(), Rollback> {
        let committed = result.map_err(Rollback::Commit)?;
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
                let archived = archiver.committed();
                self.metrics.archived.fetch_add(archived, Ordering::Relaxed);
                self.metrics.expired.fetch_add(archived, Ordering::Relaxed);
                self.changed = true;
            }
        }
        self.outputs_taken(&in_flight.batches);
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
        let (error, refused) = match failure {
            // The transaction is committed and only the local copy is behind: opening again restores it.
            Rollback::Local(error) => return Err(ConnectError::retriable(error)),
            Rollback::Commit(CommitFailure { ends: Some(error), .. }) => return Err(error),
            Rollback::Commit(CommitFailure { error, refused, .. }) => (error, refused),
        };
        match error.remedy() {
            Remedy::GiveWay => {
                return Err(ConnectError::fatal(format!(
                    "another task has taken over this one's partitions (its transactional id was fenced): {error}"
                )));
            }
            // Nobody knows how the transaction stands. Who opens the partitions anew reads it in the changelog.
            Remedy::Renew => return Err(ConnectError::retriable(format!("commit: {error}"))),
            Remedy::Wait => {}
            // Outputs that were sent at once and are lost are made again.
            Remedy::Unexpected if error.code == ErrorCode::Fail => {}
            Remedy::Missing | Remedy::Mend | Remedy::Refused | Remedy::Unexpected if refused.is_some() => {}
            // Written again, it would be refused again.
            Remedy::Missing | Remedy::Mend | Remedy::Refused | Remedy::Unexpected => {
                return Err(kafka_failure("commit", &error));
            }
        }
        let topic = refused.as_ref().map(|refused| &*refused.topic);
        tracing::warn!(error = %error, topic, "commit failed: reading again from the last committed position");
        self.metrics.aborted.fetch_add(1, Ordering::Relaxed);
        for model in &mut self.models {
            drop(self.started.pool.take_back(&model.flow));
            model.pending = RowBlock::new(&model.pending.model);
        }
        drop(self.outbox.take());
        self.made.clear();
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
                .reload(&self.topics)
                .map_err(|error| ConnectError::retriable(format!("progress of partition {number}: {error}")))?;
            partition.adopt_windows(self.topology.windows(), &self.topics);
            for (index, topic) in self.topics.iter().enumerate() {
                if let Some(offset) = partition.position(index) {
                    rewind.insert(TopicPartition::new(topic.clone(), *number), offset);
                }
            }
        }
        self.say_lost_windows();
        self.assume_log_ends();
        self.open_archivers()?;
        for model in self.refusals.under_way() {
            self.refusals.nothing_tried(&model);
        }
        if let Some(refused) = refused {
            self.refuse_topic(&refused, None);
        }
        self.rewind = Some(rewind);
        self.changed = false;
        self.divert_held();
        self.last_barrier = Instant::now();
        Ok(())
    }
}

enum Rollback {
    Commit(CommitFailure),
    Local(String),
}

/// Rows that did not finish go to what waits for the feature log, partition by partition; those that came from the log
/// are read from it again.
pub(super) fn put_back(
    partitions: &mut std::collections::BTreeMap<i32, PartitionState>,
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
