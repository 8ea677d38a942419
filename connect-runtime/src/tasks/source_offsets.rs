//! Which source offsets may be committed: per source partition the last one of the contiguous prefix of records that
//! Kafka has acknowledged (contract 9.4; KAFKA-12226). Pure.
//!
//! ```text
//!   submit(partition, offset) -> ticket     in the order of sending
//!   acknowledge(ticket)                     in any order
//!   take() -> partitions whose prefix grew  then: committed, or put back
//! ```

use connect_api::record::SourceMap;
use connect_api::source::SourcePositions;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Offsets by source partition.
pub(super) type Committable = SourcePositions;

/// One record under way.
struct Entry {
    ticket: u64,
    offset: Arc<SourceMap>,
    acknowledged: bool,
}

/// The records of one source partition that are under way, in the order of sending.
struct PartitionQueue {
    partition: Arc<SourceMap>,
    entries: VecDeque<Entry>,
    /// last offset of the acknowledged prefix that was not taken yet
    committable: Option<Arc<SourceMap>>,
}

/// Where a ticket belongs.
#[derive(Clone, Copy)]
struct Place {
    queue: usize,
    bytes: usize,
}

/// Tracks the records of one task.
#[derive(Default)]
pub(super) struct SourceOffsets {
    queues: Vec<PartitionQueue>,
    /// canonical text of a partition -> its queue
    by_content: FxHashMap<String, usize>,
    /// last used: records of one partition mostly come in a row
    last: usize,
    /// places of tickets from `first_ticket` on; `None` once acknowledged
    places: VecDeque<Option<Place>>,
    first_ticket: u64,
    in_flight: usize,
    in_flight_bytes: usize,
}

impl SourceOffsets {
    /// A record of `partition` is about to be sent; `bytes` is what it takes of the budget. Tickets count from 1.
    pub(super) fn submit(&mut self, partition: &Arc<SourceMap>, offset: Arc<SourceMap>, bytes: usize) -> u64 {
        let queue = self.queue(partition);
        let ticket = self.first_ticket + self.places.len() as u64 + 1;
        self.places.push_back(Some(Place { queue, bytes }));
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.entries.push_back(Entry {
                ticket,
                offset,
                acknowledged: false,
            });
        }
        ticket
    }

    fn queue(&mut self, partition: &Arc<SourceMap>) -> usize {
        if self
            .queues
            .get(self.last)
            .is_some_and(|queue| Arc::ptr_eq(&queue.partition, partition))
        {
            return self.last;
        }
        let content = canonical(partition);
        let queues = &mut self.queues;
        self.last = *self.by_content.entry(content).or_insert_with(|| {
            queues.push(PartitionQueue {
                partition: Arc::clone(partition),
                entries: VecDeque::new(),
                committable: None,
            });
            queues.len() - 1
        });
        if let Some(queue) = self.queues.get_mut(self.last) {
            queue.partition = Arc::clone(partition); // equal content; the next comparison is one of pointers
        }
        self.last
    }

    /// The record with `ticket` is in Kafka, or was left out on purpose. Unknown and repeated tickets change nothing.
    pub(super) fn acknowledge(&mut self, ticket: u64) {
        let Some(index) = ticket.checked_sub(self.first_ticket + 1) else {
            return;
        };
        let Some(place) = usize::try_from(index)
            .ok()
            .and_then(|index| self.places.get_mut(index))
            .and_then(Option::take)
        else {
            return;
        };
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first_ticket += 1;
        }
        self.in_flight -= 1;
        self.in_flight_bytes -= place.bytes;
        let Some(queue) = self.queues.get_mut(place.queue) else {
            return;
        };
        if let Ok(at) = queue.entries.binary_search_by_key(&ticket, |entry| entry.ticket)
            && let Some(entry) = queue.entries.get_mut(at)
        {
            entry.acknowledged = true;
        }
        while queue.entries.front().is_some_and(|entry| entry.acknowledged) {
            queue.committable = queue.entries.pop_front().map(|entry| entry.offset);
        }
    }

    /// Records that are not acknowledged yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes of records that are not acknowledged yet.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Whether `take` would give something.
    pub(super) fn has_committable(&self) -> bool {
        self.queues.iter().any(|queue| queue.committable.is_some())
    }

    /// Takes the offsets that may be committed now, by partition.
    pub(super) fn take(&mut self) -> Committable {
        self.queues
            .iter_mut()
            .filter_map(|queue| {
                queue
                    .committable
                    .take()
                    .map(|offset| (Arc::clone(&queue.partition), offset))
            })
            .collect()
    }

    /// Puts back offsets that could not be committed; later ones of the same partition win.
    pub(super) fn put_back(&mut self, offsets: Committable) {
        for (partition, offset) in offsets {
            let queue = self.queue(&partition);
            if let Some(queue) = self.queues.get_mut(queue) {
                queue.committable.get_or_insert(offset);
            }
        }
    }
}

