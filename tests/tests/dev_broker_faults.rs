//! Faults that the development broker injects: exactly the request that is named, exactly as it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use dev_broker::{ApiKey, DevBroker, DevBrokerConfig, Fault, FaultAction, FaultTarget, ResponseError};
use kafka_client::{
    Admin, ClientConfig, Consumer, Deliveries, IsolationLevel, KafkaError, NewTopic, Producer, ProducerRecord,
    TopicPartition, open_clients,
};
use kafka_protocol::records::RecordBatchDecoder;
use tests::broker_laws::records::Ignored;
use tests::broker_laws::wire::Wire;
use tests::process::free_port;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> Result<(DevBroker, Wire)> {
    let broker = DevBroker::start(DevBrokerConfig {
        listen: ([127, 0, 0, 1], free_port()?).into(),
        ..DevBrokerConfig::default()
    })?;
    let wire = Wire::connect(&broker.bootstrap()).await?;
    wire.create_topic("topic", 1, &[]).await?;
    Ok((broker, wire))
}

fn on_produce(nth: u32, action: FaultAction) -> Fault {
    Fault {
        api_key: ApiKey::Produce,
        target: FaultTarget::Nth(nth),
        action,
    }
}

async fn end(wire: &Wire) -> Result<i64> {
    Ok(wire.list_offset("topic", 0, -1, 0).await?.offset)
}

