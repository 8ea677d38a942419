//! Rows of detached models, from the feature log to their flows.

use super::Open;
use crate::detach::decode_entry;
use crate::flow::RowBlock;
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
        let mut unusable: Vec<(usize, String)> = Vec::new();
        let (models, limits, topics) = (&self.models, &mut self.limits, &self.topics);
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
                if let Err(error) =
                    decode_entry(entry.value, (entry.partition, entry.offset), arrived_us, topics, block)
                {
                    unusable.push((
                        *index,
                        format!("feature log entry {}-{}: {error}", entry.partition, entry.offset),
                    ));
                }
                true
            },
        )?;
        for (index, error) in unusable {
            if let Some(model) = self.models.get(index) {
                model.flow.runtime.failed(&error, None, now_ms);
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
