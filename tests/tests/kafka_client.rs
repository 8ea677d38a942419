//! The Kafka client against Apache Kafka.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use kafka_client::{
    Admin, ClientConfig, CommitMode, ConfigChange, Consumer, ConsumerGroupMetadata, Deliveries, ErrorCode, Fetched,
    IsolationLevel, KafkaError, LogClients, Message, NewTopic, Producer, ProducerRecord, RawConnection,
    RebalanceListener, SendError, StartOffset, TimestampType, TopicLog, TopicPartition, partition_for_key,
};
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest};
use kafka_protocol::protocol::StrBytes;
use tests::broker_laws::eventually;
use tests::{KafkaBroker, topics};

const PATIENCE: Duration = Duration::from_secs(30);

async fn broker() -> &'static KafkaBroker {
    KafkaBroker::shared().await.unwrap()
}

/// A topic of the test's own.
async fn topic(broker: &KafkaBroker, name: &str, partitions: i32) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    create(broker, NewTopic::new(&name, partitions, 1)).await;
    name
}

async fn create(broker: &KafkaBroker, topic: NewTopic) {
    let admin = Admin::new(&broker.config()).unwrap();
    for (_, result) in admin.create_topics(&[topic]).await.unwrap() {
        result.unwrap();
    }
}

#[derive(Default)]
struct Recorded(Mutex<HashMap<u64, Vec<Result<(i32, i64), KafkaError>>>>);

impl Deliveries for Recorded {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        self.0.lock().unwrap().entry(token).or_default().push(result);
    }
}

impl Recorded {
    /// The one result of a token.
    fn only(&self, token: u64) -> Result<(i32, i64), KafkaError> {
        let results = self.0.lock().unwrap();
        assert_eq!(results[&token].len(), 1, "token {token} was reported more than once");
        results[&token][0].clone()
    }
}

fn producer(config: &ClientConfig) -> (Producer, Arc<Recorded>) {
    let recorded = Arc::new(Recorded::default());
    (
        Producer::new(config, Arc::clone(&recorded) as Arc<dyn Deliveries>).unwrap(),
        recorded,
    )
}

fn record<'a>(topic: &'a str, key: &'a str, value: &'a str) -> ProducerRecord<'a> {
    ProducerRecord {
        topic,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        ..ProducerRecord::default()
    }
}

