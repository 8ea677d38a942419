//! One producer: records out, delivery reports back, transactions.
//!
//! ```text
//!  send(record, token) -> librdkafka's queue -> broker -> delivery report -> Deliveries::delivered(token, ...)
//!         |                                               (a thread that sleeps unless there are reports)
//!         QueueFull: buffer.memory is used up; wait_for_space, then again
//!
//!  in_flight.rs: what has no report yet ---> watch.rs: stuck? ---> renewal.rs: another client gets it all, in order
//! ```

mod in_flight;
mod renewal;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::admin::Admin;
use crate::clock::millis;
use crate::clock::wall_ms;
use crate::cluster_description::TopicDescription;
use crate::config::{ClientConfig, ClientKind};
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::{Callbacks, Client, ConsumerGroupMetadata, PartitionList, Reports, TakenBack, TopicHandles};
use crate::producer_record::{Deliveries, ProducerRecord, SendError};
use crate::topic_partition::TopicPartition;
use in_flight::InFlight;
use renewal::Renewal;

/// What brokers are waited for where `request.timeout.ms` is not set: Java's default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A producer, idempotent by default unless configured otherwise, with Java's partitioning. `transactional.id` in its
/// configuration makes it transactional.
///
/// One that a broker's restart has left stuck (its oldest record waits for twice `request.timeout.ms` while brokers answer) is
/// made anew: another client sends all that has no report yet, in the order in which it was sent. A record that the stuck
/// client did write is then there twice, as after any retry without idempotence. A transactional one is not: its transaction
/// ends by `transaction.timeout.ms`.
///
/// Dropping it fails what is not delivered yet (`PurgeQueue`, `PurgeInflight`): flush first.
pub struct Producer {
    shared: Arc<Shared>,
    config: Arc<ClientConfig>,
    delivery_thread: Mutex<Option<JoinHandle<()>>>,
    polling: AtomicBool,
}

/// What the delivery thread needs, too.
struct Shared {
    config: Arc<ClientConfig>,
    /// senders hold it while they hand a record over; a renewal holds it alone
    line: RwLock<Arc<Line>>,
    records: Arc<Records>,
    progress: Progress,
    renewable: bool,
}

/// One client of the library. Topic handles go before it.
struct Line {
    topics: TopicHandles,
    client: Arc<Client>,
}

/// Tells senders that deliveries happened, and the delivery thread to end.
#[derive(Default)]
struct Progress {
    polls: AtomicU64,
    changed: Condvar,
    lock: Mutex<()>,
    stop: AtomicBool,
}

/// Records in flight, between the library's reports and who is told.
struct Records {
    in_flight: Mutex<InFlight>,
    deliveries: Arc<dyn Deliveries>,
    /// what a stuck client gives back; none: a record that is purged has failed
    taken_back: Mutex<Option<Vec<(u64, TakenBack)>>>,
}

impl Reports for Records {
    fn delivered(&self, number: u64, result: Result<(i32, i64), KafkaError>) {
        let flight = self.in_flight.lock().remove(number);
        if let Some(flight) = flight.filter(|flight| flight.token != 0 || result.is_err()) {
            self.deliveries.delivered(flight.token, result);
        }
    }

    fn takes_back(&self) -> bool {
        self.taken_back.lock().is_some()
    }

    fn taken_back(&self, number: u64, record: TakenBack) {
        if let Some(taken) = self.taken_back.lock().as_mut() {
            taken.push((number, record));
        }
    }
}

impl Line {
    fn new(config: &ClientConfig, records: &Arc<Records>, quiet: bool) -> Result<Line, KafkaError> {
        let options = config.translated(ClientKind::Producer)?;
        let callbacks = Callbacks::for_producer(Arc::clone(records) as Arc<dyn Reports>, quiet);
        let client = Arc::new(Client::new(ClientKind::Producer, &options, callbacks)?);
        Ok(Line {
            topics: TopicHandles::new(Arc::clone(&client)),
            client,
        })
    }
}

impl Shared {
    fn line(&self) -> Arc<Line> {
        Arc::clone(&self.line.read())
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.line.read().client)
    }
}

impl Producer {
    /// A producer with this configuration that reports to `deliveries`.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option. An unreachable server is not an error here.
    pub fn new(config: &ClientConfig, deliveries: Arc<dyn Deliveries>) -> Result<Self, KafkaError> {
        let config = Arc::new(config.clone());
        let records = Arc::new(Records {
            in_flight: Mutex::default(),
            deliveries,
            taken_back: Mutex::default(),
        });
        let line = Line::new(&config, &records, false)?;
        Ok(Self {
            shared: Arc::new(Shared {
                renewable: config.get("transactional.id").is_none(),
                config: Arc::clone(&config),
                line: RwLock::new(Arc::new(line)),
                records,
                progress: Progress::default(),
            }),
            config,
            delivery_thread: Mutex::default(),
            polling: AtomicBool::new(false),
        })
    }

