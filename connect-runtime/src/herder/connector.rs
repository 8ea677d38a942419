//! One connector on this worker: brings what runs in line with what should run.
//!
//! ```text
//!   desired state (watch) --+                      +--> Connector: start, task_configs, stop   (isolated, deadlines)
//!   restarts, events -------+--> reconcile, act ---+--> tasks: start, pause, resume, stop
//!   retry timer ------------+                      +--> statuses
//!                                                  +--> Command::PublishTasks
//! ```

use super::command::{Command, Refusal};
use super::fold::ConnectorState;
use super::isolation::isolated;
use super::restart::{RestartPlan, RestartRequest, plan};
use super::shell::Shared;
use super::task_configs::{enforce_maximum, tasks_max, to_publish};
use crate::storage::config_record::TargetState;
use crate::storage::status_table::State;
use crate::task_runner::{RunningTask, Stopped, TaskEvents, TaskSpec, TaskState};
use connect_api::{ConfigMap, ConnectError, Connector, ConnectorContext, ConnectorPlugin};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

const START_DEADLINE: Duration = Duration::from_secs(30);
const TASK_CONFIGS_DEADLINE: Duration = Duration::from_secs(30);
/// As upstream's.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What an actor is told beside its desired state.
pub(super) enum Message {
    /// restart with options; carried out from this worker's own statuses
    Restart(RestartRequest),
    /// restart the connector object
    RestartConnector(oneshot::Sender<Result<(), Refusal>>),
    /// restart one task
    RestartTask(usize, oneshot::Sender<Result<(), Refusal>>),
    /// the connector wants other tasks
    Reconfigure,
    /// the connector says that it has failed
    Raised(ConnectError),
    /// the worker stops
    Shutdown(oneshot::Sender<()>),
}

/// The way to an actor.
pub(super) struct ActorHandle {
    pub(super) incarnation: i64,
    pub(super) desired: watch::Sender<Option<ConnectorState>>,
    pub(super) inbox: mpsc::UnboundedSender<Message>,
    pub(super) task: tokio::task::JoinHandle<()>,
}

impl ActorHandle {
    /// The rest of an actor that is removing what is left of a deleted connector.
    pub(super) fn ended(task: tokio::task::JoinHandle<()>) -> Self {
        let (desired, _) = watch::channel(None);
        let (inbox, _) = mpsc::unbounded_channel();
        Self {
            incarnation: -1,
            desired,
            inbox,
            task,
        }
    }
}

/// What the connector object is doing.
enum Instance {
    /// there is none, or none yet
    Absent,
    /// it watches its source or sink
    Running(Box<dyn Connector>),
    /// it is not to run now
    Idle(TargetState),
    /// it failed and waits for a restart, another configuration or a stop
    Failed,
}

struct RunningSlot {
    task: Arc<dyn RunningTask>,
    events: Arc<Events>,
}

pub(super) struct ConnectorActor {
    name: Arc<str>,
    shared: Arc<Shared>,
    desired: watch::Receiver<Option<ConnectorState>>,
    inbox: mpsc::UnboundedReceiver<Message>,
    own_inbox: mpsc::UnboundedSender<Message>,
    instance: Instance,
    /// configuration of the instance
    config: Option<Arc<ConfigMap>>,
    version: &'static str,
    tasks: BTreeMap<usize, RunningSlot>,
    /// generation and number of the tasks that were started last
    started: (u64, usize),
    tasks_paused: bool,
    generate: bool,
    retry: Option<(Instant, Duration)>,
}

