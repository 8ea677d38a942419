//! Laws about idempotent and transactional producers.

use std::sync::Arc;

use anyhow::{Result, ensure};
use kafka_client::{ClientConfig, Consumer, Producer, ProducerRecord, StartOffset, TopicPartition};

use super::records::{Ignored, consume, values};
use super::wire::{ProducerState, Wire};
use super::{PATIENCE, eventually, unique};

const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;

const TIMEOUT_MS: i32 = 60_000;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

async fn topic(wire: &Wire, prefix: &str) -> Result<String> {
    let topic = unique(prefix);
    wire.create_topic(&topic, 1, &[]).await?;
    Ok(topic)
}

/// A batch that is sent again is not written again; it is answered with the offset it has.
///
/// # Errors
/// When the law does not hold.
pub async fn a_duplicate_batch_is_answered_with_its_offset(bootstrap: &str) -> Result<()> {
    let wire = Wire::connect(bootstrap).await?;
    let topic = topic(&wire, "duplicate").await?;
    let producer = wire.initialise(None, TIMEOUT_MS).await?;
    let records = [(None, Some("a")), (None, Some("b"))];
    for (sequence, offset) in [(0, 0), (2, 2), (4, 4), (2, 2), (0, 0), (6, 6)] {
        let answer = wire
            .produce(&topic, 0, &producer.batch(sequence, &records)?, None)
            .await?;
        ensure!(answer.error_code == 0, "sequence {sequence}: {}", answer.error_code);
        ensure!(
            answer.base_offset == offset,
            "sequence {sequence} at {}",
            answer.base_offset
        );
    }
    let end = wire.list_offset(&topic, 0, -1, READ_UNCOMMITTED).await?.offset;
    ensure!(end == 8, "the log ends at {end}");
    Ok(())
}

/// A batch whose sequence is not the next is refused, and one of an older epoch.
///
/// # Errors
/// When the law does not hold.
pub async fn a_gap_in_the_sequence_is_refused(bootstrap: &str) -> Result<()> {
    let wire = Wire::connect(bootstrap).await?;
    let topic = topic(&wire, "gap").await?;
    let producer = wire.initialise(None, TIMEOUT_MS).await?;
    let newer = ProducerState {
        epoch: producer.epoch + 1,
        ..producer
    };
    let expected = [
        (producer, 0, 0),
        (producer, 2, OUT_OF_ORDER_SEQUENCE_NUMBER),
        (producer, 1, 0),
        (newer, 5, OUT_OF_ORDER_SEQUENCE_NUMBER),
        (newer, 0, 0),
        (producer, 2, INVALID_PRODUCER_EPOCH),
    ];
    for (producer, sequence, code) in expected {
        let batch = producer.batch(sequence, &[(None, Some("a"))])?;
        let found = wire.produce(&topic, 0, &batch, None).await?.error_code;
        ensure!(
            found == code,
            "epoch {} sequence {sequence}: {found}, not {code}",
            producer.epoch
        );
    }
    Ok(())
}

/// While a transaction is open, a read_committed reader gets nothing from its first record on, and no end after it.
///
/// # Errors
/// When the law does not hold.
pub async fn open_transactions_hold_back_readers(bootstrap: &str) -> Result<()> {
    let id = unique("open");
    let wire = Wire::to_coordinator(bootstrap, &id, 1).await?;
    let topic = topic(&wire, "open").await?;
    let before = ProducerState::NONE.batch(-1, &[(None, Some("before"))])?;
    ensure!(wire.produce(&topic, 0, &before, None).await?.error_code == 0, "refused");
    let producer = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    ensure!(
        wire.add_partition(&id, producer, &topic, 0).await? == 0,
        "partition refused"
    );
    let inside = producer.batch(0, &[(None, Some("inside"))])?;
    ensure!(
        wire.produce(&topic, 0, &inside, Some(&id)).await?.error_code == 0,
        "refused"
    );
    ensure!(wire.produce(&topic, 0, &before, None).await?.error_code == 0, "refused");

    let stable = wire.list_offset(&topic, 0, -1, READ_COMMITTED).await?.offset;
    let end = wire.list_offset(&topic, 0, -1, READ_UNCOMMITTED).await?.offset;
    ensure!((stable, end) == (1, 3), "ends: {stable}, {end}");
    let answer = wire.fetch(&topic, 0, 0, READ_COMMITTED, 100).await?;
    ensure!(
        answer.last_stable_offset == 1,
        "stable up to {}",
        answer.last_stable_offset
    );
    let found = values(answer.records)?;
    ensure!(found == ["before"], "read_committed: {found:?}");
    let found = values(wire.fetch(&topic, 0, 0, READ_UNCOMMITTED, 100).await?.records)?;
    ensure!(found == ["before", "inside", "before"], "read_uncommitted: {found:?}");

    ensure!(wire.end(&id, producer, true).await? == 0, "commit refused");
    let (wire, topic) = (&wire, &topic);
    let answer = eventually("the commit", || async move {
        let answer = wire.fetch(topic, 0, 0, READ_COMMITTED, 100).await?;
        Ok((answer.last_stable_offset == 4).then_some(answer))
    })
    .await?;
    let found = values(answer.records)?;
    ensure!(found == ["before", "inside", "before"], "after the commit: {found:?}");
    Ok(())
}

