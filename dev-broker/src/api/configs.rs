//! Settings of topics, and the few of the broker that clients ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_response,
    incremental_alter_configs_request, incremental_alter_configs_response,
};
use kafka_protocol::protocol::StrBytes;

use crate::state::{Broker, Refusal};
use crate::topic_config::{self, SETTINGS};
use crate::topics::Topic;

/// The topic itself sets it.
pub const SOURCE_TOPIC: i8 = 1;
/// The broker's own start settings.
const SOURCE_BROKER: i8 = 4;
/// Nobody sets it.
pub const SOURCE_DEFAULT: i8 = 5;

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Describes topics and the broker.
pub fn describe(broker: &Broker, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let configs = describe_resource(broker, &resource);
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match configs {
            Ok(configs) => result.with_error_message(None).with_configs(configs),
            Err(refusal) => result
                .with_error_code(refusal.error.code())
                .with_error_message(Some(StrBytes::from_string(refusal.message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe_resource(
    broker: &Broker,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let is_wanted = |name: &str| match &resource.configuration_keys {
        Some(keys) => keys.iter().any(|key| key.as_str() == name),
        None => true,
    };
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let topic = find_topic(broker, resource.resource_name.as_str())?;
            let config = topic.config.read();
            let described = SETTINGS.iter().filter(|setting| is_wanted(setting.name));
            let described = described.map(|setting| {
                let is_own = config.own().contains_key(setting.name);
                DescribeConfigsResourceResult::default()
                    .with_name(StrBytes::from_static_str(setting.name))
                    .with_value(Some(StrBytes::from_string(config.value(setting))))
                    .with_config_source(if is_own { SOURCE_TOPIC } else { SOURCE_DEFAULT })
                    .with_config_type(setting.config_type)
            });
            Ok(described.collect())
        }
        RESOURCE_BROKER => {
            let settings = broker_settings(broker);
            let described = settings.into_iter().filter(|(name, _)| is_wanted(name));
            let described = described.map(|(name, value)| {
                DescribeConfigsResourceResult::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_value(Some(StrBytes::from_string(value)))
                    .with_read_only(true)
                    .with_config_source(SOURCE_BROKER)
            });
            Ok(described.collect())
        }
        other => Err(unsupported(other)),
    }
}

fn broker_settings(broker: &Broker) -> Vec<(&'static str, String)> {
    let config = &broker.config;
    vec![
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("default.replication.factor", "1".to_owned()),
        (
            "group.max.session.timeout.ms",
            config.group_max_session_timeout.as_millis().to_string(),
        ),
        (
            "group.min.session.timeout.ms",
            config.group_min_session_timeout.as_millis().to_string(),
        ),
        ("num.partitions", config.default_partitions.to_string()),
        (
            "transaction.max.timeout.ms",
            config.transaction_max_timeout.as_millis().to_string(),
        ),
    ]
}

fn find_topic(broker: &Broker, name: &str) -> Result<Arc<Topic>, Refusal> {
    broker.topics.get(name).ok_or_else(|| {
        let message = format!("The topic '{name}' does not exist.");
        Refusal::new(ResponseError::UnknownTopicOrPartition, message)
    })
}

fn unsupported(resource_type: i8) -> Refusal {
    let message = format!("resource type {resource_type} has no settings that this broker keeps");
    Refusal::new(ResponseError::InvalidRequest, message)
}

/// Replaces all of a topic's own settings.
pub fn alter(broker: &Broker, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let responses = request.resources.into_iter().map(|resource| {
        let own = resource
            .configs
            .iter()
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
        let own = own.collect();
        let result = match resource.resource_type {
            RESOURCE_TOPIC => find_topic(broker, resource.resource_name.as_str())
                .and_then(|topic| broker.set_topic_config(&topic, own, request.validate_only)),
            other => Err(unsupported(other)),
        };
        let (code, message) = outcome(result);
        alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(code)
            .with_error_message(message)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

/// Changes single settings of topics.
pub fn incremental_alter(broker: &Broker, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.into_iter().map(|resource| {
        let result = alter_topic(broker, &resource, request.validate_only);
        let (code, message) = outcome(result);
        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(code)
            .with_error_message(message)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn outcome(result: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (0, None),
        Err(refusal) => (refusal.error.code(), Some(StrBytes::from_string(refusal.message))),
    }
}

fn alter_topic(
    broker: &Broker,
    resource: &incremental_alter_configs_request::AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    if resource.resource_type != RESOURCE_TOPIC {
        return Err(unsupported(resource.resource_type));
    }
    let topic = find_topic(broker, resource.resource_name.as_str())?;
    let mut own = topic.config.read().own().clone();
    for change in &resource.configs {
        let value = change.value.as_ref().map_or("", |value| value.as_str());
        apply(&mut own, change.name.as_str(), change.config_operation, value)?;
    }
    broker.set_topic_config(&topic, own, validate_only)
}

fn apply(own: &mut BTreeMap<String, String>, name: &str, operation: i8, value: &str) -> Result<(), Refusal> {
    let items = |text: &str| -> Vec<String> {
        let items = text.split(',').map(|item| item.trim().to_owned());
        items.filter(|item| !item.is_empty()).collect()
    };
    let default = topic_config::find(name).map_or("", |setting| setting.default);
    let mut list = items(own.get(name).map_or(default, String::as_str));
    match operation {
        SET => {
            own.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        DELETE => {
            own.remove(name);
            return Ok(());
        }
        APPEND => {
            let more: Vec<String> = items(value).into_iter().filter(|item| !list.contains(item)).collect();
            list.extend(more);
        }
        SUBTRACT => list.retain(|item| !items(value).contains(item)),
        other => {
            let message = format!("operation {other} on {name} is not known");
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
    }
    own.insert(name.to_owned(), list.join(","));
    Ok(())
}
