//! `org.apache.kafka.connect.transforms.InsertField`: adds coordinates of the record, or a fixed text, as fields.

use super::side::{
    SchemaCache, Side, add_field, field_value, map_put, put, replace_null_with_default, require_map, require_struct,
    struct_like,
};
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance};
use connect_api::schema::TIMESTAMP;
use connect_api::transform::Record;
use connect_api::{
    ConnectError, Schema, SchemaAndValue, SchemaType, Struct, Transformation, TransformationPlugin, Value,
};
use std::sync::Arc;

const PURPOSE: &str = "field insertion";

pub(super) struct InsertFieldPlugin(pub(super) Side);

/// What can be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Static,
}

/// One field to insert.
struct Insertion {
    source: Source,
    name: String,
    schema: Arc<Schema>,
}

impl TransformationPlugin for InsertFieldPlugin {
    fn class(&self) -> &'static str {
        match self.0 {
            Side::Key => "org.apache.kafka.connect.transforms.InsertField$Key",
            Side::Value => "org.apache.kafka.connect.transforms.InsertField$Value",
        }
    }

    fn config_def(&self) -> ConfigDef {
        const SUFFIXES: &str = " Suffix with ! to make this a required field, or ? to keep it optional (the default).";
        let text = |name: &str, doc: String| {
            ConfigKey::new(name, ConfigType::String)
                .default_null()
                .importance(Importance::Medium)
                .doc(doc)
        };
        ConfigDef::new()
            .define(text("topic.field", format!("Field name for Kafka topic.{SUFFIXES}")))
            .define(text(
                "partition.field",
                format!("Field name for Kafka partition.{SUFFIXES}"),
            ))
            .define(text(
                "offset.field",
                format!("Field name for Kafka offset - only applicable to sink connectors.{SUFFIXES}"),
            ))
            .define(text(
                "timestamp.field",
                format!("Field name for record timestamp.{SUFFIXES}"),
            ))
            .define(text(
                "static.field",
                format!("Field name for static data field.{SUFFIXES}"),
            ))
            .define(text(
                "static.value",
                "Static field value, if field name configured.".to_owned(),
            ))
            .define(replace_null_with_default())
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        let mut insertions = Vec::new();
        for (option, source) in [
            ("topic.field", Source::Topic),
            ("partition.field", Source::Partition),
            ("offset.field", Source::Offset),
            ("timestamp.field", Source::Timestamp),
            ("static.field", Source::Static),
        ] {
            if let Some(text) = parsed.text(option) {
                let (name, optional) = match (text.strip_suffix('!'), text.strip_suffix('?')) {
                    (Some(name), _) => (name, false),
                    (_, Some(name)) => (name, true),
                    _ => (text, true),
                };
                insertions.push(Insertion {
                    source,
                    name: name.to_owned(),
                    schema: Arc::new(schema_of(source, optional)),
                });
            }
        }
        if insertions.is_empty() {
            return Err(ConnectError::config("No field insertion configured"));
        }
        let static_value = parsed.text("static.value").map(Value::from);
        if let Some(field) = parsed.text("static.field")
            && static_value.is_none()
        {
            return Err(ConnectError::config(format!(
                "Invalid value null for configuration static.value: No value specified for static field: {field}"
            )));
        }
        Ok(Arc::new(InsertField {
            side: self.0,
            insertions,
            static_value: static_value.unwrap_or(Value::Null),
            defaults: parsed.boolean("replace.null.with.default"),
            schemas: SchemaCache::default(),
        }))
    }
}

fn schema_of(source: Source, optional: bool) -> Schema {
    let mut schema = Schema::new(match source {
        Source::Topic | Source::Static => SchemaType::String,
        Source::Partition => SchemaType::Int32,
        Source::Offset | Source::Timestamp => SchemaType::Int64,
    });
    schema.optional = optional;
    if source == Source::Timestamp {
        schema = schema.named(TIMESTAMP);
        schema.version = Some(1);
    }
    schema
}

struct InsertField {
    side: Side,
    insertions: Vec<Insertion>,
    static_value: Value,
    defaults: bool,
    schemas: SchemaCache,
}

impl InsertField {
    /// What is inserted; `None` where the record has no such coordinate. `typed` values fit a schema.
    fn value(&self, source: Source, record: &Record, typed: bool) -> Result<Option<Value>, ConnectError> {
        Ok(match source {
            Source::Topic => Some(Value::String(Arc::clone(record.topic()))),
            Source::Partition => record.partition().map(Value::Int32),
            Source::Timestamp => record.timestamp_ms().map(|millis| match typed {
                true => Value::Date(millis),
                false => Value::Int64(millis),
            }),
            Source::Static => Some(self.static_value.clone()),
            Source::Offset => match record {
                Record::Sink(record) => Some(Value::Int64(record.offset)),
                Record::Source(_) => {
                    return Err(ConnectError::data(format!(
                        "Only SinkRecord supported for [{PURPOSE}], found: org.apache.kafka.connect.source.SourceRecord"
                    )));
                }
            },
        })
    }
}

impl Transformation for InsertField {
    fn apply(&self, record: Record) -> Result<Option<Record>, ConnectError> {
        let data = self.side.of(&record)?;
        if data.value == Value::Null {
            return Ok(Some(record));
        }
        let inserted = match &data.schema {
            None => {
                let mut entries = require_map(&data.value, PURPOSE)?.to_vec();
                for insertion in &self.insertions {
                    if let Some(value) = self.value(insertion.source, &record, false)? {
                        map_put(&mut entries, &insertion.name, value);
                    }
                }
                SchemaAndValue::schemaless(Value::Map(entries))
            }
            Some(_) => {
                let value = require_struct(&data.value, PURPOSE)?;
                let schema = self.schemas.get_or_make(&value.schema, || {
                    let mut made = struct_like(&value.schema);
                    for field in &value.schema.fields {
                        add_field(&mut made, &field.name, Arc::clone(&field.schema))?;
                    }
                    for insertion in &self.insertions {
                        add_field(&mut made, &insertion.name, Arc::clone(&insertion.schema))?;
                    }
                    Ok(made)
                })?;
                let mut structure = Struct::new(Arc::clone(&schema));
                for field in &value.schema.fields {
                    let copied = field_value(value, &field.name, self.defaults).unwrap_or(Value::Null);
                    put(&mut structure, &field.name, copied)?;
                }
                for insertion in &self.insertions {
                    if let Some(value) = self.value(insertion.source, &record, true)? {
                        put(&mut structure, &insertion.name, value)?;
                    }
                }
                SchemaAndValue {
                    schema: Some(schema),
                    value: Value::Struct(structure),
                }
            }
        };
        Ok(Some(self.side.set(record, inserted)))
    }
}
