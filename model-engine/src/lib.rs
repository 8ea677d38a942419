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
//!
//! ```text
//! bytes -> [onnx] container, attributes, constants
//!       -> [graph] who uses what; loops and data-dependent shapes refused
//!       -> [bounds] what constants could blow up to
//!       -> [compile] nodes become steps:
//!             [operators], [ensemble]  our own, over tables of rows
//!             [segment]                the rest, by tract, one plan per batch size
//!       -> [Model] immutable, shared -> [Session] per thread: rows in, cut into batches
//!       -> [Outputs] one value per row by [OutputSelector]
//! ```
//! After that `batching` decides whether rows may share a batch, from a proof over the graph (in `segment`) and a `trial`.
//!
//! A model is checked against [`Limits`] before it may run: its bytes, its memory (computed from its
//! shapes), its operators. Nothing in a file can panic the caller or reach outside of the file.

mod batching;
mod bounds;
mod compile;
mod ensemble;
mod error;
mod graph;
mod limits;
mod model;
mod onnx;
mod operators;
mod outputs;
mod program;
mod real;
mod scratch;
mod segment;
mod spec;
mod trial;
mod values;

pub use batching::Batching;
pub use error::ModelError;
pub use limits::Limits;
pub use model::{Model, Session};
pub use outputs::{OutputSelector, OutputValue, Outputs};
pub use spec::{Dim, ElementType, TensorSpec};
pub use values::Values;
