//! Records of the config topic (contract 2.2): keys and values as a Java worker writes and reads them.

use super::jackson;
use connect_api::ConfigMap;
use serde_json::{Map, Value, json};

/// What should become of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// it runs
    Started,
    /// it keeps its tasks, which do nothing
    Paused,
    /// it has no tasks
    Stopped,
}

impl TargetState {
    /// `STARTED`, `PAUSED` or `STOPPED`.
    pub fn name(self) -> &'static str {
        match self {
            TargetState::Started => "STARTED",
            TargetState::Paused => "PAUSED",
            TargetState::Stopped => "STOPPED",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [TargetState::Started, TargetState::Paused, TargetState::Stopped]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// The key that signs requests among workers.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// base64 of the key
    pub key: String,
    /// algorithm (`HmacSHA256`)
    pub algorithm: String,
    /// milliseconds since the epoch
    pub created_ms: i64,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SessionKey")
            .field("created_ms", &self.created_ms)
            .finish_non_exhaustive()
    }
}

/// One record of the config topic.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigRecord {
    /// `connector-NAME`; `None` deletes it
    Connector(String, Option<ConfigMap>),
    /// `task-NAME-N`, in force from the next commit on
    Task(String, usize, ConfigMap),
    /// `commit-NAME`: the tasks 0 to N-1 are in force
    Commit(String, usize),
    /// `target-state-NAME`; `None` deletes it
    Target(String, Option<TargetState>),
    /// `tasks-fencing-NAME`: producers of so many tasks have been fenced
    TaskCount(String, i64),
    /// `session-key`
    SessionKey(SessionKey),
    /// `restart-connector-NAME`
    Restart {
        /// connector
        connector: String,
        /// whether tasks are restarted too
        include_tasks: bool,
        /// whether only what has failed is restarted
        only_failed: bool,
    },
    /// `logger-cluster-NAMESPACE`
    Logger(String, String),
}

impl ConfigRecord {
    /// Key and value as they are written; no value is a tombstone.
    pub fn encode(&self) -> (String, Option<Vec<u8>>) {
        let bytes = |value: Value| Some(jackson::to_bytes(&value));
        match self {
            ConfigRecord::Connector(name, config) => (
                format!("connector-{name}"),
                config
                    .as_ref()
                    .and_then(|config| bytes(json!({ "properties": properties(config) }))),
            ),
            ConfigRecord::Task(name, task, config) => (
                format!("task-{name}-{task}"),
                bytes(json!({ "properties": properties(config) })),
            ),
            ConfigRecord::Commit(name, tasks) => (format!("commit-{name}"), bytes(json!({ "tasks": tasks }))),
            ConfigRecord::Target(name, state) => (
                format!("target-state-{name}"),
                state.and_then(|state| {
                    // workers before 3.5 read only `state` and must pause what is stopped
                    let old = if state == TargetState::Started {
                        "STARTED"
                    } else {
                        "PAUSED"
                    };
                    bytes(json!({ "state": old, "state.v2": state.name() }))
                }),
            ),
            ConfigRecord::TaskCount(name, count) => {
                (format!("tasks-fencing-{name}"), bytes(json!({ "task-count": count })))
            }
            ConfigRecord::SessionKey(key) => (
                "session-key".to_owned(),
                bytes(json!({ "key": key.key, "algorithm": key.algorithm, "creation-timestamp": key.created_ms })),
            ),
            ConfigRecord::Restart {
                connector,
                include_tasks,
                only_failed,
            } => (
                format!("restart-connector-{connector}"),
                bytes(json!({ "include-tasks": include_tasks, "only-failed": only_failed })),
            ),
            ConfigRecord::Logger(namespace, level) => {
                (format!("logger-cluster-{namespace}"), bytes(json!({ "level": level })))
            }
        }
    }

