//! The inference sink without a group: a service over a broker, resources over its REST handler, and tasks that the worker's
//! own loop runs (`connect_runtime::TaskRunner`), with its clients, its headers and its dead letters.
//!
//! What must die, not stop, is a process: [`crate::worker::WorkerProcess`].

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use connect_api::error::ConnectError;
use connect_api::extension::{RestRequest, RestResponse, WorkerContext, WorkerExtension};
use connect_api::record::SourceMap;
use connect_api::{ConfigMap, ConnectorPlugin};
use connect_runtime::storage::{OffsetStore, SourceOffset};
use connect_runtime::{Plugins, Stopped, TaskEvents, TaskRunner, TaskSpec, TaskState, WorkerConfig};
use inference_sink::{InferenceService, InferenceSink};
use kafka_client::{
    Admin, ClientConfig, Consumer, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord, StartOffset,
};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

struct Ignored;

impl Deliveries for Ignored {
    fn delivered(&self, _token: u64, _result: Result<(i32, i64), KafkaError>) {}
}

/// A worker's inference service over one broker.
pub struct Worker {
    /// the service
    pub service: Arc<InferenceService>,
    /// `bootstrap.servers`
    pub bootstrap: String,
    group: String,
    runner: TaskRunner,
}

impl Worker {
    /// Starts the service with its state under `directory` and models below `allowed`.
    pub async fn start(bootstrap: &str, group: &str, directory: &Path, allowed: &Path) -> Result<Worker> {
        let service = Arc::new(InferenceService::new());
        let mut properties = crate::whole_worker::properties(bootstrap, group, directory);
        for (name, value) in [
            ("archive.url", format!("file://{}", directory.join("archive").display())),
            ("inference.artifact.allowed.prefixes", allowed.display().to_string()),
            // The last barrier of a task on a busy machine is waited for.
            ("task.shutdown.graceful.timeout.ms", PATIENCE.as_millis().to_string()),
        ] {
            properties.insert(name.to_owned(), Some(value));
        }
        let config = Arc::new(WorkerConfig::new(properties, &[service.config_def()])?);
        let context = WorkerContext {
            properties: config.properties().clone(),
            group_id: Arc::clone(&config.group_id),
            worker_id: "localhost:8083".into(),
            clients: config.own_clients(),
        };
        service
            .start(context)
            .await
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let runner = TaskRunner::new(Arc::new(Plugins::builtin()), config, Arc::new(NoSources));
        Ok(Worker {
            service,
            bootstrap: bootstrap.to_owned(),
            group: group.to_owned(),
            runner,
        })
    }

    /// `group.id` of the worker.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Stops the service.
    pub async fn stop(&self) {
        self.service.stop().await;
    }

    /// A REST request.
    pub async fn request(&self, method: &str, path: &str, body: &Value) -> RestResponse {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.service
            .handle(RestRequest {
                method: method.to_owned(),
                path: format!("inference/{path}").split('/').map(str::to_owned).collect(),
                query: query.collect(),
                content_type: Some("application/json".to_owned()),
                body: body.into(),
            })
            .await
    }

    /// A request whose answer must be a success.
    pub async fn ok(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.request(method, path, body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status >= 300 {
            bail!("{method} {path}: {} {text}", answer.status);
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Starts the one task of a connector. Its dead letters are read by [`dead_letters`].
    pub fn task(&self, connector: &str, topics: &[&str], config: &[(&str, &str)]) -> RunningTask {
        let config = connector_config(connector, topics, config);
        let spec = TaskSpec {
            connector: connector.into(),
            task: 0,
            tasks: 1,
            generation: 1,
            connector_config: config.clone(),
            task_config: config,
            plugin: Arc::new(InferenceSink::new(Arc::clone(&self.service))) as Arc<dyn ConnectorPlugin>,
            paused: false,
        };
        let events = Arc::new(LastState::default());
        RunningTask {
            task: self.runner.start(spec, Arc::clone(&events) as Arc<dyn TaskEvents>),
            events,
        }
    }
}

/// The configuration of an inference connector with one task: what every one has, and `further`.
pub fn connector_config(connector: &str, topics: &[&str], further: &[(&str, &str)]) -> ConfigMap {
    let topics = topics.join(",");
    let dead_letters = dead_letter_topic(connector);
    let own = [
        ("name", connector),
        ("connector.class", "millrace.InferenceSink"),
        ("tasks.max", "1"),
        ("topics", topics.as_str()),
        ("errors.tolerance", "all"),
        ("errors.deadletterqueue.topic.name", dead_letters.as_str()),
        ("errors.deadletterqueue.topic.replication.factor", "1"),
        ("errors.deadletterqueue.context.headers.enable", "true"),
    ];
    own.iter()
        .chain(further)
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect()
}

fn dead_letter_topic(connector: &str) -> String {
    format!("{connector}-dead-letters")
}

/// A record of a connector's dead letter topic.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// key of the record that it is a copy of
    pub key: Option<String>,
    /// offset of that record
    pub offset: i64,
    /// where it failed, as Kafka Connect names it
    pub stage: String,
    /// what was wrong with it
    pub message: String,
}

/// Reads the dead letters of a connector until there are `count`, and then to the end of their topic.
///
/// # Errors
/// When they do not come, or one does not say where it is from.
pub async fn dead_letters(bootstrap: &str, connector: &str, count: usize) -> Result<Vec<DeadLetter>> {
    let letters = read(bootstrap, &dead_letter_topic(connector), count).await?;
    letters
        .into_iter()
        .map(|letter| {
            let offset = letter.header("__connect.errors.offset");
            Ok(DeadLetter {
                offset: offset.parse().with_context(|| format!("the offset of {letter:?}"))?,
                stage: letter.header("__connect.errors.stage").to_owned(),
                message: letter.header("__connect.errors.exception.message").to_owned(),
                key: letter.key,
            })
        })
        .collect()
}

/// The offsets of source connectors, of which there are none.
struct NoSources;

fn no_sources<T>() -> Result<T, ConnectError> {
    Err(ConnectError::fatal("there are no source connectors here"))
}

#[async_trait]
impl OffsetStore for NoSources {
    async fn read(&self, _: &str, _: &SourceMap) -> Result<Option<SourceMap>, ConnectError> {
        no_sources()
    }

    async fn read_all(&self, _: &str) -> Result<Vec<(SourceMap, SourceMap)>, ConnectError> {
        no_sources()
    }

    async fn write(&self, _: &str, _: &[SourceOffset]) -> Result<(), ConnectError> {
        no_sources()
    }
}

/// What a task reported last.
#[derive(Default)]
struct LastState(Mutex<Option<TaskState>>);

impl LastState {
    /// Why the task has failed.
    fn failure(&self) -> Option<String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(TaskState::Failed { trace }) => Some(trace.clone()),
            _ => None,
        }
    }
}

