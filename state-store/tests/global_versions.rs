//! Global stores: bulk load, single rows, versions at markers, the gate, rebuilding, and readers beside the writer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use state_store::global::marker::JSON_KEY;
use state_store::{Database, Gate, GlobalRecord, GlobalSpec, GlobalStore, Marker, MemoryBudget};

type Store = GlobalStore<String>;

fn spec(store: &str, gate: Gate) -> GlobalSpec {
    GlobalSpec {
        store: store.into(),
        topic: "catalog.products".into(),
        gate,
    }
}

fn open(db: &Database, store: &str, gate: Gate) -> Store {
    GlobalStore::open(db, spec(store, gate), |_, value| {
        String::from_utf8(value.to_vec()).map_err(|error| error.to_string())
    })
    .unwrap()
}

fn database() -> (tempfile::TempDir, Database) {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    (directory, db)
}

#[derive(Clone, Debug)]
struct Written {
    partition: i32,
    offset: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// A topic that grows; each partition counts its own offsets.
#[derive(Default)]
struct Topic {
    records: Vec<Written>,
    ends: BTreeMap<i32, i64>,
}

impl Topic {
    fn push(&mut self, partition: i32, key: &[u8], value: Option<&[u8]>) {
        let end = self.ends.entry(partition).or_default();
        self.records.push(Written {
            partition,
            offset: *end,
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        });
        *end += 1;
    }
    fn row(&mut self, partition: i32, key: &str, value: &str) {
        self.push(partition, key.as_bytes(), Some(value.as_bytes()));
    }
    fn delete(&mut self, partition: i32, key: &str) {
        self.push(partition, key.as_bytes(), None);
    }
    fn marker(&mut self, partition: i32, version: u64, partitions: u32) {
        self.push(
            partition,
            JSON_KEY,
            Some(
                &Marker {
                    version,
                    rows: None,
                    partitions,
                }
                .to_json(),
            ),
        );
    }
    fn bounds(&self) -> BTreeMap<i32, (i64, i64)> {
        self.ends
            .iter()
            .map(|(&partition, &end)| (partition, (0, end)))
            .collect()
    }
    /// Applies from index `from` on, in batches of `batch`.
    fn apply(&self, store: &Store, from: usize, batch: usize) {
        for records in self.records[from..].chunks(batch) {
            let records: Vec<GlobalRecord<'_>> = records.iter().map(record).collect();
            store.apply(&records).unwrap();
        }
    }
}

fn record(written: &Written) -> GlobalRecord<'_> {
    GlobalRecord {
        partition: written.partition,
        offset: written.offset,
        timestamp_ms: Some(written.offset),
        key: Some(&written.key),
        value: written.value.as_deref(),
        marker_header: None,
    }
}

fn get(store: &Store, key: &str) -> Option<String> {
    let found = store.get(key.as_bytes()).map(|row| row.as_ref().clone());
    // A second read comes from memory and says the same.
    assert_eq!(store.get(key.as_bytes()).map(|row| row.as_ref().clone()), found);
    assert_eq!(
        store
            .get_bytes(key.as_bytes())
            .unwrap()
            .map(|bytes| String::from_utf8(bytes).unwrap()),
        found
    );
    found
}

#[test]
fn a_first_copy_serves_at_the_end_of_the_topic_and_rows_follow_singly() {
    let (_directory, db) = database();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.row(0, "a", "1");
    topic.row(1, "b", "1");
    topic.row(0, "a", "2");
    topic.row(0, "c", "1");
    topic.delete(0, "c");
    topic.apply(&store, 0, 2);
    assert_eq!(get(&store, "a"), None);
    assert!(!store.ready());
    store.reached_end().unwrap();
    assert!(store.ready());
    assert_eq!(
        (get(&store, "a"), get(&store, "b"), get(&store, "c")),
        (Some("2".into()), Some("1".into()), None)
    );
    assert_eq!(store.len(), 2);
    let from = topic.records.len();
    topic.row(1, "c", "3");
    topic.delete(0, "a");
    topic.delete(0, "never there");
    topic.apply(&store, from, 10);
    assert_eq!((get(&store, "a"), get(&store, "c")), (None, Some("3".into())));
    assert_eq!(store.len(), 2);
    assert_eq!(store.scan(b"", 10).unwrap().len(), 2);
    assert_eq!(store.positions(), topic.ends);
    drop(store);
    // The copy serves at once after a restart, and goes on where it was.
    let store = open(&db, "products", Gate::default());
    assert_eq!(get(&store, "c"), Some("3".into()));
    assert_eq!(store.plan(&topic.bounds(), 0, 1000).unwrap(), topic.ends);
    // Records that it has already are not applied twice.
    topic.apply(&store, 0, 3);
    assert_eq!((get(&store, "a"), store.len()), (None, 2));
}