/// Records of aborted transactions are not seen with read_committed; those of others around them are.
///
/// # Errors
/// When the law does not hold.
pub async fn aborted_records_are_invisible(bootstrap: &str) -> Result<()> {
    let wire = Wire::connect(bootstrap).await?;
    let topic = topic(&wire, "aborted").await?;
    tokio::task::block_in_place(|| {
        let mut config = ClientConfig::new(bootstrap);
        config.set("transactional.id", &unique("aborted"));
        let producer = Producer::new(&config, Arc::new(Ignored))?;
        producer.init_transactions(PATIENCE)?;
        for round in 0..10 {
            producer.begin_transaction()?;
            for index in 0..20 {
                let value = format!("{round}-{index}");
                let record = ProducerRecord {
                    topic: &topic,
                    value: Some(value.as_bytes()),
                    ..ProducerRecord::default()
                };
                producer.send(&record, 0)?;
            }
            if round % 3 == 0 {
                producer.flush(PATIENCE)?;
                producer.abort_transaction(PATIENCE)?;
            } else {
                producer.commit_transaction(PATIENCE)?;
            }
        }
        let seen = consume(bootstrap, &topic, 120, "read_committed")?;
        let expected = (0..10).filter(|round| round % 3 != 0);
        let expected = expected.flat_map(|round| (0..20).map(move |index| format!("{round}-{index}")));
        for (message, expected) in seen.iter().flatten().zip(expected) {
            ensure!(
                message.value() == Some(expected.as_bytes()),
                "{:?}, not {expected}",
                message.value()
            );
        }
        let seen = seen.iter().flatten().count();
        ensure!(seen == 120, "{seen} records");
        let all = consume(bootstrap, &topic, 200, "read_uncommitted")?;
        let all = all.iter().flatten().count();
        ensure!(all == 200, "{all} records altogether");
        Ok(())
    })
}

/// Offsets sent to a transaction count once it commits, not before, and never if it aborts.
///
/// # Errors
/// When the law does not hold.
pub async fn offsets_of_a_transaction_count_when_it_commits(bootstrap: &str) -> Result<()> {
    let (id, group) = (unique("offsets"), unique("offsets"));
    Wire::to_coordinator(bootstrap, &group, 0).await?;
    let wire = Wire::to_coordinator(bootstrap, &id, 1).await?;
    let topic = topic(&wire, "offsets").await?;
    let producer = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    for (offset, commit, expected) in [(5, true, 5), (9, false, 5), (7, true, 7)] {
        let before = wire.committed(&group, &topic, false).await?.committed_offset;
        let code = wire.add_offset(&id, producer, &group, &topic, offset).await?;
        ensure!(code == 0, "offset {offset} is refused: {code}");
        let open = wire.committed(&group, &topic, false).await?;
        ensure!(
            open.committed_offset == before,
            "counts before the end: {}",
            open.committed_offset
        );
        let open = wire.committed(&group, &topic, true).await?;
        ensure!(
            open.error_code == UNSTABLE_OFFSET_COMMIT,
            "is stable: {}",
            open.error_code
        );
        ensure!(wire.end(&id, producer, commit).await? == 0, "end refused");
        let (wire, group, topic) = (&wire, &group, &topic);
        let found = eventually("the end of the transaction", || async move {
            let found = wire.committed(group, topic, true).await?;
            Ok((found.error_code == 0).then_some(found.committed_offset))
        })
        .await?;
        ensure!(found == expected, "{offset} {commit}: {found}");
    }
    // The same with a member of the group, through the client.
    tokio::task::block_in_place(|| {
        let mut config = ClientConfig::new(bootstrap);
        config
            .set("group.id", &group)
            // Only such a reader waits for the end of the transaction, of which the answer to the commit is not the last.
            .set("isolation.level", "read_committed")
            .set("transactional.id", &unique("offsets-client"));
        let consumer = Consumer::new(&config)?;
        let partition = TopicPartition::new(topic.as_str(), 0);
        consumer.assign(&[(partition.clone(), StartOffset::Beginning)])?;
        let producer = Producer::new(&config, Arc::new(Ignored))?;
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        let metadata = consumer.group_metadata()?;
        producer.send_offsets_to_transaction(&[(partition.clone(), 11)], &metadata, PATIENCE)?;
        producer.commit_transaction(PATIENCE)?;
        let found = consumer.committed(std::slice::from_ref(&partition), PATIENCE)?;
        ensure!(found == [(partition, Some(11))], "through the client: {found:?}");
        Ok(())
    })
}

