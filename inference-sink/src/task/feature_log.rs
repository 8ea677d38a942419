//! Rows of detached models, from the feature log to their flows.

use super::Open;
use crate::detach::decode_entry;
use crate::flow::RowBlock;
use connect_api::error::ConnectError;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Rows of a detached model that may wait in its flow.
const WAITING_ROWS: usize = 8_192;

impl Open {
    /// Reads what detached models can take now.
    pub(super) fn read_feature_log(&mut self) -> Result<(), ConnectError> {
        let detached: Vec<_> = self
            .partitions
            .iter()
            .flat_map(|(number, partition)| partition.detached().map(|(model, mode)| (*number, model.clone(), *mode)))
            .collect();
        if detached.is_empty() {
            return Ok(());
        }
        let now_ms = crate::clock::wall_ms();
        let arrived_us = self.started.pool.now_us();
        let ready: BTreeMap<String, usize> = self
            .models
            .iter()
            .enumerate()
            .filter(|(_, model)| {
                !self.is_held_back(&model.pending.model.identity)
                    && model.flow.runtime.allows(now_ms)
                    && model.flow.waiting().0 < WAITING_ROWS
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
        let mut skipped: Vec<(i32, usize, i64)> = Vec::new();
        self.log_reader.poll(&detached, |model| ready.contains_key(model), |entry| {
            let Some(index) = ready.get(entry.model) else { return false };
            let Some(model) = models.get(*index) else { return false };
            let limit = limits.get_mut(&*model.flow.runtime.tenant);
            if !limit.is_none_or(|limit| limit.admits()) {
                return false;
            }
            let block = blocks.entry(*index).or_insert_with(|| RowBlock::new(&model.pending.model));
            if let Err(error) = decode_entry(entry.value, (entry.partition, entry.offset), arrived_us, topics, block) {
                unusable.push((*index, format!("feature log entry {}-{}: {error}", entry.partition, entry.offset)));
                skipped.push((entry.partition, *index, entry.offset + 1));
            }
            true
        })?;
        for (index, error) in unusable {
            if let Some(model) = self.models.get(index) {
                model.flow.runtime.failed(&error, now_ms);
            }
        }
        for (index, block) in blocks {
            if let Some(model) = self.models.get(index) {
                model.flow.runtime.detached_rows.fetch_add(block.rows() as u64, Ordering::Relaxed);
                self.started.pool.push(&model.flow, block);
            }
        }
        self.passed_over.append(&mut skipped);
        self.pass_over();
        Ok(())
    }

    /// Entries that no version can run any more count as done, once what is before them is.
    fn pass_over(&mut self) {
        for (number, index, next) in std::mem::take(&mut self.passed_over) {
            let Some(model) = self.models.get(index) else { continue };
            if model.flow.outstanding() > 0 {
                self.passed_over.push((number, index, next));
                continue;
            }
            let identity = model.pending.model.identity.clone();
            if let Some(partition) = self.partitions.get_mut(&number) {
                let mut mode = partition.mode(&identity);
                mode.done(next);
                partition.set_mode(&identity, mode);
                self.changed = true;
            }
        }
    }
}
