//! Reads from PostgreSQL for as long as the task runs, and connects again when the connection is lost.
//!
//! ```text
//!   connect -> requirements -> tables -> publication -> slot, log -> plan --> snapshot --> stream
//!      ^                                                                          |
//!      '--- back-off, with a warning <--- connection lost, server down, slot in use
//! ```

use super::captured::{self, Captured, NothingLeft};
use super::config::{PostgresConfig, SnapshotMode};
use super::connection::{Connection, Purpose};
use super::envelope::Envelopes;
use super::error::PostgresError;
use super::handoff::{Handed, Handoff, Interrupted, stopped};
use super::history::{Gap, Position, ServerLog};
use super::losses::Losses;
use super::offset::Resume;
use super::plan::{Choices, Plan, Slot, SnapshotSlot, plan};
use super::server::{self, OBJECT_IN_USE};
use super::stream::Start;
use super::tables::Table;
use super::{snapshot, stream, tables};
use connect_api::ConnectError;
use std::sync::Arc;
use std::time::Duration;

/// Waits between two tries to connect: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Between two looks whether there is a table to capture.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The state of a reader.
pub(super) struct Reader {
    pub(super) config: PostgresConfig,
    pub(super) envelopes: Envelopes,
    pub(super) losses: Losses,
    pub(super) handoff: Handoff,
    /// how far records have been handed over, or were committed before
    pub(super) resume: Resume,
    /// whether this run of the task has taken its snapshot
    pub(super) snapshot_taken: bool,
    /// whether this run of the task has been connected before
    connected_before: bool,
    wait: Duration,
    slot_tries: u32,
}

/// A connection on which everything is ready.
struct Prepared {
    connection: Connection,
    captured: Vec<Arc<Captured>>,
    planned: Plan,
    log: ServerLog,
    /// of the server
    version: u32,
}

impl Reader {
    pub(super) fn new(config: PostgresConfig, handoff: Handoff, resume: Resume) -> Self {
        Self {
            envelopes: Envelopes::new(&config),
            losses: Losses::new(&config.prefix),
            config,
            handoff,
            resume,
            snapshot_taken: false,
            connected_before: false,
            wait: FIRST_WAIT,
            slot_tries: 0,
        }
    }

    /// Reads until the task stops; an error that ends the task is handed over as the last thing.
    pub(super) async fn run(mut self) {
        self.read_on().await;
        self.losses.summarise();
    }

    async fn read_on(&mut self) {
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
        let Prepared {
            mut connection,
            mut captured,
            planned,
            log,
            version,
        } = prepared;
        let from = match planned {
            Plan::Finished => return self.rest().await,
            Plan::ChangesLost(gap) => return Err(PostgresError::Task(ConnectError::fatal(self.lost(gap))))?,
            Plan::Stream { from, gap } => {
                self.warn_of(gap, "these are given up");
                self.begin(from, gap.is_some(), &log);
                from
            }
            Plan::StreamNew { gap } => {
                self.warn_of(gap, "these are given up");
                let from = server::create_slot(&mut connection, &self.config, false).await?;
                self.begin(from, gap.is_some(), &log);
                from
            }
            Plan::Snapshot { slot, stream, gap } => {
                self.check_same_run(gap)?;
                self.warn_of(
                    gap,
                    "a new snapshot brings every row up to date, but rows that were deleted meanwhile stay in the topics",
                );
                let end = snapshot::take(self, &mut connection, &mut captured, slot, &log).await?;
                self.snapshot_taken = true;
                self.resume = Resume::From(end);
                if !stream {
                    connection.close().await;
                    return self.rest().await;
                }
                end.lsn
            }
        };
        let start = Start {
            lsn: from,
            history: log.history,
            version,
        };
        stream::follow(self, connection, captured, start).await
    }

    /// Before the first change of a run: nothing before the position where it begins has to become durable, and where nothing
    /// was committed, or what was is given up, it is where to go on.
    fn begin(&mut self, from: u64, given_up: bool, log: &ServerLog) {
        if !self.connected_before {
            self.handoff.durable.begin(from);
        }
        self.connected_before = true;
        if given_up || self.resume == Resume::Beginning {
            self.resume = Resume::From(Position {
                lsn: from,
                history: Some(log.history),
            });
        }
    }

    /// Offsets of this run may still be on their way to Kafka: they must not be taken for ones of another log.
    fn check_same_run(&mut self, gap: Option<Gap>) -> Result<(), PostgresError> {
        let first = !std::mem::replace(&mut self.connected_before, true);
        match gap {
            Some(gap @ (Gap::LogEndsBefore(_) | Gap::OtherServer | Gap::OtherTimeline { .. })) if !first => {
                Err(PostgresError::Task(ConnectError::fatal(format!(
                    "{}; restart the task, which takes a new snapshot then",
                    self.lost(gap)
                ))))
            }
            _ => {
                if first {
                    self.handoff.durable.begin(0);
                }
                Ok(())
            }
        }
    }

