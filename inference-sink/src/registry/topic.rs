//! The registry topic: records in, the fold of them out.

use super::fold::{RecordKey, Resources};
use kafka_client::{Admin, ClientConfig, ErrorCode, KafkaError, LogClients, NewTopic, TopicLog};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has been read so far.
#[derive(Default)]
struct Folded {
    resources: RwLock<Arc<Resources>>,
    records: AtomicU64,
}

/// The topic, being read.
pub struct RegistryTopic {
    clients: LogClients,
    log: TopicLog,
    folded: Arc<Folded>,
}

impl RegistryTopic {
    /// Makes the topic if it is not there, and reads it. `changed` is called after each record that is new.
    pub async fn start(
        consumer: &ClientConfig,
        producer: &ClientConfig,
        topic: &str,
        replication_factor: i16,
        changed: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<RegistryTopic, KafkaError> {
        let clients = LogClients::new(consumer, producer)?;
        create(&clients.admin(), topic, replication_factor).await?;
        let folded = Arc::new(Folded::default());
        let fold = folded.clone();
        let name = topic.to_owned();
        let on_record = Box::new(move |record: kafka_client::LogRecord| {
            {
                let mut current = fold.resources.write();
                let next = Arc::make_mut(&mut current);
                if let Err(error) = next.apply(record.key.as_deref().unwrap_or_default(), record.value.as_deref()) {
                    tracing::warn!(topic = %name, offset = record.offset, error = %error, "registry record cannot be read");
                }
            }
            fold.records.fetch_add(1, Ordering::Release);
            changed();
        });
        let log = TopicLog::start_on(&clients, topic, on_record).await?;
        Ok(RegistryTopic { clients, log, folded })
    }

    /// The topic's clients, to be closed when nobody uses the topic any more.
    pub fn clients(&self) -> LogClients {
        self.clients.clone()
    }

    /// Everything that has been read.
    pub fn resources(&self) -> Arc<Resources> {
        self.folded.resources.read().clone()
    }

    /// Number of records read.
    pub fn records(&self) -> u64 {
        self.folded.records.load(Ordering::Acquire)
    }

    /// Writes a record and reads it back.
    pub async fn write(&self, key: &RecordKey, value: Option<&[u8]>) -> Result<(), KafkaError> {
        self.log.send(Some(&key.to_bytes()), value).await?;
        self.log.read_to_end().await
    }

    /// Writes several records, in no particular order, and reads them back.
    pub async fn write_all(&self, records: &[(RecordKey, Vec<u8>)]) -> Result<(), KafkaError> {
        let keyed: Vec<(Vec<u8>, &[u8])> = records
            .iter()
            .map(|(key, value)| (key.to_bytes(), &value[..]))
            .collect();
        let sent = keyed.iter().map(|(key, value)| self.log.send(Some(key), Some(value)));
        futures::future::try_join_all(sent).await?;
        self.log.read_to_end().await
    }

    /// Reads what others have written meanwhile.
    pub async fn refresh(&self) -> Result<(), KafkaError> {
        self.log.read_to_end().await
    }
}

async fn create(admin: &Admin, topic: &str, replication_factor: i16) -> Result<(), KafkaError> {
    if admin.topic(topic).await?.is_some() {
        return Ok(());
    }
    let new = NewTopic::new(topic, 1, replication_factor).with("cleanup.policy", "compact");
    for (_, result) in admin.create_topics(&[new]).await? {
        match result {
            Err(error) if error.code != ErrorCode::TopicAlreadyExists => {
                return Err(error.while_doing(format!("create inference.registry.topic {topic}")));
            }
            _ => {}
        }
    }
    Ok(())
}
