//! Gives what a stuck client has to another one (see [`super::watch`]).
//!
//! ```text
//!  look, every so often: oldest record --watch--> long? candidate client: are the leaders of its topic known?
//!     stuck: senders wait | purge the stuck client: each record comes back as it is | the candidate gets them in order
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::watch::Watch;
use super::{Line, REQUEST_TIMEOUT, Shared};
use crate::clock::millis;
use crate::config::ClientConfig;
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::{Reports as _, TakenBack};
use crate::producer_record::SendError;

/// How long the candidate's question may take; deliveries wait for it meanwhile.
const QUESTION: Duration = Duration::from_secs(2);
/// How long the stuck client may take to give its records back.
const GIVE_BACK: Duration = Duration::from_secs(10);
/// Wait while the candidate's buffer is full.
const ROOM_WAIT: Duration = Duration::from_millis(10);

/// Looks after one producer.
pub(super) struct Renewal {
    watch: Watch,
    /// Between two looks.
    interval: Duration,
    next: Option<Instant>,
    candidate: Option<Line>,
}

impl Renewal {
    pub fn new(config: &ClientConfig) -> Renewal {
        let timeout = config
            .get("request.timeout.ms")
            .and_then(|text| text.trim().parse().ok());
        let patience = timeout.map_or(REQUEST_TIMEOUT, Duration::from_millis);
        Renewal {
            watch: Watch::new(patience),
            interval: (patience / 6).max(Duration::from_millis(100)),
            next: None,
            candidate: None,
        }
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Called after every poll; looks only when it is time.
    pub fn look(&mut self, shared: &Shared, now: Instant) {
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + self.interval);
        let oldest = shared.records.in_flight.lock().oldest();
        if !self.watch.look(oldest.map(|flight| flight.sequence), now) {
            self.candidate = None;
            return;
        }
        let topic = oldest.and_then(|flight| shared.line().topics.name(flight.topic));
        let answered = topic.as_deref().is_some_and(|topic| self.has_leaders(shared, topic));
        if !self.watch.asked(answered, Instant::now()) {
            return;
        }
        if let Some(candidate) = self.candidate.take() {
            let records = renew(shared, candidate);
            tracing::error!(
                topic = topic.as_deref(),
                records,
                "a producer was stuck though brokers answer, and was made anew: its records are sent again, some may be there twice"
            );
            self.watch.renewed(Instant::now());
        }
    }

    /// Whether another client than the one that may be stuck finds a leader for every partition of the topic.
    fn has_leaders(&mut self, shared: &Shared, topic: &str) -> bool {
        if self.candidate.is_none() {
            match Line::new(&shared.config, &shared.records, true) {
                Ok(line) => self.candidate = Some(line),
                Err(error) => tracing::warn!(error = %error, "no client to see whether brokers answer"),
            }
        }
        let Some(candidate) = &self.candidate else { return false };
        let described = candidate.client.describe_topics(&[topic], QUESTION);
        let found = described.into_iter().flatten().flatten().next();
        found.is_some_and(|topic| {
            !topic.partitions.is_empty() && topic.partitions.iter().all(|partition| partition.leader.is_some())
        })
    }
}

/// Moves everything in flight to another client, which becomes the producer's. How many records.
fn renew(shared: &Shared, candidate: Line) -> usize {
    let mut line = shared.line.write();
    *shared.records.taken_back.lock() = Some(Vec::new());
    line.client.purge();
    let given_back = line.client.flush(millis(GIVE_BACK));
    let mut records = shared.records.taken_back.lock().take().unwrap_or_default();
    if let Err(error) = given_back {
        tracing::warn!(error = %error, "a stuck client keeps records back: they fail");
    }
    let flight = |number: u64| shared.records.in_flight.lock().get(number);
    records.sort_by_cached_key(|(number, _)| flight(*number).map(|flight| flight.sequence));
    candidate.client.speak_up();
    let stuck = std::mem::replace(&mut *line, Arc::new(candidate));
    for (number, record) in &records {
        if let Some(flight) = flight(*number) {
            send_again(shared, &line, *number, flight.timestamp_ms, record);
        }
    }
    drop(line);
    // Its threads are waited for when it goes, which may take a while.
    let gone = std::thread::Builder::new()
        .name("kafka-stuck".to_owned())
        .spawn(move || drop(stuck));
    if gone.is_err() {
        tracing::warn!("no thread to close a stuck client on");
    }
    records.len()
}

fn send_again(shared: &Shared, line: &Line, number: u64, timestamp_ms: i64, record: &TakenBack) {
    let headers: Vec<(&str, Option<&[u8]>)> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    let topic = match line.topics.topic(&record.topic) {
        Ok(topic) => topic,
        Err(error) => return shared.records.delivered(number, Err(error)),
    };
    shared.records.in_flight.lock().moved(number, topic.number);
    let error = loop {
        match line
            .topics
            .produce(topic, &record.as_record(timestamp_ms, &headers), number)
        {
            Ok(()) => return,
            // Both have the same room, but reports that nobody has taken yet take some of it.
            Err(SendError::QueueFull) if !shared.progress.stop.load(Ordering::Acquire) => {
                line.client.poll(millis(ROOM_WAIT));
            }
            Err(SendError::QueueFull) => {
                break KafkaError::new(ErrorCode::QueueFull, format!("send to {} again", record.topic));
            }
            Err(SendError::Kafka(error)) => break error,
        }
    };
    shared.records.delivered(number, Err(error));
}
