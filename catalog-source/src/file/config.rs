//! Options of the file catalog.

use connect_api::ConnectError;
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Options.
pub(super) fn definition() -> ConfigDef {
    ConfigDef::new()
        .define(
            ConfigKey::new("file", ConfigType::String)
                .validator(Validator::NonEmptyString)
                .importance(Importance::High)
                .doc("Catalog file; compressed with gzip if its name ends in .gz."),
        )
        .define(
            ConfigKey::new("format", ConfigType::String)
                .default("auto")
                .validator(Validator::In(vec!["auto", "csv", "jsonl"]))
                .importance(Importance::Medium)
                .doc(
                    "csv: with a header line, every column text unless fields.numeric names it; jsonl: one JSON object per \
                     line; auto: jsonl for names that end in .jsonl or .ndjson (before .gz), else csv.",
                ),
        )
        .define(
            ConfigKey::new("topic", ConfigType::String)
                .validator(Validator::NonEmptyString)
                .importance(Importance::High)
                .doc("Topic to write to; its cleanup.policy must be compact."),
        )
        .define(
            ConfigKey::new("key.field", ConfigType::String)
                .validator(Validator::NonEmptyString)
                .importance(Importance::High)
                .doc("Column or member whose text becomes the record's key. It must be there in every row, once each."),
        )
        .define(
            ConfigKey::new("fields.numeric", ConfigType::List)
                .default("")
                .validator(Validator::AnyNonDuplicateValues { empty_allowed: true, null_allowed: false })
                .importance(Importance::Medium)
                .doc("Columns of a CSV file whose text becomes a JSON number; an empty text becomes null."),
        )
        .define(
            ConfigKey::new("poll.interval.ms", ConfigType::Long)
                .default("5000")
                .validator(Validator::AtLeast(10.0))
                .importance(Importance::Medium)
                .doc(
                    "Time between two looks at the file, in ms. A look reads size and time of change, nothing else. A file that was \
                     written since the last look is read at the next one that finds it unchanged: whoever pauses for longer while \
                     writing should write under another name and rename the file. An empty file is no catalog.",
                ),
        )
        .define(
            ConfigKey::new("batch.size", ConfigType::Int)
                .default("2000")
                .validator(Validator::Between(1.0, 100_000.0))
                .importance(Importance::Low)
                .doc("Records sent at once."),
        )
}

/// How the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    JsonLines,
}

/// Checked options.
#[derive(Debug, Clone)]
pub(super) struct CatalogConfig {
    pub(super) file: PathBuf,
    pub(super) compressed: bool,
    pub(super) format: Format,
    pub(super) topic: Arc<str>,
    pub(super) key_field: String,
    pub(super) numeric_fields: Vec<String>,
    pub(super) poll_interval: Duration,
    pub(super) batch_size: usize,
}

impl CatalogConfig {
    /// Reads the options.
    pub(super) fn new(config: &ConfigMap) -> Result<Self, ConnectError> {
        let parsed = definition().parse(config)?;
        let text = |name: &str| parsed.text(name).unwrap_or_default();
        let name = text("file").to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let json_lines = match text("format") {
            "auto" => plain.ends_with(".jsonl") || plain.ends_with(".ndjson"),
            format => format == "jsonl",
        };
        Ok(Self {
            compressed: plain.len() < name.len(),
            file: text("file").into(),
            format: if json_lines { Format::JsonLines } else { Format::Csv },
            topic: text("topic").into(),
            key_field: text("key.field").to_owned(),
            numeric_fields: parsed.list("fields.numeric").to_vec(),
            poll_interval: Duration::from_millis(parsed.integer("poll.interval.ms").unwrap_or(5000).unsigned_abs()),
            batch_size: parsed
                .integer("batch.size")
                .and_then(|size| usize::try_from(size).ok())
                .unwrap_or(2000),
        })
    }
}
