//! The durable layout of an inference connector: how many tasks it has and how its input is partitioned.
//!
//! The transactional ids of a connector's tasks follow from its layout. A layout that changes gets the next epoch and
//! remembers the earlier ones, so that a task can fence every id that a task of an older layout may still use.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// number of this layout, from 1
    pub epoch: u64,
    /// number of tasks
    pub tasks: usize,
    /// partitions of each input topic
    pub partitions: BTreeMap<String, i32>,
    /// earlier layouts: epoch and number of tasks
    #[serde(default)]
    pub earlier: Vec<(u64, usize)>,
}

/// Earlier layouts that are remembered.
const REMEMBERED: usize = 16;

impl Layout {
    /// The layout to use: the recorded one if it fits, otherwise the next epoch.
    ///
    /// Error: a topic's number of partitions has changed. Keys have moved to other partitions then, and their state has
    /// not.
    pub fn next(recorded: Option<&Layout>, tasks: usize, partitions: &BTreeMap<String, i32>) -> Result<Layout, String> {
        let Some(recorded) = recorded else {
            return Ok(Layout {
                epoch: 1,
                tasks,
                partitions: partitions.clone(),
                earlier: Vec::new(),
            });
        };
        for (topic, count) in partitions {
            if let Some(before) = recorded.partitions.get(topic).filter(|before| *before != count) {
                return Err(format!(
                    "topic {topic} has {count} partitions and had {before} when this connector's state was made: its keys have moved, so the state would be partial; make a new connector with another name, or give the topic {before} partitions again"
                ));
            }
        }
        if recorded.tasks == tasks && recorded.partitions == *partitions {
            return Ok(recorded.clone());
        }
        let mut earlier = recorded.earlier.clone();
        earlier.push((recorded.epoch, recorded.tasks));
        let surplus = earlier.len().saturating_sub(REMEMBERED);
        earlier.drain(..surplus);
        Ok(Layout {
            epoch: recorded.epoch + 1,
            tasks,
            partitions: partitions.clone(),
            earlier,
        })
    }

    /// Transactional id of a task of this layout.
    pub fn transactional_id(&self, group: &str, connector: &str, task: usize) -> String {
        transactional_id(group, connector, self.epoch, task)
    }

    /// Transactional ids of all tasks of earlier layouts.
    pub fn earlier_ids(&self, group: &str, connector: &str) -> Vec<String> {
        self.earlier
            .iter()
            .flat_map(|(epoch, tasks)| (0..*tasks).map(|task| transactional_id(group, connector, *epoch, task)))
            .collect()
    }
}

fn transactional_id(group: &str, connector: &str, epoch: u64, task: usize) -> String {
    format!("{group}-{connector}-{epoch}-{task}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(count: i32) -> BTreeMap<String, i32> {
        BTreeMap::from([("events".to_owned(), count)])
    }

    proptest! {
        #[test]
        fn every_earlier_id_is_told_and_none_is_used_twice(tasks in prop::collection::vec(1usize..5, 1..10)) {
            let mut layout = Layout::next(None, 1, &counts(4)).unwrap();
            let mut used = vec![layout.transactional_id("g", "c", 0)];
            for tasks in tasks {
                let next = Layout::next(Some(&layout), tasks, &counts(4)).unwrap();
                if next.epoch == layout.epoch { prop_assert_eq!(&next, &layout); continue; }
                layout = next;
                prop_assert_eq!(&layout.earlier_ids("g", "c"), &used);
                used.extend((0..tasks).map(|task| layout.transactional_id("g", "c", task)));
            }
        }
    }

    #[test]
    fn a_changed_partition_count_is_refused_by_name() {
        let layout = Layout::next(None, 2, &counts(4)).unwrap();
        let error = Layout::next(Some(&layout), 2, &counts(8)).unwrap_err();
        assert!(error.contains("topic events has 8 partitions and had 4"), "{error}");
    }
}
