//! The options that every connector has (contract 4.3).

use connect_api::ConnectorKind;
use connect_api::config::regex_validator;
use connect_api::config::{ConfigDef, ConfigKey, ConfigType, Importance, ParsedValue, Validator, Width};
use std::sync::Arc;

use ConfigType::{Boolean, Class, Int, List, Long, Short, String as Text};
use Importance::{High, Low, Medium};

const COMMON: &str = "Common";
const ERRORS: &str = "Error Handling";
const EXACTLY_ONCE: &str = "Exactly Once Support";
/// Why options of transactions do nothing.
const AT_LEAST_ONCE: &str = "exactly-once delivery of sources is not supported";

/// The framework's options of sources or sinks, in upstream's order.
pub fn definition(kind: ConnectorKind) -> ConfigDef {
    match kind {
        ConnectorKind::Sink => sink(shared()),
        ConnectorKind::Source => source(shared()),
    }
}

/// The options of sources and sinks alike.
pub fn shared() -> ConfigDef {
    errors(common())
}

/// A list without duplicates and empty elements, which may be empty.
fn elements() -> Validator {
    Validator::AnyNonDuplicateValues {
        empty_allowed: true,
        null_allowed: false,
    }
}

fn aliases(name: &str, value: &ParsedValue) -> Result<(), String> {
    let ParsedValue::List(aliases) = value else {
        return Ok(());
    };
    let mut seen = std::collections::HashSet::new();
    match aliases.iter().all(|alias| seen.insert(alias)) {
        true => Ok(()),
        false => Err(format!(
            "Invalid value [{}] for configuration {name}: Duplicate alias provided.",
            aliases.join(", ")
        )),
    }
}

fn plugin_version(name: &str, importance: Importance, order: i32, width: Width, display: &str) -> ConfigKey {
    ConfigKey::new(name, Text)
        .default_null()
        .importance(importance)
        .doc("Version of the plugin; the installed one if not set. A version that is not installed is refused.")
        .group(COMMON, order, width)
        .display_name(display)
}

fn common() -> ConfigDef {
    let key = |name: &'static str, config_type| ConfigKey::new(name, config_type);
    let version = |name: &str, order: i32, display: &str| plugin_version(name, Low, order, Width::Short, display);
    let converter = |name: &str, order: i32, display: &str, data: &str| {
        ConfigKey::new(name, Class)
            .default_null()
            .importance(Low)
            .doc(format!(
                "Class that converts {data} between Kafka's bytes and Connect data; the worker's {name} if not set. Its own options follow as {name}.OPTION."
            ))
            .group(COMMON, order, Width::Short)
            .display_name(display)
    };
    ConfigDef::new()
        .define(
            key("name", Text)
                .validator(Validator::NonEmptyStringWithoutControlChars)
                .importance(High)
                .doc("Globally unique name to use for this connector.")
                .group(COMMON, 1, Width::Medium)
                .display_name("Connector name"),
        )
        .define(
            key("connector.class", Text)
                .importance(High)
                .doc("Class of the connector: its full name, its simple name, or that without the word Connector.")
                .group(COMMON, 2, Width::Long)
                .display_name("Connector class"),
        )
        .define(plugin_version(
            "connector.plugin.version",
            Medium,
            3,
            Width::Medium,
            "Connector version",
        ))
        .define(
            key("tasks.max", Int)
                .default("1")
                .validator(Validator::AtLeast(1.0))
                .importance(High)
                .doc("Maximum number of tasks to use for this connector.")
                .group(COMMON, 4, Width::Short)
                .display_name("Tasks max"),
        )
        .define(
            key("tasks.max.enforce", Boolean)
                .default("true")
                .importance(Low)
                .doc("Whether more tasks than tasks.max fail the connector. Deprecated.")
                .group(COMMON, 5, Width::Short)
                .display_name("Enforce tasks max"),
        )
        .define(converter("key.converter", 6, "Key converter class", "keys"))
        .define(version("key.converter.plugin.version", 7, "Key converter version"))
        .define(converter("value.converter", 8, "Value converter class", "values"))
        .define(version("value.converter.plugin.version", 9, "Value converter version"))
        .define(converter("header.converter", 10, "Header converter class", "header values"))
        .define(version("header.converter.plugin.version", 11, "Header converter version"))
        .define(
            key("transforms", List)
                .default("")
                .validator(Validator::Custom("unique transformation aliases", Arc::new(aliases)))
                .importance(Low)
                .doc("Aliases for the transformations to be applied to records, in order.")
                .group("Transforms", 12, Width::Long)
                .display_name("Transforms"),
        )
        .define(
            key("predicates", List)
                .default("")
                .validator(Validator::Custom("unique predicate aliases", Arc::new(aliases)))
                .importance(Low)
                .doc("Aliases for the predicates used by transformations.")
                .group("Predicates", 13, Width::Long)
                .display_name("Predicates"),
        )
        .define(
            key("config.action.reload", Text)
                .default("restart")
                .validator(Validator::In(vec!["none", "restart"]))
                .importance(Low)
                .doc("What to do when a config provider says that a value has changed. The built-in providers never say so.")
                .group(COMMON, 14, Width::Medium)
                .display_name("Reload Action"),
        )
}

