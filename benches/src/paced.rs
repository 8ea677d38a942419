//! Events at a steady rate, and how long each took to become predictions: from the moment at which it was due to the moment at
//! which a subscriber has the prediction. Where the generator is late, that counts.

use crate::events::{PARTITIONS, Purchase};
use crate::generator::{Event, Generator};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use kafka_client::{ClientConfig, Consumer, Message, StartOffset, TopicPartition};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What has not come by then, after the last event, is missing.
const PATIENCE: Duration = Duration::from_secs(30);
/// The sender sleeps no shorter: what has become due meanwhile is sent at once.
const TICK: Duration = Duration::from_micros(200);

/// What is subscribed to.
#[derive(Clone)]
pub struct Subscription {
    /// topics, of as many partitions as the events have
    pub topics: Vec<String>,
    /// predictions that each event gets
    pub predictions: usize,
    /// which of them a record is, and the number of its event
    pub identify: fn(&Subscription, &Message) -> Option<(usize, usize)>,
}

/// Records whose key is the event's number; each topic has one prediction of each event.
pub fn by_topic_and_key(subscription: &Subscription, message: &Message) -> Option<(usize, usize)> {
    let topic = subscription.topics.iter().position(|topic| *topic == message.topic())?;
    let number: f64 = std::str::from_utf8(message.key()?).ok()?.parse().ok()?;
    Some((topic, number as usize))
}

/// Reads outputs from their ends on, for as long as it lives.
pub struct Subscriber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

struct Shared {
    started: Instant,
    /// microseconds after `started` at which an event was due, plus 1; 0 for one that was not sent yet
    due: Vec<AtomicU64>,
    /// microseconds from then to reading, by prediction and event, plus 1; 0 for none
    took: Vec<Vec<AtomicU64>>,
    /// partitions whose end was seen: the subscriber is there
    ended: AtomicUsize,
    stop: AtomicBool,
}

/// Events that are sent at a steady rate.
pub struct Load<'a> {
    /// by which they are sent
    pub generator: &'a Generator,
    /// what they are
    pub purchases: &'a [Purchase],
    /// to which topic they are sent
    pub topic: &'a str,
    /// their key is their number, not their household
    pub keyed_by_number: bool,
}

/// Latencies of one stretch of events.
pub struct Latencies {
    /// of all predictions, in microseconds
    pub micros: Histogram<u64>,
    /// how late the generator was with the events, in microseconds
    pub late_micros: Histogram<u64>,
}

impl Latencies {
    /// In milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.micros.value_at_quantile(quantile) as f64 / 1e3
    }
}

