//! The worker's settings, checked.

use super::clients::{ClientKind, OverridePolicy};
use super::definition::definition;
use crate::membership::GroupSettings;
use crate::membership::machine::Timeouts;
use connect_api::config::{ParsedConfig, UnreadOption, with_prefix};
use connect_api::{ConfigDef, ConfigMap};
use kafka_client::{ClientConfig, KafkaError};
use std::sync::Arc;
use std::time::Duration;

/// What is wrong with a worker's properties: every message names its option.
#[derive(Debug, thiserror::Error)]
#[error("the worker's properties are invalid:\n{}", .messages.join("\n"))]
pub struct WorkerConfigError {
    /// one message for each fault
    pub messages: Vec<String>,
}

/// A worker's settings, checked. Made once at start.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// the properties, references to config providers resolved; unknown keys included
    pub(crate) properties: ConfigMap,
    pub(crate) parsed: ParsedConfig,
    pub(crate) override_policy: OverridePolicy,
    /// `group.id`
    pub group_id: Arc<str>,
    /// `offset.flush.interval.ms`
    pub offset_flush_interval: Duration,
    /// `offset.flush.timeout.ms`
    pub offset_flush_timeout: Duration,
    /// `task.shutdown.graceful.timeout.ms`
    pub task_shutdown_graceful_timeout: Duration,
    /// `worker.sync.timeout.ms`
    pub worker_sync_timeout: Duration,
    /// `topic.creation.enable`
    pub topic_creation_enable: bool,
    /// `topic.tracking.enable`
    pub topic_tracking_enable: bool,
}

impl WorkerConfig {
    /// Checks the properties of a worker; `extensions` are the definitions of its extensions' own keys.
    ///
    /// # Errors
    /// All faults at once: missing and wrong options, and options that are not supported, by name.
    pub fn new(properties: ConfigMap, extensions: &[ConfigDef]) -> Result<Self, WorkerConfigError> {
        let definition = extensions
            .iter()
            .fold(definition(), |all, extension| all.embed("", None, extension.clone()));
        let mut messages: Vec<String> = definition
            .validate(&properties)
            .into_iter()
            .flat_map(|value| value.errors)
            .collect();
        messages.extend(unsupported(&properties));
        messages.extend(storage_topics(&properties));
        let (refused, warnings): (Vec<UnreadOption>, Vec<UnreadOption>) = unread(&properties, &definition)
            .into_iter()
            .partition(|option| option.refused);
        messages.extend(refused.into_iter().map(|option| option.message));
        messages.extend(refused_by_clients(&properties));
        let parsed = match definition.parse(&properties) {
            Ok(parsed) if messages.is_empty() => parsed,
            Ok(_) => return Err(WorkerConfigError { messages }),
            Err(error) => {
                if messages.is_empty() {
                    messages.push(error.to_string());
                }
                return Err(WorkerConfigError { messages });
            }
        };
        let override_policy = match override_policy(&parsed) {
            Ok(policy) => policy,
            Err(message) => {
                return Err(WorkerConfigError {
                    messages: vec![message],
                });
            }
        };
        for option in warnings {
            tracing::warn!(option = %option.name, "{}", option.message);
        }
        let milliseconds =
            |name: &str| Duration::from_millis(parsed.integer(name).unwrap_or_default().max(0).unsigned_abs());
        Ok(Self {
            override_policy,
            group_id: parsed.text("group.id").unwrap_or_default().into(),
            offset_flush_interval: milliseconds("offset.flush.interval.ms"),
            offset_flush_timeout: milliseconds("offset.flush.timeout.ms"),
            task_shutdown_graceful_timeout: milliseconds("task.shutdown.graceful.timeout.ms"),
            worker_sync_timeout: milliseconds("worker.sync.timeout.ms"),
            topic_creation_enable: parsed.boolean("topic.creation.enable"),
            topic_tracking_enable: parsed.boolean("topic.tracking.enable"),
            properties,
            parsed,
        })
    }

    /// The properties, references to config providers resolved; unknown keys included. Holds secrets.
    pub fn properties(&self) -> &ConfigMap {
        &self.properties
    }

    /// The typed value of an option.
    pub fn parsed(&self) -> &ParsedConfig {
        &self.parsed
    }

    /// `bootstrap.servers`, comma-separated.
    pub fn bootstrap_servers(&self) -> String {
        self.parsed.list("bootstrap.servers").join(",")
    }

    /// How the group of workers is reached and what it is told.
    pub fn group_settings(&self) -> Result<GroupSettings, KafkaError> {
        Ok(GroupSettings {
            group: self.group_id.to_string(),
            bootstrap: self.parsed.list("bootstrap.servers").to_vec(),
            client: ClientConfig::from_java(self.own_clients().admin)?,
            session_timeout: self.milliseconds("session.timeout.ms"),
            rebalance_timeout: self.milliseconds("rebalance.timeout.ms"),
            request_timeout: self.milliseconds("request.timeout.ms"),
            membership: self.parsed.boolean("group.membership.enable"),
        })
    }

