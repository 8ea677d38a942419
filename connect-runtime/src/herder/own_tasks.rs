//! The tasks of a connector that run on this worker.

use super::connector::{ConnectorActor, Desired};
use super::herder::Shared;
use crate::cluster::fold::ConnectorState;
use crate::records::config_record::TargetState;
use crate::records::status_table::State;
use crate::running::{RunningTask, Stopped, TaskEvents, TaskSpec, TaskState};
use connect_api::ConnectError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A task that this worker has started, or has tried to.
pub(super) struct OwnTask {
    /// the task set that it is of
    generation: u64,
    /// `None`: it is stopped, or could not be started
    slot: Option<RunningSlot>,
}

struct RunningSlot {
    task: Arc<dyn RunningTask>,
    events: Arc<Events>,
}

impl ConnectorActor {
    /// Stops what is not to run here, or is of another task set, and starts what is missing.
    pub(super) async fn reconcile_tasks(&mut self, desired: &Desired) {
        let Desired { state, share, .. } = desired;
        self.known_tasks = self.known_tasks.max(state.tasks.len());
        let stopped = state.target == TargetState::Stopped;
        let wanted = |task: &usize| !stopped && share.tasks.contains(task);
        let stopping: Vec<usize> = self
            .tasks
            .iter()
            .filter(|(task, own)| !wanted(task) || own.generation != share.task_generation)
            .map(|(task, _)| *task)
            .collect();
        self.stop_tasks(&stopping).await;
        let gone: Vec<usize> = stopping.into_iter().filter(|task| !wanted(task)).collect();
        for task in gone {
            self.tasks.remove(&task);
            if stopped || task >= state.tasks.len() {
                // tasks that are no more have no status
                self.shared.statuses.task_removed(&self.name, task);
            } else {
                self.shared
                    .statuses
                    .task(&self.name, task, State::Unassigned, None, self.version);
            }
        }
        let paused = state.target == TargetState::Paused;
        if self.tasks_paused != paused {
            self.tasks_paused = paused;
            for slot in self.tasks.values().filter_map(|own| own.slot.as_ref()) {
                if paused { slot.task.pause() } else { slot.task.resume() }
            }
        }
        // a newer task set is started by the round that follows it
        if share.start && !stopped && share.task_generation == state.task_generation {
            for task in share.tasks.iter().filter(|task| **task < state.tasks.len()) {
                let there = self.tasks.get(task).map(|own| own.generation);
                if there != Some(share.task_generation) {
                    self.start_task(state, *task).await;
                }
            }
        }
    }

    async fn start_task(&mut self, state: &ConnectorState, task: usize) {
        if let Ok(plugin) = self.shared.plugin_of(&state.config) {
            self.version = plugin.version();
        }
        let events = Arc::new(Events {
            shared: Arc::clone(&self.shared),
            version: self.version,
            live: AtomicBool::new(true),
            start_counted: AtomicBool::new(false),
        });
        let slot = match self.spec_of(state, task).await {
            Ok(spec) => {
                let running = self
                    .shared
                    .runner
                    .start(spec, Arc::clone(&events) as Arc<dyn TaskEvents>);
                self.shared
                    .running
                    .lock()
                    .insert((self.name.to_string(), task), Arc::clone(&running));
                Some(RunningSlot { task: running, events })
            }
            Err(error) => {
                events.state(&self.name, task, TaskState::Failed { trace: error.trace() });
                None
            }
        };
        let generation = state.task_generation;
        self.tasks.insert(task, OwnTask { generation, slot });
    }

    async fn spec_of(&mut self, state: &ConnectorState, task: usize) -> Result<TaskSpec, ConnectError> {
        let plugin = self.shared.plugin_of(&state.config)?;
        let raw = state
            .tasks
            .get(task)
            .ok_or_else(|| ConnectError::fatal(format!("task {}-{task} has no configuration", self.name)))?;
        Ok(TaskSpec {
            connector: Arc::clone(&self.name),
            task,
            tasks: state.tasks.len(),
            generation: self.shared.statuses.generation(),
            connector_config: self.shared.resolve(&state.config).await?,
            task_config: self.shared.resolve(raw).await?,
            plugin,
            paused: state.target == TargetState::Paused,
        })
    }

    /// Stops tasks together: all of them have the same time. They stay this worker's.
    pub(super) async fn stop_tasks(&mut self, tasks: &[usize]) {
        let timeout = self.shared.worker.task_shutdown_graceful_timeout;
        let stopping = tasks
            .iter()
            .filter_map(|task| Some((*task, self.tasks.get_mut(task)?.slot.take()?)));
        let stops: Vec<_> = stopping
            .map(|(task, slot)| {
                self.shared.running.lock().remove(&(self.name.to_string(), task));
                let name = &self.name;
                async move {
                    if slot.task.stop(timeout).await == Stopped::Abandoned {
                        tracing::warn!(connector = %name, task, "task did not stop in time and is abandoned");
                    }
                    slot.events.live.store(false, Ordering::Release);
                }
            })
            .collect();
        futures::future::join_all(stops).await;
    }

    /// Restarts those of `tasks` that are this worker's.
    pub(super) async fn restart_tasks(&mut self, tasks: &[usize]) {
        self.stop_tasks(tasks).await;
        let desired = self.desired.borrow().clone();
        let Some(Desired { state, share, .. }) = desired else {
            return;
        };
        // a newer task set is started as a whole, soon
        if share.task_generation == state.task_generation {
            for task in tasks
                .iter()
                .filter(|task| share.tasks.contains(task) && **task < state.tasks.len())
            {
                self.start_task(&state, *task).await;
            }
        }
    }
}

/// Turns what a task reports into statuses, as long as the task is this worker's.
struct Events {
    shared: Arc<Shared>,
    version: &'static str,
    live: AtomicBool,
    /// whether its start is counted, as a success or a failure
    start_counted: AtomicBool,
}

impl TaskEvents for Events {
    fn state(&self, connector: &str, task: usize, state: TaskState) {
        if !self.live.load(Ordering::Acquire) {
            return;
        }
        let counters = &self.shared.counters;
        let counter = match state {
            TaskState::Running | TaskState::Paused => Some(&counters.task_successes),
            TaskState::Failed { .. } => Some(&counters.task_failures),
            TaskState::Waiting { .. } => None,
        };
        if let Some(counter) = counter
            && !self.start_counted.swap(true, Ordering::AcqRel)
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let (state, trace) = match state {
            TaskState::Running => (State::Running, None),
            TaskState::Paused => (State::Paused, None),
            TaskState::Waiting { trace } => (State::Unassigned, Some(trace)),
            TaskState::Failed { trace } => {
                tracing::error!(connector, task, %trace, "task has failed");
                (State::Failed, Some(trace))
            }
        };
        self.shared.statuses.task(connector, task, state, trace, self.version);
    }

    fn topic_used(&self, connector: &str, task: usize, topic: &str) {
        if self.live.load(Ordering::Acquire) {
            self.shared.statuses.topic_used(connector, task, topic);
        }
    }
}
