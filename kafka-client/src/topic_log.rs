//! A topic as a log of key to value: what `KafkaBasedLog` is to a Java worker.
//!
//! ```text
//!  LogClients: one consumer and one producer for any number of logs; administration over either
//!     reader thread: fetch -> the log of the record's topic -> on_record, then positions move
//!     read_to_end:   end offsets now (admin) -> wait until positions have reached them
//!     send:          producer -> partition and offset, retried while that can help
//! ```

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::admin::Admin;
use crate::config::ClientConfig;
use crate::consumer::{Consumer, Fetched, Waker};
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::Message;
use crate::producer::Producer;
use crate::producer_record::{Deliveries, ProducerRecord, SendError};
use crate::topic_partition::{IsolationLevel, StartOffset, TopicPartition};

/// How long `start` waits for a topic that was just created to be seen with leaders (as Java's log does).
const TOPIC_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
/// A reader with nothing to read sleeps this long at a time; it is woken when there is something.
const IDLE: Duration = Duration::from_secs(3600);
const READ_BATCH: usize = 1000;

/// A record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition it is in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// The key, or null.
    pub key: Option<Bytes>,
    /// The value, or null: the key is gone.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

type OnRecord = Box<dyn FnMut(LogRecord) + Send>;

/// The clients that logs share: a worker with three internal topics needs one consumer and one producer, not three of each.
#[derive(Clone)]
pub struct LogClients {
    shared: Arc<Shared>,
}

struct Shared {
    consumer: Arc<Consumer>,
    /// Made at the first record that is sent: logs that are only read need none.
    producer: Mutex<Option<Arc<Producer>>>,
    producer_config: ClientConfig,
    sends: Arc<PendingSends>,
    consumer_admin: Admin,
    isolation: IsolationLevel,
    logs: Arc<Logs>,
    waker: Waker,
    reader: Mutex<Option<JoinHandle<()>>>,
    /// Dropped last: whoever waits for it knows that the clients are closed.
    closed: watch::Sender<()>,
}

type Logs = Mutex<HashMap<Arc<str>, Arc<Log>>>;

/// One log as its reader sees it.
struct Log {
    topic: Arc<str>,
    on_record: Mutex<OnRecord>,
    /// Offset of the next record to apply, by partition.
    positions: Mutex<HashMap<i32, i64>>,
    /// Counts changes of positions; an error ends the log.
    progress: watch::Sender<Result<u64, KafkaError>>,
}

/// A topic read from its beginning and followed from then on. Dropping it stops it.
pub struct TopicLog {
    clients: LogClients,
    log: Arc<Log>,
    partitions: Vec<TopicPartition>,
}

impl LogClients {
    /// Clients with these configurations; `isolation.level` of the consumer's decides which records logs see.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option.
    pub fn new(consumer: &ClientConfig, producer: &ClientConfig) -> Result<Self, KafkaError> {
        let mut consumer = consumer.clone();
        // A log has no group, and starts over where retention has overtaken it.
        consumer
            .administers()
            .unset("group.id")
            .unset("group.instance.id")
            .set("auto.offset.reset", "earliest");
        let isolation = match consumer.get("isolation.level").map(str::trim) {
            Some("read_committed") => IsolationLevel::ReadCommitted,
            _ => IsolationLevel::ReadUncommitted,
        };
        producer.check_producer()?;
        let mut producer_config = producer.clone();
        producer_config.administers();
        let config = Arc::new(consumer);
        let consumer = Arc::new(Consumer::new(&config)?);
        let consumer_admin = consumer.admin(&config);
        let (waker, logs) = (consumer.waker(), Arc::default());
        let shared = Arc::new(Shared {
            consumer,
            producer: Mutex::default(),
            producer_config,
            sends: Arc::default(),
            consumer_admin,
            isolation,
            logs,
            waker,
            reader: Mutex::default(),
            closed: watch::Sender::new(()),
        });
        let reader = start_reader(&shared)?;
        *shared.reader.lock() = Some(reader);
        Ok(Self { shared })
    }

