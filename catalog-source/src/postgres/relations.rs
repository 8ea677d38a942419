//! Tables as the replication stream describes them: a relation message comes before the first change of a table, and again
//! whenever its definition, keys and nullability among it, has changed.
//!
//! ```text
//!   relation message (as it was then): columns, types, replica identity --\
//!                                                                          merge --> Table
//!   catalog (as it is now): nullability, order of the key, labels --------/
//! ```
//! A relation message says which columns are the key where the replica identity is the primary key, which is true of the moment
//! of the changes behind it. What only the catalog knows may be of a later time.

use super::captured::{self, Captured, NothingLeft, RowValues};
use super::config::PostgresConfig;
use super::envelope::Envelopes;
use super::error::PostgresError;
use super::generated;
use super::losses::Losses;
use super::pgoutput::{Cell, Identity, OldRow, Relation, RelationColumn};
use super::side_connection::SideConnection;
use super::tables::{self, Column, Generated, Table, TableName, TypeInfo};
use std::borrow::Cow;
use std::sync::Arc;

/// A captured table with the places of its columns in the stream's rows.
pub(super) struct StreamedTable {
    pub(super) captured: Arc<Captured>,
    /// names of the columns of the stream's rows
    names: Vec<String>,
    /// columns that follow behind them, made of them
    generated: Vec<Generated>,
    /// place in such a row, for each column that is read
    places: Vec<usize>,
    warned_of_unchanged: bool,
}

/// A row that was changed.
pub(super) struct Change {
    pub(super) before: Option<RowValues>,
    pub(super) after: RowValues,
}

impl StreamedTable {
    /// What a relation message means; `None` for a table that is not captured, or of which no column can be. `known` is what
    /// was known of it before.
    pub(super) async fn new(
        relation: &Relation,
        known: Option<&Arc<Captured>>,
        config: &PostgresConfig,
        envelopes: &Envelopes,
        side: &mut SideConnection,
    ) -> Result<Option<Self>, PostgresError> {
        if !config.capture.takes_table(&relation.schema, &relation.table) {
            return Ok(None);
        }
        let table = describe(relation, side).await?;
        let captured = match known {
            Some(known) if known.table.columns == table.columns => Arc::clone(known),
            _ => {
                tracing::info!(table = %table.name, columns = table.columns.len(), "the table has changed, or is new");
                match Captured::next(known.map(Arc::as_ref), table, config, &envelopes.schemas) {
                    Ok((captured, left_out)) => {
                        captured::warn_of(&captured, &left_out);
                        Arc::new(captured)
                    }
                    Err(NothingLeft(table)) => {
                        tracing::warn!(%table, "no column of the table can be captured: its changes are left out");
                        return Ok(None);
                    }
                }
            }
        };
        Ok(Some(Self::of(captured, relation)))
    }

    fn of(captured: Arc<Captured>, relation: &Relation) -> Self {
        let mut names: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
        let mut generated = Vec::new();
        for column in &captured.table.columns {
            if let Some(made) = &column.generated
                && !names.iter().any(|name| **name == *column.name)
            {
                names.push(column.name.to_string());
                generated.push(made.clone());
            }
        }
        let place = |name: &str| names.iter().position(|column| column == name).unwrap_or(usize::MAX);
        let places = captured.columns.iter().map(|column| place(&column.name)).collect();
        Self {
            captured,
            names,
            generated,
            places,
            warned_of_unchanged: false,
        }
    }

    /// A row that came to be.
    pub(super) async fn inserted(
        &mut self,
        new: Vec<Cell<'_>>,
        side: &mut SideConnection,
        read: &mut Reading<'_>,
    ) -> Result<Option<Change>, PostgresError> {
        let new = self.complete(new, side).await?;
        self.change(None, &new, read)
    }

