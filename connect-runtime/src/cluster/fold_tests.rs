use super::*;
use proptest::prelude::*;

fn config(text: &str) -> ConfigMap {
    ConfigMap::from([("k".to_owned(), Some(text.to_owned()))])
}

fn connector(name: &str, text: &str) -> ConfigRecord {
    ConfigRecord::Connector(name.to_owned(), Some(config(text)))
}

fn task(name: &str, number: usize, text: &str) -> ConfigRecord {
    ConfigRecord::Task(name.to_owned(), number, config(text))
}

fn commit(name: &str, tasks: usize) -> ConfigRecord {
    ConfigRecord::Commit(name.to_owned(), tasks)
}

fn target(name: &str, state: Option<TargetState>) -> ConfigRecord {
    ConfigRecord::Target(name.to_owned(), state)
}

fn fold(records: impl IntoIterator<Item = ConfigRecord>) -> ClusterState {
    let mut state = ClusterState::default();
    for (offset, record) in (0..).zip(records) {
        state.apply(offset, record);
    }
    state
}

#[test]
fn tasks_are_in_force_from_their_commit_on() {
    let before = fold([connector("a", "1"), task("a", 0, "t0"), task("a", 1, "t1")]);
    assert!(before.connector("a").unwrap().tasks.is_empty());
    let after = fold([
        connector("a", "1"),
        task("a", 0, "t0"),
        task("a", 1, "t1"),
        commit("a", 2),
    ]);
    let a = after.connector("a").unwrap();
    assert_eq!(*a.tasks, [config("t0"), config("t1")]);
    assert_eq!(a.task_generation, 1);
    assert_eq!(a.applied.as_ref(), Some(&a.config));
    assert_eq!(after.offset, 4);
}

#[test]
fn a_commit_that_does_not_fit_leaves_the_connector_inconsistent_and_without_tasks() {
    let state = fold([
        connector("a", "1"),
        task("a", 0, "t0"),
        commit("a", 1),
        task("a", 1, "t1"),
        commit("a", 2),
    ]);
    let a = state.connector("a").unwrap();
    assert!(a.inconsistent && a.tasks.is_empty());
    assert!(a.must_publish(&[]));
    let repaired = fold([
        connector("a", "1"),
        commit("a", 2),
        task("a", 0, "t0"),
        task("a", 1, "t1"),
        commit("a", 2),
    ]);
    assert!(!repaired.connector("a").unwrap().inconsistent);
    assert_eq!(repaired.connector("a").unwrap().tasks.len(), 2);
}

#[test]
fn a_commit_without_a_connector_is_dropped_with_its_task_records() {
    let state = fold([task("a", 0, "old"), commit("a", 1), connector("a", "1"), commit("a", 0)]);
    let a = state.connector("a").unwrap();
    assert!(a.tasks.is_empty() && !a.inconsistent);
}

#[test]
fn a_target_state_may_come_before_its_connector() {
    let state = fold([target("a", Some(TargetState::Paused)), connector("a", "1")]);
    assert_eq!(state.connector("a").unwrap().target, TargetState::Paused);
    let again = fold([
        connector("a", "1"),
        target("a", Some(TargetState::Stopped)),
        connector("a", "2"),
    ]);
    assert_eq!(again.connector("a").unwrap().target, TargetState::Stopped);
    let removed = fold([
        connector("a", "1"),
        target("a", Some(TargetState::Paused)),
        target("a", None),
    ]);
    assert_eq!(removed.connector("a").unwrap().target, TargetState::Started);
}

#[test]
fn a_deleted_connector_that_comes_back_is_another_one() {
    let records = [
        connector("a", "1"),
        target("a", Some(TargetState::Paused)),
        task("a", 0, "t0"),
        commit("a", 1),
        ConfigRecord::Connector("a".to_owned(), None),
        target("a", None),
        connector("a", "1"),
    ];
    let a = fold(records).connector("a").unwrap().clone();
    assert_eq!(
        (a.incarnation, a.task_generation, a.tasks.len(), a.target),
        (6, 0, 0, TargetState::Started)
    );
    assert!(
        a.must_publish(&[]),
        "a known connector without a commit must publish its tasks"
    );
}

