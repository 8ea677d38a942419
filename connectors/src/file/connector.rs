//! The classes `FileStreamSourceConnector` and `FileStreamSinkConnector`.

use super::config::{self, FILE};
use super::task::{SinkFile, SourceFile};
use async_trait::async_trait;
use connect_api::config::entry;
use connect_api::record::SourceMap;
use connect_api::{
    ConfigDef, ConfigMap, ConfigValue, ConnectError, Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, Task,
};

/// `org.apache.kafka.connect.file.FileStreamSourceConnector`.
pub struct FileStreamSource;

/// `org.apache.kafka.connect.file.FileStreamSinkConnector`.
pub struct FileStreamSink;

/// A connector that has nothing to watch: every task has the connector's own configuration.
struct FileConnector {
    kind: ConnectorKind,
    config: ConfigMap,
}

impl FileConnector {
    fn new(kind: ConnectorKind) -> Self {
        let config = ConfigMap::default();
        Self { kind, config }
    }
}

#[async_trait]
impl Connector for FileConnector {
    async fn start(&mut self, context: ConnectorContext) -> Result<(), ConnectError> {
        tracing::info!(connector = %context.connector, "starting file connector");
        self.config = context.config;
        Ok(())
    }

    /// A file is read by one task; any number may append to one, whole lines at a time.
    fn task_configs(&self, max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        let tasks = match self.kind {
            ConnectorKind::Source => 1,
            ConnectorKind::Sink => max_tasks,
        };
        Ok(vec![self.config.clone(); tasks])
    }

    async fn stop(&mut self) {}
}

fn require_file(config: &ConfigMap, values: &mut Vec<ConfigValue>, stream: &str) {
    if config.get(FILE).and_then(Option::as_deref).is_none_or(str::is_empty) {
        entry(values, FILE).errors.push(format!(
            "Invalid value null for configuration {FILE}: {stream} is not supported, give the path of a file"
        ));
    }
}

#[async_trait]
impl ConnectorPlugin for FileStreamSource {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.file.FileStreamSourceConnector"
    }

    fn task_class(&self) -> &'static str {
        "org.apache.kafka.connect.file.FileStreamSourceTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Source
    }

    fn config_def(&self) -> ConfigDef {
        config::source()
    }

    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        require_file(config, values, "standard input");
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(FileConnector::new(self.kind()))
    }

    fn task(&self) -> Task {
        Task::Source(Box::new(SourceFile::default()))
    }

    async fn alter_offsets(
        &self,
        config: &ConfigMap,
        offsets: &[(SourceMap, Option<SourceMap>)],
    ) -> Result<bool, ConnectError> {
        config::source().parse(config)?;
        for (partition, offset) in offsets {
            let Some(offset) = offset else {
                continue; // any partition may be reset, even one that this connector would not write
            };
            check_offset(partition, offset)?;
        }
        Ok(true)
    }
}

/// Upstream's checks of `SourceConnector.alterOffsets`.
fn check_offset(partition: &SourceMap, offset: &SourceMap) -> Result<(), ConnectError> {
    if !partition.contains_key("filename") {
        return Err(ConnectError::fatal(
            "Partition objects should contain the key 'filename'",
        ));
    }
    let Some(position) = offset.get("position") else {
        return Err(ConnectError::fatal(
            "Offset objects should either be null or contain the key 'position'",
        ));
    };
    match position.as_i64() {
        Some(position) if position >= 0 => Ok(()),
        Some(_) => Err(ConnectError::fatal(
            "The value for the 'position' key in the offset should be a non-negative value",
        )),
        None => Err(ConnectError::fatal(
            "The value for the 'position' key in the offset is expected to be a Long value",
        )),
    }
}

#[async_trait]
impl ConnectorPlugin for FileStreamSink {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.file.FileStreamSinkConnector"
    }

    fn task_class(&self) -> &'static str {
        "org.apache.kafka.connect.file.FileStreamSinkTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Sink
    }

    fn config_def(&self) -> ConfigDef {
        config::sink()
    }

    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        require_file(config, values, "standard output");
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(FileConnector::new(self.kind()))
    }

    fn task(&self) -> Task {
        Task::Sink(Box::new(SinkFile::default()))
    }

    async fn alter_offsets(&self, _: &ConfigMap, _: &[(SourceMap, Option<SourceMap>)]) -> Result<bool, ConnectError> {
        Ok(true) // nothing is kept outside of the consumer group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn map(value: Value) -> SourceMap {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_source_has_one_task_and_a_sink_as_many_as_it_may_have() {
        assert_eq!(FileStreamSource.connector().task_configs(3).unwrap().len(), 1);
        assert_eq!(FileStreamSink.connector().task_configs(3).unwrap().len(), 3);
    }

    #[test]
    fn offsets_are_checked_with_upstreams_words() {
        let good = map(json!({"filename": "/tmp/in"}));
        for (partition, offset, expected) in [
            (json!({"f": 1}), json!({"position": 1}), "contain the key 'filename'"),
            (
                json!({"filename": "x"}),
                json!({"pos": 1}),
                "contain the key 'position'",
            ),
            (json!({"filename": "x"}), json!({"position": -1}), "non-negative value"),
            (
                json!({"filename": "x"}),
                json!({"position": "1"}),
                "expected to be a Long value",
            ),
            (
                json!({"filename": "x"}),
                json!({"position": 1.5}),
                "expected to be a Long value",
            ),
        ] {
            let error = check_offset(&map(partition), &map(offset)).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
        assert!(check_offset(&good, &map(json!({"position": 7}))).is_ok());
    }
}
