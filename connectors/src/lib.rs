//! General connectors.
//!
//! ```text
//!   file/    lines of a file -> topic (FileStreamSource);  topic -> lines of a file (FileStreamSink)
//!   discard/ topic -> nowhere
//!   replay/  recorded events of a CSV file -> topic, at a given rate
//! ```
//! Every folder has the same files: `config.rs` (options), `connector.rs` (class, tasks, offsets), `task.rs` (data).
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

pub mod discard;
pub mod file;
pub mod replay;

use connect_api::ConnectorPlugin;
use std::sync::Arc;

/// Every connector of this crate.
pub fn plugins() -> Vec<Arc<dyn ConnectorPlugin>> {
    vec![
        Arc::new(discard::DiscardSink),
        Arc::new(file::FileStreamSource),
        Arc::new(file::FileStreamSink),
        Arc::new(replay::EventReplaySource),
    ]
}
