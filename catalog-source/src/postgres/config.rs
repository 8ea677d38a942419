//! Options of the Postgres connector: Debezium's, by their names.

use super::connection::Server;
use super::filter::RegexList;
use super::names::Adjustment;
use super::placeholder::Placeholder;
use super::refused;
use connect_api::ConnectError;
use connect_api::config::{
    ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, ParsedConfig, ParsedValue, Validator,
};
use std::sync::Arc;
use std::time::Duration;

/// Options.
pub(super) fn definition() -> ConfigDef {
    let server = connection_options(ConfigDef::new());
    let capture = capture_options(server);
    let values = value_options(capture);
    refused::names(pace_options(values))
}

fn connection_options(definition: ConfigDef) -> ConfigDef {
    use ConfigType::{Boolean, Int, Long, Password, String};
    definition
        .define(required("database.hostname", String).doc("Address of the PostgreSQL server."))
        .define(
            ConfigKey::new("database.port", Int)
                .default("5432")
                .validator(Validator::Between(1.0, 65_535.0))
                .importance(Importance::High)
                .doc("Port of the server."),
        )
        .define(required("database.user", String).doc("Role to connect as; needs LOGIN, REPLICATION and SELECT on the tables."))
        .define(
            ConfigKey::new("database.password", Password)
                .default("")
                .importance(Importance::High)
                .doc("Password of the role (trust, password, md5 and scram-sha-256 authentication)."),
        )
        .define(required("database.dbname", String).doc("Database to capture."))
        .define(
            ConfigKey::new("database.sslmode", String)
                .default("prefer")
                .validator(plain_text())
                .doc(
                    "The connection is in plain text, which the log says. disable, allow and prefer permit that; require, \
                     verify-ca and verify-full are refused because TLS is not supported: take the connection through a tunnel.",
                ),
        )
        .define(
            ConfigKey::new("database.tcpKeepAlive", Boolean)
                .default("true")
                .importance(Importance::Low)
                .doc("Whether TCP probes an idle connection, so that a lost network is noticed."),
        )
        .define(
            ConfigKey::new("connection.validation.timeout.ms", Long)
                .default("60000")
                .validator(Validator::AtLeast(1.0))
                .importance(Importance::Low)
                .doc("Longest time for opening a connection, in ms."),
        )
        .define(
            ConfigKey::new("plugin.name", String)
                .default("pgoutput")
                .validator(Validator::In(vec!["pgoutput"]))
                .doc("Logical decoding plug-in; pgoutput is part of PostgreSQL."),
        )
        .define(
            ConfigKey::new("slot.name", String)
                .default("debezium")
                .validator(slot_name())
                .doc("Replication slot of this connector, made where it is not there. Two connectors never share one."),
        )
        .define(
            ConfigKey::new("slot.drop.on.stop", Boolean)
                .default("false")
                .doc(
                    "Whether the slot is dropped when the task stops: for tests only. The next start takes a new snapshot (with \
                     no_data: it goes on from there), so what was deleted meanwhile stays in the topics.",
                ),
        )
        .define(
            ConfigKey::new("slot.max.retries", Int)
                .default("6")
                .validator(Validator::AtLeast(0.0))
                .importance(Importance::Low)
                .doc("How often a slot that is in use is tried again."),
        )
        .define(
            ConfigKey::new("slot.retry.delay.ms", Long)
                .default("10000")
                .validator(Validator::AtLeast(1.0))
                .importance(Importance::Low)
                .doc("Wait before a slot that is in use is tried again, in ms."),
        )
        .define(
            ConfigKey::new("publication.name", String)
                .default("dbz_publication")
                .validator(Validator::NonEmptyString)
                .doc("Publication that names the tables whose changes are sent."),
        )
        .define(
            ConfigKey::new("publication.autocreate.mode", String)
                .default("all_tables")
                .validator(Validator::In(vec!["all_tables", "disabled", "filtered"]))
                .doc(
                    "What is done where the publication is not there. all_tables: it is made for all tables (needs a \
                     superuser); filtered: for the captured tables, and kept equal to them; disabled: it must be there.",
                ),
        )
        .define(
            ConfigKey::new("publish.via.partition.root", Boolean)
                .default("false")
                .importance(Importance::Low)
                .doc("Whether a publication that is made publishes partitions under the name of their partitioned table."),
        )
}

