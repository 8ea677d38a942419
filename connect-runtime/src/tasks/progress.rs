//! How far each partition of a task has been read, and how far that is durable, since the session began. Pure.

use connect_api::delivery::SinkOffsets;
use connect_api::{StartAt, TopicPartition};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The partitions of a session.
#[derive(Debug, Default)]
pub(super) struct Progress(Vec<PartitionProgress>);

#[derive(Debug)]
struct PartitionProgress {
    topic: Arc<str>,
    partition: i32,
    /// none: nothing has been read
    durable: Option<i64>,
    /// the lowest offset that may come next
    next: i64,
}

impl Progress {
    /// Of partitions that are read from here on. Where one begins that has no offset, its first record says.
    pub(super) fn from_starts(starts: impl IntoIterator<Item = (TopicPartition, StartAt)>) -> Progress {
        let known = starts.into_iter().filter_map(|(partition, start)| match start {
            StartAt::Offset(next) => Some(PartitionProgress {
                topic: partition.topic,
                partition: partition.partition,
                durable: None,
                next,
            }),
            StartAt::Beginning | StartAt::End => None,
        });
        Progress(known.collect())
    }

    /// Records of one partition have been read.
    ///
    /// Error: the offset that was to come, or a later one, where the first of these is before it.
    pub(super) fn fetched(&mut self, topic: &str, partition: i32, offsets: RangeInclusive<i64>) -> Result<(), i64> {
        let (first, next) = (*offsets.start(), offsets.end() + 1);
        match self.of(topic, partition) {
            Some(known) if first < known.next => return Err(known.next),
            Some(known) => {
                known.durable.get_or_insert(first);
                known.next = next;
            }
            None => self.0.push(PartitionProgress {
                topic: topic.into(),
                partition,
                durable: Some(first),
                next,
            }),
        }
        Ok(())
    }

    /// Everything before these positions is durable.
    pub(super) fn durable(&mut self, positions: &SinkOffsets) {
        for (partition, offset) in positions {
            let known = self.of(&partition.topic, partition.partition);
            if let Some(durable) = known.and_then(|known| known.durable.as_mut()) {
                *durable = *offset;
            }
        }
    }

    /// A partition is read again from this offset on.
    pub(super) fn rewound(&mut self, partition: &TopicPartition, offset: i64) {
        match self.of(&partition.topic, partition.partition) {
            Some(known) => known.next = offset,
            None => self.0.push(PartitionProgress {
                topic: partition.topic.clone(),
                partition: partition.partition,
                durable: None,
                next: offset,
            }),
        }
    }

    /// Offsets that have been read and are not durable.
    pub(super) fn open(&self) -> u64 {
        let open = |known: &PartitionProgress| u64::try_from(known.next.saturating_sub(known.durable?)).ok();
        self.0.iter().filter_map(open).sum()
    }

    fn of(&mut self, topic: &str, partition: i32) -> Option<&mut PartitionProgress> {
        let mut all = self.0.iter_mut();
        all.find(|known| known.partition == partition && *known.topic == *topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition::new("topic", partition)
    }

    #[test]
    fn offsets_that_go_back_are_noticed_and_those_that_are_open_counted() {
        let mut progress = Progress::from_starts([(place(0), StartAt::Offset(5)), (place(1), StartAt::Beginning)]);
        assert_eq!(progress.open(), 0);
        assert_eq!(progress.fetched("topic", 0, 3..=9), Err(5));
        // What compaction has left out was never read.
        assert_eq!(progress.fetched("topic", 0, 7..=9), Ok(()));
        assert_eq!(progress.fetched("topic", 1, 0..=1), Ok(()));
        assert_eq!(progress.open(), 3 + 2);
        progress.durable(&[(place(0), 9)].into_iter().collect());
        assert_eq!(progress.open(), 1 + 2);
        progress.rewound(&place(1), 1);
        assert_eq!((progress.open(), progress.fetched("topic", 1, 0..=1)), (1 + 1, Err(1)));
        assert_eq!(progress.fetched("topic", 1, 1..=1), Ok(()));
        // A place that nothing was read of yet.
        progress.durable(&[(place(2), 9)].into_iter().collect());
        progress.rewound(&place(2), 4);
        assert_eq!(progress.fetched("topic", 2, 3..=3), Err(4));
        assert_eq!(progress.open(), 1 + 2);
    }
}
