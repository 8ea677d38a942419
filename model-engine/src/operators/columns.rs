//! Operators that move columns: put side by side, pick, find the largest, convert.

use crate::ModelError;
use crate::program::{Floats, Ints, Operator, Slot, Tables};

use super::dense::largest;

/// Tables side by side.
#[derive(Debug)]
pub(crate) struct Concat {
    /// Each with its width.
    pub(crate) inputs: Vec<(Floats, usize)>,
    pub(crate) output: Floats,
}

impl Operator for Concat {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take_floats(self.output);
        out.clear();
        for row in 0..rows {
            for (input, width) in &self.inputs {
                let from = tables.floats(*input).get(row * width..(row + 1) * width);
                out.extend_from_slice(from.unwrap_or_default());
            }
        }
        tables.put_floats(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Position of the largest value of each row, the first of equals.
#[derive(Debug)]
pub(crate) struct ArgMax {
    pub(crate) input: Floats,
    pub(crate) width: usize,
    pub(crate) output: Ints,
}

impl Operator for ArgMax {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take_ints(self.output);
        out.clear();
        out.extend(tables.floats(self.input).chunks_exact(self.width.max(1)).map(largest));
        tables.put_ints(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

/// Columns of a table, by position.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) input: Floats,
    pub(crate) width: usize,
    pub(crate) columns: Vec<usize>,
    pub(crate) output: Floats,
}

impl Operator for Pick {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take_floats(self.output);
        out.clear();
        for row in tables.floats(self.input).chunks_exact(self.width.max(1)) {
            out.extend(
                self.columns
                    .iter()
                    .map(|&column| row.get(column).copied().unwrap_or(f32::NAN)),
            );
        }
        tables.put_floats(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(self.columns.as_slice())
    }
}

/// What a table of positions is looked up in.
#[derive(Debug)]
pub(crate) enum LookupTable {
    Floats(Vec<f32>, Floats),
    Ints(Vec<i64>, Ints),
}

/// Replaces positions by the values of a constant list.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) input: Ints,
    pub(crate) table: LookupTable,
}

impl Operator for Lookup {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let outside = |position: i64| ModelError::Run {
            reason: format!("position {position} is outside of the list it is looked up in"),
        };
        match &self.table {
            LookupTable::Floats(values, output) => {
                let mut out = tables.take_floats(*output);
                out.clear();
                for &position in tables.ints(self.input) {
                    out.push(*pick(values, position).ok_or_else(|| outside(position))?);
                }
                tables.put_floats(*output, out);
            }
            LookupTable::Ints(values, output) => {
                let mut out = tables.take_ints(*output);
                out.clear();
                for &position in tables.ints(self.input) {
                    out.push(*pick(values, position).ok_or_else(|| outside(position))?);
                }
                tables.put_ints(*output, out);
            }
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        match &self.table {
            LookupTable::Floats(values, _) => size_of_val(values.as_slice()),
            LookupTable::Ints(values, _) => size_of_val(values.as_slice()),
        }
    }
}

fn pick<T>(values: &[T], position: i64) -> Option<&T> {
    values.get(usize::try_from(position).ok()?)
}

/// Between floats and integers; fractions are cut off, as in ONNX's `Cast`.
#[derive(Debug)]
pub(crate) struct Convert {
    pub(crate) input: Slot,
    pub(crate) output: Slot,
    /// The result is 0 or 1.
    pub(crate) to_boolean: bool,
}

impl Operator for Convert {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        match (self.input, self.output) {
            (Slot::Floats(input), Slot::Ints(output)) => {
                let mut out = tables.take_ints(output);
                out.clear();
                let convert = |value: &f32| {
                    if self.to_boolean {
                        i64::from(*value != 0.0)
                    } else {
                        *value as i64
                    }
                };
                out.extend(tables.floats(input).iter().map(convert));
                tables.put_ints(output, out);
            }
            (Slot::Ints(input), Slot::Floats(output)) => {
                let mut out = tables.take_floats(output);
                out.clear();
                out.extend(tables.ints(input).iter().map(|&value| value as f32));
                tables.put_floats(output, out);
            }
            (Slot::Ints(input), Slot::Ints(output)) => {
                let mut out = tables.take_ints(output);
                out.clear();
                let convert = |value: &i64| {
                    if self.to_boolean {
                        i64::from(*value != 0)
                    } else {
                        *value
                    }
                };
                out.extend(tables.ints(input).iter().map(convert));
                tables.put_ints(output, out);
            }
            (Slot::Floats(input), Slot::Floats(output)) => {
                let mut out = tables.take_floats(output);
                out.clear();
                out.extend_from_slice(tables.floats(input));
                tables.put_floats(output, out);
            }
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}
