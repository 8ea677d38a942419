//! Tree ensembles as a step.

use crate::ModelError;
use crate::ensemble::Ensemble;
use crate::program::{EnsembleScratch, Operator, Table, Tables};
use crate::real::Real;

/// A number type that an ensemble runs in: its scratch memory.
pub(crate) trait Walked: Real {
    fn scratch(tables: &mut Tables) -> &mut EnsembleScratch<Self>;
}

impl Walked for f32 {
    fn scratch(tables: &mut Tables) -> &mut EnsembleScratch<f32> {
        &mut tables.ensemble
    }
}

impl Walked for f64 {
    fn scratch(tables: &mut Tables) -> &mut EnsembleScratch<f64> {
        &mut tables.wide_ensemble
    }
}

/// An ensemble over a table of features.
#[derive(Debug)]
pub(crate) struct Trees<T> {
    pub(crate) ensemble: Ensemble<T>,
    pub(crate) input: Table<T>,
    pub(crate) width: usize,
    pub(crate) label: Option<Table<i64>>,
    pub(crate) scores: Table<T>,
}

impl<T: Walked> Operator for Trees<T> {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut scores = tables.take(self.scores);
        let mut labels = match self.label {
            Some(label) => tables.take(label),
            None => std::mem::take(&mut tables.unused),
        };
        let mut scratch = std::mem::take(T::scratch(tables));
        let features = tables.get(self.input);
        self.ensemble
            .run(rows, self.width, features, &mut scratch, &mut scores, &mut labels);
        *T::scratch(tables) = scratch;
        tables.put(self.scores, scores);
        match self.label {
            Some(label) => tables.put(label, labels),
            None => tables.unused = labels,
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.ensemble.memory_bytes()
    }
}