    /// A row that was changed. `before` is missing where the old row did not come, or comes without its whole key.
    pub(super) async fn updated<'m>(
        &mut self,
        old: Option<OldRow<'m>>,
        mut new: Vec<Cell<'m>>,
        side: &mut SideConnection,
        read: &mut Reading<'_>,
    ) -> Result<Option<Change>, PostgresError> {
        if let Some(OldRow::Key(old) | OldRow::Full(old)) = &old {
            fill_unchanged(&mut new, old);
        }
        let new = self.complete(new, side).await?;
        let old = match old {
            None => None,
            Some(old) => Some(self.complete_old(old, side).await?),
        };
        let old = match old {
            Some(old) if !self.knows_key(&old) => {
                read.losses.note(
                    &self.captured.name,
                    &"".into(),
                    "an update that does not name the row's old key: if the key was changed, the old row stays in the topic; run \
                     ALTER TABLE ... REPLICA IDENTITY DEFAULT, or FULL",
                );
                None
            }
            old => old,
        };
        if new.contains(&Cell::Unchanged) && !std::mem::replace(&mut self.warned_of_unchanged, true) {
            tracing::warn!(
                table = %self.captured.name,
                "large values that an update does not change are not sent, unavailable.value.placeholder stands for them: run \
                 ALTER TABLE ... REPLICA IDENTITY FULL to get them"
            );
        }
        self.change(old.as_ref(), &new, read)
    }

    /// A row that was deleted, as it was; `None`, having been counted, where its key did not come.
    pub(super) async fn deleted(
        &mut self,
        old: OldRow<'_>,
        side: &mut SideConnection,
        read: &mut Reading<'_>,
    ) -> Result<Option<RowValues>, PostgresError> {
        let old = self.complete_old(old, side).await?;
        if !self.knows_key(&old) {
            read.losses.note(
                &self.captured.name,
                &"".into(),
                "a delete that does not name the row's key: it is left out, the row stays in the topic; run ALTER TABLE ... \
                 REPLICA IDENTITY DEFAULT, or FULL",
            );
            return Ok(None);
        }
        let row = self.old_row(&old, read.losses);
        if let OldRow::Full(_) = old
            && self.widen(&row, read)?
        {
            return Ok(Some(self.old_row(&old, read.losses)));
        }
        Ok(Some(row))
    }

    /// Reads both rows; a null where the schemas allow none makes them allow it. `None`, having been counted, where the row's
    /// key did not come.
    fn change(
        &mut self,
        old: Option<&OldRow<'_>>,
        new: &[Cell<'_>],
        read: &mut Reading<'_>,
    ) -> Result<Option<Change>, PostgresError> {
        if self.key_cells(new).any(|cell| *cell == Cell::Unchanged) {
            read.losses.note(
                &self.captured.name,
                &"".into(),
                "a change that does not name the row's key, because a large value in it did not change: it is left out; run \
                 ALTER TABLE ... REPLICA IDENTITY FULL",
            );
            return Ok(None);
        }
        let mut before = old.map(|old| self.old_row(old, read.losses));
        let mut after = self.row(new, read.losses);
        let mut wider = self.widen(&after, read)?;
        if let (Some(OldRow::Full(_)), Some(row)) = (old, &before) {
            wider |= self.widen(row, read)?;
        }
        if wider {
            // a value may carry the schema of its column
            (before, after) = read.losses.again(|losses| {
                let before = old.map(|old| self.old_row(old, losses));
                (before, self.row(new, losses))
            });
        }
        Ok(Some(Change { before, after }))
    }

    fn widen(&mut self, row: &RowValues, read: &mut Reading<'_>) -> Result<bool, PostgresError> {
        let wider = read.widened(&self.captured, row)?;
        let changed = wider.is_some();
        self.captured = wider.unwrap_or_else(|| Arc::clone(&self.captured));
        Ok(changed)
    }

    fn row(&self, row: &[Cell<'_>], losses: &mut Losses) -> RowValues {
        let cells = self.places.iter().map(|place| row.get(*place).unwrap_or(&Cell::Null));
        cells
            .enumerate()
            .map(|(at, cell)| self.captured.read(at, cell, losses))
            .collect()
    }

    fn old_row(&self, old: &OldRow<'_>, losses: &mut Losses) -> RowValues {
        match old {
            OldRow::Full(old) => self.row(old, losses),
            // only the columns of the replica identity are there
            OldRow::Key(old) => {
                let mut values = self.captured.absent();
                for (at, (place, value)) in self.places.iter().zip(&mut values).enumerate() {
                    if let Some(cell @ Cell::Text(_)) = old.get(*place) {
                        *value = self.captured.read(at, cell, losses);
                    }
                }
                values
            }
        }
    }

    /// Whether the old row has a value for every column of the key.
    fn knows_key(&self, old: &OldRow<'_>) -> bool {
        match old {
            OldRow::Key(old) => self.key_cells(old).all(|cell| matches!(cell, Cell::Text(_))),
            OldRow::Full(old) => self.key_cells(old).all(|cell| *cell != Cell::Unchanged),
        }
    }

    fn key_cells<'r, 'm>(&self, row: &'r [Cell<'m>]) -> impl Iterator<Item = &'r Cell<'m>> {
        let places = self.captured.key_columns.iter().filter_map(|at| self.places.get(*at));
        places.map(|place| row.get(*place).unwrap_or(&Cell::Unchanged))
    }

    /// The row with the generated columns behind it.
    async fn complete<'a>(
        &self,
        mut row: Vec<Cell<'a>>,
        side: &mut SideConnection,
    ) -> Result<Vec<Cell<'a>>, PostgresError> {
        for made in &self.generated {
            let cell = {
                let found = |name: &str| {
                    let at = self.names.iter().position(|column| column == name)?;
                    row.get(at)
                };
                generated::evaluate(made, found, side).await?
            };
            row.push(cell);
        }
        Ok(row)
    }

    async fn complete_old<'a>(&self, old: OldRow<'a>, side: &mut SideConnection) -> Result<OldRow<'a>, PostgresError> {
        if self.generated.is_empty() {
            return Ok(old);
        }
        Ok(match old {
            OldRow::Full(old) => OldRow::Full(self.complete(old, side).await?),
            OldRow::Key(old) => {
                // a null is a value that did not come
                let known = old.into_iter().map(|cell| match cell {
                    Cell::Null => Cell::Unchanged,
                    cell => cell,
                });
                OldRow::Key(self.complete(known.collect(), side).await?)
            }
        })
    }
}

