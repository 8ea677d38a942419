//! Laws about records: what goes in comes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use kafka_client::{
    Admin, ClientConfig, Consumer, Deliveries, KafkaError, Message, Messages, Producer, ProducerRecord, StartOffset,
    TopicPartition,
};
use kafka_protocol::records::{Compression, RecordBatchDecoder};

use super::wire::{ProducerState, Wire};
use super::{PATIENCE, eventually, unique};

/// Deliveries that nobody looks at: flush says whether all went well.
pub struct Ignored;

impl Deliveries for Ignored {
    fn delivered(&self, _token: u64, _result: Result<(i32, i64), KafkaError>) {}
}

/// Reads `count` messages of partition 0 from the beginning.
///
/// # Errors
/// When they do not come.
pub fn consume(bootstrap: &str, topic: &str, count: usize, isolation: &str) -> Result<Vec<Messages>> {
    let mut config = ClientConfig::new(bootstrap);
    config.set("isolation.level", isolation);
    let consumer = Consumer::new(&config)?;
    consumer.assign(&[(TopicPartition::new(topic, 0), StartOffset::Beginning)])?;
    let (mut batches, mut came) = (Vec::new(), 0);
    let start = Instant::now();
    while came < count {
        ensure!(start.elapsed() < PATIENCE, "{came} of {count} messages came");
        let fetched = consumer.fetch(count, Duration::from_millis(200))?;
        came += fetched.messages.len();
        batches.push(fetched.messages);
    }
    Ok(batches)
}

