//! The archive, with the owner killed at every step: each expired version is archived exactly once, and nothing is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use state_store::archive::{Put, Step, encode, find};
use state_store::objects::S3Settings;
use state_store::{
    Archive, ChangeRecord, Changes, Database, EntryVersion, IntentLog, KeyedPartition, KeyedSpec, Manifest,
    MemoryBudget, Position, Since, StateValue, Ttl,
};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Text(String);

impl StateValue for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        String::from_utf8(bytes.to_vec())
            .map(Text)
            .map_err(|error| error.to_string())
    }
    fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }
}

const TTL_MS: i64 = 100;

/// Says when the owner dies.
struct Fuse {
    steps_left: usize,
}

/// The owner is dead.
#[derive(Debug)]
struct Killed;

impl Fuse {
    fn step(&mut self) -> Result<(), Killed> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Killed)?;
        Ok(())
    }
}

struct World {
    db: Database,
    store: String,
    objects: Arc<InMemory>,
    archive: Archive,
    /// The changelog: what committed transactions have written, by offset.
    changelog: Vec<ChangeRecord>,
    /// How much of the input is in committed state.
    events_done: usize,
    puts: Vec<(String, Put)>,
}

/// What happens to the store: at each time, keys that are written.
const EVENTS: [(i64, &[&str]); 6] = [
    (0, &["a", "b", "c"]),
    (50, &["d"]),
    (120, &["e"]),
    // a is born again while its first version has expired and may be on its way.
    (130, &["a"]),
    (200, &["f", "a"]),
    (400, &["g"]),
];

fn open(db: &Database, store: &str) -> KeyedPartition<Text> {
    let ttl = Some(Ttl {
        after_ms: TTL_MS,
        since: Since::Write,
    });
    KeyedPartition::open(
        db,
        KeyedSpec {
            connector: "sink".into(),
            store: store.into(),
            partition: 0,
            ttl,
            archive: true,
        },
    )
    .unwrap()
}

impl World {
    fn commit(
        &mut self,
        partition: &mut KeyedPartition<Text>,
        changes: Changes,
        events_done: usize,
        fuse: &mut Fuse,
    ) -> Result<(), Killed> {
        // Killed before the transaction commits: nothing of it is in the changelog.
        fuse.step()?;
        let time = EVENTS[..events_done].last().map_or(0, |event| event.0);
        let mut records = changes.records.clone();
        records.push(changes.position_record(events_done as i64, time));
        self.changelog.extend(records);
        self.events_done = events_done;
        // Killed between the transaction and the local copy: the changelog has more.
        fuse.step()?;
        let position = Position {
            input_offset: events_done as i64,
            stream_time_ms: time,
            changelog_offset: self.changelog.len() as i64,
        };
        partition.committed(changes, &position).unwrap();
        fuse.step()
    }

