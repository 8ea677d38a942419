//! Rows of detached models, from the feature log to their flows.

use super::Open;
use super::partition::PartitionState;
use super::topology::Topology;
use crate::detach::{Entry, LoggedRow, MadeBy, decode_entry};
use crate::flow::{RowBlock, RowSource};
use connect_api::error::ConnectError;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Rows of a detached model that may wait in its flow.
const WAITING_ROWS: usize = 8_192;

impl Open {
    /// Reads what detached models can take now.
    pub(super) fn read_feature_log(&mut self) -> Result<(), ConnectError> {
        let detached: Vec<_> = self
            .partitions
            .iter()
            .flat_map(|(number, partition)| {
                partition
                    .detached()
                    .map(|(model, mode)| (*number, model.clone(), *mode))
            })
            .collect();
        // Before the queues are looked at: one that becomes empty after that is told of.
        self.outbox.wake_when_empty(!detached.is_empty());
        if detached.is_empty() {
            return Ok(());
        }
        self.end_empty_trials();
        let (now_ms, now) = (crate::clock::wall_ms(), Instant::now());
        let arrived_us = self.started.pool.now_us();
        let ready: BTreeMap<String, usize> = self
            .models
            .iter()
            .enumerate()
            .filter(|(_, model)| {
                !self.is_held_back(&model.pending.model.identity)
                    && model.flow.runtime.allows(now_ms)
                    && model.flow.waiting().0 < WAITING_ROWS
                    && self.refusals.allowance(&model.pending.model.identity, now) != Some(0)
            })
            .map(|(index, model)| (model.pending.model.identity.to_string(), index))
            .collect();
        for model in ready.values().filter_map(|index| self.models.get(*index)) {
            if model.flow.waiting().0 > 0 {
                self.started.pool.nudge(&model.flow);
            }
        }
        let mut blocks: BTreeMap<usize, RowBlock> = BTreeMap::new();
        let mut unusable: Vec<(usize, Unusable)> = Vec::new();
        let (models, limits, topics) = (&self.models, &mut self.limits, &self.topics);
        let topology = &mut self.topology;
        let (refusals, partitions) = (&self.refusals, &self.partitions);
        self.log_reader.poll(
            &detached,
            |model| ready.contains_key(model),
            |entry| {
                let Some(index) = ready.get(entry.model) else {
                    return false;
                };
                let Some(model) = models.get(*index) else { return false };
                let partition = partitions.get(&entry.partition);
                if partition.is_some_and(|partition| partition.passes_over(entry.model, entry.offset)) {
                    return true;
                }
                let block = blocks
                    .entry(*index)
                    .or_insert_with(|| RowBlock::new(&model.pending.model));
                let allowance = refusals.allowance(&model.pending.model.identity, now);
                if allowance.is_some_and(|rows| block.rows() >= rows) {
                    return false;
                }
                let limit = limits.get_mut(&*model.flow.runtime.tenant);
                if !limit.is_none_or(|limit| limit.admits()) {
                    return false;
                }
                let taken = decode_entry(entry.value, topics)
                    .map_err(Unusable::Entry)
                    .and_then(|row| take_row(&row, &entry, arrived_us, partition, topology, block));
                if let Err(error) = taken {
                    let place = format!("feature log entry {}-{}", entry.partition, entry.offset);
                    unusable.push((*index, error.at(&place)));
                }
                true
            },
        )?;
        for (index, error) in unusable {
            if let Some(model) = self.models.get(index) {
                match error {
                    Unusable::Entry(error) => model.flow.runtime.failed(&error, None, now_ms),
                    Unusable::Row(error) => model.flow.runtime.refused_input(error),
                }
            }
        }
        if !blocks.is_empty() {
            crash_point::reached("detached.rows_read");
        }
        for (index, block) in &blocks {
            if let Some(model) = self.models.get(*index) {
                self.refusals.begin(&model.pending.model.identity, block.rows());
            }
        }
        self.started.pool.push(blocks.into_iter().filter_map(|(index, block)| {
            let flow = &*self.models.get(index)?.flow;
            let rows = block.rows() as u64;
            flow.runtime.detached_rows.fetch_add(rows, Ordering::Relaxed);
            Some((flow, block))
        }));
        Ok(())
    }

    /// Detached models that have run all they were given are done up to where the reader is: entries of others, and those
    /// that no version can run any more, lie in between. Called at a barrier, with the outputs of those runs in it.
    pub(super) fn mark_reached(&mut self) {
        let quiet: Vec<_> = self
            .models
            .iter()
            .filter(|model| model.flow.outstanding() == 0)
            .map(|model| model.pending.model.identity.clone())
            .collect();
        self.gather_results();
        for (number, partition) in &mut self.partitions {
            for model in &quiet {
                let mut mode = partition.mode(model);
                if let Some(next) = self.log_reader.reached(*number, model).filter(|_| mode.is_detached()) {
                    mode.done(next);
                    partition.set_mode(model, mode);
                }
            }
        }
    }

    /// What was committed does not say how far the log goes: after a restart or an abort, to its end.
    pub(super) fn assume_log_ends(&mut self) {
        for (number, partition) in &mut self.partitions {
            let end = self.log_ends.get(number).copied().unwrap_or(0);
            let detached: Vec<_> = partition
                .detached()
                .map(|(model, mode)| (model.clone(), *mode))
                .collect();
            for (model, mut mode) in detached {
                mode.assume_end(end);
                partition.set_mode(&model, mode);
            }
        }
    }
}

/// Why an entry gives no row.
enum Unusable {
    /// it cannot be read
    Entry(String),
    /// it can, and is no row of the version that is served
    Row(String),
}

impl Unusable {
    fn at(self, place: &str) -> Unusable {
        match self {
            Unusable::Entry(error) => Unusable::Entry(format!("{place}: {error}")),
            Unusable::Row(error) => Unusable::Row(format!("{place}: {error}")),
        }
    }
}

/// Appends a row of the feature log to a block of the version that is served, made again if another version has made it.
fn take_row(
    row: &LoggedRow<'_>,
    entry: &Entry<'_>,
    arrived_us: u64,
    partition: Option<&PartitionState>,
    topology: &mut Topology,
    block: &mut RowBlock,
) -> Result<(), Unusable> {
    let own = &block.model.signature;
    let is_own = match row.made_by {
        MadeBy::Version { signature, .. } => signature == own.hash(),
        MadeBy::Floats(names) => Some(names) == own.hash_of_floats(),
    };
    let kept = || partition.and_then(|partition| partition.signatures.of(&block.model.identity, row.made_by));
    let made_for = if is_own { Some(own) } else { kept() };
    let made_for = made_for.cloned().ok_or_else(|| {
        Unusable::Row("it was written for other inputs than the model has now, and which is not recorded".to_owned())
    })?;
    let elements = made_for
        .read_row(row.elements)
        .ok_or_else(|| Unusable::Entry("its features are not those of the inputs it was written for".to_owned()))?;
    topology
        .remakes
        .take_up(&mut topology.topics, row.topic, (&made_for, &elements), block)
        .map_err(|error| match row.made_by {
            MadeBy::Version { version, .. } => {
                Unusable::Row(format!("it was written by version {version}, and {error}"))
            }
            MadeBy::Floats(_) => Unusable::Row(error),
        })?;
    let source = RowSource {
        topic: row.topic,
        partition: entry.partition,
        offset: row.offset,
        event_time_ms: row.event_time_ms,
        arrived_us,
        log_offset: entry.offset,
    };
    block.end_row(source, |out| row.key.map(|key| out.extend_from_slice(key)).is_some());
    Ok(())
}
