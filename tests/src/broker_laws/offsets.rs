//! Laws about the offsets of groups.

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, TopicPartition};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{DeleteGroupsRequest, DescribeGroupsRequest, GroupId, OffsetDeleteRequest};

use super::groups::Member;
use super::unique;
use super::wire::{Wire, text, topic_name};

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;

/// What was committed last is read back with its note; nothing is -1.
///
/// # Errors
/// When the law does not hold.
pub async fn commits_are_read_back(bootstrap: &str) -> Result<()> {
    let (group, topic) = (unique("commits"), unique("commits"));
    let wire = Wire::to_coordinator(bootstrap, &group, 0).await?;
    wire.create_topic(&topic, 1, &[]).await?;
    let none = wire.committed(&group, &topic, false).await?;
    ensure!(
        none.committed_offset == -1 && none.error_code == 0,
        "of nothing: {none:?}"
    );
    for offset in [1, 7, 3] {
        let code = wire.commit(&group, ("", -1), &topic, offset, "a note").await?;
        ensure!(code == 0, "{offset} is refused: {code}");
        let found = wire.committed(&group, &topic, true).await?;
        ensure!(
            found.committed_offset == offset,
            "{} for {offset}",
            found.committed_offset
        );
        ensure!(
            found.metadata.as_ref().is_some_and(|note| note.as_str() == "a note"),
            "the note is lost"
        );
    }
    let code = wire.commit(&group, ("", -1), "no-such-topic-of-ours", 1, "").await?;
    ensure!(code == 3, "an unknown topic: {code}");
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    let offsets = admin.group_offsets(&group).await?;
    ensure!(offsets == [(TopicPartition::new(topic.as_str(), 0), 3)], "{offsets:?}");
    ensure!(admin.list_groups().await?.contains(&group), "the group is not listed");
    Ok(())
}

/// A commit from outside is refused while the group has members; a member's counts in its own generation only.
///
/// # Errors
/// When the law does not hold.
pub async fn commits_from_outside_need_an_empty_group(bootstrap: &str) -> Result<()> {
    let (group, topic) = (unique("outside"), unique("outside"));
    let wire = Wire::to_coordinator(bootstrap, &group, 0).await?;
    wire.create_topic(&topic, 1, &[]).await?;
    ensure!(
        wire.commit(&group, ("", -1), &topic, 1, "").await? == 0,
        "an empty group"
    );
    let mut member = Member::new(bootstrap, &group, "connect").await?;
    member.join().await?;
    ensure!(member.sync(&[]).await?.error_code == 0, "sync refused");
    let (id, generation) = (member.id.clone(), member.generation);
    for (who, code) in [
        (("", -1), UNKNOWN_MEMBER_ID),
        (("nobody", generation), UNKNOWN_MEMBER_ID),
        ((id.as_str(), generation + 1), ILLEGAL_GENERATION),
        ((id.as_str(), generation), 0),
    ] {
        let found = wire.commit(&group, who, &topic, 2, "").await?;
        ensure!(found == code, "{who:?}: {found}, not {code}");
    }
    ensure!(member.leave().await? == 0, "leaving is refused");
    ensure!(wire.commit(&group, ("", -1), &topic, 4, "").await? == 0, "empty again");
    ensure!(
        wire.committed(&group, &topic, false).await?.committed_offset == 4,
        "the last commit"
    );
    Ok(())
}

async fn delete_group(wire: &Wire, group: &str) -> Result<i16> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
    let answer = wire.call(&request, 1).await?;
    Ok(answer.results.first().context("no result")?.error_code)
}

async fn delete_offset(wire: &Wire, group: &str, topic: &str) -> Result<(i16, Option<i16>)> {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(vec![topic]);
    let answer = wire.call(&request, 0).await?;
    let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    Ok((answer.error_code, partition.map(|partition| partition.error_code)))
}

/// Offsets and groups are deleted once the group is empty: 68 while it is not, 69 when there is none.
///
/// # Errors
/// When the law does not hold.
pub async fn offsets_and_groups_are_deleted(bootstrap: &str) -> Result<()> {
    let (group, topic) = (unique("deletion"), unique("deletion"));
    let wire = Wire::to_coordinator(bootstrap, &group, 0).await?;
    wire.create_topic(&topic, 1, &[]).await?;
    ensure!(
        delete_group(&wire, &group).await? == GROUP_ID_NOT_FOUND,
        "a group that never was"
    );
    ensure!(
        wire.commit(&group, ("", -1), &topic, 1, "").await? == 0,
        "commit refused"
    );
    let mut member = Member::new(bootstrap, &group, "connect").await?;
    member.join().await?;
    ensure!(member.sync(&[]).await?.error_code == 0, "sync refused");
    let described = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(&group))]);
    let answer = wire.call(&described, 4).await?;
    let description = answer.groups.first().context("no description")?;
    ensure!(
        description.group_state.as_str() == "Stable",
        "state {:?}",
        description.group_state
    );
    ensure!(
        description.protocol_type.as_str() == "connect",
        "type {:?}",
        description.protocol_type
    );
    ensure!(description.members.len() == 1, "members {:?}", description.members);

    ensure!(
        delete_group(&wire, &group).await? == NON_EMPTY_GROUP,
        "a group with a member"
    );
    let (code, _) = delete_offset(&wire, &group, &topic).await?;
    ensure!(code == NON_EMPTY_GROUP, "offsets of a group with a member: {code}");
    ensure!(member.leave().await? == 0, "leaving is refused");
    let answer = wire.call(&described, 4).await?;
    let description = answer.groups.first().context("no description")?;
    ensure!(
        description.group_state.as_str() == "Empty",
        "state {:?}",
        description.group_state
    );

    let deleted = delete_offset(&wire, &group, &topic).await?;
    ensure!(deleted == (0, Some(0)), "deletion of an offset: {deleted:?}");
    ensure!(
        wire.committed(&group, &topic, false).await?.committed_offset == -1,
        "still there"
    );
    ensure!(
        wire.commit(&group, ("", -1), &topic, 5, "").await? == 0,
        "commit refused"
    );
    ensure!(delete_group(&wire, &group).await? == 0, "deletion refused");
    ensure!(
        wire.committed(&group, &topic, false).await?.committed_offset == -1,
        "still there"
    );
    ensure!(
        delete_group(&wire, &group).await? == GROUP_ID_NOT_FOUND,
        "deleted twice"
    );
    let answer = wire.call(&described, 4).await?;
    let description = answer.groups.first().context("no description")?;
    ensure!(
        description.group_state.as_str() == "Dead",
        "state {:?}",
        description.group_state
    );
    Ok(())
}
