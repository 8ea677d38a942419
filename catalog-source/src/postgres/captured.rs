//! A table with the schemas of its records, made once for each version of the table and shared by all its records.
//!
//! ```text
//!   Table --types--> columns that are read --> schemas TOPIC.{Key, Value, Envelope}
//!   cells --read--> row (one value per column that is read) --> key struct, value struct
//! ```

use super::config::PostgresConfig;
use super::envelope::EnvelopeSchemas;
use super::losses::Losses;
use super::names;
use super::pgoutput::Cell;
use super::placeholder::Placeholder;
use super::tables::{Column, Table, TableName};
use super::types::{CatalogType, ColumnType, NotRead, NotRepresentable};
use connect_api::{Datum, Schema, SchemaAndValue, Struct, Value};
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
    pub(super) key_columns: Vec<usize>,
    unavailable: Placeholder,
    /// columns that hold nulls though the catalog says that they do not, and may be null in the schemas therefore
    widened: Vec<Arc<str>>,
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

/// A column that is left out, because its type has no representation here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LeftOut {
    pub(super) column: Arc<str>,
    pub(super) base_type: String,
    pub(super) reason: NotRead,
    /// part of the key
    pub(super) key: bool,
}

/// A table of which no column is left.
#[derive(Debug, PartialEq)]
pub(super) struct NothingLeft(pub(super) TableName);

impl Captured {
    /// Makes the schemas of a table, and says which columns they leave out. Without all of its columns a key names other
    /// rows too: such a table has none.
    ///
    /// # Errors
    /// No column is left.
    pub(super) fn new(
        table: Table,
        config: &PostgresConfig,
        envelopes: &EnvelopeSchemas,
    ) -> Result<(Self, Vec<LeftOut>), NothingLeft> {
        let (columns, mut key_columns, left_out) = read_columns(&table, config);
        if !columns.iter().any(|column| column.in_value) {
            return Err(NothingLeft(table.name));
        }
        if left_out.iter().any(|left_out| left_out.key) {
            key_columns.clear();
        }
        key_columns.sort_unstable();
        let key_columns: Vec<usize> = key_columns.into_iter().map(|(_, at)| at).collect();
        let topic = names::topic(&format!("{}.{}", config.prefix, table.name));
        let schema_name = |kind: &str| config.schema_names.schema(&format!("{topic}.{kind}"));
        let fields = |chosen: &mut dyn Iterator<Item = &ReadColumn>| {
            Schema::structure(chosen.map(|column| {
                let schema = column.column_type.schema(column.optional);
                (config.field_names.field(&column.name), Arc::new(schema))
            }))
        };
        let value = fields(&mut columns.iter().filter(|column| column.in_value)).named(schema_name("Value"));
        let key = match key_columns.is_empty() {
            true => None,
            false => {
                let key = fields(&mut key_columns.iter().filter_map(|at| columns.get(*at)));
                Some(Arc::new(key.named(schema_name("Key"))))
            }
        };
        let value = Arc::new(Schema {
            optional: true,
            ..value
        });
        let captured = Self {
            envelope: Arc::new(envelopes.envelope(&value, schema_name("Envelope"))),
            topic: topic.into(),
            name: table.name.clone(),
            table,
            columns,
            key,
            value,
            key_columns,
            unavailable: config.unavailable.clone(),
            widened: Vec::new(),
        };
        Ok((captured, left_out))
    }

