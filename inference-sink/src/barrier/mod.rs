//! Barriers: everything of an interval in one transaction at one input offset.
//!
//! ```text
//! task: drain -> changes of every store, owner's records, feature log entries, outputs -> Commit
//! committer thread: begin -> send all -> input topics as they were? -> commit | abort -> Answer (the task is woken)
//!                              '-- a topic of outputs refuses -> Answer::Refused -> task: Amendment -> go on
//! task: committed() | aborted() and rewind
//! ```
//! The task goes on with the next interval while a commit is under way; there is one at a time.

mod commit;
mod committer;
mod inputs;
mod transaction;

pub use commit::{Amendment, Answer, Commit, CommitFailure, Committed, LogEntry, RecordGroup, Refused, ShedEvent};
pub use committer::{Committer, OnWaiting};
