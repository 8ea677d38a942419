//! What lives as long as the worker: registry, loader, executors, state database, global stores, figures.
//!
//! ```text
//! start: registry topic -> loader thread -> Deployment; resources directory; global stores
//! tasks: deployment(), pool(), database(), globals()
//! REST:  handle -> rest
//! ```

mod globals;
mod options;
mod resources_dir;
mod s3_options;

pub use globals::{GlobalRows, GlobalStores, Readiness};
pub use options::ServiceOptions;

use crate::detach::Mode;
use crate::expiry::ArchiveWait;
use crate::flow::Pool;
use crate::metrics::Metrics;
use crate::models::artifact::AllowedPrefixes;
use crate::registry::{Deployment, InternalTopics, Loader, RegistryTopic};
use crate::rest;
use async_trait::async_trait;
use connect_api::config::{ConfigDef, ConfigMap};
use connect_api::error::{ConnectError, ErrorKind};
use connect_api::extension::{RestRequest, RestResponse, WorkerContext, WorkerExtension};
use crossbeam_channel::RecvTimeoutError;
use kafka_client::ClientConfig;
use parking_lot::{Mutex, RwLock};
use state_store::archive::Archive;
use state_store::{Database, KeyedReader, MemoryBudget, StateError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for closing the registry's clients, which a task that hangs may still use.
const CLIENTS_CLOSE: Duration = Duration::from_secs(2);
/// The loader looks at least so often whether the service is still there.
const LOOK: Duration = Duration::from_secs(5);

/// Reads of stores over REST that run at once.
const STORE_READS: usize = 4;

/// The service. Shared by the worker extension and the connector plugin.
pub struct InferenceService {
    started: RwLock<Option<Arc<Started>>>,
    /// why the last attempt to start failed
    trouble: Mutex<Option<ConnectError>>,
    /// connector -> topics, of the connectors that run on this worker
    owners: Mutex<BTreeMap<String, Vec<String>>>,
    /// figures of this worker
    pub metrics: Arc<Metrics>,
}

/// The service once the worker has started.
pub struct Started {
    /// what the worker gave
    pub context: WorkerContext,
    /// options
    pub options: ServiceOptions,
    /// the registry topic
    pub registry: RegistryTopic,
    /// topics that documents must not name
    pub internal_topics: InternalTopics,
    /// loads models
    pub loader: Arc<Loader>,
    /// runs models
    pub pool: Pool,
    /// global stores
    pub globals: GlobalStores,
    /// the async runtime of the worker, for tasks' questions to Kafka
    pub runtime: tokio::runtime::Handle,
    database: Mutex<Option<Database>>,
    /// open partitions of this worker's tasks: what REST reads
    pub(crate) open_partitions: Mutex<OpenPartitions>,
    /// reads of stores over REST that may run at once
    pub(crate) store_reads: Arc<tokio::sync::Semaphore>,
    /// where expired entries go; none: `archive.url` is not set
    pub(crate) archive: Option<Archive>,
    loader_wake: crossbeam_channel::Sender<()>,
}

/// What tasks publish for REST.
#[derive(Default)]
pub(crate) struct OpenPartitions {
    /// by connector, store and partition
    pub readers: BTreeMap<(String, String, i32), KeyedReader>,
    /// by model, connector and partition
    pub modes: BTreeMap<(String, String, i32), Mode>,
    /// connector and number of the tasks whose transaction Kafka keeps waiting
    pub waiting: BTreeSet<(String, usize)>,
    /// by connector, store and partition, of those whose archive stands still
    pub archive_waits: BTreeMap<(String, String, i32), ArchiveWait>,
}

impl Default for InferenceService {
    fn default() -> Self {
        InferenceService::new()
    }
}

impl InferenceService {
    /// A service that has not started.
    pub fn new() -> InferenceService {
        InferenceService {
            started: RwLock::new(None),
            trouble: Mutex::new(None),
            owners: Mutex::new(BTreeMap::new()),
            metrics: Arc::new(Metrics::default()),
        }
    }

    /// The started service. Error: it has not started yet (retriable), or never will.
    pub fn started(&self) -> Result<Arc<Started>, ConnectError> {
        let started = self.started.read().clone();
        started.ok_or_else(|| {
            let what = "the inference service has not started yet";
            match &*self.trouble.lock() {
                None => ConnectError::retriable(what),
                Some(error) if error.kind() == ErrorKind::Retriable => {
                    ConnectError::retriable(format!("{what}: {}", error.message()))
                }
                Some(error) => ConnectError::new(
                    error.kind(),
                    format!("the inference service could not be started: {}", error.message()),
                ),
            }
        })
    }

    /// Which connector on this worker owns a topic's models.
    pub fn owner_of(&self, topic: &str) -> Option<String> {
        let owners = self.owners.lock();
        owners
            .iter()
            .find(|(_, topics)| topics.iter().any(|owned| owned == topic))
            .map(|(name, _)| name.clone())
    }

    /// Claims topics for a connector.
    pub fn claim(&self, connector: &str, topics: &[String]) -> Result<(), ConnectError> {
        for topic in topics {
            if let Some(other) = self.owner_of(topic).filter(|other| other != connector) {
                return Err(ConnectError::config(format!(
                    "topic {topic}: its models belong to inference connector {other} already; a topic's models belong to exactly one"
                )));
            }
        }
        self.owners.lock().insert(connector.to_owned(), topics.to_vec());
        Ok(())
    }

    /// Gives a connector's topics back.
    pub fn release(&self, connector: &str) {
        self.owners.lock().remove(connector);
    }

    /// One attempt to start.
    async fn try_start(&self, context: WorkerContext) -> Result<(), ConnectError> {
        let options = ServiceOptions::parse(&context.properties)?;
        let topic = options.registry_topic.clone();
        let (loader_wake, wakes) = crossbeam_channel::bounded::<()>(1);
        let waker = loader_wake.clone();
        let changed = Arc::new(move || {
            // One wake-up that waits is enough.
            let _ = waker.try_send(());
        });
        let registry = RegistryTopic::start(
            &client_config(&context.clients.consumer)?,
            &client_config(&context.clients.producer)?,
            &topic,
            options.registry_replication,
            changed,
        )
        .await
        .map_err(|error| ConnectError::retriable(format!("registry topic {topic}: {error}")))?;
        let prefixes = AllowedPrefixes::new(&options.allowed_prefixes).with_s3(
            &options.s3,
            tokio::runtime::Handle::current(),
            options.state_dir.join("artifacts"),
        );
        let loader = Arc::new(Loader::new(prefixes));
        let archive = options
            .archive_url
            .as_deref()
            .map(|url| Archive::open(url, &options.s3));
        let archive = archive
            .transpose()
            .map_err(|error| ConnectError::config(error.to_string()))?;
        let started = Arc::new(Started {
            pool: Pool::new(options.cores, options.run_limit),
            globals: GlobalStores::new(client_config(&context.clients.consumer)?),
            runtime: tokio::runtime::Handle::current(),
            database: Mutex::new(None),
            open_partitions: Mutex::default(),
            store_reads: Arc::new(tokio::sync::Semaphore::new(STORE_READS)),
            archive,
            internal_topics: InternalTopics::of(&context.properties, &topic),
            context,
            registry,
            loader,
            loader_wake,
            options,
        });
        let weak = Arc::downgrade(&started);
        std::thread::Builder::new()
            .name("inference loader".to_owned())
            .spawn(move || {
                let mut retry: Option<Instant> = None;
                loop {
                    let wait = retry.map(|at| at.saturating_duration_since(Instant::now()));
                    let woken = wakes.recv_timeout(wait.unwrap_or(LOOK));
                    let Some(started) = weak.upgrade().filter(|_| woken != Err(RecvTimeoutError::Disconnected)) else {
                        return;
                    };
                    if woken.is_ok() {
                        follow(&started);
                    } else if started.globals.has_failed() {
                        started
                            .globals
                            .follow(&started.registry.resources(), || started.database());
                    }
                    // What is new does not wait for what has failed.
                    let records = started.deployment().records;
                    let nothing_new = || started.registry.records() == records;
                    retry = started.loader.retry(Instant::now(), nothing_new);
                }
            })
            .map_err(|error| ConnectError::fatal(format!("start the loader thread: {error}")))?;
        started.settle_fully().await;
        if let Some(directory) = &started.options.resources_dir {
            resources_dir::apply(&started, directory).await;
            started.settle_fully().await;
        }
        // From here on tasks start. What one read before would have passed models and state by.
        *self.started.write() = Some(started);
        Ok(())
    }

    /// Figures of this worker, for the terminal view and the last line of the demo.
    pub fn snapshot(&self) -> crate::metrics::Snapshot {
        let started = self.started.read().clone();
        self.metrics.snapshot(started.as_deref())
    }
}

impl Started {
    /// What is served now.
    pub fn deployment(&self) -> Arc<Deployment> {
        self.loader.current()
    }

    /// The state database, opened at the first call.
    pub fn database(&self) -> Result<Database, StateError> {
        let mut database = self.database.lock();
        match &*database {
            Some(open) => Ok(open.clone()),
            None => {
                let open = Database::open(&self.options.state_dir, MemoryBudget::default())?;
                *database = Some(open.clone());
                Ok(open)
            }
        }
    }

    /// Notes what the archive of a connector's store and partition waits for; none: nothing.
    pub(crate) fn tell_archive_wait(&self, key: (String, String, i32), wait: Option<ArchiveWait>) {
        let mut open = self.open_partitions.lock();
        match wait {
            Some(wait) => open.archive_waits.insert(key, wait),
            None => open.archive_waits.remove(&key),
        };
    }

    /// What the archive of a store waits for, by connector and partition.
    pub(crate) fn archive_waits(&self, store: &str) -> BTreeMap<(String, i32), ArchiveWait> {
        let open = self.open_partitions.lock();
        open.archive_waits
            .iter()
            .filter(|((_, name, _), _)| name == store)
            .map(|((connector, _, partition), wait)| ((connector.clone(), *partition), wait.clone()))
            .collect()
    }

    /// Failed attempts at what waits for the archive, by connector, store and partition.
    pub(crate) fn archive_attempts(&self) -> BTreeMap<(String, String, i32), u32> {
        let open = self.open_partitions.lock();
        let waits = open.archive_waits.iter();
        waits.map(|(key, wait)| (key.clone(), wait.attempts)).collect()
    }

    /// The database, if it is open.
    pub fn open_database(&self) -> Option<Database> {
        self.database.lock().clone()
    }

    /// Readers of a keyed store's partitions on this worker, those of features with their own time to live among them.
    pub fn keyed_readers(&self, store: &str) -> Vec<(String, i32, KeyedReader)> {
        let copies = self.keyed_copies(store).into_iter();
        copies
            .map(|((connector, _, partition), reader)| (connector, partition, reader))
            .collect()
    }

    /// The same, by connector, store (with the time to live where a feature has its own) and partition, in this order.
    pub(crate) fn keyed_copies(&self, store: &str) -> Vec<((String, String, i32), KeyedReader)> {
        let mut copies = self.all_keyed_copies();
        copies.retain(|((_, name, _), _)| name.split(".ttl-").next() == Some(store));
        copies
    }

    /// Those of all stores.
    pub(crate) fn all_keyed_copies(&self) -> Vec<((String, String, i32), KeyedReader)> {
        let open = self.open_partitions.lock();
        let readers = open.readers.iter();
        readers.map(|(copy, reader)| (copy.clone(), reader.clone())).collect()
    }

    /// Rows by keyed store on this worker.
    pub fn keyed_sizes(&self) -> BTreeMap<String, u64> {
        let mut sizes = BTreeMap::new();
        for ((_, store, _), reader) in &self.open_partitions.lock().readers {
            *sizes.entry(store.clone()).or_insert(0) += reader.len_estimate().unwrap_or(0);
        }
        sizes
    }

    /// Modes of a model in the partitions of this worker: connector, partition.
    pub fn modes_of(&self, model: &str) -> BTreeMap<(String, i32), Mode> {
        let open = self.open_partitions.lock();
        open.modes
            .iter()
            .filter(|((name, _, _), _)| name == model)
            .map(|((_, connector, partition), mode)| ((connector.clone(), *partition), *mode))
            .collect()
    }

    /// Whether a task of the connector waits for Kafka.
    pub fn waits_for_kafka(&self, connector: &str) -> bool {
        let open = self.open_partitions.lock();
        open.waiting.iter().any(|(waiting, _)| waiting == connector)
    }

    /// Tasks whose transaction Kafka keeps waiting.
    pub(crate) fn tasks_waiting(&self) -> usize {
        self.open_partitions.lock().waiting.len()
    }

    /// Waits until this worker serves what the registry says now; false: it took more than a minute.
    pub async fn settle(self: &Arc<Self>) -> bool {
        // One wake-up that waits is enough.
        let _ = self.loader_wake.try_send(());
        let (loader, records) = (self.loader.clone(), self.registry.records());
        let settled = tokio::task::spawn_blocking(move || loader.wait_for(records, Duration::from_secs(60)));
        settled.await.unwrap_or(false)
    }

    /// Waits until this worker serves what the registry says now, however long its models take to load.
    async fn settle_fully(self: &Arc<Self>) {
        while !self.settle().await {
            tracing::warn!("models of the registry are still being loaded; no inference task starts before they are");
        }
    }
}

/// Settings under their Java names as a client configuration; errors name the option.
pub(crate) fn client_config(settings: &indexmap::IndexMap<String, String>) -> Result<ClientConfig, ConnectError> {
    let mut config =
        ClientConfig::from_java(settings.clone()).map_err(|error| ConnectError::config(error.to_string()))?;
    config.unset("group.id").unset("group.instance.id");
    Ok(config)
}

#[async_trait]
impl WorkerExtension for InferenceService {
    fn name(&self) -> &'static str {
        "inference"
    }

    fn config_def(&self) -> ConfigDef {
        options::config_def()
    }

    fn check(&self, properties: &ConfigMap) -> Vec<String> {
        options::check(properties)
    }

    async fn start(&self, context: WorkerContext) -> Result<(), ConnectError> {
        let outcome = self.try_start(context).await;
        *self.trouble.lock() = outcome.as_ref().err().cloned();
        outcome
    }

    async fn handle(&self, request: RestRequest) -> RestResponse {
        match self.started() {
            Ok(started) => rest::handle(&started, &self.metrics, request).await,
            Err(error) => RestResponse::error(503, error.message()),
        }
    }

    fn metrics(&self) -> String {
        let started = self.started.read().clone();
        self.metrics.prometheus(started.as_deref())
    }

    async fn stop(&self) {
        let Some(started) = self.started.write().take() else {
            return;
        };
        let clients = started.registry.clients();
        // Threads are waited for.
        let stopped = tokio::task::spawn_blocking(move || {
            started.pool.stop();
            started.globals.stop();
        });
        if stopped.await.is_err() {
            tracing::error!("stopping the inference service panicked");
        }
        clients.close(CLIENTS_CLOSE).await;
    }
}

/// Brings models, tenants' weights and global stores up to the registry.
fn follow(started: &Started) {
    loop {
        let records = started.registry.records();
        let resources = started.registry.resources();
        for tenant in resources.tenants.values() {
            started.pool.configure(tenant);
        }
        started.globals.follow(&resources, || started.database());
        let _ = started.loader.follow(&resources, records);
        if started.registry.records() == records {
            break;
        }
    }
    record_inputs(started);
}

/// What rows of a version hold is recorded where a PUT has not done that: the document is of an earlier version of the worker.
fn record_inputs(started: &Started) {
    let unrecorded = started.deployment().unrecorded_inputs();
    if unrecorded.is_empty() {
        return;
    }
    let records: Vec<_> = unrecorded
        .into_iter()
        .map(|(key, inputs)| (key, serde_json::to_vec(&inputs).unwrap_or_default()))
        .collect();
    if let Err(error) = started.runtime.block_on(started.registry.write_all(&records)) {
        tracing::warn!(error = %error, "the inputs of models could not be recorded in the registry");
    }
}
