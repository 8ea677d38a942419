//! The built-in predicates (contract 6.2).

use connect_api::config::{
    ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator, java_regex, regex_validator,
};
use connect_api::java_regex::JavaRegex;
use connect_api::transform::Record;
use connect_api::{ConnectError, Predicate, PredicatePlugin, Value};
use std::sync::Arc;

/// `HasHeaderKey`: there is a header of that name.
pub(super) struct HasHeaderKeyPlugin;

impl PredicatePlugin for HasHeaderKeyPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.transforms.predicates.HasHeaderKey"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new().define(
            ConfigKey::new("name", ConfigType::String)
                .validator(Validator::NonEmptyString)
                .importance(Importance::Medium)
                .doc("The header name."),
        )
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Predicate>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        Ok(Arc::new(HasHeaderKey(
            parsed.text("name").unwrap_or_default().to_owned(),
        )))
    }
}

struct HasHeaderKey(String);

impl Predicate for HasHeaderKey {
    fn test(&self, record: &Record) -> Result<bool, ConnectError> {
        Ok(record.headers().iter().any(|header| *header.name == *self.0))
    }
}

/// `RecordIsTombstone`: the value is null.
pub(super) struct RecordIsTombstonePlugin;

impl PredicatePlugin for RecordIsTombstonePlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&self, _: &ConfigMap) -> Result<Arc<dyn Predicate>, ConnectError> {
        Ok(Arc::new(RecordIsTombstone))
    }
}

struct RecordIsTombstone;

impl Predicate for RecordIsTombstone {
    fn test(&self, record: &Record) -> Result<bool, ConnectError> {
        Ok(record.value().get()?.value == Value::Null)
    }
}

/// `TopicNameMatches`: the pattern matches the whole topic.
pub(super) struct TopicNameMatchesPlugin;

impl PredicatePlugin for TopicNameMatchesPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.transforms.predicates.TopicNameMatches"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new().define(
            ConfigKey::new("pattern", ConfigType::String)
                .validator(Validator::All(vec![Validator::NonEmptyString, regex_validator()]))
                .importance(Importance::Medium)
                .doc("A Java regular expression for matching against the name of a record's topic."),
        )
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Predicate>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        Ok(Arc::new(TopicNameMatches(java_regex(
            "pattern",
            parsed.text("pattern").unwrap_or_default(),
        )?)))
    }
}

struct TopicNameMatches(JavaRegex);

impl Predicate for TopicNameMatches {
    fn test(&self, record: &Record) -> Result<bool, ConnectError> {
        self.0.matches(record.topic())
    }
}
