//! Options of the event replay.

use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator};
use connect_api::{ConnectError, ParsedConfig};
use std::path::PathBuf;
use std::sync::Arc;

/// Options.
pub(super) fn definition() -> ConfigDef {
    ConfigDef::new()
        .define(
            ConfigKey::new("file", ConfigType::String)
                .validator(Validator::NonEmptyString)
                .importance(Importance::High)
                .doc("CSV file with a header line; compressed with gzip if its name ends in .gz."),
        )
        .define(
            ConfigKey::new("topic", ConfigType::String)
                .validator(Validator::NonEmptyString)
                .importance(Importance::High)
                .doc("Topic to write the events to."),
        )
        .define(
            ConfigKey::new("key.field", ConfigType::String)
                .default_null()
                .importance(Importance::High)
                .doc("Column whose text becomes the record's key; not set: no key."),
        )
        .define(
            ConfigKey::new("timestamp.field", ConfigType::String)
                .default_null()
                .importance(Importance::Medium)
                .doc(
                    "Column with the record's timestamp: milliseconds since the epoch, or RFC 3339 \
                     (2017-01-01T15:36:24Z); not set: the time of sending.",
                ),
        )
        .define(
            ConfigKey::new("fields.numeric", ConfigType::List)
                .default("")
                .validator(Validator::AnyNonDuplicateValues {
                    empty_allowed: true,
                    null_allowed: false,
                })
                .importance(Importance::Medium)
                .doc(
                    "Columns whose text becomes a JSON number; an empty text becomes null. The others become strings.",
                ),
        )
        .define(
            ConfigKey::new("row.field", ConfigType::String)
                .default_null()
                .importance(Importance::Low)
                .doc("Name of a further member that holds the row's number in the file, from 0; not set: none."),
        )
        .define(
            ConfigKey::new("events.per.second", ConfigType::Double)
                .default("0")
                .validator(Validator::AtLeast(0.0))
                .importance(Importance::Medium)
                .doc("Events sent per second; 0: as fast as Kafka takes them."),
        )
        .define(
            ConfigKey::new("max.events", ConfigType::Long)
                .default("0")
                .validator(Validator::AtLeast(0.0))
                .importance(Importance::Medium)
                .doc("Events sent in all, counted from the start of the file; 0: all of the file."),
        )
        .define(
            ConfigKey::new("batch.size", ConfigType::Int)
                .default("2000")
                .validator(Validator::Between(1.0, 100_000.0))
                .importance(Importance::Low)
                .doc("Events read from the file at once."),
        )
}

/// Checked options.
#[derive(Debug, Clone)]
pub(super) struct ReplayConfig {
    pub(super) file: PathBuf,
    pub(super) topic: Arc<str>,
    pub(super) key_field: Option<String>,
    pub(super) timestamp_field: Option<String>,
    pub(super) numeric_fields: Vec<String>,
    pub(super) row_field: Option<Arc<str>>,
    /// 0: no limit
    pub(super) events_per_second: f64,
    /// rows of the file that are sent; `u64::MAX`: all
    pub(super) last_row: u64,
    pub(super) batch_size: usize,
}

impl ReplayConfig {
    /// Reads the options.
    pub(super) fn new(config: &ConfigMap) -> Result<Self, ConnectError> {
        let parsed: ParsedConfig = definition().parse(config)?;
        let text = |name: &str| parsed.text(name).filter(|text| !text.is_empty());
        Ok(Self {
            file: text("file").unwrap_or_default().into(),
            topic: text("topic").unwrap_or_default().into(),
            key_field: text("key.field").map(str::to_owned),
            timestamp_field: text("timestamp.field").map(str::to_owned),
            numeric_fields: parsed.list("fields.numeric").to_vec(),
            row_field: text("row.field").map(Arc::from),
            events_per_second: parsed.double("events.per.second").unwrap_or(0.0),
            last_row: match parsed.integer("max.events") {
                None | Some(0) => u64::MAX,
                Some(limit) => limit.unsigned_abs(),
            },
            batch_size: parsed
                .integer("batch.size")
                .and_then(|size| usize::try_from(size).ok())
                .unwrap_or(2000),
        })
    }
}
