//! Statuses of connectors and tasks and the topics they use, as the status topic has them (contract 2.4): a pure fold.

use super::jackson;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// State of a connector or task, as REST shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // upstream's names
pub enum State {
    Unassigned,
    Running,
    Paused,
    Stopped,
    Failed,
    Restarting,
}

impl State {
    /// Every state.
    pub const ALL: [State; 6] = [
        State::Unassigned,
        State::Running,
        State::Paused,
        State::Stopped,
        State::Failed,
        State::Restarting,
    ];

    /// Upper-case name.
    pub fn name(self) -> &'static str {
        match self {
            State::Unassigned => "UNASSIGNED",
            State::Running => "RUNNING",
            State::Paused => "PAUSED",
            State::Stopped => "STOPPED",
            State::Failed => "FAILED",
            State::Restarting => "RESTARTING",
        }
    }
}

/// Status of a connector or task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// state
    pub state: State,
    /// what happened, if it failed
    pub trace: Option<String>,
    /// `host:port` of the worker that wrote it
    pub worker_id: String,
    /// generation of that worker's group
    pub generation: i64,
    /// version of the plugin
    pub version: Option<String>,
}

impl Status {
    fn encode(&self) -> Vec<u8> {
        let mut value = json!({
            "state": self.state.name(),
            "trace": self.trace,
            "worker_id": self.worker_id,
            "generation": self.generation,
        });
        if let (Some(version), Some(object)) = (&self.version, value.as_object_mut()) {
            object.insert("version".to_owned(), json!(version));
        }
        jackson::to_bytes(&value)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let text = |member: &str| value.get(member).and_then(Value::as_str).map(str::to_owned);
        let state = text("state")?;
        Some(Self {
            state: State::ALL.into_iter().find(|known| known.name() == state)?,
            trace: text("trace"),
            worker_id: text("worker_id")?,
            generation: value.get("generation")?.as_i64()?,
            version: text("version"),
        })
    }
}

/// A record of the status topic; no content is a tombstone (DESTROYED).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusRecord {
    /// `status-connector-NAME`
    Connector(String, Option<Status>),
    /// `status-task-NAME-N`
    Task(String, usize, Option<Status>),
    /// `status-topic-TOPIC:connector-NAME`
    Topic(String, String, Option<TopicUse>),
}

/// A topic that a connector uses (KIP-558).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicUse {
    /// task that found it first
    pub task: usize,
    /// when, in milliseconds since the epoch
    pub discovered_ms: i64,
}

impl StatusRecord {
    /// Key and value as they are written.
    pub fn encode(&self) -> (String, Option<Vec<u8>>) {
        match self {
            StatusRecord::Connector(name, status) => {
                (format!("status-connector-{name}"), status.as_ref().map(Status::encode))
            }
            StatusRecord::Task(name, task, status) => (
                format!("status-task-{name}-{task}"),
                status.as_ref().map(Status::encode),
            ),
            StatusRecord::Topic(topic, connector, used) => (
                format!("status-topic-{topic}:connector-{connector}"),
                used.as_ref().map(|used| {
                    jackson::to_bytes(&json!({ "topic": {
                        "name": topic,
                        "connector": connector,
                        "task": used.task,
                        "discoverTimestamp": used.discovered_ms,
                    } }))
                }),
            ),
        }
    }

    /// Reads a record; `None` for one that is to be dropped.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        let value = value.filter(|bytes| !bytes.is_empty() && *bytes != b"null");
        let status = || value.map_or(Some(None), |bytes| Status::decode(bytes).map(Some));
        if let Some(name) = key.strip_prefix("status-connector-") {
            Some(StatusRecord::Connector(name.to_owned(), status()?))
        } else if let Some(rest) = key.strip_prefix("status-task-") {
            let (name, task) = rest.rsplit_once('-')?;
            Some(StatusRecord::Task(name.to_owned(), task.parse().ok()?, status()?))
        } else {
            // topic names hold no colon
            let (topic, connector) = key.strip_prefix("status-topic-")?.split_once(":connector-")?;
            let used = match value {
                None => None,
                Some(bytes) => {
                    let value: Value = serde_json::from_slice(bytes).ok()?;
                    let used = value.get("topic")?;
                    Some(TopicUse {
                        task: usize::try_from(used.get("task")?.as_i64()?).ok()?,
                        discovered_ms: used.get("discoverTimestamp")?.as_i64()?,
                    })
                }
            };
            Some(StatusRecord::Topic(topic.to_owned(), connector.to_owned(), used))
        }
    }
}

/// Statuses of one connector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectorStatuses {
    /// of the connector itself
    pub connector: Option<Status>,
    /// of its tasks, by number
    pub tasks: BTreeMap<usize, Status>,
    /// topics in use
    pub topics: BTreeMap<String, TopicUse>,
}

/// Statuses of all connectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusTable {
    connectors: BTreeMap<String, ConnectorStatuses>,
}

impl StatusTable {
    /// The statuses of the connector called `name`.
    pub fn connector(&self, name: &str) -> Option<&ConnectorStatuses> {
        self.connectors.get(name)
    }

