//! From the reader, which runs on its own, to the task's `poll`, which the runtime may cancel at any time.

use super::error::PostgresError;
use connect_api::record::SourceMap;
use connect_api::{ConnectError, SourceRecord};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};

/// What the reader hands to the task.
pub(super) enum Handed {
    /// records in order
    Records(Vec<SourceRecord>),
    /// the offset of a place that was come to behind all records so far
    Position(Arc<SourceMap>),
    /// the snapshot is complete: markers may follow
    SnapshotEnd(SnapshotEnd),
    /// the reader has ended
    Failed(ConnectError),
}

/// A complete snapshot.
pub(super) struct SnapshotEnd {
    /// rows of each table, `schema.table`
    pub(super) rows: Vec<(String, u64)>,
    /// the offset that says so
    pub(super) offset: Arc<SourceMap>,
    /// microseconds since the epoch when it was begun
    pub(super) micros: i64,
}

/// The reader's end.
pub(super) struct Handoff {
    pub(super) sender: mpsc::Sender<Handed>,
    /// becomes true when the task stops
    pub(super) stop: watch::Receiver<bool>,
    /// see [`Durable`]
    pub(super) durable: Arc<Durable>,
}

/// Up to where, in the log of PostgreSQL, offsets are committed: what PostgreSQL may forget.
#[derive(Default)]
pub(super) struct Durable(AtomicU64);

impl Durable {
    /// A start: nothing before `lsn` will ever be asked for.
    pub(super) fn begin(&self, lsn: u64) {
        self.0.store(lsn, Ordering::Release);
    }

    pub(super) fn advance(&self, lsn: u64) {
        self.0.fetch_max(lsn, Ordering::Release);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The task has stopped: the reader ends without an error.
pub(super) struct Stopped;

/// Why the reader left off.
pub(super) enum Interrupted {
    Stopped,
    Failed(PostgresError),
}

impl From<PostgresError> for Interrupted {
    fn from(error: PostgresError) -> Self {
        Interrupted::Failed(error)
    }
}

impl From<ConnectError> for Interrupted {
    fn from(error: ConnectError) -> Self {
        Interrupted::Failed(PostgresError::Task(error))
    }
}

impl From<Stopped> for Interrupted {
    fn from(_: Stopped) -> Self {
        Interrupted::Stopped
    }
}

impl Handoff {
    /// Hands over; waits while the task is behind.
    pub(super) async fn hand(&mut self, handed: Handed) -> Result<(), Stopped> {
        tokio::select! {
            sent = self.sender.send(handed) => sent.map_err(|_| Stopped),
            () = stopped(&mut self.stop) => Err(Stopped),
        }
    }

    /// Waits, unless the task stops.
    pub(super) async fn sleep(&mut self, duration: std::time::Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = tokio::time::sleep(duration) => Ok(()),
            () = stopped(&mut self.stop) => Err(Stopped),
        }
    }
}

/// Completes when the task stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // an error: the task was dropped
    let _ = stop.wait_for(|stop| *stop).await;
}
