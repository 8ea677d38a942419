//! Tables as the replication stream describes them: a relation message comes before the first change of a table, and again
//! when the table has changed.

use super::captured::{Captured, RowValues};
use super::config::PostgresConfig;
use super::connection::{Connection, Purpose};
use super::envelope::Envelopes;
use super::error::PostgresError;
use super::pgoutput::{Cell, Relation, RelationColumn};
use super::tables::{self, Column, Table, TableName};
use connect_api::ConnectError;
use std::sync::Arc;

/// A captured table with the places of its columns in the stream's rows.
pub(super) struct StreamedTable {
    pub(super) captured: Arc<Captured>,
    /// place in a row of the stream, for each column that is read
    places: Vec<usize>,
    warned_of_unchanged: bool,
}

impl StreamedTable {
    /// What a relation message means; `None` for a table that is not captured.
    pub(super) async fn new(
        relation: &Relation,
        known: Option<Arc<Captured>>,
        config: &PostgresConfig,
        envelopes: &Envelopes,
    ) -> Result<Option<Self>, PostgresError> {
        if !config.capture.takes_table(&relation.schema, &relation.table) {
            return Ok(None);
        }
        let captured = match known {
            Some(known) if describes(&known.table, relation) => known,
            _ => {
                let table = read_again(relation, config).await?;
                tracing::info!(table = %table.name, columns = table.columns.len(), "the table has changed, or is new");
                Arc::new(Captured::new(table, config, &envelopes.schemas)?)
            }
        };
        let place = |name: &str| relation.columns.iter().position(|column| column.name == name);
        let places = captured
            .columns
            .iter()
            .map(|column| place(&column.name))
            .collect::<Option<Vec<_>>>();
        match places {
            Some(places) => Ok(Some(Self {
                captured,
                places,
                warned_of_unchanged: false,
            })),
            None => Err(PostgresError::Protocol(format!(
                "table {} lacks columns in the stream",
                captured.name
            ))),
        }
    }

    /// Reads a row. `old` fills in large values that did not change, where it has them.
    pub(super) fn row(&mut self, row: &[Cell<'_>], old: Option<&[Cell<'_>]>) -> Result<RowValues, ConnectError> {
        let mut values = Vec::with_capacity(self.places.len());
        for (at, place) in self.places.iter().enumerate() {
            let cell = match row.get(*place) {
                Some(Cell::Unchanged) => match old.and_then(|old| old.get(*place)) {
                    Some(old) if *old != Cell::Unchanged => old,
                    _ => {
                        if !std::mem::replace(&mut self.warned_of_unchanged, true) {
                            tracing::warn!(
                                table = %self.captured.name,
                                "large values that an update does not change are not sent, unavailable.value.placeholder stands \
                                 for them: run ALTER TABLE ... REPLICA IDENTITY FULL to get them"
                            );
                        }
                        &Cell::Unchanged
                    }
                },
                Some(cell) => cell,
                None => {
                    return Err(ConnectError::data(format!(
                        "a row of table {} is too short",
                        self.captured.name
                    )));
                }
            };
            values.push(self.captured.read(at, cell)?);
        }
        Ok(values)
    }

    /// Reads a row of which only the columns of the replica identity are there.
    pub(super) fn key_row(&mut self, row: &[Cell<'_>]) -> Result<RowValues, ConnectError> {
        let mut values = self.captured.absent();
        for (at, (place, value)) in self.places.iter().zip(&mut values).enumerate() {
            if let Some(cell @ Cell::Text(_)) = row.get(*place) {
                *value = self.captured.read(at, cell)?;
            }
        }
        Ok(values)
    }
}

/// Whether the table is as the relation says.
fn describes(table: &Table, relation: &Relation) -> bool {
    table.columns.len() == relation.columns.len()
        && table.columns.iter().zip(&relation.columns).all(|(known, column)| {
            *known.name == *column.name && known.type_oid == column.type_oid && known.modifier == column.modifier
        })
}

/// The table with the columns of the relation, and what the catalog knows of them now.
async fn read_again(relation: &Relation, config: &PostgresConfig) -> Result<Table, PostgresError> {
    let mut connection = Connection::open(&config.server, Purpose::Queries).await?;
    let name = TableName {
        schema: relation.schema.as_str().into(),
        table: relation.table.as_str().into(),
    };
    let catalog = tables::by_name(&mut connection, &name)
        .await?
        .map(|table| table.columns)
        .unwrap_or_default();
    let has_key = catalog.iter().any(|column| column.key.is_some());
    let mut columns = Vec::with_capacity(relation.columns.len());
    for (place, column) in (1..).zip(&relation.columns) {
        let same = |known: &&Column| *known.name == *column.name && known.type_oid == column.type_oid;
        columns.push(match catalog.iter().find(same) {
            Some(known) => Column {
                modifier: column.modifier,
                ..known.clone()
            },
            None => gone(&mut connection, column, (column.key && !has_key).then_some(place)).await?,
        });
    }
    connection.close().await;
    Ok(Table {
        name,
        oid: relation.oid,
        partitioned: false,
        row_filter: None,
        columns,
    })
}

/// A column that the catalog no longer has: it was dropped, renamed or altered after the change that is read now.
async fn gone(connection: &mut Connection, column: &RelationColumn, key: Option<i32>) -> Result<Column, PostgresError> {
    let (base_type, labels) = tables::type_of(connection, column.type_oid).await?;
    Ok(Column {
        name: column.name.as_str().into(),
        type_oid: column.type_oid,
        modifier: column.modifier,
        base_type,
        base_modifier: column.modifier,
        labels,
        optional: key.is_none(),
        key,
    })
}
