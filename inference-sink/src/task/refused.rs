//! A topic refuses outputs: the rows behind them wait in the feature log, in the same transaction that the outputs were to be
//! part of, and everything else of that transaction stands.

use super::interval::{InFlight, put_back};
use super::refusals::Fate;
use super::{Made, Open};
use crate::barrier::{Amendment, LogEntry, Refused};
use crate::detach::{Reason, encode_entry};
use crate::flow::{Batch, RowBlock};
use crate::output::RefusedTopic;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// A row whose output was refused.
struct RefusedRow<'a> {
    batch: &'a Batch,
    /// in its block
    number: usize,
    /// -1: it does not come from the feature log
    log_offset: i64,
}

/// By partition and model, in order.
type Rows<'a> = BTreeMap<(i32, Arc<str>), Vec<RefusedRow<'a>>>;

impl Open {
    /// What the transaction under way writes instead of what was refused; none: it has to be aborted.
    pub(super) fn amend(&mut self, refused: Refused, in_flight: &mut InFlight) -> Option<Amendment> {
        let mut amendment = Amendment {
            log_topic: self.log_reader.topic().clone(),
            ..Amendment::default()
        };
        let rows = refused_rows(&refused, &in_flight.batches);
        let of_rows: BTreeSet<Arc<str>> = rows.keys().map(|(_, model)| model.clone()).collect();
        let (mut given_up, mut waiting) = (BTreeSet::new(), Vec::new());
        for topic in &refused.topics {
            // Where only some records are refused and those are known, others that write to the topic have no trouble.
            let only = (topic.of_records && refused.rows.is_some()).then_some(&of_rows);
            given_up.append(&mut self.refuse_topic(topic, only));
        }
        if refused.rows.is_some() {
            for model in of_rows
                .iter()
                .filter(|model| some_are_written(model, &rows, &in_flight.batches))
            {
                self.refusals.takes_others(model);
            }
        }
        for ((number, model), rows) in rows.iter() {
            let rows = rows.iter().filter(|_| !given_up.contains(model));
            let (logged, fresh): (Vec<_>, Vec<_>) = rows.partition(|row| row.log_offset >= 0);
            // Of what comes after these rows some may be in the log already, and would be run before them.
            let is_own = |(other, known): &(i32, Arc<str>)| other == number && known == model;
            if !fresh.is_empty() && in_flight.log.iter().any(is_own) {
                return None;
            }
            let group = in_flight.progress_of(*number)?;
            let partition = self.partitions.get_mut(number)?;
            let mut mode = partition.mode(model);
            // Below the end are entries of others, or none that are not done.
            mode.detach(Reason::Outputs, self.log_ends.get(number).copied().unwrap_or(0));
            if let Some(first) = logged.iter().map(|row| row.log_offset).min() {
                mode.undo(first);
                self.log_reader.forget(*number, model);
                // Of what lies behind, some is written: that is passed over when the log is read again.
                if refused.rows.is_some() {
                    let again: BTreeSet<i64> = logged.iter().map(|row| row.log_offset).collect();
                    let run = in_flight.log_offsets_of(*number, model);
                    partition.pass_over(model, run.filter(|offset| *offset > first && !again.contains(offset)));
                }
            }
            partition.set_mode(model, mode);
            amendment.records.push((group, partition.mode_record(model)));
            let passed_over = partition.passed_over_record(model);
            amendment.records.extend(passed_over.map(|record| (group, record)));
            for row in fresh {
                partition.signatures.keep(model, &row.batch.block.model.signature);
                amendment.log.push(LogEntry {
                    partition: *number,
                    end: self.log_ends.get(number).copied().unwrap_or(0),
                    model: model.clone(),
                    value: encode_entry(&row.batch.block, row.number, &self.topics),
                });
                waiting.push((*number, model.clone()));
            }
            let signatures = partition.signatures.take_records().into_iter();
            amendment.records.extend(signatures.map(|record| (group, record)));
        }
        drop(rows);
        for (group, record) in &amendment.records {
            if let Some(group) = in_flight.groups.get_mut(*group) {
                group.changes.push(record.clone());
            }
        }
        in_flight.log.append(&mut waiting);
        let refuses = |batch: &Batch| of_rows.contains(&batch.block.model.identity);
        in_flight.batches.retain(|batch| !refuses(batch));
        self.publish_modes = true;
        Some(amendment)
    }

    /// From now on the rows of models that write to a topic (`only` these, where it says so) wait. Gives those of which one row
    /// alone was tried, and is given up.
    pub(super) fn refuse_topic(
        &mut self,
        refused: &RefusedTopic,
        only: Option<&BTreeSet<Arc<str>>>,
    ) -> BTreeSet<Arc<str>> {
        let now = Instant::now();
        let RefusedTopic {
            topic,
            error,
            of_records,
            missing,
        } = refused;
        tracing::warn!(topic = %topic, error = %error, "a topic of outputs refuses records: what is for it waits in the feature log");
        if self.is_shed_topic(topic) {
            self.refusals.shed_refused(topic, *missing, now);
        }
        if *missing {
            self.output_is_missing(topic);
        }
        let mut given_up = BTreeSet::new();
        for index in 0..self.models.len() {
            let Some(model) = self.models.get(index) else { continue };
            let served = model.pending.model.clone();
            if served.output_topic != *topic || only.is_some_and(|only| !only.contains(&served.identity)) {
                continue;
            }
            match self.refusals.refused(&served.identity, *of_records, now) {
                Fate::Wait => model.flow.runtime.outputs_refused(&refused.reason()),
                Fate::GivenUp => {
                    model
                        .flow
                        .runtime
                        .failed(&refused.reason(), None, crate::clock::wall_ms());
                    given_up.insert(served.identity.clone());
                }
            }
            if *missing {
                self.refusals.hold(&served.identity);
            }
            for partition in self.partitions.values_mut() {
                partition.divert(&served, Reason::Outputs);
            }
            // What ends from here on is void, and what has ended since the interval that was refused is not done either.
            let not_run = self.started.pool.take_back(&model.flow);
            self.gather_results();
            // Each goes before those that wait already: first what was not run yet, then what was.
            for rows in not_run.into_iter().rev() {
                let (partitions, reader) = (&mut self.partitions, &mut self.log_reader);
                put_back(partitions, reader, &served.identity, rows, Reason::Outputs);
            }
            self.unmake(&served.identity);
        }
        given_up
    }