/// Sends values 0..count under keys of their own and waits for all of them.
fn fill(broker: &KafkaBroker, topic: &str, count: usize) {
    let (producer, _) = producer(&broker.config());
    for i in 0..count {
        let text = i.to_string();
        producer
            .send_waiting(&record(topic, &text, &text), 0, PATIENCE)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Fetches until `done` says so.
fn fetch_until(consumer: &Consumer, mut done: impl FnMut(Fetched) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fetched = consumer.fetch(500, Duration::from_millis(200)).unwrap();
        assert!(fetched.errors.is_empty(), "{:?}", fetched.errors);
        if done(fetched) {
            return;
        }
        assert!(Instant::now() < deadline, "what was waited for did not come");
    }
}

fn values(broker: &KafkaBroker, isolation: &str, partition: &TopicPartition) -> Vec<String> {
    let mut config = broker.config();
    config.set("isolation.level", isolation);
    let consumer = Consumer::new(&config).unwrap();
    consumer.assign(&[(partition.clone(), StartOffset::Beginning)]).unwrap();
    let mut values = Vec::new();
    fetch_until(&consumer, |fetched| {
        values.extend(
            fetched
                .messages
                .iter()
                .map(|m| String::from_utf8(m.value().unwrap().to_vec()).unwrap()),
        );
        !fetched.end_of_partition.is_empty()
    });
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_comes_back_as_it_was_sent() {
    let broker = broker().await;
    let topic = topic(broker, "fidelity", 1).await;
    let (producer, recorded) = producer(&broker.config());
    let headers: [(&str, Option<&[u8]>); 4] = [
        ("a", Some(b"1")),
        ("a", Some(b"")),
        ("null", None),
        ("bytes", Some(&[0, 255])),
    ];
    let full = ProducerRecord {
        topic: &topic,
        partition: Some(0),
        key: Some(&[1, 0, 2]),
        value: Some(b"value"),
        timestamp_ms: Some(1_234_567),
        headers: &headers,
    };
    let empty = ProducerRecord {
        topic: &topic,
        key: Some(b""),
        value: Some(b""),
        ..ProducerRecord::default()
    };
    let null = ProducerRecord {
        topic: &topic,
        ..ProducerRecord::default()
    };
    for (token, record) in [(1, full), (2, empty), (3, null)] {
        producer.send(&record, token).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(
        (1..=3).map(|token| recorded.only(token).unwrap()).collect::<Vec<_>>(),
        [(0, 0), (0, 1), (0, 2)]
    );
    assert_eq!(producer.in_flight(), 0);

    let consumer = Consumer::new(&broker.config()).unwrap();
    let partition = TopicPartition::new(topic.as_str(), 0);
    consumer.assign(&[(partition.clone(), StartOffset::Beginning)]).unwrap();
    let (mut batches, mut end) = (Vec::new(), None);
    fetch_until(&consumer, |fetched| {
        end = fetched
            .end_of_partition
            .first()
            .cloned()
            .zip(fetched.end_offsets.first().copied())
            .or(end.take());
        batches.push(fetched.messages);
        end.is_some()
    });
    let messages: Vec<&Message> = batches.iter().flatten().collect();
    assert_eq!(end, Some((partition.clone(), 3)));
    assert_eq!(consumer.position(&partition).unwrap(), Some(3));
    assert_eq!(consumer.watermarks(&partition, PATIENCE).unwrap(), (0, 3));
    // Pausing at the end skips nothing.
    consumer.pause(std::slice::from_ref(&partition)).unwrap();
    assert_eq!(consumer.position(&partition).unwrap(), Some(3));
    producer.send(&null, 4).unwrap();
    producer.flush(PATIENCE).unwrap();
    consumer.resume(std::slice::from_ref(&partition)).unwrap();
    fetch_until(&consumer, |fetched| fetched.messages.iter().any(|m| m.offset() == 3));
    // Messages may outlive their consumer.
    drop(consumer);

    let [full, empty, null] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!((full.topic(), full.partition(), full.offset()), (topic.as_str(), 0, 0));
    assert_eq!((full.key(), full.value()), (Some(&[1, 0, 2][..]), Some(&b"value"[..])));
    assert_eq!(
        (full.timestamp_ms(), full.timestamp_type()),
        (Some(1_234_567), TimestampType::CreateTime)
    );
    assert_eq!(full.headers().collect::<Vec<_>>(), headers);
    assert_eq!(full.headers().collect::<Vec<_>>(), headers, "headers can be read again");
    assert_eq!((empty.key(), empty.value()), (Some(&b""[..]), Some(&b""[..])));
    assert_eq!(empty.headers().count(), 0);
    assert_eq!((null.key(), null.value()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_java_puts_them() {
    let broker = broker().await;
    let topic = topic(broker, "partitioning", 7).await;
    let (producer, recorded) = producer(&broker.config());
    for i in 1..=500u64 {
        let key = format!("key-{i}");
        producer.send(&record(&topic, &key, "v"), i).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    for i in 1..=500u64 {
        assert_eq!(
            recorded.only(i).unwrap().0,
            partition_for_key(format!("key-{i}").as_bytes(), 7)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_ends_a_fetch_and_arrivals_are_told() {
    let broker = broker().await;
    let topic = topic(broker, "waking", 1).await;
    let consumer = Consumer::new(&broker.config()).unwrap();
    let (sender, arrivals) = mpsc::channel();
    consumer
        .on_ready(Box::new(move || sender.send(()).unwrap_or(())))
        .unwrap();
    assert!(consumer.on_ready(Box::new(|| {})).is_err(), "one listener only");
    consumer
        .assign(&[(TopicPartition::new(topic.as_str(), 0), StartOffset::Beginning)])
        .unwrap();
    fetch_until(&consumer, |fetched| !fetched.end_of_partition.is_empty());

    // A wake before the fetch is not lost.
    let waker = consumer.waker();
    waker.wake();
    assert!(consumer.fetch(10, Duration::from_secs(3600)).unwrap().is_empty());
    // A wake during the fetch ends it, and its messages are kept for the next one.
    let (started, begun) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        started.send(()).unwrap();
        let empty = consumer.fetch(10, Duration::from_secs(3600)).unwrap().is_empty();
        (consumer, empty)
    });
    begun.recv().unwrap();
    waker.wake();
    let (consumer, empty) = waiting.join().unwrap();
    assert!(empty);

    while arrivals.try_recv().is_ok() {}
    fill(broker, &topic, 1);
    arrivals.recv_timeout(PATIENCE).unwrap();
    fetch_until(&consumer, |fetched| fetched.messages.len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_can_be_committed_sought_and_paused() {
    let broker = broker().await;
    let topic = topic(broker, "offsets", 2).await;
    fill(broker, &topic, 100);
    let mut config = broker.config();
    config.set("group.id", &format!("group-of-{topic}"));
    let partitions = [
        TopicPartition::new(topic.as_str(), 0),
        TopicPartition::new(topic.as_str(), 1),
    ];
    let consumer = Consumer::new(&config).unwrap();
    let start = |start| partitions.clone().map(|partition| (partition, start));
    consumer.assign(&start(StartOffset::Beginning)).unwrap();
    let mut seen = 0;
    fetch_until(&consumer, |fetched| {
        seen += fetched.messages.len();
        seen == 100
    });

    let unset = consumer.committed(&partitions, PATIENCE).unwrap();
    assert!(unset.iter().all(|(_, offset)| offset.is_none()));
    consumer
        .commit(&[(partitions[0].clone(), 7)], CommitMode::Sync)
        .unwrap();
    let (sender, results) = mpsc::channel();
    consumer
        .commit_with(
            &[(partitions[1].clone(), 9)],
            Box::new(move |r| sender.send(r).unwrap()),
        )
        .unwrap();
    fetch_until(&consumer, |_| match results.try_recv() {
        Ok(result) => result.is_ok(),
        Err(_) => false,
    });
    let committed = consumer.committed(&partitions, PATIENCE).unwrap();
    assert_eq!(
        committed,
        [(partitions[0].clone(), Some(7)), (partitions[1].clone(), Some(9))]
    );

    consumer.seek(&partitions[0], 3).unwrap();
    fetch_until(&consumer, |fetched| {
        fetched
            .messages
            .first()
            .is_some_and(|m| m.partition() == 0 && m.offset() == 3)
    });

    consumer.pause(&partitions[..1]).unwrap();
    consumer.seek(&partitions[0], 0).unwrap();
    consumer.seek(&partitions[1], 0).unwrap();
    let mut ended = false;
    fetch_until(&consumer, |fetched| {
        assert!(
            fetched.messages.iter().all(|m| m.partition() == 1),
            "a paused partition yields nothing"
        );
        ended |= fetched.end_of_partition.contains(&partitions[1]);
        ended
    });
    consumer.resume(&partitions[..1]).unwrap();
    fetch_until(&consumer, |fetched| fetched.messages.iter().any(|m| m.partition() == 0));
    drop(consumer);

    // A new consumer of the group starts where it was left; seeking right after the assignment works.
    let consumer = Consumer::new(&config).unwrap();
    consumer.assign(&start(StartOffset::Committed)).unwrap();
    consumer.seek(&partitions[1], 20).unwrap();
    let mut first = HashMap::new();
    fetch_until(&consumer, |fetched| {
        for message in &fetched.messages {
            first.entry(message.partition()).or_insert(message.offset());
        }
        first.len() == 2
    });
    assert_eq!(first, HashMap::from([(0, 7), (1, 20)]));
    let times = consumer
        .offsets_for_times(&[(partitions[0].clone(), 0)], PATIENCE)
        .unwrap();
    assert_eq!(times, [(partitions[0].clone(), Some(0))]);

    let no_group = Consumer::new(&broker.config()).unwrap();
    let error = no_group
        .commit(&[(partitions[0].clone(), 1)], CommitMode::Sync)
        .unwrap_err();
    assert!(error.to_string().contains("group.id"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_out_of_range_without_reset_is_an_error() {
    let broker = broker().await;
    let topic = topic(broker, "range", 1).await;
    fill(broker, &topic, 1);
    let mut config = broker.config();
    config.set("auto.offset.reset", "none");
    let consumer = Consumer::new(&config).unwrap();
    consumer
        .assign(&[(TopicPartition::new(topic.as_str(), 0), StartOffset::At(1000))])
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        let fetched = consumer.fetch(10, Duration::from_millis(200)).unwrap();
        if let Some(error) = fetched.errors.into_iter().next() {
            break error;
        }
        assert!(Instant::now() < deadline);
    };
    assert_eq!(error.code, ErrorCode::AutoOffsetReset);
    assert!(error.to_string().contains(&topic), "{error}");
}

/// Notes what happens to a member, and commits what it read when partitions go.
#[derive(Default)]
struct Member {
    owned: Mutex<HashSet<TopicPartition>>,
    events: Mutex<Vec<String>>,
    read: Mutex<HashMap<TopicPartition, i64>>,
}

struct Listener(Arc<Member>);

impl RebalanceListener for Listener {
    fn assigned(&mut self, _consumer: &Consumer, partitions: &[TopicPartition]) {
        self.0.owned.lock().unwrap().extend(partitions.iter().cloned());
        self.0
            .events
            .lock()
            .unwrap()
            .push(format!("assigned {}", partitions.len()));
    }

    fn revoked(&mut self, consumer: &Consumer, partitions: &[TopicPartition]) {
        let mut read = self.0.read.lock().unwrap();
        let offsets: Vec<_> = partitions
            .iter()
            .filter_map(|p| Some((p.clone(), read.remove(p)?)))
            .collect();
        consumer.commit(&offsets, CommitMode::Sync).unwrap();
        let mut owned = self.0.owned.lock().unwrap();
        for partition in partitions {
            assert!(owned.remove(partition), "{partition} was not owned");
        }
        self.0
            .events
            .lock()
            .unwrap()
            .push(format!("revoked {}", partitions.len()));
    }

    fn lost(&mut self, _consumer: &Consumer, partitions: &[TopicPartition]) {
        panic!("nothing is lost in a clean hand-over: {partitions:?}");
    }
}

async fn members_share_partitions(strategy: &str) -> Vec<String> {
    let broker = broker().await;
    let topic = topic(broker, "sharing", 6).await;
    fill(broker, &topic, 1000);
    let mut config = broker.config();
    config
        .set("group.id", &format!("group-of-{topic}"))
        .set("auto.offset.reset", "earliest");
    config
        .set("partition.assignment.strategy", strategy)
        .set("heartbeat.interval.ms", "100");
    let counted = Arc::new(Mutex::new(HashMap::<(i32, i64), usize>::new()));
    let read = |consumer: &Consumer, member: &Member| {
        let fetched = consumer.fetch(50, Duration::from_millis(50)).unwrap();
        assert!(fetched.errors.is_empty(), "{:?}", fetched.errors);
        for message in &fetched.messages {
            assert!(
                member.owned.lock().unwrap().contains(&message.topic_partition()),
                "{message:?} is not ours"
            );
            member
                .read
                .lock()
                .unwrap()
                .insert(message.topic_partition(), message.offset() + 1);
            *counted
                .lock()
                .unwrap()
                .entry((message.partition(), message.offset()))
                .or_default() += 1;
        }
    };
    let owned = |member: &Member| member.owned.lock().unwrap().len();
    let join = || {
        let member = Arc::new(Member::default());
        let consumer = Consumer::new(&config).unwrap();
        consumer
            .subscribe(&[format!("^{topic}$")], Box::new(Listener(Arc::clone(&member))))
            .unwrap();
        (consumer, member)
    };

    let deadline = Instant::now() + PATIENCE;
    let (first, first_member) = join();
    while owned(&first_member) < 6 || counted.lock().unwrap().is_empty() {
        read(&first, &first_member);
        assert!(Instant::now() < deadline, "the first member did not get all partitions");
    }
    let (second, second_member) = join();
    while owned(&first_member) != 3 || owned(&second_member) != 3 {
        read(&first, &first_member);
        read(&second, &second_member);
        assert!(Instant::now() < deadline, "the members did not share");
    }
    second.close().unwrap();
    assert_eq!(owned(&second_member), 0, "closing revokes");
    while owned(&first_member) != 6 || counted.lock().unwrap().len() < 1000 {
        read(&first, &first_member);
        assert!(
            Instant::now() < deadline,
            "the first member did not get everything back"
        );
    }
    assert!(
        counted.lock().unwrap().values().all(|count| *count == 1),
        "each record once: offsets were handed over"
    );
    drop(first);
    assert_eq!(owned(&first_member), 0, "dropping revokes");

    first_member.events.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn eager_members_share_partitions() {
    let events = members_share_partitions("org.apache.kafka.clients.consumer.RangeAssignor").await;
    assert_eq!(
        events,
        [
            "assigned 6",
            "revoked 6",
            "assigned 3",
            "revoked 3",
            "assigned 6",
            "revoked 6"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative_members_share_partitions() {
    let events = members_share_partitions("org.apache.kafka.clients.consumer.CooperativeStickyAssignor").await;
    let moved: Vec<_> = events.iter().filter(|event| !event.ends_with(" 0")).collect();
    assert_eq!(moved, ["assigned 6", "revoked 3", "assigned 3", "revoked 6"]);
}

/// Starts partitions at offset 5, partition 1 paused.
struct Positioning;

impl RebalanceListener for Positioning {
    fn assigned(&mut self, consumer: &Consumer, partitions: &[TopicPartition]) {
        for partition in partitions {
            consumer.seek(partition, 5).unwrap();
            if partition.partition == 1 {
                consumer.pause(std::slice::from_ref(partition)).unwrap();
            }
        }
    }

    fn revoked(&mut self, _consumer: &Consumer, _partitions: &[TopicPartition]) {}
    fn lost(&mut self, _consumer: &Consumer, _partitions: &[TopicPartition]) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_decides_where_partitions_start() {
    let broker = broker().await;
    let topic = topic(broker, "positioning", 2).await;
    fill(broker, &topic, 100);
    let mut config = broker.config();
    config
        .set("group.id", &format!("group-of-{topic}"))
        .set("auto.offset.reset", "earliest");
    let consumer = Consumer::new(&config).unwrap();
    consumer
        .subscribe(std::slice::from_ref(&topic), Box::new(Positioning))
        .unwrap();
    let mut first = HashMap::new();
    let mut ended = false;
    fetch_until(&consumer, |fetched| {
        for message in &fetched.messages {
            first.entry(message.partition()).or_insert(message.offset());
        }
        ended |= fetched.end_of_partition.iter().any(|p| p.partition == 0);
        ended
    });
    assert_eq!(first, HashMap::from([(0, 5)]), "partition 1 is paused");
    consumer.resume(&[TopicPartition::new(topic.as_str(), 1)]).unwrap();
    fetch_until(&consumer, |fetched| {
        fetched
            .messages
            .first()
            .is_some_and(|m| m.partition() == 1 && m.offset() == 5)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_buffer_is_back_pressure_and_every_record_is_reported_once() {
    let broker = broker().await;
    let topic = topic(broker, "back-pressure", 1).await;
    let mut config = broker.config();
    config.set("buffer.memory", "65536").set("linger.ms", "50");
    let (producer, recorded) = producer(&config);
    let value = vec![b'x'; 1000];
    let send = |token| {
        producer.send(
            &ProducerRecord {
                topic: &topic,
                value: Some(&value),
                ..Default::default()
            },
            token,
        )
    };
    let mut accepted = 0;
    let full = loop {
        match send(accepted + 1) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100_000, "the buffer never filled");
    };
    assert!(matches!(full, SendError::QueueFull), "{full}");
    for _ in 0..500 {
        accepted += 1;
        let record = ProducerRecord {
            topic: &topic,
            value: Some(&value),
            ..Default::default()
        };
        producer.send_waiting(&record, accepted, PATIENCE).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    for token in 1..=accepted {
        recorded.only(token).unwrap();
    }

    let too_large = vec![0; 5_000_000];
    match producer.send(
        &ProducerRecord {
            topic: &topic,
            value: Some(&too_large),
            ..Default::default()
        },
        0,
    ) {
        Err(SendError::Kafka(error)) => assert_eq!(error.code, ErrorCode::MessageSizeTooLarge),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_producer_reports_what_it_did_not_send() {
    let (producer, recorded) = producer(&ClientConfig::new("127.0.0.1:1"));
    for token in 1..=10 {
        producer.send(&record("nowhere", "k", "v"), token).unwrap();
    }
    drop(producer);
    for token in 1..=10 {
        let code = recorded.only(token).unwrap_err().code;
        assert!(
            matches!(code, ErrorCode::PurgeQueue | ErrorCode::PurgeInflight),
            "{code}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_commit_abort_and_carry_offsets() {
    let broker = broker().await;
    let topic = topic(broker, "transactions", 1).await;
    let partition = TopicPartition::new(topic.as_str(), 0);
    let mut config = broker.config();
    config.set("transactional.id", &format!("tx-{topic}"));
    let (producer, _) = producer(&config);
    producer.init_transactions(PATIENCE).unwrap();

    let group = format!("group-of-{topic}");
    for (value, commit) in [("a", true), ("b", false), ("c", true), ("d", false)] {
        producer.begin_transaction().unwrap();
        producer.send(&record(&topic, "k", value), 0).unwrap();
        producer.flush(PATIENCE).unwrap();
        let offset = if commit { 10 } else { 99 };
        let metadata = ConsumerGroupMetadata::of_group(&group).unwrap();
        producer
            .send_offsets_to_transaction(&[(partition.clone(), offset)], &metadata, PATIENCE)
            .unwrap();
        if commit {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    assert_eq!(values(broker, "read_committed", &partition), ["a", "c"]);
    assert_eq!(values(broker, "read_uncommitted", &partition), ["a", "b", "c", "d"]);
    let admin = Admin::new(&broker.config()).unwrap();
    assert_eq!(admin.group_offsets(&group).await.unwrap(), [(partition.clone(), 10)]);

    // An open transaction holds back the last stable offset, not the end.
    producer.begin_transaction().unwrap();
    producer.send(&record(&topic, "k", "e"), 0).unwrap();
    producer.flush(PATIENCE).unwrap();
    let ends = async |isolation| {
        admin
            .end_offsets(std::slice::from_ref(&partition), isolation)
            .await
            .unwrap()[0]
            .1
    };
    assert_eq!(ends(IsolationLevel::ReadCommitted).await, 8);
    assert_eq!(ends(IsolationLevel::ReadUncommitted).await, 9);
    producer.abort_transaction(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_id_is_taken_is_fenced() {
    let broker = broker().await;
    let topic = topic(broker, "fencing", 1).await;
    let mut config = broker.config();
    config.set("transactional.id", &format!("tx-{topic}"));
    let open = |config: &ClientConfig| {
        let (producer, _) = producer(config);
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(&record(&topic, "k", "of a fenced producer"), 0).unwrap();
        producer.flush(PATIENCE).unwrap();
        producer
    };
    let assert_fenced = |producer: &Producer| {
        let error = producer.commit_transaction(PATIENCE).unwrap_err();
        assert!(
            error.is_fenced() && error.is_fatal() && !error.is_retriable(),
            "{error:?}"
        );
        assert!(producer.fatal_error().is_some());
    };

    let old = open(&config);
    let new = open(&config);
    assert_fenced(&old);
    let admin = Admin::new(&broker.config()).unwrap();
    admin.fence_producers(&[format!("tx-{topic}")]).await.unwrap();
    assert_fenced(&new);
    assert!(values(broker, "read_committed", &TopicPartition::new(topic.as_str(), 0)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_of_topics() {
    let broker = broker().await;
    let admin = Admin::new(&broker.config()).unwrap();
    let name = "administered".to_owned();
    create(broker, NewTopic::new(&name, 2, -1).with("cleanup.policy", "compact")).await;
    let again = admin.create_topics(&[NewTopic::new(&name, 2, 1)]).await.unwrap();
    assert_eq!(again[0].1.as_ref().unwrap_err().code, ErrorCode::TopicAlreadyExists);
    let wrong = admin.create_topics(&[NewTopic::new("replicated", 1, 3)]).await.unwrap();
    assert_eq!(
        wrong[0].1.as_ref().unwrap_err().code,
        ErrorCode::InvalidReplicationFactor
    );

    let described = admin.topic(&name).await.unwrap().unwrap();
    assert_eq!(
        described
            .partitions
            .iter()
            .map(|p| (p.partition, p.leader))
            .collect::<Vec<_>>(),
        [(0, Some(1)), (1, Some(1))]
    );
    assert_eq!(admin.topic("no-such-topic").await.unwrap(), None);
    assert_eq!(
        admin.topic("no-such-topic").await.unwrap(),
        None,
        "asking does not create it"
    );
    assert!(admin.topics().await.unwrap().contains(&name));

    let config = admin.describe_topic_config(&name).await.unwrap();
    assert_eq!(config["cleanup.policy"], "compact");
    topics::set_options(&admin, &name, &[("retention.ms", "1000")])
        .await
        .unwrap();
    let config = admin.describe_topic_config(&name).await.unwrap();
    assert_eq!(config["cleanup.policy"], "compact", "what is not named stays");
    let back = [("cleanup.policy".to_owned(), ConfigChange::Default)];
    admin.alter_topic_config(&name, &back).await.unwrap();
    eventually("the default", async || {
        let policy = &admin.describe_topic_config(&name).await?["cleanup.policy"];
        Ok((policy == "delete").then_some(()))
    })
    .await
    .unwrap();
    let missing = admin.describe_topic_config("no-such-topic").await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::UnknownTopicOrPartition);

    topics::grow(&admin, &name, 3).await.unwrap();
    assert_eq!(
        admin.create_partitions(&name, 2).await.unwrap_err().code,
        ErrorCode::InvalidPartitions
    );

    fill(broker, &name, 50);
    let partitions: Vec<_> = (0..3).map(|p| TopicPartition::new(name.as_str(), p)).collect();
    let ends = admin
        .end_offsets(&partitions, IsolationLevel::ReadUncommitted)
        .await
        .unwrap();
    assert_eq!(ends.iter().map(|(_, end)| end).sum::<i64>(), 50);
    let deleted = admin.delete_records(&[(partitions[0].clone(), 2)]).await.unwrap();
    assert_eq!(deleted, [(partitions[0].clone(), 2)]);
    assert_eq!(admin.beginning_offsets(&partitions[..1]).await.unwrap(), deleted);

    let gone = admin
        .delete_topics(&[name.clone(), "no-such-topic".to_owned()])
        .await
        .unwrap();
    let results: HashMap<_, _> = gone.into_iter().collect();
    assert!(results[&name].is_ok());
    assert_eq!(
        results["no-such-topic"].as_ref().unwrap_err().code,
        ErrorCode::UnknownTopicOrPartition
    );
    assert!(!admin.cluster_id().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_of_groups() {
    let broker = broker().await;
    let topic = topic(broker, "grouped", 2).await;
    fill(broker, &topic, 10);
    let admin = Admin::new(&broker.config()).unwrap();
    let group = format!("group-of-{topic}");
    let partitions = [
        TopicPartition::new(topic.as_str(), 0),
        TopicPartition::new(topic.as_str(), 1),
    ];
    assert_eq!(admin.group_offsets(&group).await.unwrap(), []);
    let offsets = partitions.clone().map(|partition| (partition, 1));
    admin.alter_group_offsets(&group, &offsets).await.unwrap();
    let sorted = async || {
        let mut offsets = admin.group_offsets(&group).await.unwrap();
        offsets.sort();
        offsets
    };
    assert_eq!(sorted().await, offsets);
    assert!(admin.list_groups().await.unwrap().contains(&group));
    admin.delete_group_offsets(&group, &partitions[..1]).await.unwrap();
    assert_eq!(sorted().await, offsets[1..]);

    let mut config = broker.config();
    config.set("group.id", &group);
    let consumer = Consumer::new(&config).unwrap();
    let member = Arc::new(Member::default());
    consumer
        .subscribe(&[topic], Box::new(Listener(Arc::clone(&member))))
        .unwrap();
    fetch_until(&consumer, |_| !member.owned.lock().unwrap().is_empty());
    assert!(!consumer.member_id().is_empty());
    let described = admin.describe_group(&group).await.unwrap();
    assert_eq!((described.state.as_str(), described.members), ("Stable", 1));
    assert!(
        admin.alter_group_offsets(&group, &offsets).await.is_err(),
        "the group has a member"
    );
    assert_eq!(
        admin.delete_group(&group).await.unwrap_err().code,
        ErrorCode::NonEmptyGroup
    );
    drop(consumer);
    assert_eq!(admin.describe_group(&group).await.unwrap().members, 0);
    admin.delete_group(&group).await.unwrap();
    assert_eq!(
        admin.delete_group(&group).await.unwrap_err().code,
        ErrorCode::GroupIdNotFound
    );
}

type Table = Arc<Mutex<HashMap<String, Option<String>>>>;

fn table() -> (Table, Box<dyn FnMut(kafka_client::LogRecord) + Send>) {
    let table = Table::default();
    let filled = Arc::clone(&table);
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let on_record = move |record: kafka_client::LogRecord| {
        filled
            .lock()
            .unwrap()
            .insert(text(record.key.unwrap()), record.value.map(text));
    };
    (table, Box::new(on_record))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_to_its_end_and_followed() {
    let broker = broker().await;
    let name = topic(broker, "log", 3).await;
    let (first_table, on_record) = table();
    let first = TopicLog::start(&broker.config(), &name, on_record).await.unwrap();
    assert_eq!(first.partitions().len(), 3);
    for i in 0..20 {
        let key = format!("k{}", i % 10);
        let (partition, _) = first
            .send(Some(key.as_bytes()), Some(i.to_string().as_bytes()))
            .await
            .unwrap();
        assert_eq!(partition, partition_for_key(key.as_bytes(), 3));
    }
    first.send(Some(b"k0"), None).await.unwrap();
    first.read_to_end().await.unwrap();
    assert_eq!(first_table.lock().unwrap().len(), 10);
    assert_eq!(first_table.lock().unwrap()["k0"], None);
    assert_eq!(first_table.lock().unwrap()["k9"].as_deref(), Some("19"));

    // A second one starts with everything, and each sees what the other writes.
    let (second_table, on_record) = table();
    let second = TopicLog::start(&broker.config(), &name, on_record).await.unwrap();
    assert_eq!(*second_table.lock().unwrap(), *first_table.lock().unwrap());
    second
        .send_with_headers(Some(b"new"), Some(b"1"), &[("h", Some(b"x"))])
        .await
        .unwrap();
    first.read_to_end().await.unwrap();
    assert_eq!(first_table.lock().unwrap()["new"].as_deref(), Some("1"));

    first.stop().await;
    second.send(Some(b"later"), Some(b"1")).await.unwrap();
    second.read_to_end().await.unwrap();
    assert!(!first_table.lock().unwrap().contains_key("later"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_share_clients_and_end_after_aborted_transactions() {
    let broker = broker().await;
    let names = [topic(broker, "log", 1).await, topic(broker, "log", 2).await];
    // The topic ends with a transaction that was aborted: no record has the last offset.
    let mut config = broker.config();
    config.set("transactional.id", &format!("tx-{}", names[0]));
    let (producer, _) = producer(&config);
    producer.init_transactions(PATIENCE).unwrap();
    for (value, commit) in [("kept", true), ("dropped", false)] {
        producer.begin_transaction().unwrap();
        producer.send(&record(&names[0], "k", value), 0).unwrap();
        producer.flush(PATIENCE).unwrap();
        if commit {
            producer.commit_transaction(PATIENCE)
        } else {
            producer.abort_transaction(PATIENCE)
        }
        .unwrap();
    }
    let mut config = broker.config();
    config.set("isolation.level", "read_committed");
    let clients = LogClients::new(&config, &config).unwrap();
    let (one_table, on_record) = table();
    let one = TopicLog::start_on(&clients, &names[0], on_record).await.unwrap();
    assert_eq!(one_table.lock().unwrap()["k"].as_deref(), Some("kept"));
    assert_eq!(one.positions(), [(TopicPartition::new(names[0].as_str(), 0), 4)]);

    let (other_table, on_record) = table();
    let other = TopicLog::start_on(&clients, &names[1], on_record).await.unwrap();
    other.send(Some(b"k"), Some(b"other")).await.unwrap();
    other.read_to_end().await.unwrap();
    assert_eq!(other_table.lock().unwrap()["k"].as_deref(), Some("other"));
    assert_eq!(one_table.lock().unwrap()["k"].as_deref(), Some("kept"));
    let twice = TopicLog::start_on(&clients, &names[1], Box::new(|_| {}))
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(twice.code, ErrorCode::Conflict);

    // A stopped log can be started again, from its beginning.
    one.stop().await;
    let (again_table, on_record) = table();
    let _again = TopicLog::start_on(&clients, &names[0], on_record).await.unwrap();
    assert_eq!(again_table.lock().unwrap()["k"].as_deref(), Some("kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_receiver_fails_its_log_only() {
    let broker = broker().await;
    let names = [topic(broker, "log", 1).await, topic(broker, "log", 1).await];
    let clients = LogClients::new(&broker.config(), &broker.config()).unwrap();
    let (good_table, on_record) = table();
    let good = TopicLog::start_on(&clients, &names[0], on_record).await.unwrap();
    let bad = TopicLog::start_on(&clients, &names[1], Box::new(|_| panic!("a test's receiver")))
        .await
        .unwrap();
    bad.send(Some(b"k"), Some(b"v")).await.unwrap();
    assert_eq!(bad.read_to_end().await.unwrap_err().code, ErrorCode::Application);
    good.send(Some(b"k"), Some(b"v")).await.unwrap();
    good.read_to_end().await.unwrap();
    assert_eq!(good_table.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_survive_a_broker_that_is_killed() {
    let broker = KafkaBroker::start().await.unwrap();
    create(&broker, NewTopic::new("surviving", 1, 1)).await;
    let (log_table, on_record) = table();
    let log = TopicLog::start(&broker.config(), "surviving", on_record).await.unwrap();
    log.send(Some(b"before"), Some(b"1")).await.unwrap();
    let (producer, recorded) = producer(&broker.config());
    producer.send(&record("surviving", "producer", "1"), 1).unwrap();
    producer.flush(PATIENCE).unwrap();

    broker.kill().await.unwrap();
    producer.send(&record("surviving", "producer", "2"), 2).unwrap();
    broker.restart().await.unwrap();
    producer.flush(PATIENCE).unwrap();
    assert_eq!(recorded.only(2).unwrap().0, 0);
    log.send(Some(b"after"), Some(b"2")).await.unwrap();
    log.read_to_end().await.unwrap();
    let table = log_table.lock().unwrap().clone();
    assert_eq!(table["before"].as_deref(), Some("1"));
    assert_eq!(
        (table["after"].as_deref(), table["producer"].as_deref()),
        (Some("2"), Some("2"))
    );
    let dump = broker.dump("surviving", IsolationLevel::ReadUncommitted).await.unwrap();
    assert_eq!(dump.len(), 4);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_requests_are_answered() {
    let broker = broker().await;
    let topic = topic(broker, "raw", 2).await;
    let connection = RawConnection::connect(&broker.bootstrap()).await.unwrap();
    let request = FindCoordinatorRequest::default()
        .with_key_type(0)
        .with_coordinator_keys(vec![StrBytes::from_static_str("some-group")]);
    let version = connection.version::<FindCoordinatorRequest>(5).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = connection.call(&request, version).await.unwrap();
        if found.coordinators[0].error_code == 0 {
            assert_eq!(format!("127.0.0.1:{}", found.coordinators[0].port), broker.bootstrap());
            break;
        }
        assert!(Instant::now() < deadline, "the group has no coordinator");
    }
    let version = connection.version::<MetadataRequest>(9).unwrap();
    assert_eq!(version, 9);
    let metadata = connection
        .call(&MetadataRequest::default().with_topics(None), version)
        .await
        .unwrap();
    let found = metadata
        .topics
        .iter()
        .find(|t| t.name.as_ref().is_some_and(|name| name.as_str() == topic))
        .unwrap();
    assert_eq!(found.partitions.len(), 2);

    let mut config = broker.config();
    config.set("security.protocol", "SSL");
    let refused = RawConnection::connect_with(&broker.bootstrap(), &config)
        .await
        .map(drop)
        .unwrap_err();
    assert!(refused.to_string().contains("security.protocol"), "{refused}");
    let unreachable = RawConnection::connect("127.0.0.1:1").await.map(drop).unwrap_err();
    assert!(unreachable.is_retriable());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_used_and_wrong_ones_are_told() {
    const BROKER_JAAS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required \
        username=\"admin\" password=\"admin-secret\" user_admin=\"admin-secret\" user_alice=\"alice-secret\";";
    let broker = KafkaBroker::start_with(&[
        (
            "listeners",
            "SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        ),
        (
            "listener.security.protocol.map",
            "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        ),
        ("inter.broker.listener.name", "SASL_PLAINTEXT"),
        ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("listener.name.sasl_plaintext.plain.sasl.jaas.config", BROKER_JAAS),
    ])
    .await
    .unwrap();
    let config = |password: &str| {
        let mut config = broker.config();
        config
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "PLAIN");
        config.set(
            "sasl.jaas.config",
            &format!(
                "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" password=\"{password}\";"
            ),
        );
        config
    };
    let admin = Admin::new(&config("alice-secret")).unwrap();
    admin.create_topics(&[NewTopic::new("secured", 1, 1)]).await.unwrap()[0]
        .1
        .clone()
        .unwrap();

    let consumer = Consumer::new(&config("wrong")).unwrap();
    consumer
        .assign(&[(TopicPartition::new("secured", 0), StartOffset::Beginning)])
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        let fetched = consumer.fetch(10, Duration::from_millis(200)).unwrap();
        if let Some(error) = fetched.errors.into_iter().next() {
            break error;
        }
        assert!(Instant::now() < deadline, "the wrong password was not told");
    };
    assert!(error.is_authorization() && !error.is_retriable(), "{error:?}");
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_zero_report_failures_only() {
    struct Count(AtomicU64);
    impl Deliveries for Count {
        fn delivered(&self, token: u64, _result: Result<(i32, i64), KafkaError>) {
            assert_eq!(token, 0);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let broker = broker().await;
    let topic = topic(broker, "silent", 1).await;
    let count = Arc::new(Count(AtomicU64::new(0)));
    let producer = Producer::new(&broker.config(), Arc::clone(&count) as Arc<dyn Deliveries>).unwrap();
    producer.send(&record(&topic, "k", "v"), 0).unwrap();
    producer.flush(PATIENCE).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    drop(producer);
    let producer = Producer::new(
        &ClientConfig::new("127.0.0.1:1"),
        Arc::clone(&count) as Arc<dyn Deliveries>,
    )
    .unwrap();
    producer.send(&record(&topic, "k", "v"), 0).unwrap();
    drop(producer);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
}
