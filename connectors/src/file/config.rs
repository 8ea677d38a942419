//! Options of the file connectors.

use connect_api::config::{ConfigDef, ConfigKey, ConfigType, Importance, Validator};

pub(super) const FILE: &str = "file";
pub(super) const TOPIC: &str = "topic";
pub(super) const BATCH_SIZE: &str = "batch.size";

/// Options of the source.
pub(super) fn source() -> ConfigDef {
    ConfigDef::new()
        .define(
            ConfigKey::new(FILE, ConfigType::String)
                .default_null()
                .importance(Importance::High)
                .doc("Source filename. Standard input, which upstream reads without one, is not supported."),
        )
        .define(
            ConfigKey::new(TOPIC, ConfigType::String)
                .validator(Validator::NonEmptyString)
                .importance(Importance::High)
                .doc("The topic to publish data to"),
        )
        .define(
            ConfigKey::new(BATCH_SIZE, ConfigType::Int)
                .default("2000")
                .importance(Importance::Low)
                .doc("The maximum number of records the source task can read from the file each time it is polled"),
        )
}

/// Options of the sink.
pub(super) fn sink() -> ConfigDef {
    ConfigDef::new().define(
        ConfigKey::new(FILE, ConfigType::String)
            .default_null()
            .importance(Importance::High)
            .doc("Destination filename. Standard output, which upstream writes without one, is not supported."),
    )
}
