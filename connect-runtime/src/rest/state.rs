//! What REST knows: nothing but its extensions until the worker is ready, then everything.

use super::answer::Answer;
use crate::config::WorkerConfig;
use crate::herder::{Command, Herder, Refusal};
use crate::logging::Loggers;
use crate::plugins::Plugins;
use crate::validate::Validator;
use connect_api::WorkerExtension;
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock};
use tokio::sync::oneshot;

/// How far an extension has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtensionState {
    /// its `start` has not returned
    Starting,
    /// it answers
    Started,
    /// its `start` failed
    Failed(String),
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
    pub(crate) stage: RwLock<&'static str>,
    pub(crate) ready: OnceLock<Ready>,
}

/// What there is once the worker is ready.
pub struct Ready {
    pub(crate) herder: Arc<Herder>,
    pub(crate) validator: Validator,
    pub(crate) cluster_id: String,
}

impl RestState {
    pub(super) fn ready(&self) -> Result<&Ready, Answer> {
        self.ready
            .get()
            .ok_or_else(|| Answer::error(404, format!("Worker is still starting up. {}", *self.stage.read())))
    }
}

impl Ready {
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
