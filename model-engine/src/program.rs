//! A compiled model: operators in order over numbered tables of rows.
//!
//! Floats, doubles and integers live in tables of their own; int32 and booleans are integers there, and class names are
//! integers that point into a list.

use std::fmt::Debug;
use std::marker::PhantomData;

use crate::{ElementType, ModelError};

/// One table, by number among those of its type.
#[derive(Debug)]
pub(crate) struct Table<T>(usize, PhantomData<fn() -> T>);

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Table<T> {}

/// A table of any type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    Floats(Table<f32>),
    Doubles(Table<f64>),
    Ints(Table<i64>),
}

/// What tables are of.
pub(crate) trait Stored: Copy + Debug + Send + Sync + 'static {
    fn of(tables: &Tables) -> &[Vec<Self>];
    fn of_mut(tables: &mut Tables) -> &mut [Vec<Self>];
    fn widths(layout: &mut Layout) -> &mut Vec<usize>;
    fn slot(table: Table<Self>) -> Slot;
    /// The table, if it is of this type.
    fn table(slot: Slot) -> Option<Table<Self>>;
}

macro_rules! stored {
    ($($element:ty, $field:ident, $slot:ident;)*) => {$(
        impl Stored for $element {
            fn of(tables: &Tables) -> &[Vec<Self>] {
                &tables.$field
            }

            fn of_mut(tables: &mut Tables) -> &mut [Vec<Self>] {
                &mut tables.$field
            }

            fn widths(layout: &mut Layout) -> &mut Vec<usize> {
                &mut layout.$field
            }

            fn slot(table: Table<Self>) -> Slot {
                Slot::$slot(table)
            }

            fn table(slot: Slot) -> Option<Table<Self>> {
                match slot {
                    Slot::$slot(table) => Some(table),
                    _ => None,
                }
            }
        }
    )*};
}

stored! {
    f32, floats, Floats;
    f64, doubles, Doubles;
    i64, ints, Ints;
}

/// What an ensemble writes to in one run: per row and target the sum so far, and whether a leaf gave one.
#[derive(Debug, Default)]
pub(crate) struct EnsembleScratch<T> {
    pub(crate) sums: Vec<T>,
    pub(crate) given: Vec<bool>,
}

/// What the general engine keeps of a plan between runs.
pub(crate) type EngineState = tract_onnx::tract_core::internal::TypedSimpleState;

/// Tables of one run, row-major. Operators leave `rows * width` values in what they write.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    floats: Vec<Vec<f32>>,
    doubles: Vec<Vec<f64>>,
    ints: Vec<Vec<i64>>,
    pub(crate) ensemble: EnsembleScratch<f32>,
    pub(crate) wide_ensemble: EnsembleScratch<f64>,
    /// What the general engine keeps per segment and batch size: memory, never anything of a run.
    pub(crate) engine: Vec<Vec<Option<EngineState>>>,
    /// A place for results that nobody asked for.
    pub(crate) unused: Vec<i64>,
}

impl Tables {
    pub(crate) fn new(layout: &Layout) -> Tables {
        Tables {
            floats: layout.floats.iter().map(|_| Vec::new()).collect(),
            doubles: layout.doubles.iter().map(|_| Vec::new()).collect(),
            ints: layout.ints.iter().map(|_| Vec::new()).collect(),
            engine: (0..layout.segments).map(|_| Vec::new()).collect(),
            ..Tables::default()
        }
    }

    pub(crate) fn get<T: Stored>(&self, table: Table<T>) -> &[T] {
        T::of(self).get(table.0).map_or(&[], Vec::as_slice)
    }

    /// Takes a table out to write to it; give it back with [`Tables::put`].
    pub(crate) fn take<T: Stored>(&mut self, table: Table<T>) -> Vec<T> {
        T::of_mut(self).get_mut(table.0).map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn put<T: Stored>(&mut self, table: Table<T>, values: Vec<T>) {
        if let Some(slot) = T::of_mut(self).get_mut(table.0) {
            *slot = values;
        }
    }
}

/// How many tables there are, and how wide.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    floats: Vec<usize>,
    doubles: Vec<usize>,
    ints: Vec<usize>,
    pub(crate) segments: usize,
}

impl Layout {
    pub(crate) fn add<T: Stored>(&mut self, width: usize) -> Table<T> {
        let widths = T::widths(self);
        widths.push(width);
        Table(widths.len() - 1, PhantomData)
    }

    /// A table for values of an element type.
    pub(crate) fn slot(&mut self, element: ElementType, width: usize) -> Slot {
        match element {
            ElementType::Float => Slot::Floats(self.add(width)),
            ElementType::Double => Slot::Doubles(self.add(width)),
            ElementType::Int64 | ElementType::Int32 | ElementType::Boolean | ElementType::Text => {
                Slot::Ints(self.add(width))
            }
        }
    }

    /// Bytes of all tables for one row.
    pub(crate) fn bytes_per_row(&self) -> usize {
        let bytes = |widths: &[usize], size: usize| {
            widths
                .iter()
                .fold(0_usize, |sum, width| sum.saturating_add(width.saturating_mul(size)))
        };
        bytes(&self.floats, 4)
            .saturating_add(bytes(&self.doubles, 8))
            .saturating_add(bytes(&self.ints, 8))
    }
}

/// One step of a program.
pub(crate) trait Operator: Debug + Send + Sync {
    /// Reads tables of `rows` rows and writes others.
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError>;

    /// Weights and, for the general engine, activations of every batch size, in bytes.
    fn memory_bytes(&self) -> usize;
}
