//! Messages of the replication stream to records.
//!
//! ```text
//!   Begin ------------------> a transaction is under way
//!   Relation ---------------> StreamedTable, by what the catalog says now
//!   Insert, Update, Delete --> records; all but a change's last one say that the change before it is the last whole one
//!   Message ----------------> a record of its own topic
//!   Commit -----------------> the transaction's last record says that the transaction is whole
//! ```

use super::captured::{Captured, RowValues};
use super::connection::{POSTGRES_EPOCH_MICROS, Server};
use super::envelope::{Operation, Origin, key_header};
use super::error::PostgresError;
use super::history::{History, Position};
use super::offset::{self, Place};
use super::pgoutput::{self, LogicalMessage, Message, Relation};
use super::relations::{Reading, StreamedTable};
use super::side_connection::SideConnection;
use connect_api::record::SourceMap;
use connect_api::{Datum, SourceRecord};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A transaction under way.
#[derive(Clone, Copy)]
struct Transaction {
    xid: u32,
    /// since 1970
    micros: i64,
    /// whether it has a record
    has_records: bool,
}

/// What has been read of the stream, and the records made of it.
pub(super) struct Changes {
    history: History,
    /// newest versions of tables
    known: Vec<Arc<Captured>>,
    relations: FxHashMap<u32, Option<StreamedTable>>,
    side: SideConnection,
    records: Vec<SourceRecord>,
    transaction: Option<Transaction>,
    /// end of the last transaction that was read, or a later place between transactions
    committed: u64,
    /// the last change, all of whose records are made
    processed: u64,
    /// end of the last transaction that has a record
    recorded: u64,
}

impl Changes {
    /// At `from`, where `tables` look as the catalog had them last.
    pub(super) fn new(server: &Server, history: History, tables: Vec<Arc<Captured>>, from: u64) -> Self {
        Self {
            history,
            known: tables,
            relations: FxHashMap::default(),
            side: SideConnection::new(server.clone()),
            records: Vec::new(),
            transaction: None,
            committed: from,
            processed: from,
            recorded: from,
        }
    }

    /// Records that are ready or kept back.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no transaction is under way.
    pub(super) fn between_transactions(&self) -> bool {
        self.transaction.is_none()
    }

    /// Where the last transaction has ended.
    pub(super) fn committed(&self) -> Position {
        self.position(self.committed)
    }

    /// Where the last transaction has ended that has a record.
    pub(super) fn recorded(&self) -> u64 {
        self.recorded
    }

    /// A place between transactions, up to which everything was read.
    pub(super) fn come_to(&mut self, lsn: u64) {
        self.committed = self.committed.max(lsn);
    }

    fn position(&self, lsn: u64) -> Position {
        Position {
            lsn,
            history: Some(self.history),
        }
    }

    /// Adds a record that belongs to no change.
    pub(super) fn add(&mut self, record: SourceRecord) {
        self.records.push(record);
    }

    /// Takes the records that are ready. Within a transaction the last one is kept back: it may have to say that the transaction
    /// is whole.
    pub(super) fn take_ready(&mut self) -> Vec<SourceRecord> {
        let keep = match self.transaction {
            Some(transaction) if transaction.has_records => self.records.pop(),
            _ => None,
        };
        std::mem::replace(&mut self.records, keep.into_iter().collect())
    }

    /// Questions to the catalog are over for now.
    pub(super) async fn close_side_connection(&mut self) {
        self.side.close().await;
    }

    /// Takes in the message that begins at `lsn`.
    pub(super) async fn read(&mut self, lsn: u64, message: &[u8], read: &mut Reading<'_>) -> Result<(), PostgresError> {
        match pgoutput::decode(message).map_err(PostgresError::Protocol)? {
            Message::Begin { commit_time, xid, .. } => {
                self.transaction = Some(Transaction {
                    xid,
                    micros: commit_time.saturating_add(POSTGRES_EPOCH_MICROS),
                    has_records: false,
                });
            }
            Message::Commit { end_lsn } => self.commit(end_lsn),
            Message::Relation(relation) => self.relation(&relation, read).await?,
            Message::Insert { relation, new } => {
                if let Some(Some(table)) = self.relations.get_mut(&relation) {
                    let change = table.inserted(new, &mut self.side, read).await?;
                    let captured = Arc::clone(&table.captured);
                    if let Some(change) = change {
                        let change = (None, Some(change.after));
                        self.push(&captured, lsn, Operation::Create, change, read);
                    }
                }
            }
            Message::Update { relation, old, new } => {
                if let Some(Some(table)) = self.relations.get_mut(&relation) {
                    let change = table.updated(old, new, &mut self.side, read).await?;
                    let captured = Arc::clone(&table.captured);
                    match change.map(|change| (change.before, change.after)) {
                        None => {}
                        Some((Some(before), after)) if !captured.same_key(&before, &after) => {
                            self.moved(&captured, lsn, before, after, read);
                        }
                        Some((before, after)) => {
                            self.push(&captured, lsn, Operation::Update, (before, Some(after)), read);
                        }
                    }
                }
            }
            Message::Delete { relation, old } => {
                if let Some(Some(table)) = self.relations.get_mut(&relation) {
                    let before = table.deleted(old, &mut self.side, read).await?;
                    let captured = Arc::clone(&table.captured);
                    if let Some(before) = before {
                        self.push(&captured, lsn, Operation::Delete, (Some(before), None), read);
                    }
                }
            }
            Message::Truncate { relations } => {
                for table in relations.iter().filter_map(|oid| self.relations.get(oid)).flatten() {
                    tracing::warn!(
                        table = %table.captured.name,
                        "the table was truncated: its rows stay in the topic, because a truncate names no keys; use DELETE"
                    );
                }
            }
            Message::Logical(message) => self.logical(lsn, &message, read),
            Message::Other => {}
        }
        Ok(())
    }

