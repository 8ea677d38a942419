//! Our own operators, and which nodes they stand for.
//!
//! ```text
//! TreeEnsemble*            -> ensemble        LinearClassifier, LinearRegressor -> dense
//! MatMul|Gemm + Add + act  -> dense           Scaler, Normalizer, +-*/ constant, activations -> rowwise
//! Concat, ArgMax, ArrayFeatureExtractor, Cast -> columns
//! Identity, Reshape to rows, ZipMap           -> no step at all: another name for the same table
//! ```

pub(crate) mod columns;
pub(crate) mod dense;
pub(crate) mod rowwise;
pub(crate) mod trees;