#[test]
fn a_connector_edit_republishes_equal_tasks() {
    let state = fold([connector("a", "1"), task("a", 0, "t"), commit("a", 1)]);
    assert!(!state.connector("a").unwrap().must_publish(&[config("t")]));
    assert!(state.connector("a").unwrap().must_publish(&[config("u")]));
    let edited = fold([
        connector("a", "1"),
        task("a", 0, "t"),
        commit("a", 1),
        connector("a", "2"),
    ]);
    assert!(edited.connector("a").unwrap().must_publish(&[config("t")]));
}

fn any_record() -> impl Strategy<Value = ConfigRecord> {
    let name = prop_oneof![Just("a".to_owned()), Just("b-c".to_owned())];
    prop_oneof![
        (name.clone(), proptest::option::of(0..3u8))
            .prop_map(|(name, text)| ConfigRecord::Connector(name, text.map(|text| config(&text.to_string())))),
        (name.clone(), 0..3usize, 0..3u8).prop_map(|(name, number, text)| task(&name, number, &text.to_string())),
        (name.clone(), 0..3usize).prop_map(|(name, tasks)| commit(&name, tasks)),
        (name.clone(), proptest::option::of(0..3u8)).prop_map(|(name, state)| {
            target(
                &name,
                state.map(|state| match state {
                    0 => TargetState::Started,
                    1 => TargetState::Paused,
                    _ => TargetState::Stopped,
                }),
            )
        }),
        (name, 0..3i64).prop_map(|(name, count)| ConfigRecord::TaskCount(name, count)),
    ]
}

proptest! {
    #[test]
    fn bytes_and_records_fold_alike(records in proptest::collection::vec(any_record(), 0..60)) {
        let through_bytes = records.iter().map(|record| {
            let (key, value) = record.encode();
            ConfigRecord::decode(key.as_bytes(), value.as_deref()).unwrap()
        });
        prop_assert_eq!(fold(through_bytes.collect::<Vec<_>>()), fold(records));
    }

    #[test]
    fn a_task_set_is_whole_and_made_by_the_last_fitting_commit(records in proptest::collection::vec(any_record(), 0..60)) {
        let state = fold(records.clone());
        for (name, connector) in state.connectors() {
            if connector.inconsistent {
                prop_assert!(connector.tasks.is_empty());
                continue;
            }
            let since = usize::try_from(connector.incarnation).unwrap();
            let mut commits = records[since..].iter().filter(|record| matches!(record, ConfigRecord::Commit(n, _) if n == name));
            match commits.next_back() {
                Some(ConfigRecord::Commit(_, tasks)) => prop_assert_eq!(connector.tasks.len(), *tasks),
                _ => prop_assert!(connector.tasks.is_empty() && connector.applied.is_none()),
            }
        }
    }

    #[test]
    fn writing_a_task_set_puts_it_in_force(
        records in proptest::collection::vec(any_record(), 0..40),
        tasks in proptest::collection::vec(0..5u8, 0..4),
    ) {
        let mut state = fold(records.clone());
        let offset = i64::try_from(records.len()).unwrap();
        state.apply(offset, connector("a", "x"));
        // a crash may have left task records behind; they are overwritten or make the commit inconsistent, never mixed
        state.deferred.remove("a");
        let configs: Vec<ConfigMap> = tasks.iter().map(|text| config(&text.to_string())).collect();
        for (number, config) in configs.iter().enumerate() {
            state.apply(offset, ConfigRecord::Task("a".to_owned(), number, config.clone()));
        }
        state.apply(offset, commit("a", configs.len()));
        let a = state.connector("a").unwrap();
        prop_assert!(!a.must_publish(&configs));
    }
}
