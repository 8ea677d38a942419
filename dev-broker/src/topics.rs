//! Topics and partitions by name, and the waiting of long polls on partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::log::partition::PartitionLog;
use crate::topic_config::TopicConfig;

/// Longest topic name that Kafka takes.
const MAX_NAME_LENGTH: usize = 249;

/// One partition: its log, and the fetches that wait for more of it.
#[derive(Debug, Default)]
pub struct Partition {
    /// The log.
    pub log: Mutex<PartitionLog>,
    /// Held while the log is compacted.
    pub compacting: Mutex<()>,
    waiters: Mutex<FxHashMap<u64, Arc<Notify>>>,
}

impl Partition {
    /// A partition with what is in its log.
    pub fn new(log: PartitionLog) -> Partition {
        Partition {
            log: Mutex::new(log),
            ..Partition::default()
        }
    }

    /// Has `waiter` notified once something becomes readable here.
    pub fn register(&self, waiter: &FetchWaiter) {
        self.waiters.lock().insert(waiter.id, waiter.notify.clone());
    }

    /// Forgets the waiter.
    pub fn unregister(&self, waiter: &FetchWaiter) {
        self.waiters.lock().remove(&waiter.id);
    }

    /// Wakes every waiting fetch; it registers again if it still has to wait.
    pub fn wake_fetches(&self) {
        for (_, notify) in self.waiters.lock().drain() {
            notify.notify_one();
        }
    }
}

/// A fetch that waits for data in any of its partitions.
#[derive(Debug)]
pub struct FetchWaiter {
    id: u64,
    notify: Arc<Notify>,
}

impl FetchWaiter {
    /// A new one.
    pub fn new() -> FetchWaiter {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        FetchWaiter {
            id,
            notify: Arc::new(Notify::new()),
        }
    }

    /// Waits until a partition has woken it (also if that was before this call).
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: StrBytes,
    /// Its id (KIP-516).
    pub id: Uuid,
    /// Its settings.
    pub config: RwLock<TopicConfig>,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

impl Topic {
    /// A topic with empty partitions.
    pub fn new(name: StrBytes, id: Uuid, partitions: Vec<Arc<Partition>>, config: TopicConfig) -> Topic {
        Topic {
            name,
            id,
            config: RwLock::new(config),
            partitions: RwLock::new(partitions),
        }
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> usize {
        self.partitions.read().len()
    }

    /// A partition by number.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.read().get(usize::try_from(index).ok()?).cloned()
    }

    /// All partitions in order.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    /// Adds partitions at the end.
    pub fn extend(&self, more: impl IntoIterator<Item = Arc<Partition>>) {
        self.partitions.write().extend(more);
    }
}

/// All topics.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
}

impl Topics {
    /// A topic by name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }

    /// A topic by id.
    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_name.read().values().find(|topic| topic.id == id).cloned()
    }

    /// A partition.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub fn partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ResponseError> {
        self.get(topic)
            .and_then(|topic| topic.partition(index))
            .ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// All topics in order of their names.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().values().cloned().collect()
    }

    /// Adds a topic unless one of that name exists; says whether it did.
    pub fn insert(&self, topic: Arc<Topic>) -> bool {
        let mut by_name = self.by_name.write();
        if by_name.contains_key(topic.name.as_str()) {
            return false;
        }
        by_name.insert(topic.name.to_string(), topic);
        true
    }

    /// Takes a topic out. Fetches that wait on it are woken and will not find it.
    pub fn remove(&self, name: &str) -> Option<Arc<Topic>> {
        let removed = self.by_name.write().remove(name)?;
        for partition in removed.partitions() {
            partition.wake_fetches();
        }
        Some(removed)
    }
}

/// Checks a topic's name by Kafka's rule: letters, digits, `.`, `_`, `-`, at most 249 of them.
pub fn is_valid_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= MAX_NAME_LENGTH && name != "." && name != ".." && name.bytes().all(legal)
}
