//! The thin shell around the pure parts: one loop that carries out commands, one after the other, and hands changes of
//! the cluster's state to the connectors' actors. It waits for the config topic, with deadlines, and for nothing else.

use super::command::{Command, Refusal};
use super::connector::{self, ActorHandle, Message};
use super::fold::{Change, ClusterState, ConnectorState};
use super::offsets::change_offsets;
use super::restart::{RestartPlan, RestartRequest, plan};
use super::statuses::StatusWriter;
use crate::config::{ConfigProviders, WorkerConfig};
use crate::logging::Loggers;
use crate::plugins::Plugins;
use crate::storage::config_record::{ConfigRecord, SessionKey, TargetState};
use crate::storage::status_table::{StatusRecord, StatusTable};
use crate::storage::{ConfigTopic, InternalTopic, OffsetStore, OffsetTopic, StatusTopic, StorageError};
use crate::task_runner::{RunningTask, StartTask};
use base64::Engine;
use connect_api::{ConfigMap, ConnectError, ConnectorPlugin};
use kafka_client::{Admin, ClientConfig, LogClients};
use parking_lot::{Mutex, RwLock};
use sha2::Digest;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for their turn.
const QUEUED_COMMANDS: usize = 1024;
/// Time for writing the last statuses when the worker stops.
const LAST_STATUSES: Duration = Duration::from_secs(5);

/// Counts of what this worker has started.
#[derive(Debug, Default)]
pub struct StartCounters {
    /// connectors, every attempt
    pub connector_attempts: AtomicU64,
    /// connectors that could not be started
    pub connector_failures: AtomicU64,
    /// tasks, every attempt
    pub task_attempts: AtomicU64,
    /// tasks that failed, at start or later
    pub task_failures: AtomicU64,
}

/// Running tasks by connector and number.
pub type RunningTasks = Arc<Mutex<BTreeMap<(String, usize), Arc<dyn RunningTask>>>>;

/// What the shell and the actors share.
pub(super) struct Shared {
    pub(super) worker: Arc<WorkerConfig>,
    pub(super) plugins: Arc<Plugins>,
    pub(super) providers: Arc<ConfigProviders>,
    pub(super) runner: Arc<dyn StartTask>,
    pub(super) statuses: StatusWriter,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) running: RunningTasks,
    pub(super) counters: Arc<StartCounters>,
}

impl Shared {
    pub(super) fn plugin_of(&self, config: &ConfigMap) -> Result<Arc<dyn ConnectorPlugin>, ConnectError> {
        connector::plugin_named(&self.plugins, config)
    }

    /// Resolves references to config providers, off the async threads: files may be on slow disks.
    pub(super) async fn resolve(&self, config: &ConfigMap) -> Result<ConfigMap, ConnectError> {
        let (providers, config) = (Arc::clone(&self.providers), config.clone());
        match tokio::task::spawn_blocking(move || providers.resolve(&config)).await {
            Ok(resolved) => resolved,
            Err(error) => Err(ConnectError::fatal("config providers failed").caused_by(error)),
        }
    }
}

/// What a herder is made of.
pub struct HerderParts {
    /// the worker's settings
    pub worker: Arc<WorkerConfig>,
    /// its plugins
    pub plugins: Arc<Plugins>,
    /// its config providers
    pub providers: Arc<ConfigProviders>,
    /// `host:port` of the advertised URL
    pub worker_id: Arc<str>,
    /// levels of loggers, which a record of the config topic may change
    pub loggers: Loggers,
}

/// A started herder.
pub struct Herder {
    commands: mpsc::Sender<Command>,
    cluster: Arc<RwLock<ClusterState>>,
    statuses: Arc<RwLock<StatusTable>>,
    offsets: Arc<dyn OffsetStore>,
    admin: Admin,
    running: RunningTasks,
    counters: Arc<StartCounters>,
    generation: i32,
    stop: parking_lot::Mutex<Option<oneshot::Sender<oneshot::Sender<()>>>>,
}

