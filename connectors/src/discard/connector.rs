//! The class `millrace.DiscardSink`.

use super::config;
use super::task::DiscardTask;
use async_trait::async_trait;
use connect_api::record::SourceMap;
use connect_api::{
    ConfigDef, ConfigMap, ConnectError, Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, Task,
};

/// `millrace.DiscardSink`.
pub struct DiscardSink;

#[derive(Default)]
struct DiscardConnector {
    config: ConfigMap,
}

#[async_trait]
impl Connector for DiscardConnector {
    async fn start(&mut self, context: ConnectorContext) -> Result<(), ConnectError> {
        self.config = context.config;
        Ok(())
    }

    fn task_configs(&self, max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        Ok(vec![self.config.clone(); max_tasks])
    }

    async fn stop(&mut self) {}
}

#[async_trait]
impl ConnectorPlugin for DiscardSink {
    fn class(&self) -> &'static str {
        "millrace.DiscardSink"
    }

    fn task_class(&self) -> &'static str {
        "millrace.DiscardSinkTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Sink
    }

    fn config_def(&self) -> ConfigDef {
        config::definition()
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(DiscardConnector::default())
    }

    fn task(&self) -> Task {
        Task::Sink(Box::new(DiscardTask))
    }

    async fn alter_offsets(&self, _: &ConfigMap, _: &[(SourceMap, Option<SourceMap>)]) -> Result<bool, ConnectError> {
        Ok(true) // nothing is kept outside of the consumer group
    }
}