fn capture_options(definition: ConfigDef) -> ConfigDef {
    use ConfigType::{Int, List, String};
    let regexes = |name: &str, what: &str| {
        ConfigKey::new(name, String)
            .default_null()
            .validator(regexes())
            .doc(format!(
                "Comma-separated regular expressions, each matching whole names regardless of case, of {what}."
            ))
    };
    definition
        .define(
            ConfigKey::new("topic.prefix", String)
                .validator(topic_prefix())
                .importance(Importance::High)
                .doc("Name of the database server in topics (PREFIX.SCHEMA.TABLE), schemas and offsets. Never change it."),
        )
        .define(regexes("schema.include.list", "schemas to capture").importance(Importance::High))
        .define(regexes("schema.exclude.list", "schemas to leave out"))
        .define(regexes("table.include.list", "tables to capture (schema.table)").importance(Importance::High))
        .define(regexes("table.exclude.list", "tables to leave out (schema.table)"))
        .define(regexes("column.include.list", "columns that values hold (schema.table.column)"))
        .define(regexes("column.exclude.list", "columns that values leave out (schema.table.column)"))
        .define(
            ConfigKey::new("snapshot.mode", String)
                .default("initial")
                .validator(Validator::In(vec![
                    "initial",
                    "initial_only",
                    "always",
                    "when_needed",
                    "no_data",
                    "never",
                ]))
                .importance(Importance::High)
                .doc(
                    "initial: a snapshot where no offset is committed, then changes; initial_only: the snapshot alone; always: \
                     a snapshot at each start; when_needed: also where the changes after the offset cannot be read any more; \
                     no_data (or never): changes only.",
                ),
        )
        .define(
            ConfigKey::new("offset.mismatch.strategy", String)
                .default("trust_offset")
                .validator(mismatch_strategy())
                .importance(Importance::Low)
                .doc(
                    "What is done where the slot holds only changes that are later than the committed offset, because it was made \
                     again or advanced. trust_offset: those before are missing, snapshot.mode says what follows; trust_slot (or \
                     trust_greater_lsn): they are given up, with a warning. A slot that is behind the offset is always read from \
                     the offset on.",
                ),
        )
        .define(
            ConfigKey::new("skipped.operations", List)
                .default("t")
                .validator(Validator::ListIn { values: vec!["c", "u", "d", "t"], empty_allowed: false })
                .doc("Operations that give no record: c, u, d, t (truncate). t must be among them: truncates are only logged."),
        )
        .define(
            ConfigKey::new("snapshot.fetch.size", Int)
                .default("10240")
                .validator(Validator::AtLeast(1.0))
                .importance(Importance::Low)
                .without_effect("a snapshot streams rows by COPY, which has no fetch size"),
        )
        .define(regexes("message.prefix.include.list", "prefixes of logical messages to capture"))
        .define(regexes("message.prefix.exclude.list", "prefixes of logical messages to leave out"))
        .define(
            ConfigKey::new("catalog.marker.topics", List)
                .default("")
                .validator(marker_topics())
                .importance(Importance::Low)
                .doc(
                    "schema.table:topic, for each topic that gets a marker record in every partition when the snapshot of the \
                     table is complete; the topic as it is called after transforms. A global store whose gate compares \
                     versions then serves what lies before the newest marker: leave it out where changes must be seen at once.",
                ),
        )
}

fn value_options(definition: ConfigDef) -> ConfigDef {
    use ConfigType::{Boolean, String};
    definition
        .define(
            ConfigKey::new("tombstones.on.delete", Boolean)
                .default("true")
                .doc("Whether a delete is followed by a tombstone, so that a compacted topic forgets the row."),
        )
        .define(
            ConfigKey::new("decimal.handling.mode", String)
                .default("precise")
                .validator(Validator::In(vec!["precise", "double", "string"]))
                .doc("How numeric columns are represented: Decimal, a floating point number, or text."),
        )
        .define(
            ConfigKey::new("time.precision.mode", String)
                .default("adaptive")
                .validator(Validator::In(vec!["adaptive", "adaptive_time_microseconds", "connect"]))
                .doc("How date, time and timestamp columns are represented."),
        )
        .define(
            ConfigKey::new("include.unknown.datatypes", Boolean)
                .default("false")
                .doc("Whether a column of a type that is not known is included, as bytes of its text."),
        )
        .define(
            ConfigKey::new("unavailable.value.placeholder", String)
                .default("__debezium_unavailable_value")
                .validator(text_check("text, or hex: and hexadecimal digits", |text| Placeholder::new(text).map(drop)))
                .doc(
                    "What stands for a large value that an update did not change and that PostgreSQL does not send (TOAST): a text, \
                     or hex: and the hexadecimal digits of bytes. Arrays of numbers, dates and times hold its bytes, one element \
                     each. With REPLICA IDENTITY FULL the value itself is sent.",
                ),
        )
        .define(adjustment("schema.name.adjustment.mode", "names of schemas"))
        .define(adjustment("field.name.adjustment.mode", "names of fields"))
}

