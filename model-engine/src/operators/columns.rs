//! Operators that move columns: put side by side, pick, find the largest, look up.

use crate::ModelError;
use crate::program::{Operator, Stored, Table, Tables};
use crate::real::Real;

use super::dense::largest;

/// Tables side by side.
#[derive(Debug)]
pub(crate) struct Concat<T> {
    /// Each with its width.
    pub(crate) inputs: Vec<(Table<T>, usize)>,
    pub(crate) output: Table<T>,
}

impl<T: Stored> Operator for Concat<T> {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take(self.output);
        out.clear();
        for row in 0..rows {
            for (input, width) in &self.inputs {
                let from = tables.get(*input).get(row * width..(row + 1) * width);
                out.extend_from_slice(from.unwrap_or_default());
            }
        }
        tables.put(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Position of the largest value of each row, the first of equals.
#[derive(Debug)]
pub(crate) struct ArgMax<T> {
    pub(crate) input: Table<T>,
    pub(crate) width: usize,
    pub(crate) output: Table<i64>,
}

impl<T: Real> Operator for ArgMax<T> {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take(self.output);
        out.clear();
        out.extend(tables.get(self.input).chunks_exact(self.width.max(1)).map(largest));
        tables.put(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Columns of a table, by positions below its width.
#[derive(Debug)]
pub(crate) struct Pick<T> {
    pub(crate) input: Table<T>,
    pub(crate) width: usize,
    pub(crate) columns: Vec<usize>,
    pub(crate) output: Table<T>,
}

impl<T: Stored> Operator for Pick<T> {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take(self.output);
        out.clear();
        for row in tables.get(self.input).chunks_exact(self.width.max(1)) {
            out.extend(self.columns.iter().filter_map(|&column| row.get(column)));
        }
        tables.put(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(self.columns.as_slice())
    }
}

/// Replaces positions by the values of a constant list.
#[derive(Debug)]
pub(crate) struct Lookup<T> {
    pub(crate) input: Table<i64>,
    pub(crate) list: Vec<T>,
    pub(crate) output: Table<T>,
}

impl<T: Stored> Operator for Lookup<T> {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take(self.output);
        out.clear();
        for &position in tables.get(self.input) {
            let found = usize::try_from(position).ok().and_then(|at| self.list.get(at));
            out.push(*found.ok_or_else(|| ModelError::Run {
                reason: format!("position {position} is outside of the list it is looked up in"),
            })?);
        }
        tables.put(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(self.list.as_slice())
    }
}