    /// The same table, in whose schemas these columns (places in `columns`) may be null.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn widened(
        &self,
        columns: &[usize],
        config: &PostgresConfig,
        envelopes: &EnvelopeSchemas,
    ) -> Result<Self, NothingLeft> {
        let names = columns.iter().filter_map(|at| self.columns.get(*at));
        let mut widened = self.widened.clone();
        widened.extend(names.map(|column| Arc::clone(&column.name)));
        Self::new_widened(self.table.clone(), widened, config, envelopes).map(|(captured, _)| captured)
    }

    /// The next version of the table `known`, in which what was widened stays so.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn next(
        known: Option<&Captured>,
        table: Table,
        config: &PostgresConfig,
        envelopes: &EnvelopeSchemas,
    ) -> Result<(Self, Vec<LeftOut>), NothingLeft> {
        let widened = known.map(|known| known.widened.clone()).unwrap_or_default();
        Self::new_widened(table, widened, config, envelopes)
    }

    fn new_widened(
        mut table: Table,
        widened: Vec<Arc<str>>,
        config: &PostgresConfig,
        envelopes: &EnvelopeSchemas,
    ) -> Result<(Self, Vec<LeftOut>), NothingLeft> {
        for column in table.columns.iter_mut().filter(|column| widened.contains(&column.name)) {
            column.optional = true;
        }
        let (captured, left_out) = Self::new(table, config, envelopes)?;
        Ok((Self { widened, ..captured }, left_out))
    }

    /// Whether rows have a key.
    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Reads the value of the column at `at`; null also where the column allows none.
    pub(super) fn read(&self, at: usize, cell: &Cell<'_>, losses: &mut Losses) -> Value {
        let Some(column) = self.columns.get(at) else {
            return Value::Null;
        };
        match cell {
            Cell::Null => Value::Null,
            Cell::Unchanged => self.unavailable.of(&column.column_type),
            Cell::Text(text) => match column.column_type.read(text) {
                Ok(value) => value,
                Err(NotRepresentable { instead, kind }) => {
                    losses.note(&self.name, &column.name, kind);
                    instead
                }
            },
        }
    }

    /// Columns that are null in `row` and allow none in the schemas.
    pub(super) fn forbidden_nulls(&self, row: &RowValues) -> Vec<usize> {
        let columns = self.columns.iter().zip(row).enumerate();
        columns
            .filter(|(_, (column, value))| !column.optional && **value == Value::Null)
            .map(|(at, _)| at)
            .collect()
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

/// Columns that are read, those of the key as (place in the key, place in the columns), and those that are left out.
fn read_columns(table: &Table, config: &PostgresConfig) -> (Vec<ReadColumn>, Vec<(i32, usize)>, Vec<LeftOut>) {
    let mut columns = Vec::with_capacity(table.columns.len());
    let (mut key_columns, mut left_out) = (Vec::new(), Vec::new());
    for column in &table.columns {
        let (schema, relation) = (&table.name.schema, &table.name.table);
        let in_value = config.capture.takes_column(schema, relation, &column.name);
        if !in_value && column.key.is_none() {
            continue;
        }
        match column_type(column, config) {
            Ok(column_type) => {
                key_columns.extend(column.key.map(|place| (place, columns.len())));
                columns.push(ReadColumn {
                    name: Arc::clone(&column.name),
                    column_type,
                    optional: column.optional,
                    in_value,
                });
            }
            Err(reason) => left_out.push(LeftOut {
                column: Arc::clone(&column.name),
                base_type: column.base_type.clone(),
                reason,
                key: column.key.is_some(),
            }),
        }
    }
    (columns, key_columns, left_out)
}

fn column_type(column: &Column, config: &PostgresConfig) -> Result<ColumnType, NotRead> {
    let catalog = CatalogType {
        name: &column.base_type,
        modifier: column.base_modifier,
        labels: column.labels.as_deref(),
    };
    ColumnType::new(&catalog, &config.values, column.optional)
}

/// Says which columns of a table are left out, and that a table has no key.
pub(super) fn warn_of(captured: &Captured, left_out: &[LeftOut]) {
    for LeftOut {
        column,
        base_type,
        reason,
        key,
    } in left_out
    {
        let advice = match reason {
            NotRead::Unknown => "set include.unknown.datatypes=true to get its text as bytes",
            NotRead::Unsupported => "its type is not supported yet; name it in column.exclude.list to say so",
        };
        tracing::warn!(
            table = %captured.name, %column, r#type = base_type, part_of_the_key = key,
            "the column is left out: {advice}"
        );
    }
    if !captured.has_key() {
        tracing::warn!(
            table = %captured.name,
            "the table has no primary key that can be represented: its records have no key, so a compacted topic refuses them"
        );
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
