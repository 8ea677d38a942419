//! The options that follow from a connector's own configuration: those of its transformations, predicates and topic
//! creation groups, under their prefixes.

use crate::config::WorkerConfig;
use crate::plugins::{BUILT_IN_VERSION, PluginKind, Plugins};
use connect_api::config::regex_validator;
use connect_api::config::{
    ConfigDef, ConfigKey, ConfigType, Default, Importance, ParsedValue, Validator, Width, split_list, with_prefix,
};
use connect_api::{ConfigMap, ConnectorKind, ConnectorPlugin};
use std::sync::Arc;

/// The framework's definition for `config`, with what its transformations and predicates add, and with what is in force
/// where the connector says nothing: the worker's converters, the versions that are installed.
pub fn enriched(
    plugins: &Plugins,
    worker: &WorkerConfig,
    plugin: &dyn ConnectorPlugin,
    config: &ConfigMap,
) -> ConfigDef {
    let kind = plugin.kind();
    let mut definition = with_defaults(plugins, worker, plugin, config, super::framework::definition(kind));
    for alias in list(config, "transforms") {
        let title = format!("Transforms: {alias}");
        definition = aliased(
            definition,
            plugins,
            config,
            PluginKind::Transformation,
            "transforms",
            &alias,
            &title,
        );
    }
    for alias in list(config, "predicates") {
        let title = format!("Predicates: {alias}");
        definition = aliased(
            definition,
            plugins,
            config,
            PluginKind::Predicate,
            "predicates",
            &alias,
            &title,
        );
    }
    if kind == ConnectorKind::Source {
        definition = topic_creation(definition, config);
    }
    definition
}

/// A key of a version that is installed.
fn installed(key: &ConfigKey, version: &str) -> ConfigKey {
    key.clone().default(version).recommend([version])
}

/// The framework's options with the connector's version.
pub fn with_version(definition: ConfigDef, plugin: &dyn ConnectorPlugin) -> ConfigDef {
    match definition.key("connector.plugin.version") {
        Some(key) => {
            let key = installed(key, plugin.version());
            definition.define(key)
        }
        None => definition,
    }
}

/// The framework's options with the defaults of this worker and the values that it can offer.
fn with_defaults(
    plugins: &Plugins,
    worker: &WorkerConfig,
    plugin: &dyn ConnectorPlugin,
    config: &ConfigMap,
    definition: ConfigDef,
) -> ConfigDef {
    let definition = with_version(definition, plugin);
    let mut changed = Vec::new();
    for (option, kind) in [
        ("key.converter", PluginKind::Converter),
        ("value.converter", PluginKind::Converter),
        ("header.converter", PluginKind::HeaderConverter),
    ] {
        let (default, _) = worker.converter(option);
        let default = plugins.class_named(kind, &default).unwrap_or_default();
        if let Some(key) = definition.key(option) {
            changed.push(key.clone().default(default).recommend(plugins.classes(kind)));
        }
        let chosen = text(config, option).unwrap_or(default);
        if let Some(key) = definition.key(&format!("{option}.plugin.version"))
            && plugins.class_named(kind, chosen.trim()).is_some()
        {
            changed.push(installed(key, BUILT_IN_VERSION));
        }
    }
    // an option that is defined again keeps its place
    changed.into_iter().fold(definition, ConfigDef::define)
}

