//! Runs a model: scratch memory of one thread.

use std::ops::Range;
use std::sync::Arc;

use crate::compile::Program;
use crate::model::contain;
use crate::program::{Slot, Stored, Table, Tables};
use crate::{Model, ModelError, Outputs, Values};

/// Scratch memory to run one model on one thread. Nothing of a run is kept for the next: every run starts from the model's
/// initial state, whatever ran before and however it ended.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    scratch: Scratch,
}

impl Session {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let scratch = Scratch::new(&model.program);
        Session { model, scratch }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Runs some rows. `inputs` has the rows of each model input, in the order of [`Model::inputs`] and of their element
    /// types; `rows` says which of them. Any number of rows: they are cut into compiled batch sizes, and the last batch is
    /// padded. The answer holds until the next run. A panic of the engine is caught and answered as an error; the session
    /// stays usable.
    ///
    /// # Errors
    /// Inputs that are not the model's, or a failure of the run: of all of its rows, though one alone may have caused it.
    pub fn run(&mut self, inputs: &[Values], rows: Range<usize>) -> Result<&Outputs, ModelError> {
        self.check(inputs, &rows)?;
        let program = &self.model.program;
        self.scratch.outputs.clear();
        let mut done = rows.start;
        while done < rows.end {
            let (taken, batch) = next_batch(rows.end - done, &program.batch_sizes, program.fixed);
            self.scratch.run(program, batch, inputs, done..done + taken)?;
            done += taken;
        }
        Ok(&self.scratch.outputs)
    }

    fn check(&self, inputs: &[Values], rows: &Range<usize>) -> Result<(), ModelError> {
        let specs = self.model.inputs();
        if inputs.len() != specs.len() {
            return Err(ModelError::InputCount {
                expected: specs.len(),
                got: inputs.len(),
            });
        }
        for (spec, input) in specs.iter().zip(inputs) {
            if input.element() != spec.element {
                return Err(ModelError::InputElement {
                    input: spec.name.clone(),
                    expected: spec.element,
                    got: input.element(),
                });
            }
            if rows
                .end
                .checked_mul(spec.width())
                .is_none_or(|needed| needed > input.len())
            {
                return Err(ModelError::InputWidth {
                    input: spec.name.clone(),
                    expected: spec.width(),
                    got: input.len() / rows.end.max(1),
                });
            }
        }
        Ok(())
    }
}

/// Tables and results of runs of one program.
#[derive(Debug)]
pub(crate) struct Scratch {
    tables: Tables,
    pub(crate) outputs: Outputs,
}

impl Scratch {
    pub(crate) fn new(program: &Program) -> Scratch {
        Scratch {
            tables: Tables::new(&program.layout),
            outputs: Outputs::new(program),
        }
    }

    /// Runs some rows in one batch of a compiled size and appends their results.
    pub(crate) fn run(
        &mut self,
        program: &Program,
        batch: usize,
        inputs: &[Values],
        rows: Range<usize>,
    ) -> Result<(), ModelError> {
        let taken = rows.len();
        self.fill(program, batch, inputs, rows);
        let tables = &mut self.tables;
        contain("run", || {
            program.steps.iter().try_for_each(|step| step.run(batch, tables))
        })?;
        self.outputs.append(taken, &self.tables);
        Ok(())
    }

    /// Copies rows into the input tables; rows up to `batch` repeat the last one, so that padding cannot make what the rows
    /// do not.
    fn fill(&mut self, program: &Program, batch: usize, inputs: &[Values], rows: Range<usize>) {
        for ((spec, value), input) in program.inputs.iter().zip(inputs) {
            let part = Part {
                width: spec.width(),
                rows: rows.clone(),
                batch,
            };
            match (value.slot, input) {
                (Slot::Floats(table), Values::Float(values)) => {
                    part.copy(values, &mut self.tables, table, |value| value)
                }
                (Slot::Doubles(table), Values::Double(values)) => {
                    part.copy(values, &mut self.tables, table, |value| value);
                }
                (Slot::Ints(table), Values::Int64(values)) => part.copy(values, &mut self.tables, table, |value| value),
                (Slot::Ints(table), Values::Int32(values)) => part.copy(values, &mut self.tables, table, i64::from),
                (Slot::Ints(table), Values::Boolean(values)) => part.copy(values, &mut self.tables, table, i64::from),
                // The session has compared the types.
                _ => {}
            }
        }
    }
}

/// Which rows of an input go into a batch.
struct Part {
    width: usize,
    rows: Range<usize>,
    batch: usize,
}

impl Part {
    fn copy<V: Copy, T: Stored>(&self, values: &[V], tables: &mut Tables, table: Table<T>, convert: impl Fn(V) -> T) {
        let rows = values.get(self.rows.start * self.width..self.rows.end * self.width);
        let rows = rows.unwrap_or_default();
        let last = rows.get(rows.len().saturating_sub(self.width)..).unwrap_or_default();
        let mut out = tables.take(table);
        out.clear();
        out.reserve(self.batch * self.width);
        out.extend(rows.iter().map(|value| convert(*value)));
        for _ in self.rows.len()..self.batch {
            out.extend(last.iter().map(|value| convert(*value)));
        }
        tables.put(table, out);
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
