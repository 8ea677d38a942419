//! Results of one run, and how one value of them is named.

/// Names one value per row of an output. Made by [`crate::Model::selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSelector {
    pub(crate) output: usize,
    pub(crate) column: usize,
}

/// One value of an output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutputValue<'a> {
    /// A number; doubles are narrowed.
    Float(f32),
    /// An integer; booleans are 0 and 1.
    Integer(i64),
    /// A class label.
    Text(&'a str),
}

/// Outputs of the last run of a session, one row per input row.
#[derive(Debug, Default)]
pub struct Outputs {
    rows: usize,
}

impl Outputs {
    /// Rows of the run.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The selected value of a row; `None` past the last row.
    pub fn get(&self, _selector: &OutputSelector, _row: usize) -> Option<OutputValue<'_>> {
        None
    }

    /// Whether the selected value of a row is a number that is not NaN and not infinite (text and
    /// integers always are).
    pub fn all_finite(&self, selector: &OutputSelector, row: usize) -> bool {
        match self.get(selector, row) {
            Some(OutputValue::Float(value)) => value.is_finite(),
            Some(_) => true,
            None => false,
        }
    }
}
