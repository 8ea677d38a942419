//! Reads from PostgreSQL for as long as the task runs, and connects again when the connection is lost.
//!
//! ```text
//!   connect -> requirements -> publication -> tables -> slot -> plan --> snapshot --> stream
//!      ^                                                                               |
//!      '--- back-off, with a warning <--- connection lost, server down, slot in use <--'
//! ```

use super::captured::Captured;
use super::config::{PostgresConfig, SnapshotMode};
use super::connection::{Connection, Purpose};
use super::envelope::Envelopes;
use super::error::PostgresError;
use super::handoff::{Handed, Handoff, Interrupted, stopped};
use super::offset::Resume;
use super::plan::{Plan, SnapshotSlot, plan};
use super::server::{self, OBJECT_IN_USE};
use super::{snapshot, stream, tables};
use connect_api::ConnectError;
use std::sync::Arc;
use std::time::Duration;

/// Waits between two tries to connect: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The state of a reader.
pub(super) struct Reader {
    pub(super) config: PostgresConfig,
    pub(super) envelopes: Envelopes,
    pub(super) handoff: Handoff,
    /// how far records have been handed over, or were committed before
    pub(super) resume: Resume,
    /// whether this run of the task has taken its snapshot
    pub(super) snapshot_taken: bool,
    wait: Duration,
    slot_tries: u32,
}

impl Reader {
    pub(super) fn new(config: PostgresConfig, handoff: Handoff, resume: Resume) -> Self {
        Self {
            envelopes: Envelopes::new(&config),
            config,
            handoff,
            resume,
            snapshot_taken: false,
            wait: FIRST_WAIT,
            slot_tries: 0,
        }
    }

    /// Reads until the task stops; an error that ends the task is handed over as the last thing.
    pub(super) async fn run(mut self) {
        loop {
            let error = match self.read().await {
                Ok(()) | Err(Interrupted::Stopped) => return,
                Err(Interrupted::Failed(error)) => error,
            };
            let wait = match self.wait_after(&error) {
                Some(wait) => wait,
                None => {
                    let error = self.explained(error);
                    let _ = self.handoff.hand(Handed::Failed(error)).await;
                    return;
                }
            };
            tracing::warn!(
                connector = %self.config.prefix, wait_ms = wait.as_millis(),
                "waiting for PostgreSQL, then connecting again: {}", error.explain(&self.config)
            );
            if self.handoff.sleep(wait).await.is_err() {
                return;
            }
        }
    }

    /// How long to wait before the next try; `None` where another try is of no use.
    fn wait_after(&mut self, error: &PostgresError) -> Option<Duration> {
        if error.code() == OBJECT_IN_USE {
            self.slot_tries += 1;
            return (self.slot_tries <= self.config.slot_retries).then_some(self.config.slot_retry_delay);
        }
        if !error.is_passing() {
            return None;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        Some(wait)
    }

    fn explained(&self, error: PostgresError) -> ConnectError {
        if error.code() == OBJECT_IN_USE {
            return ConnectError::fatal(format!(
                "replication slot {} is read by somebody else ({error}): give each connector a slot.name of its own, or stop \
                 the other reader",
                self.config.slot
            ));
        }
        error.into_connect(&self.config)
    }

    /// The connection works: the next loss starts with a short wait again.
    pub(super) fn recovered(&mut self) {
        self.wait = FIRST_WAIT;
        self.slot_tries = 0;
    }

    async fn read(&mut self) -> Result<(), Interrupted> {
        let mut stop = self.handoff.stop.clone();
        let prepared = tokio::select! {
            prepared = self.prepare() => prepared?,
            () = stopped(&mut stop) => return Err(Interrupted::Stopped),
        };
        let (mut connection, captured, planned) = prepared;
        let from = match planned {
            Plan::Finished => return self.rest().await,
            Plan::ChangesLost => {
                return Err(PostgresError::Task(ConnectError::fatal(format!(
                    "replication slot {} does not hold the changes after the committed offset (it is not there, or PostgreSQL \
                     has dropped them by max_slot_wal_keep_size): reset the connector's offsets, or set \
                     snapshot.mode=when_needed, so that a new snapshot is taken",
                    self.config.slot
                ))))?;
            }
            Plan::Stream(from) => {
                self.nothing_before(from);
                from
            }
            Plan::StreamNew => {
                let from = server::create_slot(&mut connection, &self.config, false).await?;
                self.nothing_before(from);
                from
            }
            Plan::Snapshot { slot, stream } => {
                let (end, rows) = snapshot::take(self, &mut connection, &captured, slot).await?;
                self.snapshot_taken = true;
                if rows == 0 {
                    self.nothing_before(end);
                }
                self.resume = Resume::From(end);
                if !stream {
                    connection.close().await;
                    return self.rest().await;
                }
                end
            }
        };
        stream::follow(self, connection, captured, from).await
    }

    /// Where nothing was handed over yet, nothing before the first position has to become durable.
    fn nothing_before(&mut self, from: u64) {
        if self.resume == Resume::Beginning {
            self.handoff.durable.advance(from);
            self.resume = Resume::From(from);
        }
    }

    /// Nothing more to read: waits for the task to stop.
    async fn rest(&mut self) -> Result<(), Interrupted> {
        tracing::info!(connector = %self.config.prefix, "the snapshot is complete, snapshot.mode=initial_only asks for nothing more");
        stopped(&mut self.handoff.stop).await;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<(Connection, Vec<Arc<Captured>>, Plan), PostgresError> {
        let config = &self.config;
        let mode = match config.snapshot {
            SnapshotMode::Always if self.snapshot_taken => SnapshotMode::Initial,
            mode => mode,
        };
        let streams = mode != SnapshotMode::InitialOnly;
        let purpose = if streams {
            Purpose::Replication
        } else {
            Purpose::Queries
        };
        let mut connection = Connection::open(&config.server, purpose).await?;
        connection
            .query("SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0")
            .await?;
        let wanted = tables::wanted(&mut connection, config).await?;
        tables::check_lists(config, &wanted).map_err(|reason| {
            ConnectError::config(format!("Invalid value for configuration table.include.list: {reason}"))
        })?;
        let mut captured = wanted.tables;
        let mut slot = super::plan::Slot::Missing;
        if streams {
            if let Some(missing) = server::requirements(&mut connection, config).await?.into_iter().next() {
                return Err(ConnectError::fatal(format!("{}: {}", missing.option, missing.message)).into());
            }
            server::ensure_publication(&mut connection, config, &captured).await?;
            captured = tables::published(&mut connection, config, captured).await?;
            slot = server::slot(&mut connection, config).await?;
        } else {
            // a partitioned table has no rows but its partitions'
            captured.retain(|table| !table.partitioned);
        }
        let planned = plan(mode, self.resume, slot);
        let replaces = matches!(
            planned,
            Plan::Snapshot {
                slot: SnapshotSlot::New,
                ..
            }
        );
        if replaces && slot == super::plan::Slot::Lost {
            server::drop_slot(&mut connection, config).await?;
        }
        let captured = captured
            .into_iter()
            .map(|table| Captured::new(table, config, &self.envelopes.schemas).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        for table in captured.iter().filter(|table| !table.has_key()) {
            tracing::warn!(
                table = %table.name,
                "the table has no primary key: its records have no key, so a compacted topic refuses them"
            );
        }
        Ok((connection, captured, planned))
    }
}
