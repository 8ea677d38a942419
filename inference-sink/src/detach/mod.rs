//! Detached models: their feature vectors wait in the feature log, one topic per connector.
//!
//! ```text
//! rows that did not finish, or came while detached -> entry (bytes) -> log topic, in the barrier's transaction
//! log topic -> reader (one per task) -> flow -> outputs and position, in a later transaction -> attached again
//! ```

mod cursors;
mod entry;
mod mode;
mod reader;

pub use entry::{LoggedRow, MadeBy, decode_entry, encode_entry};
pub use mode::{Detached, Mode, Reason};
pub use reader::{Entry, LogReader};
