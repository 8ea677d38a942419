#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]
//! ONNX models in the process: loading, checking, running in batches; tree ensembles by a flat walk.

mod error;
mod model;
mod outputs;
mod session;
mod spec;

pub use error::ModelError;
pub use model::{Limits, Model};
pub use outputs::{OutputSelector, OutputValue, Outputs};
pub use session::Session;
pub use spec::{Dim, ElementType, TensorSpec};
