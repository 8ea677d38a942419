//! A keyed partition against a plain map: random reads, writes, barriers that commit or abort while the task goes on,
//! reopening, expiry; and a restore from the changelog that gives the same state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use state_store::changelog::{ChangelogKey, owner_record};
use state_store::{
    ChangeRecord, Changes, Database, KeyedPartition, KeyedSpec, MemoryBudget, Position, RebuildReason, RestorePlan,
    Since, StateError, StateValue, TopicState, Ttl, plan_restore,
};

/// Remembers what was appended to it, so that a value that is not fresh shows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Trail(Vec<u8>);

impl StateValue for Trail {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        out.extend_from_slice(&self.0);
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((1, rest)) => Ok(Trail(rest.to_vec())),
            _ => Err("not a trail".into()),
        }
    }
    fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// An event so much later than the last one; earlier where it is late.
    Append {
        key: u8,
        mark: u8,
        time_passes: i64,
    },
    Read {
        key: u8,
        time_passes: i64,
    },
    Remove {
        key: u8,
    },
    TakeBarrier,
    Commit,
    Abort,
    Reopen,
    DeleteDue {
        limit: usize,
    },
}

/// Mostly forward, sometimes back: now and then by more than any time to live, and as far as numbers go.
fn passing_time() -> impl Strategy<Value = i64> {
    prop_oneof![
        12 => 0i64..30,
        4 => -60i64..0,
        1 => -10_000i64..-200,
        1 => Just(i64::MIN),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u8..12, any::<u8>(), passing_time()).prop_map(|(key, mark, time_passes)| Step::Append { key, mark, time_passes }),
        6 => (0u8..12, passing_time()).prop_map(|(key, time_passes)| Step::Read { key, time_passes }),
        2 => (0u8..12).prop_map(|key| Step::Remove { key }),
        3 => Just(Step::TakeBarrier),
        4 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Reopen),
        2 => (1usize..6).prop_map(|limit| Step::DeleteDue { limit }),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Clone, Debug, PartialEq)]
struct Model {
    /// Key -> value and when it was touched.
    entries: HashMap<Vec<u8>, (Trail, i64)>,
    /// Stream time; the least number while there was no event.
    now_ms: i64,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            entries: HashMap::new(),
            now_ms: i64::MIN,
        }
    }
}

impl Model {
    /// The time of the next event. Stream time is the largest one seen: a late event does not move it.
    fn pass(&mut self, time_passes: i64) -> i64 {
        let before_ms = if self.now_ms == i64::MIN { 0 } else { self.now_ms };
        let event_time_ms = before_ms.saturating_add(time_passes);
        self.now_ms = self.now_ms.max(event_time_ms);
        event_time_ms
    }

    fn live(&self, ttl: Option<Ttl>, key: &[u8]) -> Option<&Trail> {
        let (value, touched) = self.entries.get(key)?;
        let expired = ttl.is_some_and(|ttl| self.now_ms >= touched + ttl.after_ms);
        (!expired).then_some(value)
    }
}

struct Harness {
    db: Database,
    /// Another worker's.
    elsewhere: Database,
    spec: KeyedSpec,
    partition: Option<KeyedPartition<Trail>>,
    /// The changelog topic, compacted: only committed records.
    changelog: BTreeMap<Bytes, Bytes>,
    offset: i64,
    input: i64,
    model: Model,
    committed: Model,
    open: Option<(Changes, Model, i64)>,
}

impl Harness {
    fn partition(&mut self) -> &mut KeyedPartition<Trail> {
        self.partition.as_mut().unwrap()
    }

    fn take_barrier(&mut self) {
        if self.open.is_none() {
            let changes = self.partition().changes();
            self.open = Some((changes, self.model.clone(), self.input));
        }
    }

    fn commit(&mut self) {
        self.take_barrier();
        let (changes, at_barrier, input) = self.open.take().unwrap();
        let mut records = changes.records.clone();
        let unique: std::collections::HashSet<&Bytes> = records.iter().map(|record| &record.key).collect();
        assert_eq!(unique.len(), records.len(), "one record per key");
        records.push(changes.position_record(input, at_barrier.now_ms));
        for ChangeRecord { key, value } in records {
            self.offset += 1;
            match value {
                Some(value) => self.changelog.insert(key, value),
                None => self.changelog.remove(&key),
            };
        }
        let position = Position {
            input_offset: input,
            stream_time_ms: at_barrier.now_ms,
            changelog_offset: self.offset,
        };
        self.partition().committed(changes, &position).unwrap();
        assert_eq!(self.partition().position(), Some(position));
        self.committed = at_barrier;
    }

