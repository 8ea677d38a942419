//! Offsets of groups: commit, in a transaction or not, fetch, delete.

use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::{RequestContext, code};
use crate::committed_offsets::{CommittedOffset, PartitionKey};
use crate::groups::group::{Group, GroupState};
use crate::restored::ProducerIdentity;
use crate::state::Broker;
use crate::storage::journal::Entry;

/// Longest note that a client may put with an offset, bytes.
const MAX_METADATA: usize = 4096;

/// One partition of a commit, and whether it may be committed.
struct Wanted {
    key: PartitionKey,
    offset: CommittedOffset,
    check: Result<(), ResponseError>,
}

fn wanted(
    broker: &Broker,
    topic: &str,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&StrBytes>,
) -> Wanted {
    let metadata = metadata.map(|text| text.to_string()).unwrap_or_default();
    let check = if metadata.len() > MAX_METADATA {
        Err(ResponseError::OffsetMetadataTooLarge)
    } else {
        broker.topics.partition(topic, partition).map(|_| ())
    };
    let offset = CommittedOffset {
        offset,
        leader_epoch,
        metadata,
    };
    Wanted {
        key: (topic.to_owned(), partition),
        offset,
        check,
    }
}

fn accepted<'a>(wanted: impl Iterator<Item = &'a Wanted>) -> Vec<(PartitionKey, CommittedOffset)> {
    let accepted = wanted.filter(|wanted| wanted.check.is_ok());
    accepted
        .map(|wanted| (wanted.key.clone(), wanted.offset.clone()))
        .collect()
}

/// Commits offsets, as a member of the group or (generation -1) from outside while it is empty.
pub fn commit(broker: &Broker, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let group_id = request.group_id.as_str();
    let topics: Vec<(TopicName, Vec<Wanted>)> = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                wanted(
                    broker,
                    topic.name.as_str(),
                    partition.partition_index,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    partition.committed_metadata.as_ref(),
                )
            });
            (topic.name.clone(), partitions.collect())
        })
        .collect();
    let offsets = accepted(topics.iter().flat_map(|(_, partitions)| partitions));
    let act = |group: &mut Group| {
        check_commit(group, &request)?;
        group.offsets.committed.extend(offsets.iter().cloned());
        broker.groups.record_offsets(group_id, offsets.clone());
        Ok(())
    };
    let result = if group_id.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else if request.generation_id_or_member_epoch < 0 {
        broker.groups.with_group_created(group_id, act)
    } else {
        broker.groups.with_group(group_id, |group| match group {
            Some(group) => act(group),
            None => Err(ResponseError::IllegalGeneration),
        })
    };
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|wanted| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(wanted.key.1)
                .with_error_code(code(&result.and(wanted.check)))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn check_commit(group: &mut Group, request: &OffsetCommitRequest) -> Result<(), ResponseError> {
    let generation = request.generation_id_or_member_epoch;
    if generation < 0 && group.state() == GroupState::Empty {
        return Ok(());
    }
    let instance_id = request.group_instance_id.as_ref();
    group.check_member(&request.member_id, instance_id, generation)?;
    match group.heartbeat(&request.member_id, instance_id, generation, Instant::now()) {
        // A member may commit what it has while the others are asked to join again.
        Err(ResponseError::RebalanceInProgress) => Ok(()),
        other => other,
    }?;
    match group.state() {
        GroupState::CompletingRebalance => Err(ResponseError::RebalanceInProgress),
        _ => Ok(()),
    }
}

/// Commits offsets as part of a producer's transaction: they count once it has committed.
pub fn commit_in_transaction(broker: &Broker, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let topics: Vec<(TopicName, Vec<Wanted>)> = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                wanted(
                    broker,
                    topic.name.as_str(),
                    partition.partition_index,
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    partition.committed_metadata.as_ref(),
                )
            });
            (topic.name.clone(), partitions.collect())
        })
        .collect();
    let offsets = accepted(topics.iter().flat_map(|(_, partitions)| partitions));
    let result = add_pending(broker, &request, offsets);
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|wanted| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(wanted.key.1)
                .with_error_code(code(&result.and(wanted.check)))
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

fn add_pending(
    broker: &Broker,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<(PartitionKey, CommittedOffset)>,
) -> Result<(), ResponseError> {
    let group_id = request.group_id.as_str();
    let producer_id = request.producer_id.0;
    let producer = ProducerIdentity {
        producer_id,
        epoch: request.producer_epoch,
    };
    let transactions = broker.transactions.lock();
    transactions.check_offsets(request.transactional_id.as_str(), producer, group_id)?;
    broker.groups.with_group_created(group_id, |group| {
        let speaks_as_member = request.generation_id >= 0 || !request.member_id.is_empty();
        if speaks_as_member {
            let instance_id = request.group_instance_id.as_ref();
            group.check_member(&request.member_id, instance_id, request.generation_id)?;
        }
        let pending = group.offsets.pending.entry(producer_id).or_default();
        pending.extend(offsets.iter().cloned());
        let group = group_id.to_owned();
        broker.journal.record(&Entry::PendingOffsets {
            group,
            producer_id,
            offsets,
        });
        Ok(())
    })
}

