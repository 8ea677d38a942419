//! The config topic: its records folded into the cluster's state, and writes that return when they have been read back.

use super::{InternalTopic, StorageError, within};
use crate::cluster::fold::{Change, ClusterState};
use crate::config::WorkerConfig;
use crate::records::config_record::ConfigRecord;
use kafka_client::{LogClients, LogRecord, TopicLog};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Time for one operation on the topic, reading back included (contract 2.1).
const OPERATION_BUDGET: Duration = Duration::from_secs(30);

/// Reads and writes the config topic. Changes are sent on the channel given at the start, from the first record after
/// the initial read on.
pub struct ConfigTopic {
    log: TopicLog,
    state: Arc<RwLock<ClusterState>>,
}

impl ConfigTopic {
    /// Reads the whole topic, then follows it.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub async fn start(
        clients: &LogClients,
        worker: &WorkerConfig,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Result<Self, StorageError> {
        let state = Arc::new(RwLock::new(ClusterState::default()));
        let started = Arc::new(AtomicBool::new(false));
        let (folded, live) = (Arc::clone(&state), Arc::clone(&started));
        let log = TopicLog::start_on(
            clients,
            InternalTopic::Config.name(worker),
            Box::new(move |record: LogRecord| {
                if let Some(change) = apply(&folded, &record)
                    && live.load(Ordering::Acquire)
                {
                    // the herder has gone: the worker is stopping
                    let _ = changes.send(change);
                }
            }),
        )
        .await?;
        started.store(true, Ordering::Release);
        Ok(Self { log, state })
    }

    /// The cluster's state, shared: as of the last record read.
    pub fn state(&self) -> Arc<RwLock<ClusterState>> {
        Arc::clone(&self.state)
    }

    /// Writes records in order, waits for their acknowledgements, and reads them back.
    ///
    /// # Errors
    /// Not all were written and read back within 30 s; some may have been.
    pub async fn write(&self, records: &[ConfigRecord]) -> Result<(), StorageError> {
        within(OPERATION_BUDGET, "writing to the config topic", async {
            // one after the other: their order in the topic is what the fold goes by
            for record in records {
                let (key, value) = record.encode();
                self.log.send(Some(key.as_bytes()), value.as_deref()).await?;
            }
            self.log.read_to_end().await?;
            Ok(())
        })
        .await
    }

    /// Writes a task set: its records, then, when all of them are in the topic, the commit (contract 2.3, 4).
    ///
    /// # Errors
    /// As `write`; without the commit the set is not in force.
    pub async fn write_tasks(&self, connector: &str, tasks: &[connect_api::ConfigMap]) -> Result<(), StorageError> {
        let records: Vec<ConfigRecord> = tasks
            .iter()
            .enumerate()
            .map(|(task, config)| ConfigRecord::Task(connector.to_owned(), task, config.clone()))
            .collect();
        if !records.is_empty() {
            self.write(&records).await?;
        }
        self.write(&[ConfigRecord::Commit(connector.to_owned(), tasks.len())])
            .await
    }

    /// Reads what others have written.
    ///
    /// # Errors
    /// The end was not reached within 30 s.
    pub async fn read_to_end(&self) -> Result<(), StorageError> {
        within(OPERATION_BUDGET, "reading the config topic to its end", async {
            Ok(self.log.read_to_end().await?)
        })
        .await
    }

    /// Stops reading.
    pub async fn stop(self) {
        self.log.stop().await;
    }
}

fn apply(state: &RwLock<ClusterState>, record: &LogRecord) -> Option<Change> {
    let decoded = ConfigRecord::decode(record.key.as_deref().unwrap_or_default(), record.value.as_deref());
    let mut state = state.write();
    match decoded {
        Ok(decoded) => state.apply(record.offset, decoded),
        Err(reason) => {
            tracing::warn!(topic = %record.topic, offset = record.offset, %reason, "record of the config topic is dropped");
            state.skip(record.offset);
            None
        }
    }
}
