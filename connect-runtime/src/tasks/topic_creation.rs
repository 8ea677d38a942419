//! Topics that a source connector creates before its first record to them (contract 4.3, KIP-158).

use crate::running::{client_config, kafka_error};
use connect_api::config::java_regex;
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator};
use connect_api::java_regex::JavaRegex;
use connect_api::{ConnectError, ParsedConfig};
use indexmap::IndexMap;
use kafka_client::{Admin, ErrorCode, NewTopic};
use std::collections::HashSet;
use std::sync::Arc;

const PREFIX: &str = "topic.creation.";
const DEFAULT_GROUP: &str = "default";

/// Settings of new topics whose names match.
#[derive(Debug)]
struct Group {
    include: Vec<JavaRegex>,
    exclude: Vec<JavaRegex>,
    partitions: i32,
    replication_factor: i16,
    config: IndexMap<String, String>,
}

impl Group {
    fn matches(&self, topic: &str) -> Result<bool, ConnectError> {
        let any = |patterns: &[JavaRegex]| {
            patterns
                .iter()
                .try_fold(false, |found, pattern| Ok(found || pattern.matches(topic)?))
        };
        Ok(any(&self.include)? && !any(&self.exclude)?)
    }
}

/// Definition of the options; they depend on which groups `config` lists.
pub fn definition(config: &ConfigMap) -> ConfigDef {
    let mut definition = ConfigDef::new().define(
        ConfigKey::new("topic.creation.groups", ConfigType::List)
            .default("")
            .validator(Validator::AnyNonDuplicateValues {
                empty_allowed: true,
                null_allowed: false,
            })
            .doc("Groups of configurations for topics created by source connectors."),
    );
    let given = |name: &str| config.get(name).is_some_and(Option::is_some);
    let used = given("topic.creation.default.partitions") || given("topic.creation.default.replication.factor");
    let groups = groups(config);
    if !used && groups.is_empty() {
        return definition;
    }
    for group in std::iter::once(DEFAULT_GROUP).chain(groups.iter().map(String::as_str)) {
        let is_default = group == DEFAULT_GROUP;
        let option = |suffix: &str| format!("{PREFIX}{group}.{suffix}");
        if !is_default {
            definition = definition
                .define(
                    ConfigKey::new(option("include"), ConfigType::List)
                        .importance(Importance::Low)
                        .doc("Regular expressions of topic names that this group covers."),
                )
                .define(
                    ConfigKey::new(option("exclude"), ConfigType::List)
                        .default("")
                        .importance(Importance::Low)
                        .doc("Regular expressions of topic names that this group leaves out."),
                );
        }
        let numbers = |name: &str, config_type: ConfigType, doc: &str| {
            let key = ConfigKey::new(option(name), config_type)
                .importance(Importance::Low)
                .doc(doc)
                .validator(Validator::Custom(
                    "Positive number, or -1 to use the broker's default",
                    Arc::new(positive),
                ));
            if is_default { key } else { key.default_null() }
        };
        definition = definition
            .define(numbers(
                "replication.factor",
                ConfigType::Short,
                "Replication factor of new topics.",
            ))
            .define(numbers("partitions", ConfigType::Int, "Partitions of new topics."));
    }
    definition
}

fn positive(name: &str, value: &connect_api::config::ParsedValue) -> Result<(), String> {
    match value.as_number() {
        None => Ok(()),
        Some(number) if number == -1.0 || number >= 1.0 => Ok(()),
        Some(number) => Err(format!(
            "Invalid value {number} for configuration {name}: must be positive, or -1 to use the broker's default"
        )),
    }
}