/// Starts an actor. It begins when `predecessor`, of a deleted connector of the same name, has ended.
pub(super) fn spawn(
    shared: Arc<Shared>,
    name: Arc<str>,
    state: ConnectorState,
    predecessor: Option<tokio::task::JoinHandle<()>>,
) -> ActorHandle {
    let incarnation = state.incarnation;
    let (desired, desired_receiver) = watch::channel(Some(state));
    let (inbox, messages) = mpsc::unbounded_channel();
    let actor = ConnectorActor {
        name,
        shared,
        desired: desired_receiver,
        inbox: messages,
        own_inbox: inbox.clone(),
        instance: Instance::Absent,
        config: None,
        version: "",
        tasks: BTreeMap::new(),
        started: (0, 0),
        tasks_paused: false,
        generate: false,
        retry: None,
    };
    let task = tokio::spawn(async move {
        if let Some(predecessor) = predecessor {
            // a panic of the predecessor was logged where it happened
            let _ = predecessor.await;
        }
        actor.run().await;
    });
    ActorHandle {
        incarnation,
        desired,
        inbox,
        task,
    }
}

impl ConnectorActor {
    async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            match desired {
                Some(state) => self.reconcile(&state).await,
                None => return self.remove().await,
            }
            let retry = self.retry.map(|(at, _)| at);
            tokio::select! {
                changed = self.desired.changed() => {
                    // the herder has ended without a word: so does this
                    if changed.is_err() { return }
                }
                message = self.inbox.recv() => match message {
                    Some(Message::Shutdown(done)) => {
                        self.shut_down().await;
                        // nobody waits any more
                        let _ = done.send(());
                        return;
                    }
                    Some(message) => self.handle(message).await,
                    None => return,
                },
                () = sleep_until(retry) => self.generate = true,
            }
        }
    }

    async fn reconcile(&mut self, state: &ConnectorState) {
        if self.config.as_ref() != Some(&state.config) {
            self.stop_instance().await;
            self.instance = Instance::Absent;
            self.config = Some(Arc::clone(&state.config));
        }
        self.reconcile_instance(state).await;
        self.reconcile_tasks(state).await;
        if std::mem::take(&mut self.generate) {
            self.publish_tasks(state).await;
        }
    }

    async fn reconcile_instance(&mut self, state: &ConnectorState) {
        match (state.target, &self.instance) {
            (TargetState::Started, Instance::Absent | Instance::Idle(_)) => self.start_instance(state).await,
            (TargetState::Paused, Instance::Absent | Instance::Running(_) | Instance::Idle(TargetState::Stopped)) => {
                self.idle(TargetState::Paused, State::Paused).await;
            }
            (TargetState::Stopped, Instance::Idle(TargetState::Stopped)) => {}
            (TargetState::Stopped, _) => self.idle(TargetState::Stopped, State::Stopped).await,
            (TargetState::Started, Instance::Running(_))
            | (TargetState::Paused, Instance::Idle(_))
            | (_, Instance::Failed) => {}
        }
    }

    async fn idle(&mut self, target: TargetState, status: State) {
        self.stop_instance().await;
        self.instance = Instance::Idle(target);
        self.shared.statuses.connector(&self.name, status, None, self.version);
    }

    async fn start_instance(&mut self, state: &ConnectorState) {
        self.shared.counters.connector_attempts.fetch_add(1, Ordering::Relaxed);
        match self.try_start(state).await {
            Ok(connector) => {
                self.instance = Instance::Running(connector);
                self.generate = true;
                self.shared
                    .statuses
                    .connector(&self.name, State::Running, None, self.version);
            }
            Err(error) => {
                self.shared.counters.connector_failures.fetch_add(1, Ordering::Relaxed);
                self.fail(&error);
            }
        }
    }

    async fn try_start(&mut self, state: &ConnectorState) -> Result<Box<dyn Connector>, ConnectError> {
        let plugin = self.shared.plugin_of(&state.config)?;
        self.version = plugin.version();
        let config = self.shared.resolve(&state.config).await?;
        let (reconfigure, raise) = (self.own_inbox.clone(), self.own_inbox.clone());
        let context = ConnectorContext {
            connector: Arc::clone(&self.name),
            config,
            // an actor that has ended needs no word from its connector
            request_task_reconfiguration: Arc::new(move || drop(reconfigure.send(Message::Reconfigure))),
            raise_error: Arc::new(move |error| drop(raise.send(Message::Raised(error)))),
        };
        isolated(
            format!("starting connector {}", self.name),
            START_DEADLINE,
            move || async move {
                let mut connector = plugin.connector();
                connector.start(context).await.map(|()| connector)
            },
        )
        .await
    }

    async fn stop_instance(&mut self) {
        self.retry = None;
        self.generate = false;
        if let Instance::Running(mut connector) = std::mem::replace(&mut self.instance, Instance::Absent) {
            let stopped = isolated(
                format!("stopping connector {}", self.name),
                STOP_DEADLINE,
                move || async move {
                    connector.stop().await;
                    Ok(())
                },
            );
            if let Err(error) = stopped.await {
                tracing::warn!(connector = %self.name, %error, "connector was not stopped cleanly");
            }
        }
    }

    fn fail(&mut self, error: &ConnectError) {
        tracing::error!(connector = %self.name, %error, "connector has failed");
        self.instance = Instance::Failed;
        self.retry = None;
        self.shared
            .statuses
            .connector(&self.name, State::Failed, Some(error.trace()), self.version);
    }

    async fn reconcile_tasks(&mut self, state: &ConnectorState) {
        let wanted = if state.target == TargetState::Stopped {
            0
        } else {
            state.tasks.len()
        };
        if self.started != (state.task_generation, wanted) {
            let running: Vec<usize> = self.tasks.keys().copied().collect();
            self.stop_tasks(&running).await;
            self.remove_statuses_from(wanted);
            self.started = (state.task_generation, wanted);
            self.tasks_paused = state.target == TargetState::Paused;
            for task in 0..wanted {
                self.start_task(state, task).await;
            }
        }
        let paused = state.target == TargetState::Paused;
        if self.tasks_paused != paused {
            self.tasks_paused = paused;
            for slot in self.tasks.values() {
                if paused { slot.task.pause() } else { slot.task.resume() }
            }
        }
    }

    /// Tasks that are no more have no status.
    fn remove_statuses_from(&self, tasks: usize) {
        let table = self.shared.statuses.table().read();
        let gone: Vec<usize> = table
            .connector(&self.name)
            .map(|held| held.tasks.range(tasks..).map(|(task, _)| *task).collect())
            .unwrap_or_default();
        drop(table);
        for task in gone.into_iter().chain(tasks..self.started.1) {
            self.shared.statuses.task_removed(&self.name, task);
        }
    }

    async fn start_task(&mut self, state: &ConnectorState, task: usize) {
        self.shared.counters.task_attempts.fetch_add(1, Ordering::Relaxed);
        let events = Arc::new(Events {
            shared: Arc::clone(&self.shared),
            version: self.version,
            live: AtomicBool::new(true),
        });
        match self.spec_of(state, task).await {
            Ok(spec) => {
                let running = self
                    .shared
                    .runner
                    .start(spec, Arc::clone(&events) as Arc<dyn TaskEvents>);
                self.shared
                    .running
                    .lock()
                    .insert((self.name.to_string(), task), Arc::clone(&running));
                self.tasks.insert(task, RunningSlot { task: running, events });
            }
            Err(error) => events.state(&self.name, task, TaskState::Failed { trace: error.trace() }),
        }
    }

    async fn spec_of(&mut self, state: &ConnectorState, task: usize) -> Result<TaskSpec, ConnectError> {
        let plugin = self.shared.plugin_of(&state.config)?;
        self.version = plugin.version();
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

    /// Stops tasks together: all of them have the same time.
    async fn stop_tasks(&mut self, tasks: &[usize]) {
        let timeout = self.shared.worker.task_shutdown_graceful_timeout;
        let stopping = tasks
            .iter()
            .filter_map(|task| self.tasks.remove(task).map(|slot| (*task, slot)));
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

    /// Asks the connector for its tasks, and has them written if they are others than those in force.
    async fn publish_tasks(&mut self, state: &ConnectorState) {
        let Instance::Running(connector) = std::mem::replace(&mut self.instance, Instance::Absent) else {
            return;
        };
        self.instance = match self.generate_tasks(state, connector).await {
            (Some(connector), Ok(())) => {
                self.retry = None;
                Instance::Running(connector)
            }
            (Some(connector), Err(error)) if error.java_class().ends_with("TooManyTasksException") => {
                self.instance = Instance::Running(connector);
                self.stop_instance().await;
                return self.fail(&error);
            }
            (Some(connector), Err(error)) => {
                let delay = self
                    .retry
                    .map_or(FIRST_RETRY, |(_, last)| (last * 2).min(LONGEST_RETRY));
                tracing::error!(connector = %self.name, %error, delay_ms = delay.as_millis(), "tasks could not be configured, trying again");
                self.retry = Some((Instant::now() + delay, delay));
                Instance::Running(connector)
            }
            (None, outcome) => {
                let lost = || ConnectError::fatal("the connector was lost while its tasks were configured");
                return self.fail(&outcome.err().unwrap_or_else(lost));
            }
        };
    }

    async fn generate_tasks(
        &mut self,
        state: &ConnectorState,
        connector: Box<dyn Connector>,
    ) -> (Option<Box<dyn Connector>>, Result<(), ConnectError>) {
        let prepared = async {
            let plugin = self.shared.plugin_of(&state.config)?;
            Ok::<_, ConnectError>((plugin, self.shared.resolve(&state.config).await?))
        };
        let (plugin, resolved) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return (Some(connector), Err(error)),
        };
        let maximum = tasks_max(&resolved);
        let doing = format!("configuring the tasks of connector {}", self.name);
        let generated = isolated(doing, TASK_CONFIGS_DEADLINE, move || async move {
            let tasks = connector.task_configs(maximum);
            Ok((connector, tasks))
        });
        let (connector, tasks) = match generated.await {
            Ok((connector, Ok(tasks))) => (connector, tasks),
            Ok((connector, Err(error))) => return (Some(connector), Err(error)),
            Err(error) => return (None, Err(error)),
        };
        if let Err(error) = enforce_maximum(&self.name, &resolved, tasks.len()) {
            return (Some(connector), Err(error));
        }
        let tasks = to_publish(&*plugin, &state.config, &resolved, tasks);
        let outcome = match state.must_publish(&tasks) {
            true => self.send_tasks(state, tasks).await,
            false => Ok(()),
        };
        (Some(connector), outcome)
    }

    async fn send_tasks(&mut self, state: &ConnectorState, tasks: Vec<ConfigMap>) -> Result<(), ConnectError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::PublishTasks {
            name: self.name.to_string(),
            made_from: state.clone(),
            tasks,
            reply,
        };
        let stopping = || ConnectError::retriable("the worker is stopping");
        self.shared.commands.send(command).await.map_err(|_| stopping())?;
        match answer.await.map_err(|_| stopping())? {
            // not written because the connector has changed meanwhile: the new state is on its way here
            Ok(_) => Ok(()),
            Err(refusal) => Err(ConnectError::retriable(refusal.message())),
        }
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Restart(first) => {
                let mut request = first;
                let mut others = Vec::new();
                while let Ok(message) = self.inbox.try_recv() {
                    match message {
                        Message::Restart(another) => request = request.larger(another),
                        other => others.push(other),
                    }
                }
                self.restart(request).await;
                for other in others {
                    // back into the queue, in order; this actor is alive
                    let _ = self.own_inbox.send(other);
                }
            }
            Message::RestartConnector(reply) => {
                self.restart_instance().await;
                let _ = reply.send(Ok(()));
            }
            Message::RestartTask(task, reply) => {
                self.restart_tasks(&[task]).await;
                let _ = reply.send(Ok(()));
            }
            Message::Reconfigure => self.generate = matches!(self.instance, Instance::Running(_)),
            Message::Raised(error) => {
                if matches!(self.instance, Instance::Running(_)) {
                    self.stop_instance().await;
                    self.fail(&error);
                }
            }
            // answered in `run`, before this
            Message::Shutdown(done) => drop(done),
        }
    }

    async fn restart(&mut self, request: RestartRequest) {
        let plan = match self.shared.statuses.table().read().connector(&self.name) {
            Some(held) => plan(request, held),
            None => RestartPlan {
                connector: false,
                tasks: Vec::new(),
            },
        };
        let statuses = &self.shared.statuses;
        if plan.connector {
            statuses.connector(&self.name, State::Restarting, None, self.version);
        }
        let tasks: Vec<usize> = plan.tasks.into_iter().filter(|task| *task < self.started.1).collect();
        for task in &tasks {
            statuses.task(&self.name, *task, State::Restarting, None, self.version);
        }
        if plan.connector {
            self.restart_instance().await;
        }
        self.restart_tasks(&tasks).await;
    }

    /// Stops the connector object, and starts it again unless it is to be paused or stopped.
    async fn restart_instance(&mut self) {
        self.stop_instance().await;
        self.instance = Instance::Absent;
        let desired = self.desired.borrow().clone();
        if let Some(state) = desired {
            self.config = Some(Arc::clone(&state.config));
            self.reconcile_instance(&state).await;
        }
    }

    async fn restart_tasks(&mut self, tasks: &[usize]) {
        self.stop_tasks(tasks).await;
        let desired = self.desired.borrow().clone();
        if let Some(state) = desired {
            // a newer task set is started as a whole, soon
            if self.started.0 == state.task_generation {
                for task in tasks.iter().filter(|task| **task < state.tasks.len()) {
                    self.start_task(&state, *task).await;
                }
            }
        }
    }

    async fn remove(mut self) {
        let running: Vec<usize> = self.tasks.keys().copied().collect();
        self.stop_tasks(&running).await;
        self.stop_instance().await;
        self.shared.statuses.connector_removed(&self.name, self.started.1);
        tracing::info!(connector = %self.name, "connector is removed");
    }

    async fn shut_down(&mut self) {
        let running: Vec<usize> = self.tasks.keys().copied().collect();
        self.stop_tasks(&running).await;
        self.stop_instance().await;
        let statuses = &self.shared.statuses;
        for task in 0..self.started.1 {
            statuses.task(&self.name, task, State::Unassigned, None, self.version);
        }
        statuses.connector(&self.name, State::Unassigned, None, self.version);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Turns what a task reports into statuses, as long as the task is this worker's.
struct Events {
    shared: Arc<Shared>,
    version: &'static str,
    live: AtomicBool,
}

impl TaskEvents for Events {
    fn state(&self, connector: &str, task: usize, state: TaskState) {
        if !self.live.load(Ordering::Acquire) {
            return;
        }
        let (state, trace) = match state {
            TaskState::Running => (State::Running, None),
            TaskState::Paused => (State::Paused, None),
            TaskState::Failed { trace } => {
                tracing::error!(connector, task, %trace, "task has failed");
                self.shared.counters.task_failures.fetch_add(1, Ordering::Relaxed);
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

/// The class of a connector's configuration.
pub(super) fn plugin_named(
    plugins: &crate::plugins::Plugins,
    config: &ConfigMap,
) -> Result<Arc<dyn ConnectorPlugin>, ConnectError> {
    let class = config
        .get("connector.class")
        .and_then(Option::as_deref)
        .unwrap_or_default()
        .trim();
    plugins
        .connector(class)
        .cloned()
        .ok_or_else(|| ConnectError::fatal(crate::plugins::unknown_connector(plugins, class)))
}
