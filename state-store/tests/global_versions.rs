//! Global stores: bulk load, single rows, versions at markers, the gate, rebuilding, and readers beside the writer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use connect_api::catalog_marker::{JSON_KEY, Marker};
use kafka_client::TopicId;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use state_store::global::{RebuildReason, RejectReason};
use state_store::{
    Database, Gate, GlobalRecord, GlobalSpec, GlobalStore, KeyFormat, MemoryBudget, RowFormat, TopicBounds,
};

type Store = GlobalStore<String>;

fn spec(store: &str, gate: Gate) -> GlobalSpec {
    GlobalSpec {
        store: store.into(),
        topic: "catalog.products".into(),
        format: RowFormat::AS_IT_IS,
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
            Some(Marker::new(version, partitions).to_json().as_bytes()),
        );
    }
    /// As brokers describe it; it is known by `id`.
    fn described(&self, id: u8) -> TopicBounds {
        TopicBounds {
            id: TopicId::from_bytes([id; 16]),
            bounds: self
                .ends
                .iter()
                .map(|(&partition, &end)| (partition, (0, end)))
                .collect(),
            written_ends: self.ends.clone(),
            delete_retention_ms: 1000,
        }
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

/// All keys with a prefix that follow on one.
fn keys(store: &Store, prefix: &[u8], after: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    store
        .visit(prefix, after, |key, _| {
            keys.push(key.to_vec());
            true
        })
        .unwrap();
    keys
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
    assert_eq!(keys(&store, b"", None).len(), 2);
    assert_eq!(store.positions(), topic.ends);
    drop(store);
    // The copy serves at once after a restart, and goes on where it was.
    let store = open(&db, "products", Gate::default());
    assert_eq!(get(&store, "c"), Some("3".into()));
    assert_eq!(store.plan(&topic.described(1), 0).unwrap(), topic.ends);
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
        let starts = store.plan(&topic.described(1), i64::MAX).unwrap();
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
    assert_eq!(store.plan(&topic.described(1), 0).unwrap(), BTreeMap::from([(0, 8)]));
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

#[derive(Clone, Debug)]
enum Step {
    Row(u8, u8),
    Delete(u8),
    /// The source ends a version, in every partition.
    Version,
    /// The feeder reads so many records of a partition.
    Read(u8, usize),
    /// It has read everything there is.
    ReadAll,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..10, any::<u8>()).prop_map(|(key, value)| Step::Row(key, value)),
        3 => (0u8..10).prop_map(Step::Delete),
        2 => Just(Step::Version),
        6 => (any::<u8>(), 1usize..6).prop_map(|(partition, records)| Step::Read(partition, records)),
        1 => Just(Step::ReadAll),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..100)
}

/// What the gate's documentation says, in whole numbers: `max_shrink` is a percentage.
fn passes(min_rows: Option<u64>, max_shrink: Option<u64>, serving: Option<u64>, rows: u64) -> bool {
    let enough = min_rows.is_none_or(|min_rows| rows >= min_rows);
    let lost = serving.map_or(0, |serving| serving.saturating_sub(rows));
    enough && max_shrink.is_none_or(|percent| lost * 100 <= percent * serving.unwrap_or(0))
}

/// A topic of several partitions as a list of what was written, and how far each partition has been read.
struct Model {
    partitions: Vec<Vec<(Vec<u8>, Option<Vec<u8>>)>>,
    read: Vec<usize>,
    min_rows: Option<u64>,
    max_shrink: Option<u64>,
    /// Without comparing versions: everything had been read once since the copy was begun.
    has_served: bool,
}

type Rows = HashMap<Vec<u8>, Vec<u8>>;

impl Model {
    fn compares_versions(&self) -> bool {
        self.min_rows.is_some() || self.max_shrink.is_some()
    }

    /// The rows that the first records of each partition leave.
    fn rows(&self, records: impl Fn(usize) -> usize) -> Rows {
        let mut rows = Rows::new();
        for (number, partition) in self.partitions.iter().enumerate() {
            for (key, value) in partition
                .iter()
                .take(records(number))
                .filter(|(key, _)| key != JSON_KEY)
            {
                match value {
                    Some(value) => drop(rows.insert(key.clone(), value.clone())),
                    None => drop(rows.remove(key)),
                }
            }
        }
        rows
    }

