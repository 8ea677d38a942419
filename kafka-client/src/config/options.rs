//! The table of options: which kinds of client take each, and what it becomes in librdkafka.

use indexmap::IndexMap;

use super::{ClientConfig, ClientKind};
use crate::error::KafkaError;

/// Kinds of client that an option concerns; others accept it without effect, as Java does.
#[derive(Clone, Copy, PartialEq)]
enum For {
    Every,
    Consumer,
    Producer,
}

/// How a value is carried over.
#[derive(Clone, Copy)]
enum Value {
    /// As it is.
    Same,
    /// In lower case.
    Lower,
    /// A whole number, brought into librdkafka's range.
    Clamp(i64, i64),
    /// A number of bytes in Java, of kilobytes in librdkafka.
    Kilobytes,
    /// `true` or `false`.
    Boolean,
    /// Read by our own code, not by librdkafka.
    Ours(Form),
    /// Accepted without effect, and why.
    NoEffect(Form, &'static str),
    /// Only these values, which ask for what happens anyway.
    Only(&'static [&'static str]),
    /// Handled by name below.
    Special,
}

/// What a value that librdkafka does not get must look like.
#[derive(Clone, Copy)]
enum Form {
    Any,
    /// `true` or `false`
    Flag,
    /// a whole number from the first to the second
    Within(i64, i64),
}

impl Form {
    fn check(self, name: &str, value: &str) -> Result<(), KafkaError> {
        match self {
            Any => Ok(()),
            Flag => boolean(name, value).map(drop),
            Within(low, high) => {
                let number = whole(name, value)?;
                if (low..=high).contains(&number) {
                    return Ok(());
                }
                let reason = format_args!("{number} is not within {low} and {high}");
                Err(KafkaError::option(name, reason))
            }
        }
    }
}

use For::{Consumer, Every, Producer};
use Form::{Any, Flag, Within};
use Value::{Boolean, Clamp, Kilobytes, Lower, NoEffect, Only, Ours, Same, Special};

const INT_MAX: i64 = i32::MAX as i64;

/// Why options of Java's partitioner do nothing.
const PARTITIONER: &str = "records without a key go to any partition, those with a key where Java's go";
/// Why options of Java's metrics do nothing.
const METRICS: &str = "metrics of Kafka clients are not served";
const DAY_MS: i64 = 86_400_000;

