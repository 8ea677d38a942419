//! The herder: what should run, and making it so.
//!
//! ```text
//!   REST --Command--> shell --ConfigRecords--> config topic --fold--> ClusterState
//!                      ^  ^                                               | Change
//!                      |  +--Notice--- membership ---+                    v
//!                      |               round (deal), share (what of it runs here)
//!                      |                             |
//!                      |  PublishTasks               v
//!                      +---- connector actor (one per connector) <--- desired state and share (watch)
//!                                 |  Connector::start, task_configs        TaskRunner::start, stop
//!                                 +--> statuses
//!
//!   herder.rs  from outside       shell.rs  the loop       commands.rs  REST's commands      group.rs  the group's word
//!   fold, assignor, round, share, restart, task_configs: pure
//!   connector.rs  the actor: instance.rs (the connector object), own_tasks.rs (its tasks)
//! ```
//!
//! The shell carries out commands one after the other and waits for nothing but the config topic. Each connector has an
//! actor of its own that waits for its plugin, with deadlines, so that one that hangs hangs alone.

pub mod assignor;
mod command;
mod commands;
mod connector;
pub mod fold;
mod group;
#[allow(clippy::module_inception)] // the herder seen from outside
mod herder;
mod instance;
mod isolation;
mod offsets;
mod own_tasks;
mod position;
pub mod restart;
pub mod round;
pub mod share;
mod shell;
mod statuses;
mod task_configs;

pub(crate) use command::CONFLICTING;
pub use command::{Command, OffsetChange, Refusal};
pub use herder::{Herder, HerderParts, RunningTasks, StartCounters};
pub(crate) use isolation::isolated;
pub(crate) use offsets::group_offsets;
pub use position::Position;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
