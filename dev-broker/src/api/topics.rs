//! Topics: create, delete, more partitions.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::RequestContext;
use super::configs::{SOURCE_DEFAULT, SOURCE_TOPIC};
use crate::state::{Broker, Refusal};
use crate::topic_config::SETTINGS;
use crate::topics::Topic;

/// Creates topics, each on its own.
pub fn create_topics(broker: &Broker, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let results = request.topics.iter().map(|wanted| {
        let repeated = request.topics.iter().filter(|other| other.name == wanted.name).count() > 1;
        let created = if repeated {
            Err(Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name."))
        } else {
            create_topic(broker, wanted, request.validate_only)
        };
        let result = CreatableTopicResult::default().with_name(wanted.name.clone());
        match created {
            Ok(topic) => result
                .with_topic_id(topic.id)
                .with_num_partitions(i32::try_from(topic.partition_count()).unwrap_or(i32::MAX))
                .with_replication_factor(1)
                .with_error_message(None)
                .with_configs(Some(describe_configs(&topic))),
            Err(refusal) => result
                .with_error_code(refusal.error.code())
                .with_error_message(Some(StrBytes::from_string(refusal.message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn create_topic(
    broker: &Broker,
    wanted: &CreatableTopic,
    validate_only: bool,
) -> Result<std::sync::Arc<Topic>, Refusal> {
    let assigned = i32::try_from(wanted.assignments.len()).unwrap_or(i32::MAX);
    let partitions = if assigned > 0 { assigned } else { wanted.num_partitions };
    if assigned == 0 && !matches!(wanted.replication_factor, -1 | 1) {
        let message = format!(
            "Unable to replicate the partition {} time(s): this broker is the only one.",
            wanted.replication_factor
        );
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, message));
    }
    let own = wanted.configs.iter().filter_map(|config| {
        let value = config.value.as_ref()?;
        Some((config.name.to_string(), value.to_string()))
    });
    broker.create_topic(wanted.name.as_str(), partitions, own.collect(), validate_only)
}

fn describe_configs(topic: &Topic) -> Vec<CreatableTopicConfigs> {
    let config = topic.config.read();
    let described = SETTINGS.iter().map(|setting| {
        let is_own = config.own().contains_key(setting.name);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(setting.name))
            .with_value(Some(StrBytes::from_string(config.value(setting))))
            .with_config_source(if is_own { SOURCE_TOPIC } else { SOURCE_DEFAULT })
    });
    described.collect()
}

/// Deletes topics by name or (version 6) by id.
pub fn delete_topics(broker: &Broker, context: &RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = |name: TopicName| {
        let result = broker.delete_topic(name.as_str());
        let answer = DeletableTopicResult::default()
            .with_error_code(super::code(&result))
            .with_name(Some(name));
        match result {
            Ok(topic) => answer.with_topic_id(topic.id),
            Err(_) => answer,
        }
    };
    let responses = if context.version < 6 {
        request.topic_names.into_iter().map(by_name).collect()
    } else {
        let wanted = request.topics.into_iter().map(|wanted| {
            let known = broker.topics.get_by_id(wanted.topic_id).map(|topic| topic.name.clone());
            match wanted.name.or(known.map(TopicName)) {
                Some(name) => by_name(name),
                None => DeletableTopicResult::default()
                    .with_name(None)
                    .with_topic_id(wanted.topic_id)
                    .with_error_code(ResponseError::UnknownTopicId.code()),
            }
        });
        wanted.collect()
    };
    DeleteTopicsResponse::default().with_responses(responses)
}

/// Adds partitions.
pub fn create_partitions(broker: &Broker, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|wanted| {
        let created = broker.create_partitions(wanted.name.as_str(), wanted.count, request.validate_only);
        let result = CreatePartitionsTopicResult::default().with_name(wanted.name);
        match created {
            Ok(()) => result.with_error_message(None),
            Err(refusal) => result
                .with_error_code(refusal.error.code())
                .with_error_message(Some(StrBytes::from_string(refusal.message))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}