    /// Whether events that are shed go to a topic.
    pub(super) fn is_shed_topic(&self, topic: &Arc<str>) -> bool {
        self.topology.shed_topics.values().any(|shed| shed == topic)
    }

    /// Puts the rows back of which a model has made something in this interval.
    fn unmake(&mut self, model: &Arc<str>) {
        let made = std::mem::take(&mut self.made);
        let (own, others): (Vec<Made>, Vec<Made>) = made
            .into_iter()
            .partition(|made| made.batch.block.model.identity == *model);
        self.made = others;
        for Made { batch, .. } in own.into_iter().rev() {
            let block = &batch.block;
            let mut rows = RowBlock::new(&block.model);
            for row in batch.rows.clone() {
                rows.append(block.only(row));
                if let Some(meta) = block.metas.get(row).filter(|meta| meta.log_offset >= 0)
                    && let Some(partition) = self.partitions.get_mut(&meta.partition)
                {
                    let mut mode = partition.mode(model);
                    mode.undo(meta.log_offset);
                    partition.set_mode(model, mode);
                }
            }
            let (partitions, reader) = (&mut self.partitions, &mut self.log_reader);
            put_back(partitions, reader, model, rows, Reason::Outputs);
        }
    }

    /// Outputs are committed: of models that were on trial too.
    pub(super) fn outputs_taken(&mut self, batches: &[Batch]) {
        for model in self.refusals.under_way() {
            if !batches.iter().any(|batch| batch.block.model.identity == model) {
                continue;
            }
            if self.refusals.taken(&model) {
                tracing::info!(model = %model, "outputs are taken again");
            }
            let known = |known: &&super::TaskModel| known.pending.model.identity == model;
            if let Some(known) = self.models.iter().find(known) {
                known.flow.runtime.outputs_taken();
            }
        }
    }

    /// Trials whose rows are gone without an output end: other rows may be tried.
    pub(super) fn end_empty_trials(&mut self) {
        let mut quiet = self.refusals.under_way();
        let runs = |model: &Arc<str>| {
            let mut models = self.models.iter();
            models.any(|known| known.pending.model.identity == *model && known.flow.outstanding() > 0)
        };
        quiet.retain(|model| !runs(model));
        if quiet.is_empty() {
            return;
        }
        // What they have made by now is here after this, and nowhere else.
        self.gather_results();
        for model in quiet {
            let is_own = |batch: &Batch| batch.block.model.identity == model;
            let in_flight = self.in_flight.iter().flat_map(|in_flight| &in_flight.batches);
            if !in_flight.chain(self.made.iter().map(|made| &made.batch)).any(is_own) {
                self.refusals.nothing_tried(&model);
            }
        }
    }
}

impl InFlight {
    /// The number of a partition's progress among the groups.
    fn progress_of(&self, partition: i32) -> Option<usize> {
        let mut groups = self.groups.iter();
        groups.position(|group| group.partition == partition && group.store.is_none())
    }

    /// Where the rows that a model has run are in the feature log, of those that come from there.
    fn log_offsets_of(&self, partition: i32, model: &Arc<str>) -> impl Iterator<Item = i64> {
        let own = self.batches.iter().filter(|batch| batch.block.model.identity == *model);
        let metas = own.flat_map(|batch| batch.block.metas.get(batch.rows.clone()).unwrap_or_default());
        metas
            .filter(move |meta| meta.partition == partition && meta.log_offset >= 0)
            .map(|meta| meta.log_offset)
    }
}

/// Whether outputs of a model were written beside those that were refused.
fn some_are_written(model: &str, refused: &Rows<'_>, batches: &[Batch]) -> bool {
    let own = batches.iter().filter(|batch| *batch.block.model.identity == *model);
    let all: usize = own.map(|batch| batch.rows.len()).sum();
    let refused = refused.iter().filter(|((_, of), _)| **of == *model);
    refused.map(|(_, rows)| rows.len()).sum::<usize>() < all
}

/// The rows behind refused outputs; where outputs were sent at once, all whose outputs go to the topics that refuse.
fn refused_rows<'a>(refused: &Refused, batches: &'a [Batch]) -> Rows<'a> {
    let mut rows: Rows<'a> = BTreeMap::new();
    let mut add = |batch: &'a Batch, number: usize| {
        if let Some(meta) = batch.block.metas.get(number) {
            let place = (meta.partition, batch.block.model.identity.clone());
            rows.entry(place).or_default().push(RefusedRow {
                batch,
                number,
                log_offset: meta.log_offset,
            });
        }
    };
    let Some(missing) = &refused.rows else {
        let refuses = |topic: &str| refused.topics.iter().any(|refused| *refused.topic == *topic);
        for batch in batches.iter().filter(|batch| refuses(&batch.block.model.output_topic)) {
            batch.rows.clone().for_each(|number| add(batch, number));
        }
        return rows;
    };
    for (index, missing) in missing {
        if let Some(batch) = batches.get(*index) {
            missing.iter().for_each(|number| add(batch, *number));
        }
    }
    rows
}
