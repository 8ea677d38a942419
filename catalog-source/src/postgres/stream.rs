//! Changes by logical replication.
//!
//! ```text
//!   START_REPLICATION from where the last whole transaction in Kafka ends
//!     keepalive ---------------------> status: received, durable
//!     Begin, Relation, changes ------> records, handed over when nothing more has arrived or a batch is full
//!     Commit ------------------------> the transaction's last record says that the transaction is whole
//! ```
//! **What PostgreSQL may forget.** Only what the runtime has committed is reported as flushed, or, when every record handed
//! over is committed, everything received: so the slot also advances while only other tables change.

use super::captured::Captured;
use super::config::PostgresConfig;
use super::connection::{Connection, POSTGRES_EPOCH_MICROS, literal};
use super::envelope::{Operation, Origin, key_header};
use super::error::PostgresError;
use super::handoff::{Handed, Interrupted, stopped};
use super::offset::{self, Place, Resume};
use super::pgoutput::{self, Message, OldRow};
use super::reader::Reader;
use super::relations::StreamedTable;
use super::server;
use bytes::{Buf, Bytes};
use connect_api::{Datum, SourceRecord};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that says nothing for this long, though it was asked, is lost.
const SILENCE: Duration = Duration::from_secs(60);

/// Follows the changes after `from` until the task stops or the connection is lost.
pub(super) async fn follow(
    reader: &mut Reader,
    mut connection: Connection,
    tables: Vec<Arc<Captured>>,
    from: u64,
) -> Result<(), Interrupted> {
    connection.replicate(&start_command(&reader.config, from)).await?;
    tracing::info!(
        slot = reader.config.slot,
        position = server::format_lsn(from),
        tables = tables.len(),
        "following changes"
    );
    let mut stream = Stream {
        known: tables,
        relations: FxHashMap::default(),
        records: Vec::new(),
        transaction: None,
        committed: from,
        handed: from,
        received: from,
        heard: Instant::now(),
        reader,
        connection,
    };
    stream.run().await?;
    // what was committed last: a clean stop leaves nothing to be sent again
    stream.report(false).await?;
    stream.connection.close().await;
    Ok(())
}

fn start_command(config: &PostgresConfig, from: u64) -> String {
    format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {})",
        super::connection::identifier(&config.slot),
        server::format_lsn(from),
        // a list of names, as a text
        literal(&super::connection::identifier(&config.publication))
    )
}

/// A transaction under way.
#[derive(Clone, Copy)]
struct Transaction {
    xid: u32,
    /// since 1970
    micros: i64,
}

struct Stream<'a> {
    reader: &'a mut Reader,
    connection: Connection,
    /// as read before the stream began
    known: Vec<Arc<Captured>>,
    relations: FxHashMap<u32, Option<StreamedTable>>,
    records: Vec<SourceRecord>,
    transaction: Option<Transaction>,
    /// end of the last transaction that was read
    committed: u64,
    /// end of the last transaction of which a record was handed over, or is about to be
    handed: u64,
    received: u64,
    heard: Instant,
}

