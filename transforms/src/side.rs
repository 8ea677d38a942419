//! A record's key or value, which most transforms exist for, taken as a struct or as a map.

use connect_api::config::{ConfigKey, ConfigType, Importance};
use connect_api::schema::{Field, Schema, SchemaType};
use connect_api::transform::Record;
use connect_api::validation::validate_value;
use connect_api::{ConnectError, Datum, SchemaAndValue, Struct, Value};
use std::sync::{Arc, Mutex, PoisonError};

/// Which half of a record a transform works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Key,
    Value,
}

impl Side {
    pub(super) fn of(self, record: &Record) -> Result<&SchemaAndValue, ConnectError> {
        match self {
            Side::Key => record.key().get(),
            Side::Value => record.value().get(),
        }
    }

    pub(super) fn set(self, mut record: Record, data: SchemaAndValue) -> Record {
        match self {
            Side::Key => record.set_key(Datum::new(data)),
            Side::Value => record.set_value(Datum::new(data)),
        }
        record
    }
}

/// Option that says whether a field's default stands for null where fields are copied.
pub(super) fn replace_null_with_default() -> ConfigKey {
    ConfigKey::new("replace.null.with.default", ConfigType::Boolean)
        .default("true")
        .importance(Importance::Medium)
        .doc(
            "Whether to replace fields that have a default value and that are null to the default value. When set to \
             true, the default value is used, otherwise null is used.",
        )
}

fn found(value: &Value) -> &'static str {
    value.java_class()
}

/// The entries of a map without a schema.
pub(super) fn require_map<'a>(value: &'a Value, purpose: &str) -> Result<&'a [(Value, Value)], ConnectError> {
    match value {
        Value::Map(entries) => Ok(entries),
        other => Err(ConnectError::data(format!(
            "Only Map objects supported in absence of schema for [{purpose}], found: {}",
            found(other)
        ))),
    }
}

/// The struct of a value with a schema.
pub(super) fn require_struct<'a>(value: &'a Value, purpose: &str) -> Result<&'a Struct, ConnectError> {
    match value {
        Value::Struct(structure) => Ok(structure),
        other => Err(ConnectError::data(format!(
            "Only Struct objects supported for [{purpose}], found: {}",
            found(other)
        ))),
    }
}

/// The value under a text key.
pub(super) fn map_get<'a>(entries: &'a [(Value, Value)], name: &str) -> Option<&'a Value> {
    entries
        .iter()
        .find(|(key, _)| matches!(key, Value::String(text) if &**text == name))
        .map(|(_, value)| value)
}

/// Puts a value under a text key; the last of equal keys wins.
pub(super) fn map_put(entries: &mut Vec<(Value, Value)>, name: &str, value: Value) {
    match entries
        .iter_mut()
        .find(|(key, _)| matches!(key, Value::String(text) if &**text == name))
    {
        Some(entry) => entry.1 = value,
        None => entries.push((Value::from(name), value)),
    }
}

/// The field's value, with its default in place of null where `defaults` says so.
pub(super) fn field_value(structure: &Struct, name: &str, defaults: bool) -> Option<Value> {
    match defaults {
        true => structure.get(name).cloned(),
        false => {
            let field = structure.schema.field(name)?;
            structure.values.get(field.index).cloned()
        }
    }
}

/// Looks a field up; a schema of another type has none to look up.
pub(super) fn schema_field<'a>(schema: &'a Schema, name: &str) -> Result<Option<&'a Field>, ConnectError> {
    match schema.schema_type {
        SchemaType::Struct => Ok(schema.field(name)),
        _ => Err(ConnectError::data("Cannot look up fields on non-struct type")),
    }
}

/// An empty struct schema with the name, version, documentation and parameters of `schema`.
pub(super) fn struct_like(schema: &Schema) -> Schema {
    Schema {
        name: schema.name.clone(),
        version: schema.version,
        doc: schema.doc.clone(),
        parameters: schema.parameters.clone(),
        ..Schema::new(SchemaType::Struct)
    }
}

/// Adds a field to a struct schema that is being built.
pub(super) fn add_field(schema: &mut Schema, name: &str, field: Arc<Schema>) -> Result<(), ConnectError> {
    let refuse = |message: String| {
        Err(ConnectError::data(message).with_java_class("org.apache.kafka.connect.errors.SchemaBuilderException"))
    };
    if name.is_empty() {
        return refuse("fieldName cannot be null.".to_owned());
    }
    if schema.field(name).is_some() {
        return refuse(format!("Cannot create field because of field name duplication {name}"));
    }
    let index = schema.fields.len();
    schema.fields.push(Field {
        name: name.into(),
        index,
        schema: field,
    });
    Ok(())
}

/// Puts a value that must fit its field.
pub(super) fn put(structure: &mut Struct, name: &str, value: Value) -> Result<(), ConnectError> {
    if let Some(field) = structure.schema.field(name) {
        validate_value(Some(name), &field.schema, &value)?;
    }
    structure.put(name, value);
    Ok(())
}

/// Remembers the schema that was made of another one: records mostly come with the same schema in a row.
#[derive(Default)]
pub(super) struct SchemaCache {
    last: Mutex<Option<(Arc<Schema>, Arc<Schema>)>>,
}

impl SchemaCache {
    pub(super) fn get_or_make(
        &self,
        from: &Arc<Schema>,
        make: impl FnOnce() -> Result<Schema, ConnectError>,
    ) -> Result<Arc<Schema>, ConnectError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, made)) = &*last
            && Arc::ptr_eq(known, from)
        {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(make()?);
        *last = Some((Arc::clone(from), Arc::clone(&made)));
        Ok(made)
    }
}