    /// All of them, by name.
    pub fn connectors(&self) -> impl Iterator<Item = (&String, &ConnectorStatuses)> {
        self.connectors.iter()
    }

    /// Takes a record.
    pub fn apply(&mut self, record: StatusRecord) {
        match record {
            StatusRecord::Connector(name, status) => {
                self.edit(name, |statuses| {
                    // the connector runs elsewhere already: its former owner's farewell comes late
                    let late = status.as_ref().is_some_and(|status| {
                        status.state == State::Unassigned
                            && statuses
                                .connector
                                .as_ref()
                                .is_some_and(|held| held.generation > status.generation)
                    });
                    if !late {
                        statuses.connector = status;
                    }
                });
            }
            StatusRecord::Task(name, task, status) => {
                self.edit(name, |statuses| match status {
                    None => {
                        statuses.tasks.remove(&task);
                    }
                    Some(status) => {
                        // the task runs elsewhere already: its former owner's farewell comes late
                        let late = status.state == State::Unassigned
                            && statuses.tasks.get(&task).is_some_and(|held| {
                                held.state == State::Running
                                    && held.generation >= status.generation
                                    && held.worker_id != status.worker_id
                            });
                        if !late {
                            statuses.tasks.insert(task, status);
                        }
                    }
                });
            }
            StatusRecord::Topic(topic, connector, used) => self.edit(connector, |statuses| {
                match used {
                    Some(used) => statuses.topics.insert(topic, used),
                    None => statuses.topics.remove(&topic),
                };
            }),
        }
    }

    fn edit(&mut self, name: String, edit: impl FnOnce(&mut ConnectorStatuses)) {
        let statuses = self.connectors.entry(name.clone()).or_default();
        edit(statuses);
        if *statuses == ConnectorStatuses::default() {
            self.connectors.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State, generation: i64) -> Status {
        Status {
            state,
            trace: None,
            worker_id: "h:8083".to_owned(),
            generation,
            version: None,
        }
    }

    #[test]
    fn records_are_those_of_a_java_worker() {
        let failed = Status {
            trace: Some("org.apache…".to_owned()),
            ..status(State::Failed, 7)
        };
        let cases = [
            (
                StatusRecord::Connector("src".to_owned(), Some(status(State::Running, 7))),
                "status-connector-src",
                r#"{"state":"RUNNING","trace":null,"worker_id":"h:8083","generation":7}"#,
            ),
            (
                StatusRecord::Task("src".to_owned(), 0, Some(failed)),
                "status-task-src-0",
                r#"{"state":"FAILED","trace":"org.apache…","worker_id":"h:8083","generation":7}"#,
            ),
            (
                StatusRecord::Topic(
                    "t".to_owned(),
                    "src".to_owned(),
                    Some(TopicUse {
                        task: 0,
                        discovered_ms: 1_760_000_000_000,
                    }),
                ),
                "status-topic-t:connector-src",
                r#"{"topic":{"name":"t","connector":"src","task":0,"discoverTimestamp":1760000000000}}"#,
            ),
        ];
        for (record, key, value) in cases {
            let (encoded_key, encoded_value) = record.encode();
            assert_eq!(encoded_key, key);
            assert_eq!(std::str::from_utf8(encoded_value.as_deref().unwrap()).unwrap(), value);
            assert_eq!(
                StatusRecord::decode(key.as_bytes(), encoded_value.as_deref()),
                Some(record)
            );
        }
    }

    #[test]
    fn a_late_farewell_does_not_hide_a_running_task() {
        let mut table = StatusTable::default();
        let task = |status| StatusRecord::Task("a".to_owned(), 0, Some(status));
        let of = |worker: &str, status: Status| Status {
            worker_id: worker.to_owned(),
            ..status
        };
        let state = |table: &StatusTable| table.connector("a").unwrap().tasks[&0].state;
        table.apply(task(of("new", status(State::Running, 3))));
        table.apply(task(of("old", status(State::Unassigned, 3))));
        assert_eq!(state(&table), State::Running);
        // the owner itself has stopped it
        table.apply(task(of("new", status(State::Unassigned, 3))));
        assert_eq!(state(&table), State::Unassigned);
        table.apply(task(of("new", status(State::Running, 3))));
        table.apply(task(of("old", status(State::Unassigned, 4))));
        assert_eq!(state(&table), State::Unassigned);
        table.apply(StatusRecord::Task("a".to_owned(), 0, None));
        assert_eq!(table.connector("a"), None);

        let connector = |status| StatusRecord::Connector("a".to_owned(), Some(status));
        table.apply(connector(of("new", status(State::Running, 4))));
        table.apply(connector(of("old", status(State::Unassigned, 3))));
        let held = |table: &StatusTable| table.connector("a").unwrap().connector.clone().unwrap().state;
        assert_eq!(held(&table), State::Running);
        table.apply(connector(of("new", status(State::Unassigned, 4))));
        assert_eq!(held(&table), State::Unassigned);
    }
}
