//! The connector plugin `millrace.InferenceSink`.

mod options;

pub use options::ConnectorOptions;

use crate::service::InferenceService;
use crate::task::{InferenceTask, changelog_topic};
use async_trait::async_trait;
use connect_api::config::{ConfigDef, ConfigMap, ConfigValue, entry};
use connect_api::connector::{Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, Task};
use connect_api::error::ConnectError;
use std::sync::Arc;

/// The plugin; it shares the worker's [`InferenceService`].
pub struct InferenceSink {
    service: Arc<InferenceService>,
}

impl InferenceSink {
    /// The plugin over a service, which is to be registered as the worker's extension.
    pub fn new(service: Arc<InferenceService>) -> InferenceSink {
        InferenceSink { service }
    }
}

#[async_trait]
impl ConnectorPlugin for InferenceSink {
    fn class(&self) -> &'static str {
        "millrace.InferenceSink"
    }

    fn task_class(&self) -> &'static str {
        "millrace.InferenceSinkTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Sink
    }

    fn config_def(&self) -> ConfigDef {
        options::config_def()
    }

    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        let text = |name: &str| {
            config
                .get(name)
                .cloned()
                .flatten()
                .filter(|text| !text.trim().is_empty())
        };
        if text("topics.regex").is_some() {
            entry(values, "topics.regex").errors.push(
                "topics.regex is not supported by millrace.InferenceSink: its partitions are fixed, so name the topics in `topics`".to_owned(),
            );
        }
        if text("transforms").is_some() {
            entry(values, "transforms").errors.push(
                "transforms is not supported by millrace.InferenceSink: records are read as they are; use expressions in a feature view".to_owned(),
            );
        }
        if let Some(converter) = text("value.converter").filter(|class| !class.ends_with("JsonConverter")) {
            entry(values, "value.converter").errors.push(format!(
                "Invalid value {converter} for configuration value.converter: millrace.InferenceSink reads JSON; use org.apache.kafka.connect.json.JsonConverter"
            ));
        }
        let override_of = |option: &str| text(&format!("consumer.override.{option}"));
        let exactly_once = text("processing.guarantee").is_none_or(|guarantee| guarantee.trim() == "exactly_once_v2");
        if let Some(level) = override_of(options::ISOLATION)
            && exactly_once
            && !level.trim().eq_ignore_ascii_case("read_committed")
        {
            let option = format!("consumer.override.{}", options::ISOLATION);
            entry(values, &option).errors.push(format!(
                "Invalid value {level} for configuration {option}: processing.guarantee=exactly_once_v2 reads committed records only; use read_committed, or leave it out"
            ));
        }
        if override_of("allow.auto.create.topics").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            let option = "consumer.override.allow.auto.create.topics";
            entry(values, option).errors.push(format!(
                "Invalid value true for configuration {option}: the topics that millrace.InferenceSink reads are never made by it, since their partitions decide where keys lie; create them"
            ));
        }
        let name = text("name").unwrap_or_default();
        // with the shortest name that a store can have
        if let Err(reason) = kafka_client::check_topic_name(&changelog_topic(name.trim(), "s")) {
            entry(values, "name").errors.push(format!(
                "Invalid value {name} for configuration name: topics of the connector's state are named after it; {reason}"
            ));
        }
        for topic in topics(config) {
            if let Some(other) = self.service.owner_of(&topic).filter(|other| **other != *name) {
                entry(values, "topics").errors.push(format!(
                    "Invalid value {topic} for configuration topics: the topic's models belong to inference connector {other} already"
                ));
            }
        }
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(InferenceConnector {
            service: self.service.clone(),
            context: None,
        })
    }

    fn task(&self) -> Task {
        let service = self.service.clone();
        Task::Partitioned(Box::new(move |context| {
            Ok(Box::new(InferenceTask::new(service, context)?))
        }))
    }
}

/// The topics of a connector's configuration.
pub(crate) fn topics(config: &ConfigMap) -> Vec<String> {
    let text = config.get("topics").cloned().flatten().unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|topic| !topic.is_empty())
        .map(str::to_owned)
        .collect()
}

struct InferenceConnector {
    service: Arc<InferenceService>,
    context: Option<ConnectorContext>,
}

#[async_trait]
impl Connector for InferenceConnector {
    async fn start(&mut self, context: ConnectorContext) -> Result<(), ConnectError> {
        ConnectorOptions::parse(&context.config)?;
        self.service.claim(&context.connector, &topics(&context.config))?;
        self.context = Some(context);
        Ok(())
    }

    fn task_configs(&self, max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        let config = self
            .context
            .as_ref()
            .map(|context| context.config.clone())
            .unwrap_or_default();
        Ok(vec![config; max_tasks.max(1)])
    }

    async fn stop(&mut self) {
        if let Some(context) = self.context.take() {
            self.service.release(&context.connector);
        }
    }
}
