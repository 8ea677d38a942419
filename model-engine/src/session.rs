//! Runs a model: scratch memory of one thread.

use std::sync::Arc;

use crate::model::contain;
use crate::program::{Slot, Tables};
use crate::{ElementType, Model, ModelError, Outputs};

/// Scratch memory to run one model on one thread.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    tables: Tables,
    outputs: Outputs,
}

impl Session {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let tables = Tables::new(&model.program.layout);
        let outputs = Outputs::new(&model.program);
        Session { model, tables, outputs }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Runs `rows` rows. `inputs` has one row-major slice `[rows, width]` per model input, in the
    /// order of [`Model::inputs`]; values are converted where an input is not of floats. Any number
    /// of rows: they are cut into compiled batch sizes, and the last batch is padded. The answer
    /// holds until the next run. A panic of the engine is caught and answered as an error; the
    /// session stays usable.
    pub fn run(&mut self, rows: usize, inputs: &[&[f32]]) -> Result<&Outputs, ModelError> {
        self.check(rows, inputs)?;
        self.outputs.clear();
        let mut done = 0;
        while done < rows {
            let (taken, batch) = next_batch(rows - done, self.model.batch_sizes(), self.model.program.fixed);
            self.fill(done, taken, batch, inputs);
            let (model, tables) = (&self.model, &mut self.tables);
            contain("run", || {
                model.program.steps.iter().try_for_each(|step| step.run(batch, tables))
            })?;
            self.outputs.append(taken, &self.tables);
            done += taken;
        }
        Ok(&self.outputs)
    }

    fn check(&self, rows: usize, inputs: &[&[f32]]) -> Result<(), ModelError> {
        let specs = self.model.inputs();
        if inputs.len() != specs.len() {
            return Err(ModelError::InputCount {
                expected: specs.len(),
                got: inputs.len(),
            });
        }
        for (spec, input) in specs.iter().zip(inputs) {
            if rows.checked_mul(spec.width()) != Some(input.len()) {
                return Err(ModelError::InputWidth {
                    input: spec.name.clone(),
                    expected: spec.width(),
                    got: input.len() / rows.max(1),
                });
            }
        }
        Ok(())
    }

    /// Copies `taken` rows from row `start` on into the input tables; rows up to `batch` repeat the
    /// last one, so that padding cannot make what the rows do not.
    fn fill(&mut self, start: usize, taken: usize, batch: usize, inputs: &[&[f32]]) {
        for ((spec, value), input) in self.model.program.inputs.iter().zip(inputs) {
            let width = spec.width();
            let rows = input.get(start * width..(start + taken) * width).unwrap_or_default();
            let last = rows.get(rows.len().saturating_sub(width)..).unwrap_or_default();
            let padding = std::iter::repeat_n(last, batch - taken);
            match value.slot {
                Slot::Floats(table) => {
                    let mut values = self.tables.take_floats(table);
                    values.clear();
                    values.extend_from_slice(rows);
                    padding.for_each(|row| values.extend_from_slice(row));
                    self.tables.put_floats(table, values);
                }
                Slot::Ints(table) => {
                    let mut values = self.tables.take_ints(table);
                    values.clear();
                    let convert = |value: &f32| match spec.element {
                        ElementType::Boolean => i64::from(*value != 0.0),
                        _ => *value as i64,
                    };
                    values.extend(rows.iter().map(convert));
                    padding.for_each(|row| values.extend(row.iter().map(convert)));
                    self.tables.put_ints(table, values);
                }
            }
        }
    }
}

/// How many of the `left` rows go into the next batch, and its compiled size. Where steps take any
/// number of rows, a batch is never padded. Otherwise the largest size that is filled, or the next
/// larger one if that is at least half full.
fn next_batch(left: usize, sizes: &[usize], fixed: bool) -> (usize, usize) {
    let largest = sizes.last().copied().unwrap_or(1);
    if !fixed {
        let taken = left.min(largest);
        return (taken, taken);
    }
    if left >= largest {
        return (largest, largest);
    }
    let filled = sizes.iter().rev().copied().find(|size| *size <= left);
    let padded = sizes.iter().copied().find(|size| *size >= left).unwrap_or(largest);
    match filled {
        Some(size) if left * 2 < padded => (size, size),
        _ => (left, padded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_filled_or_at_least_half_full() {
        let cut = |rows: usize, sizes: &[usize], fixed| {
            let (mut left, mut batches) = (rows, Vec::new());
            while left > 0 {
                let (taken, batch) = next_batch(left, sizes, fixed);
                assert!(taken <= batch && taken > 0);
                batches.push((taken, batch));
                left -= taken;
            }
            batches
        };
        assert_eq!(cut(65, &[1, 8, 64], true), [(64, 64), (1, 1)]);
        assert_eq!(cut(3, &[1, 8, 64], true), [(1, 1), (1, 1), (1, 1)]);
        assert_eq!(cut(5, &[1, 8, 64], true), [(5, 8)]);
        assert_eq!(cut(40, &[1, 8, 64], true), [(40, 64)]);
        assert_eq!(cut(9, &[1, 8, 64], true), [(8, 8), (1, 1)]);
        assert_eq!(cut(3, &[16], true), [(3, 16)]);
        assert_eq!(cut(70, &[1, 8, 64], false), [(64, 64), (6, 6)]);
    }
}
