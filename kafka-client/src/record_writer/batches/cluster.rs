//! Where partitions and coordinators are, and the connections to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DescribeConfigsRequest, FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::Connection;
use crate::config::ClientConfig;
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::error_of;
use crate::topic_identity::TopicIdentity;
use crate::topic_partition::{TopicId, host_and_port};

/// Between two attempts at what may succeed later.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A topic that is not there by then will not be created by the broker. Everybody else's records wait meanwhile.
const TOPIC_PATIENCE: Duration = Duration::from_secs(1);
/// What a broker answers for a topic that is not there.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = ErrorCode::UnknownTopicOrPartition as i16;
/// FindCoordinator's key type of transactions.
const TRANSACTION: i8 = 1;

/// Versions whose layout this file and its callers know.
const METADATA: i16 = 9;
const METADATA_WITH_IDS: i16 = 12;
const FIND_COORDINATOR: i16 = 3;
const DESCRIBE_CONFIGS: i16 = 4;
/// The kind of resource that a topic is, of DescribeConfigs.
const TOPIC_RESOURCE: i8 = 2;

/// The cluster as far as it was asked for.
pub(super) struct Cluster {
    bootstrap: Vec<String>,
    client_id: String,
    request_timeout: Duration,
    addresses: HashMap<i32, String>,
    connections: HashMap<String, Connection>,
    topics: HashMap<String, Topic>,
    max_age: Duration,
    /// whether brokers may make topics that are not there (`allow.auto.create.topics`)
    may_create: bool,
}

struct Topic {
    /// by partition; -1 for none
    leaders: Vec<i32>,
    asked: Instant,
}

