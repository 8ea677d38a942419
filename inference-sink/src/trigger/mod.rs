//! When rows run: pure state machines over explicit time.
//!
//! ```text
//! each    rows that wait run as one batch, one output each
//! batch   a full batch, or the oldest row has waited long enough
//! window  one row per (key, tumbling window), when stream time has passed its end and the grace that it was opened with
//! ```

mod batch;
mod window;

pub use batch::{BatchTrigger, Due};
pub use window::{Observed, WindowChange, WindowEntry, WindowPlace, WindowRule, Windows};