/// Java name, kinds, librdkafka's name ("" where there is none), value.
const OPTIONS: &[(&str, For, &str, Value)] = &[
    // every client
    ("bootstrap.servers", Every, "bootstrap.servers", Special),
    ("client.id", Every, "client.id", Same),
    ("client.dns.lookup", Every, "client.dns.lookup", Same),
    ("client.rack", Consumer, "client.rack", Same),
    (
        "connections.max.idle.ms",
        Every,
        "connections.max.idle.ms",
        Clamp(0, INT_MAX),
    ),
    ("metadata.max.age.ms", Every, "metadata.max.age.ms", Clamp(1, DAY_MS)),
    ("metadata.recovery.strategy", Every, "metadata.recovery.strategy", Lower),
    (
        "metadata.recovery.rebootstrap.trigger.ms",
        Every,
        "metadata.recovery.rebootstrap.trigger.ms",
        Clamp(0, INT_MAX),
    ),
    ("enable.metrics.push", Every, "enable.metrics.push", Boolean),
    (
        "receive.buffer.bytes",
        Every,
        "socket.receive.buffer.bytes",
        Clamp(0, 100_000_000),
    ),
    (
        "send.buffer.bytes",
        Every,
        "socket.send.buffer.bytes",
        Clamp(0, 100_000_000),
    ),
    (
        "reconnect.backoff.ms",
        Every,
        "reconnect.backoff.ms",
        Clamp(0, 3_600_000),
    ),
    (
        "reconnect.backoff.max.ms",
        Every,
        "reconnect.backoff.max.ms",
        Clamp(0, 3_600_000),
    ),
    ("retry.backoff.ms", Every, "retry.backoff.ms", Clamp(1, 300_000)),
    ("retry.backoff.max.ms", Every, "retry.backoff.max.ms", Clamp(1, 300_000)),
    ("request.timeout.ms", Every, "socket.timeout.ms", Special),
    (
        "socket.connection.setup.timeout.ms",
        Every,
        "socket.connection.setup.timeout.ms",
        Clamp(1000, INT_MAX),
    ),
    // Java's producer has no such option: its brokers may always make what it writes to.
    ("allow.auto.create.topics", Every, "allow.auto.create.topics", Boolean),
    // consumers
    ("group.id", Consumer, "group.id", Same),
    ("group.instance.id", Consumer, "group.instance.id", Same),
    ("group.protocol", Consumer, "group.protocol", Lower),
    ("group.remote.assignor", Consumer, "group.remote.assignor", Same),
    (
        "session.timeout.ms",
        Consumer,
        "session.timeout.ms",
        Clamp(1, 3_600_000),
    ),
    (
        "heartbeat.interval.ms",
        Consumer,
        "heartbeat.interval.ms",
        Clamp(1, 3_600_000),
    ),
    (
        "max.poll.interval.ms",
        Consumer,
        "max.poll.interval.ms",
        Clamp(1, DAY_MS),
    ),
    (
        "partition.assignment.strategy",
        Consumer,
        "partition.assignment.strategy",
        Special,
    ),
    ("auto.offset.reset", Consumer, "auto.offset.reset", Special),
    ("isolation.level", Consumer, "isolation.level", Lower),
    ("fetch.min.bytes", Consumer, "fetch.min.bytes", Clamp(1, 100_000_000)),
    ("fetch.max.bytes", Consumer, "fetch.max.bytes", Clamp(0, 2_147_483_135)),
    ("fetch.max.wait.ms", Consumer, "fetch.wait.max.ms", Clamp(0, 300_000)),
    (
        "max.partition.fetch.bytes",
        Consumer,
        "fetch.message.max.bytes",
        Clamp(1, 1_000_000_000),
    ),
    ("check.crcs", Consumer, "check.crcs", Boolean),
    ("exclude.internal.topics", Consumer, "", Special),
    ("enable.auto.commit", Consumer, "", Only(&["false"])),
    (
        "auto.commit.interval.ms",
        Consumer,
        "",
        NoEffect(Within(0, INT_MAX), "offsets are committed at offset.flush.interval.ms"),
    ),
    ("max.poll.records", Consumer, "", Ours(Within(1, INT_MAX))),
    ("key.deserializer", Consumer, "", Only(&[BYTE_ARRAY_DESERIALIZER])),
    ("value.deserializer", Consumer, "", Only(&[BYTE_ARRAY_DESERIALIZER])),
    // producers
    ("acks", Producer, "acks", Special),
    ("enable.idempotence", Producer, "enable.idempotence", Special),
    ("retries", Producer, "retries", Clamp(0, INT_MAX)),
    (
        "max.in.flight.requests.per.connection",
        Producer,
        "max.in.flight.requests.per.connection",
        Clamp(1, 1_000_000),
    ),
    ("delivery.timeout.ms", Producer, "message.timeout.ms", Special),
    ("linger.ms", Producer, "linger.ms", Clamp(0, 900_000)),
    ("batch.size", Producer, "batch.size", Clamp(1, INT_MAX)),
    ("buffer.memory", Producer, "queue.buffering.max.kbytes", Kilobytes),
    (
        "max.request.size",
        Producer,
        "message.max.bytes",
        Clamp(1000, 1_000_000_000),
    ),
    ("compression.type", Producer, "compression.type", Lower),
    ("compression.gzip.level", Producer, "", Special),
    ("compression.lz4.level", Producer, "", Special),
    ("compression.zstd.level", Producer, "", Special),
    ("transactional.id", Producer, "transactional.id", Same),
    (
        "transaction.timeout.ms",
        Producer,
        "transaction.timeout.ms",
        Clamp(1000, INT_MAX),
    ),
    (
        "partitioner.class",
        Producer,
        "",
        Only(&["", "org.apache.kafka.clients.producer.internals.DefaultPartitioner"]),
    ),
    ("partitioner.ignore.keys", Producer, "", Only(&["false"])),
    (
        "partitioner.adaptive.partitioning.enable",
        Producer,
        "",
        NoEffect(Flag, PARTITIONER),
    ),
    (
        "partitioner.availability.timeout.ms",
        Producer,
        "",
        NoEffect(Within(0, i64::MAX), PARTITIONER),
    ),
    (
        "max.block.ms",
        Producer,
        "",
        NoEffect(
            Within(0, i64::MAX),
            "a record waits for room in a full buffer without this limit",
        ),
    ),
    ("key.serializer", Producer, "", Only(&[BYTE_ARRAY_SERIALIZER])),
    ("value.serializer", Producer, "", Only(&[BYTE_ARRAY_SERIALIZER])),
    // of a JVM, or of its metrics
    ("default.api.timeout.ms", Every, "", Ours(Within(0, INT_MAX))),
    (
        "metadata.max.idle.ms",
        Every,
        "",
        NoEffect(
            Within(5000, i64::MAX),
            "metadata of topics that are not used is not forgotten",
        ),
    ),
    (
        "metadata.cluster.check.enable",
        Every,
        "",
        NoEffect(Flag, "clients check the cluster's id by themselves"),
    ),
    (
        "bootstrap.resolve.timeout.ms",
        Every,
        "",
        NoEffect(Within(0, i64::MAX), "addresses that cannot be resolved are tried again"),
    ),
    (
        "socket.connection.setup.timeout.max.ms",
        Every,
        "",
        NoEffect(
            Within(0, i64::MAX),
            "each attempt to connect has socket.connection.setup.timeout.ms",
        ),
    ),
    ("metric.reporters", Every, "", NoEffect(Any, METRICS)),
    ("metrics.num.samples", Every, "", NoEffect(Within(1, INT_MAX), METRICS)),
    ("metrics.recording.level", Every, "", NoEffect(Any, METRICS)),
    (
        "metrics.sample.window.ms",
        Every,
        "",
        NoEffect(Within(0, i64::MAX), METRICS),
    ),
    ("auto.include.jmx.reporter", Every, "", NoEffect(Flag, METRICS)),
    ("interceptor.classes", Every, "", Only(&[""])),
];

