//! Many consumers in one process while their broker is killed and comes back: all go on, and the process lives.
//!
//! librdkafka took what a broker without a leader says of a partition for an index into its memory: it ended the process, or
//! noted an epoch that no broker ever reaches, after which a consumer stood still for good
//! (`kafka-client/src/librdkafka/leader_discovery.rs`). Without the function that stands in its place this fails at the second
//! or third restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kafka_client::{Admin, ClientConfig, Consumer, NewTopic, StartOffset, TopicPartition};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::inference::produce;
use tests::kafka::KafkaBroker;

const TOPICS: usize = 6;
const PARTITIONS: i32 = 4;
/// Records that each topic gets between two restarts.
const RECORDS: u64 = 200;
const CONSUMERS: u64 = 12;
const RESTARTS: u64 = 4;
/// What has not been read by then never will be.
const PATIENCE: Duration = Duration::from_secs(90);

fn topic(number: usize) -> String {
    format!("restarts-{number}")
}

/// Reads all partitions until it is told to stop, and counts.
fn follow(bootstrap: &str, stop: &AtomicBool, seen: &AtomicU64) {
    let mut config = ClientConfig::new(bootstrap);
    config.set("isolation.level", "read_committed");
    let consumer = Consumer::new(&config).unwrap();
    let all: Vec<_> = (0..TOPICS)
        .flat_map(|number| (0..PARTITIONS).map(move |partition| TopicPartition::new(topic(number), partition)))
        .map(|partition| (partition, StartOffset::Beginning))
        .collect();
    consumer.assign(&all).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let fetched = consumer.fetch(1_000, Duration::from_millis(50)).unwrap();
        seen.fetch_add(fetched.messages.len() as u64, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_go_on_after_every_restart_of_their_broker() {
    let broker = KafkaBroker::start().await.unwrap();
    let admin = Admin::new(&broker.config()).unwrap();
    let topics: Vec<NewTopic> = (0..TOPICS)
        .map(|number| NewTopic::new(topic(number), PARTITIONS, 1))
        .collect();
    admin.create_topics(&topics).await.unwrap();
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| {
            let (bootstrap, stop, seen) = (broker.bootstrap(), Arc::clone(&stop), Arc::clone(&seen));
            std::thread::spawn(move || follow(&bootstrap, &stop, &seen))
        })
        .collect();
    for restart in 0..=RESTARTS {
        if restart > 0 {
            broker.kill().await.unwrap();
            broker.restart().await.unwrap();
        }
        for number in 0..TOPICS {
            let records = (0..RECORDS).map(|record| (record.to_string(), "a record".to_owned()));
            produce(&broker.bootstrap(), &topic(number), records).unwrap();
        }
        let all = (restart + 1) * TOPICS as u64 * RECORDS * CONSUMERS;
        let begun = Instant::now();
        while seen.load(Ordering::Relaxed) < all {
            let read = seen.load(Ordering::Relaxed);
            assert!(
                begun.elapsed() < PATIENCE,
                "after restart {restart}: {read} of {all} were read"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for consumer in consumers {
        consumer.join().unwrap();
    }
}