impl Cluster {
    pub fn new(config: &ClientConfig) -> Result<Cluster, KafkaError> {
        let bootstrap: Vec<String> = config
            .get("bootstrap.servers")
            .unwrap_or_default()
            .split(',')
            .map(|server| server.trim().rsplit("://").next().unwrap_or_default().to_owned())
            .filter(|server| !server.is_empty())
            .collect();
        if bootstrap.is_empty() {
            return Err(KafkaError::option("bootstrap.servers", "names no server"));
        }
        Ok(Cluster {
            bootstrap,
            client_id: config.get("client.id").unwrap_or_default().to_owned(),
            request_timeout: super::millis_option(config, "request.timeout.ms", 30_000)?,
            addresses: HashMap::new(),
            connections: HashMap::new(),
            topics: HashMap::new(),
            max_age: super::millis_option(config, "metadata.max.age.ms", 300_000)?,
            may_create: !config
                .get("allow.auto.create.topics")
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("false")),
        })
    }

    /// The time that one request has.
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// The leader of a partition, as far as it is known.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let leaders = &self.topics.get(topic)?.leaders;
        leaders
            .get(usize::try_from(partition).ok()?)
            .copied()
            .filter(|leader| *leader >= 0)
    }

    /// The number of partitions of a topic, asked for once.
    pub fn partitions(&mut self, topic: &str) -> Result<i32, KafkaError> {
        if !self.topics.contains_key(topic) {
            self.refresh(&[topic])?;
        }
        let leaders = self.topics.get(topic).map_or(0, |topic| topic.leaders.len());
        Ok(i32::try_from(leaders).unwrap_or(i32::MAX))
    }

    /// Topics whose metadata is older than `metadata.max.age.ms`.
    pub fn aged(&self) -> Vec<String> {
        let aged = self
            .topics
            .iter()
            .filter(|(_, topic)| topic.asked.elapsed() > self.max_age);
        aged.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets a topic, so that it is asked for when it is needed again.
    pub fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Asks for topics again, waiting a little for those that are just being created.
    pub fn refresh(&mut self, topics: &[&str]) -> Result<(), KafkaError> {
        let deadline = Instant::now() + TOPIC_PATIENCE;
        for topic in topics {
            self.topics.remove(*topic);
        }
        let mut missing: Vec<&str> = topics.to_vec();
        loop {
            let names = missing.iter().map(|topic| {
                let name = TopicName(StrBytes::from_string((*topic).to_owned()));
                MetadataRequestTopic::default().with_name(Some(name))
            });
            let request = MetadataRequest::default()
                .with_topics(Some(names.collect()))
                .with_allow_auto_topic_creation(self.may_create);
            let answer: MetadataResponse = self.ask_any(&request, METADATA)?;
            self.take_brokers(&answer);
            let failed = self.take_topics(&answer);
            missing.retain(|topic| !self.topics.contains_key(*topic));
            let Some(topic) = missing.first() else { return Ok(()) };
            let error = failed.into_iter().find(|(name, _)| name == topic);
            let code = error.map_or(UNKNOWN_TOPIC_OR_PARTITION, |(_, code)| code);
            let error = error_of(i32::from(code), format!("metadata of topic {topic}"));
            if !error.is_retriable() || Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    /// Topics as a broker tells of them now, in the order asked; `None` for one that is not there. Never has them made.
    pub fn describe(&mut self, names: &[&str]) -> Result<Vec<Option<TopicIdentity>>, KafkaError> {
        let topics = names.iter().map(|name| {
            let name = TopicName(StrBytes::from_string((*name).to_owned()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        let request = MetadataRequest::default()
            .with_topics(Some(topics.collect()))
            .with_allow_auto_topic_creation(false);
        let answer = self.ask_any(&request, METADATA_WITH_IDS)?;
        let described = names.iter().map(|name| {
            let found = answer
                .topics
                .iter()
                .find(|topic| topic.name.as_ref().is_some_and(|found| found.as_str() == *name));
            match found {
                Some(topic) if topic.error_code == 0 => Ok(Some(TopicIdentity {
                    name: Arc::from(*name),
                    id: TopicId::from_bytes(*topic.topic_id.as_bytes()),
                    partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                })),
                Some(topic) if topic.error_code != UNKNOWN_TOPIC_OR_PARTITION => {
                    Err(error_of(i32::from(topic.error_code), format!("describe topic {name}")))
                }
                _ => Ok(None),
            }
        });
        described.collect()
    }

    /// The bytes that a batch for a topic may have; none where brokers do not say (a right that is missing, or no answer).
    pub fn max_message_bytes(&mut self, topic: &str) -> Option<usize> {
        let option = StrBytes::from_static_str("max.message.bytes");
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(StrBytes::from_string(topic.to_owned()))
            .with_configuration_keys(Some(vec![option.clone()]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.ask_any(&request, DESCRIBE_CONFIGS).ok()?;
        let mut options = answer.results.iter().flat_map(|result| &result.configs);
        options.find(|found| found.name == option)?.value.as_ref()?.parse().ok()
    }

    fn take_brokers(&mut self, answer: &MetadataResponse) {
        for broker in &answer.brokers {
            self.addresses
                .insert(broker.node_id.0, host_and_port(&broker.host, broker.port));
        }
    }

    /// Keeps the topics that are there; gives what is wrong with the others.
    fn take_topics(&mut self, answer: &MetadataResponse) -> Vec<(String, i16)> {
        let mut failed = Vec::new();
        for topic in &answer.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            if topic.error_code != 0 || topic.partitions.is_empty() {
                failed.push((name, topic.error_code));
                continue;
            }
            let mut leaders = vec![-1; topic.partitions.len()];
            for partition in &topic.partitions {
                let place = usize::try_from(partition.partition_index).ok();
                if let Some(leader) = place.and_then(|place| leaders.get_mut(place)) {
                    *leader = partition.leader_id.0;
                }
            }
            let asked = Instant::now();
            self.topics.insert(name, Topic { leaders, asked });
        }
        failed
    }

    /// The coordinator of a transactional id.
    pub fn coordinator(&mut self, transactional_id: &str) -> Result<i32, KafkaError> {
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(transactional_id.to_owned()))
            .with_key_type(TRANSACTION);
        let answer = self.ask_any(&request, FIND_COORDINATOR)?;
        if answer.error_code != 0 {
            let doing = format!("find the coordinator of {transactional_id}");
            return Err(error_of(i32::from(answer.error_code), doing));
        }
        self.addresses
            .insert(answer.node_id.0, host_and_port(&answer.host, answer.port));
        Ok(answer.node_id.0)
    }

    /// A broker that answers.
    pub fn any_broker(&mut self) -> Result<i32, KafkaError> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let answer = self.ask_any(&request, METADATA)?;
        self.take_brokers(&answer);
        let first = answer.brokers.first().map(|broker| broker.node_id.0);
        first.ok_or_else(|| KafkaError::new(ErrorCode::AllBrokersDown, "the metadata names no broker"))
    }

    /// Sends a request to one broker and waits for the response.
    pub fn call<R: Request>(&mut self, broker: i32, request: &R, at_most: i16) -> Result<R::Response, KafkaError> {
        let answer = self.connection(broker)?.call(request, at_most);
        if answer.is_err() {
            self.disconnect(broker);
        }
        answer
    }

    /// The connection to a broker, made if there is none.
    pub fn connection(&mut self, broker: i32) -> Result<&mut Connection, KafkaError> {
        let address = self.addresses.get(&broker).cloned().ok_or_else(|| {
            KafkaError::new(
                ErrorCode::BrokerNotAvailable,
                format!("broker {broker} is not in the metadata"),
            )
        })?;
        self.connect(&address)
    }

    /// Forgets a connection that has failed.
    pub fn disconnect(&mut self, broker: i32) {
        if let Some(address) = self.addresses.get(&broker) {
            self.connections.remove(address);
        }
    }

    fn connect(&mut self, address: &str) -> Result<&mut Connection, KafkaError> {
        if !self.connections.contains_key(address) {
            let connection = Connection::open(address, &self.client_id, self.request_timeout)?;
            self.connections.insert(address.to_owned(), connection);
        }
        self.connections
            .get_mut(address)
            .ok_or_else(|| KafkaError::new(ErrorCode::BrokerTransportFailure, address))
    }

    /// Asks whichever broker answers: known ones first, then those of `bootstrap.servers`.
    fn ask_any<R: Request>(&mut self, request: &R, at_most: i16) -> Result<R::Response, KafkaError> {
        let known = self.addresses.values().chain(&self.bootstrap).cloned();
        let mut last = KafkaError::new(ErrorCode::AllBrokersDown, "no broker is known");
        for address in known.collect::<Vec<_>>() {
            match self
                .connect(&address)
                .and_then(|connection| connection.call(request, at_most))
            {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.connections.remove(&address);
                    last = error;
                }
            }
        }
        Err(last)
    }
}
