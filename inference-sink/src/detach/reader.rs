//! The reader of a task's feature log partitions: one consumer for all its detached models.

use super::cursors::{Cursors, Plan};
use super::mode::Mode;
use crate::failure::failed;
use connect_api::error::ConnectError;
use kafka_client::{ClientConfig, Consumer, StartOffset, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Entries per look at the log.
const ENTRIES: usize = 2_000;

/// An entry for a model that wants it.
#[derive(Debug)]
pub struct Entry<'a> {
    /// input partition
    pub partition: i32,
    /// offset in the log
    pub offset: i64,
    /// `tenant/name`
    pub model: &'a str,
    /// its bytes
    pub value: &'a [u8],
}

/// The reader.
pub struct LogReader {
    topic: Arc<str>,
    config: ClientConfig,
    consumer: Option<Consumer>,
    partitions: BTreeMap<i32, Cursors>,
}

impl LogReader {
    /// A reader that reads nothing yet.
    pub fn new(topic: Arc<str>, config: ClientConfig) -> LogReader {
        LogReader {
            topic,
            config,
            consumer: None,
            partitions: BTreeMap::new(),
        }
    }

    /// The feature log's topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Forgets where a model stands: it goes on from its mode's position.
    pub fn forget(&mut self, partition: i32, model: &Arc<str>) {
        if let Some(cursors) = self.partitions.get_mut(&partition) {
            cursors.forget(model);
        }
    }

    /// Forgets where every model stands.
    pub fn reset(&mut self) {
        self.partitions.values_mut().for_each(Cursors::reset);
    }

    /// Up to where a model has been given everything that is its own.
    pub fn reached(&self, partition: i32, model: &Arc<str>) -> Option<i64> {
        self.partitions.get(&partition)?.reached(model)
    }

    /// Whether a model has been given entries that it has not done.
    pub fn has_unread(&self, partition: i32, model: &Arc<str>, mode: &Mode) -> bool {
        let Mode::Detached(detached) = mode else { return false };
        self.reached(partition, model)
            .is_some_and(|next| next > detached.position)
    }

    /// Reads what is there for these models (partition, model, mode) and gives each entry to `take`, which says whether
    /// the model takes it now.
    pub fn poll(
        &mut self,
        detached: &[(i32, Arc<str>, Mode)],
        can_go_on: impl Fn(&str) -> bool,
        mut take: impl FnMut(Entry<'_>) -> bool,
    ) -> Result<(), ConnectError> {
        let failed = failed("feature log");
        let mut wanted: BTreeMap<i32, Vec<(&Arc<str>, i64, i64)>> = BTreeMap::new();
        for (partition, model, mode) in detached {
            let Mode::Detached(detached) = mode else { continue };
            let models = wanted.entry(*partition).or_default();
            models.push((model, detached.position, detached.end));
        }
        let plans: Vec<(i32, Plan)> = wanted
            .into_iter()
            .map(|(partition, models)| {
                let cursors = self.partitions.entry(partition).or_default();
                (partition, cursors.plan(models.into_iter(), &can_go_on))
            })
            .filter(|(_, plan)| *plan != Plan::Nothing)
            .collect();
        if plans.is_empty() {
            return Ok(());
        }
        let consumer = match &self.consumer {
            Some(consumer) => consumer,
            None => {
                let mut config = self.config.clone();
                config
                    .set("isolation.level", "read_committed")
                    .set("auto.offset.reset", "earliest");
                self.consumer.insert(Consumer::new(&config).map_err(&failed)?)
            }
        };
        for (partition, plan) in plans {
            let place = TopicPartition::new(self.topic.clone(), partition);
            match plan {
                Plan::Nothing | Plan::ReadOn => {}
                Plan::Begin(offset) => consumer
                    .assign_also(&[(place, StartOffset::At(offset))])
                    .map_err(&failed)?,
                Plan::Seek(offset) => consumer.seek(&place, offset).map_err(&failed)?,
            }
        }
        let fetched = consumer.fetch(ENTRIES, Duration::ZERO).map_err(&failed)?;
        for message in &fetched.messages {
            let (partition, offset) = (message.partition(), message.offset());
            let model = std::str::from_utf8(message.key().unwrap_or_default()).unwrap_or_default();
            let Some(cursors) = self.partitions.get_mut(&partition) else {
                continue;
            };
            cursors.entry(offset, model, || {
                take(Entry {
                    partition,
                    offset,
                    model,
                    value: message.value().unwrap_or_default(),
                })
            });
        }
        for (ended, end) in fetched.end_of_partition.iter().zip(&fetched.end_offsets) {
            if let Some(cursors) = self.partitions.get_mut(&ended.partition) {
                cursors.ended(*end);
            }
        }
        Ok(())
    }
}
