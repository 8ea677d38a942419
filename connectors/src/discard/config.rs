//! Options of the connector: none.

use connect_api::config::ConfigDef;

/// Options of the sink.
pub(super) fn definition() -> ConfigDef {
    ConfigDef::new()
}