#[test]
fn a_version_below_min_rows_or_with_too_great_a_loss_does_not_serve() {
    let (_directory, db) = database();
    let gate = Gate {
        min_rows: Some(2),
        max_shrink: Some(0.34),
        required: vec![],
    };
    let store = open(&db, "products", gate.clone());
    let mut topic = Topic::default();
    topic.row(0, "a", "v1");
    topic.marker(0, 1, 1);
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    assert!(!store.ready(), "one row is below min_rows");
    assert!(store.status().refused.is_some());

    let from = topic.records.len();
    topic.row(0, "b", "v2");
    topic.row(0, "c", "v2");
    topic.marker(0, 2, 1);
    topic.apply(&store, from, 10);
    assert!(store.ready());
    assert_eq!(
        (store.len(), store.status().version, store.status().refused),
        (3, Some(2), None)
    );

    // Rows of an unfinished version are not seen, nor those of a refused one.
    let from = topic.records.len();
    topic.row(0, "a", "v3");
    topic.delete(0, "b");
    topic.apply(&store, from, 10);
    assert_eq!(
        (get(&store, "a"), get(&store, "b")),
        (Some("v1".into()), Some("v2".into()))
    );
    let from = topic.records.len();
    topic.delete(0, "c");
    topic.marker(0, 3, 1);
    topic.apply(&store, from, 10);
    assert_eq!(
        (get(&store, "a"), store.len(), store.status().version),
        (Some("v1".into()), 3, Some(2))
    );
    assert!(store.status().refused.is_some_and(|refused| refused.version == Some(3)));

    // A restart changes nothing of that.
    drop(store);
    let store = open(&db, "products", gate.clone());
    assert_eq!(
        (get(&store, "a"), store.len(), store.status().version),
        (Some("v1".into()), 3, Some(2))
    );

    // The next version that passes brings the refused one's rows with it.
    let from = topic.records.len();
    topic.row(0, "c", "v4");
    topic.marker(0, 4, 1);
    topic.apply(&store, from, 10);
    assert_eq!(
        (get(&store, "a"), get(&store, "b"), get(&store, "c"), store.len()),
        (Some("v3".into()), None, Some("v4".into()), 2)
    );
    assert_eq!((store.status().version, store.status().refused), (Some(4), None));

    // Without the gate, what is staged serves.
    let from = topic.records.len();
    topic.row(0, "d", "v5");
    topic.apply(&store, from, 10);
    assert_eq!(get(&store, "d"), None);
    drop(store);
    let store = open(&db, "products", Gate::default());
    assert_eq!((get(&store, "d"), store.len()), (Some("v5".into()), 3));
}

#[test]
fn a_version_ends_when_every_partition_has_its_marker() {
    let (_directory, db) = database();
    let store = open(
        &db,
        "products",
        Gate {
            min_rows: Some(1),
            ..Gate::default()
        },
    );
    let mut topic = Topic::default();
    topic.row(0, "a", "v1");
    topic.marker(0, 1, 2);
    // Of the next version already: it must wait for partition 1.
    topic.row(0, "a", "v2");
    topic.apply(&store, 0, 1);
    assert_eq!(store.waiting_partitions(), vec![0]);
    let from = topic.records.len();
    topic.row(1, "b", "v1");
    topic.marker(1, 1, 2);
    topic.apply(&store, from, 1);
    assert_eq!(store.waiting_partitions(), Vec::<i32>::new());
    store.reached_end().unwrap();
    assert_eq!(
        (get(&store, "a"), get(&store, "b"), store.status().version),
        (Some("v1".into()), Some("v1".into()), Some(1))
    );
    let from = topic.records.len();
    topic.marker(1, 2, 2);
    topic.marker(0, 2, 2);
    topic.apply(&store, from, 5);
    assert_eq!((get(&store, "a"), store.status().version), (Some("v2".into()), Some(2)));
}

