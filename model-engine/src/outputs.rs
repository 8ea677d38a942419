//! Results of one run, and how one value of them is named.

use std::ops::Range;
use std::sync::Arc;

use crate::ElementType;
use crate::compile::Program;
use crate::program::{Slot, Tables};

/// Names one value per row of an output. Made by [`crate::Model::selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSelector {
    pub(crate) output: usize,
    pub(crate) column: usize,
    pub(crate) element: ElementType,
}

/// One value of an output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutputValue<'a> {
    /// A number of a float output.
    Float(f32),
    /// A number of a double output.
    Double(f64),
    /// An integer; booleans are 0 and 1.
    Integer(i64),
    /// A class label.
    Text(&'a str),
}

/// Outputs of the last run of a session, one row per input row.
#[derive(Debug)]
pub struct Outputs {
    rows: usize,
    columns: Vec<Output>,
}

#[derive(Debug)]
struct Output {
    slot: Slot,
    width: usize,
    texts: Option<Arc<Vec<String>>>,
    floats: Vec<f32>,
    doubles: Vec<f64>,
    ints: Vec<i64>,
}

impl Outputs {
    pub(crate) fn new(program: &Program) -> Outputs {
        let output = |value: &crate::compile::Value| Output {
            slot: value.slot,
            width: value.width(),
            texts: value.texts.clone(),
            floats: Vec::new(),
            doubles: Vec::new(),
            ints: Vec::new(),
        };
        Outputs {
            rows: 0,
            columns: program.outputs.iter().map(|(_, value)| output(value)).collect(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.rows = 0;
        for output in &mut self.columns {
            output.floats.clear();
            output.doubles.clear();
            output.ints.clear();
        }
    }

    /// Appends the first `rows` rows of a batch that has just run.
    pub(crate) fn append(&mut self, rows: usize, tables: &Tables) {
        for output in &mut self.columns {
            let values = rows * output.width;
            match output.slot {
                Slot::Floats(table) => copy(tables.get(table), values, &mut output.floats),
                Slot::Doubles(table) => copy(tables.get(table), values, &mut output.doubles),
                Slot::Ints(table) => copy(tables.get(table), values, &mut output.ints),
            }
        }
        self.rows += rows;
    }

    /// All values of a row as doubles, output after output.
    pub(crate) fn numbers(&self, row: usize) -> Vec<f64> {
        let mut numbers = Vec::new();
        for output in &self.columns {
            let columns = row * output.width..(row + 1) * output.width;
            match output.slot {
                Slot::Floats(_) => numbers.extend(part(&output.floats, columns).iter().map(|value| f64::from(*value))),
                Slot::Doubles(_) => numbers.extend_from_slice(part(&output.doubles, columns)),
                Slot::Ints(_) => numbers.extend(part(&output.ints, columns).iter().map(|value| *value as f64)),
            }
        }
        numbers
    }

    /// Rows of the run.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The selected value of a row; `None` past the last row.
    #[inline]
    pub fn get(&self, selector: &OutputSelector, row: usize) -> Option<OutputValue<'_>> {
        let output = self.columns.get(selector.output)?;
        let place = row.checked_mul(output.width)?.checked_add(selector.column)?;
        match output.slot {
            Slot::Floats(_) => output.floats.get(place).map(|value| OutputValue::Float(*value)),
            Slot::Doubles(_) => output.doubles.get(place).map(|value| OutputValue::Double(*value)),
            Slot::Ints(_) => {
                let value = *output.ints.get(place)?;
                match &output.texts {
                    Some(texts) => texts
                        .get(usize::try_from(value).ok()?)
                        .map(|text| OutputValue::Text(text)),
                    None => Some(OutputValue::Integer(value)),
                }
            }
        }
    }

    /// Whether the selected value of a row is a number that is not NaN and not infinite (text and
    /// integers always are).
    pub fn all_finite(&self, selector: &OutputSelector, row: usize) -> bool {
        match self.get(selector, row) {
            Some(OutputValue::Float(value)) => value.is_finite(),
            Some(OutputValue::Double(value)) => value.is_finite(),
            Some(_) => true,
            None => false,
        }
    }
}

fn part<T>(values: &[T], columns: Range<usize>) -> &[T] {
    values.get(columns).unwrap_or_default()
}

fn copy<T: Copy>(from: &[T], count: usize, to: &mut Vec<T>) {
    to.extend_from_slice(from.get(..count).unwrap_or_default());
}
