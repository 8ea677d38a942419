//! A whole worker: REST first, then the herder, extensions beside it.

use crate::config::{ConfigProviders, WorkerConfig, WorkerConfigError};
use crate::herder::{Herder, HerderParts};
use crate::logging::Loggers;
use crate::plugins::{BUILT_IN_VERSION, CONVERTER_TYPE, PluginKind, Plugins, converter_definition, version};
use crate::rest::{BoundListeners, ExtensionState, MountedExtension, Ready, RestServer, RestState};
use crate::running::StartTask;
use crate::storage::StorageError;
use crate::tasks::TaskRunner;
use crate::validate::Validator;
use connect_api::{ConfigDef, ConfigMap, ConnectError, ErrorKind, WorkerContext};
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Time that extensions have for stopping, each.
const EXTENSION_STOP: Duration = Duration::from_secs(10);
/// Waits before an extension is started again: the first, and the longest.
const EXTENSION_FIRST_WAIT: Duration = Duration::from_secs(1);
const EXTENSION_LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Time for closing the worker's own clients, which a task that hangs may still use.
const CLIENTS_CLOSE: Duration = Duration::from_secs(2);

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// its properties are wrong
    #[error(transparent)]
    Config(#[from] WorkerConfigError),
    /// its config providers are wrong, or could not resolve a reference in its properties
    #[error("config providers: {0}")]
    Providers(ConnectError),
    /// its internal topics are not there or not fit
    #[error("internal topics: {0}")]
    Storage(StorageError),
}

impl From<StorageError> for WorkerError {
    fn from(error: StorageError) -> Self {
        WorkerError::Storage(error)
    }
}

/// A started worker.
pub struct Worker {
    herder: Arc<Herder>,
    server: RestServer,
    state: Arc<RestState>,
    extension_starts: JoinSet<()>,
}

/// A worker that answers `/health`, and nothing else yet.
pub struct StartingWorker {
    server: RestServer,
    state: Arc<RestState>,
    providers: Arc<ConfigProviders>,
}

impl Worker {
    /// Checks the properties and starts REST. The worker is not ready before [`StartingWorker::finish`] returns.
    ///
    /// # Errors
    /// Wrong properties, all of them, by name; addresses that cannot be bound.
    pub async fn start(
        properties: &ConfigMap,
        plugins: Arc<Plugins>,
        loggers: Loggers,
    ) -> Result<StartingWorker, WorkerError> {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "Kafka Connect starting");
        let environment: Vec<(String, String)> = std::env::vars().collect();
        let providers =
            ConfigProviders::configure(properties, environment.into_iter()).map_err(WorkerError::Providers)?;
        let resolved = providers.resolve(properties).map_err(WorkerError::Providers)?;
        let extensions: Vec<ConfigDef> = plugins
            .extensions
            .iter()
            .map(|extension| extension.config_def())
            .collect();
        let faults = plugins
            .extensions
            .iter()
            .flat_map(|extension| extension.check(&resolved));
        let mut messages: Vec<String> = faults.collect();
        let worker = match WorkerConfig::new(resolved, &extensions) {
            Ok(worker) => Arc::new(worker),
            Err(mut error) => {
                error.messages.append(&mut messages);
                return Err(error.into());
            }
        };
        messages.extend(converter_faults(&worker, &plugins));
        if !messages.is_empty() {
            return Err(WorkerConfigError { messages }.into());
        }
        let listeners = BoundListeners::bind(&worker).await?;
        let mounted = plugins.extensions.iter().map(|extension| MountedExtension {
            extension: Arc::clone(extension),
            state: RwLock::new(ExtensionState::Starting { trouble: None }),
        });
        let state = Arc::new(RestState {
            extensions: mounted.collect(),
            worker_id: Arc::clone(&listeners.worker_id),
            worker,
            plugins,
            loggers,
            client: Arc::default(),
            stage: RwLock::new("The worker is currently reading its internal topics."),
            trouble: RwLock::new(None),
            stopping: watch::Sender::new(false),
            ready: OnceLock::new(),
        });
        let server = listeners.serve(Arc::clone(&state));
        Ok(StartingWorker {
            server,
            state,
            providers: Arc::new(providers),
        })
    }

    /// `host:port` under which others reach the worker.
    pub fn id(&self) -> &str {
        &self.state.worker_id
    }

    /// Stops in order: REST, connectors and tasks, extensions, clients (contract 9.5).
    pub async fn stop(self) {
        tracing::info!("Kafka Connect stopping");
        let Self {
            herder,
            server,
            state,
            mut extension_starts,
        } = self;
        state.stopping.send_replace(true);
        server.stop().await;
        herder.stop().await;
        extension_starts.shutdown().await;
        for mounted in &state.extensions {
            if tokio::time::timeout(EXTENSION_STOP, mounted.extension.stop())
                .await
                .is_err()
            {
                tracing::warn!(extension = mounted.extension.name(), "extension did not stop in time");
            }
        }
        let clients = herder.clients().clone();
        drop((herder, state));
        clients.close(CLIENTS_CLOSE).await;
        tracing::info!("Kafka Connect stopped");
    }
}

impl StartingWorker {
    /// `host:port` under which others reach the worker.
    pub fn id(&self) -> &str {
        &self.state.worker_id
    }