    fn abort(&mut self) {
        self.take_barrier();
        let (changes, ..) = self.open.take().unwrap();
        self.partition().aborted(changes);
        self.rewind();
    }

    fn rewind(&mut self) {
        self.model = self.committed.clone();
        self.input = self.partition().position().map_or(0, |position| position.input_offset);
    }

    fn reopen(&mut self) {
        self.open = None;
        self.partition = None;
        self.partition = Some(KeyedPartition::open(&self.db, self.spec.clone()).unwrap());
        self.rewind();
    }
}

/// Runs cases in one database, each in a connector of its own; the last state is checked once more after a reopening.
fn check(ttl: impl Fn(i64) -> Option<Ttl>, budget: MemoryBudget) {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), budget.clone()).unwrap();
    let other_directory = tempfile::tempdir().unwrap();
    let elsewhere = Database::open(other_directory.path(), budget).unwrap();
    let case = std::cell::Cell::new(0);
    let last = std::cell::RefCell::new(None);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(&(steps(), 1i64..200), |(steps, after_ms)| {
            case.set(case.get() + 1);
            *last.borrow_mut() = Some(run((&db, &elsewhere), case.get(), steps, ttl(after_ms)));
            Ok(())
        })
        .unwrap();
    drop(db);
    let (spec, position, committed) = last.into_inner().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut reopened: KeyedPartition<Trail> = KeyedPartition::open(&db, spec.clone()).unwrap();
    assert_eq!(reopened.position(), Some(position));
    for key in 0u8..12 {
        let key = vec![b'k', key];
        assert_eq!(
            reopened.get(&key, committed.now_ms).unwrap(),
            committed.live(spec.ttl, &key)
        );
    }
}

fn run(
    (db, elsewhere): (&Database, &Database),
    case: u32,
    steps: Vec<Step>,
    ttl: Option<Ttl>,
) -> (KeyedSpec, Position, Model) {
    let (db, elsewhere) = (db.clone(), elsewhere.clone());
    let connector = format!("sink-{case}");
    let spec = KeyedSpec {
        connector,
        store: "trails".into(),
        partition: 3,
        ttl,
        archive: false,
    };
    let partition = KeyedPartition::open(&db, spec.clone()).unwrap();
    let mut harness = Harness {
        db,
        elsewhere,
        spec,
        partition: Some(partition),
        changelog: BTreeMap::new(),
        offset: 0,
        input: 0,
        model: Model::default(),
        committed: Model::default(),
        open: None,
    };
    for step in steps {
        harness.input += 1;
        match step {
            Step::Append { key, mark, time_passes } => {
                let (key, event_time_ms) = (vec![b'k', key], harness.model.pass(time_passes));
                let now = harness.model.now_ms;
                let value = harness
                    .partition()
                    .get_or_insert_with(&key, event_time_ms, Trail::default)
                    .unwrap();
                value.0.push(mark);
                let value = value.clone();
                let mut expected = harness.model.live(ttl, &key).cloned().unwrap_or_default();
                expected.0.push(mark);
                assert_eq!(value, expected);
                harness.model.entries.insert(key, (expected, now));
            }
            Step::Read { key, time_passes } => {
                let (key, event_time_ms) = (vec![b'k', key], harness.model.pass(time_passes));
                let now = harness.model.now_ms;
                let expected = harness.model.live(ttl, &key).cloned();
                let found = harness.partition().get(&key, event_time_ms).unwrap().cloned();
                assert_eq!(found, expected);
                if expected.is_some()
                    && matches!(
                        ttl,
                        Some(Ttl {
                            since: Since::Access,
                            ..
                        })
                    )
                    && let Some(entry) = harness.model.entries.get_mut(&key)
                {
                    entry.1 = now;
                }
            }
            Step::Remove { key } => {
                harness.partition().remove(&[b'k', key]);
                harness.model.entries.remove(&vec![b'k', key]);
            }
            Step::TakeBarrier => harness.take_barrier(),
            Step::Commit => harness.commit(),
            Step::Abort => harness.abort(),
            Step::Reopen => harness.reopen(),
            Step::DeleteDue { limit } => {
                // With no barrier open and nothing dirty, what is due is exactly what has expired.
                if harness.open.is_some() {
                    harness.commit();
                }
                harness.commit();
                let now = harness.model.now_ms;
                let due = harness.partition().due(now, limit).unwrap();
                let mut expected: Vec<i64> = harness
                    .model
                    .entries
                    .values()
                    .filter_map(|(_, touched)| ttl.map(|ttl| touched + ttl.after_ms))
                    .filter(|&expires| now >= expires)
                    .collect();
                expected.sort_unstable();
                expected.truncate(limit);
                assert_eq!(due.iter().map(|entry| entry.expires_ms).collect::<Vec<_>>(), expected);
                for entry in due {
                    let (value, _) = harness.model.entries.remove(entry.key.as_ref()).unwrap();
                    assert_eq!(Trail::decode(&entry.payload).unwrap(), value);
                    assert!(!entry.superseded);
                    harness.partition().remove_version(&entry.key, entry.version).unwrap();
                }
            }
        }
    }
    harness.commit();
    check_copies(harness, ttl)
}