impl Herder {
    /// Reads the internal topics and starts what they say should run. `runner` gets the offsets topic.
    ///
    /// # Errors
    /// The internal topics cannot be created, read, or are not fit for their use.
    pub async fn start(
        parts: HerderParts,
        runner: impl FnOnce(Arc<dyn OffsetStore>) -> Arc<dyn StartTask>,
    ) -> Result<Self, StorageError> {
        let HerderParts {
            worker,
            plugins,
            providers,
            worker_id,
            loggers,
        } = parts;
        let own = worker.own_clients();
        let clients = LogClients::new(
            &ClientConfig::from_java(own.consumer)?,
            &ClientConfig::from_java(own.producer)?,
        )?;
        let admin = clients.admin().clone();
        futures::try_join!(
            InternalTopic::Config.ensure(&admin, &worker),
            InternalTopic::Offsets.ensure(&admin, &worker),
            InternalTopic::Status.ensure(&admin, &worker),
        )?;
        let (changes, changed) = mpsc::unbounded_channel();
        let (config, status, offsets) = futures::try_join!(
            ConfigTopic::start(&clients, &worker, changes),
            StatusTopic::start(&clients, &worker),
            OffsetTopic::start(&clients, &worker),
        )?;
        let status = Arc::new(status);
        let offsets: Arc<dyn OffsetStore> = Arc::new(offsets);
        let statuses = status.table();
        // a worker that comes back must be believed more than what it wrote before
        let generation = i32::try_from(statuses.read().highest_generation().saturating_add(1)).unwrap_or(i32::MAX);
        tracing::info!(generation, group = %worker.group_id, "Joined group");

        let (commands, queue) = mpsc::channel(QUEUED_COMMANDS);
        let (running, counters) = (RunningTasks::default(), Arc::new(StartCounters::default()));
        let shared = Arc::new(Shared {
            runner: runner(Arc::clone(&offsets)),
            statuses: StatusWriter::new(Arc::clone(&status), &worker, worker_id, generation),
            commands: commands.clone(),
            running: Arc::clone(&running),
            counters: Arc::clone(&counters),
            worker,
            plugins,
            providers,
        });
        let cluster = config.state();
        let mut shell = Shell {
            shared,
            cluster: Arc::clone(&cluster),
            config,
            status,
            offsets: Arc::clone(&offsets),
            loggers,
            actors: HashMap::new(),
        };
        shell.renew_session_key().await?;
        shell.start_connectors();
        let (stop, stopping) = oneshot::channel();
        tokio::spawn(shell.run(queue, changed, stopping));
        Ok(Self {
            commands,
            cluster,
            statuses,
            offsets,
            admin,
            running,
            counters,
            generation,
            stop: parking_lot::Mutex::new(Some(stop)),
        })
    }

    /// Where commands go.
    pub fn commands(&self) -> &mpsc::Sender<Command> {
        &self.commands
    }

    /// The cluster's state as of the last record read.
    pub fn cluster(&self) -> &Arc<RwLock<ClusterState>> {
        &self.cluster
    }

    /// Statuses as of the last record read.
    pub fn statuses(&self) -> &Arc<RwLock<StatusTable>> {
        &self.statuses
    }

    /// The offsets topic.
    pub fn offsets(&self) -> &Arc<dyn OffsetStore> {
        &self.offsets
    }

    /// Administration of the worker's own cluster.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Tasks that run on this worker.
    pub fn running(&self) -> &RunningTasks {
        &self.running
    }

    /// Counts of what this worker has started.
    pub fn counters(&self) -> &Arc<StartCounters> {
        &self.counters
    }

    /// The generation under which this worker writes statuses.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Stops connectors and tasks, each within its time, writes the last statuses and closes the internal topics.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let Some(stop) = self.stop.lock().take() else { return };
        if stop.send(done).is_ok() {
            // an error means that the loop has ended already
            let _ = stopped.await;
        }
    }
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

