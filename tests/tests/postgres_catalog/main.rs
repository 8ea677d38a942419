//! The Postgres connector on a real PostgreSQL and Apache Kafka, through a worker over REST.
//!
//! ```text
//!   changes.rs   snapshot and changes, as envelopes and as rows in a compacted topic
//!   keys.rs      keys and nullability that change
//!   types.rs     values of every type, as Debezium documents them, and values that no type holds
//!   outages.rs   restarts of connector, worker and PostgreSQL; nothing is lost
//!   positions.rs offset, slot and log that do not fit together
//!   takeover.rs  from the running Debezium, and back to it
//!   beside.rs    record for record beside the running Debezium
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

mod beside;
mod changes;
mod keys;
mod outages;
mod positions;
mod refusals;
mod takeover;
mod types;
mod worker;