/// Every way to the committed state gives the committed state.
fn check_copies(mut harness: Harness, ttl: Option<Ttl>) -> (KeyedSpec, Position, Model) {
    let committed = harness.committed.clone();
    let position = harness.partition().position().unwrap();
    assert_eq!(harness.partition().len_estimate(), committed.entries.len() as u64);

    let reader = harness.partition().reader();
    for key in 0u8..12 {
        let key = vec![b'k', key];
        let found = reader
            .get(&key)
            .unwrap()
            .map(|entry| Trail::decode(&entry.payload).unwrap());
        assert_eq!(found.as_ref(), committed.live(ttl, &key));
    }
    let live = committed
        .entries
        .keys()
        .filter(|key| committed.live(ttl, key).is_some())
        .count();
    // In pages of two, each from where the one before ended.
    let mut found: Vec<(Bytes, bool)> = Vec::new();
    loop {
        let (before, after) = (found.len(), found.last().map(|(key, _)| key.clone()));
        reader
            .visit(b"k", after.as_deref(), |entry, is_live| {
                found.push((entry.key, is_live));
                found.len() < before + 2
            })
            .unwrap();
        if found.len() == before {
            break;
        }
    }
    assert!(found.is_sorted_by(|(a, _), (b, _)| a < b));
    assert_eq!(found.iter().filter(|(_, is_live)| *is_live).count(), live);

    // A copy restored from nothing, its records interleaved with older versions of themselves.
    let mut restored: KeyedPartition<Trail> = KeyedPartition::open(&harness.elsewhere, harness.spec.clone()).unwrap();
    let mut offset = 0;
    for (key, value) in &harness.changelog {
        if matches!(ChangelogKey::decode(key), Ok(ChangelogKey::Entry(_))) {
            restored.restore(key, None, offset).unwrap();
            offset += 1;
        }
        restored.restore(key, Some(value), offset).unwrap();
        offset += 1;
    }
    let end = harness.offset.max(offset);
    let found = restored.finish_restore(end).unwrap().unwrap();
    assert_eq!(
        (found.input_offset, found.stream_time_ms),
        (position.input_offset, position.stream_time_ms)
    );
    assert_eq!(restored.len_estimate(), committed.entries.len() as u64);
    for key in 0u8..12 {
        let key = vec![b'k', key];
        assert_eq!(restored.get(&key, committed.now_ms).unwrap(), committed.live(ttl, &key));
    }

    (harness.spec.clone(), position, committed)
}

/// A budget so small that clean entries are evicted all the time.
fn tiny() -> MemoryBudget {
    MemoryBudget {
        value_cache_bytes: 600,
        ..MemoryBudget::default()
    }
}

#[test]
fn without_expiry() {
    check(|_| None, MemoryBudget::default());
}

#[test]
fn without_expiry_in_little_memory() {
    check(|_| None, tiny());
}

#[test]
fn with_expiry_since_write() {
    check(
        |after_ms| {
            Some(Ttl {
                after_ms,
                since: Since::Write,
            })
        },
        MemoryBudget::default(),
    );
}

#[test]
fn with_expiry_since_access_in_little_memory() {
    check(
        |after_ms| {
            Some(Ttl {
                after_ms,
                since: Since::Access,
            })
        },
        tiny(),
    );
}

fn open(db: &Database, ttl: Option<Ttl>, archive: bool) -> Result<KeyedPartition<Trail>, StateError> {
    KeyedPartition::open(
        db,
        KeyedSpec {
            connector: "sink".into(),
            store: "trails".into(),
            partition: 0,
            ttl,
            archive,
        },
    )
}

fn put(partition: &mut KeyedPartition<Trail>, key: &[u8], at: i64, mark: u8) {
    partition
        .get_or_insert_with(key, at, Trail::default)
        .unwrap()
        .0
        .push(mark);
}

fn commit(partition: &mut KeyedPartition<Trail>, at: i64) {
    let changes = partition.changes();
    let position = Position {
        input_offset: at,
        stream_time_ms: at,
        changelog_offset: at,
    };
    partition.committed(changes, &position).unwrap();
}

