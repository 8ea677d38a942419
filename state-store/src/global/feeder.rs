//! The thread that reads a topic into its global store: every partition, assigned by hand, no group.
//!
//! ```text
//! describe (id, partitions, offsets, delete.retention.ms) -> plan (carry on | rebuild) -> fetch batches -> apply -> ...
//!        ^-- another id or number of partitions than before: at once, and so is a topic that was made again told apart
//!        ^-- any error: the trouble is shown in the status, a pause, and again from the store's own position
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_client::{Admin, ClientConfig, Consumer, KafkaError, Message, StartOffset, TopicPartition, Waker};
use parking_lot::{Condvar, Mutex};

use super::{GlobalRecord, GlobalStore};
use crate::error::StateError;
use crate::keyed::wall_clock_ms;
use crate::topic_bounds::TopicBounds;
use connect_api::catalog_marker::{HEADER, Marker};

/// Messages per fetch; one batch of rows and one position.
const FETCH_MESSAGES: usize = 8_192;
const FETCH_WAIT: Duration = Duration::from_secs(1);
/// How often the topic is looked at: a topic that was made again and has as many records already shows by its id alone.
const DESCRIBE_EVERY: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a feeder reaches Kafka.
#[derive(Clone, Debug)]
pub struct FeederConfig {
    /// The client's settings, under their Java names. What a feeder needs (no group, committed records only) it sets itself.
    pub client: ClientConfig,
}

/// A running feeder. Dropping it stops the thread after the batch in progress.
pub struct Feeder {
    control: Arc<Control>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Feeder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeder").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Control {
    stop: Mutex<bool>,
    stopped: Condvar,
    waker: Mutex<Option<Waker>>,
}

impl Control {
    fn is_stopping(&self) -> bool {
        *self.stop.lock()
    }

    /// Waits, at most this long, until the feeder is to stop; true if it is.
    fn pause(&self, time: Duration) -> bool {
        let mut stop = self.stop.lock();
        let until = Instant::now() + time;
        while !*stop {
            if self.stopped.wait_until(&mut stop, until).timed_out() {
                break;
            }
        }
        *stop
    }
}

impl Feeder {
    /// Starts the thread. An unreachable broker is no error: the feeder goes on trying.
    ///
    /// Errors: [`StateError::Topic`] for client settings that are refused by name, or when no thread can be had.
    pub fn start<R: Send + Sync + 'static>(
        store: Arc<GlobalStore<R>>,
        config: FeederConfig,
    ) -> Result<Feeder, StateError> {
        let consumer = consumer_config(&config);
        // Settings are checked here, where somebody reads the answer.
        drop(Consumer::new(&consumer).map_err(|error| trouble(&store, &error))?);
        let control = Arc::new(Control::default());
        let spec = store.spec();
        let thread = std::thread::Builder::new()
            .name(format!("global-{}", spec.store))
            .spawn({
                let control = control.clone();
                move || run(&store, &consumer, &control)
            })
            .map_err(|error| StateError::Topic {
                store: spec.store.clone(),
                topic: spec.topic.clone(),
                detail: format!("no thread to read it: {error}"),
            })?;
        Ok(Feeder {
            control,
            thread: Some(thread),
        })
    }

    /// Stops after the batch in progress, which is applied and persisted. Blocks until the thread has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        *self.control.stop.lock() = true;
        self.control.stopped.notify_all();
        if let Some(waker) = self.control.waker.lock().as_ref() {
            waker.wake();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a global store panicked");
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.end();
    }
}

fn consumer_config(config: &FeederConfig) -> ClientConfig {
    let mut consumer = config.client.clone();
    consumer.administers();
    consumer.set("isolation.level", "read_committed");
    consumer.set("enable.auto.commit", "false");
    // An offset that is gone is an error here: the plan then rebuilds the copy.
    consumer.set("auto.offset.reset", "none");
    consumer.set("allow.auto.create.topics", "false");
    consumer
}

fn trouble<R: Send + Sync + 'static>(store: &GlobalStore<R>, error: &impl std::fmt::Display) -> StateError {
    StateError::Topic {
        store: store.spec().store.clone(),
        topic: store.spec().topic.clone(),
        detail: error.to_string(),
    }
}

