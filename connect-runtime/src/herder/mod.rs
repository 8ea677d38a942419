//! The herder: what should run, and making it so.
//!
//! ```text
//!   REST --Command--> shell --ConfigRecords--> config topic --fold--> ClusterState
//!                      ^                                                  | Change
//!                      |  PublishTasks                                    v
//!                      +---- connector actor (one per connector) <--- desired state (watch)
//!                                 |  Connector::start, task_configs        TaskRunner::start, stop
//!                                 +--> statuses
//! ```
//!
//! The shell carries out commands one after the other and waits for nothing but the config topic. Each connector has an
//! actor of its own that waits for its plugin, with deadlines, so that one that hangs hangs alone.

pub mod assignor;
mod command;
mod connector;
pub mod fold;
mod isolation;
mod offsets;
pub mod restart;
mod shell;
mod statuses;
mod task_configs;

pub use command::{Command, OffsetChange, Refusal};
pub(crate) use isolation::isolated;
pub(crate) use offsets::group_offsets;
pub(crate) use shell::now_ms;
pub use shell::{Herder, HerderParts, RunningTasks, StartCounters};