fn adjustment(name: &str, what: &str) -> ConfigKey {
    ConfigKey::new(name, ConfigType::String)
        .default("none")
        .validator(Validator::In(Adjustment::NAMES.to_vec()))
        .importance(Importance::Low)
        .doc(format!(
            "What becomes of characters in {what} that Avro forbids. none: they stay; avro: each becomes an underscore; \
             avro_unicode: each, the underscore among them, becomes _u and its hexadecimal code."
        ))
}

fn pace_options(definition: ConfigDef) -> ConfigDef {
    use ConfigType::{Int, Long, String};
    let number = |name: &str, config_type, default: &str, least: f64| {
        ConfigKey::new(name, config_type)
            .default(default)
            .validator(Validator::AtLeast(least))
    };
    definition
        .define(number("max.batch.size", Int, "2048", 1.0).doc("Most records that are handed on at once."))
        .define(
            number("max.queue.size", Int, "8192", 1.0).doc("Records that are read ahead; more than max.batch.size."),
        )
        .define(
            number("poll.interval.ms", Long, "500", 1.0)
                .without_effect("changes are handed on when they arrive, without polling"),
        )
        .define(
            number("heartbeat.interval.ms", Int, "0", 0.0)
                .doc("Time between heartbeat records, in ms; 0: none. They are not needed for the slot to advance."),
        )
        .define(
            ConfigKey::new("topic.heartbeat.prefix", String)
                .default("__debezium-heartbeat")
                .importance(Importance::Low)
                .doc("Heartbeats go to the topic of this name, a dot and topic.prefix."),
        )
        .define(
            number("status.update.interval.ms", Int, "10000", 1.0)
                .doc("Time between two reports of progress to PostgreSQL, in ms."),
        )
}

fn required(name: &str, config_type: ConfigType) -> ConfigKey {
    ConfigKey::new(name, config_type)
        .validator(Validator::NonEmptyString)
        .importance(Importance::High)
}

fn text_check(
    description: &'static str,
    check: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
) -> Validator {
    Validator::Custom(
        description,
        Arc::new(move |name, value| match value {
            ParsedValue::String(text) => {
                check(text).map_err(|reason| format!("Invalid value {text} for configuration {name}: {reason}"))
            }
            _ => Ok(()),
        }),
    )
}

fn plain_text() -> Validator {
    const PERMITTED: [&str; 3] = ["disable", "allow", "prefer"];
    text_check("[disable, allow, prefer]", |text| match PERMITTED.contains(&text) {
        true => Ok(()),
        false => Err(format!(
            "String must be one of: {}. This connector has no TLS yet: take the connection through a tunnel (stunnel, ssh -L, \
             or a proxy of the provider) and leave database.sslmode out",
            PERMITTED.join(", ")
        )),
    })
}

fn mismatch_strategy() -> Validator {
    text_check("[trust_offset, trust_slot, trust_greater_lsn]", |text| {
        match text {
        "trust_offset" | "trust_slot" | "trust_greater_lsn" => Ok(()),
        _ => Err(
            "String must be one of: trust_offset, trust_slot, trust_greater_lsn; a slot that has lost changes is always noticed"
                .to_owned(),
        ),
    }
    })
}

fn regexes() -> Validator {
    text_check("list of regular expressions", |text| RegexList::new(text).map(drop))
}

fn slot_name() -> Validator {
    text_check("lower-case letters, digits and _", |text| {
        let fits = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
        match !text.is_empty() && text.len() < 64 && text.chars().all(fits) {
            true => Ok(()),
            false => Err("a replication slot's name has 1 to 63 lower-case letters, digits and underscores".to_owned()),
        }
    })
}

fn topic_prefix() -> Validator {
    text_check("letters, digits, ., _ and -", |text| {
        let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
        match !text.is_empty() && text.chars().all(fits) {
            true => Ok(()),
            false => Err("only letters, digits, dots, underscores and hyphens may be in a topic's name".to_owned()),
        }
    })
}

fn marker_topics() -> Validator {
    Validator::Custom(
        "schema.table:topic, ...",
        Arc::new(|name, value| match value {
            ParsedValue::List(entries) => match entries.iter().find(|entry| marker_topic(entry).is_none()) {
                Some(entry) => Err(format!(
                    "Invalid value {entry} for configuration {name}: write schema.table:topic"
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }),
    )
}

fn marker_topic(entry: &str) -> Option<(String, Arc<str>)> {
    let (table, topic) = entry.split_once(':')?;
    let whole = table.contains('.') && !topic.trim().is_empty();
    whole.then(|| (table.trim().to_owned(), topic.trim().into()))
}

/// When a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotMode {
    Initial,
    InitialOnly,
    Always,
    WhenNeeded,
    NoData,
}

/// What is done where the slot is ahead of the committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MismatchStrategy {
    TrustOffset,
    TrustSlot,
}

/// What is done where the publication is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Autocreate {
    AllTables,
    Disabled,
    Filtered,
}

