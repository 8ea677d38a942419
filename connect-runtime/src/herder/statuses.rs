//! What this worker writes about its connectors and tasks.

use crate::cluster::fold::ClusterState;
use crate::config::WorkerConfig;
use crate::records::status_table::{State, Status, StatusRecord, StatusTable, TopicUse};
use crate::storage::StatusTopic;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Writes statuses under this worker's name and the generation of its group.
pub(super) struct StatusWriter {
    topic: Arc<StatusTopic>,
    table: Arc<RwLock<StatusTable>>,
    worker_id: Arc<str>,
    generation: AtomicI32,
    topic_tracking: bool,
}

impl StatusWriter {
    pub(super) fn new(topic: Arc<StatusTopic>, worker: &WorkerConfig, worker_id: Arc<str>) -> Self {
        Self {
            table: topic.table(),
            topic,
            worker_id,
            generation: AtomicI32::new(0),
            topic_tracking: worker.topic_tracking_enable,
        }
    }

    pub(super) fn table(&self) -> &Arc<RwLock<StatusTable>> {
        &self.table
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation.load(Ordering::Acquire)
    }

    /// What is written from now on is of this generation.
    pub(super) fn set_generation(&self, generation: i32) {
        self.generation.store(generation, Ordering::Release);
    }

    fn status(&self, state: State, trace: Option<String>, version: &str) -> Status {
        Status {
            state,
            trace,
            worker_id: self.worker_id.to_string(),
            generation: i64::from(self.generation()),
            version: (!version.is_empty()).then(|| version.to_owned()),
        }
    }

    pub(super) fn connector(&self, name: &str, state: State, trace: Option<String>, version: &str) {
        let status = self.status(state, trace, version);
        self.topic.put(StatusRecord::Connector(name.to_owned(), Some(status)));
    }

    pub(super) fn task(&self, name: &str, task: usize, state: State, trace: Option<String>, version: &str) {
        let status = self.status(state, trace, version);
        self.topic.put(StatusRecord::Task(name.to_owned(), task, Some(status)));
    }

    pub(super) fn task_removed(&self, name: &str, task: usize) {
        self.topic.put(StatusRecord::Task(name.to_owned(), task, None));
    }

    /// Removes everything that was written about a connector that is no more.
    pub(super) fn connector_removed(&self, name: &str, last_tasks: usize) {
        let (tasks, topics) = match self.table.read().connector(name) {
            Some(held) => {
                let beyond = held.tasks.keys().copied().filter(|task| *task >= last_tasks);
                (
                    (0..last_tasks).chain(beyond).collect(),
                    held.topics.keys().cloned().collect(),
                )
            }
            None => ((0..last_tasks).collect::<Vec<_>>(), Vec::new()),
        };
        for task in tasks {
            self.task_removed(name, task);
        }
        for topic in topics {
            self.topic.put(StatusRecord::Topic(topic, name.to_owned(), None));
        }
        self.topic.put(StatusRecord::Connector(name.to_owned(), None));
    }

    /// Removes the statuses of connectors and tasks that `cluster` does not know, as the leader does in every round.
    pub(super) fn remove_unknown(&self, cluster: &ClusterState) {
        let mut connectors = Vec::new();
        let mut tasks = Vec::new();
        for (name, held) in self.table.read().connectors() {
            match cluster.connector(name) {
                None => connectors.push(name.clone()),
                Some(state) => {
                    let beyond = held.tasks.range(state.tasks.len()..);
                    tasks.extend(beyond.map(|(task, _)| (name.clone(), *task)));
                }
            }
        }
        for name in connectors {
            self.connector_removed(&name, 0);
        }
        for (name, task) in tasks {
            self.task_removed(&name, task);
        }
    }

    pub(super) fn topic_used(&self, name: &str, task: usize, topic: &str) {
        let known = || {
            self.table
                .read()
                .connector(name)
                .is_some_and(|held| held.topics.contains_key(topic))
        };
        if !self.topic_tracking || known() {
            return;
        }
        let discovered_ms = crate::clock::now_ms();
        self.topic.put(StatusRecord::Topic(
            topic.to_owned(),
            name.to_owned(),
            Some(TopicUse { task, discovered_ms }),
        ));
    }
}
