//! Tree ensembles: a flat walk over arrays.
//!
//! ```text
//! node attributes -> [attributes] one list of nodes -> [flatten] 16-byte nodes, one compare mode
//!                 -> [walk] eight lanes at a time -> [score] aggregate, base values, post transform
//! ```
//! Operators: <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html>,
//! `TreeEnsembleRegressor`, `TreeEnsemble` (operator set 5). Where the pages are silent (two classes
//! with weights for one), ONNX Runtime is followed.

mod attributes;
mod flatten;
#[cfg(test)]
mod oracle;
mod score;
mod walk;

use crate::ModelError;
use crate::onnx::pb;
use crate::program::EnsembleScratch;
use crate::real::Real;

pub(crate) use attributes::ClassLabels;
pub(crate) use score::{PostTransform, logistic};

/// A loaded ensemble with its scoring rules. As in ONNX Runtime, the type of the features is the one that they are compared
/// and summed up in.
#[derive(Debug)]
pub(crate) struct Ensemble<T> {
    forest: flatten::Forest<T>,
    rules: score::Rules<T>,
}

impl<T: Real> Ensemble<T> {
    /// Reads one of the three operators.
    pub(crate) fn parse(node: &pb::NodeProto) -> Result<Ensemble<T>, ModelError> {
        let description = attributes::parse(node)?;
        let rules = score::Rules::new(node, &description)?;
        let forest = flatten::flatten(node, &description)?;
        Ok(Ensemble { forest, rules })
    }

    /// The class labels of a classifier.
    pub(crate) fn labels(&self) -> Option<&ClassLabels> {
        self.rules.labels()
    }

    /// Scores per row.
    pub(crate) fn score_width(&self) -> usize {
        self.rules.width()
    }

    /// Features per row that the nodes look at, at the least.
    pub(crate) fn min_features(&self) -> usize {
        self.forest.min_features
    }

    /// Size of the nodes and leaves, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.forest.memory_bytes()
    }

    /// Scores `[rows, width]` into `scores`, and per row the index of the class in `labels` (an
    /// empty slice for a regressor). `features` is `[rows, width]`, `width >= min_features`.
    pub(crate) fn run(
        &self,
        rows: usize,
        width: usize,
        features: &[T],
        scratch: &mut EnsembleScratch<T>,
        scores: &mut Vec<T>,
        labels: &mut Vec<i64>,
    ) {
        scratch.sums.clear();
        scratch.sums.resize(rows * self.forest.targets, T::ZERO);
        scratch.given.clear();
        scratch.given.resize(rows * self.forest.targets, false);
        walk::walk(&self.forest, self.rules.aggregate(), rows, width, features, scratch);
        scores.clear();
        labels.clear();
        for (sums, given) in scratch
            .sums
            .chunks_exact_mut(self.forest.targets)
            .zip(scratch.given.chunks_exact_mut(self.forest.targets))
        {
            let label = self.rules.finish(self.forest.roots.len(), sums, given, scores);
            labels.push(label);
        }
    }
}
