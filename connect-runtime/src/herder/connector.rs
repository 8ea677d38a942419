//! One connector on this worker: brings what runs in line with what should run here.
//!
//! ```text
//!   desired state, share (watch) --+                      +--> own_tasks.rs  tasks: start, pause, resume, stop
//!   restarts, events --------------+--> reconcile, act ---+--> instance.rs   Connector: start, task_configs, stop
//!   retry timer -------------------+                      +--> statuses          (isolated, with deadlines)
//!                                                         +--> Command::PublishTasks
//! ```

use super::command::Refusal;
use super::herder::Shared;
use super::instance::Instance;
use super::own_tasks::OwnTask;
use crate::cluster::fold::ConnectorState;
use crate::cluster::restart::{RestartPlan, RestartRequest, plan};
use crate::cluster::share::Share;
use crate::records::status_table::State;
use connect_api::{ConfigMap, ConnectError, ConnectorPlugin};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

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
}

/// What an actor brings about.
#[derive(Debug, Clone)]
pub(super) struct Desired {
    /// the connector, as the config topic has it
    pub(super) state: ConnectorState,
    /// what of it runs here
    pub(super) share: Share,
    /// raised with every change
    pub(super) version: u64,
}

/// The way to an actor.
pub(super) struct ActorHandle {
    pub(super) incarnation: i64,
    pub(super) desired: watch::Sender<Option<Desired>>,
    pub(super) inbox: mpsc::UnboundedSender<Message>,
    pub(super) task: tokio::task::JoinHandle<()>,
    settled: watch::Receiver<u64>,
}

impl ActorHandle {
    /// The rest of an actor that is removing what is left of a deleted connector.
    pub(super) fn ended(self) -> Self {
        self.desired.send_replace(None);
        Self {
            incarnation: -1,
            ..self
        }
    }

    /// Completes when what runs is what was desired at the time of the call, or the actor has ended.
    pub(super) fn settles(&self) -> impl Future<Output = ()> + use<> {
        let wanted = self
            .desired
            .borrow()
            .as_ref()
            .map_or(u64::MAX, |desired| desired.version);
        let mut settled = self.settled.clone();
        async move {
            // an error means that it has ended
            let _ = settled.wait_for(|version| *version >= wanted).await;
        }
    }
}

pub(super) struct ConnectorActor {
    pub(super) name: Arc<str>,
    pub(super) shared: Arc<Shared>,
    pub(super) desired: watch::Receiver<Option<Desired>>,
    inbox: mpsc::UnboundedReceiver<Message>,
    pub(super) own_inbox: mpsc::UnboundedSender<Message>,
    pub(super) instance: Instance,
    /// configuration of the instance
    pub(super) config: Option<Arc<ConfigMap>>,
    pub(super) version: &'static str,
    /// tasks whose statuses this worker writes
    pub(super) tasks: BTreeMap<usize, OwnTask>,
    pub(super) tasks_paused: bool,
    /// number of tasks that the connector was known to have
    pub(super) known_tasks: usize,
    pub(super) generate: bool,
    pub(super) retry: Option<(Instant, Duration)>,
}

/// Starts an actor. It begins when `predecessor`, of a deleted connector of the same name, has ended.
pub(super) fn spawn(
    shared: Arc<Shared>,
    name: Arc<str>,
    desired: Desired,
    predecessor: Option<tokio::task::JoinHandle<()>>,
) -> ActorHandle {
    let incarnation = desired.state.incarnation;
    let (desired, desired_receiver) = watch::channel(Some(desired));
    let (inbox, messages) = mpsc::unbounded_channel();
    let (settle, settled) = watch::channel(0);
    let actor = ConnectorActor {
        name,
        shared,
        desired: desired_receiver,
        inbox: messages,
        own_inbox: inbox.clone(),
        instance: Instance::Elsewhere,
        config: None,
        version: "",
        tasks: BTreeMap::new(),
        tasks_paused: false,
        known_tasks: 0,
        generate: false,
        retry: None,
    };
    let task = tokio::spawn(async move {
        if let Some(predecessor) = predecessor {
            // a panic of the predecessor was logged where it happened
            let _ = predecessor.await;
        }
        actor.run(settle).await;
    });
    ActorHandle {
        incarnation,
        desired,
        inbox,
        task,
        settled,
    }
}

impl ConnectorActor {
    async fn run(mut self, settled: watch::Sender<u64>) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            match desired {
                Some(desired) => {
                    self.reconcile(&desired).await;
                    settled.send_replace(desired.version);
                    if std::mem::take(&mut self.generate) {
                        self.publish_tasks(&desired.state).await;
                    }
                }
                None => return self.remove().await,
            }
            let retry = self.retry.map(|(at, _)| at);
            tokio::select! {
                changed = self.desired.changed() => {
                    // the herder has ended without a word: so does this
                    if changed.is_err() { return }
                }
                message = self.inbox.recv() => match message {
                    Some(message) => self.handle(message).await,
                    None => return,
                },
                () = sleep_until(retry) => self.generate = true,
            }
        }
    }

    /// Tasks first: a connector that takes its time to start or stop does not hold them up.
    async fn reconcile(&mut self, desired: &Desired) {
        self.reconcile_tasks(desired).await;
        self.reconcile_instance(desired).await;
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
        // every worker restarts its own
        let connector = plan.connector && !matches!(self.instance, Instance::Elsewhere);
        if connector {
            statuses.connector(&self.name, State::Restarting, None, self.version);
        }
        let tasks: Vec<usize> = plan
            .tasks
            .into_iter()
            .filter(|task| self.tasks.contains_key(task))
            .collect();
        for task in &tasks {
            statuses.task(&self.name, *task, State::Restarting, None, self.version);
        }
        if connector {
            self.restart_instance().await;
        }
        self.restart_tasks(&tasks).await;
    }

    async fn remove(mut self) {
        let running: Vec<usize> = self.tasks.keys().copied().collect();
        self.stop_tasks(&running).await;
        self.stop_instance().await;
        self.shared.statuses.connector_removed(&self.name, self.known_tasks);
        tracing::info!(connector = %self.name, "connector is removed");
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
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