/// Why nothing comes of an option that is accepted, if nothing does.
pub(super) fn without_effect(option: &str) -> Option<&'static str> {
    OPTIONS.iter().find_map(|(name, _, _, value)| match value {
        NoEffect(_, reason) if *name == option => Some(*reason),
        _ => None,
    })
}

/// What becomes of an option of Kafka clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOption {
    /// its name in Java
    pub name: &'static str,
    /// the clients that it concerns: `all`, `consumers` or `producers`
    pub clients: &'static str,
    /// what comes of it: a clause
    pub effect: String,
}

/// Every option of the table with what becomes of it.
pub(super) fn described() -> impl Iterator<Item = ClientOption> {
    OPTIONS.iter().map(|(name, clients, _, value)| ClientOption {
        name,
        clients: match clients {
            Every => "all",
            Consumer => "consumers",
            Producer => "producers",
        },
        effect: match value {
            Clamp(low, high) => format!("as in Kafka's clients, brought between {low} and {high}"),
            NoEffect(_, reason) => format!("accepted, without effect: {reason}"),
            Only(allowed) => {
                let allowed: Vec<&str> = allowed
                    .iter()
                    .map(|one| if one.is_empty() { "empty" } else { one })
                    .collect();
                format!("{} only; anything else is refused", allowed.join(" or "))
            }
            Same | Lower | Kilobytes | Boolean | Ours(_) | Special => "as in Kafka's clients".to_owned(),
        },
    })
}

/// Options that producers do something with.
#[cfg(test)]
pub(crate) fn of_producers() -> impl Iterator<Item = &'static str> {
    let concerns = |row: &&(_, For, _, Value)| row.1 != Consumer && !matches!(row.3, NoEffect(..) | Only(_) | Ours(_));
    OPTIONS.iter().filter(concerns).map(|(name, ..)| *name)
}

/// Names of the options in the table.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, ..)| *name)
}

const BYTE_ARRAY_SERIALIZER: &str = "org.apache.kafka.common.serialization.ByteArraySerializer";
const BYTE_ARRAY_DESERIALIZER: &str = "org.apache.kafka.common.serialization.ByteArrayDeserializer";

/// Topics that a pattern subscription must not see unless `exclude.internal.topics=false`.
const INTERNAL_TOPICS: &str = "^__consumer_offsets$,^__transaction_state$,^__share_group_state$";

/// `fetch.max.bytes` plus this must fit into one response of librdkafka.
const RESPONSE_OVERHEAD_BYTES: i64 = 512;
const RECEIVE_MESSAGE_MAX_BYTES_DEFAULT: i64 = 100_000_000;

