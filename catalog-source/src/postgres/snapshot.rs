//! The snapshot: every captured table as it was at one moment, read by COPY.
//!
//! ```text
//!   BEGIN REPEATABLE READ -> CREATE_REPLICATION_SLOT USE_SNAPSHOT -> per table: COPY (columns) TO STDOUT -> COMMIT
//!        '-> the slot's position: changes from here on are streamed afterwards
//! ```
//! The slot's snapshot is used by the transaction that creates it, so nothing has to be exported to another connection. A row
//! is handed over when the next one has come, because only then is it known not to be the last, whose offset says that the
//! snapshot is complete.

use super::captured::Captured;
use super::connection::{Connection, identifier, now_micros};
use super::copy;
use super::envelope::{Operation, Origin};
use super::error::PostgresError;
use super::handoff::{Handed, Interrupted, SnapshotEnd, stopped};
use super::history::{Position, ServerLog};
use super::losses::Losses;
use super::offset;
use super::plan::SnapshotSlot;
use super::reader::Reader;
use super::relations::Reading;
use super::server;
use bytes::Bytes;
use connect_api::record::SourceMap;
use connect_api::{ConnectError, SourceRecord};
use std::sync::Arc;

/// Takes the snapshot; the position from which changes follow. A table whose schemas the rows have widened is changed in
/// `tables`.
pub(super) async fn take(
    reader: &mut Reader,
    connection: &mut Connection,
    tables: &mut [Arc<Captured>],
    slot: SnapshotSlot,
    log: &ServerLog,
) -> Result<Position, Interrupted> {
    let mut stop = reader.handoff.stop.clone();
    let begun = tokio::select! {
        begun = begin(reader, connection, slot, log) => begun?,
        () = stopped(&mut stop) => return Err(Interrupted::Stopped),
    };
    let mut snapshot = Snapshot {
        reader,
        offset: Arc::new(offset::within_snapshot()),
        begun,
        tables,
        records: Vec::new(),
        previous: None,
        first: true,
    };
    let mut rows = Vec::with_capacity(snapshot.tables.len());
    for at in 0..snapshot.tables.len() {
        if let Some(table) = snapshot.tables.get(at).cloned() {
            rows.push((table.name.to_string(), snapshot.copy(connection, at, &table).await?));
        }
    }
    connection.query("COMMIT").await?;
    let total: u64 = rows.iter().map(|(_, rows)| rows).sum();
    let end = snapshot.finish(rows).await?;
    tracing::info!(
        rows = total,
        position = server::format_lsn(end.lsn),
        "snapshot complete"
    );
    Ok(end)
}

/// When and where a snapshot was begun.
struct Begun {
    position: Position,
    micros: i64,
}

async fn begin(
    reader: &Reader,
    connection: &mut Connection,
    slot: SnapshotSlot,
    log: &ServerLog,
) -> Result<Begun, PostgresError> {
    connection
        .query("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let lsn = match slot {
        SnapshotSlot::New => server::create_slot(connection, &reader.config, true).await?,
        SnapshotSlot::Existing(from) => {
            tracing::info!(
                slot = reader.config.slot,
                "taking a snapshot beside the slot that is there"
            );
            from
        }
        SnapshotSlot::None => {
            let rows = connection.query("SELECT pg_catalog.pg_current_wal_lsn()").await?;
            rows.first()
                .and_then(|row| row.first())
                .and_then(Option::as_deref)
                .and_then(server::parse_lsn)
                .unwrap_or_default()
        }
    };
    Ok(Begun {
        position: Position {
            lsn,
            // nothing follows a snapshot without a slot
            history: (slot != SnapshotSlot::None).then_some(log.history),
        },
        micros: now_micros(),
    })
}

struct Snapshot<'a> {
    reader: &'a mut Reader,
    begun: Begun,
    tables: &'a mut [Arc<Captured>],
    offset: Arc<SourceMap>,
    records: Vec<SourceRecord>,
    previous: Option<Previous>,
    /// no row was handed over yet
    first: bool,
}

/// A row that waits for the next one.
struct Previous {
    /// place of its table
    table: usize,
    row: Bytes,
    first_of_table: bool,
}

/// What comes behind a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    SameTable,
    OtherTable,
    Nothing,
}

