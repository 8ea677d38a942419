//! The record writer's laws, on Apache Kafka and on the development broker: what was committed is there once, in order, at the
//! offsets it said; what was aborted, fenced or refused is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use dev_broker::{ApiKey, DevBroker, DevBrokerConfig, Fault, FaultAction, FaultTarget, ResponseError};
use kafka_client::{
    Admin, ClientConfig, Consumer, ErrorCode, KafkaError, NewTopic, ProducerRecord, RecordWriter, Remedy, StartOffset,
    TopicPartition, partition_for_key,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tests::broker_laws::unique;
use tests::kafka::KafkaBroker;
use tests::topics;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn laws_hold_on_apache_kafka() {
    let broker = KafkaBroker::shared().await.unwrap();
    laws(&broker.bootstrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn laws_hold_on_the_development_broker() {
    let broker = DevBroker::start(DevBrokerConfig::default()).unwrap();
    laws(&broker.bootstrap()).await;
    broker.stop().await;
}

async fn laws(bootstrap: &str) {
    committed_records_lie_where_the_writer_said(bootstrap).await;
    more_than_one_batch_keeps_its_order(bootstrap).await;
    aborted_records_are_not_there(bootstrap).await;
    a_newer_writer_fences_an_older_one(bootstrap).await;
    a_record_that_cannot_be_written_names_its_topic(bootstrap).await;
    a_refused_topic_does_not_keep_others_from_being_written(bootstrap).await;
    a_batch_is_as_large_as_its_topic_takes(bootstrap).await;
    a_topic_that_is_not_there_is_made_only_where_that_is_allowed(bootstrap).await;
    a_transaction_goes_on_without_what_a_topic_refuses(bootstrap).await;
    a_topic_in_which_no_transaction_can_end_is_in_none(bootstrap).await;
    a_topic_may_grow(bootstrap).await;
}

async fn topic(bootstrap: &str, partitions: i32, config: &[(&str, &str)]) -> String {
    let name = unique("written");
    let admin = Admin::new(&ClientConfig::new(bootstrap)).unwrap();
    let new = config
        .iter()
        .fold(NewTopic::new(&name, partitions, 1), |topic, (option, value)| {
            topic.with(option, value)
        });
    for (_, result) in admin.create_topics(&[new]).await.unwrap() {
        result.unwrap();
    }
    name
}

/// Blocking calls, off the async threads.
fn blocking<T>(call: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(call)
}

/// Goes on for a while.
fn patient() -> impl FnMut(&KafkaError) -> bool {
    let deadline = Instant::now() + PATIENCE;
    move |_| Instant::now() < deadline
}

fn record<'a>(topic: &'a str, key: &'a str, value: &'a str) -> ProducerRecord<'a> {
    ProducerRecord {
        topic,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        ..ProducerRecord::default()
    }
}

/// A committed record: partition, offset, value, headers.
type Found = (i32, i64, String, Vec<(String, String)>);

/// Everything committed, by partition and offset.
async fn read(bootstrap: &str, topic: &str) -> Vec<Found> {
    let admin = Admin::new(&ClientConfig::new(bootstrap)).unwrap();
    let partitions = admin.topic(topic).await.unwrap().unwrap().partitions.len() as i32;
    blocking(|| {
        let mut config = ClientConfig::new(bootstrap);
        config.set("isolation.level", "read_committed");
        let consumer = Consumer::new(&config).unwrap();
        let all: Vec<_> = (0..partitions)
            .map(|number| (TopicPartition::new(topic, number), StartOffset::Beginning))
            .collect();
        consumer.assign(&all).unwrap();
        let (mut found, mut ended) = (Vec::new(), BTreeSet::new());
        let deadline = Instant::now() + PATIENCE;
        while ended.len() < all.len() {
            assert!(Instant::now() < deadline, "{topic} has no end: {found:?}");
            let fetched = consumer.fetch(1000, Duration::from_millis(100)).unwrap();
            for message in &fetched.messages {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = message
                    .headers()
                    .map(|(name, value)| (name.to_owned(), text(value.unwrap_or_default())));
                found.push((
                    message.partition(),
                    message.offset(),
                    text(message.value().unwrap_or_default()),
                    headers.collect(),
                ));
            }
            ended.extend(fetched.end_of_partition.iter().map(|partition| partition.partition));
        }
        found.sort();
        found
    })
}

fn writer(bootstrap: &str, id: Option<&str>) -> RecordWriter {
    let config = ClientConfig::new(bootstrap);
    blocking(|| match id {
        Some(id) => RecordWriter::transactional(&config, id, PATIENCE).unwrap(),
        None => RecordWriter::idempotent(&config, PATIENCE).unwrap(),
    })
}

async fn committed_records_lie_where_the_writer_said(bootstrap: &str) {
    let topic = topic(bootstrap, 3, &[]).await;
    let mut writer = writer(bootstrap, Some(&unique("id")));
    for round in 0..3 {
        let mut places = Vec::new();
        for number in 0..50 {
            let (key, value) = (format!("key-{number}"), format!("{round}-{number:02}"));
            let header = [("source", Some(value.as_bytes()))];
            let record = ProducerRecord {
                headers: &header,
                ..record(&topic, &key, &value)
            };
            places.push((key.clone(), value.clone(), writer.append(&record).unwrap()));
        }
        let written = blocking(|| writer.commit(&mut patient())).unwrap();
        assert!(written.refused.is_empty());
        let found = read(bootstrap, &topic).await;
        assert_eq!(found.len(), 50 * (round + 1));
        for (key, value, place) in places {
            let (partition, offset, _, headers) = found.iter().find(|(_, _, text, _)| *text == value).unwrap();
            assert_eq!(*partition, partition_for_key(key.as_bytes(), 3));
            assert_eq!(*offset, written.offset(place), "{value}");
            assert_eq!(*headers, [("source".to_owned(), value)]);
        }
    }
}

async fn more_than_one_batch_keeps_its_order(bootstrap: &str) {
    let topic = topic(bootstrap, 1, &[]).await;
    let mut writer = writer(bootstrap, None);
    let filling = "x".repeat(100_000);
    let mut places = Vec::new();
    for number in 0..35 {
        let value = format!("{number:02}-{filling}");
        places.push(writer.append(&record(&topic, "k", &value)).unwrap());
    }
    let written = blocking(|| writer.write(&mut patient())).unwrap();
    let found = read(bootstrap, &topic).await;
    let offsets: Vec<i64> = places.iter().map(|place| written.offset(*place)).collect();
    assert_eq!(offsets, (0..35).collect::<Vec<i64>>());
    let numbers: Vec<String> = found.iter().map(|(_, _, value, _)| value[..2].to_owned()).collect();
    assert_eq!(
        numbers,
        (0..35).map(|number| format!("{number:02}")).collect::<Vec<_>>()
    );
}

async fn aborted_records_are_not_there(bootstrap: &str) {
    let topic = topic(bootstrap, 2, &[]).await;
    let mut writer = writer(bootstrap, Some(&unique("id")));
    for round in 0..3 {
        writer.append(&record(&topic, "a", "sent and aborted")).unwrap();
        blocking(|| writer.write(&mut patient())).unwrap();
        writer
            .append(&record(&topic, "b", "aborted before it was sent"))
            .unwrap();
        blocking(|| writer.abort(&mut patient())).unwrap();
        let kept = format!("kept {round}");
        writer.append(&record(&topic, "a", &kept)).unwrap();
        blocking(|| writer.commit(&mut patient())).unwrap();
    }
    let values: Vec<String> = read(bootstrap, &topic)
        .await
        .into_iter()
        .map(|(_, _, value, _)| value)
        .collect();
    assert_eq!(values, ["kept 0", "kept 1", "kept 2"]);
}

async fn a_newer_writer_fences_an_older_one(bootstrap: &str) {
    let topic = topic(bootstrap, 1, &[]).await;
    let id = unique("id");
    let mut older = writer(bootstrap, Some(&id));
    older.append(&record(&topic, "k", "of the older, open")).unwrap();
    blocking(|| older.write(&mut patient())).unwrap();
    let mut newer = writer(bootstrap, Some(&id));
    older.append(&record(&topic, "k", "of the older, late")).unwrap();
    assert!(blocking(|| older.commit(&mut patient())).is_err());
    let fenced = blocking(|| older.abort(&mut patient())).unwrap_err();
    assert!(fenced.is_fenced(), "{fenced}");
    newer.append(&record(&topic, "k", "of the newer")).unwrap();
    blocking(|| newer.commit(&mut patient())).unwrap();
    let values: Vec<String> = read(bootstrap, &topic)
        .await
        .into_iter()
        .map(|(_, _, value, _)| value)
        .collect();
    assert_eq!(values, ["of the newer"]);
}

async fn a_record_that_cannot_be_written_names_its_topic(bootstrap: &str) {
    let topic = topic(bootstrap, 1, &[]).await;
    let mut writer = writer(bootstrap, Some(&unique("id")));
    let large = "x".repeat(2_000_000);
    let error = writer.append(&record(&topic, "k", &large)).unwrap_err();
    assert_eq!(error.error.code, ErrorCode::MessageSizeTooLarge);
    assert!(error.to_string().contains("max.request.size"), "{error}");
    assert_eq!(error.topic.as_deref(), Some(&*topic));
    let elsewhere = ProducerRecord {
        partition: Some(7),
        ..record(&topic, "k", "v")
    };
    let error = writer.append(&elsewhere).unwrap_err();
    assert_eq!(error.error.code, ErrorCode::UnknownPartition);
    writer.append(&record(&topic, "k", "kept")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    assert_eq!(read(bootstrap, &topic).await.len(), 1);
}

async fn a_refused_topic_does_not_keep_others_from_being_written(bootstrap: &str) {
    let small = topic(bootstrap, 1, &[("max.message.bytes", "1000")]).await;
    let usual = topic(bootstrap, 1, &[]).await;
    let mut writer = writer(bootstrap, None);
    let value = "x".repeat(5000);
    for _ in 0..2 {
        writer.append(&record(&small, "k", &value)).unwrap();
        let kept = writer.append(&record(&usual, "k", &value)).unwrap();
        let written = blocking(|| writer.write(&mut patient())).unwrap();
        let refused: Vec<_> = written
            .refused
            .iter()
            .map(|error| (error.topic.as_deref(), error.error.code))
            .collect();
        assert_eq!(refused, [(Some(&*small), ErrorCode::MessageSizeTooLarge)]);
        assert!(written.offset(kept) >= 0);
    }
    assert_eq!(read(bootstrap, &usual).await.len(), 2);
    assert_eq!(read(bootstrap, &small).await.len(), 0);
}

/// Each record fits, all of them together do not: by the topic's limit as it is when the writer first meets it, and by one that
/// becomes smaller while it writes.
async fn a_batch_is_as_large_as_its_topic_takes(bootstrap: &str) {
    let narrow = topic(bootstrap, 1, &[("max.message.bytes", "2000")]).await;
    let narrowed = topic(bootstrap, 1, &[]).await;
    let mut writer = writer(bootstrap, Some(&unique("id")));
    writer.append(&record(&narrowed, "k", "0000-before")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    let admin = Admin::new(&ClientConfig::new(bootstrap)).unwrap();
    let limit = [("max.message.bytes", "2000")];
    topics::set_options(&admin, &narrowed, &limit).await.unwrap();
    let filling = "x".repeat(150);
    let mut places = Vec::new();
    for number in 1..400 {
        let value = format!("{number:04}-{filling}");
        places.push((number, writer.append(&record(&narrow, "k", &value)).unwrap()));
        places.push((number, writer.append(&record(&narrowed, "k", &value)).unwrap()));
    }
    let written = blocking(|| writer.commit(&mut patient())).unwrap();
    assert!(written.refused.is_empty(), "{:?}", written.refused);
    for (topic, first, slot) in [(&narrow, 1, 0), (&narrowed, 0, 1)] {
        let found = read(bootstrap, topic).await;
        let numbers: Vec<String> = found.iter().map(|(_, _, value, _)| value[..4].to_owned()).collect();
        let expected: Vec<String> = (first..400).map(|number| format!("{number:04}")).collect();
        assert_eq!(numbers, expected, "{topic}");
        for (number, place) in places.iter().skip(slot).step_by(2) {
            let (_, offset, value, _) = &found[usize::try_from(number - first).unwrap()];
            assert_eq!(value[..4], format!("{number:04}"));
            assert_eq!(*offset, written.offset(*place), "{topic}: {number}");
        }
    }
    let error = writer.append(&record(&narrowed, "k", &"x".repeat(3000))).map(drop);
    let refused = error.and_then(|()| blocking(|| writer.commit(&mut patient())).map(drop));
    let refused = refused.unwrap_err();
    assert_eq!(refused.error.code, ErrorCode::MessageSizeTooLarge, "{refused}");
    assert_eq!(refused.topic.as_deref(), Some(&*narrowed));
    blocking(|| writer.abort(&mut patient())).unwrap();
}

async fn a_topic_that_is_not_there_is_made_only_where_that_is_allowed(bootstrap: &str) {
    let admin = Admin::new(&ClientConfig::new(bootstrap)).unwrap();
    let (never, made) = (unique("never"), unique("made"));
    let mut config = ClientConfig::new(bootstrap);
    config.set("allow.auto.create.topics", "false");
    let mut strict = blocking(|| RecordWriter::idempotent(&config, PATIENCE)).unwrap();
    let error = blocking(|| strict.append(&record(&never, "k", "v"))).unwrap_err();
    assert_eq!(error.error.remedy(), Remedy::Missing, "{error}");
    assert_eq!(error.topic.as_deref(), Some(&*never));
    assert_eq!(admin.topic(&never).await.unwrap(), None);
    let mut usual = writer(bootstrap, None);
    blocking(|| usual.append(&record(&made, "k", "v"))).unwrap();
    blocking(|| usual.write(&mut patient())).unwrap();
    assert_eq!(read(bootstrap, &made).await.len(), 1);
}

/// A coordinator that has not heard of a new topic yet is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_may_learn_of_a_topic_later_than_the_writer() {
    let broker = DevBroker::start(DevBrokerConfig::default()).unwrap();
    let bootstrap = broker.bootstrap();
    let topic = topic(&bootstrap, 1, &[]).await;
    let mut writer = writer(&bootstrap, Some(&unique("id")));
    for nth in 1..=3 {
        broker.inject(Fault {
            api_key: ApiKey::AddPartitionsToTxn,
            target: FaultTarget::Nth(nth),
            action: FaultAction::Error(ResponseError::UnknownTopicOrPartition),
        });
    }
    writer.append(&record(&topic, "k", "v")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    assert_eq!(read(&bootstrap, &topic).await.len(), 1);
    // One that is gone is its own fault, by name.
    let admin = Admin::new(&ClientConfig::new(&bootstrap)).unwrap();
    writer.append(&record(&topic, "k", "v")).unwrap();
    admin.delete_topics(std::slice::from_ref(&topic)).await.unwrap();
    let mut config = ClientConfig::new(&bootstrap);
    config.set("allow.auto.create.topics", "false");
    let id = unique("id");
    let mut strict = blocking(|| RecordWriter::transactional(&config, &id, PATIENCE)).unwrap();
    let error = blocking(|| strict.append(&record(&topic, "k", "v"))).unwrap_err();
    assert_eq!(
        (error.error.remedy(), error.topic.as_deref()),
        (Remedy::Missing, Some(&*topic))
    );
    broker.stop().await;
}

/// The coordinator commits and then says that something went wrong. Nothing that follows may take that for an abort: the
/// records would be written again.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_outcome_is_not_known_is_not_taken_for_an_abort() {
    let broker = DevBroker::start(DevBrokerConfig::default()).unwrap();
    let bootstrap = broker.bootstrap();
    let topic = topic(&bootstrap, 1, &[]).await;
    let id = unique("id");
    let mut writer = writer(&bootstrap, Some(&id));
    writer.append(&record(&topic, "k", "committed")).unwrap();
    broker.inject(Fault {
        api_key: ApiKey::EndTxn,
        target: FaultTarget::Nth(1),
        action: FaultAction::HandleThenError(ResponseError::UnknownServerError),
    });
    blocking(|| writer.commit(&mut patient())).unwrap_err();
    let outcome = blocking(|| writer.abort(&mut patient())).unwrap_err();
    assert!(outcome.is_fatal() && !outcome.is_fenced(), "{outcome}");
    assert_eq!(outcome.remedy(), Remedy::Renew);
    assert_eq!(read(&bootstrap, &topic).await.len(), 1);
    // Of one that nothing was committed of, the abort is one.
    writer.append(&record(&topic, "k", "aborted")).unwrap();
    broker.inject(Fault {
        api_key: ApiKey::EndTxn,
        target: FaultTarget::Nth(1),
        action: FaultAction::Error(ResponseError::UnknownServerError),
    });
    blocking(|| writer.commit(&mut patient())).unwrap_err();
    blocking(|| writer.abort(&mut patient())).unwrap();
    assert_eq!(read(&bootstrap, &topic).await.len(), 1);
    broker.stop().await;
}

async fn a_transaction_goes_on_without_what_a_topic_refuses(bootstrap: &str) {
    let small = topic(bootstrap, 2, &[("max.message.bytes", "1000")]).await;
    let usual = topic(bootstrap, 1, &[]).await;
    let mut writer = writer(bootstrap, Some(&unique("id")));
    let large = "x".repeat(5000);
    let at = |partition: i32, value| ProducerRecord {
        partition: Some(partition),
        ..record(&small, "k", value)
    };
    for round in 0..2 {
        let refused = writer.append(&at(0, &large)).unwrap();
        let taken = writer.append(&at(1, "small")).unwrap();
        let kept = writer.append(&record(&usual, "k", &large)).unwrap();
        let written = blocking(|| writer.write(&mut patient())).unwrap();
        let topics: Vec<_> = written.refused.iter().map(|error| error.topic.as_deref()).collect();
        assert_eq!(topics, [Some(&*small)]);
        assert_eq!(
            (written.has(refused), written.has(taken), written.has(kept)),
            (false, true, true)
        );
        assert_eq!(written.offset(refused), -1);
        // The transaction stands, and takes more.
        let more = writer.append(&record(&usual, "k", "more")).unwrap();
        let written = blocking(|| writer.commit(&mut patient())).unwrap();
        assert!(written.has(more) && written.refused.is_empty(), "round {round}");
    }
    // Who does not look is not given half a transaction.
    writer.append(&at(0, &large)).unwrap();
    writer.append(&record(&usual, "k", "with it")).unwrap();
    let error = blocking(|| writer.commit(&mut patient())).unwrap_err();
    assert_eq!(error.topic.as_deref(), Some(&*small));
    blocking(|| writer.abort(&mut patient())).unwrap();
    writer.append(&at(0, "small")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    assert_eq!(read(bootstrap, &usual).await.len(), 4);
    assert_eq!(read(bootstrap, &small).await.len(), 3);
}

/// A coordinator that cannot write the end of a transaction into one of its partitions never ends it, nor begins another.
async fn a_topic_in_which_no_transaction_can_end_is_in_none(bootstrap: &str) {
    let nothing = topic(bootstrap, 1, &[("max.message.bytes", "77")]).await;
    let usual = topic(bootstrap, 1, &[]).await;
    let mut writer = writer(bootstrap, Some(&unique("id")));
    for _ in 0..2 {
        let refused = writer.append(&record(&nothing, "k", "v")).unwrap_err();
        assert_eq!(refused.topic.as_deref(), Some(&*nothing));
        assert!(refused.is_of_topic() && !refused.is_of_records(), "{refused}");
        writer.append(&record(&usual, "k", "v")).unwrap();
        blocking(|| writer.commit(&mut patient())).unwrap();
    }
    let admin = Admin::new(&ClientConfig::new(bootstrap)).unwrap();
    let least = [("max.message.bytes", "78")];
    topics::set_options(&admin, &nothing, &least).await.unwrap();
    writer.append(&record(&nothing, "k", "v")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    writer.append(&record(&usual, "k", "v")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    assert_eq!(read(bootstrap, &usual).await.len(), 3);
    assert_eq!(read(bootstrap, &nothing).await.len(), 1);
}

async fn a_topic_may_grow(bootstrap: &str) {
    let topic = topic(bootstrap, 1, &[]).await;
    let mut config = ClientConfig::new(bootstrap);
    config.set("metadata.max.age.ms", "1");
    let mut writer = blocking(|| RecordWriter::idempotent(&config, PATIENCE)).unwrap();
    writer.append(&record(&topic, "k", "v")).unwrap();
    blocking(|| writer.write(&mut patient())).unwrap();
    Admin::new(&config).unwrap().create_partitions(&topic, 4).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        for number in 0..40 {
            let key = number.to_string();
            writer.append(&record(&topic, &key, "v")).unwrap();
        }
        blocking(|| writer.write(&mut patient())).unwrap();
        let partitions: BTreeSet<i32> = read(bootstrap, &topic)
            .await
            .into_iter()
            .map(|(number, ..)| number)
            .collect();
        if partitions.len() == 4 {
            return;
        }
        assert!(Instant::now() < deadline, "records lie in {partitions:?} only");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_is_written_to_again() {
    let broker = KafkaBroker::start().await.unwrap();
    let bootstrap = broker.bootstrap();
    let topic = topic(&bootstrap, 1, &[]).await;
    let mut writer = writer(&bootstrap, Some(&unique("id")));
    writer.append(&record(&topic, "k", "before")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    writer.append(&record(&topic, "k", "while it is away")).unwrap();
    broker.kill().await.unwrap();
    let committing = tokio::task::spawn_blocking(move || {
        let written = writer.commit(&mut patient());
        (writer, written)
    });
    broker.restart().await.unwrap();
    let (mut writer, written) = committing.await.unwrap();
    written.unwrap();
    writer.append(&record(&topic, "k", "after")).unwrap();
    blocking(|| writer.commit(&mut patient())).unwrap();
    let values: Vec<String> = read(&bootstrap, &topic)
        .await
        .into_iter()
        .map(|(_, _, value, _)| value)
        .collect();
    assert_eq!(values, ["before", "while it is away", "after"]);
}
