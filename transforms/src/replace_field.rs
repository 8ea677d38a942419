//! `org.apache.kafka.connect.transforms.ReplaceField`: leaves fields out, or renames them.

use super::side::{
    SchemaCache, Side, add_field, field_value, map_put, put, replace_null_with_default, require_map, require_struct,
    struct_like,
};
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, ParsedValue, Validator};
use connect_api::transform::Record;
use connect_api::{ConnectError, SchemaAndValue, Struct, Transformation, TransformationPlugin, Value};
use indexmap::IndexMap;
use std::sync::Arc;

const PURPOSE: &str = "field replacement";

pub(super) struct ReplaceFieldPlugin(pub(super) Side);

impl TransformationPlugin for ReplaceFieldPlugin {
    fn class(&self) -> &'static str {
        match self.0 {
            Side::Key => "org.apache.kafka.connect.transforms.ReplaceField$Key",
            Side::Value => "org.apache.kafka.connect.transforms.ReplaceField$Value",
        }
    }

    fn config_def(&self) -> ConfigDef {
        let list = |name: &str, doc: &str| {
            ConfigKey::new(name, ConfigType::List)
                .default("")
                .validator(Validator::AnyNonDuplicateValues {
                    empty_allowed: true,
                    null_allowed: false,
                })
                .importance(Importance::Medium)
                .doc(doc)
        };
        ConfigDef::new()
            .define(list(
                "exclude",
                "Fields to exclude. This takes precedence over the fields to include.",
            ))
            .define(list(
                "include",
                "Fields to include. If specified, only these fields will be used.",
            ))
            .define(
                ConfigKey::new("renames", ConfigType::List)
                    .default("")
                    .validator(Validator::Custom(
                        "list of colon-delimited pairs, e.g. foo:bar,abc:xyz",
                        Arc::new(|name, value| match value {
                            ParsedValue::List(pairs) => renames(name, pairs).map(drop),
                            _ => Ok(()),
                        }),
                    ))
                    .importance(Importance::Medium)
                    .doc("Field rename mappings."),
            )
            .define(replace_null_with_default())
            .renamed("whitelist", "include")
            .renamed("blacklist", "exclude")
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        Ok(Arc::new(ReplaceField {
            side: self.0,
            exclude: parsed.list("exclude").to_vec(),
            include: parsed.list("include").to_vec(),
            renames: renames("renames", parsed.list("renames")).map_err(ConnectError::config)?,
            defaults: parsed.boolean("replace.null.with.default"),
            schemas: SchemaCache::default(),
        }))
    }
}

/// Old name -> new name.
fn renames(option: &str, pairs: &[String]) -> Result<IndexMap<String, String>, String> {
    let mut renames = IndexMap::new();
    for pair in pairs {
        let mut parts: Vec<&str> = pair.split(':').collect();
        while parts.last().is_some_and(|last| last.is_empty()) {
            parts.pop(); // as Java's split does
        }
        match parts.as_slice() {
            [from, to] => renames.insert((*from).to_owned(), (*to).to_owned()),
            _ => {
                return Err(format!(
                    "Invalid value [{}] for configuration {option}: Invalid rename mapping: {pair}",
                    pairs.join(", ")
                ));
            }
        };
    }
    Ok(renames)
}

struct ReplaceField {
    side: Side,
    exclude: Vec<String>,
    include: Vec<String>,
    renames: IndexMap<String, String>,
    defaults: bool,
    schemas: SchemaCache,
}

impl ReplaceField {
    fn keeps(&self, name: &str) -> bool {
        !self.exclude.iter().any(|excluded| excluded == name)
            && (self.include.is_empty() || self.include.iter().any(|included| included == name))
    }

    fn renamed<'a>(&'a self, name: &'a str) -> &'a str {
        self.renames.get(name).map_or(name, String::as_str)
    }
}

impl Transformation for ReplaceField {
    fn apply(&self, record: Record) -> Result<Option<Record>, ConnectError> {
        let data = self.side.of(&record)?;
        if data.value == Value::Null {
            return Ok(Some(record));
        }
        let replaced = match &data.schema {
            None => {
                let mut entries = Vec::new();
                for (key, value) in require_map(&data.value, PURPOSE)? {
                    match key {
                        Value::String(name) if self.keeps(name) => {
                            map_put(&mut entries, self.renamed(name), value.clone())
                        }
                        Value::String(_) => {}
                        other => entries.push((other.clone(), value.clone())),
                    }
                }
                SchemaAndValue::schemaless(Value::Map(entries))
            }
            Some(_) => {
                let value = require_struct(&data.value, PURPOSE)?;
                let schema = self.schemas.get_or_make(&value.schema, || {
                    let mut made = struct_like(&value.schema);
                    for field in value.schema.fields.iter().filter(|field| self.keeps(&field.name)) {
                        add_field(&mut made, self.renamed(&field.name), Arc::clone(&field.schema))?;
                    }
                    Ok(made)
                })?;
                let mut structure = Struct::new(Arc::clone(&schema));
                for field in value.schema.fields.iter().filter(|field| self.keeps(&field.name)) {
                    let copied = field_value(value, &field.name, self.defaults).unwrap_or(Value::Null);
                    put(&mut structure, self.renamed(&field.name), copied)?;
                }
                SchemaAndValue {
                    schema: Some(schema),
                    value: Value::Struct(structure),
                }
            }
        };
        Ok(Some(self.side.set(record, replaced)))
    }
}
