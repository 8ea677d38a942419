//! `millrace worker`: a worker from its properties file until a signal.

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

/// Reads a worker's properties file.
pub fn read_properties(path: &Path) -> anyhow::Result<ConfigMap> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let entries = parse_latin1(&bytes).with_context(|| format!("{} is not a properties file", path.display()))?;
    Ok(entries.into_iter().map(|(name, value)| (name, Some(value))).collect())
}

/// Runs a worker from its properties file until SIGTERM or SIGINT.
pub async fn run(path: &Path, plugins: Plugins, loggers: Loggers) -> anyhow::Result<Outcome> {
    let properties = read_properties(path)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // what is said of an option says where it stands
    let file = tracing::info_span!("properties", file = %path.display());
    let started = Worker::start(&properties, Arc::new(plugins), loggers)
        .instrument(file)
        .await;
    let starting = match started {
        Ok(starting) => starting,
        Err(error) => {
            let error = anyhow::Error::from(error).context(path.display().to_string());
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
