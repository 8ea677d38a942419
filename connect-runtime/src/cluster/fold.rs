//! The state of the cluster: a pure fold over the records of the config topic (contract 2.3).
//!
//! ```text
//!   connector-X  at once                       task-X-N  set aside until      commit-X N  the set is 0..N-1: in force
//!   target-X     at once, may come first       the next commit                            else: inconsistent, no tasks
//! ```

use crate::records::config_record::{ConfigRecord, SessionKey, TargetState};
use connect_api::ConfigMap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A connector as the config topic has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorState {
    /// offset of the record that created it; tells a connector from a deleted one of the same name
    pub incarnation: i64,
    /// its configuration, as posted
    pub config: Arc<ConfigMap>,
    /// what should become of it
    pub target: TargetState,
    /// configurations of its tasks, references to config providers in place
    pub tasks: Arc<Vec<ConfigMap>>,
    /// raised by each commit
    pub task_generation: u64,
    /// the connector configuration from which the tasks were made; `None` before the first commit
    pub applied: Option<Arc<ConfigMap>>,
    /// the last commit did not fit the task records before it
    pub inconsistent: bool,
    /// number of tasks whose producers were fenced last
    pub fenced_tasks: Option<i64>,
    /// tasks must not start before their predecessors are fenced (exactly-once sources)
    pub pending_fencing: bool,
}

impl ConnectorState {
    /// Whether a freshly generated task set must be written: another number, another text, or another connector
    /// configuration than the one the tasks were made from (KAFKA-9228).
    pub fn must_publish(&self, tasks: &[ConfigMap]) -> bool {
        self.inconsistent || self.applied.as_ref() != Some(&self.config) || self.tasks.as_slice() != tasks
    }
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// a connector came, went, or has another configuration, target or task set
    Connector(String),
    /// somebody wants a restart
    Restart {
        /// connector
        connector: String,
        /// whether tasks are restarted too
        include_tasks: bool,
        /// whether only what has failed is restarted
        only_failed: bool,
    },
    /// somebody set a level for the loggers of all workers
    Logger {
        /// namespace
        namespace: String,
        /// level
        level: String,
    },
    /// there is a new session key
    SessionKey,
}

/// Everything that the config topic says.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterState {
    /// offset after the last record read, -1 before the first; what a worker reports to its group. A Java worker reports
    /// -1 as well, and never gets as far as the 0 of an empty topic
    pub offset: i64,
    /// key that signs requests among workers
    pub session_key: Option<SessionKey>,
    connectors: BTreeMap<String, ConnectorState>,
    targets: HashMap<String, TargetState>,
    deferred: HashMap<String, BTreeMap<usize, ConfigMap>>,
}

impl Default for ClusterState {
    fn default() -> Self {
        Self {
            offset: -1,
            session_key: None,
            connectors: BTreeMap::new(),
            targets: HashMap::new(),
            deferred: HashMap::new(),
        }
    }
}

impl ClusterState {
    /// All connectors by name.
    pub fn connectors(&self) -> &BTreeMap<String, ConnectorState> {
        &self.connectors
    }

    /// The connector called `name`.
    pub fn connector(&self, name: &str) -> Option<&ConnectorState> {
        self.connectors.get(name)
    }

    /// Takes the record at `offset`.
    pub fn apply(&mut self, offset: i64, record: ConfigRecord) -> Option<Change> {
        self.offset = self.offset.max(offset + 1);
        match record {
            ConfigRecord::Connector(name, Some(config)) => self.put_connector(offset, name, config),
            ConfigRecord::Connector(name, None) => {
                self.deferred.remove(&name);
                self.connectors.remove(&name).map(|_| Change::Connector(name))
            }
            ConfigRecord::Target(name, target) => self.set_target(name, target),
            ConfigRecord::Task(name, task, config) => {
                self.deferred.entry(name).or_default().insert(task, config);
                None
            }
            ConfigRecord::Commit(name, tasks) => self.commit(name, tasks),
            ConfigRecord::TaskCount(name, count) => {
                let connector = self.connectors.get_mut(&name)?;
                connector.fenced_tasks = Some(count);
                connector.pending_fencing = false;
                None
            }
            ConfigRecord::SessionKey(key) => {
                self.session_key = Some(key);
                Some(Change::SessionKey)
            }
            ConfigRecord::Restart {
                connector,
                include_tasks,
                only_failed,
            } => Some(Change::Restart {
                connector,
                include_tasks,
                only_failed,
            }),
            ConfigRecord::Logger(namespace, level) => Some(Change::Logger { namespace, level }),
        }
    }

    /// Notes a record that could not be read.
    pub fn skip(&mut self, offset: i64) {
        self.offset = self.offset.max(offset + 1);
    }

    fn put_connector(&mut self, offset: i64, name: String, config: ConfigMap) -> Option<Change> {
        match self.connectors.get_mut(&name) {
            Some(connector) => connector.config = Arc::new(config),
            None => {
                let target = *self.targets.entry(name.clone()).or_insert(TargetState::Started);
                self.connectors.insert(
                    name.clone(),
                    ConnectorState {
                        incarnation: offset,
                        config: Arc::new(config),
                        target,
                        tasks: Arc::default(),
                        task_generation: 0,
                        applied: None,
                        inconsistent: false,
                        fenced_tasks: None,
                        pending_fencing: false,
                    },
                );
            }
        }
        Some(Change::Connector(name))
    }

    fn set_target(&mut self, name: String, target: Option<TargetState>) -> Option<Change> {
        match target {
            Some(target) => self.targets.insert(name.clone(), target),
            None => self.targets.remove(&name),
        };
        // a connector always has a target, even if its record was taken away by hand
        let connector = self.connectors.get_mut(&name)?;
        connector.target = target.unwrap_or(TargetState::Started);
        Some(Change::Connector(name))
    }

    fn commit(&mut self, name: String, tasks: usize) -> Option<Change> {
        let deferred = self.deferred.remove(&name).unwrap_or_default();
        // leftovers of a deleted connector (KAFKA-16838)
        let connector = self.connectors.get_mut(&name)?;
        connector.pending_fencing = true;
        if deferred.len() == tasks && deferred.keys().copied().eq(0..tasks) {
            connector.tasks = Arc::new(deferred.into_values().collect());
            connector.task_generation += 1;
            connector.applied = Some(Arc::clone(&connector.config));
            connector.inconsistent = false;
        } else {
            connector.tasks = Arc::default();
            connector.inconsistent = true;
        }
        Some(Change::Connector(name))
    }
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
