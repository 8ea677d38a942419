//! What stands in the internal topics, to the byte (contract part 2), and what is read from it: pure.
//!
//! ```text
//!   config_record.rs   connectors, task configurations, target states, session keys
//!   offset_record.rs   the last offset of a source partition
//!   status_table.rs    statuses of connectors and tasks, topics in use
//!   jackson.rs         JSON as Java's Jackson writes it
//! ```

pub mod config_record;
pub mod jackson;
pub mod offset_record;
pub mod status_table;
