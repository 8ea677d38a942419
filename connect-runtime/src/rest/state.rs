//! What REST knows: nothing but its extensions until the worker is ready, then everything.

use super::answer::Answer;
use crate::config::WorkerConfig;
use crate::herder::{Command, Herder, Position, Refusal};
use crate::logging::Loggers;
use crate::plugins::Plugins;
use crate::validate::Validator;
use crate::worker_client::WorkerClient;
use connect_api::WorkerExtension;
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long a request waits for a rebalance to end before it is refused.
const REBALANCE_WAIT: Duration = Duration::from_secs(10);

/// How far an extension has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtensionState {
    /// its `start` has not succeeded
    Starting {
        /// why the last attempt failed; it is tried again
        trouble: Option<String>,
    },
    /// it answers
    Started,
    /// its `start` failed
    Failed(String),
}

impl ExtensionState {
    /// Why the extension `name` does not answer, if something has gone wrong.
    pub(crate) fn trouble(&self, name: &str) -> Option<String> {
        match self {
            ExtensionState::Started | ExtensionState::Starting { trouble: None } => None,
            ExtensionState::Starting { trouble: Some(reason) } => {
                Some(format!("{name} cannot be started yet, and is tried again: {reason}"))
            }
            ExtensionState::Failed(reason) => Some(format!("{name} could not be started: {reason}")),
        }
    }
}

/// An extension with its state.
pub struct MountedExtension {
    pub(crate) extension: Arc<dyn WorkerExtension>,
    pub(crate) state: RwLock<ExtensionState>,
}

/// What all requests share.
pub struct RestState {
    pub(crate) worker: Arc<WorkerConfig>,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) worker_id: Arc<str>,
    pub(crate) extensions: Vec<MountedExtension>,
    pub(crate) loggers: Loggers,
    /// requests to other workers
    pub(crate) client: Arc<WorkerClient>,
    pub(crate) stage: RwLock<&'static str>,
    /// what keeps it from getting on
    pub(crate) trouble: RwLock<Option<String>>,
    /// the worker has been told to stop: nothing is waited for any more
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) ready: OnceLock<Ready>,
}

/// What there is once the worker is ready.
pub struct Ready {
    pub(crate) herder: Arc<Herder>,
    pub(crate) validator: Validator,
    pub(crate) cluster_id: String,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl RestState {
    /// What the worker is doing, and what keeps it from getting on.
    pub(super) fn stage(&self) -> String {
        match &*self.trouble.read() {
            Some(trouble) => format!("{} {trouble}", *self.stage.read()),
            None => (*self.stage.read()).to_owned(),
        }
    }

    pub(super) fn ready(&self) -> Result<&Ready, Answer> {
        self.ready
            .get()
            .ok_or_else(|| Answer::error(404, format!("Worker is still starting up. {}", self.stage())))
    }
}

impl Ready {
    /// This worker's place in its group, waiting for it while the worker joins.
    pub(super) async fn position(&self) -> Option<Position> {
        let (mut position, mut stopping) = (self.herder.position(), self.stopping.clone());
        tokio::select! {
            joined = position.wait_for(Option::is_some) => joined.ok().and_then(|position| position.clone()),
            _ = stopping.wait_for(|stopping| *stopping) => None,
            () = tokio::time::sleep(REBALANCE_WAIT) => None,
        }
    }

    /// Refuses what only the leader of the group may do, with the way to it.
    pub(super) async fn require_leader(&self) -> Result<(), Answer> {
        Ok(Position::require_leader(self.position().await.as_ref())?)
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command,
    ) -> Result<T, Answer> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Answer::error(500, "The worker is stopping");
        self.herder
            .commands()
            .send(command(reply))
            .await
            .map_err(|_| stopping())?;
        Ok(answer.await.map_err(|_| stopping())??)
    }
}
