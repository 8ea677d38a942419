//! Resources as users write them, compiled into a plan that turns an event into feature vectors.
//!
//! ```text
//! YAML/JSON -> resource (tenant, store, feature_view, model; every error by field)
//!                 |
//!                 v
//!    FeatureView + wanted features and expressions -> plan (checked, ordered, each computation once)
//!                                                      |
//!   event bytes -> event (one-pass JSON scan of the    v
//!                  needed fields only) -> slots -> Evaluator -> feature rows (element), keys, filters
//!                                                   |      |
//!                                    GlobalLookup (rows)  AggregateStore (one row per key and group)
//! ```
//!
//! The crate does no I/O: rows and state come through [`GlobalLookup`] and [`AggregateStore`].

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

mod aggregate;
mod catalog_row;
mod element;
mod evaluator;
mod event;
mod expression;
mod number;
mod offline;
pub mod plan;
pub mod resource;
mod slot;

pub use aggregate::AggregateRow;
pub use catalog_row::{CatalogRow, FieldSet, RowValue};
pub use element::{Element, KeptElement, Misfit, Unfit};
pub use evaluator::{AggregateStore, EvaluationCounts, Evaluator, GlobalLookup, LookupCounts};
pub use event::{Event, EventError, StateFault};
pub use offline::{BackfillError, BackfillRow, MemoryGlobals, MemoryState, backfill};
pub use plan::{AggregateGroup, ExpressionId, FeaturePlan, FeatureSlot, StoreCatalog, Wanted};
pub use slot::Scalar;
