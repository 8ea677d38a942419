//! `org.apache.kafka.connect.transforms.HoistField`: wraps the key or value into a struct or map of one field.

use super::side::{SchemaCache, Side, add_field, put};
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance};
use connect_api::transform::Record;
use connect_api::{
    ConnectError, Schema, SchemaAndValue, SchemaType, Struct, Transformation, TransformationPlugin, Value,
};
use std::sync::Arc;

pub(super) struct HoistFieldPlugin(pub(super) Side);

impl TransformationPlugin for HoistFieldPlugin {
    fn class(&self) -> &'static str {
        match self.0 {
            Side::Key => "org.apache.kafka.connect.transforms.HoistField$Key",
            Side::Value => "org.apache.kafka.connect.transforms.HoistField$Value",
        }
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new().define(
            ConfigKey::new("field", ConfigType::String)
                .importance(Importance::Medium)
                .doc("Field name for the single field that will be created in the resulting Struct or Map."),
        )
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        Ok(Arc::new(HoistField {
            side: self.0,
            field: parsed.text("field").unwrap_or_default().to_owned(),
            schemas: SchemaCache::default(),
        }))
    }
}

struct HoistField {
    side: Side,
    field: String,
    schemas: SchemaCache,
}

impl Transformation for HoistField {
    fn apply(&self, record: Record) -> Result<Option<Record>, ConnectError> {
        let data = self.side.of(&record)?;
        let hoisted = match &data.schema {
            None => {
                SchemaAndValue::schemaless(Value::Map(vec![(Value::from(self.field.as_str()), data.value.clone())]))
            }
            Some(schema) => {
                let made = self.schemas.get_or_make(schema, || {
                    let mut made = Schema::new(SchemaType::Struct);
                    add_field(&mut made, &self.field, Arc::clone(schema))?;
                    Ok(made)
                })?;
                let mut structure = Struct::new(Arc::clone(&made));
                put(&mut structure, &self.field, data.value.clone())?;
                SchemaAndValue {
                    schema: Some(made),
                    value: Value::Struct(structure),
                }
            }
        };
        Ok(Some(self.side.set(record, hoisted)))
    }
}