impl Snapshot<'_> {
    /// Reads one table; the number of its rows.
    async fn copy(&mut self, connection: &mut Connection, at: usize, table: &Captured) -> Result<u64, Interrupted> {
        let name = &table.name;
        tracing::info!(table = %name, "reading the table");
        let mut stop = self.reader.handoff.stop.clone();
        connection
            .copy_out(&statement(table))
            .await
            .map_err(|error| gone_meanwhile(table, error))?;
        let mut rows = 0;
        loop {
            let row = tokio::select! {
                biased;
                row = connection.copied_row() => row?,
                () = stopped(&mut stop) => return Err(Interrupted::Stopped),
            };
            let Some(row) = row else { break };
            let next = if rows == 0 { Next::OtherTable } else { Next::SameTable };
            let row = Previous {
                table: at,
                row,
                first_of_table: rows == 0,
            };
            rows += 1;
            if let Some(previous) = self.previous.replace(row) {
                self.push(&previous, next)?;
                if self.records.len() >= self.reader.config.batch_size {
                    let records = std::mem::take(&mut self.records);
                    self.reader.handoff.hand(Handed::Records(records)).await?;
                }
            }
        }
        tracing::info!(table = %name, rows, "read the table");
        Ok(rows)
    }

    fn push(&mut self, row: &Previous, next: Next) -> Result<(), PostgresError> {
        let Some(table) = self.tables.get_mut(row.table) else {
            return Ok(());
        };
        let read = Reading {
            config: &self.reader.config,
            envelopes: &self.reader.envelopes,
            losses: &mut self.reader.losses,
        };
        let mut values = read_row(table, &row.row, read.losses);
        if let Some(wider) = read.widened(table, &values)? {
            *table = wider;
            values = read.losses.again(|losses| read_row(table, &row.row, losses));
        }
        let origin = Origin {
            snapshot: match (next, self.first, row.first_of_table) {
                (Next::Nothing, _, _) => "last",
                (_, true, _) => "first",
                (Next::OtherTable, _, _) => "last_in_data_collection",
                (_, _, true) => "first_in_data_collection",
                _ => "true",
            },
            lsn: self.begun.position.lsn,
            last_commit: None,
            xid: None,
            micros: self.begun.micros,
        };
        self.first = false;
        let offset = match next {
            Next::Nothing => Arc::new(offset::end_of_snapshot(&self.begun.position, self.begun.micros)),
            _ => Arc::clone(&self.offset),
        };
        let change = (None, Some(values));
        self.reader
            .envelopes
            .push(&mut self.records, table, Operation::Read, change, &origin, offset);
        Ok(())
    }

    async fn finish(mut self, rows: Vec<(String, u64)>) -> Result<Position, Interrupted> {
        let end = SnapshotEnd {
            rows,
            offset: Arc::new(offset::end_of_snapshot(&self.begun.position, self.begun.micros)),
            micros: self.begun.micros,
        };
        match self.previous.take() {
            Some(row) => {
                self.push(&row, Next::Nothing)?;
                let records = std::mem::take(&mut self.records);
                self.reader.handoff.hand(Handed::Records(records)).await?;
            }
            // no record says that it is complete
            None => {
                self.reader
                    .handoff
                    .hand(Handed::Position(Arc::clone(&end.offset)))
                    .await?
            }
        }
        self.reader.handoff.hand(Handed::SnapshotEnd(end)).await?;
        Ok(self.begun.position)
    }
}

fn statement(table: &Captured) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| identifier(&column.name)).collect();
    let (columns, name) = (columns.join(", "), &table.name);
    let relation = format!("{}.{}", identifier(&name.schema), identifier(&name.table));
    let generated = table.table.columns.iter().any(|column| column.generated.is_some());
    match (&table.table.row_filter, table.table.partitioned) {
        (Some(filter), _) => format!("COPY (SELECT {columns} FROM {relation} WHERE {filter}) TO STDOUT"),
        (None, true) => format!("COPY (SELECT {columns} FROM {relation}) TO STDOUT"),
        // COPY of a table takes no generated columns, and no rows of tables that inherit from it
        (None, false) if generated => format!("COPY (SELECT {columns} FROM ONLY {relation}) TO STDOUT"),
        (None, false) => format!("COPY {relation} ({columns}) TO STDOUT"),
    }
}

fn read_row(table: &Captured, row: &[u8], losses: &mut Losses) -> Vec<connect_api::Value> {
    copy::cells(row)
        .enumerate()
        .map(|(at, cell)| table.read(at, &cell, losses))
        .collect()
}

/// A table or column that has gone since the catalog was read: the snapshot begins again without it.
fn gone_meanwhile(table: &Captured, error: PostgresError) -> PostgresError {
    const UNDEFINED: [&str; 2] = ["42P01", "42703"];
    match UNDEFINED.contains(&error.code()) {
        true => PostgresError::Task(ConnectError::retriable(format!(
            "table {} was changed while the snapshot began: {error}",
            table.name
        ))),
        false => error,
    }
}