    /// Times of this worker's membership.
    pub fn group_timeouts(&self) -> Timeouts {
        Timeouts {
            session: self.milliseconds("session.timeout.ms"),
            heartbeat: self.milliseconds("heartbeat.interval.ms"),
            unsync_backoff: self.milliseconds("worker.unsync.backoff.ms"),
            retry: self.milliseconds("retry.backoff.ms"),
            longest_retry: self.milliseconds("retry.backoff.max.ms"),
        }
    }

    fn milliseconds(&self, option: &str) -> Duration {
        Duration::from_millis(self.parsed.integer(option).unwrap_or_default().max(0).unsigned_abs())
    }

    /// Which client options connectors may override.
    pub fn override_policy(&self) -> &OverridePolicy {
        &self.override_policy
    }

    /// The class and the options of the worker's own converter, for connectors that name none. `option` is
    /// `key.converter`, `value.converter` or `header.converter`.
    pub fn converter(&self, option: &str) -> (String, ConfigMap) {
        let class = self.parsed.text(option).unwrap_or_default().to_owned();
        (class, with_prefix(&self.properties, &format!("{option}.")))
    }
}

fn override_policy(parsed: &ParsedConfig) -> Result<OverridePolicy, String> {
    const OPTION: &str = "connector.client.config.override.policy";
    let name = parsed.text(OPTION).unwrap_or("All");
    let simple = crate::plugins::simple_name(name);
    match simple
        .strip_suffix("ConnectorClientConfigOverridePolicy")
        .unwrap_or(simple)
    {
        "All" => Ok(OverridePolicy::All),
        "None" => Ok(OverridePolicy::None),
        "Principal" => Ok(OverridePolicy::Principal),
        "Allowlist" => Ok(OverridePolicy::Allowlist(
            parsed.list("connector.client.config.override.allowlist").to_vec(),
        )),
        _ => Err(format!(
            "Invalid value {name} for configuration {OPTION}: must be All, None, Principal or Allowlist"
        )),
    }
}

/// Names of internal topics that no broker would take.
fn storage_topics(properties: &ConfigMap) -> Vec<String> {
    let options = ["config.storage.topic", "offset.storage.topic", "status.storage.topic"];
    let faults = options.into_iter().filter_map(|option| {
        // one that is missing is a fault of its own
        let name = properties.get(option)?.as_deref()?.trim();
        let reason = kafka_client::check_topic_name(name).err()?;
        Some(format!("Invalid value {name} for configuration {option}: {reason}"))
    });
    faults.collect()
}

/// Options that change what a worker promises and that this one does not implement: refused, never ignored.
fn unsupported(properties: &ConfigMap) -> Vec<String> {
    let text = |name: &str| {
        properties
            .get(name)
            .and_then(Option::as_deref)
            .map(str::trim)
            .unwrap_or_default()
    };
    let mut messages = Vec::new();
    let mut refuse = |name: &str, reason: &str| {
        messages.push(format!(
            "Invalid value {} for configuration {name}: {reason}",
            text(name)
        ));
    };
    if !text("rest.extension.classes").is_empty() {
        refuse(
            "rest.extension.classes",
            "Java classes cannot be loaded; REST resources come with the binary's extensions",
        );
    }
    if matches!(
        text("exactly.once.source.support").to_ascii_lowercase().as_str(),
        "enabled" | "preparing"
    ) {
        refuse(
            "exactly.once.source.support",
            "not supported for source connectors; set it to disabled",
        );
    }
    if matches!(
        text("connect.protocol").to_ascii_lowercase().as_str(),
        "compatible" | "sessioned"
    ) {
        refuse(
            "connect.protocol",
            "incremental cooperative rebalancing is not supported; set it to eager, or leave it out. Every Java worker of \
             the group must be set to eager and restarted first: with another value it goes on running what the group \
             takes from it, and its sources write everything twice",
        );
    }
    let security = text("security.protocol");
    let joins = !text("group.membership.enable").eq_ignore_ascii_case("false");
    if joins && !security.is_empty() && !security.eq_ignore_ascii_case("PLAINTEXT") {
        refuse(
            "security.protocol",
            "the worker's group is reached over PLAINTEXT only; set group.membership.enable=false to run this worker \
             without a group, as the only one with its group.id",
        );
    }
    if text("listeners").to_ascii_lowercase().contains("https://") {
        refuse(
            "listeners",
            "https listeners are not supported; put a TLS proxy in front of an http listener",
        );
    }
    if text("rest.advertised.listener").eq_ignore_ascii_case("https") {
        refuse("rest.advertised.listener", "https listeners are not supported");
    }
    if !text("admin.listeners").is_empty() {
        refuse(
            "admin.listeners",
            "separate listeners for /admin are not supported; leave it out, or empty to serve none",
        );
    }
    for rule in text("response.http.headers.config")
        .split(',')
        .map(str::trim)
        .filter(|rule| !rule.is_empty())
    {
        if super::header_rule(rule).is_none() {
            refuse(
                "response.http.headers.config",
                &format!("rule {rule} is not supported: add NAME:VALUE or set NAME:VALUE"),
            );
        }
    }
    let reporters = text("metric.reporters");
    if !reporters.is_empty() && reporters != "org.apache.kafka.common.metrics.JmxReporter" {
        refuse(
            "metric.reporters",
            "Java classes cannot be loaded; metrics are served by GET /metrics",
        );
    }
    messages
}