/// How numeric columns are represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalMode {
    Precise,
    Double,
    String,
}

/// How date, time and timestamp columns are represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeMode {
    Adaptive,
    AdaptiveTimeMicroseconds,
    Connect,
}

/// How values are represented.
#[derive(Debug, Clone)]
pub(super) struct ValueOptions {
    pub(super) decimals: DecimalMode,
    pub(super) times: TimeMode,
    pub(super) unknown_types: bool,
}

/// Which tables and columns are captured.
#[derive(Debug, Clone, Default)]
pub(super) struct CaptureFilter {
    pub(super) schemas: RegexList,
    pub(super) excluded_schemas: RegexList,
    pub(super) tables: RegexList,
    pub(super) excluded_tables: RegexList,
    pub(super) columns: RegexList,
    pub(super) excluded_columns: RegexList,
    pub(super) prefixes: RegexList,
    pub(super) excluded_prefixes: RegexList,
}

/// Checked options.
#[derive(Clone)]
pub(super) struct PostgresConfig {
    pub(super) server: Server,
    /// the connection is in plain text though nobody has said that it may be
    pub(super) plain_text_unasked: bool,
    pub(super) prefix: Arc<str>,
    pub(super) slot: String,
    pub(super) drop_slot_on_stop: bool,
    pub(super) slot_retries: u32,
    pub(super) slot_retry_delay: Duration,
    pub(super) publication: String,
    pub(super) autocreate: Autocreate,
    pub(super) via_partition_root: bool,
    pub(super) capture: CaptureFilter,
    pub(super) snapshot: SnapshotMode,
    pub(super) mismatch: MismatchStrategy,
    /// operations that give no record
    pub(super) skipped: Vec<String>,
    /// schema.table -> topic
    pub(super) markers: Vec<(String, Arc<str>)>,
    pub(super) tombstones: bool,
    pub(super) values: ValueOptions,
    pub(super) unavailable: Placeholder,
    pub(super) schema_names: Adjustment,
    pub(super) field_names: Adjustment,
    pub(super) batch_size: usize,
    pub(super) queue_size: usize,
    pub(super) heartbeat: Option<Duration>,
    pub(super) heartbeat_topic: Arc<str>,
    pub(super) status_interval: Duration,
}

