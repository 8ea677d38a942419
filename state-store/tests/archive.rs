//! The archive: objects are put once, and an aborted barrier takes its steps again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use objects::S3Settings;
use state_store::archive::{Put, Step};
use state_store::{
    Archive, Database, IntentLog, KeyedPartition, KeyedSpec, MemoryBudget, Position, Since, StateValue, Ttl,
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
