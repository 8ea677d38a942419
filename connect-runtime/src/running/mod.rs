//! The seam between the herder, which decides what runs, and the task loops, which run it.
//!
//! ```text
//!   herder --TaskSpec--> StartTask::start ---> RunningTask   pause, resume, stop
//!     ^                                            |
//!     +------------- TaskEvents <------------------+         running, paused, failed; topics in use
//!
//!   control.rs   what the herder wants of a task, what the task tells it
//!   counters.rs  what a task counts
//!   kafka.rs     settings, partitions and errors of Kafka, as tasks and Kafka's client have them
//! ```

mod control;
mod counters;
mod kafka;

pub(crate) use control::{Control, Target, TaskHandle};
pub(crate) use counters::{Counters, TaskKind};
pub(crate) use kafka::{client_config, kafka_error, to_client};

use async_trait::async_trait;
use connect_api::{ConfigMap, ConnectorPlugin};
use std::sync::Arc;
use std::time::Duration;

/// Everything that a task is started with.
#[derive(Clone)]
pub struct TaskSpec {
    /// connector name
    pub connector: Arc<str>,
    /// task number, from 0
    pub task: usize,
    /// number of tasks of the connector
    pub tasks: usize,
    /// generation of the group in which the task was assigned; goes into its statuses
    pub generation: i32,
    /// the connector's configuration, references to config providers resolved
    pub connector_config: ConfigMap,
    /// the task's configuration, references to config providers resolved
    pub task_config: ConfigMap,
    /// the connector's class
    pub plugin: Arc<dyn ConnectorPlugin>,
    /// whether it starts paused: assigned, but reading nothing
    pub paused: bool,
}

/// What a task reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// it moves data, or waits for some
    Running,
    /// it does nothing until it is resumed
    Paused,
    /// it cannot begin yet, and begins by itself as soon as it can: shown as UNASSIGNED, so that nobody takes it for running
    Waiting {
        /// what it waits for, in the form of a Java stack trace; no secrets
        trace: String,
    },
    /// it has ended and needs a restart
    Failed {
        /// what happened, in the form of a Java stack trace; no secrets
        trace: String,
    },
}

/// Where tasks report to. Calls return at once and may come from any thread.
pub trait TaskEvents: Send + Sync {
    /// The task is in `state` now. An abandoned task reports no more.
    fn state(&self, connector: &str, task: usize, state: TaskState);

    /// The task has sent to or received from `topic`, reported once per topic and task (KIP-558).
    fn topic_used(&self, connector: &str, task: usize, topic: &str);
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// it committed what it could and closed its clients
    Clean,
    /// it did not answer in time; its thread was given up and it reports no more
    Abandoned,
}

/// Whether a number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// it only grows, from 0 when the worker or the task starts
    Counter,
    /// it goes up and down
    Gauge,
}

/// One number that a running task measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskMetric {
    /// group as upstream names it: `sink-task-metrics`
    pub group: &'static str,
    /// name as upstream names it: `put-batch-avg-time-ms`
    pub name: &'static str,
    /// whether it only grows
    pub kind: MetricKind,
    /// what it says, in one sentence
    pub help: &'static str,
    /// its value now
    pub value: f64,
}

/// A started task. Dropping it abandons the task.
#[async_trait]
pub trait RunningTask: Send + Sync {
    /// Asks the task to pause; it reports when it has. Without effect on a task that has failed.
    fn pause(&self);

    /// Asks the task to go on.
    fn resume(&self);

    /// Stops the task: it commits what it can. Answers within `timeout`, with `Abandoned` if the task has not.
    async fn stop(&self, timeout: Duration) -> Stopped;

    /// What the task measures, for `/metrics`.
    fn metrics(&self) -> Vec<TaskMetric> {
        Vec::new()
    }
}

/// Starts tasks: what the herder needs of [`crate::TaskRunner`].
pub trait StartTask: Send + Sync {
    /// Starts a task and returns at once. A task that cannot start reports [`TaskState::Failed`].
    fn start(&self, spec: TaskSpec, events: Arc<dyn TaskEvents>) -> Arc<dyn RunningTask>;
}