/// Initialising a transactional id anew aborts the open transaction and fences the producer that had it.
///
/// # Errors
/// When the law does not hold.
pub async fn a_new_producer_fences_the_old_one(bootstrap: &str) -> Result<()> {
    let id = unique("fenced");
    let wire = Wire::to_coordinator(bootstrap, &id, 1).await?;
    let topic = topic(&wire, "fenced").await?;
    let old = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    ensure!(wire.add_partition(&id, old, &topic, 0).await? == 0, "partition refused");
    let batch = old.batch(0, &[(None, Some("zombie"))])?;
    ensure!(
        wire.produce(&topic, 0, &batch, Some(&id)).await?.error_code == 0,
        "refused"
    );

    let new = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    ensure!(new.id == old.id && new.epoch > old.epoch, "{new:?} after {old:?}");
    let code = wire
        .produce(&topic, 0, &old.batch(1, &[(None, Some("zombie"))])?, Some(&id))
        .await?
        .error_code;
    ensure!(code == INVALID_PRODUCER_EPOCH, "the old producer writes: {code}");
    let code = wire.add_partition(&id, old, &topic, 0).await?;
    ensure!(code == PRODUCER_FENCED, "the old producer adds a partition: {code}");
    let code = wire.end(&id, old, true).await?;
    ensure!(code == PRODUCER_FENCED, "the old producer commits: {code}");

    ensure!(wire.add_partition(&id, new, &topic, 0).await? == 0, "partition refused");
    let batch = new.batch(0, &[(None, Some("alive"))])?;
    ensure!(
        wire.produce(&topic, 0, &batch, Some(&id)).await?.error_code == 0,
        "refused"
    );
    ensure!(wire.end(&id, new, true).await? == 0, "commit refused");
    let seen = tokio::task::block_in_place(|| consume(bootstrap, &topic, 1, "read_committed"))?;
    let value = seen.iter().flatten().next().and_then(|message| message.value());
    ensure!(value == Some(b"alive"), "seen: {value:?}");
    Ok(())
}

/// A transactional batch for a partition that is not in the transaction is refused.
///
/// # Errors
/// When the law does not hold.
pub async fn a_batch_outside_a_transaction_is_refused(bootstrap: &str) -> Result<()> {
    let id = unique("outside");
    let wire = Wire::to_coordinator(bootstrap, &id, 1).await?;
    let topic = topic(&wire, "outside").await?;
    let producer = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    let batch = producer.batch(0, &[(None, Some("a"))])?;
    let code = wire.produce(&topic, 0, &batch, Some(&id)).await?.error_code;
    ensure!(code == INVALID_TXN_STATE, "the batch: {code}");
    let code = wire.end(&id, producer, true).await?;
    ensure!(code == INVALID_TXN_STATE, "the end of nothing: {code}");
    Ok(())
}

/// An end that is sent again is answered as the first; the other end is refused.
///
/// # Errors
/// When the law does not hold.
pub async fn ending_twice_is_the_same_as_once(bootstrap: &str) -> Result<()> {
    let id = unique("twice");
    let wire = Wire::to_coordinator(bootstrap, &id, 1).await?;
    let topic = topic(&wire, "twice").await?;
    let producer = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    for commit in [true, false] {
        ensure!(
            wire.add_partition(&id, producer, &topic, 0).await? == 0,
            "partition refused"
        );
        for (end, code) in [(commit, 0), (commit, 0), (!commit, INVALID_TXN_STATE)] {
            let found = wire.end(&id, producer, end).await?;
            ensure!(found == code, "after {commit}: {end} is answered {found}");
        }
    }
    Ok(())
}

/// A transaction that is open for longer than its timeout is aborted, and its producer fenced.
///
/// # Errors
/// When the law does not hold.
pub async fn a_transaction_that_takes_too_long_is_aborted(bootstrap: &str) -> Result<()> {
    let id = unique("late");
    let wire = Wire::to_coordinator(bootstrap, &id, 1).await?;
    let topic = topic(&wire, "late").await?;
    let producer = wire.initialise(Some(&id), 500).await?;
    ensure!(
        wire.add_partition(&id, producer, &topic, 0).await? == 0,
        "partition refused"
    );
    let batch = producer.batch(0, &[(None, Some("late"))])?;
    ensure!(
        wire.produce(&topic, 0, &batch, Some(&id)).await?.error_code == 0,
        "refused"
    );
    let (wire, topic) = (&wire, &topic);
    eventually("the broker to abort", || async move {
        let stable = wire.list_offset(topic, 0, -1, READ_COMMITTED).await?.offset;
        Ok((stable == 2).then_some(()))
    })
    .await?;
    let found = wire.fetch(topic, 0, 0, READ_COMMITTED, 100).await?;
    let aborted = found.aborted_transactions.unwrap_or_default();
    ensure!(aborted.len() == 1, "aborted: {aborted:?}");
    let code = wire.end(&id, producer, true).await?;
    ensure!(code == PRODUCER_FENCED, "the late commit: {code}");
    Ok(())
}
