//! The worker's options (contract 4.1 and 4.2): names, types and defaults of a Java worker.

use connect_api::config::{ConfigDef, ConfigKey, ConfigType, Importance, Validator};

use ConfigType::{Boolean, Class, Int, List, Long, Password, Short, String as Text};
use Importance::{High, Low, Medium};

/// Every option that a distributed worker knows.
pub fn definition() -> ConfigDef {
    let connectors = connector_defaults(ConfigDef::new());
    former(clients(rest(storage(group(connectors)))))
}

/// Names of earlier versions of Kafka Connect.
fn former(definition: ConfigDef) -> ConfigDef {
    definition
        .removed("rest.port", "give the port in listeners, as http://HOST:PORT")
        .removed("rest.host.name", "give the host in listeners, as http://HOST:PORT")
        .renamed("task.shutdown.graceful.timeout", "task.shutdown.graceful.timeout.ms")
        .renamed("offset.flush.interval", "offset.flush.interval.ms")
}

/// Why options that concern Java's class path do nothing.
const PLUGINS: &str = "plugins are part of the binary";
/// Why options of Java's metrics do nothing.
const METRICS: &str = "GET /metrics counts since the start, without samples";
/// Why options of session keys do nothing.
const UNSIGNED: &str =
    "requests among workers are signed under connect.protocol=sessioned only, which is not supported";

fn required(name: &str, config_type: ConfigType, doc: &str) -> ConfigKey {
    ConfigKey::new(name, config_type).importance(High).doc(doc)
}

fn key(name: &str, config_type: ConfigType, default: &str, importance: Importance, doc: &str) -> ConfigKey {
    ConfigKey::new(name, config_type)
        .default(default)
        .importance(importance)
        .doc(doc)
}

fn nullable(name: &str, config_type: ConfigType, importance: Importance, doc: &str) -> ConfigKey {
    ConfigKey::new(name, config_type)
        .default_null()
        .importance(importance)
        .doc(doc)
}

fn elements() -> Validator {
    Validator::AnyNonDuplicateValues {
        empty_allowed: true,
        null_allowed: false,
    }
}