    /// Reads a record. `Err` says what is wrong with one that is to be logged and dropped.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, String> {
        let key = std::str::from_utf8(key).map_err(|_| "the key is not UTF-8".to_owned())?;
        let value = value.filter(|bytes| !bytes.is_empty() && *bytes != b"null");
        let object = || -> Result<Map<String, Value>, String> {
            let bytes = value.ok_or_else(|| "unexpected tombstone".to_owned())?;
            serde_json::from_slice(bytes).map_err(|error| format!("the value is not a JSON object: {error}"))
        };
        if let Some(name) = key.strip_prefix("target-state-") {
            if value.is_none() {
                return Ok(ConfigRecord::Target(name.to_owned(), None));
            }
            let object = object()?;
            let state = text(&object, "state.v2").or_else(|_| text(&object, "state"))?;
            let state = TargetState::parse(state).ok_or_else(|| format!("unknown target state {state}"))?;
            Ok(ConfigRecord::Target(name.to_owned(), Some(state)))
        } else if let Some(name) = key.strip_prefix("connector-") {
            match value {
                None => Ok(ConfigRecord::Connector(name.to_owned(), None)),
                Some(_) => Ok(ConfigRecord::Connector(name.to_owned(), Some(config_of(&object()?)?))),
            }
        } else if let Some(rest) = key.strip_prefix("task-") {
            let (name, task) = rest.rsplit_once('-').ok_or("no task number")?;
            let task = task.parse().map_err(|_| format!("bad task number {task}"))?;
            Ok(ConfigRecord::Task(name.to_owned(), task, config_of(&object()?)?))
        } else if let Some(name) = key.strip_prefix("commit-") {
            let tasks = usize::try_from(integer(&object()?, "tasks")?).map_err(|_| "negative number of tasks")?;
            Ok(ConfigRecord::Commit(name.to_owned(), tasks))
        } else if let Some(name) = key.strip_prefix("restart-connector-") {
            let object = object()?;
            Ok(ConfigRecord::Restart {
                connector: name.to_owned(),
                include_tasks: boolean(&object, "include-tasks"),
                only_failed: boolean(&object, "only-failed"),
            })
        } else if let Some(name) = key.strip_prefix("tasks-fencing-") {
            Ok(ConfigRecord::TaskCount(
                name.to_owned(),
                integer(&object()?, "task-count")?,
            ))
        } else if key == "session-key" {
            let object = object()?;
            Ok(ConfigRecord::SessionKey(SessionKey {
                key: text(&object, "key")?.to_owned(),
                algorithm: text(&object, "algorithm")?.to_owned(),
                created_ms: integer(&object, "creation-timestamp")?,
            }))
        } else if let Some(namespace) = key.strip_prefix("logger-cluster-") {
            Ok(ConfigRecord::Logger(
                namespace.to_owned(),
                text(&object()?, "level")?.to_owned(),
            ))
        } else {
            Err("unknown key".to_owned())
        }
    }
}

fn properties(config: &ConfigMap) -> Value {
    Value::Object(
        config
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().map_or(Value::Null, Value::String)))
            .collect(),
    )
}

fn config_of(object: &Map<String, Value>) -> Result<ConfigMap, String> {
    let properties = object
        .get("properties")
        .and_then(Value::as_object)
        .ok_or("no member properties that is an object")?;
    properties
        .iter()
        .map(|(name, value)| match value {
            Value::Null => Ok((name.clone(), None)),
            Value::String(text) => Ok((name.clone(), Some(text.clone()))),
            Value::Bool(_) | Value::Number(_) => Ok((name.clone(), Some(value.to_string()))),
            Value::Array(_) | Value::Object(_) => Err(format!("the value of {name} is not text")),
        })
        .collect()
}

fn text<'a>(object: &'a Map<String, Value>, member: &str) -> Result<&'a str, String> {
    object
        .get(member)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("no member {member} that is text"))
}

fn integer(object: &Map<String, Value>, member: &str) -> Result<i64, String> {
    object
        .get(member)
        .and_then(Value::as_i64)
        .ok_or_else(|| format!("no member {member} that is an integer"))
}

