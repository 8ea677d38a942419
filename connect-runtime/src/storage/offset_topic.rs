//! The offsets topic: the last offset of every source partition, looked up by content.

use super::{InternalTopic, OffsetStore, SourceOffset, StorageError, within};
use crate::config::WorkerConfig;
use crate::records::offset_record::{canonical, decode_key, decode_value, encode_key, encode_value};
use async_trait::async_trait;
use bytes::Bytes;
use connect_api::ConnectError;
use connect_api::record::SourceMap;
use indexmap::IndexMap;
use kafka_client::{LogClients, LogRecord, TopicLog};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Time for reading the topic to its end.
const READ_BUDGET: Duration = Duration::from_secs(30);

/// A partition of a source with its last offset.
struct Entry {
    partition: SourceMap,
    /// the key as it lies in the topic; written back as it is, so that compaction finds it
    key: Bytes,
    offset: Option<SourceMap>,
}

type Table = HashMap<String, IndexMap<Vec<u8>, Entry>>;

/// Reads and writes the offsets topic.
pub struct OffsetTopic {
    log: TopicLog,
    table: Arc<RwLock<Table>>,
}

impl OffsetTopic {
    /// Reads the whole topic, then follows it.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub async fn start(clients: &LogClients, worker: &WorkerConfig) -> Result<Self, StorageError> {
        let table: Arc<RwLock<Table>> = Arc::default();
        let folded = Arc::clone(&table);
        let log = TopicLog::start_on(
            clients,
            InternalTopic::Offsets.name(worker),
            Box::new(move |record: LogRecord| {
                if !apply(&folded, &record) {
                    tracing::warn!(
                        topic = %record.topic,
                        partition = record.partition,
                        offset = record.offset,
                        "record of the offsets topic is dropped"
                    );
                }
            }),
        )
        .await?;
        Ok(Self { log, table })
    }

    async fn read_to_end(&self) -> Result<(), ConnectError> {
        within(READ_BUDGET, "reading the offsets topic to its end", async {
            Ok(self.log.read_to_end().await?)
        })
        .await
        .map_err(|error| ConnectError::retriable(error.to_string()).caused_by(error))
    }

    fn key_of(&self, connector: &str, partition: &SourceMap) -> Result<Bytes, ConnectError> {
        let stored = self
            .table
            .read()
            .get(connector)
            .and_then(|partitions| partitions.get(&canonical(partition)))
            .map(|entry| entry.key.clone());
        match stored {
            Some(key) => Ok(key),
            None => encode_key(connector, partition).map(Bytes::from),
        }
    }
}

fn apply(table: &RwLock<Table>, record: &LogRecord) -> bool {
    let Some(key) = &record.key else { return false };
    let (Some((connector, partition)), Some(offset)) = (decode_key(key), decode_value(record.value.as_deref())) else {
        return false;
    };
    let entry = Entry {
        key: key.clone(),
        offset,
        partition,
    };
    table
        .write()
        .entry(connector)
        .or_default()
        .insert(canonical(&entry.partition), entry);
    true
}

#[async_trait]
impl OffsetStore for OffsetTopic {
    async fn read(&self, connector: &str, partition: &SourceMap) -> Result<Option<SourceMap>, ConnectError> {
        self.read_to_end().await?;
        let table = self.table.read();
        Ok(table
            .get(connector)
            .and_then(|partitions| partitions.get(&canonical(partition)))
            .and_then(|entry| entry.offset.clone()))
    }

    async fn read_all(&self, connector: &str) -> Result<Vec<(SourceMap, SourceMap)>, ConnectError> {
        self.read_to_end().await?;
        let table = self.table.read();
        Ok(table
            .get(connector)
            .into_iter()
            .flat_map(|partitions| partitions.values())
            .filter_map(|entry| entry.offset.clone().map(|offset| (entry.partition.clone(), offset)))
            .collect())
    }

    async fn write(&self, connector: &str, offsets: &[SourceOffset]) -> Result<(), ConnectError> {
        let mut records = Vec::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let value = offset.as_ref().map(encode_value).transpose()?;
            records.push((self.key_of(connector, partition)?, value));
        }
        let sends = records
            .iter()
            .map(|(key, value)| self.log.send(Some(key), value.as_deref()));
        for outcome in futures::future::join_all(sends).await {
            outcome.map_err(|error| {
                let text = format!(
                    "offsets of connector {connector} could not be written to {}: {error}",
                    self.log.topic()
                );
                match error.is_retriable() {
                    true => ConnectError::retriable(text),
                    false => ConnectError::fatal(text),
                }
            })?;
        }
        Ok(())
    }
}
