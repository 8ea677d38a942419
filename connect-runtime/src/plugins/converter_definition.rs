//! The options of a converter class: its own, and what it is used for.

use super::{PluginKind, Plugins};
use connect_api::ConfigDef;
use connect_api::config::{ConfigKey, ConfigType, Importance, Validator};

/// What a converter is used for. Set by the worker: key, value or header.
pub(crate) const CONVERTER_TYPE: &str = "converter.type";

/// The options of the converter class called `name`, `converter.type` included. `None`: there is no such class.
pub(crate) fn converter_definition(plugins: &Plugins, kind: PluginKind, name: &str) -> Option<ConfigDef> {
    let own = match kind {
        PluginKind::HeaderConverter => plugins.header_converter(name)?.config_def(),
        _ => plugins.converter(name)?.config_def(),
    };
    // a class of headers alone is not told
    match plugins.converter(name) {
        Some(_) => Some(ConfigDef::new().define(converter_type()).embed("", None, own)),
        None => Some(own),
    }
}

fn converter_type() -> ConfigKey {
    ConfigKey::new(CONVERTER_TYPE, ConfigType::String)
        .validator(Validator::In(vec!["key", "value", "header"]))
        .importance(Importance::Low)
        .doc("How this converter will be used.")
}
