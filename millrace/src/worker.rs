//! `millrace worker`: a worker from its properties until a signal.

use anyhow::Context;
use connect_api::ConfigMap;
use connect_runtime::config::properties::parse_latin1;
use connect_runtime::logging::Loggers;
use connect_runtime::{Plugins, Worker};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument;

/// How a worker ended, as an exit code tells it (contract 0.2).
pub enum Outcome {
    /// it was told to stop, and did
    Stopped,
    /// it did not start
    NotStarted(anyhow::Error),
}

/// A worker's properties, and where they stand: what is said of an option says that too.
pub struct Properties {
    pub map: ConfigMap,
    pub source: String,
}

impl Properties {
    /// Those of a file.
    pub fn of_file(path: &Path) -> anyhow::Result<Properties> {
        Ok(Properties {
            map: read_properties(path)?,
            source: path.display().to_string(),
        })
    }
}

/// Reads a worker's properties file.
pub fn read_properties(path: &Path) -> anyhow::Result<ConfigMap> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let entries = parse_latin1(&bytes).with_context(|| format!("{} is not a properties file", path.display()))?;
    Ok(entries.into_iter().map(|(name, value)| (name, Some(value))).collect())
}

/// Runs a worker with these properties until SIGTERM or SIGINT.
pub async fn run(properties: &Properties, plugins: Plugins, loggers: Loggers) -> anyhow::Result<Outcome> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let file = tracing::info_span!("properties", file = properties.source);
    let started = Worker::start(&properties.map, Arc::new(plugins), loggers)
        .instrument(file)
        .await;
    let starting = match started {
        Ok(starting) => starting,
        Err(error) => {
            let error = anyhow::Error::from(error).context(properties.source.clone());
            return Ok(Outcome::NotStarted(error));
        }
    };
    let worker = tokio::select! {
        started = starting.finish() => match started {
            Ok(worker) => worker,
            Err(error) => return Ok(Outcome::NotStarted(error.into())),
        },
        _ = terminate.recv() => return Ok(Outcome::Stopped),
        _ = interrupt.recv() => return Ok(Outcome::Stopped),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    worker.stop().await;
    Ok(Outcome::Stopped)
}
