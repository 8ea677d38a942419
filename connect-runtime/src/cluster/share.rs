//! What this worker runs of each connector, from its assignment and the cluster's state. Pure.

use super::fold::ClusterState;
use crate::membership::assignor::Assignment;
use std::collections::{BTreeMap, BTreeSet};

/// What this worker runs of one connector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// the connector itself
    pub connector: bool,
    /// tasks by number
    pub tasks: BTreeSet<usize>,
    /// the task set that they are of
    pub task_generation: u64,
    /// whether what does not run yet may be started: not before the whole group has stopped what moves
    pub start: bool,
}

/// By connector; one that is not there has no share.
pub type Shares = BTreeMap<String, Share>;

/// What `assignment` says, of the task sets that are in force.
pub fn shares(assignment: &Assignment, cluster: &ClusterState) -> Shares {
    let mut shares = Shares::new();
    let share = |name: &String| Share {
        task_generation: cluster.connector(name).map_or(0, |state| state.task_generation),
        start: true,
        ..Share::default()
    };
    for name in &assignment.connectors {
        shares.entry(name.clone()).or_insert_with(|| share(name)).connector = true;
    }
    for (name, task) in &assignment.tasks {
        let entry = shares.entry(name.clone()).or_insert_with(|| share(name));
        entry.tasks.insert(*task);
    }
    shares
}

/// What may go on running between two assignments: what is in both. Tasks of another task set are in it with the new
/// set, so that they stop; nothing is started.
pub fn kept(before: &Shares, next: &Shares) -> Shares {
    before
        .iter()
        .filter_map(|(name, before)| {
            let next = next.get(name)?;
            let share = Share {
                connector: before.connector && next.connector,
                tasks: before.tasks.intersection(&next.tasks).copied().collect(),
                task_generation: next.task_generation,
                start: false,
            };
            Some((name.clone(), share))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_shares() -> impl Strategy<Value = Shares> {
        let share = (any::<bool>(), proptest::collection::btree_set(0..4usize, 0..4), 0..3u64);
        let share = share.prop_map(|(connector, tasks, task_generation)| Share {
            connector,
            tasks,
            task_generation,
            start: true,
        });
        proptest::collection::btree_map("[a-d]", share, 0..4)
    }

    #[test]
    fn an_assignment_is_of_the_task_sets_in_force() {
        use crate::records::config_record::ConfigRecord;
        let mut cluster = ClusterState::default();
        let config = connect_api::ConfigMap::new;
        cluster.apply(0, ConfigRecord::Connector("a".to_owned(), Some(config())));
        cluster.apply(1, ConfigRecord::Task("a".to_owned(), 0, config()));
        cluster.apply(2, ConfigRecord::Commit("a".to_owned(), 1));
        let assignment = Assignment {
            connectors: vec!["b".to_owned()],
            tasks: vec![("a".to_owned(), 0)],
        };
        let shares = shares(&assignment, &cluster);
        assert_eq!((shares["a"].connector, shares["a"].task_generation), (false, 1));
        assert_eq!(shares["a"].tasks, BTreeSet::from([0]));
        assert!(shares["b"].connector && shares["b"].tasks.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_kept_is_in_both_and_starts_nothing(before in any_shares(), next in any_shares()) {
            for (name, share) in kept(&before, &next) {
                let (before, next) = (&before[&name], &next[&name]);
                prop_assert!(!share.start);
                prop_assert_eq!(share.connector, before.connector && next.connector);
                prop_assert!(share.tasks.is_subset(&before.tasks) && share.tasks.is_subset(&next.tasks));
                prop_assert_eq!(share.task_generation, next.task_generation);
            }
        }
    }
}
