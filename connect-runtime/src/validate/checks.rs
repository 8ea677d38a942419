//! Checks that span several options or look at the plugins and the worker. Errors are added to the options' entries.

use super::enrich::{list, text};
use crate::config::{ClientKind, WorkerConfig};
use crate::plugins::Plugins;
use connect_api::config::{ConfigValue, entry, with_prefix};
use connect_api::converter::ConverterUse;
use connect_api::{ConfigDef, ConfigMap, ConnectorKind, ConnectorPlugin};
use kafka_client::ClientConfig;

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

/// A class option is shown by the class's full name; one that is not there is an error. The class, if it is there.
fn resolve_class(values: &mut Values, name: &str, given: Option<&str>, class: Option<&'static str>) {
    match (given.map(str::trim), class) {
        (Some(_), Some(class)) => entry(values, name).value = Some(class.to_owned()),
        (Some(given), None) => {
            add(
                values,
                name,
                format!("Invalid value {given} for configuration {name}: Class {given} could not be found."),
            );
            entry(values, name).value = None;
        }
        (None, _) => {}
    }
}

/// All checks of the framework's options, in upstream's order where it shows.
pub(super) fn framework(subject: &Subject<'_>, values: &mut Values) {
    version(
        values,
        "connector.plugin.version",
        subject.config,
        subject.plugin.class(),
        subject.plugin.version(),
    );
    transformations(subject, values);
    predicates(subject, values);
    match subject.plugin.kind() {
        ConnectorKind::Sink => sink(subject, values),
        ConnectorKind::Source => source(subject, values),
    }
}

fn version(values: &mut Values, option: &str, config: &ConfigMap, class: &str, installed: &str) {
    match text(config, option).map(str::trim) {
        None | Some("") => {}
        Some(wanted) if wanted == installed => {}
        Some(wanted) => add(
            values,
            option,
            format!(
                "Invalid value {wanted} for configuration {option}: {class} is installed in version {installed} only"
            ),
        ),
    }
}

