//! Which partitions a task of a partition-owning connector reads (design "Fixed partitions"). Pure.

use connect_api::{ConnectError, TopicPartition};
use kafka_client::TopicIdentity;
use std::sync::Arc;

/// The partitions `p` with `p mod tasks = task` of every topic, in order of partition, then topic. `topics` are the
/// connector's.
///
/// # Errors
/// Topics whose counts differ, by name: records of one key would lie in partitions of different tasks.
pub(super) fn owned(topics: &[TopicIdentity], task: usize, tasks: usize) -> Result<Vec<TopicPartition>, ConnectError> {
    let Some(TopicIdentity {
        name: first,
        partitions: count,
        ..
    }) = topics.first()
    else {
        return Ok(Vec::new());
    };
    if let Some(TopicIdentity {
        name: other,
        partitions: different,
        ..
    }) = topics.iter().find(|topic| topic.partitions != *count)
    {
        return Err(ConnectError::config(format!(
            "topics {first} ({count} partitions) and {other} ({different} partitions) must have the same number of \
             partitions: the connector keeps state by partition; repartition one of them or read it with another \
             connector"
        )));
    }
    let tasks = tasks.max(1);
    Ok((0..*count)
        .filter(|partition| usize::try_from(*partition).is_ok_and(|partition| partition % tasks == task))
        .flat_map(|partition| {
            topics
                .iter()
                .map(move |topic| TopicPartition::new(Arc::clone(&topic.name), partition))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic(name: &str, partitions: i32) -> TopicIdentity {
        TopicIdentity {
            name: name.into(),
            id: None,
            partitions,
        }
    }

    #[test]
    fn unequal_counts_are_refused_by_name() {
        let error = owned(&[topic("a", 4), topic("b", 3)], 0, 2).unwrap_err();
        assert!(
            error.message().contains("a (4 partitions) and b (3 partitions)"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner(count in 0_i32..40, topics in 1_usize..4, tasks in 1_usize..12) {
            let topics: Vec<TopicIdentity> = (0..topics).map(|number| topic(&format!("t{number}"), count)).collect();
            let mut all: Vec<TopicPartition> = Vec::new();
            for task in 0..tasks {
                let mine = owned(&topics, task, tasks).unwrap();
                prop_assert!(mine.iter().all(|p| p.partition as usize % tasks == task));
                all.extend(mine);
            }
            all.sort();
            let mut expected: Vec<TopicPartition> = topics.iter()
                .flat_map(|topic| (0..topic.partitions).map(move |p| TopicPartition::new(&*topic.name, p))).collect();
            expected.sort();
            prop_assert_eq!(all, expected);
        }
    }
}
