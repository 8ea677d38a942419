//! Laws about what a broker still knows after it was ended.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig};
use kafka_protocol::records::RecordBatchDecoder;

use super::records::values;
use super::wire::Wire;
use super::{BrokerUnderTest, eventually, unique};

const TIMEOUT_MS: i32 = 600_000;

/// Records, settings, offsets, sequences and transactions survive a clean end.
///
/// # Errors
/// When the law does not hold.
pub async fn everything_survives_a_restart(broker: &mut impl BrokerUnderTest) -> Result<()> {
    everything_survives(broker, false).await
}

/// The same when the broker is killed.
///
/// # Errors
/// When the law does not hold.
pub async fn everything_survives_a_crash(broker: &mut impl BrokerUnderTest) -> Result<()> {
    everything_survives(broker, true).await
}

async fn everything_survives(broker: &mut impl BrokerUnderTest, crash: bool) -> Result<()> {
    let bootstrap = broker.bootstrap();
    let (topic, id, group) = (unique("kept"), unique("kept"), unique("kept"));
    Wire::to_coordinator(&bootstrap, &group, 0).await?;
    let wire = Wire::to_coordinator(&bootstrap, &id, 1).await?;
    wire.create_topic(&topic, 2, &[("max.message.bytes", "1234567")])
        .await?;
    let idempotent = wire.initialise(None, TIMEOUT_MS).await?;
    // Kafka forgets a producer one day after the time of its last record: so they are of now.
    let now_ms = i64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?;
    let plain = idempotent.batch_at(now_ms, 0, &[(Some("k"), Some("plain"))])?;
    ensure!(wire.produce(&topic, 0, &plain, None).await?.error_code == 0, "refused");
    let producer = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    for (sequence, value, commit) in [(0, "committed", true), (1, "aborted", false)] {
        ensure!(
            wire.add_partition(&id, producer, &topic, 0).await? == 0,
            "partition refused"
        );
        let batch = producer.batch(sequence, &[(None, Some(value))])?;
        ensure!(
            wire.produce(&topic, 0, &batch, Some(&id)).await?.error_code == 0,
            "refused"
        );
        ensure!(wire.end(&id, producer, commit).await? == 0, "end refused");
    }
    ensure!(
        wire.commit(&group, ("", -1), &topic, 3, "note").await? == 0,
        "commit refused"
    );
    let cluster = Admin::new(&ClientConfig::new(&bootstrap))?.cluster_id().await?;

    broker.restart(crash).await?;
    let wire = Wire::to_coordinator(&bootstrap, &id, 1).await?;
    let admin = Admin::new(&ClientConfig::new(&bootstrap))?;
    ensure!(admin.cluster_id().await? == cluster, "another cluster");
    ensure!(
        admin
            .topic(&topic)
            .await?
            .is_some_and(|topic| topic.partitions.len() == 2),
        "partitions"
    );
    let config = admin.describe_topic_config(&topic).await?;
    ensure!(
        config.get("max.message.bytes").is_some_and(|value| value == "1234567"),
        "settings"
    );
    let (wire, topic) = (&wire, &topic);
    eventually("the end of both transactions", || async move {
        let found = wire.fetch(topic, 0, 0, 1, 1000).await?;
        Ok((found.error_code == 0 && found.last_stable_offset == 5).then_some(()))
    })
    .await?;
    let (found, aborted) = committed_records(wire, topic, 5).await?;
    ensure!(found == ["plain", "committed", "aborted"], "records: {found:?}");
    ensure!(
        aborted.contains(&3),
        "first offsets of aborted transactions: {aborted:?}"
    );
    let coordinator = Wire::to_coordinator(&bootstrap, &group, 0).await?;
    let offset = coordinator.committed(&group, topic, true).await?;
    ensure!(offset.committed_offset == 3, "offset {}", offset.committed_offset);

    let again = wire.produce(topic, 0, &plain, None).await?;
    ensure!(
        (again.error_code, again.base_offset) == (0, 0),
        "a duplicate: {again:?}"
    );
    let next = idempotent.batch_at(now_ms, 1, &[(None, Some("next"))])?;
    ensure!(
        wire.produce(topic, 0, &next, None).await?.base_offset == 5,
        "the next record"
    );
    let gap = idempotent.batch_at(now_ms, 9, &[(None, Some("gap"))])?;
    ensure!(wire.produce(topic, 0, &gap, None).await?.error_code == 45, "a gap");
    let newer = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    ensure!(
        newer.id == producer.id && newer.epoch > producer.epoch,
        "{newer:?} after {producer:?}"
    );
    let other = wire.initialise(None, TIMEOUT_MS).await?;
    ensure!(
        other.id != idempotent.id && other.id != producer.id,
        "a producer id is given twice"
    );
    Ok(())
}