fn transformations(subject: &Subject<'_>, values: &mut Values) {
    let (plugins, config) = (subject.plugins, subject.config);
    let predicates = list(config, "predicates");
    for alias in list(config, "transforms") {
        let option = |name: &str| format!("transforms.{alias}.{name}");
        let type_option = option("type");
        let given = text(config, &type_option);
        let found = given.and_then(|class| plugins.transformation(class));
        match given.map(str::trim) {
            Some("org.apache.kafka.connect.transforms.Transformation" | "Transformation") => {
                add(values, &type_option, "This class is abstract and cannot be created.");
            }
            Some(class) if found.is_none() => match plugins.predicate(class).map(|plugin| plugin.class()) {
                Some(predicate) => add(
                    values,
                    &type_option,
                    format!("Class class {predicate} does not implement the Transformation interface"),
                ),
                None => resolve_class(values, &type_option, given, None),
            },
            _ => resolve_class(values, &type_option, given, found.map(|plugin| plugin.class())),
        }
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

fn predicates(subject: &Subject<'_>, values: &mut Values) {
    for alias in list(subject.config, "predicates") {
        let option = format!("predicates.{alias}.type");
        let given = text(subject.config, &option);
        let class = given
            .and_then(|class| subject.plugins.predicate(class))
            .map(|plugin| plugin.class());
        resolve_class(values, &option, given, class);
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
    if let Some(dead_letters) = text(config, "errors.deadletterqueue.topic.name")
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        const OPTION: &str = "errors.deadletterqueue.topic.name";
        if topics.iter().any(|topic| topic == dead_letters) {
            let message = format!(
                "The DLQ topic '{dead_letters}' may not be included in the list of topics ('topics={}') consumed by the connector",
                topics.join(",")
            );
            add(values, "topics", message);
        }
        let matching = pattern
            .and_then(|pattern| regex::Regex::new(&format!("^(?:{pattern})$")).ok())
            .is_some_and(|pattern| pattern.is_match(dead_letters));
        if matching {
            let message = format!(
                "The DLQ topic '{dead_letters}' may not be included in the regex matching the topics ('topics.regex={}') consumed by the connector",
                pattern.unwrap_or_default()
            );
            add(values, "topics.regex", message);
        }
        let valid = dead_letters.len() <= 249
            && dead_letters
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "._-".contains(character));
        if !valid {
            add(
                values,
                OPTION,
                format!("Invalid value {dead_letters} for configuration {OPTION}: not a valid topic name"),
            );
        }
    }
    if let Some(name) = text(config, "name") {
        let (option, group) = match text(config, "consumer.override.group.id") {
            Some(group) => ("consumer.override.group.id", group.to_owned()),
            None => ("name", format!("connect-{name}")),
        };
        if group == *subject.worker.group_id {
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

/// Options that are given as null where no definition says what that means.
pub(super) fn nulls(config: &ConfigMap, known: impl Fn(&str) -> bool) -> Values {
    config
        .iter()
        .filter(|(name, value)| value.is_none() && !known(name))
        .map(|(name, _)| {
            let mut value = ConfigValue::new(name, None);
            value
                .errors
                .push("Null value can not be supplied as the configuration value.".to_owned());
            value
        })
        .collect()
}

/// Options of the connector's Kafka clients: what the policy refuses, and what a client would refuse.
pub(super) fn overrides(subject: &Subject<'_>) -> Values {
    let mut values = Values::new();
    for kind in ClientKind::ALL {
        let concerned = !matches!(
            (kind, subject.plugin.kind()),
            (ClientKind::Consumer, ConnectorKind::Source)
        );
        let prefix = kind.override_prefix();
        for (option, value) in with_prefix(subject.config, prefix) {
            let mut outcome = ConfigValue::new(format!("{prefix}{option}"), value.clone());
            if let Err(refusal) = subject.worker.override_policy().check(&option) {
                outcome.errors.push(refusal);
            } else if let Some(value) = value.filter(|_| concerned) {
                let mut client = ClientConfig::default();
                client.set(&option, &value);
                let checked = match kind {
                    ClientKind::Consumer => client.check_consumer(),
                    ClientKind::Producer => client.check_producer(),
                    ClientKind::Admin => ClientConfig::from_java([(option.clone(), value)]).map(drop),
                };
                if let Err(error) = checked {
                    outcome.errors.push(format!(
                        "Invalid value for configuration {prefix}{option}: {}",
                        error.context
                    ));
                }
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
        let Some(given) = text(subject.config, option)
            .map(str::trim)
            .filter(|given| !given.is_empty())
        else {
            continue;
        };
        let prefix = format!("{option}.");
        let options = with_prefix(subject.config, &prefix);
        let (class, definition, configured) = match converter_use {
            ConverterUse::Header => match subject.plugins.header_converter(given) {
                Some(plugin) => (
                    Some(plugin.class()),
                    plugin.config_def(),
                    plugin.configure(&options).map(drop),
                ),
                None => (None, ConfigDef::new(), Ok(())),
            },
            _ => match subject.plugins.converter(given) {
                Some(plugin) => (
                    Some(plugin.class()),
                    plugin.config_def(),
                    plugin.configure(&options, converter_use).map(drop),
                ),
                None => (None, ConfigDef::new(), Ok(())),
            },
        };
        resolve_class(values, option, Some(given), class);
        let outcomes = ConfigDef::new()
            .embed(&prefix, None, definition.clone())
            .validate(subject.config);
        if let Err(error) = configured
            && outcomes.iter().all(|outcome| outcome.errors.is_empty())
        {
            add(values, option, format!("{}: {error}", class.unwrap_or(given)));
        }
        own.push((ConfigDef::new().embed(&prefix, None, definition), outcomes));
    }
    own
}
