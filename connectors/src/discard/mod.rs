//! Records to nowhere: what converters and transforms make of a topic, and what a worker costs without a system behind it.
//!
//! ```text
//!   topic --converters, transforms--> put: counted by the worker, dropped
//! ```

mod config;
mod connector;
mod task;

pub use connector::DiscardSink;
