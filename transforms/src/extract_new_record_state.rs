//! `io.debezium.transforms.ExtractNewRecordState`: the row of a change event in place of its envelope.
//! (Debezium documentation, "New Record State Extraction".)
//!
//! ```text
//!   envelope with after   -> after, and the fields that add.fields names
//!   envelope of a delete  -> dropped, a tombstone, or before with __deleted
//!   tombstone             -> kept or dropped
//!   anything else         -> as it is
//! ```
//! Where one tombstone is left of a delete and the tombstone behind it, it is made of the delete, because only that has the
//! envelope from which `add.headers` takes its headers. (Debezium does the same in every mode since 2.5.)

use super::side::{SchemaCache, add_field, struct_like};
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator};
use connect_api::transform::Record;
use connect_api::{
    ConnectError, Datum, Header, Schema, SchemaAndValue, SchemaType, Struct, Transformation, TransformationPlugin,
    Value,
};
use std::sync::Arc;

pub(super) struct ExtractNewRecordStatePlugin;

/// Name of the field that says whether a row was deleted.
const DELETED: &str = "__deleted";

/// What happens to a delete and the tombstone that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deletes {
    event: DeleteEvent,
    keep_tombstones: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeleteEvent {
    Drop,
    Tombstone,
    Rewrite,
}

/// Options of Debezium that are not supported, with what holds without them.
const REFUSED: [(&str, &str); 4] = [
    ("route.by.field", ""),
    ("drop.fields.header.name", ""),
    ("drop.fields.from.key", "false"),
    ("drop.fields.keep.schema.compatible", "true"),
];

impl TransformationPlugin for ExtractNewRecordStatePlugin {
    fn class(&self) -> &'static str {
        "io.debezium.transforms.ExtractNewRecordState"
    }

    fn config_def(&self) -> ConfigDef {
        let fields = |name: &str, what: &str| {
            ConfigKey::new(name, ConfigType::List)
                .default("")
                .importance(Importance::Low)
                .doc(format!(
                    "Fields of the envelope or its source (op, source.ts_ms, lsn) that are added {what}; name:other renames one."
                ))
        };
        let prefix = |name: &str| {
            ConfigKey::new(name, ConfigType::String)
                .default("__")
                .importance(Importance::Low)
                .doc("Prefix of the added names.")
        };
        let definition = ConfigDef::new()
            .define(
                ConfigKey::new("delete.tombstone.handling.mode", ConfigType::String)
                    .default("tombstone")
                    .validator(Validator::CaseInsensitiveIn(vec![
                        "drop",
                        "tombstone",
                        "rewrite",
                        "rewrite-with-tombstone",
                        "delete-to-tombstone",
                    ]))
                    .importance(Importance::Medium)
                    .doc(
                        "drop: neither the delete nor its tombstone is kept; tombstone (the default) or delete-to-tombstone: the \
                         delete becomes a tombstone, with its headers, and the tombstone that follows is dropped; rewrite: the \
                         row as it was, with __deleted, and no tombstone; rewrite-with-tombstone: both.",
                    ),
            )
            .define(
                ConfigKey::new("drop.tombstones", ConfigType::Boolean)
                    .default("true")
                    .importance(Importance::Low)
                    .doc("Before Debezium 2.5: whether tombstones are dropped (true where only the old options are given)."),
            )
            .define(
                ConfigKey::new("delete.handling.mode", ConfigType::String)
                    .default("drop")
                    .validator(Validator::CaseInsensitiveIn(vec!["drop", "rewrite", "none"]))
                    .importance(Importance::Low)
                    .doc("Before Debezium 2.5: drop, rewrite (the row as it was, with __deleted) or none (a tombstone)."),
            )
            .define(fields("add.fields", "to the row"))
            .define(prefix("add.fields.prefix"))
            .define(fields("add.headers", "as headers"))
            .define(prefix("add.headers.prefix"))
            .define(super::side::replace_null_with_default())
            .renamed("add.source.fields", "add.fields")
            .removed("operation.header", "name op in add.headers");
        REFUSED.iter().fold(definition, |definition, (name, default)| {
            definition.define(
                ConfigKey::new(*name, ConfigType::String)
                    .default(*default)
                    .validator(unsupported(default))
                    .importance(Importance::Low)
                    .doc("Not supported."),
            )
        })
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        let text = |name: &str| parsed.text(name).unwrap_or_default().to_ascii_lowercase();
        let given = |name: &str| config.get(name).is_some_and(Option::is_some);
        let older =
            !given("delete.tombstone.handling.mode") && (given("drop.tombstones") || given("delete.handling.mode"));
        let (event, keep_tombstones) = match text("delete.tombstone.handling.mode").as_str() {
            _ if older => {
                let event = match text("delete.handling.mode").as_str() {
                    "rewrite" => DeleteEvent::Rewrite,
                    "none" => DeleteEvent::Tombstone,
                    _ => DeleteEvent::Drop,
                };
                (event, !parsed.boolean("drop.tombstones"))
            }
            "drop" => (DeleteEvent::Drop, false),
            "rewrite" => (DeleteEvent::Rewrite, false),
            "rewrite-with-tombstone" => (DeleteEvent::Rewrite, true),
            _ => (DeleteEvent::Tombstone, false),
        };
        let references = |list: &str, prefix: &str| -> Vec<Reference> {
            let prefix = parsed.text(prefix).unwrap_or_default();
            parsed
                .list(list)
                .iter()
                .map(|field| Reference::new(prefix, field))
                .collect()
        };
        Ok(Arc::new(ExtractNewRecordState {
            deletes: Deletes { event, keep_tombstones },
            fields: references("add.fields", "add.fields.prefix"),
            headers: references("add.headers", "add.headers.prefix"),
            defaults: parsed.boolean("replace.null.with.default"),
            schemas: SchemaCache::default(),
        }))
    }
}

