//! The status topic: its records folded into a table, and a queue of writes that keeps their order and never waits.

use super::{InternalTopic, StorageError};
use crate::config::WorkerConfig;
use crate::records::status_table::{StatusRecord, StatusTable};
use kafka_client::{LogClients, LogRecord, TopicLog};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// Writes that are under way at the same time.
const CONCURRENT_WRITES: usize = 256;
/// Time after which a write that is still under way is spoken of.
const SLOW_WRITE: Duration = Duration::from_secs(60);

enum Write {
    Record(StatusRecord),
    Flush(oneshot::Sender<()>),
    /// the last one: nothing is written any more
    Stop(oneshot::Sender<()>),
}

/// Reads and writes the status topic.
pub struct StatusTopic {
    table: Arc<RwLock<StatusTable>>,
    writes: mpsc::UnboundedSender<Write>,
    writer: AbortHandle,
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
        let writer = tokio::spawn(write_in_order(log, queue)).abort_handle();
        Ok(Self {
            table,
            writes,
            writer,
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

    /// Ends writing and reading: at once where nothing is under way, otherwise when that is given up. What is put later is
    /// dropped.
    pub async fn stop(&self, timeout: Duration) {
        let (done, stopped) = oneshot::channel();
        if self.writes.send(Write::Stop(done)).is_ok() && tokio::time::timeout(timeout, stopped).await.is_err() {
            tracing::warn!("the status topic is still being written, its last statuses may be missing");
            self.writer.abort();
        }
    }
}

/// Writes one record, however long Kafka takes: a status that was given up would stay wrong for ever.
async fn write(log: &TopicLog, key: &str, value: Option<&[u8]>) {
    let mut send = std::pin::pin!(log.send(Some(key.as_bytes()), value));
    let sent = loop {
        match tokio::time::timeout(SLOW_WRITE, &mut send).await {
            Ok(sent) => break sent,
            Err(_) => tracing::warn!(%key, "status is not written yet, still trying"),
        }
    };
    if let Err(error) = sent {
        tracing::error!(%key, %error, "status could not be written");
    }
}

async fn write_in_order(log: TopicLog, mut queue: mpsc::UnboundedReceiver<Write>) {
    let mut batch = Vec::new();
    let mut stop = None;
    while stop.is_none() && queue.recv_many(&mut batch, CONCURRENT_WRITES).await > 0 {
        let mut flushes = Vec::new();
        let sends = batch.drain(..).filter_map(|write| match write {
            Write::Record(record) => Some(record.encode()),
            Write::Flush(done) => {
                flushes.push(done);
                None
            }
            Write::Stop(done) => {
                stop = Some(done);
                None
            }
        });
        // sends are started in order; only their acknowledgements are waited for together
        let sends: Vec<_> = sends
            .map(|(key, value)| {
                let log = &log;
                async move { write(log, &key, value.as_deref()).await }
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
    if let Some(done) = stop {
        // nobody waits any more
        let _ = done.send(());
    }
}
