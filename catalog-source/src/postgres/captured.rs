//! A table with the schemas of its records, made once for each version of the table and shared by all its records.
//!
//! ```text
//!   Table --types--> columns that are read --> schemas PREFIX.SCHEMA.TABLE.{Key, Value, Envelope}
//!   cells --read--> row (one value per column that is read) --> key struct, value struct
//! ```

use super::config::PostgresConfig;
use super::envelope::EnvelopeSchemas;
use super::pgoutput::Cell;
use super::tables::{Table, TableName};
use super::types::{CatalogType, ColumnType, NotRead};
use connect_api::{ConnectError, Datum, Schema, SchemaAndValue, Struct, Value};
use std::sync::Arc;

/// A captured table.
pub(super) struct Captured {
    pub(super) name: TableName,
    /// what the schemas were made of
    pub(super) table: Table,
    pub(super) topic: Arc<str>,
    pub(super) envelope: Arc<Schema>,
    pub(super) columns: Vec<ReadColumn>,
    key: Option<Arc<Schema>>,
    value: Arc<Schema>,
    /// columns of the key, in its order, as places in `columns`
    key_columns: Vec<usize>,
    unavailable: String,
}

/// A column that is read.
pub(super) struct ReadColumn {
    pub(super) name: Arc<str>,
    column_type: ColumnType,
    optional: bool,
    in_value: bool,
}

/// One value per column that is read.
pub(super) type RowValues = Vec<Value>;

impl Captured {
    /// Makes the schemas of a table.
    ///
    /// # Errors
    /// A column whose type Debezium represents and this connector does not.
    pub(super) fn new(
        table: Table,
        config: &PostgresConfig,
        envelopes: &EnvelopeSchemas,
    ) -> Result<Self, ConnectError> {
        let TableName {
            schema,
            table: relation,
        } = &table.name;
        let mut columns = Vec::with_capacity(table.columns.len());
        let mut key_columns = Vec::new();
        for column in &table.columns {
            let in_value = config.capture.takes_column(schema, relation, &column.name);
            if !in_value && column.key.is_none() {
                continue;
            }
            let catalog = CatalogType {
                name: &column.base_type,
                modifier: column.base_modifier,
                labels: column.labels.as_deref(),
            };
            let column_type = match ColumnType::new(&catalog, &config.values, column.optional) {
                Ok(column_type) => column_type,
                Err(NotRead::Unknown) => {
                    tracing::warn!(
                        table = %table.name, column = %column.name, r#type = column.base_type,
                        "column of an unknown type is left out, set include.unknown.datatypes=true to get its text as bytes"
                    );
                    continue;
                }
                Err(NotRead::Unsupported) => {
                    return Err(ConnectError::config(format!(
                        "column {}.{} has type {}, which is not supported: name it in column.exclude.list",
                        table.name, column.name, column.base_type
                    )));
                }
            };
            if let Some(place) = column.key {
                key_columns.push((place, columns.len()));
            }
            columns.push(ReadColumn {
                name: Arc::clone(&column.name),
                column_type,
                optional: column.optional,
                in_value,
            });
        }
        if columns.is_empty() {
            return Err(ConnectError::config(format!(
                "table {} has no column left that can be captured: name it in table.exclude.list",
                table.name
            )));
        }
        key_columns.sort_unstable();
        let key_columns: Vec<usize> = key_columns.into_iter().map(|(_, at)| at).collect();
        let base = format!("{}.{}", config.prefix, table.name);
        let fields = |chosen: &mut dyn Iterator<Item = &ReadColumn>| {
            Schema::structure(chosen.map(|column| {
                let schema = column.column_type.schema(column.optional);
                (Arc::clone(&column.name), Arc::new(schema))
            }))
        };
        let value = fields(&mut columns.iter().filter(|column| column.in_value)).named(format!("{base}.Value"));
        let key = match key_columns.is_empty() {
            true => None,
            false => {
                let key = fields(&mut key_columns.iter().filter_map(|at| columns.get(*at)));
                Some(Arc::new(key.named(format!("{base}.Key"))))
            }
        };
        let value = Arc::new(Schema {
            optional: true,
            ..value
        });
        Ok(Self {
            topic: topic(&base).into(),
            envelope: Arc::new(envelopes.envelope(&value, &base)),
            name: table.name.clone(),
            table,
            columns,
            key,
            value,
            key_columns,
            unavailable: config.values.unavailable.clone(),
        })
    }

    /// Whether rows have a key.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Reads the value of the column at `at`.
    pub(super) fn read(&self, at: usize, cell: &Cell<'_>) -> Result<Value, ConnectError> {
        let Some(column) = self.columns.get(at) else {
            return Err(ConnectError::fatal(format!(
                "a row of table {} has too many columns",
                self.name
            )));
        };
        match cell {
            Cell::Null if column.optional => Ok(Value::Null),
            Cell::Null => Ok(column.column_type.zero()),
            Cell::Text(text) => column.column_type.read(text).map_err(|reason| {
                ConnectError::data(format!(
                    "table {}, column {}: {:?} cannot be read: {reason}",
                    self.name,
                    column.name,
                    String::from_utf8_lossy(text)
                ))
            }),
            Cell::Unchanged => match column.column_type.unavailable(&self.unavailable) {
                Some(value) => Ok(value),
                None if column.optional => Ok(Value::Null),
                None => Ok(column.column_type.zero()),
            },
        }
    }

    /// The row of a key; its other columns are null, or empty where they cannot be (as Debezium has it).
    pub(super) fn absent(&self) -> RowValues {
        self.columns
            .iter()
            .map(|column| match column.optional {
                true => Value::Null,
                false => column.column_type.zero(),
            })
            .collect()
    }

    /// The key of a row.
    pub(super) fn key(&self, row: &RowValues) -> Datum {
        let Some(schema) = &self.key else {
            return Datum::null();
        };
        let values = self.key_columns.iter().filter_map(|at| row.get(*at)).cloned().collect();
        Datum::new(with_schema(schema, values))
    }

    /// Whether two rows have the same key.
    pub(super) fn same_key(&self, one: &RowValues, other: &RowValues) -> bool {
        self.key_columns.iter().all(|at| one.get(*at) == other.get(*at))
    }

    /// The value of a row.
    pub(super) fn value(&self, row: RowValues) -> Value {
        let values = match self.columns.iter().all(|column| column.in_value) {
            true => row,
            false => {
                let columns = self.columns.iter().zip(row);
                columns
                    .filter(|(column, _)| column.in_value)
                    .map(|(_, value)| value)
                    .collect()
            }
        };
        Value::Struct(Struct {
            schema: Arc::clone(&self.value),
            values,
        })
    }
}

fn with_schema(schema: &Arc<Schema>, values: Vec<Value>) -> SchemaAndValue {
    SchemaAndValue {
        schema: Some(Arc::clone(schema)),
        value: Value::Struct(Struct {
            schema: Arc::clone(schema),
            values,
        }),
    }
}

/// A topic's name of a table's: what may not be in one becomes `_`, as in Debezium.
fn topic(base: &str) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    base.chars()
        .map(|character| if fits(character) { character } else { '_' })
        .collect()
}
