//! A compiled model: operators in order over numbered slots, each a table of rows.
//!
//! Floats and integers live in tables of their own; class names are integers that point into a list.

use std::fmt::Debug;

use crate::ModelError;
use crate::ensemble::EnsembleScratch;

/// One table of floats, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floats(pub(crate) usize);

/// One table of integers, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ints(pub(crate) usize);

/// A table of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Floats(Floats),
    Ints(Ints),
}

/// Tables of one run, row-major. Operators leave `rows * width` values in what they write.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    floats: Vec<Vec<f32>>,
    ints: Vec<Vec<i64>>,
    pub(crate) ensemble: EnsembleScratch,
    /// What the general engine keeps per segment and batch size.
    pub(crate) engine: Vec<Vec<Option<crate::segment::State>>>,
    /// A place for results that nobody asked for.
    pub(crate) unused: Vec<i64>,
}

impl Tables {
    pub(crate) fn new(layout: &Layout) -> Tables {
        Tables {
            floats: layout.floats.iter().map(|_| Vec::new()).collect(),
            ints: layout.ints.iter().map(|_| Vec::new()).collect(),
            engine: (0..layout.segments).map(|_| Vec::new()).collect(),
            ..Tables::default()
        }
    }

    pub(crate) fn floats(&self, table: Floats) -> &[f32] {
        self.floats.get(table.0).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn ints(&self, table: Ints) -> &[i64] {
        self.ints.get(table.0).map_or(&[], Vec::as_slice)
    }

    /// Takes a table out to write to it; give it back with [`Tables::put_floats`].
    pub(crate) fn take_floats(&mut self, table: Floats) -> Vec<f32> {
        self.floats.get_mut(table.0).map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn put_floats(&mut self, table: Floats, values: Vec<f32>) {
        if let Some(slot) = self.floats.get_mut(table.0) {
            *slot = values;
        }
    }

    /// Takes a table out to write to it; give it back with [`Tables::put_ints`].
    pub(crate) fn take_ints(&mut self, table: Ints) -> Vec<i64> {
        self.ints.get_mut(table.0).map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn put_ints(&mut self, table: Ints, values: Vec<i64>) {
        if let Some(slot) = self.ints.get_mut(table.0) {
            *slot = values;
        }
    }
}

/// How many tables there are, and how wide.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) floats: Vec<usize>,
    pub(crate) ints: Vec<usize>,
    pub(crate) segments: usize,
}

impl Layout {
    pub(crate) fn add_floats(&mut self, width: usize) -> Floats {
        self.floats.push(width);
        Floats(self.floats.len() - 1)
    }

    pub(crate) fn add_ints(&mut self, width: usize) -> Ints {
        self.ints.push(width);
        Ints(self.ints.len() - 1)
    }

    /// Bytes of all tables for one row.
    pub(crate) fn bytes_per_row(&self) -> usize {
        let floats = self
            .floats
            .iter()
            .fold(0_usize, |sum, width| sum.saturating_add(width.saturating_mul(4)));
        self.ints
            .iter()
            .fold(floats, |sum, width| sum.saturating_add(width.saturating_mul(8)))
    }
}

/// One step of a program.
pub(crate) trait Operator: Debug + Send + Sync {
    /// Reads tables of `rows` rows and writes others.
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError>;

    /// Weights and, for the general engine, activations of every batch size, in bytes.
    fn memory_bytes(&self) -> usize;
}
