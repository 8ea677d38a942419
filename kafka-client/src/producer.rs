//! One producer: records out, delivery reports back, transactions.
//!
//! ```text
//!  send(record, token) -> librdkafka's queue -> broker -> delivery report -> Deliveries::delivered(token, ...)
//!         |                                               (a thread that sleeps unless there are reports)
//!         QueueFull: buffer.memory is used up; wait_for_space, then again
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::admin::Admin;
use crate::config::{ClientConfig, ClientKind};
use crate::consumer::millis;
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::{Callbacks, Client, ConsumerGroupMetadata, PartitionList, TopicHandles};
use crate::topic_partition::TopicPartition;

/// Receives what became of each record.
pub trait Deliveries: Send + Sync {
    /// Called once for each record that `send` accepted with a token other than 0, with the partition and offset it got
    /// (offset -1 with `acks=0`), or the error it failed with for good. For token 0 only failures are reported.
    ///
    /// Runs on the producer's delivery thread (or on one that flushes): it must be quick and must not block.
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>);
}

/// A record to send. Nothing of it is kept after `send` returns.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProducerRecord<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// A partition, or where Java's producer would put it: by its key, without a key anywhere.
    pub partition: Option<i32>,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the Unix epoch, or now.
    pub timestamp_ms: Option<i64>,
    /// Headers in order: name and value, or null.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Why a record was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// `buffer.memory` holds records that are not delivered yet. Try again when some are.
    #[error("the producer's buffer is full")]
    QueueFull,
    /// The record or the producer is refused.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// A producer, idempotent by default unless configured otherwise, with Java's partitioning. `transactional.id` in its
/// configuration makes it transactional.
///
/// Dropping it fails what is not delivered yet (`PurgeQueue`, `PurgeInflight`): flush first.
pub struct Producer {
    topics: TopicHandles,
    client: Arc<Client>,
    config: Arc<ClientConfig>,
    progress: Arc<Progress>,
    delivery_thread: Mutex<Option<JoinHandle<()>>>,
    polling: AtomicBool,
}

/// Tells senders that deliveries happened, and the delivery thread to end.
#[derive(Default)]
struct Progress {
    polls: AtomicU64,
    changed: Condvar,
    lock: Mutex<()>,
    stop: AtomicBool,
}

impl Producer {
    /// A producer with this configuration that reports to `deliveries`.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option. An unreachable server is not an error here.
    pub fn new(config: &ClientConfig, deliveries: Arc<dyn Deliveries>) -> Result<Self, KafkaError> {
        let options = config.translated(ClientKind::Producer)?;
        let client = Arc::new(Client::new(
            ClientKind::Producer,
            &options,
            Callbacks::for_producer(deliveries),
        )?);
        Ok(Self {
            topics: TopicHandles::new(Arc::clone(&client)),
            client,
            config: Arc::new(config.clone()),
            progress: Arc::default(),
            delivery_thread: Mutex::default(),
            polling: AtomicBool::new(false),
        })
    }

    /// Hands a record over; its fate is reported under `token`. Never waits.
    ///
    /// # Errors
    /// `QueueFull` as back-pressure; otherwise the record is refused (too large, unknown partition, no such topic) or the
    /// producer can do nothing any more (fatal).
    pub fn send(&self, record: &ProducerRecord<'_>, token: u64) -> Result<(), SendError> {
        if !self.polling.load(Ordering::Acquire) {
            self.start_delivery_thread()?;
        }
        self.topics.produce(record, token)
    }

    /// As [`Self::send`], but waits up to `timeout` while the buffer is full.
    ///
    /// # Errors
    /// `OperationTimedOut` when the buffer stays full; otherwise as `send`.
    pub fn send_waiting(&self, record: &ProducerRecord<'_>, token: u64, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + timeout;
        loop {
            let seen = self.progress.polls.load(Ordering::Acquire);
            match self.send(record, token) {
                Ok(()) => return Ok(()),
                Err(SendError::Kafka(error)) => return Err(error),
                Err(SendError::QueueFull) => {
                    if !self.wait_for_deliveries(seen, deadline) {
                        let context = format!("send to {}: the producer's buffer stays full", record.topic);
                        return Err(KafkaError::timed_out(context));
                    }
                }
            }
        }
    }