    /// Closes the clients, once every log on them has been stopped and every other clone of this is gone; waits for both
    /// for at most `timeout`. What [`Self::admin`] gave keeps connections open for as long as it is kept.
    ///
    /// Dropping the last clone does the same, but blocks its thread meanwhile.
    pub async fn close(self, timeout: Duration) {
        let mut closed = self.shared.closed.subscribe();
        // Closing waits for threads of the library.
        let dropped = tokio::task::spawn_blocking(move || drop(self));
        // Nothing is ever sent: it ends with its sender.
        if tokio::time::timeout(timeout, closed.changed()).await.is_err() {
            tracing::warn!("clients of logs are still in use and stay open");
        } else if dropped.await.is_err() {
            tracing::error!("closing the clients of logs panicked");
        }
    }

    /// Administration over connections that are there anyway.
    pub fn admin(&self) -> Admin {
        self.shared.admin()
    }
}

impl TopicLog {
    /// Starts a log with clients of its own (the configuration serves for its consumer and its producer), and returns when
    /// everything that was there at the start has been given to `on_record`.
    ///
    /// `on_record` gets each partition's records in order, on the reader's thread: it must be quick and must not block.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition` when the topic is not there within 30 s; no rights; an unknown option.
    pub async fn start(config: &ClientConfig, topic: &str, on_record: OnRecord) -> Result<Self, KafkaError> {
        Self::start_on(&LogClients::new(config, config)?, topic, on_record).await
    }

    /// As [`Self::start`], with clients that other logs use as well: their records are applied on one thread.
    ///
    /// # Errors
    /// As `start`, and `Conflict` when the topic is read by another log of these clients.
    pub async fn start_on(clients: &LogClients, topic: &str, on_record: OnRecord) -> Result<Self, KafkaError> {
        let shared = &clients.shared;
        let partitions = wait_for_topic(&shared.admin(), topic).await?;
        let log = Arc::new(Log {
            topic: topic.into(),
            on_record: Mutex::new(on_record),
            positions: Mutex::new(partitions.iter().map(|p| (p.partition, 0)).collect()),
            progress: watch::Sender::new(Ok(0)),
        });
        {
            let mut logs = shared.logs.lock();
            if logs.contains_key(topic) {
                return Err(KafkaError::new(
                    ErrorCode::Conflict,
                    format!("topic {topic} is read by another log"),
                ));
            }
            logs.insert(Arc::clone(&log.topic), Arc::clone(&log));
        }
        // From here on, dropping it undoes what was done.
        let log = Self {
            clients: clients.clone(),
            log,
            partitions,
        };
        let starts: Vec<_> = log
            .partitions
            .iter()
            .map(|p| (p.clone(), StartOffset::Beginning))
            .collect();
        shared.consumer.assign_also(&starts)?;
        shared.waker.wake();
        log.read_to_end().await?;
        Ok(log)
    }