impl TaskEvents for LastState {
    fn state(&self, _connector: &str, _task: usize, state: TaskState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    fn topic_used(&self, _connector: &str, _task: usize, _topic: &str) {}
}

/// A task that the worker's loop runs, on a thread of its own.
pub struct RunningTask {
    task: Arc<dyn connect_runtime::RunningTask>,
    events: Arc<LastState>,
}

impl RunningTask {
    /// Stops after a last barrier. To be called on a runtime with several threads.
    ///
    /// # Errors
    /// When it does not stop, or had failed.
    pub fn stop(self) -> Result<()> {
        let stop = self.task.stop(PATIENCE);
        let stopped = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(stop));
        if let Some(trace) = self.events.failure() {
            bail!("the task had failed: {trace}");
        }
        ensure!(stopped == Stopped::Clean, "the task does not stop");
        Ok(())
    }

    /// Waits until it has failed: why, as an error.
    ///
    /// # Errors
    /// What it failed with, or that it goes on.
    pub async fn ended(self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(trace) = self.events.failure() {
                bail!("{trace}");
            }
            ensure!(Instant::now() < deadline, "the task goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Makes topics.
pub async fn create_topics(bootstrap: &str, topics: &[(&str, i32)]) -> Result<()> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    let new: Vec<NewTopic> = topics
        .iter()
        .map(|(name, partitions)| NewTopic::new(*name, *partitions, 1))
        .collect();
    for (topic, result) in admin.create_topics(&new).await? {
        result.with_context(|| format!("create {topic}"))?;
    }
    Ok(())
}

/// Sends records by key.
pub fn produce(bootstrap: &str, topic: &str, records: impl IntoIterator<Item = (String, String)>) -> Result<()> {
    let producer = Producer::new(&ClientConfig::new(bootstrap), Arc::new(Ignored))?;
    for (key, value) in records {
        let record = ProducerRecord {
            topic,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            ..ProducerRecord::default()
        };
        producer.send_waiting(&record, 0, PATIENCE)?;
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

/// A record as a reader of committed records sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// key
    pub key: Option<String>,
    /// value
    pub value: Value,
    /// headers in order
    pub headers: Vec<(String, String)>,
    /// partition
    pub partition: i32,
}

impl Output {
    /// The value of a header.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map_or("", |(_, value)| value)
    }
}

/// Reads committed records of a topic until there are `count`, and then until its end.
pub async fn read(bootstrap: &str, topic: &str, count: usize) -> Result<Vec<Output>> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    let deadline = Instant::now() + PATIENCE;
    let partitions = loop {
        match admin.topic(topic).await? {
            Some(found) => break i32::try_from(found.partitions.len())?,
            None if Instant::now() > deadline => bail!("topic {topic} is not there"),
            None => tokio::time::sleep(LOOK).await,
        }
    };
    let mut config = ClientConfig::new(bootstrap);
    config
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest");
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || read_all(&config, &topic, partitions, count, deadline)).await?
}

fn read_all(
    config: &ClientConfig,
    topic: &str,
    partitions: i32,
    count: usize,
    deadline: Instant,
) -> Result<Vec<Output>> {
    let consumer = Consumer::new(config)?;
    let all: Vec<_> = (0..partitions)
        .map(|p| (kafka_client::TopicPartition::new(topic, p), StartOffset::Beginning))
        .collect();
    consumer.assign(&all)?;
    let mut outputs = Vec::new();
    let mut ended = std::collections::BTreeSet::new();
    while outputs.len() < count || ended.len() < all.len() {
        if Instant::now() > deadline {
            bail!("{topic}: {} of {count} records came", outputs.len());
        }
        let fetched = consumer.fetch(1000, Duration::from_millis(100))?;
        for message in &fetched.messages {
            ended.remove(&message.partition());
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            outputs.push(Output {
                key: message.key().map(text),
                value: serde_json::from_slice(message.value().unwrap_or_default()).unwrap_or(Value::Null),
                headers: message
                    .headers()
                    .map(|(name, value)| (name.to_owned(), text(value.unwrap_or_default())))
                    .collect(),
                partition: message.partition(),
            });
        }
        ended.extend(fetched.end_of_partition.iter().map(|partition| partition.partition));
    }
    Ok(outputs)
}
