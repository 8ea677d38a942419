//! `org.apache.kafka.connect.json.JsonConverter` (contract 5.2, A.6, B.33-36).
//!
//! ```text
//! bytes -> node (JSON text) -> read (schema, value)     toConnectData
//! schema, value -> write (JSON text) -> bytes           fromConnectData
//! ```

mod node;
mod read;
mod write;

use bytes::Bytes;
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator, Width};
use connect_api::converter::ConverterUse;
use connect_api::{ConnectError, Converter, ConverterPlugin, Schema, SchemaAndValue, Value};
use node::Node;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use write::WriteOptions;

/// How decimals are written; both forms are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalFormat {
    /// unscaled bytes in Base64
    Base64,
    /// a JSON number
    Numeric,
}

/// The converter's class.
pub struct JsonConverterPlugin;

impl ConverterPlugin for JsonConverterPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.json.JsonConverter"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
            .define(
                ConfigKey::new("schemas.enable", ConfigType::Boolean)
                    .default("true")
                    .importance(Importance::High)
                    .doc("Include schemas within each of the serialized values and keys.")
                    .group("Schemas", 0, Width::Medium)
                    .display_name("Enable Schemas"),
            )
            .define(
                ConfigKey::new("schemas.cache.size", ConfigType::Int)
                    .default("1000")
                    .importance(Importance::High)
                    .doc("The maximum number of schemas that can be cached in this converter instance.")
                    .group("Schemas", 1, Width::Medium)
                    .display_name("Schema Cache Size"),
            )
            .define(
                ConfigKey::new("schema.content", ConfigType::String)
                    .default_null()
                    .importance(Importance::High)
                    .doc(
                        "When set, this is used as the schema for all messages, and payloads are read without an \
                         envelope. Otherwise the schema is expected in each message.",
                    )
                    .group("Schemas", 2, Width::Medium)
                    .display_name("Schema Content"),
            )
            .define(
                ConfigKey::new("decimal.format", ConfigType::String)
                    .default("BASE64")
                    .validator(Validator::CaseInsensitiveIn(vec!["NUMERIC", "BASE64"]))
                    .importance(Importance::Low)
                    .doc(
                        "Controls which format this converter will serialize decimals in. This value is case \
                         insensitive and can be either 'BASE64' (default) or 'NUMERIC'.",
                    )
                    .group("Serialization", 0, Width::Medium)
                    .display_name("Decimal Format"),
            )
            .define(
                ConfigKey::new("replace.null.with.default", ConfigType::Boolean)
                    .default("true")
                    .importance(Importance::Low)
                    .doc(
                        "Whether to replace fields that have a default value and that are null to the default value. \
                         When set to true, the default value is used, otherwise null is used.",
                    )
                    .group("Serialization", 1, Width::Medium)
                    .display_name("Replace null with default"),
            )
    }

    fn configure(&self, config: &ConfigMap, _: ConverterUse) -> Result<Arc<dyn Converter>, ConnectError> {
        Ok(Arc::new(JsonConverter::new(&self.config_def().parse(config)?)?))
    }
}

struct JsonConverter {
    schemas: bool,
    /// `schema.content`: the schema of every payload that is read
    fixed_schema: Option<Arc<Schema>>,
    write: WriteOptions,
    cache_size: usize,
    /// JSON text of a schema -> schema
    read_schemas: RwLock<FxHashMap<Box<str>, Option<Arc<Schema>>>>,
    /// address of a schema, which the entry keeps alive -> its JSON text
    written_schemas: RwLock<FxHashMap<usize, (Arc<Schema>, Bytes)>>,
}

impl JsonConverter {
    fn new(config: &connect_api::ParsedConfig) -> Result<Self, ConnectError> {
        let numeric = config
            .text("decimal.format")
            .is_some_and(|text| text.eq_ignore_ascii_case("NUMERIC"));
        let nulls_to_defaults = config.boolean("replace.null.with.default");
        let fixed_schema = match config.text("schema.content").filter(|text| !text.trim().is_empty()) {
            Some(text) => {
                let node = node::parse(text).map_err(|error| {
                    ConnectError::data("Failed to parse schema in converter config due to serialization error: ")
                        .caused_by(NotJson(error))
                })?;
                read::schema_from_json(Some(&node), nulls_to_defaults)?.map(Arc::new)
            }
            None => None,
        };
        Ok(Self {
            schemas: config.boolean("schemas.enable"),
            fixed_schema,
            write: WriteOptions {
                decimal_format: if numeric {
                    DecimalFormat::Numeric
                } else {
                    DecimalFormat::Base64
                },
                nulls_to_defaults,
            },
            cache_size: usize::try_from(config.integer("schemas.cache.size").unwrap_or(1000)).unwrap_or(0),
            read_schemas: RwLock::default(),
            written_schemas: RwLock::default(),
        })
    }