impl Subscriber {
    /// Subscribes, of `events` events at most.
    pub fn start(bootstrap: &str, subscription: Subscription, events: usize) -> Result<Subscriber> {
        let mut config = ClientConfig::new(bootstrap);
        config
            .set("isolation.level", "read_committed")
            .set("fetch.max.wait.ms", "100");
        let consumer = Consumer::new(&config)?;
        let zeros = || (0..events).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let shared = Arc::new(Shared {
            started: Instant::now(),
            due: zeros(),
            took: (0..subscription.predictions).map(|_| zeros()).collect(),
            ended: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let assignment: Vec<_> = subscription
            .topics
            .iter()
            .flat_map(|topic| (0..PARTITIONS).map(|p| (TopicPartition::new(topic.clone(), p), StartOffset::End)))
            .collect();
        consumer.assign(&assignment)?;
        let own = shared.clone();
        let thread = std::thread::spawn(move || own.read(&consumer, &subscription));
        let deadline = Instant::now() + PATIENCE;
        while shared.ended.load(Ordering::Acquire) < assignment.len() {
            ensure!(
                Instant::now() < deadline,
                "the subscriber does not reach the ends of the output topics"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Subscriber {
            shared,
            thread: Some(thread),
        })
    }

    /// Sends events `numbers` at `rate` per second, and waits for all their predictions.
    pub fn run(&self, load: &Load<'_>, numbers: Range<usize>, rate: usize) -> Result<Latencies> {
        let late_micros = self.send(load, numbers.clone(), rate)?;
        self.wait(numbers.clone())?;
        let micros = self.latencies(0..self.shared.took.len(), numbers)?;
        Ok(Latencies { micros, late_micros })
    }

    fn send(&self, load: &Load<'_>, numbers: Range<usize>, rate: usize) -> Result<Histogram<u64>> {
        // Made before the clock runs: broker and clients share a core.
        let events = numbers.map(|number| load.event(number).map(|event| (number, event)));
        let events: Vec<(usize, Event)> = events.collect::<Option<_>>().context("there are no purchases")?;
        let mut events = events.into_iter();
        let late_micros = pace(events.len(), rate, |due| {
            if let Some((number, event)) = events.next() {
                if let Some(of_event) = self.shared.due.get(number) {
                    of_event.store(self.shared.micros_at(due), Ordering::Release);
                }
                load.generator.send(event)?;
            }
            Ok(())
        })?;
        load.generator.flush()?;
        Ok(late_micros)
    }

    fn wait(&self, numbers: Range<usize>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for took in &self.shared.took {
            for number in numbers.clone() {
                while took.get(number).is_none_or(|took| took.load(Ordering::Acquire) == 0) {
                    ensure!(
                        Instant::now() < deadline,
                        "event {number} has no prediction after {PATIENCE:?}"
                    );
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        Ok(())
    }

    /// Of some events in some predictions, in microseconds.
    pub fn latencies(&self, predictions: Range<usize>, numbers: Range<usize>) -> Result<Histogram<u64>> {
        let mut micros = Histogram::new(3)?;
        for took in self.shared.took.get(predictions).unwrap_or_default() {
            for took in took.get(numbers.clone()).unwrap_or_default() {
                micros.record(took.load(Ordering::Acquire).saturating_sub(1))?;
            }
        }
        Ok(micros)
    }
}

/// Calls back `count` times, `rate` times a second, with the moment at which each call was due. A call that takes long moves
/// those after it, but not the moments at which they were due. Returns how late the calls were, in microseconds.
fn pace(count: usize, rate: usize, mut hand_over: impl FnMut(Instant) -> Result<()>) -> Result<Histogram<u64>> {
    let mut late_micros = Histogram::new(3)?;
    let started = Instant::now();
    for index in 0..count {
        let due = started + Duration::from_secs_f64(index as f64 / rate as f64);
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(TICK.max(early));
        }
        late_micros.record(Instant::now().saturating_duration_since(due).as_micros() as u64)?;
        hand_over(due)?;
    }
    Ok(late_micros)
}

impl Load<'_> {
    /// An event with its number.
    fn event(&self, number: usize) -> Option<Event> {
        let purchase = self.purchases.get(number.checked_rem(self.purchases.len())?)?;
        let key = if self.keyed_by_number {
            number.to_string()
        } else {
            purchase.key().to_owned()
        };
        Some(Event {
            topic: self.topic.to_owned(),
            key,
            value: purchase.json(number, (number / self.purchases.len()) as i64),
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && let Ok(Err(error)) = thread.join()
        {
            eprintln!("the subscriber failed: {error:#}");
        }
    }
}

impl Shared {
    fn micros_at(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.started).as_micros() as u64 + 1
    }

    fn read(&self, consumer: &Consumer, subscription: &Subscription) -> Result<()> {
        while !self.stop.load(Ordering::Acquire) {
            let fetched = consumer.fetch(10_000, Duration::from_millis(100))?;
            let now = self.micros_at(Instant::now());
            self.ended.fetch_add(fetched.end_of_partition.len(), Ordering::AcqRel);
            for message in &fetched.messages {
                let Some((prediction, number)) = (subscription.identify)(subscription, message) else {
                    continue;
                };
                let took = self.took.get(prediction).and_then(|took| took.get(number));
                let (Some(due), Some(took)) = (self.due.get(number), took) else {
                    continue;
                };
                let due = due.load(Ordering::Acquire);
                ensure!(due > 0, "a prediction of event {number} came before the event");
                took.store(now.saturating_sub(due) + 1, Ordering::Release);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_call_that_takes_long_does_not_move_when_the_others_were_due() {
        let stall = Duration::from_millis(50);
        let mut due = Vec::new();
        let late_micros = pace(20, 1_000, |moment| {
            if due.is_empty() {
                std::thread::sleep(stall);
            }
            due.push(moment);
            Ok(())
        })
        .unwrap();
        let after: Vec<u128> = due.iter().map(|moment| (*moment - due[0]).as_micros()).collect();
        let schedule: Vec<u128> = (0..20).map(|index| index * 1_000).collect();
        assert_eq!(after, schedule);
        // Those that were due meanwhile count as late by what the stall has cost them.
        assert!(
            late_micros.value_at_quantile(0.5) > 30_000,
            "{}",
            late_micros.value_at_quantile(0.5)
        );
    }
}