    /// What is missing, and what to do about it.
    fn lost(&self, gap: Gap) -> String {
        format!(
            "{}: reset the connector's offsets, or set snapshot.mode=when_needed, so that a new snapshot is taken",
            self.describe(gap)
        )
    }

    fn describe(&self, gap: Gap) -> String {
        let slot = &self.config.slot;
        let committed = match self.resume {
            Resume::From(position) => format!("the committed offset {}", server::format_lsn(position.lsn)),
            Resume::Beginning => "the committed offset".to_owned(),
        };
        match gap {
            Gap::SlotMissing => format!(
                "replication slot {slot} does not hold the changes after {committed}: there is no such slot, somebody has dropped it"
            ),
            Gap::SlotLost => format!(
                "replication slot {slot} does not hold the changes after {committed}: PostgreSQL has dropped them by \
                 max_slot_wal_keep_size"
            ),
            Gap::SlotAhead(from) => format!(
                "replication slot {slot} does not hold the changes after {committed}: it holds those after {} only, because it was \
                 made again or advanced, or the offset was set back (if none is missing, offset.mismatch.strategy=trust_slot \
                 goes on from there)",
                server::format_lsn(from)
            ),
            Gap::LogEndsBefore(end) => format!(
                "the server's log ends at {}, before {committed}: the server was restored from a backup, or is another one",
                server::format_lsn(end)
            ),
            Gap::OtherServer => format!("{committed} is one of another server (its system identifier differs)"),
            Gap::OtherTimeline { left_at } => format!(
                "{committed} lies on a timeline that this server {}: it was restored from a backup, or took over from one that had \
                 come further",
                left_at.map_or("has never had".to_owned(), |at| format!(
                    "has left at {}",
                    server::format_lsn(at)
                ))
            ),
        }
    }

    fn warn_of(&self, gap: Option<Gap>, consequence: &str) {
        if let Some(gap) = gap {
            tracing::warn!(connector = %self.config.prefix, "{}; {consequence}", self.describe(gap));
        }
    }

    /// Nothing more to read: waits for the task to stop.
    async fn rest(&mut self) -> Result<(), Interrupted> {
        tracing::info!(connector = %self.config.prefix, "the snapshot is complete, snapshot.mode=initial_only asks for nothing more");
        stopped(&mut self.handoff.stop).await;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<Prepared, PostgresError> {
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
        let mut tables = self.tables(&mut connection).await?;
        let (mut slot, mut log, mut version) = (Slot::Missing, ServerLog::default(), 0);
        if streams {
            if let Some(missing) = server::requirements(&mut connection, config).await?.into_iter().next() {
                return Err(ConnectError::fatal(format!("{}: {}", missing.option, missing.message)).into());
            }
            server::ensure_publication(&mut connection, config, &tables).await?;
            let strict = self.resume == Resume::Beginning && !self.connected_before;
            tables = tables::published(&mut connection, config, tables, strict).await?;
            slot = server::slot(&mut connection, config).await?.free(config)?;
            log = server::log(&mut connection).await?;
            version = server::version(&mut connection).await?;
        } else {
            // a partitioned table has no rows but its partitions'
            tables.retain(|table| !table.partitioned);
        }
        let choices = Choices {
            mode,
            mismatch: config.mismatch,
            drops_slot: config.drop_slot_on_stop,
        };
        let planned = plan(choices, self.resume, slot, &log);
        let replaces = matches!(
            planned,
            Plan::Snapshot {
                slot: SnapshotSlot::New,
                ..
            }
        );
        if replaces && slot == Slot::Lost {
            server::drop_slot(&mut connection, config).await?;
        }
        Ok(Prepared {
            connection,
            captured: self.captured(tables),
            planned,
            log,
            version,
        })
    }

    /// The tables that the lists name. As long as there is none, and nothing was captured yet, it waits for one.
    async fn tables(&self, connection: &mut Connection) -> Result<Vec<Table>, PostgresError> {
        let (config, mut waited) = (&self.config, false);
        loop {
            let wanted = tables::wanted(connection, config).await?;
            if wanted.tables.is_empty() && self.resume == Resume::Beginning {
                if !std::mem::replace(&mut waited, true) {
                    tracing::warn!(
                        connector = %config.prefix, database = config.server.database,
                        "no table is captured by these lists yet: waiting for one"
                    );
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
            for table in tables::missing(config, &wanted) {
                tracing::warn!(
                    connector = %config.prefix, table,
                    "table.include.list names a table that is not there (any more): the others are followed"
                );
            }
            return Ok(wanted.tables);
        }
    }

    fn captured(&self, tables: Vec<Table>) -> Vec<Arc<Captured>> {
        let mut all = Vec::with_capacity(tables.len());
        for table in tables {
            match Captured::new(table, &self.config, &self.envelopes.schemas) {
                Ok((captured, left_out)) => {
                    captured::warn_of(&captured, &left_out);
                    all.push(Arc::new(captured));
                }
                Err(NothingLeft(table)) => {
                    tracing::warn!(%table, "no column of the table can be captured: it is left out");
                }
            }
        }
        all
    }
}
