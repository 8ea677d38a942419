//! The status topic: its records folded into a table, and a queue of writes that keeps their order and never waits.

use super::status_table::{StatusRecord, StatusTable};
use super::{InternalTopic, StorageError};
use crate::config::WorkerConfig;
use kafka_client::{LogClients, LogRecord, TopicLog};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Writes that are under way at the same time.
const CONCURRENT_WRITES: usize = 256;
/// Time after which the outcome of a write is no longer waited for.
const WRITE_BUDGET: Duration = Duration::from_secs(60);

enum Write {
    Record(StatusRecord),
    Flush(oneshot::Sender<()>),
}

/// Reads and writes the status topic.
pub struct StatusTopic {
    table: Arc<RwLock<StatusTable>>,
    writes: mpsc::UnboundedSender<Write>,
    queued: AtomicU64,
}

impl StatusTopic {
    /// Reads the whole topic, then follows it.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub async fn start(clients: &LogClients, worker: &WorkerConfig) -> Result<Self, StorageError> {
        let table = Arc::new(RwLock::new(StatusTable::default()));
        let folded = Arc::clone(&table);
        let log = TopicLog::start_on(
            clients,
            InternalTopic::Status.name(worker),
            Box::new(move |record: LogRecord| {
                match StatusRecord::decode(record.key.as_deref().unwrap_or_default(), record.value.as_deref()) {
                    Some(decoded) => folded.write().apply(decoded),
                    None => tracing::warn!(
                        topic = %record.topic,
                        partition = record.partition,
                        offset = record.offset,
                        "record of the status topic is dropped"
                    ),
                }
            }),
        )
        .await?;
        let (writes, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_in_order(log, queue));
        Ok(Self {
            table,
            writes,
            queued: AtomicU64::new(0),
        })
    }

    /// The statuses, shared: as of the last record read.
    pub fn table(&self) -> Arc<RwLock<StatusTable>> {
        Arc::clone(&self.table)
    }

    /// Queues a write. Writes of one key keep their order.
    pub fn put(&self, record: StatusRecord) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        // the queue ends only with the worker
        let _ = self.writes.send(Write::Record(record));
    }

    /// How many writes have been queued.
    pub fn writes(&self) -> u64 {
        self.queued.load(Ordering::Acquire)
    }

    /// Returns when everything queued so far is written and read back, or after `timeout`.
    pub async fn flush(&self, timeout: Duration) {
        let (done, flushed) = oneshot::channel();
        if self.writes.send(Write::Flush(done)).is_ok() && tokio::time::timeout(timeout, flushed).await.is_err() {
            tracing::warn!("statuses could not be written in time");
        }
    }
}

async fn write_in_order(log: TopicLog, mut queue: mpsc::UnboundedReceiver<Write>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, CONCURRENT_WRITES).await > 0 {
        let mut flushes = Vec::new();
        let sends = batch.drain(..).filter_map(|write| match write {
            Write::Record(record) => Some(record.encode()),
            Write::Flush(done) => {
                flushes.push(done);
                None
            }
        });
        // sends are started in order; only their acknowledgements are waited for together
        let sends: Vec<_> = sends
            .map(|(key, value)| {
                let log = &log;
                async move {
                    match tokio::time::timeout(WRITE_BUDGET, log.send(Some(key.as_bytes()), value.as_deref())).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => tracing::error!(%key, %error, "status could not be written"),
                        Err(_) => tracing::error!(%key, "status could not be written in time"),
                    }
                }
            })
            .collect();
        futures::future::join_all(sends).await;
        if !flushes.is_empty() {
            if let Err(error) = log.read_to_end().await {
                tracing::warn!(%error, "statuses could not be read back");
            }
            for done in flushes {
                // nobody waits any more
                let _ = done.send(());
            }
        }
    }
    log.stop().await;
}
