//! What happens when a record cannot be processed (contract part 7; KIP-298, KIP-610).
//!
//! ```text
//!   operation --error--> policy (kind x stage x tolerance): retry | skip | fail
//!                          |
//!                          +-- retry: waits between attempts
//!                          `-- reporter: log, metrics, dead letter topic with upstream's headers
//! ```

mod config;
mod dead_letter;
mod handler;
mod policy;
mod reporter;
mod retry;

pub use config::{ErrorConfig, definition};
pub(crate) use dead_letter::DeadLetters;
pub(crate) use handler::{ErrorHandler, FailedRecord, Handled};
pub use policy::{Action, Tolerance, action};
pub(crate) use reporter::{Reporter, StoredRecord};
pub use retry::{delay, may_retry};
