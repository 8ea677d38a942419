//! The Postgres connector on a real PostgreSQL and Apache Kafka, through a worker over REST.
//!
//! ```text
//!   changes.rs   snapshot and changes, as envelopes and as rows in a compacted topic
//!   types.rs     values of every type, as Debezium documents them
//!   outages.rs   restarts of connector, worker and PostgreSQL; nothing is lost
//!   refusals.rs  what is wrong is said, when the connector is created or when its task fails
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod changes;
mod outages;
mod refusals;
mod types;
mod worker;