    /// One life of the owner, from opening to the end of the input or its death.
    async fn live(&mut self, mut fuse: Fuse) -> Result<(), Killed> {
        let mut partition = open(&self.db, &self.store);
        let from = usize::try_from(partition.changelog_offset()).unwrap();
        for (offset, record) in self.changelog.iter().enumerate().skip(from) {
            partition
                .restore(&record.key, record.value.as_deref(), offset as i64)
                .unwrap();
        }
        let position = partition.finish_restore(self.changelog.len() as i64).unwrap();
        assert_eq!(
            position.map_or(0, |position| position.input_offset),
            self.events_done as i64
        );
        let mut intents = IntentLog::open(&partition).unwrap();
        let mut events_done = self.events_done;
        loop {
            let mut idle = true;
            if let Some((time, keys)) = EVENTS.get(events_done) {
                idle = false;
                for key in *keys {
                    let value = Text(format!("{key}@{time}"));
                    *partition
                        .get_or_insert_with(key.as_bytes(), *time, || value.clone())
                        .unwrap() = value.clone();
                }
                events_done += 1;
            }
            let now = partition.stream_time_ms().unwrap();
            let due = partition.due(now, 2).unwrap();
            let mut records = Vec::from_iter(intents.propose(&due));
            match intents.next_step() {
                Some(Step::PutObject(intent)) => {
                    fuse.step()?;
                    let entries: Vec<_> = intent
                        .versions
                        .iter()
                        .map(|(key, version)| partition.version(key, *version).unwrap().expect("still readable"))
                        .collect();
                    let object = encode(&entries, |payload| String::from_utf8(payload.to_vec()).ok()).unwrap();
                    let size = object.len() as u64;
                    let put = self.archive.put(&intent.object, object.clone()).await.unwrap();
                    let kept = self
                        .objects
                        .get(&Path::from(intent.object.as_str()))
                        .await
                        .unwrap()
                        .bytes()
                        .await
                        .unwrap();
                    assert_eq!(kept, object, "a replay makes the identical object");
                    self.puts.push((intent.object.clone(), put));
                    fuse.step()?;
                    intents.object_written(intent.id, size);
                    idle = false;
                }
                Some(Step::Finish {
                    records: finish,
                    versions,
                }) => {
                    for (key, version) in versions {
                        partition.remove_version(&key, version).unwrap();
                    }
                    records.extend(finish);
                }
                None => {}
            }
            idle &= records.is_empty() && intents.is_empty() && partition.dirty_entries() == 0;
            if idle {
                return Ok(());
            }
            let mut changes = partition.changes();
            for record in records {
                changes.push(record);
            }
            self.commit(&mut partition, changes, events_done, &mut fuse)?;
            intents.barrier_committed();
        }
    }

    /// All that is in the archive: key and version, with how often.
    async fn archived(&self) -> BTreeMap<(String, i64), (String, usize)> {
        let manifests = Manifest::list(&self.db, "sink", &self.store).unwrap();
        let mut found: BTreeMap<(String, i64), (String, usize)> = BTreeMap::new();
        for manifest in &manifests {
            let bytes = self
                .objects
                .get(&Path::from(manifest.object.as_str()))
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            assert_eq!(bytes.len() as u64, manifest.bytes);
            for key in ["a", "b", "c", "d", "e", "f", "g"] {
                if let Some(entry) = find(&manifest.object, bytes.clone(), key.as_bytes()).unwrap() {
                    assert!(manifest.may_contain(key.as_bytes()));
                    let payload = String::from_utf8(entry.payload.to_vec()).unwrap();
                    let version: EntryVersion = entry.version;
                    found.entry((key.into(), version.touched_ms)).or_insert((payload, 0)).1 += 1;
                }
            }
        }
        found
    }
}

fn world(db: &Database, store: &str) -> World {
    let objects = Arc::new(InMemory::new());
    World {
        db: db.clone(),
        store: store.into(),
        archive: Archive::with_objects(objects.clone()),
        objects,
        changelog: Vec::new(),
        events_done: 0,
        puts: Vec::new(),
    }
}

#[tokio::test]
async fn every_expired_version_is_archived_exactly_once_wherever_the_owner_dies() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut deaths = 0;
    for steps in 0.. {
        let mut world = world(&db, &format!("texts-{steps}"));
        let died = world.live(Fuse { steps_left: steps }).await.is_err();
        deaths += usize::from(died);
        if died {
            world.live(Fuse { steps_left: usize::MAX }).await.unwrap();
        }
        let expected = BTreeMap::from([
            (("a".to_owned(), 0), ("a@0".to_owned(), 1)),
            (("a".to_owned(), 200), ("a@200".to_owned(), 1)),
            (("b".to_owned(), 0), ("b@0".to_owned(), 1)),
            (("c".to_owned(), 0), ("c@0".to_owned(), 1)),
            (("d".to_owned(), 50), ("d@50".to_owned(), 1)),
            (("e".to_owned(), 120), ("e@120".to_owned(), 1)),
            (("f".to_owned(), 200), ("f@200".to_owned(), 1)),
        ]);
        assert_eq!(world.archived().await, expected, "killed after {steps} steps");
        let written = world.puts.iter().filter(|(_, put)| *put == Put::Written).count();
        let manifests = Manifest::list(&world.db, "sink", &world.store).unwrap();
        assert_eq!(
            written,
            manifests.len(),
            "objects and manifests, killed after {steps} steps"
        );
        // Only what lives is left in the store.
        let partition = open(&world.db, &world.store);
        let left: Vec<Bytes> = partition
            .reader()
            .scan(b"", 100)
            .unwrap()
            .into_iter()
            .map(|entry| entry.key)
            .collect();
        assert_eq!(left, vec![Bytes::from_static(b"g")], "killed after {steps} steps");
        assert_eq!(partition.len_estimate(), 1);
        if !died {
            break;
        }
    }
    assert!(deaths > 20, "{deaths}");
}