/// Values of all records up to `end`, and where aborted transactions among them begin, as a read_committed reader gets them:
/// in as many answers as Kafka likes, which never answers from two segments at once.
async fn committed_records(wire: &Wire, topic: &str, end: i64) -> Result<(Vec<String>, BTreeSet<i64>)> {
    let (mut found, mut aborted, mut next) = (Vec::new(), BTreeSet::new(), 0);
    while next < end {
        let answer = wire.fetch(topic, 0, next, 1, 1000).await?;
        ensure!(answer.error_code == 0, "from {next}: error {}", answer.error_code);
        let transactions = answer.aborted_transactions.into_iter().flatten();
        aborted.extend(transactions.map(|transaction| transaction.first_offset));
        let mut records = answer.records.clone().unwrap_or_default();
        let sets = RecordBatchDecoder::decode_all(&mut records)?;
        let last = sets
            .iter()
            .flat_map(|set| &set.records)
            .map(|record| record.offset)
            .max();
        next = last.with_context(|| format!("nothing from {next} on"))? + 1;
        found.extend(values(answer.records)?);
    }
    Ok((found, aborted))
}

/// A transaction that was open when the broker was killed is still open after, and its producer can commit it with the
/// offsets in it.
///
/// # Errors
/// When the law does not hold.
pub async fn an_open_transaction_survives_a_crash(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let bootstrap = broker.bootstrap();
    let (topic, id, group) = (unique("open"), unique("open"), unique("open"));
    Wire::to_coordinator(&bootstrap, &group, 0).await?;
    let wire = Wire::to_coordinator(&bootstrap, &id, 1).await?;
    wire.create_topic(&topic, 1, &[]).await?;
    let producer = wire.initialise(Some(&id), TIMEOUT_MS).await?;
    ensure!(
        wire.add_partition(&id, producer, &topic, 0).await? == 0,
        "partition refused"
    );
    let batch = producer.batch(0, &[(None, Some("open"))])?;
    ensure!(
        wire.produce(&topic, 0, &batch, Some(&id)).await?.error_code == 0,
        "refused"
    );
    ensure!(
        wire.add_offset(&id, producer, &group, &topic, 42).await? == 0,
        "offset refused"
    );

    broker.restart(true).await?;
    let wire = Wire::to_coordinator(&bootstrap, &id, 1).await?;
    let (wire_ref, topic_ref) = (&wire, &topic);
    eventually("the open transaction", || async move {
        let found = wire_ref.fetch(topic_ref, 0, 0, 1, 100).await?;
        Ok((found.error_code == 0 && found.high_watermark == 1 && found.last_stable_offset == 0).then_some(()))
    })
    .await?;
    ensure!(wire.end(&id, producer, true).await? == 0, "commit refused");
    eventually("the commit", || async move {
        let found = values(wire_ref.fetch(topic_ref, 0, 0, 1, 100).await?.records)?;
        Ok((found == ["open"]).then_some(()))
    })
    .await?;
    let coordinator = Wire::to_coordinator(&bootstrap, &group, 0).await?;
    let (coordinator, group) = (&coordinator, &group);
    eventually("the offset", || async move {
        let found = coordinator.committed(group, topic_ref, true).await?;
        Ok((found.error_code == 0 && found.committed_offset == 42).then_some(()))
    })
    .await?;
    Ok(())
}
