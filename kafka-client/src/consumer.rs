//! One consumer: batches, assignment, offsets.
//!
//! ```text
//!  fetch -> drain the queue -> nothing? wait for one message, a wake or an event -> drain again
//!        -> events: rebalances go to the listener, commit results to their callbacks
//!        -> Fetched { messages (without those of partitions revoked meanwhile), end_of_partition, errors }
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::admin::Admin;
use crate::clock::millis;
use crate::config::{ClientConfig, ClientKind};
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::{
    BatchQueue, Callbacks, Client, ClientEvent, ConsumerGroupMetadata, Message, Messages, PartitionList, Polled,
    QueueWaker, offset,
};
use crate::topic_partition::{StartOffset, TopicPartition};

/// Group of consumers that have none: librdkafka wants a name even where nothing is committed.
const NO_GROUP: &str = "millrace-no-group";

/// How long `close` waits for the group coordinator, and `seek` for a partition that is just being started.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// `session.timeout.ms`, after which what waits for a coordinator is given up, is 45 s by default.
const LINGER: Duration = Duration::from_secs(60);
const LINGER_LOOK: Duration = Duration::from_millis(200);
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);
const SEEK_RETRY: Duration = Duration::from_millis(5);

/// What one fetch brought.
#[derive(Debug, Default)]
pub struct Fetched {
    /// In order within each partition.
    pub messages: Messages,
    /// Partitions of which everything that was there has been handed out. Told once per end reached.
    pub end_of_partition: Vec<TopicPartition>,
    /// For each of `end_of_partition`, the offset of its end: every record below it has been handed out.
    pub end_offsets: Vec<i64>,
    /// What went wrong beside the messages: no rights on a topic, an offset out of range with `auto.offset.reset=none`, a
    /// fatal error. Connections that come and go are not among them.
    pub errors: Vec<KafkaError>,
}

impl Fetched {
    /// Nothing came.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.end_of_partition.is_empty() && self.errors.is_empty()
    }
}

/// Told by [`Consumer::fetch`] (and `close`), on its thread, of partitions that come and go.
pub trait RebalanceListener: Send {
    /// New partitions, before their first message. [`Consumer::seek`] here says where they start, [`Consumer::pause`] that
    /// they start paused.
    fn assigned(&mut self, consumer: &Consumer, partitions: &[TopicPartition]);
    /// Partitions that another member will get; they are still ours, so their offsets can be committed (synchronously).
    /// No message of theirs follows.
    fn revoked(&mut self, consumer: &Consumer, partitions: &[TopicPartition]);
    /// Partitions that others may have already: commits would be refused.
    fn lost(&mut self, consumer: &Consumer, partitions: &[TopicPartition]);
}

/// Whether a commit waits for its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitMode {
    /// Waits; an error is returned.
    Sync,
    /// Does not wait; an error is logged. Use [`Consumer::commit_with`] to see the result.
    Async,
}

/// Called with the result of an asynchronous commit.
pub type CommitCallback = Box<dyn FnOnce(Result<(), KafkaError>) + Send>;

/// One consumer. Methods block: call them from a task's thread, never from an async one.
///
/// Members of a group must fetch at least every `max.poll.interval.ms`, as in Java. Dropping it leaves the group after
/// telling the listener.
pub struct Consumer {
    queue: BatchQueue,
    wake: Arc<WakeFlag>,
    listener: Mutex<Option<Box<dyn RebalanceListener>>>,
    /// What the listener asked for while partitions were being assigned to it.
    assigning: Mutex<Option<Assigning>>,
    /// Where partitions ended that have yielded nothing since. librdkafka's batches count the end itself as a consumed
    /// record (`rd_kafka_q_serve_rkmessages`), so its position is one too high then, and a pause would skip a record.
    ends: Mutex<HashMap<TopicPartition, i64>>,
    commits: Mutex<HashMap<u64, CommitCallback>>,
    next_commit: AtomicU64,
    has_group: bool,
    closed: AtomicBool,
}

