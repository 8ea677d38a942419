//! Plugins: list, options, validation (contract 1.9 and 4.6).

use super::answer::Answer;
use super::body;
use super::state::{Ready, RestState};
use crate::plugins::simple_name;
use crate::validate::{definition_json, framework};
use connect_api::{ConfigDef, ConnectorKind};
use serde_json::{Value, json};

type Outcome = Result<Answer, Answer>;

pub(super) fn list(state: &RestState, query: &[(String, String)]) -> Answer {
    let connectors_only = !query
        .iter()
        .any(|(name, value)| name == "connectorsOnly" && value.eq_ignore_ascii_case("false"));
    let plugins = &state.plugins;
    let mut all: Vec<Value> = Vec::new();
    for kind in [ConnectorKind::Sink, ConnectorKind::Source] {
        all.extend(
            plugins
                .connectors_of(kind)
                .map(|plugin| json!({ "class": plugin.class(), "type": kind.name(), "version": plugin.version() })),
        );
    }
    if !connectors_only {
        let version = env!("CARGO_PKG_VERSION");
        let entry = |class: &str, kind: &str| json!({ "class": class, "type": kind, "version": version });
        all.extend(
            plugins
                .transformations
                .iter()
                .map(|plugin| entry(plugin.class(), "transformation")),
        );
        all.extend(
            plugins
                .predicates
                .iter()
                .map(|plugin| entry(plugin.class(), "predicate")),
        );
        all.extend(
            plugins
                .converters
                .iter()
                .map(|plugin| entry(plugin.class(), "converter")),
        );
        all.extend(
            plugins
                .header_converters
                .iter()
                .map(|plugin| entry(plugin.class(), "header_converter")),
        );
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
    let definition: Option<ConfigDef> = if let Some(plugin) = plugins.connector(name) {
        installed = plugin.version();
        let mut own = plugin.config_def();
        for key in framework::definition(plugin.kind()).keys() {
            if own.key(&key.name).is_none() {
                own = own.define(key.clone());
            }
        }
        Some(own)
    } else {
        plugins
            .transformation(name)
            .map(|plugin| plugin.config_def())
            .or_else(|| plugins.predicate(name).map(|plugin| plugin.config_def()))
            .or_else(|| plugins.converter(name).map(|plugin| plugin.config_def()))
            .or_else(|| plugins.header_converter(name).map(|plugin| plugin.config_def()))
    };
    match definition {
        Some(definition) if wanted.is_none_or(|wanted| wanted == installed) => Ok(Answer::ok(Value::Array(
            definition.keys().map(definition_json).collect(),
        ))),
        _ => Err(Answer::error(404, format!("Unknown plugin {name}."))),
    }
}

pub(super) async fn validate(ready: &Ready, plugin: &str, bytes: &[u8]) -> Outcome {
    let config = body::config_map(bytes)?;
    let class = config
        .get("connector.class")
        .and_then(Option::as_deref)
        .map(str::trim)
        .unwrap_or_default();
    if class.is_empty() {
        return Err(Answer::error(500, "Connector config contains no connector type"));
    }
    let normalized = |name: &str| simple_name(name).trim_end_matches("Connector").to_owned();
    if normalized(class) != normalized(plugin) {
        return Err(Answer::error(
            400,
            format!("Included connector type {class} does not match request type {plugin}"),
        ));
    }
    match ready.validator.validate(&config).await {
        Ok(validation) => Ok(Answer::ok(validation.to_json())),
        // as upstream: an unknown class is not the request's fault here
        Err(refusal) => Err(Answer::error(500, refusal.message())),
    }
}
