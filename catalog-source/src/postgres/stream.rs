//! Changes by logical replication.
//!
//! ```text
//!   START_REPLICATION from where the last whole transaction in Kafka ends
//!     keepalive ---------------------> status: received, durable
//!     Begin, Relation, changes ------> changes: records, handed over when nothing more has arrived or a batch is full
//!     nothing but others' changes ---> a position without a record, so that its offset is committed
//! ```
//! **What PostgreSQL may forget.** Only what the offsets topic has is reported as flushed. Where nothing is captured for a while
//! the position alone is committed, so the slot also advances while only other tables change, and never past the offset:
//! whoever finds it ahead knows that changes are missing.

use super::captured::Captured;
use super::changes::Changes;
use super::config::PostgresConfig;
use super::connection::{Connection, identifier, literal, now_micros};
use super::error::PostgresError;
use super::handoff::{Handed, Interrupted, stopped};
use super::history::{History, Position};
use super::offset::{self, Resume};
use super::reader::Reader;
use super::relations::Reading;
use super::server;
use super::silence::Silence;
use bytes::{Buf, Bytes};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From where to follow changes.
pub(super) struct Start {
    pub(super) lsn: u64,
    pub(super) history: History,
    /// the server's, as 150003
    pub(super) version: u32,
}

/// Follows the changes until the task stops or the connection is lost.
pub(super) async fn follow(
    reader: &mut Reader,
    mut connection: Connection,
    tables: Vec<Arc<Captured>>,
    start: Start,
) -> Result<(), Interrupted> {
    connection.replicate(&start_command(&reader.config, &start)).await?;
    tracing::info!(
        slot = reader.config.slot,
        position = server::format_lsn(start.lsn),
        tables = tables.len(),
        "following changes"
    );
    let mut stream = Stream {
        changes: Changes::new(&reader.config.server, start.history, tables, start.lsn),
        history: start.history,
        received: start.lsn,
        told: start.lsn,
        silence: Silence::new(Instant::now(), reader.config.status_interval),
        reader,
        connection,
    };
    stream.run().await?;
    // what was committed last: a clean stop leaves nothing to be sent again
    stream.report(false).await?;
    stream.changes.close_side_connection().await;
    stream.connection.close().await;
    Ok(())
}

fn start_command(config: &PostgresConfig, start: &Start) -> String {
    format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}{})",
        identifier(&config.slot),
        server::format_lsn(start.lsn),
        // a list of names, as a text
        literal(&identifier(&config.publication)),
        if start.version >= 140_000 {
            ", messages 'true'"
        } else {
            ""
        },
    )
}

struct Stream<'a> {
    reader: &'a mut Reader,
    connection: Connection,
    history: History,
    changes: Changes,
    /// everything that was committed before is read
    received: u64,
    /// the last position that was handed over without a record
    told: u64,
    silence: Silence,
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
                if self.changes.len() > self.reader.config.batch_size {
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
                    self.silence.heard(Instant::now());
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
                let mut read = Reading {
                    config: &self.reader.config,
                    envelopes: &self.reader.envelopes,
                    losses: &mut self.reader.losses,
                };
                self.changes.read(start, &message, &mut read).await?;
                self.received = self.received.max(self.changes.committed().lsn);
            }
            b'k' => {
                // everything that was committed before is sent
                let end = message.try_get_u64().map_err(short)?;
                message.try_get_u64().map_err(short)?;
                let reply = message.try_get_u8().map_err(short)?;
                self.received = self.received.max(end);
                if reply == 1 {
                    self.tell_position();
                    self.report(false).await?;
                }
            }
            other => {
                return Err(PostgresError::Protocol(format!("unknown replication message {other}")))?;
            }
        }
        Ok(())
    }

    /// Hands over what is ready.
    async fn hand_over(&mut self) -> Result<(), Interrupted> {
        let records = self.changes.take_ready();
        if records.is_empty() {
            return Ok(());
        }
        let interval = self.reader.config.status_interval;
        let began = Instant::now();
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
                    if self.changes.between_transactions() {
                        self.reader.resume = Resume::From(self.changes.committed());
                    }
                    self.silence.not_listening(began, Instant::now());
                    return Ok(());
                }
                Ok(Err(_)) => return Err(Interrupted::Stopped),
                Err(_) => self.report(false).await?,
            }
        }
    }

    /// Where no record says how far reading has come, the position alone does. It counts when its offset is committed, behind
    /// the records before it.
    fn tell_position(&mut self) {
        let told = self.told.max(self.changes.recorded());
        if self.received <= told || !self.changes.between_transactions() || self.changes.len() > 0 {
            return;
        }
        let position = Position {
            lsn: self.received,
            history: Some(self.history),
        };
        let offset = Arc::new(offset::between_transactions(&position, now_micros()));
        // a task that is behind has no room: it has records to commit first
        if self.reader.handoff.sender.try_send(Handed::Position(offset)).is_ok() {
            self.told = position.lsn;
            self.changes.come_to(position.lsn);
            self.reader.resume = Resume::From(position);
        }
    }

    /// A sign of life, and a question whether the server is there.
    async fn tick(&mut self) -> Result<(), Interrupted> {
        if self.silence.is_over(Instant::now()) {
            return Err(PostgresError::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the server does not answer",
            )))?;
        }
        self.changes.close_side_connection().await;
        self.tell_position();
        self.report(true).await?;
        Ok(())
    }

    async fn heartbeat(&mut self) -> Result<(), Interrupted> {
        if !self.changes.between_transactions() {
            return Ok(());
        }
        let offset = offset::between_transactions(&self.changes.committed(), now_micros());
        self.changes.add(self.reader.envelopes.heartbeat(Arc::new(offset)));
        self.hand_over().await
    }

    /// Tells PostgreSQL how far it need not go back any more.
    async fn report(&mut self, ask: bool) -> Result<(), PostgresError> {
        let durable = self.reader.handoff.durable.get();
        self.connection.send_status(self.received, durable, ask).await
    }
}
