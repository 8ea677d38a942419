//! The queue of one flow: the rows of one model in one task, in order, at most one batch of them running.

use super::rows::RowBlock;
use crate::trigger::{BatchTrigger, Due};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A batch taken to run: rows of one block.
#[derive(Clone, Debug)]
pub struct Batch {
    /// the block
    pub block: Arc<RowBlock>,
    /// which of its rows
    pub rows: Range<usize>,
    /// the queue's epoch when it was taken; an older one means that the rows have been taken back since
    pub epoch: u64,
    /// smoothed CPU microseconds of a row; none before the first run
    pub row_us: Option<f64>,
}

/// The queue.
#[derive(Debug)]
pub struct FlowQueue {
    trigger: BatchTrigger,
    blocks: VecDeque<Arc<RowBlock>>,
    /// rows of the first block that have run or run now
    taken: usize,
    rows: usize,
    bytes: usize,
    running: Option<Batch>,
    epoch: u64,
    /// a barrier wants everything to run
    closing: bool,
    /// smoothed CPU microseconds of a row; none before the first run
    row_us: Option<f64>,
}

/// A block grows up to so many rows by what comes after it.
const BLOCK_ROWS: usize = 4096;

impl FlowQueue {
    /// An empty queue.
    pub fn new(trigger: BatchTrigger) -> FlowQueue {
        FlowQueue {
            trigger,
            blocks: VecDeque::new(),
            taken: 0,
            rows: 0,
            bytes: 0,
            running: None,
            epoch: 0,
            closing: false,
            row_us: None,
        }
    }

    /// Changes the trigger.
    pub fn set_trigger(&mut self, trigger: BatchTrigger) {
        self.trigger = trigger;
    }

    /// Appends rows.
    pub fn push(&mut self, block: RowBlock) {
        if block.rows() == 0 {
            return;
        }
        self.rows += block.rows();
        self.bytes += block.bytes();
        if let Some(last) = self.blocks.back_mut().and_then(Arc::get_mut)
            && last.rows() + block.rows() <= BLOCK_ROWS
            && Arc::ptr_eq(&last.model, &block.model)
        {
            last.append(block);
        } else {
            self.blocks.push_back(Arc::new(block));
        }
    }

    /// Rows that wait, not counting those that run.
    pub fn waiting(&self) -> usize {
        self.rows
    }

    /// Rows that wait or run.
    pub fn outstanding(&self) -> usize {
        self.rows + self.running.as_ref().map_or(0, |batch| batch.rows.len())
    }

    /// Bytes of the rows that wait, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a batch runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Lets everything run without waiting for full batches, or not.
    pub fn set_closing(&mut self, closing: bool) {
        self.closing = closing;
    }

    /// What the trigger says.
    pub fn due(&self, now_us: u64) -> Due {
        let oldest = self.blocks.front().and_then(|block| block.metas.get(self.taken));
        match oldest {
            Some(oldest) => self.trigger.due(self.rows, oldest.arrived_us, now_us, self.closing),
            None => Due::Never,
        }
    }

    /// Takes the batch that fits a budget of CPU microseconds; at least one row, and none while another batch runs.
    pub fn take(&mut self, budget_us: f64, now_us: u64) -> Option<Batch> {
        if self.running.is_some() {
            return None;
        }
        let Due::Now(due) = self.due(now_us) else { return None };
        let block = self.blocks.front()?.clone();
        let affordable = match self.row_us {
            Some(row_us) if row_us > 0.0 => (budget_us / row_us).clamp(1.0, 1e9) as usize,
            Some(_) => due,
            // Nothing is known of a new model: a few rows tell.
            None => 8,
        };
        let count = due.min(affordable).min(block.rows() - self.taken);
        let batch = Batch {
            rows: self.taken..self.taken + count,
            epoch: self.epoch,
            row_us: self.row_us,
            block,
        };
        self.rows -= count;
        self.taken += count;
        let all_taken = self.taken >= batch.block.rows();
        if all_taken {
            self.taken = 0;
            self.blocks.pop_front();
            self.bytes = self.blocks.iter().map(|block| block.bytes()).sum();
        }
        self.running = Some(batch.clone());
        Some(batch)
    }