struct Shell {
    shared: Arc<Shared>,
    cluster: Arc<RwLock<ClusterState>>,
    config: ConfigTopic,
    status: Arc<StatusTopic>,
    offsets: Arc<dyn OffsetStore>,
    loggers: Loggers,
    actors: HashMap<String, ActorHandle>,
}

impl Shell {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut changes: mpsc::UnboundedReceiver<Change>,
        mut stopping: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        let mut key_check = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                biased;
                stop = &mut stopping => {
                    drop(commands);
                    self.stop().await;
                    if let Ok(done) = stop {
                        // nobody waits any more
                        let _ = done.send(());
                    }
                    return;
                }
                Some(change) = changes.recv() => self.hand_on(change),
                Some(command) = commands.recv() => self.carry_out(command).await,
                _ = key_check.tick() => {
                    if let Err(error) = self.renew_session_key().await {
                        tracing::warn!(%error, "session key could not be renewed, trying again");
                    }
                }
            }
        }
    }

    fn start_connectors(&mut self) {
        let (offset, names): (i64, Vec<String>) = {
            let cluster = self.cluster.read();
            (cluster.offset, cluster.connectors().keys().cloned().collect())
        };
        tracing::info!("Starting connectors and tasks using config offset {offset}");
        for name in names {
            self.update_actor(&name);
        }
        tracing::info!("Finished starting connectors and tasks");
    }

    fn hand_on(&mut self, change: Change) {
        match change {
            Change::Connector(name) => self.update_actor(&name),
            Change::Restart {
                connector,
                include_tasks,
                only_failed,
            } => {
                let request = RestartRequest {
                    include_tasks,
                    only_failed,
                };
                // a connector that is gone has nothing to restart
                let _ = self.tell(&connector, Message::Restart(request));
            }
            Change::Logger { namespace, level } => {
                if let Err(error) = self.loggers.set(&namespace, &level) {
                    tracing::warn!(%namespace, %level, %error, "level of a logger could not be set");
                }
            }
            Change::SessionKey => {}
        }
    }

    /// Hands the connector's state to its actor; starts one for a new connector, ends that of a deleted one.
    fn update_actor(&mut self, name: &str) {
        let state = self.cluster.read().connector(name).cloned();
        let same = |actor: &ActorHandle| {
            state
                .as_ref()
                .is_some_and(|state| state.incarnation == actor.incarnation)
        };
        match self.actors.get(name) {
            Some(actor) if same(actor) => {
                actor.desired.send_replace(state);
            }
            _ => {
                let predecessor = self.actors.remove(name).map(|actor| {
                    actor.desired.send_replace(None);
                    actor.task
                });
                match (state, predecessor) {
                    (Some(state), predecessor) => {
                        let actor = connector::spawn(Arc::clone(&self.shared), name.into(), state, predecessor);
                        self.actors.insert(name.to_owned(), actor);
                    }
                    (None, Some(task)) => {
                        // kept, so that a connector of the same name waits for it; it ends by itself
                        self.actors.insert(name.to_owned(), ActorHandle::ended(task));
                        self.actors.retain(|_, actor| !actor.task.is_finished());
                    }
                    (None, None) => {}
                }
            }
        }
    }

    fn tell(&self, connector: &str, message: Message) -> Result<(), Message> {
        match self.actors.get(connector) {
            Some(actor) => actor.inbox.send(message).map_err(|unsent| unsent.0),
            None => Err(message),
        }
    }

    fn connector(&self, name: &str, missing: &str) -> Result<ConnectorState, Refusal> {
        let found = self.cluster.read().connector(name).cloned();
        found.ok_or_else(|| Refusal::NotFound(missing.to_owned()))
    }

    async fn carry_out(&mut self, command: Command) {
        // an answer that nobody waits for any more is dropped: the request ran out of its time
        match command {
            Command::PutConnector {
                name,
                config,
                initial,
                create,
                reply,
            } => {
                drop(reply.send(self.put_connector(name, config, initial, create).await));
            }
            Command::DeleteConnector { name, reply } => drop(reply.send(self.delete_connector(name).await)),
            Command::SetTarget { name, target, reply } => drop(reply.send(self.set_target(name, target).await)),
            Command::PublishTasks {
                name,
                made_from,
                tasks,
                reply,
            } => {
                drop(reply.send(self.publish_tasks(&name, &made_from, &tasks).await));
            }
            Command::RestartConnector { name, reply } => {
                let unknown = Refusal::NotFound(format!("Unknown connector: {name}"));
                if let Err(Message::RestartConnector(reply)) = self.tell(&name, Message::RestartConnector(reply)) {
                    drop(reply.send(Err(unknown)));
                }
            }
            Command::RestartTask { name, task, reply } => self.restart_task(&name, task, reply),
            Command::PlanRestart { name, request, reply } => drop(reply.send(self.plan_restart(name, request).await)),
            Command::ResetTopics { name, reply } => drop(reply.send(self.reset_topics(&name).await)),
            Command::ChangeOffsets { name, changes, reply } => {
                let outcome = match self.config.read_to_end().await {
                    Ok(()) => change_offsets(&self.shared, &self.cluster, &*self.offsets, &name, changes).await,
                    Err(error) => Err(failed(error)),
                };
                drop(reply.send(outcome));
            }
            Command::SetClusterLogger {
                namespace,
                level,
                reply,
            } => {
                let written = self.config.write(&[ConfigRecord::Logger(namespace, level)]).await;
                drop(reply.send(written.map_err(failed)));
            }
            Command::Ping { reply } => drop(reply.send(Ok(()))),
        }
    }

    async fn put_connector(
        &self,
        name: String,
        config: ConfigMap,
        initial: Option<TargetState>,
        create: bool,
    ) -> Result<bool, Refusal> {
        let exists = self.cluster.read().connector(&name).is_some();
        if exists && create {
            return Err(Refusal::Conflict(format!("Connector {name} already exists")));
        }
        let mut records = Vec::with_capacity(2);
        if let Some(target) = initial.filter(|_| !exists) {
            records.push(ConfigRecord::Target(name.clone(), Some(target)));
        }
        records.push(ConfigRecord::Connector(name, Some(config)));
        self.config
            .write(&records)
            .await
            .map_err(|error| Refusal::Failed(format!("Error writing connector configuration to Kafka: {error}")))?;
        Ok(!exists)
    }

    async fn delete_connector(&self, name: String) -> Result<(), Refusal> {
        self.connector(&name, &format!("Connector {name} not found"))?;
        let records = [
            ConfigRecord::Connector(name.clone(), None),
            ConfigRecord::Target(name, None),
        ];
        self.config
            .write(&records)
            .await
            .map_err(|error| Refusal::Failed(format!("Error removing connector configuration from Kafka: {error}")))
    }

    async fn set_target(&self, name: String, target: TargetState) -> Result<(), Refusal> {
        self.connector(&name, &format!("Unknown connector {name}"))?;
        if target == TargetState::Stopped {
            self.config.write_tasks(&name, &[]).await.map_err(failed)?;
        }
        self.config
            .write(&[ConfigRecord::Target(name, Some(target))])
            .await
            .map_err(failed)
    }

    async fn publish_tasks(
        &self,
        name: &str,
        made_from: &ConnectorState,
        tasks: &[ConfigMap],
    ) -> Result<bool, Refusal> {
        let current = self.cluster.read().connector(name).is_some_and(|now| {
            now.incarnation == made_from.incarnation
                && now.config == made_from.config
                && now.target == TargetState::Started
                && now.must_publish(tasks)
        });
        if current {
            self.config.write_tasks(name, tasks).await.map_err(failed)?;
        }
        Ok(current)
    }

    fn restart_task(&self, name: &str, task: usize, reply: oneshot::Sender<Result<(), Refusal>>) {
        let refusal = match self.connector(name, &format!("Unknown connector: {name}")) {
            Err(refusal) => Some(refusal),
            Ok(state) if state.target == TargetState::Stopped => Some(Refusal::Conflict(
                "Cannot complete request momentarily due to no known leader URL, likely because a rebalance was underway."
                    .to_owned(),
            )),
            Ok(state) if task >= state.tasks.len() => Some(Refusal::NotFound(format!("Unknown task: {name}-{task}"))),
            Ok(_) => None,
        };
        match refusal {
            Some(refusal) => drop(reply.send(Err(refusal))),
            None => {
                if let Err(Message::RestartTask(_, reply)) = self.tell(name, Message::RestartTask(task, reply)) {
                    drop(reply.send(Err(Refusal::NotFound(format!("Unknown connector: {name}")))));
                }
            }
        }
    }

    async fn plan_restart(&self, name: String, request: RestartRequest) -> Result<RestartPlan, Refusal> {
        self.connector(&name, &format!("Unknown connector: {name}"))?;
        let plan = match self.status.table().read().connector(&name) {
            Some(held) => plan(request, held),
            None => return Err(Refusal::NotFound(format!("Status for connector {name} not found"))),
        };
        if plan.connector || !plan.tasks.is_empty() {
            let RestartRequest {
                include_tasks,
                only_failed,
            } = request;
            let record = ConfigRecord::Restart {
                connector: name,
                include_tasks,
                only_failed,
            };
            self.config.write(&[record]).await.map_err(failed)?;
        }
        Ok(plan)
    }

    async fn reset_topics(&self, name: &str) -> Result<(), Refusal> {
        let topics: Vec<String> = match self.status.table().read().connector(name) {
            Some(held) => held.topics.keys().cloned().collect(),
            None => Vec::new(),
        };
        for topic in topics {
            self.status.put(StatusRecord::Topic(topic, name.to_owned(), None));
        }
        self.status.flush(LAST_STATUSES).await;
        Ok(())
    }

    /// Distributes a new session key where there is none or it is too old (contract 3.6).
    async fn renew_session_key(&self) -> Result<(), StorageError> {
        let parsed = self.shared.worker.parsed();
        if !parsed
            .text("connect.protocol")
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("sessioned"))
        {
            return Ok(());
        }
        let lifetime = parsed.integer("inter.worker.key.ttl.ms").unwrap_or(3_600_000);
        let now = now_ms();
        let fresh = |key: &SessionKey| key.created_ms.saturating_add(lifetime) > now;
        if self.cluster.read().session_key.as_ref().is_some_and(fresh) {
            return Ok(());
        }
        // 32 bytes from 244 random bits of the operating system
        let mut digest = sha2::Sha256::new();
        digest.update(uuid::Uuid::new_v4().as_bytes());
        digest.update(uuid::Uuid::new_v4().as_bytes());
        let key = base64::engine::general_purpose::STANDARD.encode(digest.finalize());
        let algorithm = parsed
            .text("inter.worker.key.generation.algorithm")
            .unwrap_or("HmacSHA256")
            .to_owned();
        self.config
            .write(&[ConfigRecord::SessionKey(SessionKey {
                key,
                algorithm,
                created_ms: now,
            })])
            .await
    }

    async fn stop(self) {
        let stops: Vec<_> = self
            .actors
            .into_values()
            .map(|actor| async move {
                // held to the end: without it the actor ends at once, and its tasks would be abandoned instead of stopped
                let desired = actor.desired;
                let (done, stopped) = oneshot::channel();
                if actor.inbox.send(Message::Shutdown(done)).is_ok() {
                    // an error means that the actor has ended already
                    let _ = stopped.await;
                }
                let _ = actor.task.await;
                drop(desired);
            })
            .collect();
        futures::future::join_all(stops).await;
        self.status.flush(LAST_STATUSES).await;
        self.config.stop().await;
    }
}

fn failed(error: StorageError) -> Refusal {
    Refusal::Failed(error.to_string())
}
