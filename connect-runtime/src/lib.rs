//! The worker: configuration, storage topics, herder, REST, and the loops that run tasks.
//!
//! ```text
//!   worker.properties --config--> WorkerConfig                       plugins (one list, made by the binary)
//!                                      |                                |
//!   HTTP --rest--> Command --herder::shell--> config topic --fold--> ClusterState --round--> what this worker runs
//!                     ^                       other workers <--membership--> deal, assign          |
//!   status topic <----+---- TaskEvents <---- RunningTask <---- TaskRunner::start(TaskSpec) <--------+
//!                                                |
//!   source:  task.poll -> transforms -> converters -> producer -> acknowledged offsets -> offsets topic
//!   sink:    consumer -> converters -> transforms -> task.put -> durable -> consumer group offsets
//! ```
//!
//! The herder decides and never waits for a connector; the task loops move data and decide nothing.
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

mod clock;
pub mod cluster;
pub mod config;
pub mod errors;
pub mod herder;
pub mod logging;
pub mod membership;
pub mod plugins;
pub mod records;
pub mod rest;
pub mod running;
pub mod storage;
pub mod tasks;
pub mod validate;
mod worker;
mod worker_client;

pub use config::{WorkerConfig, WorkerConfigError};
pub use plugins::Plugins;
pub use running::{RunningTask, Stopped, TaskEvents, TaskSpec, TaskState};
pub use tasks::TaskRunner;
pub use worker::{StartingWorker, Worker, WorkerError};
