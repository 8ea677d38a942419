//! Events at a steady rate, and how long each took to become predictions: from the moment it is sent to the moment a
//! subscriber of the output topic has it.

use crate::events::{PARTITIONS, Purchase, TOPIC};
use crate::generator::{Event, Generator};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use kafka_client::{ClientConfig, Consumer, StartOffset, TopicPartition};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What has not come by then, after the last event, is missing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the clock of the sender: what has become due meanwhile is sent at once.
const TICK: Duration = Duration::from_millis(1);

/// A topic for events that go from the producer to the subscriber with nothing between.
pub const STRAIGHT: &str = "straight";

/// Reads output topics from their ends on, for as long as it lives.
pub struct Subscriber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

struct Shared {
    started: Instant,
    /// microseconds after `started` at which an event was sent, plus 1; 0 for none
    sent: Vec<AtomicU64>,
    /// microseconds from sending to reading, by event and topic, plus 1; 0 for none
    took: Vec<Vec<AtomicU64>>,
    /// partitions whose end was seen: the subscriber is there
    ended: AtomicUsize,
    stop: AtomicBool,
}

/// Latencies of one stretch of events in one topic, in microseconds.
pub struct Latencies {
    /// of those that came
    pub micros: Histogram<u64>,
    /// events without a prediction
    pub missing: usize,
}

impl Latencies {
    /// In milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.micros.value_at_quantile(quantile) as f64 / 1e3
    }
}