#[test]
fn a_partition_has_one_owner_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let first = open(&db, None, false).unwrap();
    assert!(matches!(open(&db, None, false), Err(StateError::AlreadyOpen { .. })));
    drop(first);
    open(&db, None, false).unwrap();
}

#[test]
fn changes_of_an_aborted_barrier_cannot_be_committed() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut partition = open(&db, None, false).unwrap();
    put(&mut partition, b"a", 1, 1);
    let first = partition.changes();
    put(&mut partition, b"a", 1, 2);
    let second = partition.changes();
    partition.aborted(first);
    let position = Position {
        input_offset: 1,
        stream_time_ms: 1,
        changelog_offset: 1,
    };
    assert!(matches!(
        partition.committed(second, &position),
        Err(StateError::StaleChanges { .. })
    ));
    assert_eq!(partition.get(b"a", 1).unwrap(), None);
    assert_eq!(partition.position(), None);
}

#[test]
fn values_that_do_not_decode_are_errors_that_name_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut partition = open(&db, None, false).unwrap();
    // A state record whose payload is not a trail.
    let mut value = vec![1];
    value.extend_from_slice(&[0; 16]);
    value.extend_from_slice(b"\xffgarbage");
    partition
        .restore(&ChangelogKey::Entry(b"bad").encode(), Some(&value), 0)
        .unwrap();
    partition.finish_restore(1).unwrap();
    let error = partition.get(b"bad", 0).unwrap_err();
    assert!(error.to_string().contains("key bad"), "{error}");
    // Records that are no state records at all are refused when they are read.
    assert!(
        partition
            .restore(&ChangelogKey::Entry(b"x").encode(), Some(b"?"), 2)
            .is_err()
    );
    assert!(partition.restore(b"", Some(b"?"), 2).is_err());
}

#[test]
fn a_cache_full_of_dirty_entries_asks_for_a_commit_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), tiny()).unwrap();
    let mut partition = open(&db, None, false).unwrap();
    assert!(!partition.needs_commit());
    for key in 0u8..100 {
        put(&mut partition, &[key], 1, key);
    }
    assert!(partition.needs_commit());
    assert_eq!(partition.dirty_entries(), 100);
    commit(&mut partition, 1);
    assert!(!partition.needs_commit());
    assert!(partition.cached_bytes() <= 600);
    for key in 0u8..100 {
        assert_eq!(partition.get(&[key], 1).unwrap(), Some(&Trail(vec![key])));
    }
}

#[test]
fn a_changed_time_to_live_applies_to_what_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut partition = open(&db, None, false).unwrap();
    put(&mut partition, b"a", 10, 1);
    commit(&mut partition, 10);
    assert_eq!(partition.due(i64::MAX, 10).unwrap(), vec![]);
    drop(partition);
    let mut partition = open(
        &db,
        Some(Ttl {
            after_ms: 5,
            since: Since::Write,
        }),
        false,
    )
    .unwrap();
    assert_eq!(partition.due(14, 10).unwrap().len(), 0);
    assert_eq!(partition.due(15, 10).unwrap().len(), 1);
    drop(partition);
    let mut partition = open(
        &db,
        Some(Ttl {
            after_ms: 3,
            since: Since::Write,
        }),
        false,
    )
    .unwrap();
    assert_eq!(partition.due(13, 10).unwrap().len(), 1);
}

#[test]
fn a_key_born_again_leaves_its_expired_version_for_the_archive() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut partition = open(
        &db,
        Some(Ttl {
            after_ms: 10,
            since: Since::Write,
        }),
        true,
    )
    .unwrap();
    put(&mut partition, b"a", 0, 1);
    commit(&mut partition, 1);
    // Twice within one interval, so that versions of the same barrier are told apart.
    put(&mut partition, b"a", 10, 2);
    put(&mut partition, b"a", 20, 3);
    assert_eq!(partition.get(b"a", 20).unwrap(), Some(&Trail(vec![3])));
    commit(&mut partition, 20);
    let due = partition.due(20, 10).unwrap();
    let payloads: Vec<Trail> = due.iter().map(|entry| Trail::decode(&entry.payload).unwrap()).collect();
    assert_eq!(payloads, vec![Trail(vec![1]), Trail(vec![2])]);
    assert!(due.iter().all(|entry| entry.superseded));
    for entry in &due {
        assert_eq!(
            partition.version(&entry.key, entry.version).unwrap().as_ref(),
            Some(entry)
        );
        partition.remove_version(&entry.key, entry.version).unwrap();
    }
    commit(&mut partition, 21);
    assert_eq!(partition.due(21, 10).unwrap(), vec![]);
    assert_eq!(partition.get(b"a", 21).unwrap(), Some(&Trail(vec![3])));
}