#[tokio::test]
async fn the_named_request_is_answered_with_the_error() -> Result<()> {
    let (broker, wire) = start().await?;
    let producer = wire.initialise(None, 1000).await?;
    broker.inject(on_produce(2, FaultAction::Error(ResponseError::RequestTimedOut)));
    let mut codes = Vec::new();
    for sequence in [0, 1, 1, 2] {
        let batch = producer.batch(sequence, &[(None, Some("v"))])?;
        codes.push(wire.produce("topic", 0, &batch, None).await?.error_code);
    }
    assert_eq!(codes, [0, ResponseError::RequestTimedOut.code(), 0, 0]);
    assert_eq!(end(&wire).await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_may_have_been_served_or_not() -> Result<()> {
    for (action, served) in [(FaultAction::Close, 0), (FaultAction::HandleThenClose, 1)] {
        let (broker, wire) = start().await?;
        let producer = wire.initialise(None, 1000).await?;
        broker.inject(on_produce(1, action));
        let batch = producer.batch(0, &[(None, Some("v"))])?;
        assert!(
            wire.produce("topic", 0, &batch, None).await.is_err(),
            "{action:?} has an answer"
        );
        let wire = Wire::connect(&broker.bootstrap()).await?;
        assert_eq!(end(&wire).await?, served, "{action:?}");
        // Sent again it is there once.
        assert_eq!(wire.produce("topic", 0, &batch, None).await?.base_offset, 0);
        assert_eq!(end(&wire).await?, 1, "{action:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_gets_over_every_fault() -> Result<()> {
    let (broker, wire) = start().await?;
    for (nth, action) in [
        (1, FaultAction::HandleThenClose),
        (3, FaultAction::Close),
        (5, FaultAction::Error(ResponseError::NotLeaderOrFollower)),
        (7, FaultAction::Delay(Duration::from_millis(20))),
        (8, FaultAction::HandleThenClose),
    ] {
        broker.inject(on_produce(nth, action));
    }
    tokio::task::block_in_place(|| -> Result<()> {
        let producer = Producer::new(&ClientConfig::new(&broker.bootstrap()), Arc::new(Ignored))?;
        for round in 0..20 {
            let value = format!("{round}");
            let record = ProducerRecord {
                topic: "topic",
                value: Some(value.as_bytes()),
                ..ProducerRecord::default()
            };
            producer.send(&record, 0)?;
            producer.flush(Duration::from_secs(60))?;
        }
        Ok(())
    })?;
    assert_eq!(end(&wire).await?, 20);
    Ok(())
}

/// What was said of each record, by its token.
#[derive(Default)]
struct Told(Mutex<BTreeMap<u64, i64>>);

impl Deliveries for Told {
    fn delivered(&self, token: u64, result: Result<(i32, i64), KafkaError>) {
        let (_, offset) = result.unwrap();
        assert!(
            self.0.lock().unwrap().insert(token, offset).is_none(),
            "told twice of {token}"
        );
    }
}

/// A producer whose requests are never answered, while brokers answer everybody else, is made anew: everything that it had is
/// sent by another client, in its order, with keys, headers and times, and each record's outcome is told once. What the broker
/// answers nobody stands for a client that a restart has left stuck, which asks nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_producer_is_made_anew_and_sends_all_that_it_had() -> Result<()> {
    let (broker, wire) = start().await?;
    let mut config = ClientConfig::new(&broker.bootstrap());
    config
        .set("client.id", "stuck")
        .set("request.timeout.ms", "1000")
        .set("delivery.timeout.ms", "2147483647");
    let clients = || {
        let mut names = open_clients();
        names.retain(|name| name.starts_with("stuck#"));
        names
    };
    let told = Arc::new(Told::default());
    let producer = Producer::new(&config, Arc::clone(&told) as Arc<dyn Deliveries>)?;
    let first = clients();
    broker.inject(Fault {
        api_key: ApiKey::Produce,
        target: FaultTarget::All,
        action: FaultAction::Drop,
    });
    for number in 1..=50u64 {
        let value = format!("{number:02}");
        producer.send(
            &ProducerRecord {
                topic: "topic",
                partition: (number % 2 == 0).then_some(0),
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                timestamp_ms: Some(1_000 + i64::try_from(number)?),
                headers: &[("header", Some(value.as_bytes())), ("none", None)],
            },
            number,
        )?;
    }
    let deadline = Instant::now() + PATIENCE;
    while clients().iter().any(|name| first.contains(name)) {
        assert!(Instant::now() < deadline, "{first:?} is still at it: {:?}", clients());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    broker.clear_faults();
    tokio::task::block_in_place(|| producer.flush(PATIENCE))?;
    assert_eq!(producer.in_flight(), 0);
    let told: Vec<(u64, i64)> = std::mem::take(&mut *told.0.lock().unwrap()).into_iter().collect();
    assert_eq!(told, (1..=50).zip(0..).collect::<Vec<_>>());
    let mut records = wire.fetch("topic", 0, 0, 0, 100).await?.records.unwrap_or_default();
    let sets = RecordBatchDecoder::decode_all(&mut records)?;
    let found: Vec<_> = sets.into_iter().flat_map(|set| set.records).collect();
    assert_eq!(found.len(), 50);
    for (record, number) in found.iter().zip(1..) {
        let value = format!("{number:02}");
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
        assert_eq!(
            (record.key.as_deref(), record.timestamp),
            (Some(&b"key"[..]), 1_000 + number)
        );
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        assert_eq!(headers, [("header", Some(value.as_bytes())), ("none", None)]);
    }
    drop(producer);
    Ok(())
}

/// Brokers learn one after the other that a topic was made, or who leads it now; a client may know before the leader does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_asked_for_until_the_leader_knows_that_it_leads() -> Result<()> {
    let (broker, _wire) = start().await?;
    let admin = Admin::new(&ClientConfig::new(&broker.bootstrap()))?;
    for error in [
        ResponseError::UnknownLeaderEpoch,
        ResponseError::FencedLeaderEpoch,
        ResponseError::NotLeaderOrFollower,
        ResponseError::OffsetNotAvailable,
        ResponseError::UnknownTopicOrPartition,
    ] {
        // As many in a row as no single call asks again by itself.
        for nth in 1..=10 {
            broker.inject(Fault {
                api_key: ApiKey::ListOffsets,
                target: FaultTarget::Nth(nth),
                action: FaultAction::Error(error),
            });
        }
        let offsets = admin.beginning_offsets(&[TopicPartition::new("topic", 0)]).await;
        assert_eq!(offsets?, [(TopicPartition::new("topic", 0), 0)], "after {error:?}");
    }
    Ok(())
}

/// Requests for one broker (a partition's leader, the controller) wait while it is away, try to reach it now and then, and
/// end with an error: an offset that nobody gave is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_not_stormed_and_tells_no_offsets() -> Result<()> {
    let (broker, wire) = start().await?;
    let address = broker.address();
    let mut config = ClientConfig::new(&broker.bootstrap());
    config.set("default.api.timeout.ms", "3000");
    let admin = Admin::new(&config)?;
    config.administers();
    let consumer = Consumer::new(&config)?;
    let of_consumer = consumer.admin(&Arc::new(config)).with_timeout(Duration::from_secs(3));
    let partition = [TopicPartition::new("topic", 0)];
    let isolation = IsolationLevel::ReadCommitted;
    for admin in [&admin, &of_consumer] {
        let admin = admin.clone().with_timeout(PATIENCE);
        assert_eq!(admin.end_offsets(&partition, isolation).await?[0].1, 0);
    }
    drop(wire);
    tokio::task::block_in_place(|| broker.kill());
    // What takes its place ends every connection.
    let listener = tokio::net::TcpListener::bind(address).await?;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let accepting = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for admin in [&admin, &of_consumer] {
        let answers = [
            admin.beginning_offsets(&partition).await,
            admin.end_offsets(&partition, isolation).await,
        ];
        for answer in answers {
            assert!(answer.as_ref().is_err_and(KafkaError::is_timeout), "{answer:?}");
        }
        let answer = admin.create_topics(&[NewTopic::new("another", 1, 1)]).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    accepting.abort();
    // Six requests of 3 s each, and two clients: at most one attempt of each in 37 ms (`reconnect.backoff.ms` less a quarter).
    let connections = connections.load(Ordering::Relaxed);
    assert!((1..1_000).contains(&connections), "{connections} connections");
    Ok(())
}