fn connector_defaults(definition: ConfigDef) -> ConfigDef {
    definition
        .define(
            required(
                "bootstrap.servers",
                List,
                "Brokers of the worker's own cluster, as host:port pairs.",
            )
            .validator(Validator::AnyNonDuplicateValues {
                empty_allowed: false,
                null_allowed: false,
            }),
        )
        .define(required(
            "key.converter",
            Class,
            "Converter of keys for connectors that name none.",
        ))
        .define(required(
            "value.converter",
            Class,
            "Converter of values for connectors that name none.",
        ))
        .define(key(
            "header.converter",
            Class,
            "org.apache.kafka.connect.storage.SimpleHeaderConverter",
            Low,
            "Converter of headers for connectors that name none.",
        ))
        .define(nullable(
            "key.converter.plugin.version",
            Text,
            Low,
            "Version of the key converter, or a range of versions; one that is not built in is refused.",
        ))
        .define(nullable(
            "value.converter.plugin.version",
            Text,
            Low,
            "Version of the value converter, or a range of versions; one that is not built in is refused.",
        ))
        .define(nullable(
            "header.converter.plugin.version",
            Text,
            Low,
            "Version of the header converter, or a range of versions; one that is not built in is refused.",
        ))
        .define(
            key(
                "task.shutdown.graceful.timeout.ms",
                Long,
                "5000",
                Low,
                "Time that the tasks of this worker have for stopping, all together, in ms. Later they are abandoned.",
            )
            .validator(Validator::AtLeast(0.0)),
        )
        .define(
            key(
                "offset.flush.interval.ms",
                Long,
                "60000",
                Low,
                "Time between two commits of a task's offsets, in ms.",
            )
            .validator(Validator::AtLeast(1.0)),
        )
        .define(
            key(
                "offset.flush.timeout.ms",
                Long,
                "5000",
                Low,
                "Time that a commit of offsets may take, in ms.",
            )
            .validator(Validator::AtLeast(0.0)),
        )
        .define(nullable("plugin.path", List, Low, "").without_effect(PLUGINS))
        .define(
            key("plugin.discovery", Text, "hybrid_warn", Low, "")
                .without_effect(PLUGINS)
                .validator(Validator::CaseInsensitiveIn(vec![
                    "only_scan",
                    "hybrid_warn",
                    "hybrid_fail",
                    "service_load",
                ])),
        )
        .define(
            key("metrics.sample.window.ms", Long, "30000", Low, "")
                .without_effect(METRICS)
                .validator(Validator::AtLeast(0.0)),
        )
        .define(
            key("metrics.num.samples", Int, "2", Low, "")
                .without_effect(METRICS)
                .validator(Validator::AtLeast(1.0)),
        )
        .define(
            key("metrics.recording.level", Text, "INFO", Low, "")
                .without_effect(METRICS)
                .validator(Validator::In(vec!["INFO", "DEBUG"])),
        )
        .define(key(
            "metric.reporters",
            List,
            "org.apache.kafka.common.metrics.JmxReporter",
            Low,
            "Only the default is accepted; metrics are served by GET /metrics.",
        ))
        .define(
            key(
                "config.providers",
                List,
                "",
                Low,
                "Names of config providers; config.providers.NAME.class says which.",
            )
            .validator(elements()),
        )
        .define(key(
            "connector.client.config.override.policy",
            Text,
            "All",
            Medium,
            "Which client options connectors may override: All, None, Principal or Allowlist.",
        ))
        .define(
            key(
                "connector.client.config.override.allowlist",
                List,
                "",
                Medium,
                "Client options that the policy Allowlist allows.",
            )
            .validator(elements()),
        )
        .define(key(
            "topic.creation.enable",
            Boolean,
            "true",
            Low,
            "Whether source connectors may create topics.",
        ))
        .define(key(
            "topic.tracking.enable",
            Boolean,
            "true",
            Low,
            "Whether topics that connectors use are recorded.",
        ))
        .define(key(
            "topic.tracking.allow.reset",
            Boolean,
            "true",
            Low,
            "Whether recorded topics may be reset.",
        ))
}

fn group(definition: ConfigDef) -> ConfigDef {
    definition
        .define(required("group.id", Text, "Name of the group of workers."))
        .define(key(
            "group.membership.enable",
            Boolean,
            "true",
            Low,
            "Whether the worker joins the group of workers. Without it the worker runs everything itself: never start two \
             such workers with one group.id.",
        ))
        .define(key(
            "session.timeout.ms",
            Int,
            "10000",
            High,
            "Time without a heartbeat after which a worker counts as dead.",
        ))
        .define(key(
            "heartbeat.interval.ms",
            Int,
            "3000",
            High,
            "Time between heartbeats, in ms.",
        ))
        .define(key(
            "rebalance.timeout.ms",
            Int,
            "60000",
            High,
            "Time that workers have for joining a rebalance, in ms.",
        ))
        .define(
            key(
                "exactly.once.source.support",
                Text,
                "disabled",
                High,
                "Exactly-once delivery of source connectors.",
            )
            .validator(Validator::CaseInsensitiveIn(vec!["disabled", "preparing", "enabled"])),
        )
        .define(
            key(
                "connect.protocol",
                Text,
                "eager",
                Low,
                "Protocol among the workers of the group. Only eager is supported. Java workers of the group must be set to \
                 eager and restarted before this worker joins: with another value they go on running what the group takes \
                 from them.",
            )
            .validator(Validator::CaseInsensitiveIn(vec!["eager", "compatible", "sessioned"])),
        )
        .define(
            key("scheduled.rebalance.max.delay.ms", Int, "300000", Low, "")
                .without_effect("the eager protocol deals the work of a worker that has gone at once"),
        )
        .define(key(
            "worker.sync.timeout.ms",
            Int,
            "3000",
            Medium,
            "Time for reading up to the group's config offset, in ms.",
        ))
        .define(key(
            "worker.unsync.backoff.ms",
            Int,
            "300000",
            Medium,
            "Time out of the group after failing that, in ms.",
        ))
        .define(
            key("inter.worker.key.generation.algorithm", Text, "HmacSHA256", Low, "").without_effect(UNSIGNED),
        )
        .define(nullable("inter.worker.key.size", Int, Low, "").without_effect(UNSIGNED))
        .define(key("inter.worker.key.ttl.ms", Int, "3600000", Low, "").without_effect(UNSIGNED))
        .define(
            key(
                "inter.worker.signature.algorithm",
                Text,
                "HmacSHA256",
                Low,
                "",
            )
            .without_effect(UNSIGNED),
        )
        .define(key("inter.worker.verification.algorithms", List, "HmacSHA256", Low, "").without_effect(UNSIGNED))
}