/// An answer for one partition: offset, leader epoch, metadata, error.
type Found = (PartitionKey, i64, i32, String, i16);

fn find(broker: &Broker, group_id: &str, wanted: Option<Vec<PartitionKey>>, require_stable: bool) -> Vec<Found> {
    broker.groups.with_group(group_id, |group| {
        let none = Default::default();
        let offsets = group.map_or(&none, |group| &group.offsets);
        let wanted = wanted.unwrap_or_else(|| offsets.committed.keys().cloned().collect());
        let found = wanted.into_iter().map(|key| {
            if require_stable && offsets.is_unstable(&key) {
                let error = ResponseError::UnstableOffsetCommit.code();
                return (key, -1, -1, String::new(), error);
            }
            match offsets.committed.get(&key) {
                Some(found) => (key, found.offset, found.leader_epoch, found.metadata.clone(), 0),
                None => (key, -1, -1, String::new(), 0),
            }
        });
        found.collect()
    })
}

fn keys<'a>(name: &'a TopicName, partitions: &'a [i32]) -> impl Iterator<Item = PartitionKey> + 'a {
    partitions.iter().map(|partition| (name.to_string(), *partition))
}

/// Groups what was found by topic, in the order found.
fn by_topic(found: Vec<Found>) -> Vec<(TopicName, Vec<Found>)> {
    let mut topics: Vec<(TopicName, Vec<Found>)> = Vec::new();
    for item in found {
        match topics.iter_mut().find(|(name, _)| name.as_str() == item.0.0) {
            Some((_, items)) => items.push(item),
            None => {
                let name = TopicName(StrBytes::from_string(item.0.0.clone()));
                topics.push((name, vec![item]));
            }
        }
    }
    topics
}

/// Committed offsets of one group, or (version 8) of several.
pub fn fetch(broker: &Broker, context: &RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if context.version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let wanted = group.topics.as_ref().map(|topics| {
                let keys = topics
                    .iter()
                    .flat_map(|topic| keys(&topic.name, &topic.partition_indexes));
                keys.collect()
            });
            let found = find(broker, group.group_id.as_str(), wanted, require_stable);
            let topics = by_topic(found).into_iter().map(|(name, found)| {
                let partitions = found.into_iter().map(|(key, offset, epoch, metadata, error)| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(key.1)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch)
                        .with_metadata(Some(StrBytes::from_string(metadata)))
                        .with_error_code(error)
                });
                let partitions = partitions.collect();
                OffsetFetchResponseTopics::default()
                    .with_name(name)
                    .with_partitions(partitions)
            });
            let topics = topics.collect();
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id)
                .with_topics(topics)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let wanted = request.topics.as_ref().map(|topics| {
        topics
            .iter()
            .flat_map(|topic| keys(&topic.name, &topic.partition_indexes))
            .collect()
    });
    let found = find(broker, request.group_id.as_str(), wanted, require_stable);
    let topics = by_topic(found).into_iter().map(|(name, found)| {
        let partitions = found.into_iter().map(|(key, offset, epoch, metadata, error)| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(key.1)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(StrBytes::from_string(metadata)))
                .with_error_code(error)
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

/// Deletes offsets of topics that no member of the group is subscribed to.
pub fn delete(broker: &Broker, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group_id = request.group_id.as_str();
    let result: Result<_, ResponseError> = broker.groups.with_group(group_id, |group| {
        let group = group.ok_or(ResponseError::GroupIdNotFound)?;
        let subscribed = subscribed_topics(group)?;
        let mut deleted = Vec::new();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let key = (topic.name.to_string(), partition.partition_index);
                let is_subscribed = subscribed.contains(&topic.name);
                let check = if is_subscribed {
                    Err(ResponseError::GroupSubscribedToTopic)
                } else {
                    broker.topics.partition(&key.0, key.1).map(|_| ())
                };
                if check.is_ok() && group.offsets.committed.remove(&key).is_some() {
                    deleted.push(key);
                }
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code(&check))
            });
            let partitions = partitions.collect();
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        });
        let topics = topics.collect();
        if !deleted.is_empty() {
            let group = group_id.to_owned();
            broker.journal.record(&Entry::OffsetsDeleted {
                group,
                partitions: deleted,
            });
        }
        Ok(topics)
    });
    match result {
        Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    }
}

/// Topics that members of a consumer group are subscribed to. A group of another type must be
/// empty: what its members use cannot be known.
fn subscribed_topics(group: &Group) -> Result<Vec<TopicName>, ResponseError> {
    if group.is_empty() {
        return Ok(Vec::new());
    }
    if group.protocol_type.as_ref().map(|name| name.as_str()) != Some("consumer") {
        return Err(ResponseError::NonEmptyGroup);
    }
    let mut topics = Vec::new();
    for member in group.members() {
        for (_, metadata) in &member.protocols {
            let mut metadata = metadata.clone();
            let Ok(version) = bytes::Buf::try_get_i16(&mut metadata) else {
                continue;
            };
            let version = version.clamp(0, 3);
            if let Ok(subscription) = ConsumerProtocolSubscription::decode(&mut metadata, version) {
                topics.extend(subscription.topics.into_iter().map(TopicName));
            }
        }
    }
    Ok(topics)
}
