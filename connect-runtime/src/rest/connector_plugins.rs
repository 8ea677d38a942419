//! Plugins: list, options, validation (contract 1.9 and 4.6).

use super::answer::Answer;
use super::body;
use super::state::{Ready, RestState};
use crate::herder::Refusal;
use crate::plugins::{PluginKind, converter_definition, version};
use crate::validate::{definition_json, framework};
use connect_api::{ConfigDef, ConnectorKind, ConnectorPlugin};
use serde_json::{Value, json};
use std::sync::Arc;

type Outcome = Result<Answer, Answer>;

/// Plugins are listed by class, sinks before sources; `connectorsOnly` is true where it is not given.
pub(super) fn list(state: &RestState, query: &[(String, String)]) -> Answer {
    let connectors_only = query
        .iter()
        .find(|(name, _)| name == "connectorsOnly")
        .is_none_or(|(_, value)| value.is_empty() || value.eq_ignore_ascii_case("true"));
    let plugins = &state.plugins;
    let mut all: Vec<Value> = Vec::new();
    for kind in [ConnectorKind::Sink, ConnectorKind::Source] {
        let mut connectors: Vec<_> = plugins.connectors_of(kind).collect();
        connectors.sort_by_key(|plugin| plugin.class());
        let entry = |plugin: &Arc<dyn ConnectorPlugin>| json!({ "class": plugin.class(), "type": kind.name(), "version": plugin.version() });
        all.extend(connectors.into_iter().map(entry));
    }
    if !connectors_only {
        for (kind, name) in [
            (PluginKind::Transformation, "transformation"),
            (PluginKind::Predicate, "predicate"),
            (PluginKind::Converter, "converter"),
            (PluginKind::HeaderConverter, "header_converter"),
        ] {
            let version = env!("CARGO_PKG_VERSION");
            let entry = |class: &str| json!({ "class": class, "type": name, "version": version });
            all.extend(plugins.classes(kind).into_iter().map(entry));
        }
    }
    Answer::ok(Value::Array(all))
}

/// A plugin's own options; those of a connector are followed by the framework's.
pub(super) fn config(state: &RestState, name: &str, query: &[(String, String)]) -> Outcome {
    let plugins = &state.plugins;
    let wanted = query
        .iter()
        .find(|(name, _)| name == "version")
        .map(|(_, version)| version.as_str());
    let mut installed = env!("CARGO_PKG_VERSION");
    let mut class = name;
    let definition: Option<ConfigDef> = if let Some(plugin) = plugins.connector(name) {
        (installed, class) = (plugin.version(), plugin.class());
        let mut own = plugin.config_def();
        for key in framework::definition(plugin.kind()).keys() {
            if own.key(&key.name).is_some() {
                continue;
            }
            own = own.define(match key.name.as_str() {
                "connector.plugin.version" => key.clone().default(installed),
                _ => key.clone(),
            });
        }
        Some(own)
    } else {
        plugins
            .transformation(name)
            .map(|plugin| plugin.config_def())
            .or_else(|| plugins.predicate(name).map(|plugin| plugin.config_def()))
            .or_else(|| converter_definition(plugins, PluginKind::Converter, name))
            .or_else(|| converter_definition(plugins, PluginKind::HeaderConverter, name))
    };
    match definition {
        Some(_) if wanted.is_some_and(|wanted| !version::satisfies(installed, wanted)) => {
            let range = version::shown(wanted.unwrap_or_default());
            let message = format!(
                "Plugin {class} not found that matches the version range {range}, available versions: [{installed}]"
            );
            Err(Answer::error(400, message))
        }
        Some(definition) => Ok(Answer::ok(Value::Array(
            definition.keys().map(definition_json).collect(),
        ))),
        None if plugins.class_named(PluginKind::ConfigProvider, name).is_some() => Err(Answer::error(
            400,
            format!(
                "Invalid plugin class {name}. Valid types are sink, source, converter, header_converter, transformation, predicate."
            ),
        )),
        None => Err(Answer::error(404, format!("Unknown plugin {name}."))),
    }
}

/// The name that says which connector is meant, without the word of its kind.
fn without_kind(name: &str) -> &str {
    name.strip_suffix("Connector")
        .filter(|rest| !rest.is_empty())
        .unwrap_or(name)
}

pub(super) async fn validate(ready: &Ready, plugin: &str, bytes: &[u8]) -> Outcome {
    let config = body::config_map(bytes)?;
    let class = config.get("connector.class").and_then(Option::as_deref);
    if let Some(class) = class.filter(|class| !without_kind(class).ends_with(without_kind(plugin))) {
        return Err(Answer::error(
            400,
            format!("Included connector type {class} does not match request type {plugin}"),
        ));
    }
    match ready.validator.validate(&config).await {
        Ok(validation) => Ok(Answer::ok(validation.to_json())),
        // as upstream: neither is the request's fault here
        Err(Refusal::Provider(error)) => Err(Answer::error(
            500,
            format!("{}: {}", error.java_class(), error.message()),
        )),
        Err(refusal) => Err(Answer::error(
            500,
            format!(
                "org.apache.kafka.connect.runtime.rest.errors.BadRequestException: {}",
                refusal.message()
            ),
        )),
    }
}
