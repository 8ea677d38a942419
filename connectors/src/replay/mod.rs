//! Recorded events of a CSV file into a topic, at a given rate or as fast as Kafka takes them.
//!
//! ```text
//!   file (plain or .gz) -> rows -> JSON objects -> topic      partition {"file": path}, offset {"position": rows done}
//! ```

mod config;
mod connector;
mod rows;
mod task;

pub use connector::EventReplaySource;
