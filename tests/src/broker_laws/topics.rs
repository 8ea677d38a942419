//! Laws about topics: creation, settings, deletion, compaction.

use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, ConfigChange, ErrorCode, NewTopic};
use kafka_protocol::records::RecordBatchDecoder;

use super::wire::{ProducerState, Wire};
use super::{eventually, unique};

fn admin(bootstrap: &str) -> Result<Admin> {
    Ok(Admin::new(&ClientConfig::new(bootstrap))?)
}

async fn create(admin: &Admin, topic: NewTopic) -> Result<Option<ErrorCode>> {
    let results = admin.create_topics(&[topic]).await?;
    let (_, result) = results.into_iter().next().context("no result")?;
    Ok(result.err().map(|error| error.code))
}

/// A topic is created once; a bad name, count or setting is refused.
///
/// # Errors
/// When the law does not hold.
pub async fn topics_are_created_once(bootstrap: &str) -> Result<()> {
    let (admin, name) = (admin(bootstrap)?, unique("created"));
    let refused = [
        (NewTopic::new("no spaces", 1, 1), ErrorCode::InvalidTopic),
        (NewTopic::new(&name, 0, 1), ErrorCode::InvalidPartitions),
        (NewTopic::new(&name, 1, 3), ErrorCode::InvalidReplicationFactor),
        (
            NewTopic::new(&name, 1, 1).with("no.such.setting", "1"),
            ErrorCode::InvalidConfig,
        ),
        (
            NewTopic::new(&name, 1, 1).with("retention.ms", "soon"),
            ErrorCode::InvalidConfig,
        ),
    ];
    for (topic, code) in refused {
        let found = create(&admin, topic.clone()).await;
        let found = found.with_context(|| format!("{topic:?}"))?;
        ensure!(found == Some(code), "{topic:?}: {found:?}, not {code:?}");
    }
    ensure!(create(&admin, NewTopic::new(&name, 3, 1)).await?.is_none(), "refused");
    let found = create(&admin, NewTopic::new(&name, 3, 1)).await?;
    ensure!(found == Some(ErrorCode::TopicAlreadyExists), "created twice: {found:?}");
    let (admin, name) = (&admin, &name);
    let topic = eventually("the topic", || async move { Ok(admin.topic(name).await?) }).await?;
    ensure!(topic.partitions.len() == 3, "{} partitions", topic.partitions.len());
    ensure!(
        topic.partitions.iter().all(|partition| partition.replicas.len() == 1),
        "replicas"
    );
    Ok(())
}

/// Settings are what was set, else Kafka's defaults, and can be changed and taken back.
///
/// # Errors
/// When the law does not hold.
pub async fn topics_are_configured(bootstrap: &str) -> Result<()> {
    let (admin, name) = (admin(bootstrap)?, unique("configured"));
    let topic = NewTopic::new(&name, 1, 1).with("cleanup.policy", "compact");
    ensure!(create(&admin, topic).await?.is_none(), "refused");
    let expect = async |pairs: &[(&str, &str)]| {
        let (admin, name) = (&admin, &name);
        eventually("settings", || async move {
            let found = match admin.describe_topic_config(name).await {
                // Created, and not everywhere known yet.
                Err(error) if error.code == ErrorCode::UnknownTopicOrPartition => return Ok(None),
                found => found?,
            };
            let same = pairs
                .iter()
                .all(|(key, value)| found.get(*key).is_some_and(|found| found == value));
            Ok(same.then_some(()))
        })
        .await
    };
    expect(&[
        ("cleanup.policy", "compact"),
        ("retention.ms", "604800000"),
        ("max.message.bytes", "1048588"),
        ("delete.retention.ms", "86400000"),
        ("message.timestamp.type", "CreateTime"),
        ("min.insync.replicas", "1"),
    ])
    .await?;
    let changes = [
        ("retention.ms".to_owned(), ConfigChange::Set("1000000".to_owned())),
        ("cleanup.policy".to_owned(), ConfigChange::Default),
    ];
    admin.alter_topic_config(&name, &changes).await?;
    expect(&[("cleanup.policy", "delete"), ("retention.ms", "1000000")]).await?;
    let wrong = [("retention.ms".to_owned(), ConfigChange::Set("soon".to_owned()))];
    let refused = admin.alter_topic_config(&name, &wrong).await;
    let code = refused.err().map(|error| error.code);
    ensure!(code == Some(ErrorCode::InvalidConfig), "a wrong setting: {code:?}");
    Ok(())
}