impl Subscriber {
    /// Subscribes to topics whose records have the event's number as their key; of `events` events at most.
    pub fn start(bootstrap: &str, topics: &[String], events: usize) -> Result<Subscriber> {
        let mut config = ClientConfig::new(bootstrap);
        config
            .set("isolation.level", "read_committed")
            .set("fetch.max.wait.ms", "100");
        let consumer = Consumer::new(&config)?;
        let zeros = || (0..events).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let shared = Arc::new(Shared {
            started: Instant::now(),
            sent: zeros(),
            took: topics.iter().map(|_| zeros()).collect(),
            ended: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let assignment: Vec<_> = topics
            .iter()
            .flat_map(|topic| (0..PARTITIONS).map(|p| (TopicPartition::new(topic.clone(), p), StartOffset::End)))
            .collect();
        consumer.assign(&assignment)?;
        let (own, topics) = (shared.clone(), topics.to_vec());
        let partitions = assignment.len();
        let thread = std::thread::spawn(move || own.read(&consumer, &topics));
        let deadline = Instant::now() + PATIENCE;
        while shared.ended.load(Ordering::Acquire) < partitions {
            ensure!(
                Instant::now() < deadline,
                "the subscriber does not reach the ends of the output topics"
            );
            std::thread::sleep(TICK);
        }
        Ok(Subscriber {
            shared,
            thread: Some(thread),
        })
    }

    /// Sends events `numbers` at `rate` per second to the input topic, and waits for their predictions in every topic.
    pub fn run(
        &self,
        generator: &Generator,
        purchases: &[Purchase],
        numbers: std::ops::Range<usize>,
        rate: f64,
        expected_topics: &[usize],
    ) -> Result<Vec<Latencies>> {
        self.send(generator, purchases, numbers.clone(), rate, None)?;
        self.wait(numbers, expected_topics)
    }

    /// Sends events straight to the topic that is subscribed to: what the broker and the clients take without a worker.
    pub fn run_straight(
        &self,
        generator: &Generator,
        purchases: &[Purchase],
        numbers: std::ops::Range<usize>,
        rate: f64,
    ) -> Result<Vec<Latencies>> {
        self.send(generator, purchases, numbers.clone(), rate, Some(STRAIGHT))?;
        self.wait(numbers, &[0])
    }

    /// To the input topic with the household as key, or straight to a topic with the event's number as key.
    fn send(
        &self,
        generator: &Generator,
        purchases: &[Purchase],
        numbers: std::ops::Range<usize>,
        rate: f64,
        straight_to: Option<&'static str>,
    ) -> Result<()> {
        // Made before the clock runs: broker and clients share a core.
        let events = numbers.map(|number| event(purchases, number, straight_to));
        let events: Vec<(usize, Event)> = events.collect::<Option<_>>().context("there are no purchases")?;
        let started = Instant::now();
        for (index, (number, event)) in events.into_iter().enumerate() {
            let due = started + Duration::from_secs_f64(index as f64 / rate);
            if Instant::now() < due {
                std::thread::sleep(TICK.max(due.saturating_duration_since(Instant::now())));
            }
            if let Some(sent) = self.shared.sent.get(number) {
                sent.store(self.shared.now_us(), Ordering::Release);
            }
            generator.send(event)?;
        }
        generator.flush()
    }

    fn wait(&self, numbers: std::ops::Range<usize>, expected_topics: &[usize]) -> Result<Vec<Latencies>> {
        let deadline = Instant::now() + PATIENCE;
        let missing = |topic: &usize| numbers.clone().any(|number| self.took(*topic, number).is_none());
        while expected_topics.iter().any(missing) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        expected_topics
            .iter()
            .map(|topic| self.latencies(*topic, numbers.clone()))
            .collect()
    }

    fn took(&self, topic: usize, number: usize) -> Option<u64> {
        match self.shared.took.get(topic)?.get(number)?.load(Ordering::Acquire) {
            0 => None,
            took => Some(took - 1),
        }
    }

    /// Of some events in one topic, as far as they have come.
    pub fn latencies(&self, topic: usize, numbers: std::ops::Range<usize>) -> Result<Latencies> {
        let mut latencies = Latencies {
            micros: Histogram::new(3)?,
            missing: 0,
        };
        for number in numbers {
            match self.took(topic, number) {
                Some(took) => latencies.micros.record(took)?,
                None => latencies.missing += 1,
            }
        }
        Ok(latencies)
    }
}

/// An event with its number.
fn event(purchases: &[Purchase], number: usize, straight_to: Option<&'static str>) -> Option<(usize, Event)> {
    let purchase = purchases.get(number.checked_rem(purchases.len())?)?;
    let key = match straight_to {
        None => purchase.key().to_owned(),
        Some(_) => number.to_string(),
    };
    let event = Event {
        topic: straight_to.unwrap_or(TOPIC),
        key,
        value: purchase.json(number, (number / purchases.len()) as i64),
    };
    Some((number, event))
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
    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64 + 1
    }

    fn read(&self, consumer: &Consumer, topics: &[String]) -> Result<()> {
        while !self.stop.load(Ordering::Acquire) {
            let fetched = consumer.fetch(10_000, Duration::from_millis(100))?;
            let now_us = self.now_us();
            self.ended.fetch_add(fetched.end_of_partition.len(), Ordering::AcqRel);
            for message in &fetched.messages {
                let number = message
                    .key()
                    .and_then(|key| std::str::from_utf8(key).ok()?.parse::<f64>().ok());
                let topic = topics.iter().position(|topic| *topic == message.topic());
                let (Some(number), Some(topic)) = (number, topic) else {
                    continue;
                };
                let number = number as usize;
                let (Some(sent), Some(took)) = (
                    self.sent.get(number),
                    self.took.get(topic).and_then(|took| took.get(number)),
                ) else {
                    continue;
                };
                let sent = sent.load(Ordering::Acquire);
                ensure!(sent > 0, "a prediction of event {number} came before the event");
                took.store(now_us.saturating_sub(sent) + 1, Ordering::Release);
            }
        }
        Ok(())
    }
}

/// Events of a warm-up: the broker's hot paths are compiled by then.
pub const WARM_UP_EVENTS: usize = 60_000;

/// Lets a job run for a while, so that the broker has long carried it when something is measured.
pub fn warm_up(
    subscriber: &Subscriber,
    generator: &Generator,
    purchases: &[Purchase],
    numbers: std::ops::Range<usize>,
) -> Result<()> {
    const RATE: f64 = 2_000.0;
    let latencies = subscriber.run(generator, purchases, numbers, RATE, &[0, 1, 2])?;
    let missing: usize = latencies.iter().map(|latencies| latencies.missing).sum();
    ensure!(missing == 0, "{missing} predictions of the warm-up did not come");
    Ok(())
}