/// What reading rows needs beside the table.
pub(super) struct Reading<'a> {
    pub(super) config: &'a PostgresConfig,
    pub(super) envelopes: &'a Envelopes,
    pub(super) losses: &'a mut Losses,
}

impl Reading<'_> {
    /// The table with wider schemas, where `row` has a null that they do not allow.
    pub(super) fn widened(&self, captured: &Captured, row: &RowValues) -> Result<Option<Arc<Captured>>, PostgresError> {
        let nulls = captured.forbidden_nulls(row);
        if nulls.is_empty() {
            return Ok(None);
        }
        let names = nulls.iter().filter_map(|at| captured.columns.get(*at));
        let names: Vec<&str> = names.map(|column| &*column.name).collect();
        tracing::warn!(
            table = %captured.name, columns = names.join(","),
            "null in columns that allow none: they are optional in the schemas from here on"
        );
        captured
            .widened(&nulls, self.config, &self.envelopes.schemas)
            .map(|wider| Some(Arc::new(wider)))
            .map_err(|NothingLeft(table)| PostgresError::Protocol(format!("table {table} has lost its columns")))
    }
}

/// Large values that did not change, from the old row where it has them.
fn fill_unchanged<'a>(new: &mut [Cell<'a>], old: &[Cell<'a>]) {
    for (new, old) in new.iter_mut().zip(old) {
        if let (Cell::Unchanged, Cell::Text(text)) = (&*new, old) {
            *new = Cell::Text(match text {
                Cow::Borrowed(text) => Cow::Borrowed(text),
                Cow::Owned(text) => Cow::Owned(text.clone()),
            });
        }
    }
}

/// The table of a relation message, with what the catalog knows of it now.
async fn describe(relation: &Relation, side: &mut SideConnection) -> Result<Table, PostgresError> {
    let name = TableName {
        schema: relation.schema.as_str().into(),
        table: relation.table.as_str().into(),
    };
    let catalog = tables::by_name(side.connection().await?, &name).await?;
    let unknown: Vec<(u32, i32)> = relation
        .columns
        .iter()
        .filter(|column| known(catalog.as_ref(), column).is_none())
        .map(|column| (column.type_oid, column.modifier))
        .collect();
    let types = tables::types(side.connection().await?, &unknown).await?;
    Ok(merge(relation, name, catalog.as_ref(), &types))
}

/// The column in the catalog, if it is there with the same type.
fn known<'a>(catalog: Option<&'a Table>, column: &RelationColumn) -> Option<&'a Column> {
    let same = |known: &&Column| {
        *known.name == *column.name && known.type_oid == column.type_oid && known.modifier == column.modifier
    };
    catalog?.columns.iter().find(same)
}

