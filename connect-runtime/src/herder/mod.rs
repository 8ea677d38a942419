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
//!   what it decides is pure: crate::cluster
//!   connector.rs  the actor: instance.rs (the connector object), own_tasks.rs (its tasks)
//! ```
//!
//! The shell carries out commands one after the other and waits for nothing but the config topic. Each connector has an
//! actor of its own that waits for its plugin, with deadlines, so that one that hangs hangs alone.

mod command;
mod commands;
mod connector;
mod group;
#[allow(clippy::module_inception)] // the herder seen from outside
mod herder;
mod instance;
mod isolation;
mod offsets;
mod own_tasks;
mod position;
mod shell;
mod statuses;

pub(crate) use command::CONFLICTING;
pub use command::{Command, OffsetChange, Refusal};
pub use herder::{Herder, HerderParts, RunningTasks, StartCounters};
pub(crate) use isolation::isolated;
pub(crate) use offsets::group_offsets;
pub use position::Position;
