//! The reader of a task's feature log partitions: one consumer for all its detached models.
//!
//! Each detached model has a cursor. An entry that its model cannot take now stops that model's cursor alone; once the
//! model can go on, the partition is read again from there, and the others skip what they had.

use super::mode::Mode;
use connect_api::error::ConnectError;
use kafka_client::{ClientConfig, Consumer, KafkaError, StartOffset, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Entries per look at the log.
const ENTRIES: usize = 2_000;

/// Where one detached model stands in its partition.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    next: i64,
    /// an entry at `next` was not taken; nothing later may be
    stopped: bool,
}

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
    /// next offset to fetch, by partition
    assigned: BTreeMap<i32, i64>,
    cursors: BTreeMap<(i32, Arc<str>), Cursor>,
}

impl LogReader {
    /// A reader that reads nothing yet.
    pub fn new(topic: Arc<str>, config: ClientConfig) -> LogReader {
        LogReader {
            topic,
            config,
            consumer: None,
            assigned: BTreeMap::new(),
            cursors: BTreeMap::new(),
        }
    }

    /// The feature log's topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Forgets where a model stands: it goes on from its mode's position.
    pub fn forget(&mut self, partition: i32, model: &Arc<str>) {
        self.cursors.remove(&(partition, model.clone()));
    }

    /// Forgets where every model stands.
    pub fn reset(&mut self) {
        self.cursors.clear();
    }

    /// Up to where a model has been given everything that is its own.
    pub fn reached(&self, partition: i32, model: &Arc<str>) -> Option<i64> {
        self.cursors.get(&(partition, model.clone())).map(|cursor| cursor.next)
    }

    /// Whether a model has been given entries that it has not done.
    pub fn has_unread(&self, partition: i32, model: &Arc<str>, mode: &Mode) -> bool {
        let Mode::Detached(detached) = mode else { return false };
        self.cursors
            .get(&(partition, model.clone()))
            .is_some_and(|cursor| cursor.next > detached.position)
    }

    /// Reads what is there for these models (partition, model, mode) and gives each entry to `take`, which says whether
    /// the model takes it now.
    pub fn poll(
        &mut self,
        detached: &[(i32, Arc<str>, Mode)],
        can_go_on: impl Fn(&str) -> bool,
        mut take: impl FnMut(Entry<'_>) -> bool,
    ) -> Result<(), ConnectError> {
        let failed = |error: KafkaError| ConnectError::retriable(format!("feature log: {error}"));
        let mut wanted: BTreeMap<i32, i64> = BTreeMap::new();
        for (partition, model, mode) in detached {
            let Mode::Detached(detached) = mode else { continue };
            if detached.position >= detached.end {
                continue;
            }
            let fetched = self.assigned.get(partition).copied();
            let cursor = self.cursors.entry((*partition, model.clone())).or_insert(Cursor {
                next: detached.position,
                stopped: fetched.is_some_and(|fetched| fetched > detached.position),
            });
            if cursor.next < detached.end && can_go_on(model) {
                let next = wanted.entry(*partition).or_insert(i64::MAX);
                if cursor.stopped || fetched.is_none() {
                    *next = (*next).min(cursor.next);
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let consumer = match &self.consumer {
            Some(consumer) => consumer,
            None => {
                let mut config = self.config.clone();
                config
                    .set("isolation.level", "read_committed")
                    .set("auto.offset.reset", "earliest");
                self.consumer.insert(Consumer::new(&config).map_err(failed)?)
            }
        };
        for (partition, from) in &wanted {
            let place = TopicPartition::new(self.topic.clone(), *partition);
            match self.assigned.get_mut(partition) {
                None => {
                    consumer
                        .assign_also(&[(place, StartOffset::At(*from))])
                        .map_err(failed)?;
                    self.assigned.insert(*partition, *from);
                }
                Some(fetched) if *from < i64::MAX => {
                    consumer.seek(&place, *from).map_err(failed)?;
                    *fetched = *from;
                }
                Some(_) => continue,
            }
            for ((other, model), cursor) in &mut self.cursors {
                if other == partition && cursor.next >= *from && can_go_on(model) {
                    cursor.stopped = false;
                }
            }
        }
        let fetched = consumer.fetch(ENTRIES, Duration::ZERO).map_err(failed)?;
        for message in &fetched.messages {
            let (partition, offset) = (message.partition(), message.offset());
            if let Some(next) = self.assigned.get_mut(&partition) {
                *next = (*next).max(offset + 1);
            }
            let model = std::str::from_utf8(message.key().unwrap_or_default()).unwrap_or_default();
            for ((_, known), cursor) in self.cursors.iter_mut().filter(|((other, _), _)| *other == partition) {
                if cursor.stopped || offset < cursor.next {
                    continue;
                }
                let entry = Entry {
                    partition,
                    offset,
                    model,
                    value: message.value().unwrap_or_default(),
                };
                if **known != *model || take(entry) {
                    cursor.next = offset + 1;
                } else {
                    cursor.stopped = true;
                    cursor.next = offset;
                }
            }
        }
        for (ended, end) in fetched.end_of_partition.iter().zip(&fetched.end_offsets) {
            for ((other, _), cursor) in &mut self.cursors {
                if *other == ended.partition && !cursor.stopped {
                    cursor.next = cursor.next.max(*end);
                }
            }
        }
        Ok(())
    }
}