fn unsupported(default: &'static str) -> Validator {
    Validator::Custom(
        "not supported",
        Arc::new(move |name, value| match value {
            connect_api::config::ParsedValue::String(text)
                if !text.is_empty() && !text.eq_ignore_ascii_case(default) =>
            {
                Err(format!(
                    "Invalid value {text} for configuration {name}: this option of Debezium is not supported, leave it out"
                ))
            }
            _ => Ok(()),
        }),
    )
}

/// A field of the envelope that is added to a row or to the headers.
struct Reference {
    /// the struct within the envelope that has the field
    parent: Option<String>,
    field: String,
    name: Arc<str>,
}

impl Reference {
    fn new(prefix: &str, text: &str) -> Self {
        let (path, renamed) = match text.split_once(':') {
            Some((path, name)) => (path, Some(name)),
            None => (text, None),
        };
        let (parent, field) = match path.split_once('.') {
            Some((parent, field)) => (Some(parent), field),
            None => (None, path),
        };
        let name = match (renamed, parent) {
            (Some(name), _) => name.to_owned(),
            (None, Some(parent)) => format!("{parent}_{field}"),
            (None, None) => field.to_owned(),
        };
        let home = match field {
            "op" | "ts_ms" | "ts_us" | "ts_ns" => None,
            "id" | "total_order" | "data_collection_order" => Some("transaction"),
            _ => Some("source"),
        };
        Self {
            parent: parent.or(home).map(str::to_owned),
            field: field.to_owned(),
            name: format!("{prefix}{name}").into(),
        }
    }

    /// Schema (made optional) and value; `None` if the envelope has no such field.
    fn find(&self, envelope: &Struct) -> Option<(Arc<Schema>, Value)> {
        let parent_field = self.parent.as_ref().map(|name| envelope.schema.field(name));
        let within = match parent_field {
            Some(Some(parent)) => parent.schema.field(&self.field).map(|field| {
                let value = match envelope.values.get(parent.index) {
                    Some(Value::Struct(parent)) => parent.values.get(field.index).cloned(),
                    _ => None,
                };
                (field, value)
            }),
            _ => None,
        };
        let (field, value) = within.or_else(|| {
            let field = envelope.schema.field(&self.field)?;
            Some((field, envelope.values.get(field.index).cloned()))
        })?;
        let schema = match field.schema.optional {
            true => Arc::clone(&field.schema),
            false => Arc::new(Schema {
                optional: true,
                ..(*field.schema).clone()
            }),
        };
        Some((schema, value.unwrap_or(Value::Null)))
    }
}

struct ExtractNewRecordState {
    deletes: Deletes,
    fields: Vec<Reference>,
    headers: Vec<Reference>,
    defaults: bool,
    schemas: SchemaCache,
}

