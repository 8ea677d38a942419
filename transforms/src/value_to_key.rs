//! `org.apache.kafka.connect.transforms.ValueToKey`: a key made of fields of the value.

use super::side::{
    SchemaCache, Side, add_field, field_value, map_get, map_put, put, replace_null_with_default, require_map,
    require_struct,
};
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator};
use connect_api::transform::Record;
use connect_api::{
    ConnectError, Schema, SchemaAndValue, SchemaType, Struct, Transformation, TransformationPlugin, Value,
};
use std::sync::Arc;

const PURPOSE: &str = "copying fields from value to key";

pub(super) struct ValueToKeyPlugin;

impl TransformationPlugin for ValueToKeyPlugin {
    fn class(&self) -> &'static str {
        "org.apache.kafka.connect.transforms.ValueToKey"
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
            .define(
                ConfigKey::new("fields", ConfigType::List)
                    .validator(Validator::AnyNonDuplicateValues {
                        empty_allowed: false,
                        null_allowed: false,
                    })
                    .importance(Importance::High)
                    .doc("Field names on the record value to extract as the record key."),
            )
            .define(replace_null_with_default())
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        Ok(Arc::new(ValueToKey {
            fields: parsed.list("fields").to_vec(),
            defaults: parsed.boolean("replace.null.with.default"),
            schemas: SchemaCache::default(),
        }))
    }
}

struct ValueToKey {
    fields: Vec<String>,
    defaults: bool,
    schemas: SchemaCache,
}

impl Transformation for ValueToKey {
    fn apply(&self, record: Record) -> Result<Option<Record>, ConnectError> {
        let data = Side::Value.of(&record)?;
        let key = match &data.schema {
            None => {
                let value = require_map(&data.value, PURPOSE)?;
                let mut key = Vec::with_capacity(self.fields.len());
                for field in &self.fields {
                    map_put(&mut key, field, map_get(value, field).cloned().unwrap_or(Value::Null));
                }
                SchemaAndValue::schemaless(Value::Map(key))
            }
            Some(_) => {
                let value = require_struct(&data.value, PURPOSE)?;
                let schema = self.schemas.get_or_make(&value.schema, || {
                    let mut made = Schema::new(SchemaType::Struct);
                    for name in &self.fields {
                        let field = value
                            .schema
                            .field(name)
                            .ok_or_else(|| ConnectError::data(format!("Field does not exist: {name}")))?;
                        add_field(&mut made, name, Arc::clone(&field.schema))?;
                    }
                    Ok(made)
                })?;
                let mut key = Struct::new(Arc::clone(&schema));
                for name in &self.fields {
                    put(
                        &mut key,
                        name,
                        field_value(value, name, self.defaults).unwrap_or(Value::Null),
                    )?;
                }
                SchemaAndValue {
                    schema: Some(schema),
                    value: Value::Struct(key),
                }
            }
        };
        Ok(Some(Side::Key.set(record, key)))
    }
}