fn groups(config: &ConfigMap) -> Vec<String> {
    let text = config
        .get("topic.creation.groups")
        .and_then(Option::as_deref)
        .unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Creates topics for one task.
pub(super) struct TopicCreation {
    groups: Vec<Group>,
    default: Option<Group>,
    known: HashSet<Arc<str>>,
    admin_settings: IndexMap<String, String>,
}

impl TopicCreation {
    /// What a connector's options say; nothing is created where they say nothing or the worker forbids it.
    pub(super) fn new(
        config: &ConfigMap,
        enabled: bool,
        admin_settings: IndexMap<String, String>,
    ) -> Result<Self, ConnectError> {
        let parsed = definition(config).parse(config)?;
        let mut all = Vec::new();
        let mut default = None;
        if enabled && parsed.integer("topic.creation.default.partitions").is_some() {
            let fallback = group(config, &parsed, DEFAULT_GROUP, (-1, -1))?;
            for name in groups(config) {
                all.push(group(
                    config,
                    &parsed,
                    &name,
                    (fallback.partitions, fallback.replication_factor),
                )?);
            }
            default = Some(fallback);
        }
        Ok(Self {
            groups: all,
            default,
            known: HashSet::new(),
            admin_settings,
        })
    }

    /// Whether `ensure` may have something to do for `topic`.
    pub(super) fn is_new(&self, topic: &str) -> bool {
        self.default.is_some() && !self.known.contains(topic)
    }

    /// The first of the listed groups that covers `topic`.
    fn group_of(&self, topic: &str) -> Result<Option<&Group>, ConnectError> {
        for group in &self.groups {
            if group.matches(topic)? {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Creates `topic` if it is missing. An existing topic is left alone.
    pub(super) async fn ensure(&mut self, topic: &Arc<str>) -> Result<(), ConnectError> {
        let Some(default) = &self.default else { return Ok(()) };
        let group = self.group_of(topic)?.unwrap_or(default);
        let admin = Admin::new(&client_config(&self.admin_settings)).map_err(kafka_error)?;
        if admin.topic(topic).await.map_err(kafka_error)?.is_none() {
            let new = NewTopic {
                name: topic.to_string(),
                partitions: group.partitions,
                replication_factor: group.replication_factor,
                config: group.config.clone(),
            };
            for (_, result) in admin.create_topics(&[new]).await.map_err(kafka_error)? {
                match result {
                    Ok(()) => tracing::info!(topic = %topic, partitions = group.partitions, "created topic"),
                    Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
                    Err(error) => {
                        let text = format!("Could not create topic {topic} as topic.creation.* says: {error}");
                        return Err(ConnectError::new(kafka_error(error).kind(), text));
                    }
                }
            }
        }
        self.known.insert(Arc::clone(topic));
        Ok(())
    }
}

fn group(
    config: &ConfigMap,
    parsed: &ParsedConfig,
    name: &str,
    (partitions, replication): (i32, i16),
) -> Result<Group, ConnectError> {
    let prefix = format!("{PREFIX}{name}.");
    let patterns = |suffix: &str| -> Result<Vec<JavaRegex>, ConnectError> {
        let option = format!("{prefix}{suffix}");
        let patterns = parsed.list(&option).iter();
        patterns.map(|pattern| java_regex(&option, pattern)).collect()
    };
    let own = ["include", "exclude", "partitions", "replication.factor"];
    let settings = connect_api::config::with_prefix(config, &prefix)
        .into_iter()
        .filter(|(option, _)| !own.contains(&option.as_str()))
        .filter_map(|(option, value)| value.map(|value| (option, value)))
        .collect();
    Ok(Group {
        include: patterns("include")?,
        exclude: patterns("exclude")?,
        partitions: parsed
            .integer(&format!("{prefix}partitions"))
            .and_then(|count| i32::try_from(count).ok())
            .unwrap_or(partitions),
        replication_factor: parsed
            .integer(&format!("{prefix}replication.factor"))
            .and_then(|factor| i16::try_from(factor).ok())
            .unwrap_or(replication),
        config: settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> ConfigMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect()
    }

    #[test]
    fn the_first_matching_group_wins_then_the_default() {
        let config = config(&[
            ("topic.creation.groups", "compacted, hot"),
            ("topic.creation.default.partitions", "3"),
            ("topic.creation.default.replication.factor", "-1"),
            ("topic.creation.compacted.include", "cat-.*"),
            ("topic.creation.compacted.exclude", "cat-x"),
            ("topic.creation.compacted.cleanup.policy", "compact"),
            ("topic.creation.hot.include", "cat-x,h.*"),
            ("topic.creation.hot.partitions", "12"),
        ]);
        let creation = TopicCreation::new(&config, true, IndexMap::new()).unwrap();
        let found = |topic: &str| creation.groups.iter().position(|group| group.matches(topic).unwrap());
        assert_eq!(
            (found("cat-a"), found("cat-x"), found("a-hot")),
            (Some(0), Some(1), None)
        );
        assert_eq!(creation.groups[0].config["cleanup.policy"], "compact");
        assert_eq!((creation.groups[0].partitions, creation.groups[1].partitions), (3, 12));
    }

    #[test]
    fn a_default_group_needs_both_numbers() {
        let half = config(&[("topic.creation.default.partitions", "3")]);
        let error = TopicCreation::new(&half, true, IndexMap::new()).err().unwrap();
        assert!(
            error.message().contains("topic.creation.default.replication.factor"),
            "{error}"
        );
        assert!(
            !TopicCreation::new(&config(&[]), true, IndexMap::new())
                .unwrap()
                .is_new("t")
        );
    }
}
