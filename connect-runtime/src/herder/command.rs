//! What REST asks of the herder, and what the herder answers.

use crate::cluster::fold::ConnectorState;
use crate::cluster::restart::RestartRequest;
use crate::records::config_record::TargetState;
use connect_api::record::SourceMap;
use connect_api::{ConfigMap, ConnectError};
use tokio::sync::oneshot;

/// Why a command was not carried out.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// there is no such thing (404)
    NotFound(String),
    /// there is one already, or something stands against it (409)
    Conflict(String),
    /// the request is wrong (400)
    BadRequest(String),
    /// another worker must do it: the URL of that worker (forwarded; 409 where it cannot be)
    Elsewhere(String),
    /// a config provider could not resolve a reference in the configuration (400; upstream's validation answers 500)
    Provider(ConnectError),
    /// anything else (500)
    Failed(String),
}

/// Nobody is known to lead (contract 1.2, 3).
pub(crate) const NO_LEADER: &str =
    "Cannot complete request momentarily due to no known leader URL, likely because a rebalance was underway.";
/// A request was sent on twice and is at the wrong worker still (contract 1.2, 4).
pub(crate) const CONFLICTING: &str =
    "Cannot complete request because of a conflicting operation (e.g. worker rebalance)";

impl Refusal {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::BadRequest(_) | Refusal::Provider(_) => 400,
            Refusal::NotFound(_) => 404,
            Refusal::Conflict(_) | Refusal::Elsewhere(_) => 409,
            Refusal::Failed(_) => 500,
        }
    }

    /// The text for the answer.
    pub fn message(&self) -> &str {
        match self {
            Refusal::NotFound(text) | Refusal::Conflict(text) | Refusal::BadRequest(text) | Refusal::Failed(text) => {
                text
            }
            Refusal::Provider(error) => error.message(),
            Refusal::Elsewhere(_) => CONFLICTING,
        }
    }
}

/// Offsets that somebody sets, in terms of the connector's own partitions, as posted; `None` for the offset removes it.
pub type OffsetChange = Vec<(Option<SourceMap>, Option<SourceMap>)>;

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A request to the herder. Commands are carried out one after the other.
pub enum Command {
    /// Writes a connector's configuration, checked before. Answers whether it was created.
    PutConnector {
        /// connector
        name: String,
        /// its configuration
        config: ConfigMap,
        /// target state of a new connector, if not STARTED
        initial: Option<TargetState>,
        /// whether an existing connector is a conflict
        create: bool,
        /// answer
        reply: Reply<bool>,
    },
    /// Deletes a connector.
    DeleteConnector {
        /// connector
        name: String,
        /// answer
        reply: Reply<()>,
    },
    /// Pauses, resumes or stops a connector.
    SetTarget {
        /// connector
        name: String,
        /// what should become of it
        target: TargetState,
        /// answer
        reply: Reply<()>,
    },
    /// Writes a task set that a connector generated, if it still has the configuration it was made from. A follower has
    /// its leader write it.
    PublishTasks {
        /// connector
        name: String,
        /// the connector's state from which they were generated; unknown where another worker did
        made_from: Option<ConnectorState>,
        /// its tasks' configurations
        tasks: Vec<ConfigMap>,
        /// answer: whether anything was written
        reply: Reply<bool>,
    },
    /// Restarts a connector object, and waits for it.
    RestartConnector {
        /// connector
        name: String,
        /// answer
        reply: Reply<()>,
    },
    /// Restarts one task.
    RestartTask {
        /// connector
        name: String,
        /// task number
        task: usize,
        /// answer
        reply: Reply<()>,
    },
    /// Restarts what the request says; carried out after the answer.
    PlanRestart {
        /// connector
        name: String,
        /// what to restart
        request: RestartRequest,
        /// answer
        reply: Reply<crate::cluster::restart::RestartPlan>,
    },
    /// Forgets the topics that a connector has used.
    ResetTopics {
        /// connector
        name: String,
        /// answer
        reply: Reply<()>,
    },
    /// Sets or, with `None`, resets offsets of a stopped connector. Answers the text for the user.
    ChangeOffsets {
        /// connector
        name: String,
        /// the changes; `None` resets all
        changes: Option<OffsetChange>,
        /// answer
        reply: Reply<String>,
    },
    /// Sets the level of the loggers of all workers.
    SetClusterLogger {
        /// namespace
        namespace: String,
        /// level
        level: String,
        /// answer
        reply: Reply<()>,
    },
    /// Answers as soon as it is its turn: the herder is alive.
    Ping {
        /// answer
        reply: Reply<()>,
    },
}
