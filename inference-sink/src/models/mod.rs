//! Models as they are served: the document, the compiled artifact and what its outputs are called.
//!
//! ```text
//! document + artifact bytes -> artifact (allowed prefixes, sha256) -> served (engine, widths, selectors checked)
//!                                                                      |
//!                                              runtime (breaker, counters: shared by all versions and tasks)
//! ```

pub mod artifact;
mod inputs;
mod runtime;
mod served;

pub use inputs::{InputError, decode_row, encode_row, write_inputs};
pub(crate) use runtime::latency_histogram;
pub use runtime::{LifeCycle, ModelRuntime, RuntimeFigures};
pub use served::{BATCH_SIZES, ServedModel};

#[cfg(test)]
pub(crate) use inputs::tests::any_row;
#[cfg(test)]
pub(crate) use served::tests;