    /// Hands a record over; its fate is reported under `token`. Never waits, but for the moment in which a stuck client is
    /// replaced.
    ///
    /// # Errors
    /// `QueueFull` as back-pressure; otherwise the record is refused (too large, unknown partition, no such topic) or the
    /// producer can do nothing any more (fatal).
    pub fn send(&self, record: &ProducerRecord<'_>, token: u64) -> Result<(), SendError> {
        if !self.polling.load(Ordering::Acquire) {
            self.start_delivery_thread()?;
        }
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(wall_ms);
        let record = ProducerRecord {
            timestamp_ms: Some(timestamp_ms),
            ..*record
        };
        let line = self.shared.line.read();
        let topic = line.topics.topic(record.topic).map_err(SendError::Kafka)?;
        let (number, first) = {
            let mut in_flight = self.shared.records.in_flight.lock();
            let first = in_flight.len() == 0;
            (in_flight.insert(token, topic.number, timestamp_ms), first)
        };
        let sent = line.topics.produce(topic, &record, number);
        if sent.is_err() {
            self.shared.records.in_flight.lock().remove(number);
        } else if first && self.shared.renewable {
            // The thread sleeps for as long as nothing is in flight.
            line.client.wake_poll();
        }
        sent
    }

    /// As [`Self::send`], but waits up to `timeout` while the buffer is full.
    ///
    /// # Errors
    /// `OperationTimedOut` when the buffer stays full; otherwise as `send`.
    pub fn send_waiting(&self, record: &ProducerRecord<'_>, token: u64, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + timeout;
        loop {
            let seen = self.shared.progress.polls.load(Ordering::Acquire);
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
        let seen = self.shared.progress.polls.load(Ordering::Acquire);
        if self.in_flight() > 0 {
            self.wait_for_deliveries(seen, Instant::now() + timeout);
        }
    }

    fn wait_for_deliveries(&self, seen: u64, deadline: Instant) -> bool {
        let mut guard = self.shared.progress.lock.lock();
        while self.shared.progress.polls.load(Ordering::Acquire) == seen {
            if self
                .shared
                .progress
                .changed
                .wait_until(&mut guard, deadline)
                .timed_out()
            {
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
        let deadline = Instant::now() + timeout;
        loop {
            let line = self.shared.line();
            line.client
                .flush(millis(deadline.saturating_duration_since(Instant::now())))?;
            // What a stuck client had is in flight again, with another one.
            if Arc::ptr_eq(&line, &self.shared.line()) {
                return Ok(());
            }
        }
    }

    /// Records that were accepted and neither delivered nor failed yet.
    pub fn in_flight(&self) -> usize {
        self.shared.records.in_flight.lock().len()
    }

    /// Fails every record that is not delivered yet, with `PurgeQueue` or `PurgeInflight`.
    pub fn purge(&self) {
        self.shared.client().purge();
    }

    /// Registers the transactional id: fences every older producer that has it and ends their transactions. Once, first.
    ///
    /// # Errors
    /// Retriable ones (`is_retriable`) ask for the same call again; others are final.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.shared.client().init_transactions(millis(timeout))
    }

    /// Begins a transaction: what is sent from here on is part of it.
    ///
    /// # Errors
    /// Where one is open, or the producer is fenced.
    pub fn begin_transaction(&self) -> Result<(), KafkaError> {
        self.shared.client().begin_transaction()
    }

    /// Flushes and commits. May be called again after a retriable error, including a timeout.
    ///
    /// # Errors
    /// `requires_abort`: abort, then begin again. Fatal or fenced: drop the producer.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.shared.client().commit_transaction(millis(timeout))
    }

    /// Aborts the open transaction; records that are not sent yet fail with `PurgeQueue`. May be called again after a
    /// retriable error.
    ///
    /// # Errors
    /// Fatal or fenced: drop the producer.
    pub fn abort_transaction(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.shared.client().abort_transaction(millis(timeout))
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
        self.shared
            .client()
            .send_offsets_to_transaction(&list, group, millis(timeout))
    }

    /// The error that ended this producer for good, if there is one.
    pub fn fatal_error(&self) -> Option<KafkaError> {
        self.shared.client().fatal_error()
    }

    /// Topics as brokers tell of them now; blocks. Never has them made.
    pub(crate) fn describe_topics(
        &self,
        names: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<TopicDescription, KafkaError>>, KafkaError> {
        self.shared.client().describe_topics(names, timeout)
    }

    /// Administration over this producer's connections, for whoever needs both and wants one client.
    pub fn admin(&self) -> Admin {
        Admin::of(self.shared.client(), Arc::clone(&self.config))
    }

    /// Delivery reports need somebody to take them. A producer that never sends has no thread for it.
    fn start_delivery_thread(&self) -> Result<(), KafkaError> {
        let mut thread = self.delivery_thread.lock();
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new()
                .name("kafka-deliveries".to_owned())
                .spawn(move || take_deliveries(&shared));
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
        let client = self.shared.client();
        if client.in_flight() > 0 {
            client.purge();
            if let Err(error) = client.flush(1000) {
                tracing::warn!(error = %error, "producer dropped with records in flight");
            }
        }
        self.shared.progress.stop.store(true, Ordering::Release);
        // A renewal that is under way has another client by then.
        self.shared.client().wake_poll();
        // A receiver of deliveries may be the last owner; a thread does not wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the delivery thread panicked");
        }
    }
}

/// The delivery thread: takes reports, and looks after a client that may be stuck.
fn take_deliveries(shared: &Shared) {
    let mut renewal = Renewal::new(&shared.config);
    while !shared.progress.stop.load(Ordering::Acquire) {
        let watched = shared.renewable && shared.records.in_flight.lock().len() > 0;
        let wait = if watched { millis(renewal.interval()) } else { -1 };
        shared.client().poll(wait);
        shared.progress.polls.fetch_add(1, Ordering::Release);
        // Taken for a moment, so that no sender is between looking and waiting.
        drop(shared.progress.lock.lock());
        shared.progress.changed.notify_all();
        if shared.renewable {
            renewal.look(shared, Instant::now());
        }
    }
}
