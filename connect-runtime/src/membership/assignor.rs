//! The eager assignment of connectors and tasks to workers (contract 3.4): a pure function.

use std::collections::BTreeMap;

/// What one worker runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// connectors, in the order they were dealt
    pub connectors: Vec<String>,
    /// tasks as (connector, number), in the order they were dealt
    pub tasks: Vec<(String, usize)>,
}

/// Deals connectors, then tasks, round-robin to the members in the order of their ids; the tasks go on where the
/// connectors ended. `connectors` gives the number of tasks of each.
pub fn assign(members: &[String], connectors: &BTreeMap<String, usize>) -> BTreeMap<String, Assignment> {
    let mut sorted: Vec<&String> = members.iter().collect();
    sorted.sort();
    sorted.dedup();
    let mut assignments: BTreeMap<String, Assignment> = sorted
        .iter()
        .map(|member| ((*member).clone(), Assignment::default()))
        .collect();
    let mut circle = sorted.into_iter().cycle();
    for name in connectors.keys() {
        if let Some(assignment) = circle.next().and_then(|member| assignments.get_mut(member)) {
            assignment.connectors.push(name.clone());
        }
    }
    for (name, tasks) in connectors {
        for task in 0..*tasks {
            if let Some(assignment) = circle.next().and_then(|member| assignments.get_mut(member)) {
                assignment.tasks.push((name.clone(), task));
            }
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tasks_go_on_where_the_connectors_ended() {
        let connectors = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
        let assignments = assign(&["w2".to_owned(), "w1".to_owned()], &connectors);
        assert_eq!(assignments["w1"].connectors, ["a", "c"]);
        assert_eq!(assignments["w2"].connectors, ["b"]);
        assert_eq!(assignments["w2"].tasks, [("a".to_owned(), 0), ("b".to_owned(), 0)]);
        assert_eq!(assignments["w1"].tasks, [("a".to_owned(), 1), ("c".to_owned(), 0)]);
    }

    proptest! {
        #[test]
        fn everything_is_dealt_once_and_evenly(
            members in proptest::collection::btree_set("[a-z]{1,4}", 1..6),
            connectors in proptest::collection::btree_map("[a-z]{1,4}", 0..5usize, 0..12),
        ) {
            let members: Vec<String> = members.into_iter().collect();
            let assignments = assign(&members, &connectors);
            let mut dealt: Vec<&String> = assignments.values().flat_map(|one| &one.connectors).collect();
            dealt.sort();
            prop_assert_eq!(dealt, connectors.keys().collect::<Vec<_>>());
            let mut tasks: Vec<(String, usize)> = assignments.values().flat_map(|one| one.tasks.clone()).collect();
            tasks.sort();
            let mut expected: Vec<(String, usize)> =
                connectors.iter().flat_map(|(name, count)| (0..*count).map(move |task| (name.clone(), task))).collect();
            expected.sort();
            prop_assert_eq!(tasks, expected);
            let loads: Vec<usize> = assignments.values().map(|one| one.connectors.len() + one.tasks.len()).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        }

        #[test]
        fn the_order_of_members_does_not_matter(
            members in proptest::collection::vec("[a-z]{1,4}", 1..6),
            connectors in proptest::collection::btree_map("[a-z]{1,4}", 0..5usize, 0..12),
        ) {
            let mut reversed = members.clone();
            reversed.reverse();
            prop_assert_eq!(assign(&members, &connectors), assign(&reversed, &connectors));
        }
    }
}
