//! ONNX's `Cast` between the types of tables.

use crate::ModelError;
use crate::program::{Operator, Slot, Table, Tables};

/// What integers a conversion to integers makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integers {
    /// Fractions are cut off.
    Whole,
    /// 0 for 0, 1 for everything else, NaN too.
    Boolean,
}

/// From one table to another of the same width. A double becomes the nearest float, an integer the nearest number that a
/// float or double can be: the model asks for it.
#[derive(Debug)]
pub(crate) struct Convert {
    pub(crate) input: Slot,
    pub(crate) output: Slot,
    pub(crate) integers: Integers,
}

impl Operator for Convert {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        match (self.output, self.integers) {
            (Slot::Floats(output), _) => match self.input {
                Slot::Floats(input) => map(tables, input, output, |value| value),
                Slot::Doubles(input) => map(tables, input, output, |value| value as f32),
                Slot::Ints(input) => map(tables, input, output, |value| value as f32),
            },
            (Slot::Doubles(output), _) => match self.input {
                Slot::Floats(input) => map(tables, input, output, f64::from),
                Slot::Doubles(input) => map(tables, input, output, |value| value),
                Slot::Ints(input) => map(tables, input, output, |value| value as f64),
            },
            (Slot::Ints(output), Integers::Whole) => match self.input {
                Slot::Floats(input) => map(tables, input, output, |value| value as i64),
                Slot::Doubles(input) => map(tables, input, output, |value| value as i64),
                Slot::Ints(input) => map(tables, input, output, |value| value),
            },
            (Slot::Ints(output), Integers::Boolean) => match self.input {
                Slot::Floats(input) => map(tables, input, output, |value| i64::from(value != 0.0)),
                Slot::Doubles(input) => map(tables, input, output, |value| i64::from(value != 0.0)),
                Slot::Ints(input) => map(tables, input, output, |value| i64::from(value != 0)),
            },
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

fn map<A, B>(tables: &mut Tables, input: Table<A>, output: Table<B>, convert: impl Fn(A) -> B)
where
    A: crate::program::Stored,
    B: crate::program::Stored,
{
    let mut out = tables.take(output);
    out.clear();
    out.extend(tables.get(input).iter().map(|value| convert(*value)));
    tables.put(output, out);
}