fn run<R: Send + Sync + 'static>(store: &GlobalStore<R>, consumer: &ClientConfig, control: &Control) {
    let mut pause = FIRST_PAUSE;
    while !control.is_stopping() {
        let started = Instant::now();
        match read(store, consumer, control) {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                if started.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                tracing::warn!(store = %store.spec().store, error = %error, retry_ms = pause.as_millis(), "global store stands still");
                store.set_trouble(Some(error.to_string()));
                if control.pause(pause) {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// The topic as the brokers describe it.
fn describe<R: Send + Sync + 'static>(store: &GlobalStore<R>, admin: &Admin) -> Result<TopicBounds, StateError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| trouble(store, &error))?;
    let found = runtime.block_on(TopicBounds::ask(admin, &store.spec().topic));
    found
        .map_err(|error| trouble(store, &error))?
        .ok_or_else(|| trouble(store, &"there is no such topic"))
}

/// Reads until the feeder is to stop, or the topic has another id or more partitions than before.
fn read<R: Send + Sync + 'static>(
    store: &GlobalStore<R>,
    consumer_config: &ClientConfig,
    control: &Control,
) -> Result<(), StateError> {
    let failed = |error: KafkaError| trouble(store, &error);
    let consumer = Consumer::new(consumer_config).map_err(failed)?;
    *control.waker.lock() = Some(consumer.waker());
    let admin = consumer.admin(&Arc::new(consumer_config.clone()));
    let topic = describe(store, &admin)?;
    let starts = store.plan(&topic, wall_clock_ms())?;
    let mut ends = topic.ends();
    store.set_ends(ends.clone());
    let name: Arc<str> = store.spec().topic.as_str().into();
    let named = |partition: i32| TopicPartition {
        topic: name.clone(),
        partition,
    };
    let assignment: Vec<(TopicPartition, StartOffset)> = starts
        .iter()
        .map(|(&partition, &offset)| (named(partition), StartOffset::At(offset)))
        .collect();
    consumer.assign(&assignment).map_err(failed)?;

    // The first copy ends where the topic ended when it began: a consumer would learn of the end half a second later, when a
    // fetch has waited for more in vain.
    let mut first = FirstCopy::new(&starts, &topic.bounds);
    if first.is_complete() {
        store.reached_end()?;
    }
    let mut at_end: BTreeSet<i32> = BTreeSet::new();
    let mut paused: BTreeSet<i32> = BTreeSet::new();
    let mut described = Instant::now();
    while !control.is_stopping() {
        let fetched = consumer.fetch(FETCH_MESSAGES, FETCH_WAIT).map_err(failed)?;
        if let Some(error) = fetched.errors.first() {
            return Err(trouble(store, error));
        }
        if !fetched.messages.is_empty() {
            apply(store, &fetched.messages)?;
            let mut completed = false;
            for message in &fetched.messages {
                at_end.remove(&message.partition());
                completed |= first.read_to(message.partition(), message.offset() + 1);
            }
            if completed {
                store.reached_end()?;
            }
            store.set_trouble(None);
        }
        let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
        for (partition, end) in fetched.end_of_partition.iter().zip(&fetched.end_offsets) {
            at_end.insert(partition.partition);
            reached.insert(partition.partition, *end);
        }
        store.read_to_ends(&reached)?;
        ends.extend(reached);
        // A partition that waits at a marker has nothing to bring before the others get there.
        let waiting: BTreeSet<i32> = store.waiting_partitions().into_iter().collect();
        let all = |set: Vec<i32>| set.into_iter().map(named).collect::<Vec<_>>();
        let (pause, resume) = (
            all(waiting.difference(&paused).copied().collect()),
            all(paused.difference(&waiting).copied().collect()),
        );
        if !pause.is_empty() {
            consumer.pause(&pause).map_err(failed)?;
        }
        if !resume.is_empty() {
            consumer.resume(&resume).map_err(failed)?;
        }
        paused = waiting;
        if !fetched.end_of_partition.is_empty() {
            store.set_ends(ends.clone());
        }
        let ended = starts
            .keys()
            .all(|partition| at_end.contains(partition) || paused.contains(partition));
        if ended && !fetched.end_of_partition.is_empty() {
            store.reached_end()?;
            store.set_trouble(None);
        }
        if described.elapsed() > DESCRIBE_EVERY {
            described = Instant::now();
            let now = describe(store, &admin)?;
            if now.id != topic.id || now.bounds.len() != topic.bounds.len() {
                return Ok(());
            }
            ends = now.ends();
            store.set_ends(ends.clone());
        }
    }
    Ok(())
}

/// What is missing of the first copy: partitions that have not been read up to the end that they had when it began.
struct FirstCopy(BTreeMap<i32, i64>);

impl FirstCopy {
    fn new(starts: &BTreeMap<i32, i64>, bounds: &BTreeMap<i32, (i64, i64)>) -> FirstCopy {
        let end = |partition: i32| bounds.get(&partition).map_or(i64::MAX, |&(_, end)| end);
        let missing = starts.iter().filter(|&(&partition, &start)| start < end(partition));
        FirstCopy(missing.map(|(&partition, _)| (partition, end(partition))).collect())
    }

    fn is_complete(&self) -> bool {
        self.0.is_empty()
    }

    /// True: the copy is complete with this. (One that ends in a transaction's marker, which no consumer sees, is completed
    /// by the end of the partition.)
    fn read_to(&mut self, partition: i32, next: i64) -> bool {
        let reached = self.0.get(&partition).is_some_and(|&end| next >= end);
        reached && self.0.remove(&partition).is_some() && self.0.is_empty()
    }
}

fn apply<R: Send + Sync + 'static>(store: &GlobalStore<R>, messages: &[Message]) -> Result<(), StateError> {
    let records: Vec<GlobalRecord<'_>> = messages
        .iter()
        .map(|message| {
            let key = message.key();
            let marker_header = match key {
                Some(key) if Marker::is_key(key) => message
                    .headers()
                    .find(|(name, _)| *name == HEADER)
                    .and_then(|(_, value)| value),
                _ => None,
            };
            GlobalRecord {
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp_ms(),
                key,
                value: message.value(),
                marker_header,
            }
        })
        .collect();
    store.apply(&records)
}

#[cfg(test)]
mod tests {
    use super::FirstCopy;

    #[test]
    fn the_first_copy_is_complete_once_with_the_last_partition() {
        let starts = [(0, 5), (1, 0), (2, 7)].into();
        let bounds = [(0, (0, 10)), (1, (0, 3)), (2, (0, 7))].into();
        let mut first = FirstCopy::new(&starts, &bounds);
        assert!(!first.is_complete());
        assert!(!first.read_to(0, 9));
        assert!(!first.read_to(1, 4), "beyond the end, with another missing");
        assert!(!first.read_to(1, 5));
        assert!(first.read_to(0, 10));
        assert!(!first.read_to(0, 11), "said once");
        assert!(FirstCopy::new(&[(0, 4)].into(), &[(0, (2, 4))].into()).is_complete());
    }
}