/// The options of one transformation or predicate. Those of its class follow where it can be used.
fn aliased(
    definition: ConfigDef,
    plugins: &Plugins,
    config: &ConfigMap,
    kind: PluginKind,
    option: &str,
    alias: &str,
    group: &str,
) -> ConfigDef {
    let prefix = format!("{option}.{alias}.");
    let (noun, title) = match kind {
        PluginKind::Transformation => ("transformation", "Transformation"),
        _ => ("predicate", "Predicate"),
    };
    let class = text(config, &format!("{prefix}type")).map(str::trim);
    let own = class.and_then(|class| match kind {
        PluginKind::Transformation => plugins
            .transformation(class)
            .map(|plugin| with_predicate(plugin.config_def())),
        _ => plugins.predicate(class).map(|plugin| plugin.config_def()),
    });
    let mut version = ConfigKey::new(format!("{prefix}plugin.version"), ConfigType::String)
        .default_null()
        .importance(Importance::High)
        .doc(format!("Version of the '{alias}' {noun}."))
        .group(group, 1, Width::Long)
        .display_name(format!("{title} version for {alias}"));
    if own.is_some() {
        version = version.default(BUILT_IN_VERSION).recommend([BUILT_IN_VERSION]);
    }
    let definition = definition
        .define(
            ConfigKey::new(format!("{prefix}type"), ConfigType::Class)
                .importance(Importance::High)
                .doc(format!("Class for the '{alias}' {noun}."))
                .group(group, 0, Width::Long)
                .display_name(format!("{title} type for {alias}"))
                .recommend(plugins.classes(kind)),
        )
        .define(version);
    match own {
        Some(own) => embed(definition, &prefix, group, own),
        None => definition,
    }
}

/// The options of a transformation, and whether it applies.
fn with_predicate(own: ConfigDef) -> ConfigDef {
    own.define(
        ConfigKey::new("predicate", ConfigType::String)
            .default_null()
            .importance(Importance::Medium)
            .doc("The alias of a predicate used to determine whether to apply this transformation."),
    )
    .define(
        ConfigKey::new("negate", ConfigType::Boolean)
            .default("false")
            .importance(Importance::Medium)
            .doc("Whether the configured predicate should be negated."),
    )
}

/// Elements of a LIST option, as posted.
pub fn list(config: &ConfigMap, name: &str) -> Vec<String> {
    let mut elements: Vec<String> = Vec::new();
    for element in split_list(text(config, name).unwrap_or_default()) {
        if !elements.iter().any(|known| known == element) {
            elements.push(element.to_owned());
        }
    }
    elements
}

/// The text of an option.
pub fn text<'a>(config: &'a ConfigMap, name: &str) -> Option<&'a str> {
    config.get(name).and_then(Option::as_deref)
}

/// A plugin's options under its prefix, in upstream's order: those that must be given, then by importance and name. As
/// upstream, its checks speak of the option without the prefix.
fn embed(definition: ConfigDef, prefix: &str, group: &str, plugin: ConfigDef) -> ConfigDef {
    let rank = |key: &ConfigKey| {
        let optional = key.default != Default::Required;
        (optional, key.importance as u8, key.name.clone())
    };
    let mut keys: Vec<ConfigKey> = plugin.keys().cloned().collect();
    keys.sort_by_key(rank);
    let mut sorted = ConfigDef::new();
    for (order, mut key) in (2..).zip(keys) {
        key.order = order;
        key.validator = key.validator.map(|validator| {
            let prefix = prefix.to_owned();
            Validator::Custom(
                "as the plugin says",
                Arc::new(move |name: &str, value: &ParsedValue| {
                    validator.check(name.strip_prefix(prefix.as_str()).unwrap_or(name), value)
                }),
            )
        });
        sorted = sorted.define(key);
    }
    // former names come along
    definition.embed(prefix, Some(group), sorted.with_former_names_of(&plugin))
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
                    .validator(regex_validator()),
                )
                .define(
                    key(
                        "exclude",
                        ConfigType::List,
                        2,
                        "Regular expressions of topics that are not of this group.",
                    )
                    .default("")
                    .validator(regex_validator()),
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

fn positive_or_default(name: &str, value: &ParsedValue) -> Result<(), String> {
    match value.as_number() {
        Some(number) if number != -1.0 && number < 1.0 => Err(format!(
            "Invalid value {number} for configuration {name}: must be positive, or -1 to use the broker's default"
        )),
        _ => Ok(()),
    }
}