    /// Writes a record and waits until brokers have it: its partition (by key, as Java) and offset. An error that may pass
    /// is retried without limit: bound it by a timeout around this call.
    ///
    /// # Errors
    /// What does not pass: too large, no rights, fenced.
    pub async fn send(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(i32, i64), KafkaError> {
        self.send_with_headers(key, value, &[]).await
    }

    /// As [`Self::send`], with headers.
    ///
    /// # Errors
    /// As `send`.
    pub async fn send_with_headers(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(i32, i64), KafkaError> {
        loop {
            match self.send_once(key, value, headers).await {
                Err(error) if error.is_retriable() => {
                    tracing::warn!(topic = %self.log.topic, error = %error, "write to log failed, trying again");
                    tokio::time::sleep(RETRY_BACKOFF).await;
                }
                result => return result,
            }
        }
    }

    async fn send_once(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(i32, i64), KafkaError> {
        let shared = &self.clients.shared;
        let record = ProducerRecord {
            topic: &self.log.topic,
            key,
            value,
            headers,
            ..ProducerRecord::default()
        };
        let producer = shared.producer()?;
        let (token, result) = shared.sends.expect();
        producer.send(&record, token).map_err(|error| {
            shared.sends.forget(token);
            match error {
                SendError::QueueFull => KafkaError::new(ErrorCode::QueueFull, format!("send to {}", self.log.topic)),
                SendError::Kafka(error) => error,
            }
        })?;
        result
            .await
            .unwrap_or_else(|_| Err(KafkaError::new(ErrorCode::BrokerDestroy, "the producer was closed")))
    }

    /// Returns when everything that is in the topic at the time of the call has been given to `on_record`. With
    /// `read_committed`, records of transactions still open then are not waited for.
    ///
    /// # Errors
    /// When end offsets cannot be read, or the log has failed.
    pub async fn read_to_end(&self) -> Result<(), KafkaError> {
        let shared = &self.clients.shared;
        let ends = loop {
            match shared.admin().end_offsets(&self.partitions, shared.isolation).await {
                Err(error) if error.is_retriable() && !error.is_timeout() => tokio::time::sleep(RETRY_BACKOFF).await,
                result => break result?,
            }
        };
        let mut progress = self.log.progress.subscribe();
        loop {
            progress.borrow_and_update().clone()?;
            if self.log.reached(&ends) {
                return Ok(());
            }
            if progress.changed().await.is_err() {
                return Err(KafkaError::new(
                    ErrorCode::BrokerDestroy,
                    format!("log {} was stopped", self.log.topic),
                ));
            }
        }
    }

    /// The topic's partitions at the start of the log.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.log.topic
    }

    /// The offset of the next record to apply, for each partition.
    pub fn positions(&self) -> Vec<(TopicPartition, i64)> {
        let positions = self.log.positions.lock();
        let position = |p: &TopicPartition| positions.get(&p.partition).copied().unwrap_or(0);
        self.partitions.iter().map(|p| (p.clone(), position(p))).collect()
    }

    /// Stops reading. No record is given to `on_record` after it returns.
    pub async fn stop(self) {
        drop(self);
    }
}

impl Drop for TopicLog {
    fn drop(&mut self) {
        let shared = &self.clients.shared;
        shared.logs.lock().remove(&self.log.topic);
        // Waits for a record that is being applied.
        *self.log.on_record.lock() = Box::new(|_| {});
        if let Err(error) = shared.consumer.unassign(&self.partitions) {
            tracing::debug!(topic = %self.log.topic, error = %error, "log was not assigned");
        }
    }
}

impl Log {
    fn reached(&self, ends: &[(TopicPartition, i64)]) -> bool {
        let positions = self.positions.lock();
        ends.iter()
            .all(|(p, end)| positions.get(&p.partition).is_some_and(|position| position >= end))
    }

    /// Gives a record to the log's owner. A panic of theirs ends the log, not the reader.
    fn apply(&self, message: &Message) {
        let record = LogRecord {
            topic: Arc::clone(&self.topic),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp_ms(),
            key: message.key_bytes(),
            value: message.value_bytes(),
            headers: message
                .headers()
                .map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice)))
                .collect(),
        };
        let mut on_record = self.on_record.lock();
        if catch_unwind(AssertUnwindSafe(|| on_record(record))).is_err() {
            let doing = format!("apply {}-{}@{}", self.topic, message.partition(), message.offset());
            tracing::error!(record = %message_name(message), "the receiver of a log's records panicked");
            self.fail(&KafkaError::classified(
                ErrorCode::Application,
                doing,
                false,
                true,
                false,
            ));
        }
        drop(on_record);
        self.moved(message.partition(), message.offset() + 1);
    }

    fn moved(&self, partition: i32, position: i64) {
        let mut positions = self.positions.lock();
        let known = positions.entry(partition).or_insert(0);
        *known = (*known).max(position);
    }

    fn tell_progress(&self) {
        self.progress.send_modify(|progress| {
            if let Ok(count) = progress {
                *count += 1;
            }
        });
    }

    fn fail(&self, error: &KafkaError) {
        self.progress.send_modify(|progress| *progress = Err(error.clone()));
    }
}

fn message_name(message: &Message) -> String {
    format!("{}-{}@{}", message.topic(), message.partition(), message.offset())
}

/// One thread reads for all logs of these clients; it ends when the clients are dropped.
fn start_reader(shared: &Arc<Shared>) -> Result<JoinHandle<()>, KafkaError> {
    let (consumer, logs) = (Arc::clone(&shared.consumer), Arc::clone(&shared.logs));
    let alive: Weak<Shared> = Arc::downgrade(shared);
    std::thread::Builder::new()
        .name("topic-logs".to_owned())
        .spawn(move || {
            while alive.strong_count() > 0 {
                match consumer.fetch(READ_BATCH, IDLE) {
                    Ok(fetched) => apply(&logs, &fetched),
                    Err(error) => {
                        fail_all(&logs, &error);
                        break;
                    }
                }
            }
        })
        .map_err(|error| {
            KafkaError::new(
                ErrorCode::CriticalSystemResource,
                format!("start the log reader: {error}"),
            )
        })
}

