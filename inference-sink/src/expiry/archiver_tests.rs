//! The archiver, with its task killed at every step: each expired version is archived exactly once, and nothing is lost.

use super::Archiver;
use bytes::Bytes;
use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use state_store::archive::find;
use state_store::{
    Archive, ChangeRecord, Changes, Database, EntryVersion, KeyedPartition, KeyedSpec, Manifest, MemoryBudget,
    Position, Since, StateValue, Ttl,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

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
    /// Entries that archivers have finished.
    archived_entries: u64,
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

    /// One life of the owner, from opening to the end of the input or its death: the steps of a task, in their order.
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
        let (wake, woken) = crossbeam_channel::unbounded();
        let wake = Arc::new(move || {
            let _ = wake.send(());
        });
        let runtime = tokio::runtime::Handle::current();
        let mut archiver = Archiver::open(&partition, self.archive.clone(), runtime, wake).unwrap();
        archiver.entries = 2;
        let mut events_done = self.events_done;
        loop {
            let event = EVENTS.get(events_done);
            if let Some((time, keys)) = event {
                for key in *keys {
                    let value = Text(format!("{key}@{time}"));
                    *partition
                        .get_or_insert_with(key.as_bytes(), *time, || value.clone())
                        .unwrap() = value.clone();
                }
                events_done += 1;
            }
            let now = partition.stream_time_ms().unwrap();
            archiver.advance(&mut partition, now, Instant::now()).unwrap();
            if archiver.putting.is_some() {
                // Killed while the object is put, and when it has been and nobody has heard of it.
                fuse.step()?;
                let woken = woken.clone();
                tokio::task::spawn_blocking(move || woken.recv())
                    .await
                    .unwrap()
                    .unwrap();
                assert!(archiver.waiting().is_none(), "{:?}", archiver.waiting());
                fuse.step()?;
                archiver.advance(&mut partition, now, Instant::now()).unwrap();
            }
            let idle = archiver.log.is_empty() && !archiver.has_records() && partition.dirty_entries() == 0;
            if event.is_none() && idle {
                return Ok(());
            }
            let mut changes = partition.changes();
            for record in archiver.take_records() {
                changes.push(record);
            }
            self.commit(&mut partition, changes, events_done, &mut fuse)?;
            self.archived_entries += archiver.committed();
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
        archived_entries: 0,
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
        // Every object has its manifest: none was put twice under another name, or left behind.
        let manifests = Manifest::list(&world.db, "sink", &world.store).unwrap();
        let mut objects: Vec<String> = Vec::new();
        let mut listed = world.objects.list(None);
        while let Some(object) = listed.next().await {
            objects.push(object.unwrap().location.to_string());
        }
        let mut named: Vec<String> = manifests.iter().map(|manifest| manifest.object.clone()).collect();
        objects.sort();
        named.sort();
        assert_eq!(objects, named, "killed after {steps} steps");
        if !died {
            assert_eq!(world.archived_entries, 7);
        }
        // Only what lives is left in the store.
        let partition = open(&world.db, &world.store);
        let mut left: Vec<Bytes> = Vec::new();
        let reader = partition.reader();
        reader
            .visit(b"", None, |entry, is_live| {
                left.extend(is_live.then_some(entry.key));
                true
            })
            .unwrap();
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
