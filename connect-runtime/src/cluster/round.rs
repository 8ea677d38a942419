//! A round of the group, as its leader deals it (contract 3.3 and 3.4). Pure.
//!
//! ```text
//!   members' metadata + ClusterState --deal--> an assignment for each member, and who owns what
//! ```

use super::fold::ClusterState;
use crate::membership::assignor::assign;
use crate::membership::protocol::{AssignmentError, MemberAssignment, MemberMetadata};
use std::collections::BTreeMap;

/// What the leader has dealt.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// by member id
    pub assignments: BTreeMap<String, MemberAssignment>,
    /// where it all runs
    pub owners: Owners,
    /// what it was dealt from; `None` where the leader could not deal
    pub dealt: Option<Dealt>,
}

/// URLs of the workers that run connectors and tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    connectors: BTreeMap<String, String>,
    tasks: BTreeMap<(String, usize), String>,
}

impl Owners {
    /// The worker that runs a connector.
    pub fn of_connector(&self, name: &str) -> Option<&str> {
        self.connectors.get(name).map(String::as_str)
    }

    /// The worker that runs a task.
    pub fn of_task(&self, name: &str, task: usize) -> Option<&str> {
        self.tasks.get(&(name.to_owned(), task)).map(String::as_str)
    }
}

/// The part of the cluster's state that a round depends on: incarnation and task set of each connector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dealt(BTreeMap<String, (i64, u64, usize)>);

impl Dealt {
    /// As things are.
    pub fn from(cluster: &ClusterState) -> Self {
        let connectors = cluster.connectors().iter();
        let dealt = connectors.map(|(name, state)| {
            let set = (state.incarnation, state.task_generation, state.tasks.len());
            (name.clone(), set)
        });
        Self(dealt.collect())
    }

    /// Whether another round is needed: a connector came or went, or has another task set.
    pub fn is_outdated(&self, cluster: &ClusterState) -> bool {
        *self != Self::from(cluster)
    }
}

/// The highest config offset that a member has read up to.
pub fn highest_offset(members: &BTreeMap<String, MemberMetadata>) -> i64 {
    let offsets = members.values().map(|member| member.config_offset);
    offsets.max().unwrap_or(-1)
}