impl PostgresConfig {
    /// Reads the options.
    pub(super) fn new(config: &ConfigMap) -> Result<Self, ConnectError> {
        if let Some((name, error)) = refused::check(config).into_iter().next() {
            tracing::debug!(option = name, "refused option");
            return Err(ConnectError::config(error));
        }
        let parsed = definition().parse(config)?;
        let text = |name: &str| parsed.text(name).unwrap_or_default();
        let whole = |name: &str, default: usize| {
            parsed
                .integer(name)
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(default)
        };
        let millis = |name: &str| Duration::from_millis(parsed.integer(name).unwrap_or_default().unsigned_abs());
        let skipped = parsed.list("skipped.operations").to_vec();
        if !skipped.iter().any(|operation| operation == "t") {
            return Err(ConnectError::config(
                "Invalid value for configuration skipped.operations: t must be among them, truncates give no record",
            ));
        }
        let queue_size = whole("max.queue.size", 8192);
        let batch_size = whole("max.batch.size", 2048);
        if queue_size <= batch_size {
            return Err(ConnectError::config(format!(
                "Invalid value {queue_size} for configuration max.queue.size: it must be larger than max.batch.size, which is \
                 {batch_size}"
            )));
        }
        let prefix = text("topic.prefix");
        Ok(Self {
            server: Server {
                host: text("database.hostname").to_owned(),
                port: parsed
                    .integer("database.port")
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or(5432),
                user: text("database.user").to_owned(),
                password: text("database.password").to_owned(),
                database: text("database.dbname").to_owned(),
                connect_timeout: millis("connection.validation.timeout.ms"),
                keepalive: parsed.boolean("database.tcpKeepAlive"),
            },
            plain_text_unasked: text("database.sslmode") != "disable",
            prefix: prefix.into(),
            slot: text("slot.name").to_owned(),
            drop_slot_on_stop: parsed.boolean("slot.drop.on.stop"),
            slot_retries: u32::try_from(whole("slot.max.retries", 6)).unwrap_or(u32::MAX),
            slot_retry_delay: millis("slot.retry.delay.ms"),
            publication: text("publication.name").to_owned(),
            autocreate: match text("publication.autocreate.mode") {
                "disabled" => Autocreate::Disabled,
                "filtered" => Autocreate::Filtered,
                _ => Autocreate::AllTables,
            },
            via_partition_root: parsed.boolean("publish.via.partition.root"),
            capture: CaptureFilter::new(&parsed)?,
            snapshot: match text("snapshot.mode") {
                "initial_only" => SnapshotMode::InitialOnly,
                "always" => SnapshotMode::Always,
                "when_needed" => SnapshotMode::WhenNeeded,
                "no_data" | "never" => SnapshotMode::NoData,
                _ => SnapshotMode::Initial,
            },
            mismatch: match text("offset.mismatch.strategy") {
                "trust_offset" => MismatchStrategy::TrustOffset,
                _ => MismatchStrategy::TrustSlot,
            },
            skipped,
            markers: parsed
                .list("catalog.marker.topics")
                .iter()
                .filter_map(|entry| marker_topic(entry))
                .collect(),
            tombstones: parsed.boolean("tombstones.on.delete"),
            values: ValueOptions {
                decimals: match text("decimal.handling.mode") {
                    "double" => DecimalMode::Double,
                    "string" => DecimalMode::String,
                    _ => DecimalMode::Precise,
                },
                times: match text("time.precision.mode") {
                    "connect" => TimeMode::Connect,
                    "adaptive_time_microseconds" => TimeMode::AdaptiveTimeMicroseconds,
                    _ => TimeMode::Adaptive,
                },
                unknown_types: parsed.boolean("include.unknown.datatypes"),
            },
            unavailable: Placeholder::new(text("unavailable.value.placeholder")).map_err(|reason| {
                ConnectError::config(format!(
                    "Invalid value for configuration unavailable.value.placeholder: {reason}"
                ))
            })?,
            schema_names: Adjustment::named(text("schema.name.adjustment.mode")),
            field_names: Adjustment::named(text("field.name.adjustment.mode")),
            batch_size,
            queue_size,
            heartbeat: Some(millis("heartbeat.interval.ms")).filter(|interval| !interval.is_zero()),
            heartbeat_topic: format!("{}.{prefix}", text("topic.heartbeat.prefix")).into(),
            status_interval: millis("status.update.interval.ms"),
        })
    }
}

impl CaptureFilter {
    fn new(parsed: &ParsedConfig) -> Result<Self, ConnectError> {
        let list = |name: &str| {
            RegexList::new(parsed.text(name).unwrap_or_default())
                .map_err(|reason| ConnectError::config(format!("Invalid value for configuration {name}: {reason}")))
        };
        for kind in ["schema", "table", "column", "message.prefix"] {
            let (include, exclude) = (format!("{kind}.include.list"), format!("{kind}.exclude.list"));
            if !list(&include)?.is_empty() && !list(&exclude)?.is_empty() {
                return Err(ConnectError::config(format!(
                    "Invalid value for configuration {exclude}: give {include} or {exclude}, not both"
                )));
            }
        }
        Ok(Self {
            schemas: list("schema.include.list")?,
            excluded_schemas: list("schema.exclude.list")?,
            tables: list("table.include.list")?,
            excluded_tables: list("table.exclude.list")?,
            columns: list("column.include.list")?,
            excluded_columns: list("column.exclude.list")?,
            prefixes: list("message.prefix.include.list")?,
            excluded_prefixes: list("message.prefix.exclude.list")?,
        })
    }

    /// Whether logical messages of a prefix are captured.
    pub(super) fn takes_message(&self, prefix: &str) -> bool {
        self.prefixes.includes(prefix) && !self.excluded_prefixes.excludes(prefix)
    }

    /// Whether a table is captured.
    pub(super) fn takes_table(&self, schema: &str, table: &str) -> bool {
        let name = format!("{schema}.{table}");
        self.schemas.includes(schema)
            && !self.excluded_schemas.excludes(schema)
            && self.tables.includes(&name)
            && !self.excluded_tables.excludes(&name)
    }

    /// Whether values hold a column. Keys hold theirs in any case.
    pub(super) fn takes_column(&self, schema: &str, table: &str, column: &str) -> bool {
        if self.columns.is_empty() && self.excluded_columns.is_empty() {
            return true;
        }
        let name = format!("{schema}.{table}.{column}");
        self.columns.includes(&name) && !self.excluded_columns.excludes(&name)
    }
}