#[test]
fn a_row_without_a_required_field_leaves_the_old_one() {
    let (_directory, db) = database();
    let store = open(
        &db,
        "products",
        Gate {
            required: vec!["type".into()],
            ..Gate::default()
        },
    );
    let mut topic = Topic::default();
    topic.row(0, "a", r#"{"type":"x"}"#);
    topic.row(0, "a", r#"{"type":null}"#);
    topic.row(0, "b", "no json");
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    assert_eq!(
        (get(&store, "a"), get(&store, "b"), store.len()),
        (Some(r#"{"type":"x"}"#.into()), None, 1)
    );
    let from = topic.records.len();
    topic.row(0, "a", r#"{"other":1}"#);
    topic.apply(&store, from, 10);
    assert_eq!(get(&store, "a"), Some(r#"{"type":"x"}"#.into()));
    let status = store.status();
    assert_eq!(status.rejected_rows, 3);
    assert!(status.last_rejection.unwrap().contains("required field type"));
    assert!(
        serde_json::to_string(&store.status())
            .unwrap()
            .contains("\"rejected_rows\":3")
    );
}

#[test]
fn rows_that_do_not_decode_are_counted_and_never_panic() {
    let (_directory, db) = database();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.push(0, b"bad", Some(&[0xff, 0xfe]));
    topic.push(0, JSON_KEY, Some(b"not a marker"));
    topic.apply(&store, 0, 10);
    store
        .apply(&[GlobalRecord {
            partition: 0,
            offset: 2,
            timestamp_ms: None,
            key: None,
            value: None,
            marker_header: None,
        }])
        .unwrap();
    store.reached_end().unwrap();
    assert_eq!(store.get(b"bad"), None);
    assert_eq!((store.status().undecodable_rows, store.status().rejected_rows), (1, 2));
}

#[test]
fn a_copy_older_than_tombstones_is_rebuilt_while_it_serves() {
    let (_directory, db) = database();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.row(0, "a", "1");
    topic.row(0, "b", "1");
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    drop(store);
    // While nobody looked, b was deleted and its tombstone compacted away.
    let mut topic = Topic::default();
    topic.row(0, "a", "2");
    topic.ends.insert(0, 7);
    topic.row(0, "c", "2");
    for interrupted in [true, false] {
        let store = open(&db, "products", Gate::default());
        let starts = store.plan(&topic.bounds(), i64::MAX, 1000).unwrap();
        assert_eq!(starts, BTreeMap::from([(0, 0)]));
        topic.apply(&store, 0, 1);
        assert_eq!(
            (get(&store, "a"), get(&store, "b")),
            (Some("1".into()), Some("1".into())),
            "the old copy serves on"
        );
        if !interrupted {
            store.reached_end().unwrap();
            assert_eq!(
                (get(&store, "a"), get(&store, "b"), get(&store, "c")),
                (Some("2".into()), None, Some("2".into()))
            );
            assert_eq!(store.len(), 2);
        }
    }
    let store = open(&db, "products", Gate::default());
    assert_eq!(store.plan(&topic.bounds(), 0, 1000).unwrap(), BTreeMap::from([(0, 8)]));
    assert_eq!((get(&store, "b"), store.len()), (None, 2));
}

#[test]
fn a_copy_of_another_topic_is_thrown_away() {
    let (_directory, db) = database();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.row(0, "a", "1");
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    drop(store);
    let other = GlobalSpec {
        topic: "catalog.other".into(),
        ..spec("products", Gate::default())
    };
    let store: Store = GlobalStore::open(&db, other, |_, _| Ok(String::new())).unwrap();
    assert_eq!((store.get(b"a"), store.positions()), (None, BTreeMap::new()));
}

/// Rows, deletions and versions in any order: what serves is what a plain map of the last good version says.
#[test]
fn against_a_plain_map() {
    #[derive(Clone, Debug)]
    enum Step {
        Row(u8, u8),
        Delete(u8),
        Version,
        Reopen,
    }
    let step = prop_oneof![
        6 => (0u8..10, any::<u8>()).prop_map(|(key, value)| Step::Row(key, value)),
        3 => (0u8..10).prop_map(Step::Delete),
        2 => Just(Step::Version),
        1 => Just(Step::Reopen),
    ];
    let directory = tempfile::tempdir().unwrap();
    let budget = MemoryBudget {
        hot_row_bytes: 64 * 300,
        ..MemoryBudget::default()
    };
    let db = Database::open(directory.path(), budget).unwrap();
    let case = std::cell::Cell::new(0);
    let strategy = (
        prop::collection::vec(step, 1..80),
        prop::option::of(0u64..6),
        prop::option::of(0.0f64..1.0),
        1usize..9,
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    runner
        .run(&strategy, |(steps, min_rows, max_shrink, batch)| {
            case.set(case.get() + 1);
            let name = format!("case-{}", case.get());
            let gate = Gate {
                min_rows,
                max_shrink,
                required: vec![],
            };
            let mut store = open(&db, &name, gate.clone());
            let mut topic = Topic::default();
            let (mut all, mut serving): (HashMap<u8, u8>, Option<HashMap<u8, u8>>) = (HashMap::new(), None);
            let mut version = 0;
            // The first copy: loaded, and served at its marker.
            topic.row(0, "first", "row");
            for step in steps {
                let from = topic.records.len();
                match step {
                    Step::Row(key, value) => {
                        all.insert(key, value);
                        topic.row(0, &format!("k{key}"), &value.to_string());
                    }
                    Step::Delete(key) => {
                        all.remove(&key);
                        topic.delete(0, &format!("k{key}"));
                    }
                    Step::Version => {
                        version += 1;
                        topic.marker(0, version, 1);
                        let before = serving.as_ref().map(|rows| rows.len() as u64 + 1);
                        if gate.verdict(before, all.len() as u64 + 1).is_ok() {
                            serving = Some(all.clone());
                        }
                    }
                    Step::Reopen => {
                        drop(store);
                        store = open(&db, &name, gate.clone());
                        // A load that had not served starts again.
                        let at = store.positions().get(&0).copied().unwrap_or(0);
                        topic.apply(&store, usize::try_from(at).unwrap(), batch);
                    }
                }
                let from = if from == 1 { 0 } else { from };
                topic.apply(&store, from, batch);
                if version > 0 && !gate.compares_versions() {
                    store.reached_end().unwrap();
                    serving = Some(all.clone());
                }
                for key in 0u8..10 {
                    let expected = serving.as_ref().and_then(|rows| rows.get(&key)).map(u8::to_string);
                    prop_assert_eq!(get(&store, &format!("k{key}")), expected);
                }
                prop_assert_eq!(store.len(), serving.as_ref().map_or(0, |rows| rows.len() as u64 + 1));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_bulk_load_in_many_files_keeps_the_last_row_of_each_key() {
    let directory = tempfile::tempdir().unwrap();
    let budget = MemoryBudget {
        bulk_load_bytes: 1 << 16,
        ..MemoryBudget::default()
    };
    let db = Database::open(directory.path(), budget).unwrap();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    for round in 0..4 {
        for key in 0..3_000 {
            match (round, key % 7) {
                (3, 0) => topic.delete(0, &format!("product-{key}")),
                _ => topic.row(0, &format!("product-{key}"), &format!("{key} in round {round}")),
            }
        }
    }
    topic.apply(&store, 0, 1000);
    store.reached_end().unwrap();
    let deleted = (0..3_000).filter(|key| key % 7 == 0).count();
    assert_eq!(store.len(), 3_000 - deleted as u64);
    for key in 0..3_000 {
        let expected = (key % 7 != 0).then(|| format!("{key} in round 3"));
        assert_eq!(get(&store, &format!("product-{key}")), expected);
    }
}

/// A row only ever grows: a reader that sees it shrink has seen an old row after a newer one.
#[test]
fn readers_never_go_back() {
    let (_directory, db) = database();
    let store = Arc::new(open(&db, "products", Gate::default()));
    let mut topic = Topic::default();
    topic.row(0, "a", "0");
    topic.apply(&store, 0, 1);
    store.reached_end().unwrap();
    const LAST: u64 = 20_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut before = 0;
                while before < LAST {
                    let now: u64 = store.get(b"a").unwrap().parse().unwrap();
                    assert!(now >= before, "{now} after {before}");
                    before = now;
                }
            });
        }
        for number in 1..=LAST {
            topic.row(0, "a", &number.to_string());
            topic.apply(&store, topic.records.len() - 1, 1);
        }
    });
}