/// Deals connectors and tasks to `members`, which hold `leader`. A leader that has read less of the config topic than
/// a member has deals nothing: all members are told to read on and to join again.
pub fn deal(leader: &str, members: &BTreeMap<String, MemberMetadata>, cluster: &ClusterState) -> Round {
    let leader_url = members.get(leader).map(|member| member.url.clone()).unwrap_or_default();
    let highest = highest_offset(members);
    let assignment = |error, config_offset, work| MemberAssignment {
        error,
        leader: leader.to_owned(),
        leader_url: leader_url.clone(),
        config_offset,
        work,
    };
    if cluster.offset < highest {
        let nothing = || {
            assignment(
                AssignmentError::ConfigMismatch,
                highest,
                crate::membership::assignor::Assignment::default(),
            )
        };
        return Round {
            assignments: members.keys().map(|member| (member.clone(), nothing())).collect(),
            owners: Owners::default(),
            dealt: None,
        };
    }
    let names: Vec<String> = members.keys().cloned().collect();
    let connectors = cluster.connectors().iter();
    let connectors = connectors
        .map(|(name, state)| (name.clone(), state.tasks.len()))
        .collect();
    let mut owners = Owners::default();
    let mut assignments = BTreeMap::new();
    for (member, work) in assign(&names, &connectors) {
        let url = members
            .get(&member)
            .map(|metadata| metadata.url.as_str())
            .unwrap_or_default();
        let own_connectors = work.connectors.iter().map(|name| (name.clone(), url.to_owned()));
        owners.connectors.extend(own_connectors);
        let own_tasks = work.tasks.iter().map(|task| (task.clone(), url.to_owned()));
        owners.tasks.extend(own_tasks);
        assignments.insert(member, assignment(AssignmentError::None, cluster.offset, work));
    }
    Round {
        assignments,
        owners,
        dealt: Some(Dealt::from(cluster)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::config_record::ConfigRecord;
    use connect_api::ConfigMap;
    use proptest::prelude::*;

    fn cluster(connectors: &BTreeMap<String, usize>) -> ClusterState {
        let mut cluster = ClusterState::default();
        let mut offset = 0;
        let mut apply = |record| {
            cluster.apply(offset, record);
            offset += 1;
        };
        for (name, tasks) in connectors {
            apply(ConfigRecord::Connector(name.clone(), Some(ConfigMap::new())));
            for task in 0..*tasks {
                apply(ConfigRecord::Task(name.clone(), task, ConfigMap::new()));
            }
            apply(ConfigRecord::Commit(name.clone(), *tasks));
        }
        cluster
    }

    fn members(offsets: &[(&str, i64)]) -> BTreeMap<String, MemberMetadata> {
        let metadata = |name: &str, config_offset| MemberMetadata {
            url: format!("http://{name}:8083/"),
            config_offset,
        };
        let members = offsets.iter();
        members
            .map(|(name, offset)| ((*name).to_owned(), metadata(name, *offset)))
            .collect()
    }

    #[test]
    fn a_leader_that_has_read_less_than_a_member_deals_nothing() {
        let cluster = cluster(&BTreeMap::from([("a".to_owned(), 1)]));
        let round = deal("m1", &members(&[("m1", 3), ("m2", 7)]), &cluster);
        assert_eq!(round.assignments.len(), 2);
        for assignment in round.assignments.values() {
            assert_eq!(assignment.error, AssignmentError::ConfigMismatch);
            assert_eq!(assignment.config_offset, 7);
            assert_eq!(assignment.work, crate::membership::assignor::Assignment::default());
        }
        assert_eq!(round.dealt, None);
    }

    #[test]
    fn the_offset_of_an_empty_config_topic_is_that_of_java() {
        let round = deal("m1", &members(&[("m1", -1)]), &ClusterState::default());
        let own = &round.assignments["m1"];
        assert_eq!((own.error, own.config_offset), (AssignmentError::None, -1));
    }

    #[test]
    fn members_that_are_behind_are_told_the_leaders_offset() {
        let cluster = cluster(&BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0)]));
        let round = deal("m1", &members(&[("m1", 4), ("m2", 0)]), &cluster);
        let second = &round.assignments["m2"];
        assert_eq!((second.config_offset, second.leader.as_str()), (cluster.offset, "m1"));
        assert_eq!(second.leader_url, "http://m1:8083/");
        assert_eq!(round.owners.of_connector("b"), Some("http://m2:8083/"));
        assert_eq!(round.owners.of_task("a", 0), Some("http://m1:8083/"));
        assert_eq!(round.owners.of_task("a", 1), None);
    }

    #[test]
    fn only_another_set_of_connectors_or_tasks_asks_for_another_round() {
        let mut cluster = cluster(&BTreeMap::from([("a".to_owned(), 1)]));
        let dealt = Dealt::from(&cluster);
        let offset = cluster.offset;
        let edited = ConfigMap::from([("k".to_owned(), Some("v".to_owned()))]);
        cluster.apply(offset, ConfigRecord::Connector("a".to_owned(), Some(edited)));
        assert!(!dealt.is_outdated(&cluster));
        cluster.apply(offset + 1, ConfigRecord::Task("a".to_owned(), 0, ConfigMap::new()));
        assert!(
            !dealt.is_outdated(&cluster),
            "tasks are not in force before their commit"
        );
        cluster.apply(offset + 2, ConfigRecord::Commit("a".to_owned(), 1));
        assert!(dealt.is_outdated(&cluster));
        let dealt = Dealt::from(&cluster);
        cluster.apply(offset + 3, ConfigRecord::Connector("a".to_owned(), None));
        assert!(dealt.is_outdated(&cluster));
    }

    proptest! {
        #[test]
        fn every_member_is_told_and_everything_has_one_owner(
            names in proptest::collection::btree_set("[a-z]{1,4}", 1..6),
            connectors in proptest::collection::btree_map("[a-z]{1,4}", 0..4usize, 0..8),
        ) {
            let cluster = cluster(&connectors);
            let offsets: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 0)).collect();
            let leader = names.first().unwrap();
            let round = deal(leader, &members(&offsets), &cluster);
            prop_assert!(round.assignments.keys().eq(names.iter()));
            for (name, tasks) in &connectors {
                prop_assert!(round.owners.of_connector(name).is_some());
                for task in 0..*tasks {
                    let owner = round.owners.of_task(name, task).unwrap();
                    let holders: Vec<_> = round.assignments.iter()
                        .filter(|(_, one)| one.work.tasks.contains(&(name.clone(), task)))
                        .map(|(member, _)| format!("http://{member}:8083/"))
                        .collect();
                    prop_assert_eq!(holders, [owner.to_owned()]);
                }
            }
        }
    }
}