fn storage(definition: ConfigDef) -> ConfigDef {
    definition
        .define(required(
            "config.storage.topic",
            Text,
            "Topic of connector configurations.",
        ))
        .define(required("offset.storage.topic", Text, "Topic of source offsets."))
        .define(required("status.storage.topic", Text, "Topic of statuses."))
        .define(replication("config.storage.replication.factor"))
        .define(replication("offset.storage.replication.factor"))
        .define(replication("status.storage.replication.factor"))
        .define(partitions("offset.storage.partitions", "25"))
        .define(partitions("status.storage.partitions", "5"))
        .define(key(
            "internal.topics.automatic.creation.enable",
            Boolean,
            "true",
            Medium,
            "Whether missing internal topics are created at start (KIP-1209).",
        ))
}

fn replication(name: &str) -> ConfigKey {
    key(
        name,
        Short,
        "3",
        Low,
        "Replication factor of the topic when it is created; -1: the broker's default.",
    )
    .validator(Validator::Custom(
        "-1 or at least 1",
        std::sync::Arc::new(positive_or_default),
    ))
}

fn partitions(name: &str, default: &str) -> ConfigKey {
    key(
        name,
        Int,
        default,
        Low,
        "Partitions of the topic when it is created; -1: the broker's default.",
    )
    .validator(Validator::Custom(
        "-1 or at least 1",
        std::sync::Arc::new(positive_or_default),
    ))
}

fn positive_or_default(name: &str, value: &connect_api::config::ParsedValue) -> Result<(), String> {
    match value.as_number() {
        Some(number) if number == -1.0 || number >= 1.0 => Ok(()),
        Some(number) => Err(format!(
            "Invalid value {number} for configuration {name}: must be positive, or -1 to use the broker's default"
        )),
        None => Err(format!("Invalid value null for configuration {name}: must be non-null")),
    }
}

fn rest(definition: ConfigDef) -> ConfigDef {
    definition
        .define(key(
            "listeners",
            List,
            "http://:8083",
            Low,
            "Addresses of REST: http://HOST:PORT; an empty host is all.",
        ))
        .define(nullable(
            "rest.advertised.host.name",
            Text,
            Low,
            "Host under which other workers reach this one.",
        ))
        .define(nullable(
            "rest.advertised.port",
            Int,
            Low,
            "Port under which other workers reach this one.",
        ))
        .define(nullable(
            "rest.advertised.listener",
            Text,
            Low,
            "Scheme under which other workers reach this one.",
        ))
        .define(key(
            "access.control.allow.origin",
            Text,
            "",
            Low,
            "Origin that browsers may call from.",
        ))
        .define(key(
            "access.control.allow.methods",
            Text,
            "",
            Low,
            "Methods that browsers may call with.",
        ))
        .define(nullable(
            "admin.listeners",
            List,
            Low,
            "Addresses of /admin/loggers if not those of REST; empty: none.",
        ))
        .define(key(
            "rest.extension.classes",
            List,
            "",
            Low,
            "Not supported: Java classes cannot be loaded.",
        ))
        .define(key(
            "response.http.headers.config",
            Text,
            "",
            Low,
            "Headers added to every answer: add|set name:value.",
        ))
        .define(key("ssl.client.auth", Text, "none", Low, "").without_effect("https listeners are not supported"))
}

