//! Tenants' models on event streams: subscription, features, flows, fair scheduling, triggers, outputs.
//!
//! ```text
//! REST -> service -> registry (topic, fold, loader) ----------------- Deployment (taken over at a barrier)
//!                                                                        |
//! records -> task: hand_over -> match, features, keyed state -> flow (per tenant, model) -> trigger
//!                |                     |                          |
//!                |                     |                          v
//!                |                     |            scheduler (DRR) -> executor -> model -> output (+ lineage)
//!                |                     v                                                     |
//!                '--- barrier: one transaction <-- state, modes, windows, positions ---------'
//!                              (feature log of detached models, archive of expired entries)
//! ```
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

mod barrier;
pub mod breaker;
mod clock;
mod connector;
pub mod detach;
mod expiry;
mod failure;
pub mod flow;
pub mod limits;
pub mod metrics;
pub mod models;
pub mod output;
pub mod registry;
mod rest;
pub mod scheduler;
mod service;
mod task;
pub mod trigger;

pub use connector::InferenceSink;
pub use metrics::Snapshot;
pub use service::{GlobalRows, GlobalStores, InferenceService, ServiceOptions, Started};
pub use task::InferenceTask;