pub(super) fn translate(
    config: &ClientConfig,
    kind: ClientKind,
    native: &mut IndexMap<String, String>,
) -> Result<(), KafkaError> {
    defaults(config, kind, native);
    for (name, value) in config.iter() {
        let value = value.trim();
        if super::security::owns(name) || name.starts_with("metrics.context.") {
            continue;
        }
        let Some(&(_, wanted, native_name, carry)) = OPTIONS.iter().find(|(java, ..)| *java == name) else {
            return Err(KafkaError::option(
                name,
                "unknown, or not supported by this client; remove it",
            ));
        };
        let concerns = match wanted {
            Every => true,
            Consumer => kind == ClientKind::Consumer,
            Producer => kind == ClientKind::Producer,
        };
        if !concerns {
            continue;
        }
        let translated = match carry {
            Ours(form) | NoEffect(form, _) => {
                form.check(name, value)?;
                continue;
            }
            Same => value.to_owned(),
            Lower => value.to_ascii_lowercase(),
            Boolean => boolean(name, value)?.to_string(),
            Clamp(low, high) => whole(name, value)?.clamp(low, high).to_string(),
            Kilobytes => (whole(name, value)? / 1024).clamp(1, INT_MAX).to_string(),
            Only(allowed) if allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(value)) => continue,
            Only(allowed) => {
                return Err(KafkaError::option(
                    name,
                    format_args!("{value:?} is not supported, only {:?}", allowed.first().unwrap_or(&"")),
                ));
            }
            Special => {
                special(config, kind, name, value, native)?;
                continue;
            }
        };
        native.insert(native_name.to_owned(), translated);
    }
    fit_response_size(native)?;
    fit_transaction_timeout(native)
}

/// What differs from librdkafka's own defaults.
fn defaults(config: &ClientConfig, kind: ClientKind, native: &mut IndexMap<String, String>) {
    let mut set = |name: &str, value: &str| native.insert(name.to_owned(), value.to_owned());
    set("reconnect.backoff.ms", "50");
    set("reconnect.backoff.max.ms", "1000");
    match kind {
        ClientKind::Consumer => {
            set("enable.auto.commit", "false");
            set("enable.auto.offset.store", "false");
            set("enable.partition.eof", "true");
            set("isolation.level", "read_uncommitted");
            set("auto.offset.reset", "latest");
            set("check.crcs", "true");
            // A full queue is looked at again after this time, not after a second: a consumer that is slower than its broker
            // would wait most of that second with nothing left to hand out.
            set("fetch.queue.backoff.ms", "10");
            set("allow.auto.create.topics", "false");
            set("topic.blacklist", INTERNAL_TOPICS);
        }
        ClientKind::Producer => {
            set("partitioner", "murmur2_random");
            set("allow.auto.create.topics", "true");
            set("queue.buffering.max.messages", "0");
            set("queue.buffering.max.kbytes", "32768");
            set(
                "enable.idempotence",
                if idempotence_possible(config) { "true" } else { "false" },
            );
        }
        ClientKind::Admin => {
            set("allow.auto.create.topics", "false");
        }
    }
    if kind == ClientKind::Admin || config.administers {
        set("enable.sparse.connections", "false");
    }
}

/// The Java producer is idempotent unless an option that was set rules it out (`ProducerConfig.maybeOverrideEnableIdempotence`).
fn idempotence_possible(config: &ClientConfig) -> bool {
    let acks = config
        .get("acks")
        .is_none_or(|acks| matches!(acks.trim(), "all" | "-1"));
    let retries = config.get("retries").is_none_or(|retries| retries.trim() != "0");
    let in_flight = config
        .get("max.in.flight.requests.per.connection")
        .and_then(|n| n.trim().parse::<i64>().ok())
        .is_none_or(|n| n <= 5);
    acks && retries && in_flight
}

