//! What tenants get: committed records of their topics, by the input record that each was made from.

use anyhow::{Context, Result, ensure};
use kafka_client::{ClientConfig, Consumer, StartOffset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests::worker::PATIENCE;

/// Partitions of each output topic.
pub const PARTITIONS: i32 = 4;
/// Models that run for every purchase, by topic of their outputs.
pub const OF_EVERY_PURCHASE: [&str; 3] = [
    "predictions.marketing",
    "predictions.personalization",
    "predictions.research",
];
/// Results of whole days.
pub const OF_DAYS: &str = "predictions.insights";
/// What the tenant with a limited rate gets, and what is shed.
pub const OF_TRIAL: [&str; 2] = ["predictions.trial", "shed.trial"];

/// All topics of outputs.
pub fn topics() -> impl Iterator<Item = &'static str> {
    OF_EVERY_PURCHASE.into_iter().chain([OF_DAYS]).chain(OF_TRIAL)
}

/// One record of an output topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// its key
    pub key: String,
    /// the header `millrace.model`; shed events have none
    pub model: String,
    /// its value
    pub value: String,
}

/// Records by the header `millrace.source`: topic-partition-offset.
pub type BySource = BTreeMap<String, Vec<Output>>;

/// Follows the topics of outputs.
pub struct Outputs {
    consumer: Consumer,
    ended: BTreeSet<TopicPartition>,
    /// what has come, by topic
    pub by_topic: BTreeMap<String, BySource>,
}

impl Outputs {
    /// Reads from the beginning.
    pub fn follow(bootstrap: &str) -> Result<Outputs> {
        let mut config = ClientConfig::new(bootstrap);
        config.set("isolation.level", "read_committed");
        let consumer = Consumer::new(&config)?;
        let all: Vec<_> = topics()
            .flat_map(|topic| (0..PARTITIONS).map(move |partition| TopicPartition::new(topic, partition)))
            .map(|partition| (partition, StartOffset::Beginning))
            .collect();
        consumer.assign(&all)?;
        Ok(Outputs {
            consumer,
            ended: BTreeSet::new(),
            by_topic: topics().map(|topic| (topic.to_owned(), BySource::new())).collect(),
        })
    }

    /// Takes what has come, after a short wait.
    pub fn read(&mut self) -> Result<()> {
        let fetched = tokio::task::block_in_place(|| self.consumer.fetch(10_000, Duration::from_millis(50)))?;
        for message in &fetched.messages {
            self.ended
                .remove(&TopicPartition::new(message.topic(), message.partition()));
            let header = |name: &str| {
                let found = message.headers().find(|(header, _)| *header == name);
                found.and_then(|(_, value)| value).map(text)
            };
            let source = header("millrace.source").context("an output has no millrace.source")?;
            let output = Output {
                key: message.key().map(text).unwrap_or_default(),
                model: header("millrace.model").unwrap_or_default(),
                value: message.value().map(text).unwrap_or_default(),
            };
            let topic = self.by_topic.entry(message.topic().to_owned()).or_default();
            topic.entry(source).or_default().push(output);
        }
        self.ended.extend(fetched.end_of_partition);
        Ok(())
    }

    /// Everything that is committed now.
    pub fn all(bootstrap: &str) -> Result<Outputs> {
        let mut outputs = Self::follow(bootstrap)?;
        let all = topics().count() * PARTITIONS as usize;
        let deadline = Instant::now() + PATIENCE;
        while outputs.ended.len() < all {
            outputs.read()?;
            ensure!(Instant::now() < deadline, "outputs could not be read to their end");
        }
        Ok(outputs)
    }

    /// Input records that have an output in a topic.
    pub fn sources(&self, topic: &str) -> usize {
        self.by_topic.get(topic).map_or(0, BTreeMap::len)
    }

    /// Input records that the tenant with a limited rate has a prediction of, or knows to be shed.
    pub fn sources_of_trial(&self) -> BTreeSet<&String> {
        OF_TRIAL
            .iter()
            .filter_map(|topic| self.by_topic.get(*topic))
            .flat_map(BTreeMap::keys)
            .collect()
    }

    /// Waits until each of `events` input records has its prediction from every model that runs for each, and its fate with
    /// the tenant whose rate is limited.
    pub fn until_all(&mut self, events: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read()?;
            let counts: Vec<usize> = OF_EVERY_PURCHASE
                .iter()
                .map(|topic| self.sources(topic))
                .chain([self.sources_of_trial().len()])
                .collect();
            if counts.iter().all(|count| *count >= events) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{counts:?} of {events} events have their outputs"
            );
        }
    }

    /// No input record has two outputs of one model, and none is both predicted and shed.
    pub fn check_none_twice(&self) -> Result<()> {
        for (topic, by_source) in &self.by_topic {
            for (source, outputs) in by_source {
                ensure!(
                    outputs.len() == 1,
                    "{topic}: {} outputs of {source}: {outputs:?}",
                    outputs.len()
                );
            }
        }
        let [predicted, shed] = OF_TRIAL.map(|topic| self.sources(topic));
        let all = self.sources_of_trial().len();
        ensure!(
            predicted + shed == all,
            "{predicted} predicted and {shed} shed of {all}"
        );
        Ok(())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