    /// The schema with the JSON form `text`, parsed once for many records.
    fn schema(&self, text: &str, node: Option<&Node<'_>>) -> Result<Option<Arc<Schema>>, ConnectError> {
        if let Some(schema) = self.read_schemas.read().get(text) {
            return Ok(schema.clone());
        }
        let schema = read::schema_from_json(node, self.write.nulls_to_defaults)?.map(Arc::new);
        let mut cache = self.read_schemas.write();
        if cache.len() < self.cache_size {
            cache.insert(text.into(), schema.clone());
        }
        Ok(schema)
    }

    fn write_envelope(&self, data: &SchemaAndValue, out: &mut Vec<u8>) -> Result<(), ConnectError> {
        out.extend_from_slice(b"{\"schema\":");
        match &data.schema {
            None => out.extend_from_slice(b"null"),
            Some(schema) => {
                let address = Arc::as_ptr(schema) as usize;
                let cached = self.written_schemas.read().get(&address).map(|(_, text)| text.clone());
                match cached {
                    Some(text) => out.extend_from_slice(&text),
                    None => {
                        let start = out.len();
                        write::write_schema(schema, None, self.write, out)?;
                        let mut cache = self.written_schemas.write();
                        if cache.len() < self.cache_size {
                            let text = Bytes::copy_from_slice(out.get(start..).unwrap_or_default());
                            cache.insert(address, (Arc::clone(schema), text));
                        }
                    }
                }
            }
        }
        out.extend_from_slice(b",\"payload\":");
        write::write_value(data.schema.as_deref(), &data.value, self.write, out)?;
        out.push(b'}');
        Ok(())
    }
}

impl Converter for JsonConverter {
    fn from_connect_data(&self, _topic: &str, data: &SchemaAndValue) -> Result<Option<Bytes>, ConnectError> {
        if data.schema.is_none() && data.value == Value::Null {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(128);
        match self.schemas {
            true => self.write_envelope(data, &mut out)?,
            false => write::write_value(data.schema.as_deref(), &data.value, self.write, &mut out)?,
        }
        Ok(Some(Bytes::from(out)))
    }

    fn to_connect_data(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<SchemaAndValue, ConnectError> {
        let Some(bytes) = bytes else {
            return Ok(SchemaAndValue::NULL);
        };
        let not_json = "Converting byte[] to Kafka Connect data failed due to serialization error: ";
        let text = node::decode(bytes).ok_or_else(|| ConnectError::data(not_json).caused_by(NotUnicode))?;
        let (node, spans) =
            node::parse_with_spans(&text).map_err(|error| ConnectError::data(not_json).caused_by(NotJson(error)))?;
        let nulls_to_defaults = self.write.nulls_to_defaults;
        if !self.schemas {
            let value = read::value_from_json(None, Some(&node), nulls_to_defaults)?;
            return Ok(SchemaAndValue::schemaless(value));
        }
        if let Some(schema) = &self.fixed_schema {
            let value = read::value_from_json(Some(schema), Some(&node), nulls_to_defaults)?;
            return Ok(SchemaAndValue {
                schema: Some(Arc::clone(schema)),
                value,
            });
        }
        let envelope = match &node {
            Node::Object(members) if members.len() == 2 => {
                let at = members.iter().position(|(name, _)| name == "schema");
                at.zip(node.member("payload"))
            }
            _ => None,
        };
        let Some((schema_at, payload)) = envelope else {
            return Err(ConnectError::data(
                "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not contain \
                 additional fields. If you are trying to deserialize plain JSON data, set schemas.enable=false in your \
                 converter configuration.",
            ));
        };
        let schema_text = spans
            .get(schema_at)
            .and_then(|span| text.get(span.clone()))
            .unwrap_or_default();
        let schema = self.schema(schema_text, node.member("schema"))?;
        let value = read::value_from_json(schema.as_ref(), Some(payload), nulls_to_defaults)?;
        Ok(SchemaAndValue { schema, value })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not JSON: {} at byte {}", .0.reason, .0.at)]
struct NotJson(node::SyntaxError);

#[derive(Debug, thiserror::Error)]
#[error("not JSON: the bytes are not text in UTF-8")]
struct NotUnicode;
