//! The class `millrace.EventReplaySource`.

use super::config::{self, ReplayConfig};
use super::rows::Rows;
use super::task::ReplayTask;
use async_trait::async_trait;
use connect_api::config::entry;
use connect_api::record::SourceMap;
use connect_api::{
    ConfigDef, ConfigMap, ConfigValue, ConnectError, Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, Task,
};

/// `millrace.EventReplaySource`.
pub struct EventReplaySource;

#[derive(Default)]
struct ReplayConnector {
    config: ConfigMap,
}

#[async_trait]
impl Connector for ReplayConnector {
    async fn start(&mut self, context: ConnectorContext) -> Result<(), ConnectError> {
        ReplayConfig::new(&context.config)?;
        self.config = context.config;
        Ok(())
    }

    fn task_configs(&self, _max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        Ok(vec![self.config.clone()]) // one file, one order
    }

    async fn stop(&mut self) {}
}

#[async_trait]
impl ConnectorPlugin for EventReplaySource {
    fn class(&self) -> &'static str {
        "millrace.EventReplaySource"
    }

    fn task_class(&self) -> &'static str {
        "millrace.EventReplaySourceTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Source
    }

    fn config_def(&self) -> ConfigDef {
        config::definition()
    }

    /// Opens the file and looks for the columns that are named.
    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        if values.iter().any(|value| !value.errors.is_empty()) {
            return;
        }
        let Ok(settings) = ReplayConfig::new(config) else {
            return;
        };
        let opened = tokio::task::spawn_blocking(move || Rows::open(&settings)).await;
        if let Ok(Err(error)) = opened {
            let option = error.option;
            entry(values, option).errors.push(format!(
                "Invalid value {} for configuration {option}: {}",
                config.get(option).and_then(Option::as_deref).unwrap_or("null"),
                error.reason
            ));
        }
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(ReplayConnector::default())
    }

    fn task(&self) -> Task {
        Task::Source(Box::new(ReplayTask::default()))
    }

    async fn alter_offsets(
        &self,
        _config: &ConfigMap,
        offsets: &[(SourceMap, Option<SourceMap>)],
    ) -> Result<bool, ConnectError> {
        for (partition, offset) in offsets {
            let Some(offset) = offset else { continue };
            if !partition.get("file").is_some_and(serde_json::Value::is_string) {
                return Err(ConnectError::fatal(
                    "Partition objects should contain the key 'file' with a path",
                ));
            }
            if offset.get("position").and_then(serde_json::Value::as_u64).is_none() {
                return Err(ConnectError::fatal(
                    "Offset objects should either be null or contain the key 'position' with a number of rows",
                ));
            }
        }
        Ok(true)
    }
}
