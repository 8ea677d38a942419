//! Rows on their way from a task to an executor, a block at a time: features contiguous, what belongs to a row beside.

use crate::models::ServedModel;
use model_engine::Values;
use std::ops::Range;
use std::sync::Arc;

/// What belongs to one row beside its features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowMeta {
    /// input topic, as the task numbers them
    pub topic: u16,
    /// input partition
    pub partition: i32,
    /// input offset
    pub offset: i64,
    /// event time, in milliseconds
    pub event_time_ms: i64,
    /// when the task took the event, in microseconds of the worker's clock
    pub arrived_us: u64,
    /// offset in the feature log, for rows that come from there; -1 for others
    pub log_offset: i64,
    /// where the output record's key is in [`RowBlock::keys`]; `u32::MAX` for no key
    key_start: u32,
    key_end: u32,
}

/// Where a row comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct RowSource {
    /// input topic, as the task numbers them
    pub topic: u16,
    /// input partition
    pub partition: i32,
    /// input offset
    pub offset: i64,
    /// event time, in milliseconds
    pub event_time_ms: i64,
    /// when the task took the event, in microseconds of the worker's clock
    pub arrived_us: u64,
    /// offset in the feature log; -1 for none
    pub log_offset: i64,
}

/// Rows of one version of a model, in the order of their events: all have its inputs, and it runs them.
#[derive(Clone, Debug)]
pub struct RowBlock {
    /// the version that they are for
    pub model: Arc<ServedModel>,
    /// per model input, row-major `[rows, width]`, in the type of its elements
    pub inputs: Vec<Values>,
    /// one per row
    pub metas: Vec<RowMeta>,
    /// output keys, one after the other
    pub keys: Vec<u8>,
}

impl RowBlock {
    /// No rows.
    pub fn new(model: &Arc<ServedModel>) -> RowBlock {
        RowBlock {
            inputs: model.signature.empty(),
            model: model.clone(),
            metas: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.metas.len()
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        self.inputs.iter().map(Values::bytes).sum::<usize>()
            + self.metas.len() * std::mem::size_of::<RowMeta>()
            + self.keys.len()
    }

    /// Ends a row whose features have been appended to the inputs. `key` writes the output key and says whether there
    /// is one.
    pub fn end_row(&mut self, source: RowSource, key: impl FnOnce(&mut Vec<u8>) -> bool) {
        let start = self.keys.len();
        let has_key = key(&mut self.keys);
        let (key_start, key_end) = match (has_key, u32::try_from(start), u32::try_from(self.keys.len())) {
            (true, Ok(start), Ok(end)) => (start, end),
            _ => (u32::MAX, u32::MAX),
        };
        self.metas.push(RowMeta {
            topic: source.topic,
            partition: source.partition,
            offset: source.offset,
            event_time_ms: source.event_time_ms,
            arrived_us: source.arrived_us,
            log_offset: source.log_offset,
            key_start,
            key_end,
        });
    }

    /// The output key of a row.
    pub fn key(&self, meta: &RowMeta) -> Option<&[u8]> {
        if meta.key_start == u32::MAX {
            return None;
        }
        self.keys.get(meta.key_start as usize..meta.key_end as usize)
    }

    /// Where the features of a row are: of each model input the part that is the row's.
    pub fn features(&self, row: usize) -> impl Iterator<Item = (&Values, Range<usize>)> {
        let inputs = self.inputs.iter().zip(self.model.widths());
        inputs.map(move |(input, width)| (input, row * width..(row + 1) * width))
    }

    /// Appends the inputs of one row, which must be the model's.
    pub fn push_inputs(&mut self, row: &[Values]) {
        for (input, values) in self.inputs.iter_mut().zip(row) {
            input.extend_from(values, 0..values.len());
        }
    }

    /// Appends all rows of another block of the same model version.
    pub fn append(&mut self, mut other: RowBlock) {
        let shift = u32::try_from(self.keys.len()).unwrap_or(u32::MAX - 1);
        self.push_inputs(&other.inputs);
        self.keys.append(&mut other.keys);
        self.metas.extend(other.metas.into_iter().map(|mut meta| {
            if meta.key_start != u32::MAX {
                meta.key_start = meta.key_start.saturating_add(shift);
                meta.key_end = meta.key_end.saturating_add(shift);
            }
            meta
        }));
    }

    /// The rows from `first` on, as a block of their own.
    pub fn tail(&self, first: usize) -> RowBlock {
        self.part(first..self.rows())
    }

    /// One row, as a block of its own.
    pub fn only(&self, row: usize) -> RowBlock {
        self.part(row..row + 1)
    }

    fn part(&self, rows: Range<usize>) -> RowBlock {
        let mut tail = RowBlock::new(&self.model);
        for row in rows {
            for ((values, part), input) in self.features(row).zip(&mut tail.inputs) {
                input.extend_from(values, part);
            }
            if let Some(meta) = self.metas.get(row) {
                let source = RowSource {
                    topic: meta.topic,
                    partition: meta.partition,
                    offset: meta.offset,
                    event_time_ms: meta.event_time_ms,
                    arrived_us: meta.arrived_us,
                    log_offset: meta.log_offset,
                };
                let key = self.key(meta);
                tail.end_row(source, |out| key.map(|key| out.extend_from_slice(key)).is_some());
            }
        }
        tail
    }
}