impl Transformation for ExtractNewRecordState {
    fn apply(&self, mut record: Record) -> Result<Option<Record>, ConnectError> {
        let data = record.value().get()?;
        if data.value == Value::Null {
            for reference in self.headers.iter().filter(|reference| reference.field == "op") {
                let header = text_header(&reference.name, "d");
                add_header(&mut record, header);
            }
            return Ok(self.deletes.keep_tombstones.then_some(record));
        }
        let Some(envelope) = envelope(data) else {
            return Ok(Some(record));
        };
        let headers: Vec<Header> = self
            .headers
            .iter()
            .filter_map(|reference| {
                let (schema, value) = reference.find(envelope)?;
                Some(Header {
                    name: Arc::clone(&reference.name),
                    data: SchemaAndValue {
                        schema: Some(schema),
                        value,
                    },
                })
            })
            .collect();
        let row = match (row(envelope, "after"), row(envelope, "before"), self.deletes.event) {
            (Some(after), _, _) => Some(self.complete(after, envelope, false)?),
            // a truncate, which names no row
            (None, None, _) => return Ok(None),
            (None, Some(_), DeleteEvent::Drop) => return Ok(None),
            (None, Some(_), DeleteEvent::Tombstone) => None,
            (None, Some(before), DeleteEvent::Rewrite) => Some(self.complete(before, envelope, true)?),
        };
        record.set_value(match row {
            Some(row) => Datum::new(SchemaAndValue {
                schema: Some(Arc::clone(&row.schema)),
                value: Value::Struct(row),
            }),
            None => Datum::null(),
        });
        for header in headers {
            add_header(&mut record, header);
        }
        Ok(Some(record))
    }
}

impl ExtractNewRecordState {
    /// The row with what is added to it.
    fn complete(&self, row: &Struct, envelope: &Struct, deleted: bool) -> Result<Struct, ConnectError> {
        let rewrites = self.deletes.event == DeleteEvent::Rewrite;
        let mut values = row.values.clone();
        if self.defaults {
            for (field, value) in row.schema.fields.iter().zip(&mut values) {
                if let (Value::Null, Some(default)) = (&*value, &field.schema.default) {
                    value.clone_from(default);
                }
            }
        }
        if !rewrites && self.fields.is_empty() {
            return Ok(Struct {
                schema: Arc::clone(&row.schema),
                values,
            });
        }
        let added: Vec<(&Arc<str>, Arc<Schema>, Value)> = self
            .fields
            .iter()
            .filter_map(|reference| {
                let (schema, value) = reference.find(envelope)?;
                Some((&reference.name, schema, value))
            })
            .collect();
        // the envelope's schema names the row's, and the schemas of what is added
        let schema = self.schemas.get_or_make(&envelope.schema, || {
            let mut made = struct_like(&row.schema);
            for field in &row.schema.fields {
                add_field(&mut made, &field.name, Arc::clone(&field.schema))?;
            }
            if rewrites {
                add_field(&mut made, DELETED, Arc::new(Schema::optional(SchemaType::String)))?;
            }
            for (name, schema, _) in &added {
                add_field(&mut made, name, Arc::clone(schema))?;
            }
            Ok(made)
        })?;
        if rewrites {
            values.push(Value::from(if deleted { "true" } else { "false" }));
        }
        values.extend(added.into_iter().map(|(_, _, value)| value));
        Ok(Struct { schema, values })
    }
}

/// The envelope, if the value is one: a struct whose schema's name ends in `.Envelope`.
fn envelope(data: &SchemaAndValue) -> Option<&Struct> {
    match &data.value {
        Value::Struct(envelope) => {
            let name = envelope.schema.name.as_deref().unwrap_or_default();
            name.ends_with(".Envelope").then_some(envelope)
        }
        _ => None,
    }
}

fn row<'a>(envelope: &'a Struct, side: &str) -> Option<&'a Struct> {
    let field = envelope.schema.field(side)?;
    match envelope.values.get(field.index) {
        Some(Value::Struct(row)) => Some(row),
        _ => None,
    }
}

fn text_header(name: &Arc<str>, text: &str) -> Header {
    Header {
        name: Arc::clone(name),
        data: SchemaAndValue {
            schema: Some(Arc::new(Schema::new(SchemaType::String))),
            value: Value::from(text),
        },
    }
}

fn add_header(record: &mut Record, header: Header) {
    match record {
        Record::Sink(record) => record.push_header(header),
        Record::Source(record) => record.headers.push(header),
    }
}

#[cfg(test)]
#[path = "extract_new_record_state_tests.rs"]
mod tests;
