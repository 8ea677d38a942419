//! A feeder against a broker: the first copy, tailing, a version over two partitions, a restart, an outage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dev_broker::{DevBroker, DevBrokerConfig};
use kafka_client::{Admin, ClientConfig, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord};
use state_store::global::marker::{HEADER, KEY_TEXT};
use state_store::{Database, Feeder, FeederConfig, Gate, GlobalSpec, GlobalStore, Marker, MemoryBudget};

const TOPIC: &str = "catalog.products";
const PATIENCE: Duration = Duration::from_secs(60);

type Store = Arc<GlobalStore<String>>;

fn open(db: &Database, gate: Gate) -> Store {
    let spec = GlobalSpec {
        store: "products".into(),
        topic: TOPIC.into(),
        gate,
    };
    let decode = |_: &[u8], value: &[u8]| String::from_utf8(value.to_vec()).map_err(|error| error.to_string());
    Arc::new(GlobalStore::open(db, spec, decode).unwrap())
}

fn feed(store: &Store, client: &ClientConfig) -> Feeder {
    Feeder::start(store.clone(), FeederConfig { client: client.clone() }).unwrap()
}

async fn create_topic(client: &ClientConfig, partitions: i32) {
    let admin = Admin::new(client).unwrap();
    let topic = NewTopic::new(TOPIC, partitions, 1).with("cleanup.policy", "compact");
    for (_, result) in admin.create_topics(&[topic]).await.unwrap() {
        result.unwrap();
    }
}

struct Panicking;

impl Deliveries for Panicking {
    fn delivered(&self, _: u64, result: Result<(i32, i64), KafkaError>) {
        result.unwrap();
    }
}

fn producer(client: &ClientConfig) -> Producer {
    Producer::new(client, Arc::new(Panicking)).unwrap()
}

fn send(producer: &Producer, partition: i32, key: &str, value: Option<&str>) {
    let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
    let record = ProducerRecord {
        topic: TOPIC,
        partition: Some(partition),
        key,
        value,
        timestamp_ms: None,
        headers: &[],
    };
    producer.send(&record, 1).unwrap();
}

fn send_marker(producer: &Producer, partition: i32, marker: Marker) {
    let json = marker.to_json();
    let record = ProducerRecord {
        topic: TOPIC,
        partition: Some(partition),
        key: Some(KEY_TEXT.as_bytes()),
        value: Some(b"not JSON"),
        timestamp_ms: None,
        headers: &[(HEADER, Some(&json))],
    };
    producer.send(&record, 1).unwrap();
}

fn get(store: &Store, key: &str) -> Option<String> {
    store.get(key.as_bytes()).map(|row| row.as_ref().clone())
}

fn database(directory: &Path) -> Database {
    Database::open(directory, MemoryBudget::default()).unwrap()
}

#[tokio::test]
async fn a_topic_is_copied_followed_and_taken_up_again() {
    let broker = DevBroker::start(DevBrokerConfig::default()).unwrap();
    let client = ClientConfig::new(&broker.bootstrap());
    let directory = tempfile::tempdir().unwrap();
    let db = database(directory.path());
    let store = open(&db, Gate::default());
    // The topic comes later: the feeder says what is wrong, and goes on trying.
    let feeder = feed(&store, &client);
    assert!(store.wait_until(PATIENCE, |status| {
        status.trouble.as_ref().is_some_and(|text| text.contains(TOPIC))
    }));
    create_topic(&client, 2).await;
    let producer = producer(&client);
    for number in 0..20_000 {
        send(
            &producer,
            number % 2,
            &format!("product-{number}"),
            Some(&format!("row {number}")),
        );
    }
    producer.flush(PATIENCE).unwrap();
    assert!(
        store.wait_until(PATIENCE, |status| status.ready && status.rows == 20_000),
        "{:?}",
        store.status()
    );
    assert_eq!(get(&store, "product-19999"), Some("row 19999".into()));
    send(&producer, 1, "product-19999", Some("changed"));
    send(&producer, 0, "product-0", None);
    producer.flush(PATIENCE).unwrap();
    assert!(store.wait_until(PATIENCE, |status| status.rows == 19_999));
    assert!(store.wait_until(PATIENCE, |_| get(&store, "product-19999") == Some("changed".into())));
    assert_eq!(get(&store, "product-0"), None);
    feeder.stop();
    let positions = store.positions();
    drop(store);

    send(&producer, 1, "late", Some("row"));
    producer.flush(PATIENCE).unwrap();
    let store = open(&db, Gate::default());
    assert_eq!(
        (store.len(), store.ready()),
        (19_999, false),
        "the copy serves before it has caught up"
    );
    assert_eq!(store.positions(), positions);
    let feeder = feed(&store, &client);
    assert!(store.wait_until(PATIENCE, |status| status.ready && status.rows == 20_000));
    assert!(store.status().partitions.values().all(|partition| partition.lag == 0));
    feeder.stop();
    broker.stop().await;
}

