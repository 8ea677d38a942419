//! The options of an inference connector.

use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator, Width};
use connect_api::error::ConnectError;
use indexmap::IndexMap;
use std::time::Duration;

const GROUP: &str = "Inference";

/// Typed values.
#[derive(Clone, Copy, Debug)]
pub struct ConnectorOptions {
    /// outputs are part of the transaction
    pub exactly_once: bool,
    /// time between barriers
    pub commit_interval: Duration,
    /// how long a barrier waits for models
    pub commit_drain: Duration,
    /// shortest time without events that counts as idle, in which stream time moves on; none: it moves by events alone
    pub idle_after_ms: Option<i64>,
    /// how long a global store that cannot be read is waited for
    pub store_wait: Duration,
}

/// The declaration.
pub fn config_def() -> ConfigDef {
    let key = |name: &str, config_type, order| ConfigKey::new(name, config_type).group(GROUP, order, Width::Medium);
    let own = ConfigDef::new()
        .define(
            key("processing.guarantee", ConfigType::String, 1)
                .default("exactly_once_v2")
                .validator(Validator::In(vec!["at_least_once", "exactly_once_v2"]))
                .importance(Importance::High)
                .doc("exactly_once_v2: predictions are part of the transaction that commits state and positions, and only committed records are read (isolation.level=read_committed; anything else is refused). at_least_once: they go out at once, but for the producer's linger.ms (5) and batch.size, and may be repeated after a crash. State is transactional in both. Without consumer.override.isolation.level at_least_once reads committed records only, too."),
        )
        .define(
            key("inference.commit.interval.ms", ConfigType::Long, 2)
                .default("100")
                .validator(Validator::Between(1.0, 60_000.0))
                .doc("Milliseconds between commits of state, positions and (exactly_once_v2) predictions."),
        )
        .define(
            key("inference.commit.drain.ms", ConfigType::Long, 3)
                .default("500")
                .validator(Validator::Between(1.0, 600_000.0))
                .doc("How long a commit waits for models to finish. A model that has not is detached: its events wait in the feature log."),
        )
        .define(
            key("inference.feature.log", ConfigType::String, 4)
                .default("detached")
                .validator(Validator::Custom("[detached]", std::sync::Arc::new(|name, value| match value.to_text().as_deref() {
                    Some("detached") => Ok(()),
                    Some("all") => Err(format!("Invalid value all for configuration {name}: is not supported yet; use detached")),
                    other => Err(format!("Invalid value {} for configuration {name}: String must be one of: detached", other.unwrap_or("null"))),
                })))
                .doc("What the feature log holds. detached: what detached models still need."),
        )
        .define(
            key("inference.idle.after.ms", ConfigType::Long, 5)
                .default("0")
                .validator(Validator::AtLeast(0.0))
                .importance(Importance::Low)
                .doc("0: stream time moves by events alone. Otherwise the shortest time in milliseconds without events that counts as idle; then windows close and entries expire by the time that passes on. How events come is watched first, for four times as long, and no pause shorter than twice the longest so far counts, so that an upstream that delivers now and then makes no event late. Name a longer time than its longest pause all the same."),
        )
        .define(
            key("inference.store.wait.ms", ConfigType::Long, 6)
                .default("60000")
                .validator(Validator::AtLeast(0.0))
                .importance(Importance::Low)
                .doc("How long a task that starts waits for a global store that cannot be read (its topic is not there, for instance). Then the feature views that need it get no events until it can be, which their status says, and the others go on. A store that is being read is waited for as long as that takes."),
        )
        // of the clients that write outputs and state
        .reads_prefix("producer.override.")
        .ignores("key.converter", "millrace.InferenceSink takes keys as the bytes that they are")
        .ignores("header.converter", "millrace.InferenceSink reads headers as text");
    kafka_client::UNREAD_OPTIONS
        .into_iter()
        .fold(own, |definition, (option, always)| {
            let reason = match always {
                true => "millrace.InferenceSink always writes idempotently, to all replicas, under ids of its own",
                false => "without TLS, SASL and compression millrace.InferenceSink writes by means of its own, which do without it",
            };
            definition.ignores(format!("producer.override.{option}"), reason)
        })
}

/// The consumer's option for records of transactions, and what exactly once needs.
pub const ISOLATION: &str = "isolation.level";
const READ_COMMITTED: &str = "read_committed";

impl ConnectorOptions {
    /// `isolation.level` of the consumer where it is not left to `settings`: an event of a transaction that was aborted never
    /// happened, and would stay in the state for good.
    pub fn isolation(&self, settings: &IndexMap<String, String>) -> Option<&'static str> {
        (self.exactly_once || !settings.contains_key(ISOLATION)).then_some(READ_COMMITTED)
    }

    /// Refuses settings that break the guarantee.
    ///
    /// Error: names the option.
    pub fn check_consumer(&self, settings: &IndexMap<String, String>) -> Result<(), ConnectError> {
        match settings.get(ISOLATION).map(|level| level.trim()) {
            Some(level) if self.exactly_once && !level.eq_ignore_ascii_case(READ_COMMITTED) => {
                Err(ConnectError::config(format!(
                    "consumer.isolation.level is {level} and processing.guarantee is exactly_once_v2, which reads committed \
                     records only: leave it out, or set consumer.override.{ISOLATION}={READ_COMMITTED} for this connector"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Reads a connector's or task's configuration.
    pub fn parse(config: &ConfigMap) -> Result<ConnectorOptions, ConnectError> {
        let parsed = config_def().parse(config)?;
        let millis = |name: &str| u64::try_from(parsed.integer(name).unwrap_or(1)).unwrap_or(1);
        Ok(ConnectorOptions {
            exactly_once: parsed.text("processing.guarantee") == Some("exactly_once_v2"),
            commit_interval: Duration::from_millis(millis("inference.commit.interval.ms")),
            commit_drain: Duration::from_millis(millis("inference.commit.drain.ms")),
            store_wait: Duration::from_millis(millis("inference.store.wait.ms")),
            idle_after_ms: parsed.integer("inference.idle.after.ms").filter(|millis| *millis > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the writer of outputs and state passes over is told to who sets it.
    #[test]
    fn options_of_the_writer_are_read_or_told() {
        let definition = config_def();
        for option in [
            "acks",
            "retries",
            "delivery.timeout.ms",
            "buffer.memory",
            "send.buffer.bytes",
        ] {
            let reason = definition.ignored(&format!("producer.override.{option}"));
            assert!(reason.is_some_and(|reason| reason.contains("writes")), "{option}");
        }
        for option in [
            "linger.ms",
            "max.request.size",
            "transaction.timeout.ms",
            "compression.type",
        ] {
            assert_eq!(
                definition.ignored(&format!("producer.override.{option}")),
                None,
                "{option}"
            );
        }
        for converter in ["key.converter", "header.converter"] {
            assert!(definition.ignored(converter).is_some(), "{converter}");
        }
    }
}