/// Prefixes whose options are read elsewhere: by clients, converters and config providers, which check them, and by brokers
/// when a topic is made.
const PASSED_ON: [&str; 12] = [
    "producer.",
    "consumer.",
    "admin.",
    "config.storage.",
    "offset.storage.",
    "status.storage.",
    "key.converter.",
    "value.converter.",
    "header.converter.",
    "config.providers.",
    "sasl.",
    "ssl.",
];

/// Prefixes whose options nobody reads, and why.
const WITHOUT_EFFECT: [(&str, &str); 5] = [
    ("listeners.https.", "https listeners are not supported"),
    ("admin.listeners.https.", "https listeners are not supported"),
    (
        "internal.key.converter",
        "internal topics are always written as plain JSON",
    ),
    (
        "internal.value.converter",
        "internal topics are always written as plain JSON",
    ),
    ("metrics.context.", "metrics have the labels of GET /metrics only"),
];

/// What is to be said of options that nobody reads, and of those that are accepted without effect.
fn unread(properties: &ConfigMap, definition: &ConfigDef) -> Vec<UnreadOption> {
    let mut said = definition.without_effect(properties);
    for name in properties.keys() {
        let of_clients = ClientKind::ALL.map(ClientKind::worker_prefix);
        let mut options = of_clients.into_iter().filter_map(|prefix| name.strip_prefix(prefix));
        if let Some(reason) = options.find_map(ClientConfig::without_effect) {
            said.push(UnreadOption::known(name, reason));
            continue;
        }
        if let Some((_, reason)) = WITHOUT_EFFECT.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            said.push(UnreadOption::without_effect(
                name,
                &format!("it has no effect: {reason}"),
            ));
        } else if !PASSED_ON.iter().any(|prefix| name.starts_with(prefix)) {
            said.extend(definition.unread_option(name));
        }
    }
    said
}

/// Options for the clients of connectors that the clients would refuse: every connector would fail with them.
fn refused_by_clients(properties: &ConfigMap) -> Vec<String> {
    let mut messages = Vec::new();
    for kind in ClientKind::ALL {
        let prefix = kind.worker_prefix();
        for (option, value) in with_prefix(properties, prefix) {
            let Some(value) = value else { continue };
            if let Err(error) = kind.check(&option, &value) {
                messages.push(format!("Invalid value for configuration {prefix}{option}: {error}"));
            }
        }
    }
    // those of the worker's own clients
    for (option, value) in properties
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
    {
        if (option.starts_with("sasl.") || option.starts_with("ssl."))
            && option != "ssl.client.auth"
            && let Err(error) = ClientKind::Admin.check(option, value)
        {
            messages.push(format!("Invalid value for configuration {option}: {error}"));
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(options: &[(&str, &str)]) -> Vec<(String, String)> {
        let properties = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect();
        let said = unread(&properties, &definition()).into_iter();
        said.map(|option| (option.name, option.message)).collect()
    }

    #[test]
    fn options_without_effect_are_told_with_the_reason() {
        let options = [
            ("scheduled.rebalance.max.delay.ms", "0", "deals the work"),
            ("inter.worker.key.generation.algorithm", "HmacSHA256", "sessioned"),
            ("inter.worker.key.size", "256", "sessioned"),
            ("inter.worker.key.ttl.ms", "1", "sessioned"),
            ("inter.worker.signature.algorithm", "HmacSHA256", "sessioned"),
            ("inter.worker.verification.algorithms", "HmacSHA256", "sessioned"),
            ("ssl.client.auth", "required", "https listeners are not supported"),
            ("plugin.path", "/plugins", "part of the binary"),
            ("metrics.num.samples", "5", "without samples"),
            ("socket.connection.setup.timeout.max.ms", "1", "each attempt"),
            ("producer.max.block.ms", "1", "without this limit"),
            ("consumer.auto.commit.interval.ms", "1", "offset.flush.interval.ms"),
            ("admin.metadata.max.idle.ms", "1", "not forgotten"),
        ];
        for (name, value, reason) in options {
            let said = said(&[(name, value)]);
            let [(option, message)] = said.as_slice() else {
                panic!("{name}: {said:?}")
            };
            assert_eq!(option, name);
            assert!(
                message.contains("has no effect") && message.contains(reason),
                "{name}: {message}"
            );
        }
    }

    #[test]
    fn nothing_is_said_of_options_that_are_read() {
        let options = [
            ("connect.protocol", "eager"),
            ("key.converter.plugin.version", "1"),
            ("producer.linger.ms", "5"),
            ("consumer.max.poll.records", "5"),
            ("admin.default.api.timeout.ms", "5"),
            ("socket.connection.setup.timeout.ms", "5"),
            ("config.providers.file.class", "FileConfigProvider"),
        ];
        assert_eq!(said(&options), []);
    }
}
