//! Checks that span several options or look at the plugins and the worker. Errors are added to the options' entries.

use super::enrich::{list, text};
use crate::config::{ClientKind, WorkerConfig};
use crate::plugins::{BUILT_IN_VERSION, CONVERTER_TYPE, PluginKind, Plugins, converter_definition, version};
use connect_api::config::{ConfigValue, entry, with_prefix};
use connect_api::converter::ConverterUse;
use connect_api::java_regex::JavaRegex;
use connect_api::{ConfigDef, ConfigMap, ConnectorKind, ConnectorPlugin};

/// What a check looks at.
pub(super) struct Subject<'a> {
    pub(super) plugins: &'a Plugins,
    pub(super) worker: &'a WorkerConfig,
    pub(super) plugin: &'a dyn ConnectorPlugin,
    /// references to config providers resolved
    pub(super) config: &'a ConfigMap,
}

type Values = Vec<ConfigValue>;

fn add(values: &mut Values, name: &str, error: impl Into<String>) {
    entry(values, name).errors.push(error.into());
}

/// A class option is shown by the class's full name; one that cannot be used is an error.
fn resolve_class(subject: &Subject<'_>, values: &mut Values, kind: PluginKind, option: &str) {
    let Some(given) = text(subject.config, option).map(str::trim) else {
        return;
    };
    match subject.plugins.class_named(kind, given) {
        Some(class) => entry(values, option).value = Some(class.to_owned()),
        None => {
            let unusable = subject.plugins.unusable(kind, given);
            add(values, option, unusable.message(option, given));
            entry(values, option).value = unusable.class;
        }
    }
}

/// All checks of the framework's options, in upstream's order where it shows.
pub(super) fn framework(subject: &Subject<'_>, values: &mut Values) {
    transformations(subject, values);
    for alias in list(subject.config, "predicates") {
        let option = format!("predicates.{alias}.type");
        resolve_class(subject, values, PluginKind::Predicate, &option);
        plugin_version(
            subject,
            values,
            PluginKind::Predicate,
            &option,
            &format!("predicates.{alias}.plugin.version"),
        );
    }
    match subject.plugin.kind() {
        ConnectorKind::Sink => sink(subject, values),
        ConnectorKind::Source => source(subject, values),
    }
}

/// Why the version that `config` asks for is not there; `None` where it is.
pub(super) fn missing_version(config: &ConfigMap, option: &str, class: &str, installed: &str) -> Option<String> {
    let wanted = text(config, option)?;
    let range = version::shown(wanted);
    (!version::satisfies(installed, wanted)).then(|| {
        format!("Plugin {class} not found that matches the version range {range}, available versions: [{installed}]")
    })
}

fn plugin_version(subject: &Subject<'_>, values: &mut Values, kind: PluginKind, class_option: &str, option: &str) {
    let given = text(subject.config, class_option).map(str::trim);
    match given.and_then(|given| subject.plugins.class_named(kind, given)) {
        Some(class) => {
            if let Some(missing) = missing_version(subject.config, option, class, BUILT_IN_VERSION) {
                add(values, option, missing);
            }
        }
        // where there is no such class, a form has no versions of it to offer; as upstream, for converters
        None if matches!(kind, PluginKind::Converter | PluginKind::HeaderConverter) => {
            let is_class = |given: &str| subject.plugins.unusable(kind, given).class.is_some();
            entry(values, option).visible = given.is_none_or(is_class);
        }
        None => {}
    }
}

