//! Tables and results of one thread, of runs of one program.

use std::ops::Range;

use crate::compile::Program;
use crate::error::contain;
use crate::program::{Slot, Stored, Table, Tables};
use crate::{ModelError, Outputs, Values};

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
pub(crate) fn next_batch(left: usize, sizes: &[usize], fixed: bool) -> (usize, usize) {
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