    /// Reads the internal topics, starts what they say, and makes the worker ready.
    ///
    /// # Errors
    /// The internal topics cannot be created, read, or are not fit for their use. REST is stopped then.
    pub async fn finish(self) -> Result<Worker, WorkerError> {
        let Self {
            server,
            state,
            providers,
        } = self;
        let extension_starts = start_extensions(&state);
        let parts = HerderParts {
            worker: Arc::clone(&state.worker),
            plugins: Arc::clone(&state.plugins),
            providers: Arc::clone(&providers),
            worker_id: Arc::clone(&state.worker_id),
            client: Arc::clone(&state.client),
            loggers: state.loggers.clone(),
            trouble: {
                let state = Arc::clone(&state);
                Box::new(move |trouble| *state.trouble.write() = Some(trouble))
            },
        };
        let (plugins, worker) = (Arc::clone(&state.plugins), Arc::clone(&state.worker));
        let herder = Herder::start(parts, |offsets| -> Arc<dyn StartTask> {
            Arc::new(TaskRunner::new(plugins, worker, offsets))
        })
        .await;
        let herder = match herder {
            Ok(herder) => Arc::new(herder),
            Err(error) => {
                server.stop().await;
                return Err(error.into());
            }
        };
        let cluster_id = herder.admin().cluster_id().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the cluster's id could not be read");
            String::new()
        });
        let validator = Validator {
            plugins: Arc::clone(&state.plugins),
            worker: Arc::clone(&state.worker),
            providers,
        };
        *state.stage.write() = "The worker is currently handling requests.";
        *state.trouble.write() = None;
        // set once: this worker is finished only here
        let _ = state.ready.set(Ready {
            herder: Arc::clone(&herder),
            validator,
            cluster_id,
            stopping: state.stopping.subscribe(),
        });
        tracing::info!(worker_id = %state.worker_id, "Kafka Connect started");
        Ok(Worker {
            herder,
            server,
            state,
            extension_starts,
        })
    }
}

/// Starts every extension on a task of its own, so that a slow one holds up nobody.
fn start_extensions(state: &Arc<RestState>) -> JoinSet<()> {
    let mut starts = JoinSet::new();
    for index in 0..state.extensions.len() {
        let state = Arc::clone(state);
        starts.spawn(async move {
            let Some(mounted) = state.extensions.get(index) else {
                return;
            };
            let context = WorkerContext {
                properties: state.worker.properties().clone(),
                group_id: Arc::clone(&state.worker.group_id),
                worker_id: Arc::clone(&state.worker_id),
                clients: state.worker.own_clients(),
            };
            let mut wait = EXTENSION_FIRST_WAIT;
            let outcome = loop {
                match mounted.extension.start(context.clone()).await {
                    Ok(()) => break ExtensionState::Started,
                    Err(error) if error.kind() == ErrorKind::Retriable => {
                        tracing::warn!(extension = mounted.extension.name(), %error, "extension cannot start yet, trying again");
                        *mounted.state.write() = ExtensionState::Starting {
                            trouble: Some(error.message().to_owned()),
                        };
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(EXTENSION_LONGEST_WAIT);
                    }
                    Err(error) => {
                        tracing::error!(extension = mounted.extension.name(), %error, "extension could not be started");
                        break ExtensionState::Failed(error.message().to_owned());
                    }
                }
            };
            *mounted.state.write() = outcome;
        });
    }
    starts
}

/// The worker's own converters must be there, with options that they know: every connector that names none relies on
/// them. One that is known elsewhere and not built in stops those connectors alone: the file may be a Java worker's, of which the
/// others can be run.
fn converter_faults(worker: &WorkerConfig, plugins: &Plugins) -> Vec<String> {
    let mut messages = Vec::new();
    for (option, kind) in [
        ("key.converter", PluginKind::Converter),
        ("value.converter", PluginKind::Converter),
        ("header.converter", PluginKind::HeaderConverter),
    ] {
        let (given, mut options) = worker.converter(option);
        let Some(class) = plugins.class_named(kind, &given) else {
            if plugins.is_known_elsewhere(kind, &given) {
                let why = plugins.unusable(kind, &given).message(option, &given);
                tracing::error!(%option, "{why}. Connectors that name no {option} of their own will fail");
                continue;
            }
            messages.push(plugins.unusable(kind, &given).message(option, &given));
            continue;
        };
        if let Some(Some(wanted)) = options.shift_remove("plugin.version")
            && !version::satisfies(BUILT_IN_VERSION, &wanted)
        {
            messages.push(format!(
                "Invalid value {wanted} for configuration {option}.plugin.version: {class} is built in, in version {BUILT_IN_VERSION}"
            ));
        }
        let prefix = format!("{option}.");
        let definition = converter_definition(plugins, kind, class).unwrap_or_default();
        let definition = ConfigDef::new().embed(&prefix, None, definition);
        let given: ConfigMap = options
            .iter()
            .map(|(name, value)| (format!("{prefix}{name}"), value.clone()))
            .collect();
        for unread in definition.unread(&given) {
            match unread.refused {
                true => messages.push(unread.message),
                false => tracing::warn!(option = %unread.name, "{}", unread.message),
            }
        }
        let outcomes = definition.validate(&given).into_iter();
        // the worker says itself what a converter is for
        let own = outcomes.filter(|outcome| !outcome.name.ends_with(CONVERTER_TYPE));
        messages.extend(own.flat_map(|outcome| outcome.errors));
    }
    messages
}
