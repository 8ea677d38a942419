//! What the herder wants of a task, and what the task tells the herder.

use super::Counters;
use super::{RunningTask, Stopped, TaskEvents, TaskMetric, TaskState};
use async_trait::async_trait;
use connect_api::ConnectError;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What is wanted of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// move data
    Run,
    /// do nothing until resumed
    Pause,
    /// end
    Stop,
}

type WakeFunction = Box<dyn Fn() + Send + Sync>;

/// The two-way link between a task and the herder.
pub(crate) struct Control {
    connector: Arc<str>,
    task: usize,
    target: watch::Sender<Target>,
    ended: watch::Sender<bool>,
    abandoned: AtomicBool,
    /// last state that was reported
    state: Mutex<Option<TaskState>>,
    /// ends a blocking wait of the task's thread
    wake: Mutex<Option<WakeFunction>>,
    topics: Mutex<HashSet<Arc<str>>>,
    track_topics: bool,
    graceful_timeout: Duration,
    events: Arc<dyn TaskEvents>,
    pub(crate) counters: Arc<Counters>,
}

impl Control {
    pub(crate) fn new(
        connector: Arc<str>,
        task: usize,
        paused: bool,
        graceful_timeout: Duration,
        track_topics: bool,
        events: Arc<dyn TaskEvents>,
    ) -> Self {
        Self {
            connector,
            task,
            target: watch::Sender::new(if paused { Target::Pause } else { Target::Run }),
            ended: watch::Sender::new(false),
            abandoned: AtomicBool::new(false),
            state: Mutex::new(None),
            wake: Mutex::new(None),
            topics: Mutex::default(),
            track_topics,
            graceful_timeout,
            events,
            counters: Arc::new(Counters::default()),
        }
    }

    /// What is wanted now.
    pub(crate) fn target(&self) -> Target {
        *self.target.borrow()
    }

    /// Whether the task is to end.
    pub(crate) fn stopping(&self) -> bool {
        self.target() == Target::Stop
    }

    /// Sees every change of what is wanted from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Target> {
        self.target.subscribe()
    }

    /// Sets what ends a blocking wait of the task's thread when something else is wanted.
    pub(crate) fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        *self.wake.lock() = Some(Box::new(wake));
    }

    /// Completes when the task is to end.
    pub(crate) async fn stop_requested(&self) {
        let _ = self.watch().wait_for(|target| *target == Target::Stop).await;
    }

    /// Waits for `time`, or until the task is to end.
    pub(crate) async fn sleep(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop_requested()).await;
    }

    /// Waits as long as the task is paused, having reported that it is.
    pub(crate) async fn while_paused(&self) {
        let mut watch = self.watch();
        if *watch.borrow_and_update() == Target::Pause {
            self.report(TaskState::Paused);
            let _ = watch.wait_for(|target| *target != Target::Pause).await;
        }
    }

    /// Completes when the time for stopping is over: never before the task is told to stop.
    pub(crate) async fn out_of_time(&self) {
        self.stop_requested().await;
        tokio::time::sleep(self.graceful_timeout).await;
    }

    /// Reports `state`, once for each change.
    pub(crate) fn report(&self, state: TaskState) {
        let mut last = self.state.lock();
        if self.abandoned.load(Ordering::Acquire) || last.as_ref() == Some(&state) {
            return;
        }
        *last = Some(state.clone());
        self.events.state(&self.connector, self.task, state);
    }

    /// Reports that the task cannot begin yet, and why.
    pub(crate) fn waits_for(&self, error: &ConnectError) {
        let trace = error.trace();
        tracing::warn!(connector = %self.connector, task = self.task, error = %trace, "task cannot begin yet");
        self.report(TaskState::Waiting { trace });
    }

    /// Reports that the task uses `topic`, once for each topic.
    pub(crate) fn topic_used(&self, topic: &Arc<str>) {
        if !self.track_topics {
            return;
        }
        let mut topics = self.topics.lock();
        if !topics.contains(topic) && !self.abandoned.load(Ordering::Acquire) {
            topics.insert(Arc::clone(topic));
            self.events.topic_used(&self.connector, self.task, topic);
        }
    }

    /// The task's loop is over. An error is the task's failure.
    pub(crate) fn ended(&self, result: Result<(), ConnectError>) {
        if let Err(error) = result {
            let trace = error.trace();
            tracing::error!(connector = %self.connector, task = self.task, error = %trace, "task failed");
            self.report(TaskState::Failed { trace });
        }
        self.wake.lock().take();
        self.ended.send_replace(true);
    }

    fn want(&self, target: Target) {
        self.target.send_if_modified(|current| {
            let changes = *current != target && *current != Target::Stop;
            if changes {
                *current = target;
            }
            changes
        });
        if let Some(wake) = self.wake.lock().as_ref() {
            wake();
        }
    }
}

/// A started task, as the herder holds it. Dropping it abandons the task.
pub(crate) struct TaskHandle(pub(crate) Arc<Control>);

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
        self.0.want(Target::Stop);
    }
}

#[async_trait]
impl RunningTask for TaskHandle {
    fn pause(&self) {
        self.0.want(Target::Pause);
    }

    fn resume(&self) {
        self.0.want(Target::Run);
    }

    async fn stop(&self, timeout: Duration) -> Stopped {
        self.0.want(Target::Stop);
        let mut ended = self.0.ended.subscribe();
        let waited = tokio::time::timeout(timeout, ended.wait_for(|ended| *ended)).await;
        match waited {
            Ok(_) => Stopped::Clean,
            Err(_) => {
                self.0.abandoned.store(true, Ordering::Release);
                tracing::warn!(connector = %self.0.connector, task = self.0.task, "task did not stop in time and is abandoned");
                Stopped::Abandoned
            }
        }
    }

    fn metrics(&self) -> Vec<TaskMetric> {
        self.0.counters.metrics()
    }
}
