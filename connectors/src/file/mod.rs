//! Lines of a file into a topic, and back: the connectors that every Connect user tries first (contract 11.1, B.24).
//!
//! ```text
//!   file --lines--> topic      partition {"filename": path}, offset {"position": bytes read}
//!   topic --> file             the value as text and a newline
//! ```

mod config;
mod connector;
mod task;

pub use connector::{FileStreamSink, FileStreamSource};