/// Text of a source partition that does not depend on the order of its members.
pub(super) fn canonical(partition: &SourceMap) -> String {
    let mut members: Vec<_> = partition.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    let mut text = String::with_capacity(64);
    for (name, value) in members {
        text.push_str(&serde_json::Value::from(name.as_str()).to_string());
        text.push(':');
        text.push_str(&value.to_string());
        text.push(',');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition(number: usize) -> Arc<SourceMap> {
        let mut map = SourceMap::new();
        map.insert("p".into(), number.into());
        Arc::new(map)
    }

    fn offset(number: u64) -> Arc<SourceMap> {
        let mut map = SourceMap::new();
        map.insert("at".into(), number.into());
        Arc::new(map)
    }

    #[test]
    fn a_slow_partition_does_not_hold_up_others() {
        let mut offsets = SourceOffsets::default();
        let slow = offsets.submit(&partition(0), offset(1), 10);
        let quick = offsets.submit(&partition(1), offset(7), 10);
        offsets.acknowledge(quick);
        assert_eq!(offsets.take(), vec![(partition(1), offset(7))]);
        offsets.acknowledge(slow);
        offsets.acknowledge(slow);
        assert_eq!(offsets.take(), vec![(partition(0), offset(1))]);
        assert_eq!((offsets.in_flight(), offsets.in_flight_bytes()), (0, 0));
    }

    #[test]
    fn partitions_are_compared_by_content() {
        let one: SourceMap = serde_json::from_str(r#"{"a":1,"b":"x"}"#).unwrap();
        let other: SourceMap = serde_json::from_str(r#"{"b":"x","a":1}"#).unwrap();
        let mut offsets = SourceOffsets::default();
        let first = offsets.submit(&Arc::new(one), offset(1), 0);
        let second = offsets.submit(&Arc::new(other), offset(2), 0);
        offsets.acknowledge(second);
        assert!(!offsets.has_committable());
        offsets.acknowledge(first);
        assert_eq!(offsets.take().len(), 1);
    }

    proptest! {
        /// Against a model that knows everything: the committable offset of a partition is the last of the longest
        /// prefix of its records that are all acknowledged.
        #[test]
        fn only_the_acknowledged_prefix_is_committable(
            records in proptest::collection::vec(0_usize..4, 1..60),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
            takes in proptest::collection::vec(any::<bool>(), 80),
        ) {
            let mut offsets = SourceOffsets::default();
            let mut tickets = Vec::new();
            for (number, queue) in records.iter().enumerate() {
                tickets.push(offsets.submit(&partition(*queue), offset(number as u64), 3));
            }
            let mut acknowledged = vec![false; records.len()];
            let mut committed: FxHashMap<usize, u64> = FxHashMap::default();
            for (step, index) in order.iter().enumerate() {
                let at = index.index(records.len());
                acknowledged[at] = true;
                offsets.acknowledge(tickets[at]);
                if takes[step] {
                    for (partition, offset) in offsets.take() {
                        let queue = partition["p"].as_u64().unwrap() as usize;
                        committed.insert(queue, offset["at"].as_u64().unwrap());
                    }
                }
            }
            for (partition, offset) in offsets.take() {
                committed.insert(partition["p"].as_u64().unwrap() as usize, offset["at"].as_u64().unwrap());
            }
            for queue in 0..4 {
                let expected = records.iter().enumerate().filter(|(_, of)| **of == queue)
                    .take_while(|(number, _)| acknowledged[*number]).last().map(|(number, _)| number as u64);
                prop_assert_eq!(committed.get(&queue).copied(), expected);
            }
            prop_assert_eq!(offsets.in_flight(), acknowledged.iter().filter(|done| !**done).count());
            prop_assert_eq!(offsets.in_flight_bytes(), offsets.in_flight() * 3);
        }
    }
}
