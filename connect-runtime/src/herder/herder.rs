//! The herder from outside: how it is started, asked and stopped.

use super::command::Command;
use super::connector;
use super::position::Position;
use super::shell::{Shell, ShellParts};
use super::statuses::StatusWriter;
use crate::cluster::fold::ClusterState;
use crate::config::{ConfigProviders, WorkerConfig};
use crate::logging::Loggers;
use crate::membership::protocol::MemberMetadata;
use crate::membership::{Member, MembershipParts};
use crate::plugins::Plugins;
use crate::records::status_table::StatusTable;
use crate::running::{RunningTask, StartTask};
use crate::storage::{ConfigTopic, InternalTopic, OffsetStore, OffsetTopic, StatusTopic, StorageError};
use crate::worker_client::WorkerClient;
use connect_api::{ConfigMap, ConnectError, ConnectorPlugin};
use kafka_client::{Admin, ClientConfig, LogClients};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that may wait for their turn.
const QUEUED_COMMANDS: usize = 1024;

/// Counts of what this worker has started.
#[derive(Debug, Default)]
pub struct StartCounters {
    /// connectors that started
    pub connector_successes: AtomicU64,
    /// connectors that could not be started
    pub connector_failures: AtomicU64,
    /// tasks that started
    pub task_successes: AtomicU64,
    /// tasks that failed before they had started
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
    /// requests to other workers
    pub(super) client: Arc<WorkerClient>,
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
    /// requests to other workers
    pub(crate) client: Arc<WorkerClient>,
    /// levels of loggers, which a record of the config topic may change
    pub loggers: Loggers,
    /// hears of what keeps the herder from starting, while that may pass
    pub trouble: Box<dyn Fn(String) + Send + Sync>,
}

/// A started herder.
pub struct Herder {
    commands: mpsc::Sender<Command>,
    cluster: Arc<RwLock<ClusterState>>,
    statuses: Arc<RwLock<StatusTable>>,
    offsets: Arc<dyn OffsetStore>,
    clients: LogClients,
    running: RunningTasks,
    counters: Arc<StartCounters>,
    position: watch::Receiver<Option<Position>>,
    joined: Arc<AtomicBool>,
    stop: Mutex<Option<oneshot::Sender<oneshot::Sender<()>>>>,
}

impl Herder {
    /// Reads the internal topics and begins to join the group, which says what this worker runs. `runner` gets the
    /// offsets topic.
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
            client,
            loggers,
            trouble,
        } = parts;
        let own = worker.own_clients();
        let clients = LogClients::new(
            &ClientConfig::from_java(own.consumer)?,
            &ClientConfig::from_java(own.producer)?,
        )?;
        let admin = &clients.admin();
        futures::try_join!(
            InternalTopic::Config.ensure(admin, &worker, &trouble),
            InternalTopic::Offsets.ensure(admin, &worker, &trouble),
            InternalTopic::Status.ensure(admin, &worker, &trouble),
        )?;
        let (changes, changed) = mpsc::unbounded_channel();
        let (config, status, offsets) = futures::try_join!(
            ConfigTopic::start(&clients, &worker, changes),
            StatusTopic::start(&clients, &worker),
            OffsetTopic::start(&clients, &worker),
        )?;
        let status = Arc::new(status);
        let offsets: Arc<dyn OffsetStore> = Arc::new(offsets);
        let (statuses, cluster) = (status.table(), config.state());

        let (notices, noticed) = mpsc::unbounded_channel();
        let (url, snapshot) = (format!("http://{worker_id}/"), Arc::clone(&cluster));
        let member = Member::start(MembershipParts {
            settings: worker.group_settings()?,
            timeouts: worker.group_timeouts(),
            metadata: Box::new(move || {
                let config_offset = snapshot.read().offset;
                MemberMetadata {
                    url: url.clone(),
                    config_offset,
                }
                .encode()
            }),
            notices,
        })
        .map_err(|error| StorageError::Refused(format!("the thread of the group membership: {error}")))?;

        let (commands, queue) = mpsc::channel(QUEUED_COMMANDS);
        let (running, counters) = (RunningTasks::default(), Arc::new(StartCounters::default()));
        let shared = Arc::new(Shared {
            runner: runner(Arc::clone(&offsets)),
            statuses: StatusWriter::new(Arc::clone(&status), &worker, worker_id),
            commands: commands.clone(),
            running: Arc::clone(&running),
            counters: Arc::clone(&counters),
            client,
            worker,
            plugins,
            providers,
        });
        let (position, position_seen) = watch::channel(None);
        let joined = Arc::new(AtomicBool::new(false));
        let shell = Shell::new(ShellParts {
            shared,
            cluster: Arc::clone(&cluster),
            config,
            status,
            offsets: Arc::clone(&offsets),
            loggers,
            member,
            position,
            joined: Arc::clone(&joined),
        });
        let (stop, stopping) = oneshot::channel();
        tokio::spawn(shell.run(queue, changed, noticed, stopping));
        Ok(Self {
            commands,
            cluster,
            statuses,
            offsets,
            clients,
            running,
            counters,
            position: position_seen,
            joined,
            stop: Mutex::new(Some(stop)),
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
    pub fn admin(&self) -> Admin {
        self.clients.admin()
    }

    /// The clients of the worker itself; to be closed when everything else of it has ended.
    pub(crate) fn clients(&self) -> &LogClients {
        &self.clients
    }

    /// Tasks that run on this worker.
    pub fn running(&self) -> &RunningTasks {
        &self.running
    }

    /// Counts of what this worker has started.
    pub fn counters(&self) -> &Arc<StartCounters> {
        &self.counters
    }

    /// This worker's place in its group; `None` until it has joined, and while a rebalance is under way.
    pub fn position(&self) -> watch::Receiver<Option<Position>> {
        self.position.clone()
    }

    /// Whether this worker has been in its group since it started.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Stops connectors and tasks, each within its time, writes the last statuses, leaves the group and closes the
    /// internal topics.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let Some(stop) = self.stop.lock().take() else { return };
        if stop.send(done).is_ok() {
            // an error means that the loop has ended already
            let _ = stopped.await;
        }
    }
}
