//! The built-in converters between Kafka's bytes and Connect data (contract 5.2-5.4).
//!
//! ```text
//! json/            JsonConverter
//! text.rs          StringConverter
//! raw.rs           ByteArrayConverter
//! number.rs        Boolean, Short, Integer, Long, Float and Double converters
//! simple_header/   SimpleHeaderConverter: text with guessed types
//! logical.rs       Decimal, Date, Time, Timestamp
//! header.rs        a converter of values used for headers
//! ```

mod header;
mod java_decoders;
mod json;
pub(crate) mod logical;
mod number;
mod raw;
mod simple_header;
mod text;

pub use simple_header::parse_string;

use crate::plugins::{PluginKind, Plugins};
use connect_api::config::{ConfigKey, ConfigType, Importance, Validator};
use connect_api::{ConfigDef, ConverterPlugin, HeaderConverterPlugin};
use std::sync::Arc;

/// Class of the header converter that holds where none is configured.
pub const DEFAULT_HEADER_CONVERTER: &str = "org.apache.kafka.connect.storage.SimpleHeaderConverter";

/// What a converter is used for. Set by the worker: key, value or header.
pub(crate) const CONVERTER_TYPE: &str = "converter.type";

/// The options of the converter class called `name`, `converter.type` included. `None`: there is no such class.
pub(crate) fn definition(plugins: &Plugins, kind: PluginKind, name: &str) -> Option<ConfigDef> {
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

/// Every built-in converter of keys and values.
pub fn plugins() -> Vec<Arc<dyn ConverterPlugin>> {
    let mut plugins: Vec<Arc<dyn ConverterPlugin>> = vec![
        Arc::new(json::JsonConverterPlugin),
        Arc::new(text::StringConverterPlugin),
        Arc::new(raw::ByteArrayConverterPlugin),
        Arc::new(number::BooleanConverterPlugin),
    ];
    for kind in number::NumberKind::ALL {
        plugins.push(Arc::new(number::NumberConverterPlugin(kind)));
    }
    plugins
}

/// Every built-in converter of headers.
pub fn header_plugins() -> Vec<Arc<dyn HeaderConverterPlugin>> {
    let mut all: Vec<Arc<dyn HeaderConverterPlugin>> = vec![Arc::new(simple_header::SimpleHeaderConverterPlugin)];
    for plugin in plugins() {
        all.push(Arc::new(header::ForHeaders(plugin)));
    }
    all
}