/// What a relation message and the catalog say together. `types` are those of columns that the catalog does not have.
fn merge(relation: &Relation, name: TableName, catalog: Option<&Table>, types: &[((u32, i32), TypeInfo)]) -> Table {
    let key = key(relation, catalog);
    let place = |name: &str| {
        let at = key.iter().position(|column| column == name)?;
        i32::try_from(at + 1).ok()
    };
    let by_name = |name: &str| catalog?.columns.iter().find(|column| *column.name == *name);
    let mut columns: Vec<Column> = relation
        .columns
        .iter()
        .map(|column| {
            let key = place(&column.name);
            match known(catalog, column) {
                Some(known) => Column { key, ..known.clone() },
                None => Column {
                    // a column that has another type now is nullable as it is now; one that is gone may have been
                    optional: by_name(&column.name).map_or(key.is_none(), |column| column.optional),
                    ..of_type(column, key, types)
                },
            }
        })
        .collect();
    for (at, column) in catalog.iter().flat_map(|table| table.columns.iter().enumerate()) {
        let streamed = relation.columns.iter().any(|streamed| *streamed.name == *column.name);
        let key = place(&column.name);
        if column.generated.is_some() && !streamed && key.is_some() {
            let before = |other: &Column| {
                let place = catalog.and_then(|table| table.columns.iter().position(|known| known.name == other.name));
                place.is_some_and(|place| place < at)
            };
            let at = columns.iter().rposition(before).map_or(0, |last| last + 1);
            columns.insert(at, Column { key, ..column.clone() });
        }
    }
    Table {
        name,
        oid: relation.oid,
        partitioned: false,
        row_filter: None,
        primary: catalog.is_some_and(|table| table.primary),
        columns,
    }
}

/// A column that the catalog does not have so: it was dropped, renamed or altered after the change that is read now.
fn of_type(column: &RelationColumn, key: Option<i32>, types: &[((u32, i32), TypeInfo)]) -> Column {
    let (oid, modifier) = (column.type_oid, column.modifier);
    let found = types.iter().find(|(of, _)| *of == (oid, modifier));
    let info = found.map_or_else(
        || TypeInfo {
            base_type: format!("type {oid}"),
            base_modifier: modifier,
            labels: None,
        },
        |(_, info)| info.clone(),
    );
    Column {
        name: column.name.as_str().into(),
        type_oid: oid,
        modifier,
        base_type: info.base_type,
        base_modifier: info.base_modifier,
        labels: info.labels,
        optional: key.is_none(),
        key,
        generated: None,
    }
}

/// The columns of the key, in its order.
fn key(relation: &Relation, catalog: Option<&Table>) -> Vec<String> {
    let identity: Vec<String> = relation
        .columns
        .iter()
        .filter(|column| column.key)
        .map(|column| column.name.clone())
        .collect();
    let mut now: Vec<&Column> = catalog
        .iter()
        .flat_map(|table| &table.columns)
        .filter(|column| column.key.is_some())
        .collect();
    now.sort_by_key(|column| column.key);
    let is_streamed = |name: &str| relation.columns.iter().any(|column| column.name == name);
    let complete = now
        .iter()
        .all(|column| column.generated.is_some() || is_streamed(&column.name));
    // what is generated is not streamed, and so no part of the identity
    let streamed = |column: &&&Column| is_streamed(&column.name);
    let same = now.iter().filter(streamed).count() == identity.len()
        && now
            .iter()
            .filter(streamed)
            .all(|column| identity.iter().any(|name| **name == *column.name));
    let names = || now.iter().map(|column| column.name.to_string()).collect();
    match relation.identity {
        // the primary key of that time; in the order of today's if that has the same columns
        Identity::Default if !identity.is_empty() => match same && complete {
            true => names(),
            false => identity,
        },
        // the primary key first, as where the identity is the default
        Identity::Index => match complete && !now.is_empty() && (same || catalog.is_some_and(|table| table.primary)) {
            true => names(),
            false => identity,
        },
        // no key then, or the message does not say which: today's, which those rows have too
        Identity::Default | Identity::Full | Identity::Nothing => match complete {
            true => names(),
            false => Vec::new(),
        },
    }
}

#[cfg(test)]
#[path = "relations_tests.rs"]
mod tests;