    /// Waits until some records were delivered (or failed) since this call, or the timeout has passed.
    pub fn wait_for_space(&self, timeout: Duration) {
        let seen = self.progress.polls.load(Ordering::Acquire);
        if self.in_flight() > 0 {
            self.wait_for_deliveries(seen, Instant::now() + timeout);
        }
    }

    fn wait_for_deliveries(&self, seen: u64, deadline: Instant) -> bool {
        let mut guard = self.progress.lock.lock();
        while self.progress.polls.load(Ordering::Acquire) == seen {
            if self.progress.changed.wait_until(&mut guard, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Waits until every record sent so far was delivered or failed, without lingering.
    ///
    /// # Errors
    /// `OperationTimedOut` when records are left.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.client.flush(millis(timeout))
    }

    /// Records that were accepted and neither delivered nor failed yet.
    pub fn in_flight(&self) -> usize {
        self.client.in_flight()
    }

    /// Fails every record that is not delivered yet, with `PurgeQueue` or `PurgeInflight`.
    pub fn purge(&self) {
        self.client.purge();
    }

    /// Registers the transactional id: fences every older producer that has it and ends their transactions. Once, first.
    ///
    /// # Errors
    /// Retriable ones (`is_retriable`) ask for the same call again; others are final.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.client.init_transactions(millis(timeout))
    }

    /// Begins a transaction: what is sent from here on is part of it.
    ///
    /// # Errors
    /// Where one is open, or the producer is fenced.
    pub fn begin_transaction(&self) -> Result<(), KafkaError> {
        self.client.begin_transaction()
    }

    /// Flushes and commits. May be called again after a retriable error, including a timeout.
    ///
    /// # Errors
    /// `requires_abort`: abort, then begin again. Fatal or fenced: drop the producer.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.client.commit_transaction(millis(timeout))
    }

    /// Aborts the open transaction; records that are not sent yet fail with `PurgeQueue`. May be called again after a
    /// retriable error.
    ///
    /// # Errors
    /// Fatal or fenced: drop the producer.
    pub fn abort_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.client.abort_transaction(millis(timeout))
    }

    /// Commits these offsets (of the next record to read) for the group with the transaction.
    ///
    /// # Errors
    /// As [`Self::commit_transaction`].
    pub fn send_offsets_to_transaction(
        &self,
        offsets: &[(TopicPartition, i64)],
        group: &ConsumerGroupMetadata,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let list = PartitionList::new(offsets.iter().cloned())?;
        self.client.send_offsets_to_transaction(&list, group, millis(timeout))
    }

    /// The error that ended this producer for good, if there is one.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        self.client.fatal_error()
    }

    /// Administration over this producer's connections, for whoever needs both and wants one client.
    pub fn admin(&self) -> Admin {
        Admin::of(Arc::clone(&self.client), Arc::clone(&self.config))
    }

    /// Delivery reports need somebody to take them. A producer that never sends has no thread for it.
    fn start_delivery_thread(&self) -> Result<(), KafkaError> {
        let mut thread = self.delivery_thread.lock();
        if thread.is_none() {
            let (client, progress) = (Arc::clone(&self.client), Arc::clone(&self.progress));
            let started = std::thread::Builder::new()
                .name("kafka-deliveries".to_owned())
                .spawn(move || {
                    while !progress.stop.load(Ordering::Acquire) {
                        client.poll(-1);
                        progress.polls.fetch_add(1, Ordering::Release);
                        // Taken for a moment, so that no sender is between looking and waiting.
                        drop(progress.lock.lock());
                        progress.changed.notify_all();
                    }
                });
            *thread = Some(started.map_err(|error| {
                KafkaError::new(
                    ErrorCode::CriticalSystemResource,
                    format!("start the delivery thread: {error}"),
                )
            })?);
            self.polling.store(true, Ordering::Release);
        }
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let Some(thread) = self.delivery_thread.get_mut().take() else {
            return;
        };
        // Every accepted record gets its report: what is left fails now.
        if self.client.in_flight() > 0 {
            self.client.purge();
            if let Err(error) = self.client.flush(1000) {
                tracing::warn!(error = %error, "producer dropped with records in flight");
            }
        }
        self.progress.stop.store(true, Ordering::Release);
        self.client.wake_poll();
        // A receiver of deliveries may be the last owner; a thread does not wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the delivery thread panicked");
        }
    }
}