    /// What must serve, by the definition of a version: all that lies before its markers, if it passes the gate.
    fn serving(&self) -> Option<Rows> {
        if !self.compares_versions() {
            return self.has_served.then(|| self.rows(|number| self.read[number]));
        }
        let markers = |number: usize| {
            let records = self.partitions[number].iter().enumerate();
            records
                .filter(|(_, (key, _))| key == JSON_KEY)
                .map(|(at, _)| at)
                .collect::<Vec<_>>()
        };
        let markers: Vec<Vec<usize>> = (0..self.partitions.len()).map(markers).collect();
        let mut serving: Option<Rows> = None;
        for version in 0..markers[0].len() {
            if (0..markers.len()).any(|number| self.read[number] <= markers[number][version]) {
                break;
            }
            let rows = self.rows(|number| markers[number][version]);
            let before = serving.as_ref().map(|rows| rows.len() as u64);
            if passes(self.min_rows, self.max_shrink, before, rows.len() as u64) {
                serving = Some(rows);
            }
        }
        serving
    }
}

/// Rows, deletions and versions over several partitions, read in any order and in pieces, with restarts: what serves is what
/// the definition of a version says.
#[test]
fn against_plain_maps() {
    let directory = tempfile::tempdir().unwrap();
    let budget = MemoryBudget {
        hot_row_bytes: 64 * 300,
        ..MemoryBudget::default()
    };
    let db = Database::open(directory.path(), budget).unwrap();
    let case = std::cell::Cell::new(0);
    let strategy = (
        steps(),
        prop::option::of(0u64..6),
        prop::option::of(0u64..=100),
        1usize..4,
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    runner
        .run(&strategy, |(mut steps, min_rows, max_shrink, partitions)| {
            case.set(case.get() + 1);
            let name = format!("case-{}", case.get());
            let gate = Gate {
                min_rows,
                max_shrink: max_shrink.map(|percent| percent as f64 / 100.0),
                required: vec![],
            };
            let mut store = open(&db, &name, gate.clone());
            let mut model = Model {
                partitions: vec![Vec::new(); partitions],
                read: vec![0; partitions],
                min_rows,
                max_shrink,
                has_served: false,
            };
            let mut version = 0;
            steps.extend([Step::ReadAll, Step::Reopen, Step::ReadAll]);
            for step in steps {
                let of_key = |key: u8| (usize::from(key) % partitions, format!("k{key}").into_bytes());
                match step {
                    Step::Row(key, value) => {
                        let (partition, key) = of_key(key);
                        model.partitions[partition].push((key, Some(value.to_string().into_bytes())));
                    }
                    Step::Delete(key) => {
                        let (partition, key) = of_key(key);
                        model.partitions[partition].push((key, None));
                    }
                    Step::Version => {
                        version += 1;
                        let marker = Marker::new(version, u32::try_from(partitions).unwrap());
                        for partition in &mut model.partitions {
                            partition.push((JSON_KEY.to_vec(), Some(marker.to_json().into_bytes())));
                        }
                    }
                    Step::Read(partition, records) => {
                        read(&store, &mut model, usize::from(partition) % partitions, records);
                    }
                    Step::ReadAll => {
                        for partition in 0..partitions {
                            read(&store, &mut model, partition, usize::MAX);
                        }
                        if !model.compares_versions() {
                            store.reached_end().unwrap();
                            model.has_served = true;
                        }
                    }
                    Step::Reopen => {
                        drop(store);
                        store = open(&db, &name, gate.clone());
                        // A load that had not served starts again; records that waited for a version are read again.
                        let positions = store.positions();
                        for (partition, read) in model.read.iter_mut().enumerate() {
                            let position = positions.get(&i32::try_from(partition).unwrap()).copied().unwrap_or(0);
                            *read = usize::try_from(position).unwrap();
                        }
                    }
                }
                let serving = model.serving();
                for key in 0u8..10 {
                    let key = format!("k{key}");
                    let expected = serving.as_ref().and_then(|rows| rows.get(key.as_bytes()));
                    let expected = expected.map(|value| String::from_utf8(value.clone()).unwrap());
                    prop_assert_eq!(get(&store, &key), expected);
                }
                prop_assert_eq!(store.len(), serving.map_or(0, |rows| rows.len() as u64));
            }
            Ok(())
        })
        .unwrap();
}

fn read(store: &Store, model: &mut Model, partition: usize, records: usize) {
    let written = &model.partitions[partition];
    let from = model.read[partition];
    let to = from.saturating_add(records).min(written.len());
    let batch: Vec<GlobalRecord<'_>> = written[from..to]
        .iter()
        .zip(from..)
        .map(|((key, value), offset)| GlobalRecord {
            partition: i32::try_from(partition).unwrap(),
            offset: i64::try_from(offset).unwrap(),
            timestamp_ms: None,
            key: Some(key),
            value: value.as_deref(),
            marker_header: None,
        })
        .collect();
    store.apply(&batch).unwrap();
    model.read[partition] = to;
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

fn json_store(db: &Database, key: KeyFormat) -> Store {
    let format = RowFormat {
        key,
        ..RowFormat::default()
    };
    let spec = GlobalSpec {
        format,
        ..spec("products", Gate::default())
    };
    GlobalStore::open(db, spec, |_, value| {
        String::from_utf8(value.to_vec()).map_err(|error| error.to_string())
    })
    .unwrap()
}

/// What a Debezium connector with the usual converters writes: an insert, an update, a delete with its tombstone.
fn change_events(topic: &mut Topic) {
    let key = |id: i64| {
        let schema = r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"shop.public.products.Key"}"#;
        format!(r#"{{"schema":{schema},"payload":{{"id":{id}}}}}"#)
    };
    let event = |op: &str, before: &str, after: &str| {
        let payload =
            format!(r#"{{"before":{before},"after":{after},"source":{{"table":"products"}},"op":"{op}","ts_ms":1}}"#);
        format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{payload}}}"#)
    };
    topic.row(0, &key(1), &event("r", "null", r#"{"id":1,"brand":"Private"}"#));
    topic.row(0, &key(2), &event("c", "null", r#"{"id":2,"brand":"National"}"#));
    topic.row(
        0,
        &key(9_007_199_254_740_993),
        &event("c", "null", r#"{"id":9007199254740993,"brand":"Big"}"#),
    );
    topic.row(0, &key(1), &event("u", "null", r#"{"id":1,"brand":"Other"}"#));
    topic.row(0, &key(2), &event("d", r#"{"id":2}"#, "null"));
    topic.delete(0, &key(2));
    topic.row(0, &key(3), &event("t", "null", "null"));
}

#[test]
fn a_topic_of_change_events_serves_rows_under_the_keys_that_lookups_write() {
    let (_directory, db) = database();
    let store = json_store(&db, KeyFormat::default());
    let mut topic = Topic::default();
    change_events(&mut topic);
    topic.apply(&store, 0, 2);
    store.reached_end().unwrap();
    assert_eq!(get(&store, "1"), Some(r#"{"id":1,"brand":"Other"}"#.into()));
    assert_eq!(get(&store, "2"), None);
    assert_eq!(
        get(&store, "9007199254740993"),
        Some(r#"{"id":9007199254740993,"brand":"Big"}"#.into())
    );
    let status = store.status();
    assert_eq!((status.ready, status.rows, status.rejected_rows), (true, 2, 1));
    assert_eq!((status.intake.rows, status.intake.deletions), (4, 2));
    assert_eq!(
        (
            status.intake.json_keys,
            status.intake.envelopes,
            status.intake.change_events
        ),
        (6, 5, 5)
    );
    assert_eq!(status.intake.rejected, BTreeMap::from([(RejectReason::ChangeEvent, 1)]));
    let rejection = status.last_rejection.unwrap();
    assert!(
        rejection.starts_with("catalog.products-0-6: ") && rejection.contains("op t"),
        "{rejection}"
    );
    // Counts are part of the copy.
    let before = store.status().intake;
    drop(store);
    assert_eq!(json_store(&db, KeyFormat::default()).status().intake, before);
}

#[test]
fn a_store_of_which_nothing_can_be_taken_is_not_ready_and_says_why() {
    let (_directory, db) = database();
    let mut topic = Topic::default();
    for id in 0..3 {
        topic.row(0, &format!(r#"{{"shop":{id},"product":1}}"#), r#"{"brand":"Private"}"#);
    }
    for reopened in [false, true] {
        let store = json_store(&db, KeyFormat::default());
        topic.apply(
            &store,
            usize::try_from(store.positions().get(&0).copied().unwrap_or(0)).unwrap(),
            10,
        );
        store.reached_end().unwrap();
        let status = store.status();
        assert_eq!(
            (status.ready, status.rows, status.rejected_rows),
            (false, 0, 3),
            "reopened: {reopened}"
        );
        let reason = status.not_ready.unwrap();
        assert!(reason.contains("all of its 3 records were rejected"), "{reason}");
        assert!(
            reason.contains("key: {format: json, fields: [shop, product]}"),
            "{reason}"
        );
    }
    // As the text says: the topic is read anew, in the other format.
    let store = json_store(
        &db,
        KeyFormat::Json {
            fields: vec!["shop".into(), "product".into()],
            separator: "|".into(),
        },
    );
    assert_eq!(store.positions(), BTreeMap::new());
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    assert_eq!(get(&store, "2|1"), Some(r#"{"brand":"Private"}"#.into()));
    let status = store.status();
    assert_eq!((status.ready, status.not_ready, status.rejected_rows), (true, None, 0));
}

#[test]
fn a_topic_that_was_made_again_is_read_from_its_beginning() {
    let (_directory, db) = database();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.row(0, "old", "1");
    topic.row(0, "a", "1");
    assert_eq!(store.plan(&topic.described(1), 0).unwrap(), BTreeMap::from([(0, 0)]));
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    // The new topic has as many records as the old one had: offsets alone do not tell them apart.
    let mut again = Topic::default();
    again.row(0, "a", "2");
    again.row(0, "b", "2");
    for interrupted in [true, false] {
        drop(store.status());
        let starts = store.plan(&again.described(2), 0).unwrap();
        assert_eq!(starts, BTreeMap::from([(0, 0)]), "interrupted: {interrupted}");
        let status = store.status();
        assert!(!status.ready && status.not_ready.unwrap().contains("made again"));
        if !interrupted {
            again.apply(&store, 0, 10);
            store.reached_end().unwrap();
        }
    }
    assert_eq!(
        (get(&store, "old"), get(&store, "a"), get(&store, "b")),
        (None, Some("2".into()), Some("2".into()))
    );
    let status = store.status();
    assert!(status.ready && status.rebuilds >= 1, "{status:?}");
    assert_eq!(status.last_rebuild.unwrap().reason, RebuildReason::TopicMadeAgain);
    drop(store);
    let store = open(&db, "products", Gate::default());
    assert_eq!(
        store.plan(&again.described(2), 0).unwrap(),
        BTreeMap::from([(0, 2)]),
        "known again after a restart"
    );
    // Brokers that tell no ids: offsets decide, as they do for a copy from before ids were kept.
    assert_eq!(store.plan(&again.described(0), 0).unwrap(), BTreeMap::from([(0, 2)]));
    assert_eq!(
        store.plan(&again.described(3), 0).unwrap(),
        BTreeMap::from([(0, 2)]),
        "the id is taken on"
    );
    assert_eq!(store.plan(&again.described(4), 0).unwrap(), BTreeMap::from([(0, 0)]));
}

#[test]
fn a_topic_with_fewer_partitions_was_made_again() {
    let (_directory, db) = database();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.row(0, "a", "1");
    topic.row(1, "b", "1");
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    topic.ends.remove(&1);
    assert_eq!(store.plan(&topic.described(0), 0).unwrap(), BTreeMap::from([(0, 0)]));
    assert_eq!(
        store.status().last_rebuild.unwrap().reason,
        RebuildReason::FewerPartitions
    );
}

#[test]
fn ends_behind_the_last_record_are_positions_too() {
    let (_directory, db) = database();
    let store = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.row(0, "a", "1");
    topic.apply(&store, 0, 10);
    store.reached_end().unwrap();
    // A transaction's marker and records of an aborted one lie behind the row.
    store.read_to_ends(&BTreeMap::from([(0, 7)])).unwrap();
    store.read_to_ends(&BTreeMap::from([(0, 3)])).unwrap();
    assert_eq!(store.positions(), BTreeMap::from([(0, 7)]));
    drop(store);
    let store = open(&db, "products", Gate::default());
    assert_eq!(store.positions(), BTreeMap::from([(0, 7)]));
    topic.ends.insert(0, 7);
    assert_eq!(
        store.plan(&topic.described(1), i64::MAX).unwrap(),
        BTreeMap::from([(0, 7)]),
        "nothing is missing"
    );
}

/// Two stores load at once: what one leaves behind is not the other's to clean.
#[test]
fn a_load_cleans_its_own_files_only() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut topic = Topic::default();
    topic.row(0, "a", "1");
    let one = open(&db, "one", Gate::default());
    let other = open(&db, "other", Gate::default());
    // A file of the second load, as it is while it is being written.
    let own: Vec<_> = bulk_directories(directory.path());
    assert_eq!(own.len(), 2, "{own:?}");
    for path in &own {
        std::fs::write(path.join("half-written.sst"), b"half").unwrap();
    }
    topic.apply(&one, 0, 1);
    one.reached_end().unwrap();
    assert_eq!(
        bulk_directories(directory.path()).len(),
        1,
        "the first load has cleaned up"
    );
    let left = bulk_directories(directory.path()).pop().unwrap();
    assert!(
        left.join("half-written.sst").exists(),
        "the second one's file is still there"
    );
    topic.apply(&other, 0, 1);
    other.reached_end().unwrap();
    assert_eq!((get(&one, "a"), get(&other, "a")), (Some("1".into()), Some("1".into())));
    assert_eq!(bulk_directories(directory.path()).len(), 0);
}

fn bulk_directories(state_dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let listed = std::fs::read_dir(state_dir.join("bulk"));
    listed.map_or_else(
        |_| Vec::new(),
        |entries| entries.map(|entry| entry.unwrap().path()).collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Read in pages of any size, each from where the one before ended, it is what one reading gives: every key with the
    /// prefix, in order, each once.
    #[test]
    fn pages_are_the_whole(
        rows in prop::collection::btree_set(prop::collection::vec(prop_oneof![Just(0u8), Just(255), Just(b'a'), any::<u8>()], 0..4), 1..40),
        prefix in prop::collection::vec(prop_oneof![Just(0u8), Just(255), Just(b'a')], 0..2),
        page in 1usize..5,
    ) {
        let (_directory, db) = database();
        let store = open(&db, "products", Gate::default());
        let mut topic = Topic::default();
        for key in &rows {
            topic.push(0, key, Some(b"row"));
        }
        topic.apply(&store, 0, 7);
        store.reached_end().unwrap();
        let expected: Vec<&Vec<u8>> = rows.iter().filter(|key| key.starts_with(&prefix)).collect();
        let (mut found, mut after): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
        loop {
            let before = found.len();
            let mut left = page;
            store.visit(&prefix, after.as_deref(), |key, _| {
                found.push(key.to_vec());
                left -= 1;
                left > 0
            }).unwrap();
            if found.len() == before { break; }
            after = found.last().cloned();
        }
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    }
}

/// A document names another topic while the store serves: the new copy is made beside the old one, and what the old one has left
/// is deleted when it is let go.
#[test]
fn a_copy_of_another_topic_is_made_beside_the_one_that_is_open() {
    let (_directory, db) = database();
    let old = open(&db, "products", Gate::default());
    let mut topic = Topic::default();
    topic.row(0, "a", "old");
    topic.apply(&old, 0, 10);
    old.reached_end().unwrap();
    let other = || GlobalSpec {
        topic: "catalog.other".into(),
        ..spec("products", Gate::default())
    };
    let text = |_: &[u8], value: &[u8]| String::from_utf8(value.to_vec()).map_err(|error| error.to_string());
    let new: Store = GlobalStore::open(&db, other(), text).unwrap();
    assert!(GlobalStore::open(&db, other(), text).is_err(), "it is open already");
    let mut topic = Topic::default();
    topic.row(0, "a", "new");
    topic.apply(&new, 0, 10);
    new.reached_end().unwrap();
    assert_eq!(
        (get(&old, "a"), get(&new, "a")),
        (Some("old".into()), Some("new".into()))
    );
    new.forget_others().unwrap();
    assert_eq!(
        get(&old, "a"),
        Some("old".into()),
        "it is open: nothing of it is deleted"
    );
    drop(old);
    new.forget_others().unwrap();
    drop(new);
    let new: Store = GlobalStore::open(&db, other(), text).unwrap();
    assert_eq!(get(&new, "a"), Some("new".into()), "found again in its place");
    let old = open(&db, "products", Gate::default());
    assert_eq!((get(&old, "a"), old.positions()), (None, BTreeMap::new()));
}

#[test]
fn a_gate_that_is_taken_away_lets_through_what_it_held_back() {
    let (_directory, db) = database();
    let gate = Gate {
        min_rows: Some(2),
        ..Gate::default()
    };
    let store = open(&db, "products", gate);
    let mut topic = Topic::default();
    topic.row(0, "a", "1");
    topic.row(0, "b", "1");
    topic.marker(0, 1, 1);
    topic.row(0, "a", "2");
    topic.delete(0, "b");
    topic.marker(0, 2, 1);
    topic.apply(&store, 0, 10);
    assert_eq!((get(&store, "a"), store.len()), (Some("1".into()), 2));
    assert!(store.status().refused.is_some());
    let wrong = Gate {
        max_shrink: Some(1.5),
        ..Gate::default()
    };
    assert!(store.set_gate(wrong).is_err());
    store.set_gate(Gate::default()).unwrap();
    assert_eq!(
        (get(&store, "a"), get(&store, "b"), store.len()),
        (Some("2".into()), None, 1)
    );
    let from = topic.records.len();
    topic.row(0, "c", "3");
    topic.apply(&store, from, 10);
    assert_eq!(get(&store, "c"), Some("3".into()), "rows are served as they come");
}
