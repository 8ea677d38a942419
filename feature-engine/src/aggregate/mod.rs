//! Aggregates: what is kept per key, how an event changes it, what it gives.
//!
//! ```text
//! AggregateRow (one per key and group, one value in the state store)
//!   = cells, each with the identity of what it accumulates
//!       update(cell, value, event time)      read(cell, event time) -> number
//! ```
//!
//! All of it is arithmetic of doubles, and of integers of 64 bits where there are any beyond 2^53 ([`crate::number`]), in the
//! order of the partition, the same online and offline, so equal events give equal bits.

mod cell;
mod row;

pub(crate) use cell::{CellKind, CellPlan, CellRead};
pub use row::AggregateRow;
