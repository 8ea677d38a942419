//! The output record: the one place that defines it.
//!
//! ```text
//! key      the model's `output.key`, as plain text; by default the event's key, as it is; none if there is none
//! value    {"<field>":<value>,...,"event_time":<milliseconds since the epoch>}
//! headers  millrace.model   tenant/name@version
//!          millrace.source  topic-partition-offset of the input record
//!          millrace.batch   number of the run: <worker start, ms>-<count>
//! ```
//! A number that is not finite has no JSON form: its row counts as an error of the model and has no output.

mod at_fault;
mod encode;
mod sender;
mod topics;

pub use at_fault::{RefusedTopic, topic_at_fault};
pub use encode::{EncodedOutputs, encode_batch};
pub use sender::OutputSender;
pub(crate) use topics::{advice, ask_for, missing, not_there, wait_until_made, writer_config};

/// Header that names the model.
pub const MODEL_HEADER: &str = "millrace.model";
/// Header that names the input record.
pub const SOURCE_HEADER: &str = "millrace.source";
/// Header that names the run.
pub const BATCH_HEADER: &str = "millrace.batch";
