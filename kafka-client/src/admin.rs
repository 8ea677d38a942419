//! Administration: topics, configurations, offsets, groups, fencing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;

use crate::clock::millis;
use crate::cluster_description::{ConfigChange, GroupDescription, NewTopic, TopicDescription};
use crate::config::{ClientConfig, ClientKind};
use crate::error::Remedy;
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::{Callbacks, Client, OffsetSpec, TopicHandles};
use crate::topic_partition::{IsolationLevel, TopicPartition};

/// How often a request is sent again whose broker's handle has gone.
const HANDLES_THAT_GO: usize = 3;

/// How long a call may take where neither `default.api.timeout.ms` nor `request.timeout.ms` is set: Java's default.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a partition may be without a leader before that is an error.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// Between the first two looks for a leader; the next pauses are twice as long each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long the first request for offsets is waited for, and each one after it twice as long.
///
/// librdkafka loses the question who leads a partition when it takes the broker's handle away that it went to, as it does with
/// those of `bootstrap.servers` once the cluster's own are known, and asks it again after 3 s only.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);

/// Administration of a cluster. Clones share one connection. Calls are cancel-safe in the sense that a dropped call goes
/// on without anybody to see its result.
#[derive(Clone)]
pub struct Admin {
    client: Arc<Client>,
    timeout: Duration,
    config: Arc<ClientConfig>,
}

