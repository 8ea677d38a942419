//! Models as they are served: the document, the compiled artifact and what its outputs are called.
//!
//! ```text
//! document + artifact bytes -> artifact (allowed prefixes, sha256) -> served (engine, inputs, selectors checked)
//!                                                                      |
//!                                              runtime (breaker, counters: shared by all versions and tasks)
//! features of an event    -> inputs  -\
//!                                      rows, of the signature of the version that made them
//! rows of another version -> remake  -/
//! ```

pub mod artifact;
mod inputs;
mod remake;
mod runtime;
mod served;
mod signature;

pub use inputs::{InputError, write_inputs};
pub use remake::Remake;
pub(crate) use runtime::latency_histogram;
pub use runtime::{LifeCycle, ModelRuntime, RuntimeFigures};
#[cfg(test)]
pub(crate) use served::tests;
pub use served::{BATCH_SIZES, ServedModel};
pub(crate) use signature::hash;
#[cfg(test)]
pub(crate) use signature::tests as signature_tests;
pub use signature::{InputSignature, InputSpec};
