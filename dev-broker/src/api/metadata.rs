//! Who is there: the one node, its topics, and that it coordinates everything.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest,
    MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::RequestContext;
use crate::batch::LEADER_EPOCH;
use crate::state::Broker;
use crate::topics::{Topic, is_valid_name};

/// Id of the one node.
const NODE: BrokerId = BrokerId(1);

/// The node and the wanted topics; topics that are asked for by name may be created by it.
pub fn metadata(broker: &Broker, context: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let may_create = broker.config.auto_create_topics && (context.version < 4 || request.allow_auto_topic_creation);
    // Version 0 has no null list: there an empty one means all.
    let wanted = request
        .topics
        .filter(|topics| context.version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => broker.topics.all().iter().map(describe).collect(),
        Some(wanted) => {
            let described = wanted.into_iter().map(|wanted| match wanted.name {
                Some(name) => by_name(broker, name, may_create),
                None => match broker.topics.get_by_id(wanted.topic_id) {
                    Some(topic) => describe(&topic),
                    None => MetadataResponseTopic::default()
                        .with_topic_id(wanted.topic_id)
                        .with_name(None)
                        .with_error_code(ResponseError::UnknownTopicId.code()),
                },
            });
            described.collect()
        }
    };
    let node = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(broker.host.clone())
        .with_port(broker.port);
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(broker.cluster_id.clone()))
        .with_controller_id(NODE)
        .with_topics(topics)
}

fn by_name(broker: &Broker, name: TopicName, may_create: bool) -> MetadataResponseTopic {
    let topic = match broker.topics.get(name.as_str()) {
        Some(topic) => Ok(topic),
        None if !is_valid_name(name.as_str()) => Err(ResponseError::InvalidTopicException),
        None if may_create => broker
            .create_topic(name.as_str(), -1, Default::default(), false)
            .map_err(|refusal| refusal.error),
        None => Err(ResponseError::UnknownTopicOrPartition),
    };
    match topic {
        Ok(topic) => describe(&topic),
        Err(error) => MetadataResponseTopic::default()
            .with_name(Some(name))
            .with_error_code(error.code()),
    }
}

fn describe(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = (0..topic.partition_count()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
            .with_leader_id(NODE)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(topic.name.clone())))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

/// The cluster: one node.
pub fn describe_cluster(broker: &Broker) -> DescribeClusterResponse {
    let node = DescribeClusterBroker::default()
        .with_broker_id(NODE)
        .with_host(broker.host.clone())
        .with_port(broker.port);
    DescribeClusterResponse::default()
        .with_cluster_id(broker.cluster_id.clone())
        .with_controller_id(NODE)
        .with_brokers(vec![node])
}

/// The coordinator of a group (type 0) or a transactional id (type 1): the one node.
pub fn find_coordinator(
    broker: &Broker,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let error = match request.key_type {
        0 | 1 => 0,
        _ => ResponseError::InvalidRequest.code(),
    };
    if context.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(None::<StrBytes>)
            .with_node_id(NODE)
            .with_host(broker.host.clone())
            .with_port(broker.port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(error)
            .with_node_id(NODE)
            .with_host(broker.host.clone())
            .with_port(broker.port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}
