//! The `errors.*` options of a connector (contract 4.3).

use super::policy::Tolerance;
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator};
use connect_api::{ConnectError, ConnectorKind};

/// A connector's error handling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorConfig {
    /// total time for retries of one operation in ms from its first attempt; 0: none, -1: without end
    pub retry_timeout_ms: i64,
    /// longest wait between two attempts, in ms
    pub retry_delay_max_ms: i64,
    /// what becomes of a record that fails for good
    pub tolerance: Tolerance,
    /// whether each failed operation is logged
    pub log: bool,
    /// whether logs show the record's coordinates
    pub log_records: bool,
    /// dead letter topic of a sink connector
    pub dead_letter_topic: Option<String>,
    /// replication factor with which a missing dead letter topic is created; -1: the broker's default
    pub dead_letter_replication: i16,
    /// whether dead letters carry headers that say what went wrong
    pub dead_letter_headers: bool,
}

/// Definition of the options.
pub fn definition(kind: ConnectorKind) -> ConfigDef {
    let common = ConfigDef::new()
        .define(
            ConfigKey::new("errors.retry.timeout", ConfigType::Long)
                .default("0")
                .importance(Importance::Medium)
                .doc("Longest time in ms that a failed operation is tried again; 0: not at all, -1: without end."),
        )
        .define(
            ConfigKey::new("errors.retry.delay.max.ms", ConfigType::Long)
                .default("60000")
                .importance(Importance::Medium)
                .doc("Longest wait in ms between two attempts."),
        )
        .define(
            ConfigKey::new("errors.tolerance", ConfigType::String)
                .default("none")
                .validator(Validator::In(vec!["none", "all"]))
                .importance(Importance::Medium)
                .doc("none: a record that fails stops the task; all: it is skipped."),
        )
        .define(
            ConfigKey::new("errors.log.enable", ConfigType::Boolean)
                .default("false")
                .importance(Importance::Medium)
                .doc("Whether each failed operation is logged."),
        )
        .define(
            ConfigKey::new("errors.log.include.messages", ConfigType::Boolean)
                .default("false")
                .importance(Importance::Medium)
                .doc("Whether logs of failed operations show the record's coordinates."),
        );
    match kind {
        ConnectorKind::Source => common,
        ConnectorKind::Sink => common
            .define(
                ConfigKey::new("errors.deadletterqueue.topic.name", ConfigType::String)
                    .default("")
                    .importance(Importance::Medium)
                    .doc("Topic for records that fail; empty: none."),
            )
            .define(
                ConfigKey::new("errors.deadletterqueue.topic.replication.factor", ConfigType::Short)
                    .default("3")
                    .importance(Importance::Medium)
                    .doc("Replication factor of the dead letter topic when it is created."),
            )
            .define(
                ConfigKey::new("errors.deadletterqueue.context.headers.enable", ConfigType::Boolean)
                    .default("false")
                    .importance(Importance::Medium)
                    .doc("Whether dead letters carry headers named __connect.errors.* that say what went wrong."),
            ),
    }
}

impl ErrorConfig {
    /// Reads the options of a connector.
    pub fn new(config: &ConfigMap, kind: ConnectorKind) -> Result<Self, ConnectError> {
        let parsed = definition(kind).parse(config)?;
        Ok(Self {
            retry_timeout_ms: parsed.integer("errors.retry.timeout").unwrap_or(0),
            retry_delay_max_ms: parsed.integer("errors.retry.delay.max.ms").unwrap_or(60_000),
            tolerance: match parsed.text("errors.tolerance") {
                Some("all") => Tolerance::All,
                _ => Tolerance::None,
            },
            log: parsed.boolean("errors.log.enable"),
            log_records: parsed.boolean("errors.log.include.messages"),
            dead_letter_topic: parsed
                .text("errors.deadletterqueue.topic.name")
                .filter(|topic| !topic.is_empty())
                .map(str::to_owned),
            dead_letter_replication: parsed
                .integer("errors.deadletterqueue.topic.replication.factor")
                .and_then(|factor| i16::try_from(factor).ok())
                .unwrap_or(3),
            dead_letter_headers: parsed.boolean("errors.deadletterqueue.context.headers.enable"),
        })
    }
}