fn clients(definition: ConfigDef) -> ConfigDef {
    definition
        .define(key(
            "client.id",
            Text,
            "",
            Low,
            "Prefix of the client ids of the worker's own clients.",
        ))
        .define(
            key(
                "client.dns.lookup",
                Text,
                "use_all_dns_ips",
                Medium,
                "How addresses of brokers are looked up. Of the Kafka clients; the connection to the group's coordinator does without it.",
            )
            .validator(Validator::In(vec![
                "use_all_dns_ips",
                "resolve_canonical_bootstrap_servers_only",
            ])),
        )
        .define(key(
            "metadata.max.age.ms",
            Long,
            "300000",
            Low,
            "Time after which metadata is read again, in ms.",
        ))
        .define(key(
            "send.buffer.bytes",
            Int,
            "131072",
            Medium,
            "Send buffer of a socket, in bytes. Of the Kafka clients; the connection to the group's coordinator does without it.",
        ))
        .define(key(
            "receive.buffer.bytes",
            Int,
            "32768",
            Medium,
            "Receive buffer of a socket, in bytes. Of the Kafka clients; the connection to the group's coordinator does without it.",
        ))
        .define(key(
            "reconnect.backoff.ms",
            Long,
            "50",
            Low,
            "First wait before connecting again, in ms. Of the Kafka clients; the connection to the group's coordinator does without it.",
        ))
        .define(key(
            "reconnect.backoff.max.ms",
            Long,
            "1000",
            Low,
            "Longest wait before connecting again, in ms. Of the Kafka clients; the connection to the group's coordinator does without it.",
        ))
        .define(key(
            "retry.backoff.ms",
            Long,
            "100",
            Low,
            "First wait before a retry, in ms; also before the group's coordinator is asked again.",
        ))
        .define(key(
            "retry.backoff.max.ms",
            Long,
            "1000",
            Low,
            "Longest wait before a retry, in ms; also before the group's coordinator is asked again.",
        ))
        .define(key(
            "socket.connection.setup.timeout.ms",
            Long,
            "10000",
            Low,
            "Time for connecting, in ms.",
        ))
        .define(
            key("socket.connection.setup.timeout.max.ms", Long, "30000", Low, "")
                .without_effect("each attempt to connect has socket.connection.setup.timeout.ms"),
        )
        .define(key(
            "request.timeout.ms",
            Int,
            "40000",
            Medium,
            "Time for an answer of a broker, in ms.",
        ))
        .define(key(
            "connections.max.idle.ms",
            Long,
            "540000",
            Medium,
            "Time after which idle connections close, in ms. Of the Kafka clients; the connection to the group's coordinator does without it.",
        ))
        .define(key(
            "security.protocol",
            Text,
            "PLAINTEXT",
            Medium,
            "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
        ))
        .define(key("sasl.mechanism", Text, "GSSAPI", Medium, "SASL mechanism."))
        .define(nullable(
            "sasl.jaas.config",
            Password,
            Medium,
            "SASL login, in the form of a JAAS entry.",
        ))
        .define(key(
            "metadata.recovery.strategy",
            Text,
            "rebootstrap",
            Low,
            "What to do when no known broker answers.",
        ))
        .define(key(
            "metadata.recovery.rebootstrap.trigger.ms",
            Long,
            "300000",
            Low,
            "Time before bootstrapping again, in ms.",
        ))
        .define(
            key("metadata.cluster.check.enable", Boolean, "true", Low, "")
                .without_effect("clients check the cluster's id by themselves"),
        )
        .define(
            key("bootstrap.resolve.timeout.ms", Long, "0", High, "")
                .without_effect("addresses that cannot be resolved are tried again"),
        )
}