impl Admin {
    /// Administration with this configuration.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the option. An unreachable server is not an error here.
    pub fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        let options = config.translated(ClientKind::Admin)?;
        let client = Arc::new(Client::new(ClientKind::Admin, &options, Callbacks::default())?);
        let timeout = ["default.api.timeout.ms", "request.timeout.ms"]
            .iter()
            .find_map(|name| config.get(name))
            .and_then(|text| text.trim().parse().ok())
            .map_or(TIMEOUT, Duration::from_millis);
        Ok(Self {
            client,
            timeout,
            config: Arc::new(config.clone()),
        })
    }

    pub(crate) fn of(client: Arc<Client>, config: Arc<ClientConfig>) -> Self {
        Self {
            client,
            timeout: TIMEOUT,
            config,
        }
    }

    /// The same administration with another limit for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs a blocking call off the async threads.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Client, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let (client, timeout) = (Arc::clone(&self.client), self.timeout);
        tokio::task::spawn_blocking(move || call(&client, timeout))
            .await
            .unwrap_or_else(|error| {
                Err(KafkaError::new(
                    ErrorCode::Fail,
                    format!("administrative call: {error}"),
                ))
            })
    }

    /// Runs a blocking call that changes nothing, again where librdkafka takes the handle of the broker that was asked away, as it
    /// does with one of `bootstrap.servers` when the cluster's own brokers become known.
    async fn read<T: Send + 'static>(
        &self,
        call: impl Fn(&Client, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        self.call(move |client, timeout| {
            for _ in 0..HANDLES_THAT_GO {
                match call(client, timeout) {
                    Err(error) if error.code == ErrorCode::DestroyBroker => {}
                    other => return other,
                }
            }
            call(client, timeout)
        })
        .await
    }

    /// Creates topics: one result each. `TopicAlreadyExists` tells that one is there (with what partitions and options, is
    /// not looked at).
    ///
    /// # Errors
    /// When the request as a whole fails.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
    ) -> Result<Vec<(String, Result<(), KafkaError>)>, KafkaError> {
        let topics = topics.to_vec();
        self.call(move |client, timeout| client.create_topics(&topics, timeout))
            .await
    }

    /// Deletes topics: one result each.
    ///
    /// # Errors
    /// When the request as a whole fails.
    pub async fn delete_topics(&self, topics: &[String]) -> Result<Vec<(String, Result<(), KafkaError>)>, KafkaError> {
        let topics = topics.to_vec();
        self.call(move |client, timeout| client.delete_topics(&topics, timeout))
            .await
    }

    /// Grows a topic to `total` partitions.
    ///
    /// # Errors
    /// `InvalidPartitions` when it has that many or more.
    pub async fn create_partitions(&self, topic: &str, total: usize) -> Result<(), KafkaError> {
        let topic = topic.to_owned();
        self.call(move |client, timeout| client.create_partitions(&topic, total, timeout))
            .await
    }

    /// A topic, `None` where there is none. Never creates one.
    ///
    /// # Errors
    /// When it may not be seen, or brokers cannot be reached.
    pub async fn topic(&self, name: &str) -> Result<Option<TopicDescription>, KafkaError> {
        let found = self.describe_topics(&[name]).await?.into_iter().next();
        found.map_or(Ok(None), |(_, found)| found)
    }

    /// Topics with their ids and partitions, in the order asked; `None` for one that is not there. Never creates one.
    ///
    /// # Errors
    /// For each topic, that it may not be seen; for all, that brokers cannot be reached.
    pub async fn describe_topics(
        &self,
        names: &[&str],
    ) -> Result<Vec<(String, Result<Option<TopicDescription>, KafkaError>)>, KafkaError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let asked = names.clone();
        let described = self.read(move |client, timeout| {
            let names: Vec<&str> = asked.iter().map(String::as_str).collect();
            client.describe_topics(&names, timeout)
        });
        let described = described.await?.into_iter().map(|found| match found {
            Ok(topic) => Ok(Some(topic)),
            Err(error) if error.code == ErrorCode::UnknownTopicOrPartition => Ok(None),
            Err(error) => Err(error),
        });
        Ok(names.into_iter().zip(described).collect())
    }

    /// Names of all topics that may be seen, sorted, internal ones included.
    ///
    /// # Errors
    /// When brokers cannot be reached.
    pub async fn topics(&self) -> Result<Vec<String>, KafkaError> {
        let mut names = self.read(|client, timeout| client.topic_names(timeout)).await?;
        names.sort_unstable();
        Ok(names)
    }

    /// All options of a topic with their values, defaults included. Values that brokers keep secret are left out.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `TopicAuthorizationFailed`, and when brokers cannot be reached.
    pub async fn describe_topic_config(&self, topic: &str) -> Result<IndexMap<String, String>, KafkaError> {
        let topic = topic.to_owned();
        let config = self
            .read(move |client, timeout| client.describe_topic_config(&topic, timeout))
            .await?;
        Ok(config
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect())
    }

    /// An option of the brokers, as the first of them has it; `None` where it may not be seen.
    ///
    /// # Errors
    /// When brokers cannot be reached.
    pub async fn broker_option(&self, name: &str) -> Result<Option<String>, KafkaError> {
        match self
            .read(|client, timeout| client.describe_broker_config(timeout))
            .await
        {
            Ok(config) => Ok(config.get(name).cloned().flatten()),
            Err(error) if error.remedy() == Remedy::Wait => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Asks for topics as a producer does before its first record to them: brokers that make topics by themselves
    /// (`auto.create.topics.enable`) make those that are missing, with the brokers' defaults. Others make none, which is not an
    /// error here.
    ///
    /// # Errors
    /// When brokers cannot be reached.
    pub async fn ask_as_a_writer(&self, topics: &[String]) -> Result<(), KafkaError> {
        let mut config = ClientConfig::clone(&self.config);
        config.unset("transactional.id").set("allow.auto.create.topics", "true");
        let topics = topics.to_vec();
        self.call(move |_, timeout| {
            let options = config.translated(ClientKind::Admin)?;
            let client = Arc::new(Client::new(ClientKind::Admin, &options, Callbacks::default())?);
            let handles = TopicHandles::new(Arc::clone(&client));
            topics
                .iter()
                .try_for_each(|topic| client.ask_as_a_writer(&handles, topic, timeout))
        })
        .await
    }

    /// Changes options of a topic; others stay.
    ///
    /// # Errors
    /// `InvalidConfig` for a value that brokers refuse.
    pub async fn alter_topic_config(&self, topic: &str, changes: &[(String, ConfigChange)]) -> Result<(), KafkaError> {
        let (topic, changes) = (topic.to_owned(), changes.to_vec());
        self.call(move |client, timeout| client.alter_topic_config(&topic, &changes, timeout))
            .await
    }

    /// The offset after the last record of each partition: of the last stable one with `ReadCommitted`. In the order asked.
    ///
    /// # Errors
    /// The first error of a partition.
    pub async fn end_offsets(
        &self,
        partitions: &[TopicPartition],
        isolation: IsolationLevel,
    ) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        self.list_offsets(partitions, OffsetSpec::End, isolation).await
    }

    /// The first offset of each partition. In the order asked.
    ///
    /// # Errors
    /// The first error of a partition.
    pub async fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        self.list_offsets(partitions, OffsetSpec::Beginning, IsolationLevel::ReadUncommitted)
            .await
    }

    /// Asks until it has an answer. A topic that was just created has no leader yet, or one that does not know of it; a leader
    /// that was restarted has a new epoch, but librdkafka goes on asking with the one it remembers until something refreshes
    /// its metadata. Both pass.
    async fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
        isolation: IsolationLevel,
    ) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        let started = Instant::now();
        let (mut attempt, mut pause) = (FIRST_ATTEMPT, FIRST_PAUSE);
        loop {
            let left = self.timeout.saturating_sub(started.elapsed());
            let within = self.clone().with_timeout(attempt.min(left));
            let partitions = partitions.to_vec();
            let listed = within
                .read(move |client, timeout| client.list_offsets(&partitions, spec, isolation, timeout))
                .await;
            match listed {
                Err(error) if error.is_timeout() && started.elapsed() < self.timeout => attempt *= 2,
                Err(error) if error.is_retriable() && started.elapsed() < LEADER_WAIT.min(self.timeout) => {
                    tokio::time::sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                    // If it fails, so does the next attempt, which says why.
                    let _ = within.topics().await;
                }
                listed => return listed,
            }
        }
    }

    /// What a group committed; partitions without a commit are left out, so a group that is not there has none.
    ///
    /// # Errors
    /// When the coordinator refuses or cannot be reached.
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        let group = group.to_owned();
        self.read(move |client, timeout| client.group_offsets(&group, None, timeout))
            .await
    }

    /// Sets offsets of a group without members.
    ///
    /// # Errors
    /// `UnknownMemberId` (or another refusal) while it has members.
    pub async fn alter_group_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<(), KafkaError> {
        let (group, offsets) = (group.to_owned(), offsets.to_vec());
        self.call(move |client, timeout| client.alter_group_offsets(&group, &offsets, timeout))
            .await
    }

    /// Forgets offsets of a group.
    ///
    /// # Errors
    /// `GroupSubscribedToTopic` while members read the topic.
    pub async fn delete_group_offsets(&self, group: &str, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let (group, partitions) = (group.to_owned(), partitions.to_vec());
        self.call(move |client, timeout| client.delete_group_offsets(&group, &partitions, timeout))
            .await
    }

    /// Deletes a group with its offsets.
    ///
    /// # Errors
    /// `NonEmptyGroup` while it has members, `GroupIdNotFound` where there is none.
    pub async fn delete_group(&self, group: &str) -> Result<(), KafkaError> {
        let group = group.to_owned();
        self.call(move |client, timeout| client.delete_group(&group, timeout))
            .await
    }

    /// Names of all groups, sorted.
    ///
    /// # Errors
    /// When a broker refuses or cannot be reached.
    pub async fn list_groups(&self) -> Result<Vec<String>, KafkaError> {
        let mut groups = self.read(|client, timeout| client.list_groups(timeout)).await?;
        groups.sort_unstable();
        Ok(groups)
    }

    /// A group's state and members. One that is not there is told of as `Dead`, or refused as `GroupIdNotFound`, as the
    /// broker's version has it.
    ///
    /// # Errors
    /// When the coordinator refuses or cannot be reached.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, KafkaError> {
        let group = group.to_owned();
        self.read(move |client, timeout| client.describe_group(&group, timeout))
            .await
    }

    /// The cluster's id.
    ///
    /// # Errors
    /// When brokers cannot be reached.
    pub async fn cluster_id(&self) -> Result<String, KafkaError> {
        self.read(|client, timeout| client.cluster_id(timeout)).await
    }

    /// Fences every producer that has one of these transactional ids and ends its transaction, as a new producer with the
    /// id does (`InitProducerId`, KIP-588).
    ///
    /// # Errors
    /// The first id that could not be fenced.
    pub async fn fence_producers(&self, transactional_ids: &[String]) -> Result<(), KafkaError> {
        for id in transactional_ids {
            let mut config = ClientConfig::clone(&self.config);
            config
                .unset("enable.idempotence")
                .unset("acks")
                .unset("retries")
                .unset("delivery.timeout.ms");
            config.unset("max.in.flight.requests.per.connection");
            config.set("transactional.id", id);
            let doing = format!("fence transactional id {id}");
            self.call(move |_, timeout| {
                let options = config.translated(ClientKind::Producer)?;
                Client::new(ClientKind::Producer, &options, Callbacks::default())?
                    .init_transactions(millis(timeout))
                    .map_err(|error| error.while_doing(doing))
            })
            .await?;
        }
        Ok(())
    }

    /// Deletes the records before each offset (-1: all that are there). The new first offsets.
    ///
    /// # Errors
    /// The first error of a partition.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
    ) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        let before = before.to_vec();
        self.call(move |client, timeout| client.delete_records(&before, timeout))
            .await
    }
}
