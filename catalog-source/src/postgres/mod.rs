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
//!   pure: pgoutput, copy, array, clock, types, placeholder, names, filter, offset, history, plan, silence
//! ```
//! **At least once.** A restart goes on from the committed offset, which names the end of the last transaction that is wholly
//! in Kafka, or a later place where nothing was captured. A snapshot that was interrupted begins again; the slot of the first
//! attempt is kept, so that what was deleted meanwhile gets its tombstone. Where the changes after the offset cannot be read
//! any more (`history`, `plan`), that is said at every start.
//!
//! **A value, column or table that cannot be represented** never stops the others: it is left out or written as what comes
//! nearest, counted and logged (`losses`).

mod array;
mod captured;
mod changes;
mod clock;
mod config;
mod connection;
mod connector;
mod copy;
mod envelope;
mod error;
mod filter;
mod generated;
mod handoff;
mod history;
mod losses;
mod names;
mod offset;
mod pgoutput;
mod placeholder;
mod plan;
mod reader;
mod refused;
mod relations;
mod server;
mod side_connection;
mod silence;
mod snapshot;
mod stream;
mod tables;
mod task;
mod types;

pub use connector::PostgresSource;