fn transformations(subject: &Subject<'_>, values: &mut Values) {
    let config = subject.config;
    let predicates = list(config, "predicates");
    for alias in list(config, "transforms") {
        let option = |name: &str| format!("transforms.{alias}.{name}");
        let type_option = option("type");
        resolve_class(subject, values, PluginKind::Transformation, &type_option);
        plugin_version(
            subject,
            values,
            PluginKind::Transformation,
            &type_option,
            &option("plugin.version"),
        );
        match text(config, &option("predicate")).map(str::trim) {
            None | Some("") => {
                if text(config, &option("negate")).is_some() {
                    let negate = option("negate");
                    let predicate = option("predicate");
                    entry(values, &type_option).errors.insert(
                        0,
                        format!(
                            "Config '{negate}' was provided but there is no config '{predicate}' defining a predicate to be negated."
                        ),
                    );
                }
            }
            Some(name) if predicates.iter().any(|known| known == name) => {}
            Some(name) => {
                let predicate = option("predicate");
                add(
                    values,
                    &predicate,
                    format!(
                        "Invalid value {name} for configuration {predicate}: it is not one of predicates ({})",
                        predicates.join(", ")
                    ),
                );
            }
        }
    }
}

fn sink(subject: &Subject<'_>, values: &mut Values) {
    let config = subject.config;
    let topics = list(config, "topics");
    let pattern = text(config, "topics.regex")
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let both = |values: &mut Values, message: &str| {
        add(values, "topics", message);
        add(values, "topics.regex", message);
    };
    match (topics.is_empty(), pattern) {
        (true, None) => both(values, "Must configure one of topics or topics.regex"),
        (false, Some(_)) => both(
            values,
            "topics and topics.regex are mutually exclusive options, but both are set.",
        ),
        _ => {}
    }
    if let Some(dead_letters) = dead_letter_topic(config) {
        const OPTION: &str = "errors.deadletterqueue.topic.name";
        if topics.iter().any(|topic| topic == dead_letters) {
            let message = format!(
                "The DLQ topic '{dead_letters}' may not be included in the list of topics ('topics=[{}]') consumed by the connector",
                topics.join(", ")
            );
            add(values, "topics", message);
        }
        let matching = pattern
            .and_then(|pattern| JavaRegex::new(pattern).ok())
            .is_some_and(|pattern| pattern.matches(dead_letters).unwrap_or(true));
        if matching {
            let message = format!(
                "The DLQ topic '{dead_letters}' may not be matched by the regex for the topics ('topics.regex={}') consumed by the connector",
                pattern.unwrap_or_default()
            );
            add(values, "topics.regex", message);
        }
        if let Err(reason) = kafka_client::check_topic_name(dead_letters) {
            add(
                values,
                OPTION,
                format!("Invalid value {dead_letters} for configuration {OPTION}: {reason}"),
            );
        }
    }
    if let Some(name) = text(config, "name") {
        let (option, group) = match text(config, "consumer.override.group.id") {
            Some(group) => ("consumer.override.group.id", group.to_owned()),
            None => ("name", format!("connect-{name}")),
        };
        if group == *subject.worker.group_id {
            if option != "name" {
                entry(values, option).value = Some(group.clone());
            }
            add(
                values,
                option,
                format!(
                    "Consumer group {group} conflicts with Connect worker group {}",
                    subject.worker.group_id
                ),
            );
        }
    }
}