fn special(
    config: &ClientConfig,
    kind: ClientKind,
    name: &str,
    value: &str,
    native: &mut IndexMap<String, String>,
) -> Result<(), KafkaError> {
    let mut set = |name: &str, value: String| native.insert(name.to_owned(), value);
    match name {
        "bootstrap.servers" => {
            let servers: Vec<&str> = value
                .split(',')
                .map(str::trim)
                .filter(|server| !server.is_empty())
                .collect();
            if servers.is_empty() {
                return Err(KafkaError::option(name, "no server is named"));
            }
            set(name, servers.join(","));
        }
        "request.timeout.ms" => {
            let millis = whole(name, value)?;
            set("socket.timeout.ms", millis.clamp(10, 300_000).to_string());
            if kind == ClientKind::Producer {
                set("request.timeout.ms", millis.clamp(1, 900_000).to_string());
            }
        }
        "auto.offset.reset" => {
            let reset = match value.to_ascii_lowercase().as_str() {
                "none" => "error",
                "earliest" => "earliest",
                "latest" => "latest",
                _ => return Err(KafkaError::option(name, "only earliest, latest and none are supported")),
            };
            set(name, reset.to_owned());
        }
        "partition.assignment.strategy" => {
            set(name, assignors(name, value)?);
        }
        "exclude.internal.topics" => {
            if !boolean(name, value)? {
                native.shift_remove("topic.blacklist");
            }
        }
        "acks" => match value {
            "all" | "-1" | "0" | "1" => {
                set(name, value.to_owned());
            }
            _ => return Err(KafkaError::option(name, "must be all, -1, 0 or 1")),
        },
        "enable.idempotence" => {
            set(name, boolean(name, value)?.to_string());
        }
        "delivery.timeout.ms" => {
            // librdkafka reads 0 as no limit at all; Java's smallest limit is one millisecond.
            set("message.timeout.ms", whole(name, value)?.clamp(1, INT_MAX).to_string());
        }
        "compression.gzip.level" | "compression.lz4.level" | "compression.zstd.level" => {
            let level = whole(name, value)?;
            let codec = name.trim_start_matches("compression.").trim_end_matches(".level");
            if config
                .get("compression.type")
                .is_some_and(|used| used.trim().eq_ignore_ascii_case(codec))
            {
                set("compression.level", level.clamp(-1, 12).to_string());
            }
        }
        _ => {
            return Err(KafkaError::option(
                name,
                "unknown, or not supported by this client; remove it",
            ));
        }
    }
    Ok(())
}

/// Java class names to librdkafka's names. librdkafka cannot offer eager and cooperative assignors at once; Java, offered
/// both, also stays eager until every member offers only cooperative ones, so of a mixed list the eager ones are kept.
fn assignors(name: &str, value: &str) -> Result<String, KafkaError> {
    let mut eager = Vec::new();
    let mut cooperative = Vec::new();
    for class in value.split(',').map(str::trim).filter(|class| !class.is_empty()) {
        match class.rsplit('.').next().unwrap_or(class) {
            "RangeAssignor" | "range" => eager.push("range"),
            "RoundRobinAssignor" | "roundrobin" => eager.push("roundrobin"),
            "CooperativeStickyAssignor" | "cooperative-sticky" => cooperative.push("cooperative-sticky"),
            _ => {
                return Err(KafkaError::option(
                    name,
                    format_args!(
                        "{class} is not supported; use RangeAssignor, RoundRobinAssignor or CooperativeStickyAssignor"
                    ),
                ));
            }
        }
    }
    let kept = if eager.is_empty() { cooperative } else { eager };
    if kept.is_empty() {
        return Err(KafkaError::option(name, "no assignor is named"));
    }
    Ok(kept.join(","))
}

/// One response must be able to carry what one fetch may return.
fn fit_response_size(native: &mut IndexMap<String, String>) -> Result<(), KafkaError> {
    if let Some(text) = native.get("fetch.max.bytes") {
        let needed = whole("fetch.max.bytes", text)? + RESPONSE_OVERHEAD_BYTES;
        if needed > RECEIVE_MESSAGE_MAX_BYTES_DEFAULT {
            native.insert("receive.message.max.bytes".to_owned(), needed.min(INT_MAX).to_string());
        }
    }
    Ok(())
}

/// librdkafka refuses a transactional producer whose messages or requests may outlive the transaction.
fn fit_transaction_timeout(native: &mut IndexMap<String, String>) -> Result<(), KafkaError> {
    if !native.contains_key("transactional.id") {
        return Ok(());
    }
    let transaction_ms = match native.get("transaction.timeout.ms") {
        Some(text) => whole("transaction.timeout.ms", text)?,
        None => 60_000,
    };
    for (name, limit) in [
        ("message.timeout.ms", transaction_ms),
        ("socket.timeout.ms", transaction_ms),
        ("request.timeout.ms", transaction_ms),
    ] {
        if let Some(text) = native.get(name) {
            let fitted = whole(name, text)?.min(limit).to_string();
            native.insert(name.to_owned(), fitted);
        }
    }
    if transaction_ms < 60_000 && !native.contains_key("socket.timeout.ms") {
        native.insert("socket.timeout.ms".to_owned(), transaction_ms.to_string());
    }
    Ok(())
}

fn whole(name: &str, value: &str) -> Result<i64, KafkaError> {
    value
        .parse()
        .map_err(|_| KafkaError::option(name, format_args!("{value:?} is not a whole number")))
}

fn boolean(name: &str, value: &str) -> Result<bool, KafkaError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(KafkaError::option(
            name,
            format_args!("{value:?} is neither true nor false"),
        )),
    }
}