fn boolean(object: &Map<String, Value>, member: &str) -> bool {
    object.get(member).and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect()
    }

    /// The worked example of a one-task source that is created, paused, stopped and deleted on a Java worker.
    #[test]
    fn records_are_those_of_a_java_worker() {
        let connector = config(&[
            ("connector.class", "FileStreamSource"),
            ("file", "${file:/s.properties:f}"),
            ("topic", "t"),
            ("name", "src"),
        ]);
        let task = config(&[
            ("file", "${file:/s.properties:f}"),
            ("topic", "t"),
            ("connector.class", "FileStreamSource"),
            ("name", "src"),
            ("task.class", "org.apache.kafka.connect.file.FileStreamSourceTask"),
        ]);
        let key = SessionKey {
            key: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            algorithm: "HmacSHA256".to_owned(),
            created_ms: 1_760_000_000_000,
        };
        let expected: [(ConfigRecord, &str, Option<&str>); 10] = [
            (
                ConfigRecord::SessionKey(key),
                "session-key",
                Some(
                    r#"{"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","algorithm":"HmacSHA256","creation-timestamp":1760000000000}"#,
                ),
            ),
            (
                ConfigRecord::Connector("src".to_owned(), Some(connector)),
                "connector-src",
                Some(
                    r#"{"properties":{"connector.class":"FileStreamSource","file":"${file:/s.properties:f}","topic":"t","name":"src"}}"#,
                ),
            ),
            (
                ConfigRecord::Task("src".to_owned(), 0, task),
                "task-src-0",
                Some(
                    r#"{"properties":{"file":"${file:/s.properties:f}","topic":"t","connector.class":"FileStreamSource","name":"src","task.class":"org.apache.kafka.connect.file.FileStreamSourceTask"}}"#,
                ),
            ),
            (
                ConfigRecord::Commit("src".to_owned(), 1),
                "commit-src",
                Some(r#"{"tasks":1}"#),
            ),
            (
                ConfigRecord::TaskCount("src".to_owned(), 1),
                "tasks-fencing-src",
                Some(r#"{"task-count":1}"#),
            ),
            (
                ConfigRecord::Target("src".to_owned(), Some(TargetState::Paused)),
                "target-state-src",
                Some(r#"{"state":"PAUSED","state.v2":"PAUSED"}"#),
            ),
            (
                ConfigRecord::Target("src".to_owned(), Some(TargetState::Stopped)),
                "target-state-src",
                Some(r#"{"state":"PAUSED","state.v2":"STOPPED"}"#),
            ),
            (ConfigRecord::Connector("src".to_owned(), None), "connector-src", None),
            (ConfigRecord::Target("src".to_owned(), None), "target-state-src", None),
            (
                ConfigRecord::Restart {
                    connector: "src".to_owned(),
                    include_tasks: true,
                    only_failed: false,
                },
                "restart-connector-src",
                Some(r#"{"include-tasks":true,"only-failed":false}"#),
            ),
        ];
        for (record, key, value) in expected {
            let (encoded_key, encoded_value) = record.encode();
            assert_eq!(encoded_key, key);
            assert_eq!(
                encoded_value
                    .as_deref()
                    .map(|bytes| std::str::from_utf8(bytes).unwrap()),
                value
            );
            assert_eq!(
                ConfigRecord::decode(encoded_key.as_bytes(), encoded_value.as_deref()),
                Ok(record)
            );
        }
    }

    #[test]
    fn names_may_hold_dashes_and_old_target_states_are_read() {
        let task = br#"{"properties":{}}"#;
        assert_eq!(
            ConfigRecord::decode(b"task-a-b-12", Some(task)),
            Ok(ConfigRecord::Task("a-b".to_owned(), 12, ConfigMap::new()))
        );
        assert_eq!(
            ConfigRecord::decode(b"target-state-a", Some(br#"{"state":"PAUSED"}"#)),
            Ok(ConfigRecord::Target("a".to_owned(), Some(TargetState::Paused)))
        );
        assert!(ConfigRecord::decode(b"commit-a", Some(br#"{"tasks":"1"}"#)).is_err());
        assert!(ConfigRecord::decode(b"something", Some(b"{}")).is_err());
    }
}
