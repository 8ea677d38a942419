//! The class `millrace.FileCatalogSource`.

use super::config::{self, CatalogConfig};
use super::task::CatalogTask;
use async_trait::async_trait;
use connect_api::config::entry;
use connect_api::record::SourceMap;
use connect_api::{
    ConfigDef, ConfigMap, ConfigValue, ConnectError, Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, Task,
};

/// `millrace.FileCatalogSource`.
pub struct FileCatalogSource;

#[derive(Default)]
struct CatalogConnector {
    config: ConfigMap,
}

#[async_trait]
impl Connector for CatalogConnector {
    async fn start(&mut self, context: ConnectorContext) -> Result<(), ConnectError> {
        CatalogConfig::new(&context.config)?;
        self.config = context.config;
        Ok(())
    }

    fn task_configs(&self, _max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        Ok(vec![self.config.clone()]) // versions of one file follow one another
    }

    async fn stop(&mut self) {}
}

#[async_trait]
impl ConnectorPlugin for FileCatalogSource {
    fn class(&self) -> &'static str {
        "millrace.FileCatalogSource"
    }

    fn task_class(&self) -> &'static str {
        "millrace.FileCatalogSourceTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Source
    }

    fn config_def(&self) -> ConfigDef {
        config::definition()
    }

    /// The file is there, and a topic that the connector would create is compacted.
    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        let Ok(settings) = CatalogConfig::new(config) else {
            return;
        };
        if let Err(error) = std::fs::metadata(&settings.file) {
            let path = settings.file.display().to_string();
            entry(values, "file").errors.push(format!(
                "Invalid value {path} for configuration file: could not open it: {error}"
            ));
        }
        let text = |name: &str| config.get(name).and_then(Option::as_deref).unwrap_or_default();
        let creates = !text("topic.creation.default.partitions").is_empty();
        let grouped = !text("topic.creation.groups").is_empty();
        if creates && !grouped && !text("topic.creation.default.cleanup.policy").contains("compact") {
            entry(values, "topic").errors.push(format!(
                "Invalid value {} for configuration topic: a catalog needs a compacted topic, set \
                 topic.creation.default.cleanup.policy=compact",
                settings.topic
            ));
        }
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(CatalogConnector::default())
    }

    fn task(&self) -> Task {
        Task::Source(Box::new(CatalogTask::default()))
    }

    /// Offsets only tell which version was written; the topic decides what is sent.
    async fn alter_offsets(
        &self,
        _config: &ConfigMap,
        offsets: &[(SourceMap, Option<SourceMap>)],
    ) -> Result<bool, ConnectError> {
        match offsets.iter().any(|(_, offset)| offset.is_some()) {
            true => Err(ConnectError::unsupported(
                "the offsets of a file catalog cannot be altered, only reset: what it sends follows from its topic",
            )),
            false => Ok(true),
        }
    }
}