impl Shared {
    /// Administration over the producer's connections, as soon as there is one. A broker answers what comes over one connection
    /// in order, and the consumer's are waiting for records most of the time: for `fetch.max.wait.ms`.
    fn admin(&self) -> Admin {
        match &*self.producer.lock() {
            Some(producer) => producer.admin(),
            None => self.consumer_admin.clone(),
        }
    }

    fn producer(&self) -> Result<Arc<Producer>, KafkaError> {
        let mut producer = self.producer.lock();
        if let Some(producer) = &*producer {
            return Ok(Arc::clone(producer));
        }
        let sends = Arc::clone(&self.sends) as Arc<dyn Deliveries>;
        let made = Arc::new(Producer::new(&self.producer_config, sends)?);
        *producer = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The reader sees that nobody is left.
        self.waker.wake();
        let Some(reader) = self.reader.get_mut().take() else {
            return;
        };
        // A receiver of records may be the last owner; a thread does not wait for itself.
        if reader.thread().id() != std::thread::current().id() && reader.join().is_err() {
            tracing::error!("the reader of logs panicked");
        }
    }
}

fn apply(logs: &Logs, fetched: &Fetched) {
    let mut touched: HashMap<Arc<str>, Arc<Log>> = HashMap::new();
    let mut log_of = |topic: &str| {
        if let Some(log) = touched.get(topic) {
            return Some(Arc::clone(log));
        }
        let log = Arc::clone(logs.lock().get(topic)?);
        touched.insert(Arc::clone(&log.topic), Arc::clone(&log));
        Some(log)
    };
    for message in &fetched.messages {
        if let Some(log) = log_of(message.topic()) {
            log.apply(message);
        }
    }
    for (partition, offset) in fetched.end_of_partition.iter().zip(&fetched.end_offsets) {
        if let Some(log) = log_of(&partition.topic) {
            log.moved(partition.partition, *offset);
        }
    }
    for log in touched.values() {
        log.tell_progress();
    }
    for error in &fetched.errors {
        if error.is_fatal() || error.is_authorization() {
            fail_all(logs, error);
        } else {
            tracing::warn!(error = %error, "reading a log failed for now");
        }
    }
}

fn fail_all(logs: &Logs, error: &KafkaError) {
    for log in logs.lock().values() {
        log.fail(error);
    }
}

/// The partitions of a topic, once every one of them has a leader.
async fn wait_for_topic(admin: &Admin, topic: &str) -> Result<Vec<TopicPartition>, KafkaError> {
    let deadline = Instant::now() + TOPIC_TIMEOUT;
    loop {
        let error = match admin.topic(topic).await {
            Ok(Some(found)) if found.partitions.iter().all(|p| p.leader.is_some()) && !found.partitions.is_empty() => {
                let name: Arc<str> = topic.into();
                let partition = |p: &crate::PartitionDescription| TopicPartition::new(Arc::clone(&name), p.partition);
                return Ok(found.partitions.iter().map(partition).collect());
            }
            Ok(Some(_)) => KafkaError::new(ErrorCode::LeaderNotAvailable, format!("start log {topic}")),
            Ok(None) => KafkaError::new(ErrorCode::UnknownTopicOrPartition, format!("start log {topic}")),
            Err(error) => error,
        };
        if !error.is_retriable() || Instant::now() > deadline {
            return Err(error);
        }
        tokio::time::sleep(RETRY_BACKOFF).await;
    }
}

/// Sends whose results somebody waits for.
#[derive(Default)]
struct PendingSends {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<(i32, i64), KafkaError>>>>,
}

impl PendingSends {
    fn expect(&self) -> (u64, oneshot::Receiver<Result<(i32, i64), KafkaError>>) {
        let token = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(token, sender);
        (token, receiver)
    }

    fn forget(&self, token: u64) {
        self.waiting.lock().remove(&token);
    }
}

impl Deliveries for PendingSends {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        if let Some(sender) = self.waiting.lock().remove(&token) {
            // Nobody waits any more: the send was given up.
            let _ = sender.send(result);
        }
    }
}