fn errors(definition: ConfigDef) -> ConfigDef {
    let key = |name: &str, config_type, default: &str, order: i32, width: Width, display: &str, doc: &str| {
        ConfigKey::new(name, config_type)
            .default(default)
            .importance(Medium)
            .doc(doc)
            .group(ERRORS, order, width)
            .display_name(display)
    };
    definition
        .define(key(
            "errors.retry.timeout",
            Long,
            "0",
            1,
            Width::Medium,
            "Retry Timeout for Errors",
            "Time that a failed operation is retried for, in ms; 0: not at all, -1: for ever.",
        ))
        .define(key(
            "errors.retry.delay.max.ms",
            Long,
            "60000",
            2,
            Width::Medium,
            "Maximum Delay Between Retries for Errors",
            "Longest time between two attempts, in ms.",
        ))
        .define(
            key(
                "errors.tolerance",
                Text,
                "none",
                3,
                Width::Short,
                "Error Tolerance",
                "What becomes of a record that cannot be processed: none fails the task, all skips it.",
            )
            .validator(Validator::In(vec!["none", "all"])),
        )
        .define(key(
            "errors.log.enable",
            Boolean,
            "false",
            4,
            Width::Short,
            "Log Errors",
            "Whether each error is logged, also those that are tolerated.",
        ))
        .define(key(
            "errors.log.include.messages",
            Boolean,
            "false",
            5,
            Width::Short,
            "Log Error Details",
            "Whether topic, partition, offset and timestamp of the record are logged with its error.",
        ))
}

fn sink(definition: ConfigDef) -> ConfigDef {
    let key = ConfigKey::new;
    definition
        .define(
            key("topics", List)
                .default("")
                .validator(elements())
                .importance(High)
                .doc("Topics to consume, comma-separated.")
                .group(COMMON, 4, Width::Long)
                .display_name("Topics"),
        )
        .define(
            key("topics.regex", Text)
                .default("")
                .validator(regex_validator())
                .importance(High)
                .doc("Regular expression of the topics to consume. Either this or topics.")
                .group(COMMON, 4, Width::Long)
                .display_name("Topics regex"),
        )
        .define(
            key("errors.deadletterqueue.topic.name", Text)
                .default("")
                .importance(Medium)
                .doc("Topic for records that cannot be processed; empty: none.")
                .group(ERRORS, 6, Width::Medium)
                .display_name("Dead Letter Queue Topic Name"),
        )
        .define(
            key("errors.deadletterqueue.topic.replication.factor", Short)
                .default("3")
                .importance(Medium)
                .doc("Replication factor of the dead letter topic when it is created.")
                .group(ERRORS, 7, Width::Medium)
                .display_name("Dead Letter Queue Topic Replication Factor"),
        )
        .define(
            key("errors.deadletterqueue.context.headers.enable", Boolean)
                .default("false")
                .importance(Medium)
                .doc("Whether headers that tell of the error are added to dead letters.")
                .group(ERRORS, 8, Width::Medium)
                .display_name("Enable Error Context Headers"),
        )
}

fn source(definition: ConfigDef) -> ConfigDef {
    let key = ConfigKey::new;
    definition
        .define(
            key("topic.creation.groups", List)
                .default("")
                .validator(Validator::Custom("unique topic creation groups", Arc::new(aliases)))
                .importance(Low)
                .doc("Groups of topics that are created with settings of their own, in order of precedence.")
                .group("Topic Creation", 1, Width::Long)
                .display_name("Topic Creation Groups"),
        )
        .define(
            key("exactly.once.support", Text)
                .default("requested")
                .validator(Validator::CaseInsensitiveIn(vec!["required", "requested"]))
                .importance(Medium)
                .doc("required refuses the connector: exactly-once delivery of sources is not supported.")
                .group(EXACTLY_ONCE, 2, Width::Short)
                .display_name("Exactly once support"),
        )
        .define(
            key("transaction.boundary", Text)
                .default("poll")
                .validator(Validator::CaseInsensitiveIn(vec!["interval", "poll", "connector"]))
                .importance(Medium)
                .without_effect(AT_LEAST_ONCE)
                .group(EXACTLY_ONCE, 3, Width::Short)
                .display_name("Transaction Boundary"),
        )
        .define(
            key("transaction.boundary.interval.ms", Long)
                .default_null()
                .importance(Low)
                .without_effect(AT_LEAST_ONCE)
                .group(EXACTLY_ONCE, 4, Width::Short)
                .display_name("Transaction boundary interval"),
        )
        .define(
            key("offsets.storage.topic", Text)
                .default_null()
                .validator(Validator::NonEmptyString)
                .importance(Low)
                .doc("Separate topic for this connector's offsets. Not supported: offsets are kept in the worker's topic.")
                .group("offsets.topic", 1, Width::Long)
                .display_name("Offsets topic"),
        )
}
