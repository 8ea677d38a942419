//! `org.apache.kafka.connect.storage.StringConverter`: the text of any value.

use super::java_decoders::{utf8_text, utf16_text};
use bytes::Bytes;
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Width};
use connect_api::converter::ConverterUse;
use connect_api::{ConnectError, Converter, ConverterPlugin, Schema, SchemaAndValue, SchemaType, Value};
use std::sync::Arc;

/// The converter's class.
pub struct StringConverterPlugin;

impl ConverterPlugin for StringConverterPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.storage.StringConverter"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new().define(
            ConfigKey::new("converter.encoding", ConfigType::String)
                .default("UTF-8")
                .importance(Importance::High)
                .doc("The name of the character set to use for encoding strings as byte arrays.")
                .width(Width::Medium)
                .display_name("Encoding"),
        )
    }

    fn configure(&self, config: &ConfigMap, _: ConverterUse) -> Result<Arc<dyn Converter>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        let name = parsed.text("converter.encoding").unwrap_or("UTF-8");
        let encoding = Encoding::named(name).ok_or_else(|| {
            ConnectError::config(format!(
                "Invalid value {name} for configuration converter.encoding: use UTF-8, UTF-16, UTF-16BE, UTF-16LE, \
                 ISO-8859-1 or US-ASCII"
            ))
        })?;
        Ok(Arc::new(StringConverter {
            encoding,
            schema: Arc::new(Schema::optional(SchemaType::String)),
        }))
    }
}

#[derive(Debug, Clone, Copy)]
enum Encoding {
    Utf8,
    /// big-endian with a byte order mark when written
    Utf16,
    Utf16Be,
    Utf16Le,
    Latin1,
    Ascii,
}

impl Encoding {
    /// The character set of that name or alias, in any case.
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().replace('_', "-").as_str() {
            "UTF-8" | "UTF8" => Encoding::Utf8,
            "UTF-16" | "UTF16" => Encoding::Utf16,
            "UTF-16BE" => Encoding::Utf16Be,
            "UTF-16LE" => Encoding::Utf16Le,
            "ISO-8859-1" | "ISO8859-1" | "LATIN1" => Encoding::Latin1,
            "US-ASCII" | "ASCII" => Encoding::Ascii,
            _ => return None,
        })
    }

    /// Bytes of `text`; what the character set lacks becomes `?`.
    fn encode(self, text: &str) -> Vec<u8> {
        let narrow = |limit: u32| {
            text.chars()
                .map(|character| {
                    u8::try_from(u32::from(character))
                        .ok()
                        .filter(|byte| u32::from(*byte) < limit)
                })
                .map(|byte| byte.unwrap_or(b'?'))
                .collect()
        };
        match self {
            Encoding::Utf8 => text.as_bytes().to_vec(),
            // Java writes the byte order mark before the first character.
            Encoding::Utf16 if text.is_empty() => Vec::new(),
            Encoding::Utf16 => [0xFE, 0xFF]
                .into_iter()
                .chain(text.encode_utf16().flat_map(u16::to_be_bytes))
                .collect(),
            Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Encoding::Latin1 => narrow(256),
            Encoding::Ascii => narrow(128),
        }
    }

    /// Text of `bytes`; what is not of the character set becomes U+FFFD.
    fn decode(self, bytes: &[u8]) -> String {
        match (self, bytes) {
            (Encoding::Utf8, _) => utf8_text(bytes).into_owned(),
            (Encoding::Utf16, [0xFF, 0xFE, rest @ ..]) => utf16_text(rest, u16::from_le_bytes),
            (Encoding::Utf16, [0xFE, 0xFF, rest @ ..]) => utf16_text(rest, u16::from_be_bytes),
            (Encoding::Utf16 | Encoding::Utf16Be, _) => utf16_text(bytes, u16::from_be_bytes),
            (Encoding::Utf16Le, _) => utf16_text(bytes, u16::from_le_bytes),
            (Encoding::Latin1, _) => bytes.iter().map(|byte| char::from(*byte)).collect(),
            (Encoding::Ascii, _) => bytes
                .iter()
                .map(|byte| {
                    if byte.is_ascii() {
                        char::from(*byte)
                    } else {
                        char::REPLACEMENT_CHARACTER
                    }
                })
                .collect(),
        }
    }
}

struct StringConverter {
    encoding: Encoding,
    schema: Arc<Schema>,
}

impl Converter for StringConverter {
    fn from_connect_data(&self, _topic: &str, data: &SchemaAndValue) -> Result<Option<Bytes>, ConnectError> {
        Ok(match &data.value {
            Value::Null => None,
            Value::String(text) => Some(Bytes::from(self.encoding.encode(text))),
            other => Some(Bytes::from(self.encoding.encode(&other.to_string()))),
        })
    }

    fn to_connect_data(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        Ok(SchemaAndValue {
            schema: Some(Arc::clone(&self.schema)),
            value: bytes.map_or(Value::Null, |bytes| Value::from(self.encoding.decode(bytes))),
        })
    }

    fn reads_any_bytes(&self) -> bool {
        true
    }
}
