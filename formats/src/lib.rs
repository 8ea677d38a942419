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

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod header;
mod java_decoders;
mod json;
mod logical;
mod number;
mod raw;
mod simple_header;
mod text;

pub use simple_header::parse_string;

use connect_api::{ConverterPlugin, HeaderConverterPlugin};
use std::sync::Arc;

/// Class of the header converter that holds where none is configured.
pub const DEFAULT_HEADER_CONVERTER: &str = "org.apache.kafka.connect.storage.SimpleHeaderConverter";

/// Every built-in converter of keys and values.
pub fn converters() -> Vec<Arc<dyn ConverterPlugin>> {
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
pub fn header_converters() -> Vec<Arc<dyn HeaderConverterPlugin>> {
    let mut all: Vec<Arc<dyn HeaderConverterPlugin>> = vec![Arc::new(simple_header::SimpleHeaderConverterPlugin)];
    for plugin in converters() {
        all.push(Arc::new(header::ForHeaders(plugin)));
    }
    all
}
