//! A catalog file into a compacted topic: `millrace.FileCatalogSource`.
//!
//! ```text
//!   topic --read back at start--> known: key -> hash of value, newest marker
//!   file  --every poll.interval.ms: changed, and whole?--> rows --compare with known--> changed rows, tombstones --> marker
//! ```
//! **What a restart knows.** The topic itself is the record of what was written: at start the task reads it back, so a row
//! that left the file while no worker ran still gets its tombstone, and rows that are in the topic already are not sent
//! again. No state is kept anywhere else; the committed offset only tells people which version was written.

mod config;
mod connector;
mod known;
mod rows;
mod task;
mod watched;

pub use connector::FileCatalogSource;
