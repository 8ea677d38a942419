//! Tables of PostgreSQL into topics, in the place of Debezium: `io.debezium.connector.postgresql.PostgresConnector`, with
//! Debezium's options, records and offsets.
//!
//! ```text
//!   connector --validate--> options, and a look at the server
//!   task --starts--> reader ---> snapshot: COPY in the transaction that made the slot --\
//!     ^                 |                                                                 > rows -> captured: key, value
//!     |                 '------> stream: pgoutput --relations--------------------------/             -> envelope
//!     '-- handoff: records, end of the snapshot, error <-- bounded queue <----------------------------------'
//!   commit --durable--> stream --status--> PostgreSQL forgets what is in Kafka
//!
//!   pure: pgoutput, copy, array, clock, types, filter, offset, plan
//! ```
//! **At least once.** A restart goes on from the committed offset, which names the end of the last transaction that is wholly
//! in Kafka. A snapshot that was interrupted begins again; the slot of the first attempt is kept, so that what was deleted
//! meanwhile gets its tombstone.

mod array;
mod captured;
mod clock;
mod config;
mod connection;
mod connector;
mod copy;
mod envelope;
mod error;
mod filter;
mod handoff;
mod offset;
mod pgoutput;
mod plan;
mod reader;
mod refused;
mod relations;
mod server;
mod snapshot;
mod stream;
mod tables;
mod task;
mod types;

pub use connector::PostgresSource;