/// Partitions can be added, not taken away; a deleted topic is gone and can be created anew, empty.
///
/// # Errors
/// When the law does not hold.
pub async fn partitions_are_added_and_topics_deleted(bootstrap: &str) -> Result<()> {
    let (admin, name) = (admin(bootstrap)?, unique("grown"));
    let wire = Wire::connect(bootstrap).await?;
    wire.create_topic(&name, 1, &[]).await?;
    let batch = ProducerState::NONE.batch(-1, &[(None, Some("a"))])?;
    ensure!(wire.produce(&name, 0, &batch, None).await?.error_code == 0, "refused");
    admin.create_partitions(&name, 3).await?;
    let code = admin.create_partitions(&name, 2).await.err().map(|error| error.code);
    ensure!(
        code == Some(ErrorCode::InvalidPartitions),
        "partitions taken away: {code:?}"
    );
    {
        let (admin, name) = (&admin, &name);
        eventually("three partitions", || async move {
            let found = admin.topic(name).await?.map_or(0, |topic| topic.partitions.len());
            Ok((found == 3).then_some(()))
        })
        .await?;
    }
    let end = wire.list_offset(&name, 0, -1, 0).await?.offset;
    ensure!(end == 1, "the first partition ends at {end}");
    admin.delete_topics(std::slice::from_ref(&name)).await?;
    {
        let (admin, name) = (&admin, &name);
        eventually("the end of the topic", || async move {
            Ok(admin.topic(name).await?.is_none().then_some(()))
        })
        .await?;
    }
    wire.create_topic(&name, 1, &[]).await?;
    let end = wire.list_offset(&name, 0, -1, 0).await?.offset;
    ensure!(end == 0, "the new topic ends at {end}");
    Ok(())
}

/// Compaction keeps the last record of a key at its offset, drops the others and, in time, tombstones.
///
/// # Errors
/// When the law does not hold.
pub async fn compaction_keeps_the_last_of_a_key(bootstrap: &str) -> Result<()> {
    let topic = unique("compacted");
    let wire = Wire::connect(bootstrap).await?;
    let config = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "100"),
        ("delete.retention.ms", "100"),
        ("segment.ms", "100"),
        ("segment.bytes", "1048576"),
    ];
    wire.create_topic(&topic, 1, &config).await?;
    let without_key = ProducerState::NONE.batch(-1, &[(None, Some("a"))])?;
    let code = wire.produce(&topic, 0, &without_key, None).await?.error_code;
    ensure!(code == 87, "a record without a key: {code}");
    let batches: [&[(Option<&str>, Option<&str>)]; 3] = [
        &[
            (Some("a"), Some("1")),
            (Some("b"), Some("1")),
            (Some("gone"), Some("1")),
        ],
        &[(Some("a"), Some("2")), (Some("gone"), None), (Some("c"), Some("1"))],
        &[(Some("b"), Some("2"))],
    ];
    for records in batches {
        let answer = wire
            .produce(&topic, 0, &ProducerState::NONE.batch(-1, records)?, None)
            .await?;
        ensure!(answer.error_code == 0, "refused: {}", answer.error_code);
    }
    let expected = [("a", 3), ("c", 5), ("b", 6)].map(|(key, offset)| (key.to_owned(), offset));
    let (wire, topic, expected) = (&wire, &topic, &expected);
    eventually("compaction", || async move {
        // Kafka never compacts the segment that is being written, and closes it by the time between its records: a
        // record of now closes the one that holds the others.
        let now_ms = i64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?;
        let filler = ProducerState::NONE.batch_at(now_ms, -1, &[(Some("filler"), Some("x"))])?;
        wire.produce(topic, 0, &filler, None).await?;
        let mut records = wire.fetch(topic, 0, 0, 0, 100).await?.records.unwrap_or_default();
        let sets = RecordBatchDecoder::decode_all(&mut records)?;
        let kept = sets.into_iter().flat_map(|set| set.records).filter_map(|record| {
            let key = String::from_utf8_lossy(&record.key?).into_owned();
            (key != "filler").then_some((key, record.offset))
        });
        let kept: Vec<(String, i64)> = kept.collect();
        Ok((kept == expected).then_some(()))
    })
    .await
}
