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
use super::offset;
use super::plan::SnapshotSlot;
use super::reader::Reader;
use super::server;
use bytes::Bytes;
use connect_api::record::SourceMap;
use connect_api::{ConnectError, SourceRecord};
use std::sync::Arc;

/// Takes the snapshot; the position from which changes follow, and how many rows there are.
pub(super) async fn take(
    reader: &mut Reader,
    connection: &mut Connection,
    tables: &[Arc<Captured>],
    slot: SnapshotSlot,
) -> Result<(u64, u64), Interrupted> {
    let mut stop = reader.handoff.stop.clone();
    let begun = tokio::select! {
        begun = begin(reader, connection, slot) => begun?,
        () = stopped(&mut stop) => return Err(Interrupted::Stopped),
    };
    let mut snapshot = Snapshot {
        reader,
        offset: Arc::new(offset::within_snapshot()),
        begun,
        records: Vec::new(),
        previous: None,
        first: true,
    };
    let mut rows = Vec::with_capacity(tables.len());
    for table in tables {
        rows.push((table.name.to_string(), snapshot.copy(connection, table).await?));
    }
    connection.query("COMMIT").await?;
    let total: u64 = rows.iter().map(|(_, rows)| rows).sum();
    let end = snapshot.finish(rows).await?;
    tracing::info!(rows = total, position = server::format_lsn(end), "snapshot complete");
    Ok((end, total))
}

/// When and where a snapshot was begun.
struct Begun {
    lsn: u64,
    micros: i64,
}

async fn begin(reader: &Reader, connection: &mut Connection, slot: SnapshotSlot) -> Result<Begun, PostgresError> {
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
        lsn,
        micros: now_micros(),
    })
}

struct Snapshot<'a> {
    reader: &'a mut Reader,
    begun: Begun,
    offset: Arc<SourceMap>,
    records: Vec<SourceRecord>,
    previous: Option<(Arc<Captured>, Bytes)>,
    first: bool,
}

impl Snapshot<'_> {
    /// Reads one table; the number of its rows.
    async fn copy(&mut self, connection: &mut Connection, table: &Arc<Captured>) -> Result<u64, Interrupted> {
        let columns: Vec<String> = table.columns.iter().map(|column| identifier(&column.name)).collect();
        let (columns, name) = (columns.join(", "), &table.name);
        let relation = format!("{}.{}", identifier(&name.schema), identifier(&name.table));
        let statement = match (&table.table.row_filter, table.table.partitioned) {
            (Some(filter), _) => format!("COPY (SELECT {columns} FROM {relation} WHERE {filter}) TO STDOUT"),
            (None, true) => format!("COPY (SELECT {columns} FROM {relation}) TO STDOUT"),
            (None, false) => format!("COPY {relation} ({columns}) TO STDOUT"),
        };
        tracing::info!(table = %name, "reading the table");
        let mut stop = self.reader.handoff.stop.clone();
        connection.copy_out(&statement).await?;
        let mut rows = 0;
        loop {
            let row = tokio::select! {
                biased;
                row = connection.copied_row() => row?,
                () = stopped(&mut stop) => return Err(Interrupted::Stopped),
            };
            let Some(row) = row else { break };
            rows += 1;
            if let Some((table, row)) = self.previous.replace((Arc::clone(table), row)) {
                self.push(&table, &row, false)?;
                if self.records.len() >= self.reader.config.batch_size {
                    let records = std::mem::take(&mut self.records);
                    self.reader.handoff.hand(Handed::Records(records)).await?;
                }
            }
        }
        tracing::info!(table = %name, rows, "read the table");
        Ok(rows)
    }

    fn push(&mut self, table: &Captured, row: &[u8], last: bool) -> Result<(), ConnectError> {
        let mut values = Vec::with_capacity(table.columns.len());
        for (at, cell) in copy::cells(row).enumerate() {
            values.push(table.read(at, &cell)?);
        }
        let origin = Origin {
            snapshot: match (last, self.first) {
                (true, _) => "last",
                (false, true) => "first",
                (false, false) => "true",
            },
            lsn: self.begun.lsn,
            last_commit: None,
            xid: None,
            micros: self.begun.micros,
        };
        self.first = false;
        let offset = match last {
            true => Arc::new(offset::end_of_snapshot(self.begun.lsn, self.begun.micros)),
            false => Arc::clone(&self.offset),
        };
        let change = (None, Some(values));
        self.reader
            .envelopes
            .push(&mut self.records, table, Operation::Read, change, &origin, offset);
        Ok(())
    }

    async fn finish(mut self, rows: Vec<(String, u64)>) -> Result<u64, Interrupted> {
        if let Some((table, row)) = self.previous.take() {
            self.push(&table, &row, true)?;
        }
        let end = SnapshotEnd {
            rows,
            offset: Arc::new(offset::end_of_snapshot(self.begun.lsn, self.begun.micros)),
            micros: self.begun.micros,
        };
        let records = std::mem::take(&mut self.records);
        self.reader.handoff.hand(Handed::Records(records)).await?;
        self.reader.handoff.hand(Handed::SnapshotEnd(end)).await?;
        Ok(self.begun.lsn)
    }
}