    /// The running batch has ended at a measured cost. False: its rows have been taken back meanwhile, and its results
    /// are void.
    pub fn finish(&mut self, batch: &Batch, spent_us: f64) -> bool {
        if batch.epoch != self.epoch {
            return false;
        }
        self.running = None;
        let row_us = spent_us / batch.rows.len().max(1) as f64;
        self.row_us = Some(self.row_us.map_or(row_us, |before| before * 0.8 + row_us * 0.2));
        true
    }

    /// Takes every row back that has not finished, the running ones first.
    pub fn take_back(&mut self) -> Vec<RowBlock> {
        let mut back = Vec::new();
        self.epoch += 1;
        self.closing = false;
        let mut skip = self.taken;
        if let Some(batch) = self.running.take() {
            let same = self
                .blocks
                .front()
                .is_some_and(|first| Arc::ptr_eq(first, &batch.block));
            if same {
                skip = batch.rows.start;
            } else {
                back.push(batch.block.tail(batch.rows.start));
            }
        }
        for (index, block) in std::mem::take(&mut self.blocks).into_iter().enumerate() {
            let first = if index == 0 { skip } else { 0 };
            let tail = if first == 0 {
                Arc::unwrap_or_clone(block)
            } else {
                block.tail(first)
            };
            if tail.rows() > 0 {
                back.push(tail);
            }
        }
        (self.taken, self.rows, self.bytes) = (0, 0, 0);
        back
    }

    /// Smoothed CPU microseconds of a row.
    pub fn row_us(&self) -> Option<f64> {
        self.row_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::rows::RowSource;
    use crate::models::tests::a_model;
    use model_engine::Values;
    use proptest::prelude::*;

    fn block(model: &Arc<crate::models::ServedModel>, offsets: std::ops::Range<i64>) -> RowBlock {
        let mut block = RowBlock::new(model);
        for offset in offsets {
            for (input, width) in block.inputs.iter_mut().zip(model.widths()) {
                input.extend_from(&Values::Float(vec![offset as f32; *width]), 0..*width);
            }
            let source = RowSource {
                topic: 0,
                partition: 0,
                offset,
                event_time_ms: 0,
                arrived_us: 0,
                log_offset: -1,
            };
            block.end_row(source, |key| {
                key.extend_from_slice(&offset.to_be_bytes());
                offset % 3 != 0
            });
        }
        block
    }

    fn check(block: &RowBlock, row: usize, offset: i64) {
        let meta = &block.metas[row];
        assert_eq!(meta.offset, offset);
        assert!(block.features(row).all(|(values, part)| {
            let mut features = Values::new(values.element());
            features.extend_from(values, part.clone());
            features == Values::Float(vec![offset as f32; part.len()]) && !part.is_empty()
        }));
        assert_eq!(
            block.key(meta),
            (offset % 3 != 0)
                .then(|| offset.to_be_bytes())
                .as_ref()
                .map(|key| &key[..])
        );
    }

    proptest! {
        /// Whatever is pushed, run and taken back, each row comes out once and in order, with its own features and key.
        #[test]
        fn rows_come_out_once_and_in_order(steps in prop::collection::vec((0u8..4, 0i64..20), 1..60)) {
            let model = a_model();
            let mut queue = FlowQueue::new(BatchTrigger::EACH);
            let (mut pushed, mut expected) = (0i64, 0i64);
            let mut running: Option<Batch> = None;
            for (action, count) in steps {
                match action {
                    0 | 1 => { queue.push(block(&model, pushed..pushed + count)); pushed += count; }
                    2 => match running.take() {
                        None => running = queue.take(count as f64, 0),
                        Some(batch) => {
                            prop_assert!(queue.take(1.0, 0).is_none());
                            for row in batch.rows.clone() { check(&batch.block, row, expected); expected += 1; }
                            prop_assert!(queue.finish(&batch, 10.0));
                        }
                    },
                    _ => {
                        for block in queue.take_back() {
                            for row in 0..block.rows() { check(&block, row, expected); expected += 1; }
                        }
                        prop_assert_eq!(expected, pushed);
                        if let Some(batch) = running.take() { prop_assert!(!queue.finish(&batch, 1.0)); }
                    }
                }
                prop_assert_eq!(queue.outstanding() as i64, pushed - expected);
            }
        }
    }
}
