//! Our own operators, and which nodes they stand for. Each exists for floats and for doubles.
//!
//! ```text
//! TreeEnsemble*            -> ensemble        LinearClassifier, LinearRegressor -> dense
//! MatMul|Gemm + Add + act  -> dense           Scaler, Normalizer, +-*/ constant, activations -> rowwise
//! Concat, ArgMax, ArrayFeatureExtractor -> columns     Cast -> convert
//! Identity, Reshape to rows, ZipMap           -> no step at all: another name for the same table
//! ```

pub(crate) mod columns;
pub(crate) mod convert;
pub(crate) mod dense;
pub(crate) mod rowwise;
pub(crate) mod trees;