#[tokio::test]
async fn a_version_over_two_partitions_serves_when_its_markers_have_come() {
    let broker = DevBroker::start(DevBrokerConfig::default()).unwrap();
    let client = ClientConfig::new(&broker.bootstrap());
    create_topic(&client, 2).await;
    let producer = producer(&client);
    let marker = |version| Marker {
        version,
        rows: None,
        partitions: 2,
    };
    send(&producer, 0, "a", Some("v1"));
    send(&producer, 1, "b", Some("v1"));
    send_marker(&producer, 0, marker(1));
    send_marker(&producer, 1, marker(1));
    producer.flush(PATIENCE).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = open(
        &database(directory.path()),
        Gate {
            max_shrink: Some(0.4),
            ..Gate::default()
        },
    );
    let feeder = feed(&store, &client);
    assert!(
        store.wait_until(PATIENCE, |status| status.ready && status.version == Some(1)),
        "{:?}",
        store.status()
    );
    // Version 2 loses half of the rows; version 3 has them back.
    send(&producer, 0, "a", None);
    send_marker(&producer, 0, marker(2));
    send_marker(&producer, 1, marker(2));
    producer.flush(PATIENCE).unwrap();
    assert!(store.wait_until(PATIENCE, |status| status.refused.is_some()));
    assert_eq!(get(&store, "a"), Some("v1".into()));
    send(&producer, 0, "a", Some("v3"));
    send_marker(&producer, 0, marker(3));
    // Ahead of the other partition: it waits.
    send(&producer, 0, "a", Some("v4"));
    send_marker(&producer, 1, marker(3));
    producer.flush(PATIENCE).unwrap();
    assert!(store.wait_until(PATIENCE, |status| status.version == Some(3)));
    assert_eq!(get(&store, "a"), Some("v3".into()));
    feeder.stop();
    broker.stop().await;
}

#[tokio::test]
async fn an_outage_of_the_broker_is_survived() {
    let data = tempfile::tempdir().unwrap();
    let config = DevBrokerConfig {
        data_dir: Some(data.path().to_path_buf()),
        ..DevBrokerConfig::default()
    };
    let broker = DevBroker::start(config.clone()).unwrap();
    let client = ClientConfig::new(&broker.bootstrap());
    create_topic(&client, 1).await;
    let directory = tempfile::tempdir().unwrap();
    let store = open(&database(directory.path()), Gate::default());
    let feeder = feed(&store, &client);
    let first = producer(&client);
    send(&first, 0, "a", Some("1"));
    first.flush(PATIENCE).unwrap();
    assert!(
        store.wait_until(PATIENCE, |status| status.ready && status.rows == 1),
        "{:?}",
        store.status()
    );
    let listen = broker.address();
    broker.kill();
    assert_eq!(get(&store, "a"), Some("1".into()), "what was read serves on");
    let broker = DevBroker::start(DevBrokerConfig { listen, ..config }).unwrap();
    let second = producer(&client);
    send(&second, 0, "b", Some("2"));
    second.flush(PATIENCE).unwrap();
    assert!(
        store.wait_until(PATIENCE, |status| status.rows == 2),
        "{:?}",
        store.status()
    );
    feeder.stop();
    broker.stop().await;
}
