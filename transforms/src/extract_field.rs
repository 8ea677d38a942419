//! `org.apache.kafka.connect.transforms.ExtractField`: one field in place of the key or value.

use super::field_path::FieldPath;
use super::side::{Side, replace_null_with_default, require_map, require_struct};
use connect_api::config::{ConfigDef, ConfigKey, ConfigMap, ConfigType, Importance, Validator};
use connect_api::transform::Record;
use connect_api::{ConnectError, SchemaAndValue, Transformation, TransformationPlugin, Value};
use std::sync::Arc;

const PURPOSE: &str = "field extraction";

pub(super) struct ExtractFieldPlugin(pub(super) Side);

impl TransformationPlugin for ExtractFieldPlugin {
    fn class(&self) -> &'static str {
        match self.0 {
            Side::Key => "org.apache.kafka.connect.transforms.ExtractField$Key",
            Side::Value => "org.apache.kafka.connect.transforms.ExtractField$Value",
        }
    }

    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
            .define(
                ConfigKey::new("field", ConfigType::String)
                    .importance(Importance::Medium)
                    .doc("Field name to extract."),
            )
            .define(replace_null_with_default())
            .define(
                ConfigKey::new("field.syntax.version", ConfigType::String)
                    .default("V1")
                    .validator(Validator::CaseInsensitiveIn(vec!["V1", "V2"]))
                    .importance(Importance::High)
                    .doc(
                        "Defines the version of the syntax to access fields. If set to V1, then the field paths are limited \
                         to access the elements at the root level of the struct or map. If set to V2, the syntax will support \
                         accessing nested elements.",
                    ),
            )
    }

    fn configure(&self, config: &ConfigMap) -> Result<Arc<dyn Transformation>, ConnectError> {
        let parsed = self.config_def().parse(config)?;
        let field = parsed.text("field").unwrap_or_default();
        Ok(Arc::new(ExtractField {
            side: self.0,
            path: FieldPath::new(field, parsed.text("field.syntax.version").unwrap_or("V1"))?,
            field: field.to_owned(),
            defaults: parsed.boolean("replace.null.with.default"),
        }))
    }
}

struct ExtractField {
    side: Side,
    field: String,
    path: FieldPath,
    defaults: bool,
}

impl Transformation for ExtractField {
    fn apply(&self, record: Record) -> Result<Option<Record>, ConnectError> {
        let data = self.side.of(&record)?;
        let extracted = match &data.schema {
            None => SchemaAndValue::schemaless(match &data.value {
                Value::Null => Value::Null,
                value => self.path.of_map(require_map(value, PURPOSE)?)?,
            }),
            Some(schema) => {
                let structure = match &data.value {
                    Value::Null => None,
                    value => Some(require_struct(value, PURPOSE)?),
                };
                let field = self.path.field(schema)?.ok_or_else(|| {
                    ConnectError::fatal(format!("Unknown field: {}", self.field))
                        .with_java_class("java.lang.IllegalArgumentException")
                })?;
                SchemaAndValue {
                    schema: Some(Arc::clone(&field.schema)),
                    value: match structure {
                        Some(structure) => self.path.of_struct(structure, self.defaults)?,
                        None => Value::Null,
                    },
                }
            }
        };
        Ok(Some(self.side.set(record, extracted)))
    }
}
