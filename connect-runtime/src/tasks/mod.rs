//! The loops that run tasks.
//!
//! ```text
//!   TaskSpec --start--> source.rs       async task: poll -> pipeline -> producers -> source_offsets -> OffsetStore
//!                  |--> sink.rs         own thread: consumer -> pipeline -> put -> pre_commit -> group offsets
//!                  `--> partitioned.rs  own thread: consumer -> hand_over -> advance -> mirrored group offsets
//!
//!   fetched.rs         fetched records as a sink task gets them, unread
//!   pipeline.rs        converters and transforms of a connector, in both directions;  transform_chain.rs  the latter
//!   producers.rs       producers shared by source tasks with the same settings
//!   source_offsets.rs  contiguous acknowledged prefix per source partition (pure)
//!   partitions.rs      which partitions a task owns (pure);  layout.rs  whether its topics are still what they were
//!   topic_creation.rs  topics that a source creates;  written_topics.rs  topics that it reads back
//! ```

mod fetched;
mod layout;
mod partitioned;
mod partitions;
mod pipeline;
mod producers;
mod progress;
mod sink;
mod source;
mod source_offsets;
mod topic_creation;
mod topic_pattern;
mod transform_chain;
mod written_topics;

pub use topic_creation::definition as topic_creation_definition;

use crate::config::WorkerConfig;
use crate::errors::{DeadLetters, ErrorConfig, ErrorHandler, Reporter};
use crate::plugins::Plugins;
use crate::running::{Control, RunningTask, StartTask, TaskEvents, TaskHandle, TaskKind, TaskSpec};
use crate::storage::OffsetStore;
use connect_api::partitioned::ClientSettings;
use connect_api::{ConnectError, ErrorKind, Task};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Waits before something that a task needs is tried again: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Starts tasks in this process.
#[derive(Clone)]
pub struct TaskRunner {
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) worker: Arc<WorkerConfig>,
    pub(crate) offsets: Arc<dyn OffsetStore>,
}

impl TaskRunner {
    /// A runner for the tasks of one worker. `offsets` is the worker's offsets topic.
    pub fn new(plugins: Arc<Plugins>, worker: Arc<WorkerConfig>, offsets: Arc<dyn OffsetStore>) -> Self {
        Self {
            plugins,
            worker,
            offsets,
        }
    }
}

impl StartTask for TaskRunner {
    fn start(&self, spec: TaskSpec, events: Arc<dyn TaskEvents>) -> Arc<dyn RunningTask> {
        TaskRunner::start(self, spec, events)
    }
}

/// Everything that a loop works with.
pub(crate) struct TaskEnvironment {
    pub(crate) spec: TaskSpec,
    pub(crate) runner: TaskRunner,
    pub(crate) control: Arc<Control>,
    pub(crate) clients: ClientSettings,
}

impl TaskRunner {
    /// Starts a task and returns at once. What becomes of it is told to `events`: it runs, is paused, or has failed.
    /// To be called inside a Tokio runtime.
    pub fn start(&self, spec: TaskSpec, events: Arc<dyn TaskEvents>) -> Arc<dyn RunningTask> {
        let control = Arc::new(Control::new(
            Arc::clone(&spec.connector),
            spec.task,
            spec.paused,
            self.worker.task_shutdown_graceful_timeout,
            self.worker.topic_tracking_enable,
            events,
        ));
        let running = Arc::new(TaskHandle(Arc::clone(&control)));
        let clients = match self
            .worker
            .task_clients(&spec.connector, spec.task, &spec.connector_config)
        {
            Ok(clients) => clients,
            Err(error) => {
                control.ended(Err(error));
                return running;
            }
        };
        let task = spec.plugin.task();
        let environment = TaskEnvironment {
            spec,
            runner: self.clone(),
            control,
            clients,
        };
        let kind = match &task {
            Task::Source(_) => TaskKind::Source,
            Task::Sink(_) => TaskKind::Sink,
            Task::Partitioned(_) => TaskKind::Partitioned,
        };
        // Set here alone.
        let _ = environment.control.counters.kind.set(kind);
        match task {
            Task::Source(task) => source::spawn(environment, task),
            Task::Sink(task) => sink::spawn(environment, task),
            Task::Partitioned(make) => partitioned::spawn(environment, make),
        }
        running
    }
}

impl TaskEnvironment {
    /// `CONNECTOR-TASK`, as logs and threads name it.
    fn name(&self) -> String {
        format!("{}-{}", self.spec.connector, self.spec.task)
    }

    /// The connector's error handling, with its dead letter topic ready.
    async fn error_handler(&self) -> Result<ErrorHandler, ConnectError> {
        let config = Arc::new(ErrorConfig::new(&self.spec.connector_config, self.spec.plugin.kind())?);
        let counters = Arc::clone(&self.control.counters);
        let dead_letters = match &config.dead_letter_topic {
            Some(topic) => Some(DeadLetters::start(topic, &config, &self.clients, Arc::clone(&counters)).await?),
            None => None,
        };
        Ok(ErrorHandler {
            reporter: Arc::new(Reporter {
                connector: Arc::clone(&self.spec.connector),
                task: self.spec.task,
                task_class: self.spec.plugin.task_class(),
                config: Arc::clone(&config),
                dead_letters,
                counters,
                batch: Mutex::default(),
            }),
            config,
            control: Arc::clone(&self.control),
        })
    }

    /// As [`Self::error_handler`], tried again while what it needs may come: the task shows what it waits for. None: the task
    /// is to end.
    async fn error_handler_in_time(&self) -> Result<Option<ErrorHandler>, ConnectError> {
        let mut wait = FIRST_WAIT;
        while !self.control.stopping() {
            match self.error_handler().await {
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    self.control.waits_for(&error);
                    self.control.sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                made => return made.map(Some),
            }
        }
        Ok(None)
    }

    /// Runs `body` on a thread of the task's own. A panic fails the task and nothing else.
    fn spawn_thread(
        self,
        body: impl FnOnce(&Self, &tokio::runtime::Handle) -> Result<(), ConnectError> + Send + 'static,
    ) {
        let runtime = tokio::runtime::Handle::current();
        let control = Arc::clone(&self.control);
        let thread = std::thread::Builder::new().name(format!("task-{}", self.name()));
        let spawned = thread.spawn(move || {
            let run = std::panic::AssertUnwindSafe(|| body(&self, &runtime));
            let result = std::panic::catch_unwind(run).unwrap_or_else(|panic| Err(panic_error(panic.as_ref())));
            let control = Arc::clone(&self.control);
            // Who is told of the end finds nothing of the task in use any more.
            drop(self);
            control.ended(result);
        });
        if let Err(error) = spawned {
            control.ended(Err(ConnectError::fatal(format!(
                "could not start a thread for the task: {error}"
            ))));
        }
    }
}

/// The error of a task that panicked.
fn panic_error(panic: &(dyn std::any::Any + Send)) -> ConnectError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    ConnectError::fatal(format!("the task panicked: {text}"))
}