/// A header: name and value.
type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Records come back in order with key, value, headers (doubles too) and timestamp.
///
/// # Errors
/// When the law does not hold.
pub async fn order_headers_timestamps_and_nulls_are_kept(bootstrap: &str) -> Result<()> {
    let topic = unique("records");
    Wire::connect(bootstrap).await?.create_topic(&topic, 1, &[]).await?;
    let headers: [Header<'_>; 4] = [("a", Some(b"1")), ("b", None), ("a", Some(b"2")), ("", Some(b""))];
    tokio::task::block_in_place(|| {
        let producer = Producer::new(&ClientConfig::new(bootstrap), Arc::new(Ignored))?;
        for index in 0..1000_i64 {
            let text = index.to_string();
            let record = ProducerRecord {
                topic: &topic,
                partition: Some(0),
                key: (index % 3 != 0).then_some(text.as_bytes()),
                value: (index % 5 != 0).then_some(text.as_bytes()),
                timestamp_ms: Some(1_700_000_000_000 - index),
                headers: if index % 2 == 0 { &headers } else { &[] },
            };
            producer.send(&record, 0)?;
        }
        producer.flush(PATIENCE)?;
        let batches = consume(bootstrap, &topic, 1000, "read_uncommitted")?;
        for (message, index) in batches.iter().flatten().zip(0_i64..) {
            let text = index.to_string();
            ensure!(message.offset() == index, "offset {} at {index}", message.offset());
            ensure!(
                message.key() == (index % 3 != 0).then_some(text.as_bytes()),
                "key at {index}"
            );
            ensure!(
                message.value() == (index % 5 != 0).then_some(text.as_bytes()),
                "value at {index}"
            );
            ensure!(
                message.timestamp_ms() == Some(1_700_000_000_000 - index),
                "timestamp at {index}"
            );
            let found: Vec<Header<'_>> = message.headers().collect();
            let sent: &[Header<'_>] = if index % 2 == 0 { &headers } else { &[] };
            ensure!(found == sent, "headers at {index}: {found:?}");
        }
        Ok(())
    })
}

/// A batch comes back byte for byte, compressed or not, but for its offset and leader epoch.
///
/// # Errors
/// When the law does not hold.
pub async fn batches_stay_the_bytes_that_were_sent(bootstrap: &str) -> Result<()> {
    let topic = unique("bytes");
    let wire = Wire::connect(bootstrap).await?;
    wire.create_topic(&topic, 1, &[]).await?;
    let mut offset = 0;
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let sent = ProducerState::NONE.batch_with(-1, &[(Some("k"), Some("v")), (None, None)], compression)?;
        let answer = wire.produce(&topic, 0, &sent, None).await?;
        ensure!(
            answer.error_code == 0,
            "{compression:?} is refused: {}",
            answer.error_code
        );
        ensure!(
            answer.base_offset == offset,
            "{compression:?} at {}",
            answer.base_offset
        );
        let found = wire
            .fetch(&topic, 0, offset, 0, 1000)
            .await?
            .records
            .unwrap_or_default();
        ensure!(found.get(16..) == sent.get(16..), "{compression:?} was changed");
        offset += 2;
    }
    Ok(())
}

/// A fetch with nothing to answer waits, and ends with the first record or its time.
///
/// # Errors
/// When the law does not hold.
pub async fn a_long_poll_ends_with_the_first_record(bootstrap: &str) -> Result<()> {
    let topic = unique("poll");
    let (reader, writer) = (Wire::connect(bootstrap).await?, Wire::connect(bootstrap).await?);
    writer.create_topic(&topic, 1, &[]).await?;
    let empty = reader.fetch(&topic, 0, 0, 0, 50).await?;
    ensure!(
        empty.error_code == 0 && empty.records.unwrap_or_default().is_empty(),
        "records of nothing"
    );
    let batch = ProducerState::NONE.batch(-1, &[(None, Some("now"))])?;
    let start = Instant::now();
    let produce = async {
        // The reader's request is on its way first.
        tokio::task::yield_now().await;
        writer.produce(&topic, 0, &batch, None).await
    };
    let (fetched, produced) = tokio::join!(reader.fetch(&topic, 0, 0, 0, 60_000), produce);
    ensure!(produced?.error_code == 0, "the record is refused");
    ensure!(
        !fetched?.records.unwrap_or_default().is_empty(),
        "woken without a record"
    );
    ensure!(
        start.elapsed() < Duration::from_secs(50),
        "the record was there before the wait ended"
    );
    Ok(())
}

/// Codes of what is refused: a damaged batch 2, one larger than `max.message.bytes` 10, an unknown partition 3, an offset
/// out of range 1.
///
/// # Errors
/// When the law does not hold.
pub async fn damaged_and_oversized_batches_are_refused(bootstrap: &str) -> Result<()> {
    let topic = unique("refused");
    let wire = Wire::connect(bootstrap).await?;
    wire.create_topic(&topic, 1, &[("max.message.bytes", "1000")]).await?;
    let batch = ProducerState::NONE.batch(-1, &[(None, Some("value"))])?;
    let mut damaged = BytesMut::from(batch.as_ref());
    let last = damaged.last_mut().context("an empty batch")?;
    *last ^= 1;
    let answer = wire.produce(&topic, 0, &damaged.freeze(), None).await?;
    ensure!(answer.error_code == 2, "damaged: {}", answer.error_code);
    let large = ProducerState::NONE.batch(-1, &[(None, Some(&"x".repeat(2000)))])?;
    let answer = wire.produce(&topic, 0, &large, None).await?;
    ensure!(answer.error_code == 10, "too large: {}", answer.error_code);
    let answer = wire.produce(&topic, 7, &batch, None).await?;
    ensure!(answer.error_code == 3, "no such partition: {}", answer.error_code);
    let answer = wire.fetch(&topic, 0, 5, 0, 10_000).await?;
    ensure!(answer.error_code == 1, "offset out of range: {}", answer.error_code);
    let answer = wire.produce(&topic, 0, &batch, None).await?;
    ensure!(
        answer.error_code == 0 && answer.base_offset == 0,
        "what was refused took an offset"
    );
    Ok(())
}

/// The first record that is at least as late as asked for; none (-1) when all are earlier.
///
/// # Errors
/// When the law does not hold.
pub async fn offsets_are_found_by_time(bootstrap: &str) -> Result<()> {
    let topic = unique("time");
    let wire = Wire::connect(bootstrap).await?;
    wire.create_topic(&topic, 1, &[]).await?;
    let records = [(None, Some("a")), (None, Some("b")), (None, Some("c"))];
    let batch = ProducerState::NONE.batch_with(-1, &records, Compression::Gzip)?;
    for _ in 0..2 {
        ensure!(wire.produce(&topic, 0, &batch, None).await?.error_code == 0, "refused");
    }
    for (timestamp, offset) in [(-2, 0), (-1, 6), (0, 0), (1000, 0), (1001, 1), (1002, 2), (1003, -1)] {
        let found = wire.list_offset(&topic, 0, timestamp, 0).await?;
        ensure!(found.error_code == 0, "{timestamp}: error {}", found.error_code);
        ensure!(found.offset == offset, "{timestamp}: offset {}", found.offset);
    }
    Ok(())
}

/// Records before an offset can be deleted: the log begins there, and reading before it is out of range.
///
/// # Errors
/// When the law does not hold.
pub async fn deleted_records_are_gone(bootstrap: &str) -> Result<()> {
    let topic = unique("deleted");
    let wire = Wire::connect(bootstrap).await?;
    wire.create_topic(&topic, 1, &[]).await?;
    let records = [(None, Some("a")), (None, Some("b")), (None, Some("c"))];
    let batch = ProducerState::NONE.batch(-1, &records)?;
    ensure!(wire.produce(&topic, 0, &batch, None).await?.error_code == 0, "refused");
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    admin
        .delete_records(&[(TopicPartition::new(topic.as_str(), 0), 2)])
        .await?;
    let first = wire.list_offset(&topic, 0, -2, 0).await?.offset;
    ensure!(first == 2, "the log begins at {first}");
    let answer = wire.fetch(&topic, 0, 0, 0, 100).await?;
    ensure!(
        answer.error_code == 1,
        "deleted records are read: {}",
        answer.error_code
    );
    let (wire, topic) = (&wire, &topic);
    eventually("the record that is left", || async move {
        let answer = wire.fetch(topic, 0, 2, 0, 100).await?;
        Ok((answer.error_code == 0 && answer.log_start_offset == 2).then_some(()))
    })
    .await
}

/// With `message.timestamp.type=LogAppendTime` a record has the broker's time, and the producer hears it.
///
/// # Errors
/// When the law does not hold.
pub async fn log_append_time_is_the_brokers(bootstrap: &str) -> Result<()> {
    let topic = unique("append-time");
    let wire = Wire::connect(bootstrap).await?;
    wire.create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")])
        .await?;
    let batch = ProducerState::NONE.batch(-1, &[(None, Some("a"))])?;
    let answer = wire.produce(&topic, 0, &batch, None).await?;
    ensure!(answer.error_code == 0, "refused: {}", answer.error_code);
    ensure!(
        answer.log_append_time_ms > 1_700_000_000_000,
        "no time: {}",
        answer.log_append_time_ms
    );
    let batches = tokio::task::block_in_place(|| consume(bootstrap, &topic, 1, "read_committed"))?;
    let found = batches.iter().flatten().next().and_then(Message::timestamp_ms);
    ensure!(found == Some(answer.log_append_time_ms), "timestamp {found:?}");
    Ok(())
}

/// Values of the records in what a fetch gave, markers left out.
///
/// # Errors
/// When they cannot be decoded.
pub fn values(records: Option<bytes::Bytes>) -> Result<Vec<String>> {
    let mut buffer = records.unwrap_or_default();
    let sets = RecordBatchDecoder::decode_all(&mut buffer)?;
    let records = sets
        .into_iter()
        .flat_map(|set| set.records)
        .filter(|record| !record.control);
    let value = |value: bytes::Bytes| String::from_utf8_lossy(&value).into_owned();
    Ok(records
        .map(|record| record.value.map(value).unwrap_or_default())
        .collect())
}