fn dead_letter_topic(config: &ConfigMap) -> Option<&str> {
    text(config, "errors.deadletterqueue.topic.name")
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn source(subject: &Subject<'_>, values: &mut Values) {
    let config = subject.config;
    if text(config, "exactly.once.support").is_some_and(|text| text.trim().eq_ignore_ascii_case("required")) {
        add(
            values,
            "exactly.once.support",
            "This worker does not have exactly-once source support enabled.",
        );
    }
    if text(config, "transaction.boundary").is_some_and(|text| text.trim().eq_ignore_ascii_case("connector")) {
        add(
            values,
            "transaction.boundary",
            "The connector does not support connector-defined transaction boundaries with the given configuration. Please reconfigure it to use a different transaction boundary definition.",
        );
    }
    if text(config, "offsets.storage.topic").is_some_and(|text| !text.trim().is_empty()) {
        add(
            values,
            "offsets.storage.topic",
            "offsets.storage.topic is not supported by this worker: remove it, offsets are kept in the worker's offsets topic",
        );
    }
}

/// Whether the connector has a client of that kind.
pub(super) fn has_client(kind: ClientKind, connector: ConnectorKind, config: &ConfigMap) -> bool {
    let dead_letters = dead_letter_topic(config).is_some();
    let creates_topics = config.keys().any(|name| name.starts_with("topic.creation.default."));
    match (kind, connector) {
        (ClientKind::Consumer, connector) => connector == ConnectorKind::Sink,
        (ClientKind::Producer, ConnectorKind::Source) => true,
        (ClientKind::Producer, ConnectorKind::Sink) => dead_letters,
        // offsets of a sink's group are read and altered by an admin client
        (ClientKind::Admin, ConnectorKind::Sink) => true,
        (ClientKind::Admin, ConnectorKind::Source) => creates_topics,
    }
}

/// Options of the connector's Kafka clients: what the policy refuses, and what a client would refuse.
pub(super) fn overrides(subject: &Subject<'_>) -> Values {
    let mut values = Values::new();
    for kind in ClientKind::ALL {
        let prefix = kind.override_prefix();
        let used =
            has_client(kind, subject.plugin.kind(), subject.config) || subject.plugin.config_def().reads_below(prefix);
        for (option, value) in with_prefix(subject.config, prefix) {
            let mut outcome = ConfigValue::new(format!("{prefix}{option}"), value.clone());
            if let Err(refusal) = subject.worker.override_policy().check(&option) {
                outcome.errors.push(refusal);
            } else if !used {
                // worth a warning, not an entry
                continue;
            } else if let Some(value) = value
                && let Err(error) = kind.check(&option, &value)
            {
                outcome
                    .errors
                    .push(format!("Invalid value for configuration {prefix}{option}: {error}"));
            }
            if is_secret(&option) {
                outcome.value = outcome.value.map(|_| "[hidden]".to_owned());
            }
            values.push(outcome);
        }
    }
    values
}

fn is_secret(option: &str) -> bool {
    option.contains("password")
        || option.contains("jaas")
        || option.contains("keystore.key")
        || option.contains("secret")
}

/// The converters that the connector names itself: their class is checked on the option that names it; the answer is
/// the definitions and outcomes of their own options, under their prefixes.
pub(super) fn converters(subject: &Subject<'_>, values: &mut Values) -> Vec<(ConfigDef, Values)> {
    let mut own = Vec::new();
    for (option, converter_use) in [
        ("header.converter", ConverterUse::Header),
        ("key.converter", ConverterUse::Key),
        ("value.converter", ConverterUse::Value),
    ] {
        let kind = match converter_use {
            ConverterUse::Header => PluginKind::HeaderConverter,
            ConverterUse::Key | ConverterUse::Value => PluginKind::Converter,
        };
        resolve_class(subject, values, kind, option);
        plugin_version(subject, values, kind, option, &format!("{option}.plugin.version"));
        let Some(given) = text(subject.config, option).map(str::trim) else {
            continue;
        };
        let Some(definition) = converter_definition(subject.plugins, kind, given) else {
            continue;
        };
        let prefix = format!("{option}.");
        let mut options = with_prefix(subject.config, &prefix);
        options.shift_remove("plugin.version");
        let configured = match converter_use {
            ConverterUse::Header => subject
                .plugins
                .header_converter(given)
                .map(|plugin| plugin.configure(&options).map(drop)),
            _ => subject
                .plugins
                .converter(given)
                .map(|plugin| plugin.configure(&options, converter_use).map(drop)),
        };
        options
            .entry(CONVERTER_TYPE.to_owned())
            .or_insert_with(|| Some(converter_use.name().to_owned()));
        // as upstream, its messages speak of the options without their prefix
        let mut outcomes = definition.validate(&options);
        if let Some(Err(error)) = configured
            && outcomes.iter().all(|outcome| outcome.errors.is_empty())
        {
            add(values, option, format!("{given}: {error}"));
        }
        for outcome in &mut outcomes {
            outcome.name.insert_str(0, &prefix);
        }
        own.push((ConfigDef::new().embed(&prefix, None, definition), outcomes));
    }
    own
}
