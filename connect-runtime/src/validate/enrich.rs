//! The options that follow from a connector's own configuration: those of its transformations, predicates and topic
//! creation groups, under their prefixes.

use crate::plugins::Plugins;
use connect_api::config::{ConfigDef, ConfigKey, ConfigType, Importance, ParsedValue, Validator, Width, with_prefix};
use connect_api::{ConfigMap, ConnectorKind};
use std::sync::Arc;

/// The framework's definition for `config`, with what its transformations and predicates add.
pub fn enriched(plugins: &Plugins, kind: ConnectorKind, config: &ConfigMap) -> ConfigDef {
    let mut definition = super::framework::definition(kind);
    let transformation_classes: Vec<&str> = plugins.transformations.iter().map(|plugin| plugin.class()).collect();
    for alias in list(config, "transforms") {
        let prefix = format!("transforms.{alias}.");
        let group = format!("Transforms: {alias}");
        let own = |name: &str, config_type| ConfigKey::new(format!("{prefix}{name}"), config_type);
        definition = definition
            .define(
                own("type", ConfigType::Class)
                    .importance(Importance::High)
                    .doc(format!("Class for the '{alias}' transformation."))
                    .group(&group, 1, Width::Long)
                    .display_name(format!("Transformation type for {alias}"))
                    .recommend(transformation_classes.clone()),
            )
            .define(
                own("plugin.version", ConfigType::String)
                    .default_null()
                    .importance(Importance::Low)
                    .doc(format!("Version of the '{alias}' transformation."))
                    .group(&group, 2, Width::Long)
                    .display_name(format!("Transformation version for {alias}")),
            )
            .define(
                own("predicate", ConfigType::String)
                    .default("")
                    .importance(Importance::Medium)
                    .doc("The alias of a predicate used to determine whether to apply this transformation.")
                    .group(&group, 3, Width::Long)
                    .display_name("Predicate"),
            )
            .define(
                own("negate", ConfigType::Boolean)
                    .default("false")
                    .importance(Importance::Medium)
                    .doc("Whether the configured predicate should be negated.")
                    .group(&group, 4, Width::Long)
                    .display_name("Negate"),
            );
        if let Some(plugin) = text(config, &format!("{prefix}type")).and_then(|class| plugins.transformation(class)) {
            definition = embed(definition, &prefix, &group, plugin.config_def());
        }
    }
    for alias in list(config, "predicates") {
        let prefix = format!("predicates.{alias}.");
        let group = format!("Predicates: {alias}");
        definition = definition
            .define(
                ConfigKey::new(format!("{prefix}type"), ConfigType::Class)
                    .importance(Importance::High)
                    .doc(format!("Class for the '{alias}' predicate."))
                    .group(&group, 1, Width::Long)
                    .display_name(format!("Predicate type for {alias}"))
                    .recommend(plugins.predicates.iter().map(|plugin| plugin.class())),
            )
            .define(
                ConfigKey::new(format!("{prefix}plugin.version"), ConfigType::String)
                    .default_null()
                    .importance(Importance::Low)
                    .doc(format!("Version of the '{alias}' predicate."))
                    .group(&group, 2, Width::Long)
                    .display_name(format!("Predicate version for {alias}")),
            );
        if let Some(plugin) = text(config, &format!("{prefix}type")).and_then(|class| plugins.predicate(class)) {
            definition = embed(definition, &prefix, &group, plugin.config_def());
        }
    }
    if kind == ConnectorKind::Source {
        definition = topic_creation(definition, config);
    }
    definition
}

/// Elements of a LIST option, as posted.
pub fn list(config: &ConfigMap, name: &str) -> Vec<String> {
    match text(config, name).map(str::trim) {
        None | Some("") => Vec::new(),
        Some(text) => {
            let mut elements: Vec<String> = Vec::new();
            for element in text.split(',').map(|element| element.trim().to_owned()) {
                if !elements.contains(&element) {
                    elements.push(element);
                }
            }
            elements
        }
    }
}

/// The text of an option.
pub fn text<'a>(config: &'a ConfigMap, name: &str) -> Option<&'a str> {
    config.get(name).and_then(Option::as_deref)
}

/// A plugin's options under its prefix. As upstream, its checks speak of the option without the prefix.
pub(super) fn embed(mut definition: ConfigDef, prefix: &str, group: &str, plugin: ConfigDef) -> ConfigDef {
    for key in ConfigDef::new().embed(prefix, Some(group), plugin).keys() {
        let mut key = key.clone();
        key.validator = key.validator.map(|validator| {
            let prefix = prefix.to_owned();
            Validator::Custom(
                "as the plugin says",
                Arc::new(move |name: &str, value: &ParsedValue| {
                    validator.check(name.strip_prefix(prefix.as_str()).unwrap_or(name), value)
                }),
            )
        });
        definition = definition.define(key);
    }
    definition
}

/// `topic.creation.GROUP.*`: checked as soon as one of them is given, since together they switch creation on.
fn topic_creation(mut definition: ConfigDef, config: &ConfigMap) -> ConfigDef {
    let given = with_prefix(config, "topic.creation.");
    if !given.keys().any(|name| name != "groups") {
        return definition;
    }
    let groups = list(config, "topic.creation.groups");
    for (group, is_default) in
        std::iter::once(("default", true)).chain(groups.iter().map(|group| (group.as_str(), false)))
    {
        let title = format!("Topic Creation: {group}");
        let key = |name: &str, config_type: ConfigType, order: i32, doc: &str| {
            ConfigKey::new(format!("topic.creation.{group}.{name}"), config_type)
                .importance(Importance::Low)
                .doc(doc)
                .group(&title, order, Width::Long)
        };
        let optional = |key: ConfigKey| if is_default { key } else { key.default_null() };
        let patterns = || Validator::Custom("regular expressions", Arc::new(regexes));
        let number = || Validator::Custom("-1 or at least 1", Arc::new(positive_or_default));
        if !is_default {
            definition = definition
                .define(
                    key(
                        "include",
                        ConfigType::List,
                        1,
                        "Regular expressions of the topics of this group.",
                    )
                    .validator(patterns()),
                )
                .define(
                    key(
                        "exclude",
                        ConfigType::List,
                        2,
                        "Regular expressions of topics that are not of this group.",
                    )
                    .default("")
                    .validator(patterns()),
                );
        }
        definition = definition
            .define(
                optional(key(
                    "replication.factor",
                    ConfigType::Short,
                    3,
                    "Replication factor; -1: the broker's default.",
                ))
                .validator(number()),
            )
            .define(
                optional(key(
                    "partitions",
                    ConfigType::Int,
                    4,
                    "Number of partitions; -1: the broker's default.",
                ))
                .validator(number()),
            );
    }
    definition
}

fn regexes(name: &str, value: &ParsedValue) -> Result<(), String> {
    let ParsedValue::List(patterns) = value else {
        return Ok(());
    };
    patterns.iter().try_for_each(|pattern| {
        regex::Regex::new(pattern)
            .map(drop)
            .map_err(|error| format!("Invalid value {pattern} for configuration {name}: Invalid regex: {error}"))
    })
}

fn positive_or_default(name: &str, value: &ParsedValue) -> Result<(), String> {
    match value.as_number() {
        Some(number) if number != -1.0 && number < 1.0 => Err(format!(
            "Invalid value {number} for configuration {name}: must be positive, or -1 to use the broker's default"
        )),
        _ => Ok(()),
    }
}