    async fn relation(&mut self, relation: &Relation, read: &mut Reading<'_>) -> Result<(), PostgresError> {
        let same =
            |known: &&Arc<Captured>| *known.name.schema == *relation.schema && *known.name.table == *relation.table;
        let known = self.known.iter().find(same);
        let table = StreamedTable::new(relation, known, read.config, read.envelopes, &mut self.side).await?;
        if let Some(table) = &table {
            self.known.retain(|known| known.name != table.captured.name);
            self.known.push(Arc::clone(&table.captured));
        }
        self.relations.insert(relation.oid, table);
        Ok(())
    }

    fn commit(&mut self, end: u64) {
        let has_records = self
            .transaction
            .take()
            .is_some_and(|transaction| transaction.has_records);
        let end_position = self.position(end);
        if let Some(last) = self.records.last_mut().filter(|_| has_records) {
            offset::ends_transaction(Arc::make_mut(&mut last.source_offset), &end_position);
            self.recorded = end;
        }
        self.committed = self.committed.max(end);
    }

    /// A row that got another key is a delete under the old and a create under the new one (Debezium does the same).
    fn moved(&mut self, table: &Captured, lsn: u64, before: RowValues, after: RowValues, read: &Reading<'_>) {
        let (old_key, new_key) = (table.key(&before), table.key(&after));
        let start = self.records.len();
        self.add_records(table, lsn, Operation::Delete, (Some(before), None), read);
        mark(self.records.get_mut(start..), "__debezium.newkey", &new_key);
        let created = self.records.len();
        self.add_records(table, lsn, Operation::Create, (None, Some(after)), read);
        mark(self.records.get_mut(created..), "__debezium.oldkey", &old_key);
        self.finish_change(lsn, Operation::Create.message_type(), start);
    }

    fn push(
        &mut self,
        table: &Captured,
        lsn: u64,
        operation: Operation,
        change: (Option<RowValues>, Option<RowValues>),
        read: &Reading<'_>,
    ) {
        let start = self.records.len();
        self.add_records(table, lsn, operation, change, read);
        self.finish_change(lsn, operation.message_type(), start);
    }

    /// Adds records whose offsets say that their change is whole.
    fn add_records(
        &mut self,
        table: &Captured,
        lsn: u64,
        operation: Operation,
        change: (Option<RowValues>, Option<RowValues>),
        read: &Reading<'_>,
    ) {
        let code = operation.code();
        if read.config.skipped.iter().any(|skipped| skipped == code) {
            return;
        }
        let offset = self.offset_of(lsn, lsn, operation.message_type());
        let origin = self.origin(lsn);
        let records = &mut self.records;
        read.envelopes.push(records, table, operation, change, &origin, offset);
    }

    /// The records from `start` on are those of a change.
    fn finish_change(&mut self, lsn: u64, message_type: &str, start: usize) {
        let count = self.records.len().saturating_sub(start);
        if count > 1 {
            // Debezium skips what its offset says was processed: a part of a change is not
            let unfinished = self.offset_of(lsn, self.processed, message_type);
            for record in self.records.iter_mut().skip(start).take(count - 1) {
                record.source_offset = Arc::clone(&unfinished);
            }
        }
        if let Some(transaction) = self.transaction.as_mut().filter(|_| count > 0) {
            transaction.has_records = true;
        }
        self.processed = lsn;
    }

    fn origin(&self, lsn: u64) -> Origin {
        Origin {
            snapshot: "false",
            lsn,
            last_commit: Some(self.committed),
            xid: self.transaction.map(|transaction| transaction.xid),
            micros: self
                .transaction
                .map_or_else(super::connection::now_micros, |transaction| transaction.micros),
        }
    }

    fn offset_of(&self, lsn: u64, processed: u64, message_type: &str) -> Arc<SourceMap> {
        let place = Place {
            lsn,
            processed,
            last_commit: self.committed,
            xid: self.transaction.map(|transaction| transaction.xid),
            micros: self
                .transaction
                .map_or_else(super::connection::now_micros, |transaction| transaction.micros),
        };
        Arc::new(offset::of_change(&place, message_type))
    }

    /// A message within a transaction becomes whole with it; one that stands alone is whole at once.
    fn logical(&mut self, lsn: u64, message: &LogicalMessage<'_>, read: &Reading<'_>) {
        if !message.transactional {
            self.come_to(lsn);
        }
        if read.config.capture.takes_message(&message.prefix) {
            let offset = self.offset_of(lsn, lsn, offset::MESSAGE);
            let start = self.records.len();
            self.records
                .push(read.envelopes.message(message, &self.origin(lsn), offset));
            self.finish_change(lsn, offset::MESSAGE, start);
        }
        if !message.transactional {
            self.come_to(lsn.saturating_add(1));
        }
    }
}

fn mark(records: Option<&mut [SourceRecord]>, name: &str, key: &Datum) {
    for record in records.into_iter().flatten() {
        record.headers.extend(key_header(name, key));
    }
}