#[test]
fn records_of_the_owner_are_kept_with_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut partition = open(&db, None, false).unwrap();
    let mut changes = partition.changes();
    changes.push(owner_record(b"mode", Some(Bytes::from_static(b"detached"))));
    let records = changes.records.clone();
    partition
        .committed(
            changes,
            &Position {
                input_offset: 1,
                stream_time_ms: 1,
                changelog_offset: 1,
            },
        )
        .unwrap();
    let expected = vec![(Bytes::from_static(b"mode"), Bytes::from_static(b"detached"))];
    assert_eq!(partition.owner_records().unwrap(), expected);
    partition.clear().unwrap();
    assert_eq!(partition.owner_records().unwrap(), vec![]);
    assert_eq!(partition.position(), None);
    for record in records {
        partition.restore(&record.key, record.value.as_deref(), 7).unwrap();
    }
    partition.finish_restore(8).unwrap();
    assert_eq!(partition.owner_records().unwrap(), expected);
    assert_eq!(partition.changelog_offset(), 8);
}

/// `connect-a-b-c-changelog` is the name of two changelogs: of store `c` of connector `a-b`, and of store `b-c` of connector `a`.
#[test]
fn a_changelog_of_another_pair_with_the_same_name_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let spec = |connector: &str, store: &str| KeyedSpec {
        connector: connector.into(),
        store: store.into(),
        partition: 0,
        ttl: None,
        archive: false,
    };
    let mut first: KeyedPartition<Trail> = KeyedPartition::open(&db, spec("a-b", "c")).unwrap();
    put(&mut first, b"k", 1, 1);
    let changes = first.changes();
    let records = changes.records.clone();
    let position = Position {
        input_offset: 1,
        stream_time_ms: 1,
        changelog_offset: 1,
    };
    first.committed(changes, &position).unwrap();
    put(&mut first, b"k", 1, 2);
    let again = first.changes();
    assert_eq!(again.records.len(), 1, "said once");
    let restore = |partition: &mut KeyedPartition<Trail>| {
        records
            .iter()
            .enumerate()
            .try_for_each(|(offset, record)| partition.restore(&record.key, record.value.as_deref(), offset as i64))
    };
    let mut other: KeyedPartition<Trail> = KeyedPartition::open(&db, spec("a", "b-c")).unwrap();
    let error = restore(&mut other).unwrap_err();
    assert!(matches!(error, StateError::AnothersChangelog { .. }), "{error:?}");
    assert!(error.to_string().contains("connector a-b for its store c"), "{error}");
    // A copy on another worker takes it, and writes it no more.
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = Database::open(elsewhere.path(), MemoryBudget::default()).unwrap();
    let mut copy: KeyedPartition<Trail> = KeyedPartition::open(&elsewhere, spec("a-b", "c")).unwrap();
    restore(&mut copy).unwrap();
    copy.finish_restore(2).unwrap();
    put(&mut copy, b"k", 1, 3);
    assert_eq!(copy.changes().records.len(), 1);
}

#[test]
fn a_rebuilt_copy_is_counted_and_keeps_the_changelogs_id() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let id = |number| kafka_client::TopicId::from_bytes([number; 16]);
    let mut partition = open(&db, None, false).unwrap();
    partition.set_changelog_id(id(1));
    put(&mut partition, b"a", 1, 1);
    commit(&mut partition, 5);
    drop(partition);
    let mut partition = open(&db, None, false).unwrap();
    let copy = partition.copy_state();
    assert_eq!((copy.offset, copy.topic_id), (Some(5), id(1)));
    let topic = TopicState {
        start: 0,
        end: 9,
        written_end: 9,
        id: id(2),
        delete_retention_ms: i64::MAX,
    };
    let RestorePlan::Rebuild(reason) = plan_restore(&copy, &topic, 0) else {
        panic!("carried on")
    };
    partition.rebuild(reason).unwrap();
    partition.set_changelog_id(topic.id);
    assert_eq!(partition.get(b"a", 1).unwrap(), None);
    partition.finish_restore(9).unwrap();
    drop(partition);
    let partition = open(&db, None, false).unwrap();
    assert_eq!(
        (partition.copy_state().offset, partition.copy_state().topic_id),
        (Some(9), id(2))
    );
    let rebuilds = partition.reader().rebuilds().unwrap();
    assert_eq!(
        (rebuilds.count, rebuilds.last_reason),
        (1, Some(RebuildReason::TopicMadeAgain))
    );
}