#[tokio::test]
async fn a_key_is_read_back_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut world = world(&db, "texts");
    world.live(Fuse { steps_left: usize::MAX }).await.unwrap();
    let manifests = Manifest::list(&world.db, "sink", &world.store).unwrap();
    let entry = world.archive.read_key(&manifests, b"a").await.unwrap().unwrap();
    assert_eq!(entry.payload, Bytes::from_static(b"a@200"));
    assert_eq!(entry.expires_ms, 300);
    assert_eq!(world.archive.read_key(&manifests, b"g").await.unwrap(), None);

    let mut partition = open(&world.db, &world.store);
    assert!(partition.restore_archived(b"a", &entry.payload, 410).unwrap());
    assert_eq!(partition.get(b"a", 410).unwrap(), Some(&Text("a@200".into())));
    assert!(!partition.restore_archived(b"a", b"again", 411).unwrap());
}

#[tokio::test]
async fn a_local_directory_takes_an_object_once() {
    let directory = tempfile::tempdir().unwrap();
    let archive = Archive::open(
        &format!("file://{}", directory.path().display()),
        &S3Settings::default(),
    )
    .unwrap();
    assert_eq!(
        archive.put("s/one", Bytes::from_static(b"1")).await.unwrap(),
        Put::Written
    );
    assert_eq!(
        archive.put("s/one", Bytes::from_static(b"2")).await.unwrap(),
        Put::AlreadyThere
    );
    assert_eq!(std::fs::read(directory.path().join("s/one")).unwrap(), b"1");
    let error = Archive::open("ftp://host/x", &S3Settings::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("ftp"), "{error}");
}

#[tokio::test]
async fn an_aborted_barrier_takes_its_steps_again() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let mut partition = open(&db, "aborted");
    partition.get_or_insert_with(b"a", 0, || Text("x".into())).unwrap();
    let changes = partition.changes();
    partition
        .committed(
            changes,
            &Position {
                input_offset: 1,
                stream_time_ms: 0,
                changelog_offset: 1,
            },
        )
        .unwrap();
    let due = partition.due(TTL_MS, 10).unwrap();
    let mut intents = IntentLog::open(&partition).unwrap();
    assert!(intents.propose(&due).is_some());
    assert_eq!(intents.propose(&due), None, "it is proposed already");
    intents.barrier_aborted();
    assert!(intents.is_empty());
    assert!(intents.propose(&due).is_some());
    assert_eq!(
        intents.next_step(),
        None,
        "nothing is put before the intent has committed"
    );
    intents.barrier_committed();
    let Some(Step::PutObject(intent)) = intents.next_step() else {
        panic!("an object is to be put")
    };
    intents.object_written(intent.id, 10);
    let finish = intents.next_step();
    assert!(matches!(finish, Some(Step::Finish { .. })));
    assert_eq!(intents.next_step(), None);
    intents.barrier_aborted();
    assert_eq!(intents.next_step(), finish);
    intents.barrier_committed();
    assert!(intents.is_empty());
}
