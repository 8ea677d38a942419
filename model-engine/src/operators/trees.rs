//! Tree ensembles as a step.

use crate::ModelError;
use crate::ensemble::Ensemble;
use crate::program::{Floats, Ints, Operator, Tables};

/// An ensemble over a table of features.
#[derive(Debug)]
pub(crate) struct Trees {
    pub(crate) ensemble: Ensemble,
    pub(crate) input: Floats,
    pub(crate) width: usize,
    pub(crate) label: Option<Ints>,
    pub(crate) scores: Floats,
}

impl Operator for Trees {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut scores = tables.take_floats(self.scores);
        let mut labels = match self.label {
            Some(label) => tables.take_ints(label),
            None => std::mem::take(&mut tables.unused),
        };
        let mut scratch = std::mem::take(&mut tables.ensemble);
        let features = tables.floats(self.input);
        self.ensemble
            .run(rows, self.width, features, &mut scratch, &mut scores, &mut labels);
        tables.ensemble = scratch;
        tables.put_floats(self.scores, scores);
        match self.label {
            Some(label) => tables.put_ints(label, labels),
            None => tables.unused = labels,
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.ensemble.memory_bytes()
    }
}