impl Stream<'_> {
    async fn run(&mut self) -> Result<(), Interrupted> {
        let mut stop = self.reader.handoff.stop.clone();
        let mut status = tokio::time::interval(self.reader.config.status_interval);
        status.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let heartbeat = self.reader.config.heartbeat;
        let mut heartbeats = tokio::time::interval(heartbeat.unwrap_or(Duration::from_secs(3600)));
        heartbeats.reset(); // the first one after an interval
        loop {
            while let Some(message) = self.connection.arrived_message()? {
                self.take(message).await?;
                if self.records.len() > self.reader.config.batch_size {
                    self.hand_over().await?;
                }
            }
            self.hand_over().await?;
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                _ = status.tick() => self.tick().await?,
                _ = heartbeats.tick(), if heartbeat.is_some() => self.heartbeat().await?,
                received = self.connection.receive() => {
                    received?;
                    self.heard = Instant::now();
                    self.reader.recovered();
                }
            }
        }
    }

    async fn take(&mut self, mut message: Bytes) -> Result<(), Interrupted> {
        let short = |_| PostgresError::Protocol("a replication message ends early".to_owned());
        match message.try_get_u8().map_err(short)? {
            b'w' => {
                let start = message.try_get_u64().map_err(short)?;
                // the end of the log as the server sees it may be ahead of what it has sent
                message.try_get_u64().map_err(short)?;
                message.try_get_u64().map_err(short)?;
                self.change(start, &message).await?;
            }
            b'k' => {
                // everything that was committed before is sent
                let end = message.try_get_u64().map_err(short)?;
                message.try_get_u64().map_err(short)?;
                let reply = message.try_get_u8().map_err(short)?;
                self.received = self.received.max(end);
                if reply == 1 {
                    self.report(false).await?;
                }
            }
            other => {
                return Err(PostgresError::Protocol(format!("unknown replication message {other}")))?;
            }
        }
        Ok(())
    }

    async fn change(&mut self, lsn: u64, message: &[u8]) -> Result<(), Interrupted> {
        let message = pgoutput::decode(message).map_err(PostgresError::Protocol)?;
        match message {
            Message::Begin { commit_time, xid, .. } => {
                let micros = commit_time.saturating_add(POSTGRES_EPOCH_MICROS);
                self.transaction = Some(Transaction { xid, micros });
            }
            Message::Commit { end_lsn, .. } => self.commit(end_lsn),
            Message::Relation(relation) => {
                let same = |known: &&Arc<Captured>| {
                    *known.name.schema == *relation.schema && *known.name.table == *relation.table
                };
                let known = self.known.iter().find(same).cloned();
                let reader = &self.reader;
                let table = StreamedTable::new(&relation, known, &reader.config, &reader.envelopes).await?;
                if let Some(table) = &table {
                    self.known.retain(|known| known.name != table.captured.name);
                    self.known.push(Arc::clone(&table.captured));
                }
                self.relations.insert(relation.oid, table);
            }
            Message::Insert { relation, new } => {
                if let Some(Some(table)) = self.relations.get_mut(&relation) {
                    let after = table.row(&new, None)?;
                    let captured = Arc::clone(&table.captured);
                    self.push(&captured, lsn, Operation::Create, (None, Some(after)));
                }
            }
            Message::Update { relation, old, new } => {
                if let Some(Some(table)) = self.relations.get_mut(&relation) {
                    let (before, after) = match &old {
                        None => (None, table.row(&new, None)?),
                        Some(OldRow::Key(old)) => (Some(table.key_row(old)?), table.row(&new, None)?),
                        Some(OldRow::Full(old)) => (Some(table.row(old, None)?), table.row(&new, Some(old))?),
                    };
                    let captured = Arc::clone(&table.captured);
                    match before {
                        Some(before) if !captured.same_key(&before, &after) => {
                            self.moved(&captured, lsn, before, after)
                        }
                        before => self.push(&captured, lsn, Operation::Update, (before, Some(after))),
                    }
                }
            }
            Message::Delete { relation, old } => {
                if let Some(Some(table)) = self.relations.get_mut(&relation) {
                    let before = match &old {
                        OldRow::Key(old) => table.key_row(old)?,
                        OldRow::Full(old) => table.row(old, None)?,
                    };
                    let captured = Arc::clone(&table.captured);
                    self.push(&captured, lsn, Operation::Delete, (Some(before), None));
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
            Message::Other => {}
        }
        Ok(())
    }

    fn commit(&mut self, end: u64) {
        let records_of_it = self.transaction.take().is_some() && self.handed > self.committed;
        if let Some(last) = self.records.last_mut().filter(|_| records_of_it) {
            offset::ends_transaction(Arc::make_mut(&mut last.source_offset), end);
            self.handed = end;
        }
        self.committed = end;
        self.received = self.received.max(end);
    }

    /// A row that got another key is a delete under the old and a create under the new one (Debezium does the same).
    fn moved(&mut self, table: &Captured, lsn: u64, before: Vec<connect_api::Value>, after: Vec<connect_api::Value>) {
        let (old_key, new_key) = (table.key(&before), table.key(&after));
        let mark = |records: &mut [SourceRecord], name: &str, key: &Datum| {
            if let Some(record) = records.first_mut() {
                record.headers.extend(key_header(name, key));
            }
        };
        let at = self.records.len();
        self.push(table, lsn, Operation::Delete, (Some(before), None));
        mark(
            self.records.get_mut(at..).unwrap_or_default(),
            "__debezium.newkey",
            &new_key,
        );
        let at = self.records.len();
        self.push(table, lsn, Operation::Create, (None, Some(after)));
        mark(
            self.records.get_mut(at..).unwrap_or_default(),
            "__debezium.oldkey",
            &old_key,
        );
    }

    fn push(
        &mut self,
        table: &Captured,
        lsn: u64,
        operation: Operation,
        change: (Option<Vec<connect_api::Value>>, Option<Vec<connect_api::Value>>),
    ) {
        if self
            .reader
            .config
            .skipped
            .iter()
            .any(|skipped| skipped == operation.code())
        {
            return;
        }
        let transaction = self.transaction.unwrap_or(Transaction { xid: 0, micros: 0 });
        let place = Place {
            lsn,
            last_commit: self.committed,
            xid: transaction.xid,
            micros: transaction.micros,
        };
        let origin = Origin {
            snapshot: "false",
            lsn,
            last_commit: Some(self.committed),
            xid: Some(transaction.xid),
            micros: transaction.micros,
        };
        let message_type = match operation {
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Create | Operation::Read => "INSERT",
        };
        let offset = Arc::new(offset::of_change(&place, message_type));
        self.reader
            .envelopes
            .push(&mut self.records, table, operation, change, &origin, offset);
        // more than what is committed: something of the transaction is under way
        self.handed = self.handed.max(self.committed + 1);
    }

    /// Hands records over. Within a transaction the last one is kept back: it may have to say that the transaction is whole.
    async fn hand_over(&mut self) -> Result<(), Interrupted> {
        let keep = match self.transaction {
            Some(_) if self.handed > self.committed => self.records.pop(),
            _ => None,
        };
        if self.records.is_empty() {
            self.records.extend(keep);
            return Ok(());
        }
        let records = std::mem::replace(&mut self.records, keep.into_iter().collect());
        let interval = self.reader.config.status_interval;
        loop {
            // the task may be behind for longer than PostgreSQL waits for a sign of life
            let permit = self.reader.handoff.sender.clone().reserve_owned();
            let mut stop = self.reader.handoff.stop.clone();
            let permit = tokio::select! {
                permit = tokio::time::timeout(interval, permit) => permit,
                () = stopped(&mut stop) => return Err(Interrupted::Stopped),
            };
            match permit {
                Ok(Ok(permit)) => {
                    permit.send(Handed::Records(records));
                    if self.transaction.is_none() {
                        self.reader.resume = Resume::From(self.committed);
                    }
                    return Ok(());
                }
                Ok(Err(_)) => return Err(Interrupted::Stopped),
                Err(_) => self.report(false).await?,
            }
        }
    }

    /// A sign of life, and a question whether the server is there.
    async fn tick(&mut self) -> Result<(), Interrupted> {
        if self.heard.elapsed() > SILENCE.max(self.reader.config.status_interval * 3) {
            return Err(PostgresError::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the server does not answer",
            )))?;
        }
        self.report(true).await?;
        Ok(())
    }

    async fn heartbeat(&mut self) -> Result<(), Interrupted> {
        if self.transaction.is_some() {
            return Ok(());
        }
        let place = Place {
            lsn: self.committed,
            last_commit: self.committed,
            xid: 0,
            micros: super::connection::now_micros(),
        };
        let offset = Arc::new(offset::of_change(&place, "NOOP"));
        self.records.push(self.reader.envelopes.heartbeat(offset));
        self.hand_over().await
    }

    /// Tells PostgreSQL how far it need not go back any more.
    async fn report(&mut self, ask: bool) -> Result<(), PostgresError> {
        let mut durable = self.reader.handoff.durable.get();
        let nothing_under_way = durable >= self.handed && self.records.is_empty() && self.transaction.is_none();
        if nothing_under_way {
            durable = durable.max(self.received);
            self.reader.handoff.durable.advance(durable);
            self.handed = self.handed.max(durable);
            self.committed = self.committed.max(durable);
        }
        self.connection.send_status(self.received, durable, ask).await
    }
}