#[derive(Default)]
struct Assigning {
    partitions: HashSet<TopicPartition>,
    starts: HashMap<TopicPartition, i64>,
    paused: HashSet<TopicPartition>,
}

struct WakeFlag(AtomicBool);

/// Ends a [`Consumer::fetch`] in progress from any thread; without one, the next fetch that would wait returns at once.
#[derive(Clone)]
pub struct Waker {
    flag: Arc<WakeFlag>,
    queue: QueueWaker,
}

impl Waker {
    /// Wakes.
    pub fn wake(&self) {
        // The flag first: a drain may swallow the queue's own mark, never the flag.
        self.flag.0.store(true, Ordering::Release);
        self.queue.wake();
    }
}

impl Consumer {
    /// A consumer with this configuration. `group.id` may be absent where partitions are assigned manually and nothing is
    /// committed.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option. An unreachable server is not an error here.
    pub fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        let mut options = config.translated(ClientKind::Consumer)?;
        let has_group = options.contains_key("group.id");
        if !has_group {
            options.insert("group.id".to_owned(), NO_GROUP.to_owned());
        }
        let client = Client::new(ClientKind::Consumer, &options, Callbacks::default())?;
        Ok(Self {
            queue: BatchQueue::of_consumer(Arc::new(client))?,
            wake: Arc::new(WakeFlag(AtomicBool::new(false))),
            listener: Mutex::default(),
            assigning: Mutex::default(),
            ends: Mutex::default(),
            commits: Mutex::default(),
            next_commit: AtomicU64::new(1),
            has_group,
            closed: AtomicBool::new(false),
        })
    }

    /// Joins the group and shares these topics' partitions with it. Replaces an earlier subscription.
    ///
    /// # Errors
    /// Without `group.id`.
    pub fn subscribe(&self, topics: &[String], listener: Box<dyn RebalanceListener>) -> Result<(), KafkaError> {
        self.needs_group("subscribe")?;
        *self.listener.lock() = Some(listener);
        self.client().subscribe(topics)
    }

    /// Reads exactly these partitions from here on, with no group involved. Replaces an earlier assignment.
    ///
    /// # Errors
    /// `InvalidArgument` for [`StartOffset::Committed`] without `group.id`.
    pub fn assign(&self, partitions: &[(TopicPartition, StartOffset)]) -> Result<(), KafkaError> {
        let list = self.start_list(partitions)?;
        self.ends.lock().clear();
        self.client().assign(Some(&list))
    }

    /// Reads these partitions as well.
    ///
    /// # Errors
    /// As [`Self::assign`], and where one is assigned already.
    pub fn assign_also(&self, partitions: &[(TopicPartition, StartOffset)]) -> Result<(), KafkaError> {
        self.client().incremental_assign(&self.start_list(partitions)?)
    }

    /// Stops reading these manually assigned partitions.
    ///
    /// # Errors
    /// Where one is not assigned.
    pub fn unassign(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.ends.lock().retain(|partition, _| !partitions.contains(partition));
        self.client().incremental_unassign(&PartitionList::of(partitions)?)
    }

    fn start_list(&self, partitions: &[(TopicPartition, StartOffset)]) -> Result<PartitionList, KafkaError> {
        if partitions.iter().any(|(_, start)| *start == StartOffset::Committed) {
            self.needs_group("start at committed offsets")?;
        }
        PartitionList::new(partitions.iter().map(|(partition, start)| {
            let offset = match start {
                StartOffset::Beginning => offset::BEGINNING,
                StartOffset::End => offset::END,
                StartOffset::At(offset) => *offset,
                StartOffset::Committed => offset::STORED,
            };
            (partition.clone(), offset)
        }))
    }

    fn needs_group(&self, what: &str) -> Result<(), KafkaError> {
        if self.has_group {
            return Ok(());
        }
        Err(KafkaError::new(
            ErrorCode::InvalidArgument,
            format!("{what}: set group.id"),
        ))
    }

    /// Waits up to `timeout` for messages and returns those that are there, `max_messages` at most (and at most 65,536).
    /// Empty on timeout, on a wake, or after a rebalance. The listener and commit callbacks run inside.
    ///
    /// # Errors
    /// A fatal error: this consumer brings nothing any more.
    pub fn fetch(&self, max_messages: usize, timeout: Duration) -> Result<Fetched, KafkaError> {
        let mut fetched = Fetched::default();
        let mut taken = self.take(&mut fetched, max_messages, Duration::ZERO)?;
        if taken == 0 && !self.callbacks().has_events() && !self.wake.0.swap(false, Ordering::AcqRel) {
            taken = self.take(&mut fetched, 1, timeout)?;
            if taken == 1 && max_messages > 1 {
                self.take(&mut fetched, max_messages - 1, Duration::ZERO)?;
            }
            if taken == 0 {
                self.wake.0.store(false, Ordering::Release);
            }
        }
        if !fetched.messages.is_empty() {
            self.callbacks().answered();
        }
        self.serve_events(&mut fetched)?;
        Ok(fetched)
    }

    fn take(&self, fetched: &mut Fetched, max: usize, timeout: Duration) -> Result<usize, KafkaError> {
        let Fetched {
            messages,
            end_of_partition,
            end_offsets,
            errors,
        } = fetched;
        self.queue.take(max, millis(timeout), messages, |polled| match polled {
            Polled::Partition(message) => self.end_passed(message),
            Polled::EndOfPartition(partition, offset) => {
                self.ends.lock().insert(partition.clone(), offset);
                end_of_partition.push(partition);
                end_offsets.push(offset);
            }
            Polled::Error(error) => {
                // A consumer without a group does not care about rights on the placeholder.
                if self.has_group || error.code != ErrorCode::GroupAuthorizationFailed {
                    errors.push(error);
                }
            }
        })
    }

    fn end_passed(&self, message: &Message) {
        let mut ends = self.ends.lock();
        if !ends.is_empty() {
            ends.remove(&message.topic_partition());
        }
    }

    /// Puts partitions that are at their end back there, after librdkafka has noted its own positions.
    fn restore_ends(&self, of: Option<&[&TopicPartition]>) -> Result<(), KafkaError> {
        let ends: Vec<(TopicPartition, i64)> = match of {
            Some(partitions) => {
                let ends = self.ends.lock();
                partitions
                    .iter()
                    .filter_map(|p| Some(((*p).clone(), *ends.get(*p)?)))
                    .collect()
            }
            None => self
                .ends
                .lock()
                .iter()
                .map(|(partition, end)| (partition.clone(), *end))
                .collect(),
        };
        if ends.is_empty() {
            return Ok(());
        }
        self.client().seek(&PartitionList::new(ends)?, millis(SEEK_TIMEOUT))
    }

    fn serve_events(&self, fetched: &mut Fetched) -> Result<(), KafkaError> {
        for event in self.callbacks().take_events() {
            match event {
                ClientEvent::Assigned(partitions) => self.assigned(partitions)?,
                ClientEvent::Revoked(partitions) => {
                    let gone: HashSet<(&str, i32)> =
                        partitions.iter().map(|p| (p.topic.as_ref(), p.partition)).collect();
                    fetched.messages.retain(|m| !gone.contains(&(m.topic(), m.partition())));
                    let ends = std::mem::take(&mut fetched.end_of_partition)
                        .into_iter()
                        .zip(&fetched.end_offsets);
                    (fetched.end_of_partition, fetched.end_offsets) = ends
                        .filter(|(p, _)| !gone.contains(&(p.topic.as_ref(), p.partition)))
                        .unzip();
                    self.revoked(&partitions)?;
                }
                ClientEvent::Committed(token, result) => self.committed_event(token, result),
                ClientEvent::Error(error) => fetched.errors.push(error),
            }
        }
        Ok(())
    }

    fn assigned(&self, partitions: Vec<(TopicPartition, i64)>) -> Result<(), KafkaError> {
        let names: Vec<TopicPartition> = partitions.iter().map(|(partition, _)| partition.clone()).collect();
        *self.assigning.lock() = Some(Assigning {
            partitions: names.iter().cloned().collect(),
            ..Assigning::default()
        });
        self.with_listener(|listener| listener.assigned(self, &names));
        let asked = self.assigning.lock().take().unwrap_or_default();

        let list = PartitionList::new(partitions.into_iter().map(|(partition, offset)| {
            let start = asked.starts.get(&partition).copied().unwrap_or(offset);
            (partition, start)
        }))?;
        if self.client().cooperative() {
            self.client().incremental_assign(&list)?;
            // The library pauses all partitions during a rebalance.
            self.restore_ends(None)?;
        } else {
            self.ends.lock().clear();
            self.client().assign(Some(&list))?;
        }
        if asked.paused.is_empty() {
            Ok(())
        } else {
            self.client().pause(&PartitionList::of(&asked.paused)?)
        }
    }

    fn revoked(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let lost = self.client().assignment_lost();
        self.with_listener(|listener| {
            if lost {
                listener.lost(self, partitions)
            } else {
                listener.revoked(self, partitions)
            }
        });
        if self.client().cooperative() {
            self.ends.lock().retain(|partition, _| !partitions.contains(partition));
            self.client().incremental_unassign(&PartitionList::of(partitions)?)?;
            self.restore_ends(None)
        } else {
            self.ends.lock().clear();
            self.client().assign(None)
        }
    }

    /// The listener is taken out while it runs, so that it may call anything, even `subscribe`.
    fn with_listener(&self, call: impl FnOnce(&mut dyn RebalanceListener)) {
        let listener = self.listener.lock().take();
        if let Some(mut listener) = listener {
            call(listener.as_mut());
            self.listener.lock().get_or_insert(listener);
        }
    }

    fn committed_event(&self, token: u64, result: Result<(), KafkaError>) {
        let callback = self.commits.lock().remove(&token);
        match (callback, result) {
            (Some(callback), result) => callback(result),
            (None, Err(error)) => tracing::warn!(error = %error, "offset commit failed"),
            (None, Ok(())) => {}
        }
    }

    /// Administration over this consumer's connections, for whoever needs both and wants one client. `config` is the
    /// consumer's, made with [`ClientConfig::administers`].
    pub fn admin(&self, config: &Arc<ClientConfig>) -> Admin {
        Admin::of(Arc::clone(self.queue.client()), Arc::clone(config))
    }

    /// A handle that ends a fetch from any thread.
    pub fn waker(&self) -> Waker {
        Waker {
            flag: Arc::clone(&self.wake),
            queue: self.queue.waker(),
        }
    }

    /// Has `ready` called, on a thread of the library, whenever there is something to fetch after there was nothing: an
    /// idle consumer then needs no waiting thread. `ready` must not block, nor call the consumer. Once per consumer.
    ///
    /// Fetch once after setting it: what came before is not told.
    ///
    /// # Errors
    /// Where there is a listener already.
    pub fn on_ready(&self, ready: Box<dyn Fn() + Send + Sync>) -> Result<(), KafkaError> {
        self.queue.on_ready(ready)
    }

    /// Stops fetching from these partitions; messages that wait in the client are dropped and fetched again later.
    ///
    /// # Errors
    /// Where one is not assigned.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let now: Vec<&TopicPartition> = match self.assigning.lock().as_mut() {
            Some(assigning) => {
                let (new, old): (Vec<_>, Vec<_>) = partitions
                    .iter()
                    .partition(|partition| assigning.partitions.contains(*partition));
                assigning.paused.extend(new.into_iter().cloned());
                old
            }
            None => partitions.iter().collect(),
        };
        if now.is_empty() {
            return Ok(());
        }
        self.client().pause(&PartitionList::of(now.iter().copied())?)?;
        self.restore_ends(Some(&now))
    }

    /// Fetches from these partitions again, after the last message that was handed out.
    ///
    /// # Errors
    /// Where one is not assigned.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let now: Vec<&TopicPartition> = match self.assigning.lock().as_mut() {
            Some(assigning) => {
                let (new, old): (Vec<_>, Vec<_>) = partitions
                    .iter()
                    .partition(|partition| assigning.partitions.contains(*partition));
                for partition in new {
                    assigning.paused.remove(partition);
                }
                old
            }
            None => partitions.iter().collect(),
        };
        if now.is_empty() {
            Ok(())
        } else {
            self.client().resume(&PartitionList::of(now)?)
        }
    }

    /// The next message of this partition will be the one with this offset (or the next there is). No message from before
    /// the seek follows. Waits up to 10 s for a partition that is just being started.
    ///
    /// # Errors
    /// `State` where the partition is not assigned.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<(), KafkaError> {
        if let Some(assigning) = self.assigning.lock().as_mut()
            && assigning.partitions.contains(partition)
        {
            assigning.starts.insert(partition.clone(), offset);
            return Ok(());
        }
        self.ends.lock().remove(partition);
        let deadline = Instant::now() + SEEK_TIMEOUT;
        loop {
            let list = PartitionList::new([(partition.clone(), offset)])?;
            match self.client().seek(&list, millis(SEEK_TIMEOUT)) {
                // The committed offset is being read; the partition starts within a round trip.
                Err(error) if error.code == ErrorCode::State && Instant::now() < deadline => {
                    std::thread::sleep(SEEK_RETRY);
                }
                result => return result,
            }
        }
    }

    /// The offset after the last message handed out of this partition; `None` before the first one.
    ///
    /// # Errors
    /// Where the partition is unknown.
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<i64>, KafkaError> {
        if let Some(end) = self.ends.lock().get(partition) {
            return Ok(Some(*end));
        }
        let list = PartitionList::of([partition])?;
        self.client().position(&list)?;
        Ok(list
            .entries()
            .first()
            .map(|entry| entry.offset)
            .filter(|offset| *offset >= 0))
    }

    /// Commits these offsets (of the next record to read) for the group.
    ///
    /// # Errors
    /// With `Sync`, when the group refuses or cannot be reached; `InvalidArgument` without `group.id`.
    pub fn commit(&self, offsets: &[(TopicPartition, i64)], mode: CommitMode) -> Result<(), KafkaError> {
        self.needs_group("commit offsets")?;
        if offsets.is_empty() {
            return Ok(());
        }
        let list = PartitionList::new(offsets.iter().cloned())?;
        match mode {
            CommitMode::Sync => self.client().commit(&list),
            CommitMode::Async => self
                .queue
                .commit(&list, self.next_commit.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Commits in the background; `done` is called with the result inside a later [`Self::fetch`] (or when the consumer is
    /// dropped), exactly once unless this call fails.
    ///
    /// # Errors
    /// `InvalidArgument` without `group.id`.
    pub fn commit_with(&self, offsets: &[(TopicPartition, i64)], done: CommitCallback) -> Result<(), KafkaError> {
        self.needs_group("commit offsets")?;
        if offsets.is_empty() {
            done(Ok(()));
            return Ok(());
        }
        let list = PartitionList::new(offsets.iter().cloned())?;
        let token = self.next_commit.fetch_add(1, Ordering::Relaxed);
        self.commits.lock().insert(token, done);
        self.queue
            .commit(&list, token)
            .inspect_err(|_| drop(self.commits.lock().remove(&token)))
    }

    /// What the group committed; `None` where it did not.
    ///
    /// # Errors
    /// When the coordinator cannot be reached in time.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, KafkaError> {
        self.needs_group("read committed offsets")?;
        let list = PartitionList::of(partitions)?;
        self.client().committed(&list, millis(timeout))?;
        let entries = list.entries().into_iter();
        Ok(entries
            .map(|entry| (entry.partition, Some(entry.offset).filter(|offset| *offset >= 0)))
            .collect())
    }

    /// Names of all topics that this consumer may see, internal ones included, in no order.
    ///
    /// # Errors
    /// When no broker answers in time.
    pub fn topic_names(&self, timeout: Duration) -> Result<Vec<String>, KafkaError> {
        self.client().topic_names(timeout)
    }

    /// The first offset there is, and the offset after the last one (the last stable one with `read_committed`).
    ///
    /// # Errors
    /// When the leader cannot be reached in time.
    pub fn watermarks(&self, partition: &TopicPartition, timeout: Duration) -> Result<(i64, i64), KafkaError> {
        self.client().watermarks(partition, millis(timeout))
    }

    /// The first offset whose timestamp is at least the given one (ms since the Unix epoch); `None` where there is none.
    ///
    /// # Errors
    /// When a leader cannot be reached in time.
    pub fn offsets_for_times(
        &self,
        times: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, KafkaError> {
        let list = PartitionList::new(times.iter().cloned())?;
        let entries = self.client().offsets_for_times(&list, millis(timeout))?.into_iter();
        Ok(entries
            .map(|entry| (entry.partition, Some(entry.offset).filter(|offset| *offset >= 0)))
            .collect())
    }

    /// What a transactional producer needs to commit this consumer's offsets (KIP-447).
    ///
    /// # Errors
    /// Without `group.id`.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata, KafkaError> {
        self.needs_group("read group metadata")?;
        self.client().group_metadata()
    }

    /// The id that the group's coordinator gave this member; empty outside a group.
    pub fn member_id(&self) -> String {
        self.client().member_id()
    }

    /// Leaves the group: the listener hears of the revocation (and may commit), commit callbacks run, and the other members
    /// get the partitions without waiting for the session to time out. Waits up to 10 s.
    ///
    /// # Errors
    /// `OperationTimedOut` when the coordinator does not answer.
    pub fn close(&self) -> Result<(), KafkaError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let result = self.leave();
        for (_, callback) in self.commits.lock().drain() {
            callback(Err(KafkaError::new(
                ErrorCode::BrokerDestroy,
                "commit offsets: the consumer was closed",
            )));
        }
        result
    }

    fn leave(&self) -> Result<(), KafkaError> {
        self.queue.close()?;
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let mut ignored = Fetched::default();
        while !self.client().closed() {
            if Instant::now() > deadline {
                return Err(KafkaError::timed_out("close the consumer"));
            }
            self.take(&mut ignored, 1000, Duration::ZERO)?;
            self.take(&mut ignored, 1, Duration::from_millis(10))?;
            self.serve_events(&mut ignored)?;
            ignored.messages.clear();
        }
        Ok(())
    }

    fn client(&self) -> &Client {
        self.queue.client()
    }

    fn callbacks(&self) -> &Callbacks {
        self.client().callbacks()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(error = %error, "consumer did not leave its group cleanly");
            linger(Arc::clone(self.queue.client()));
        }
    }
}

/// Keeps a client that could not close in time until it has, or [`LINGER`] is over. Destroyed before, its main thread would be
/// busy until the commits that wait for a coordinator time out: librdkafka 2.12 asks its timers how long it may sleep, and
/// runs none of them.
fn linger(client: Arc<Client>) {
    let deadline = Instant::now() + LINGER;
    let wait = move || {
        while !client.closed() && Instant::now() < deadline {
            std::thread::sleep(LINGER_LOOK);
        }
    };
    let thread = std::thread::Builder::new().name("consumer-lingers".to_owned());
    if let Err(error) = thread.spawn(wait) {
        tracing::warn!(error = %error, "start a thread");
    }
}
