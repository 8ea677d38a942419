//! Drives an inference task as the worker does: a service over a broker, resources over its REST handler, one task whose
//! partitions a consumer reads.

use anyhow::{Context, Result, bail};
use connect_api::config::ConfigMap;
use connect_api::delivery::TopicPartition;
use connect_api::error::{ConnectError, ErrorKind, Stage};
use connect_api::extension::{RestRequest, RestResponse, WorkerContext, WorkerExtension};
use connect_api::partitioned::{ClientSettings, PartitionedSinkTask, PartitionedTaskContext, RawRecord, StartAt};
use connect_api::record::{SinkRecord, TimestampType};
use connect_api::sink::ErrantRecordReporter;
use inference_sink::{InferenceService, InferenceTask};
use kafka_client::{
    Admin, ClientConfig, Consumer, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord, StartOffset,
};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What was reported as a dead letter: offset, stage, message.
type DeadLetters = Arc<Mutex<Vec<(i64, Stage, String)>>>;

struct Reporter {
    letters: DeadLetters,
    /// `errors.tolerance`; `all` where it is not set
    tolerates: bool,
}

impl ErrantRecordReporter for Reporter {
    fn report(&self, _record: &SinkRecord, error: &ConnectError) -> Result<(), ConnectError> {
        Err(error.clone())
    }

    fn report_raw(&self, record: &RawRecord<'_>, stage: Stage, error: &ConnectError) -> Result<(), ConnectError> {
        if let Ok(mut letters) = self.letters.lock() {
            letters.push((record.offset, stage, error.message().to_owned()));
        }
        match self.tolerates {
            true => Ok(()),
            false => Err(ConnectError::fatal("Tolerance exceeded in error handler").caused_by(error.clone())),
        }
    }

    fn flush(&self, _timeout: Duration) -> Result<(), ConnectError> {
        Ok(())
    }
}

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
}

impl Worker {
    /// Starts the service with its state under `directory` and models allowed below `models`.
    pub async fn start(bootstrap: &str, group: &str, directory: &Path, models: &Path) -> Result<Worker> {
        let service = Arc::new(InferenceService::new());
        let mut properties = ConfigMap::new();
        for (name, value) in [
            ("state.dir", directory.join("state").display().to_string()),
            ("archive.url", format!("file://{}", directory.join("archive").display())),
            ("inference.artifact.allowed.prefixes", models.display().to_string()),
            ("inference.cores", "2".to_owned()),
            ("inference.registry.replication.factor", "1".to_owned()),
        ] {
            properties.insert(name.to_owned(), Some(value));
        }
        let context = WorkerContext {
            properties,
            group_id: group.into(),
            worker_id: "localhost:8083".into(),
            clients: clients(bootstrap),
        };
        service
            .start(context)
            .await
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(Worker {
            service,
            bootstrap: bootstrap.to_owned(),
            group: group.to_owned(),
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

    /// Runs a task over all partitions of `topics` on its own thread; `producer.override.` options are its producer's.
    pub fn task(&self, connector: &str, topics: &[(&str, i32)], config: &[(&str, &str)]) -> Result<RunningTask> {
        let mut map = ConfigMap::new();
        map.insert("name".to_owned(), Some(connector.to_owned()));
        let names: Vec<&str> = topics.iter().map(|(topic, _)| *topic).collect();
        map.insert("topics".to_owned(), Some(names.join(",")));
        for (name, value) in config {
            map.insert((*name).to_owned(), Some((*value).to_owned()));
        }
        let partitions = topics
            .iter()
            .flat_map(|(topic, count)| (0..*count).map(move |partition| TopicPartition::new(*topic, partition)))
            .collect();
        RunningTask::start(self, connector, partitions, map)
    }
}

fn clients(bootstrap: &str) -> ClientSettings {
    let settings: indexmap::IndexMap<String, String> = [("bootstrap.servers".to_owned(), bootstrap.to_owned())]
        .into_iter()
        .collect();
    ClientSettings {
        consumer: settings.clone(),
        producer: settings.clone(),
        admin: settings,
    }
}

/// A task on its thread.
pub struct RunningTask {
    commands: std::sync::mpsc::Sender<End>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
    waker: kafka_client::Waker,
    dead_letters: DeadLetters,
}

/// How a task ends.
enum End {
    /// with a last barrier
    Cleanly,
    /// dropped where it stands
    Crash,
}

impl RunningTask {
    fn start(
        worker: &Worker,
        connector: &str,
        partitions: Vec<TopicPartition>,
        config: ConfigMap,
    ) -> Result<RunningTask> {
        let mut settings = ClientConfig::new(&worker.bootstrap);
        settings.set("auto.offset.reset", "earliest");
        let consumer = Consumer::new(&settings)?;
        let waker = consumer.waker();
        let wake = waker.clone();
        let dead_letters = DeadLetters::default();
        let mut clients = clients(&worker.bootstrap);
        for (name, value) in &config {
            if let (Some(option), Some(value)) = (name.strip_prefix("producer.override."), value) {
                clients.producer.insert(option.to_owned(), value.clone());
            }
        }
        let tolerates = config.get("errors.tolerance").cloned().flatten().as_deref() != Some("none");
        let context = PartitionedTaskContext {
            group_id: worker.group.as_str().into(),
            connector: connector.into(),
            task: 0,
            tasks: 1,
            config,
            clients,
            reporter: Arc::new(Reporter {
                letters: dead_letters.clone(),
                tolerates,
            }),
            wake: Arc::new(move || wake.wake()),
        };
        let task = InferenceTask::new(worker.service.clone(), context).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let (commands, received) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || drive(task, &consumer, &partitions, &received));
        Ok(RunningTask {
            commands,
            thread: Some(thread),
            waker,
            dead_letters,
        })
    }

    /// What the task reported.
    pub fn dead_letters(&self) -> Vec<(i64, Stage, String)> {
        let letters = self.dead_letters.lock();
        letters.unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Stops after a last barrier.
    pub fn stop(self) -> Result<()> {
        self.end(End::Cleanly)
    }

    /// Drops the task without a barrier, as a crash does.
    pub fn crash(self) -> Result<()> {
        self.end(End::Crash)
    }

    /// Waits until it has ended by itself: why.
    ///
    /// # Errors
    /// What it ended with, or that it goes on.
    pub async fn ended(mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if Instant::now() > deadline {
                bail!("the task goes on");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => bail!("the task's thread panicked"),
        }
    }

    fn end(mut self, how: End) -> Result<()> {
        // A thread that has failed has dropped its end.
        let _ = self.commands.send(how);
        self.waker.wake();
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => bail!("the task's thread panicked"),
        }
    }
}

/// Between a retriable error of a task and its next opening.
const REOPEN_WAIT: Duration = Duration::from_millis(100);

/// As the worker's loop: after a retriable error the task is closed, and opened again after a wait.
fn drive(
    mut task: InferenceTask,
    consumer: &Consumer,
    partitions: &[TopicPartition],
    commands: &std::sync::mpsc::Receiver<End>,
) -> Result<()> {
    loop {
        match session(&mut task, consumer, partitions, commands) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Retriable => {
                task.close();
                if commands.recv_timeout(REOPEN_WAIT).is_ok() {
                    bail!("the task was ended while it could not be opened: {error:?}");
                }
            }
            Err(error) => bail!("{error:?}"),
        }
    }
}

fn session(
    task: &mut InferenceTask,
    consumer: &Consumer,
    partitions: &[TopicPartition],
    commands: &std::sync::mpsc::Receiver<End>,
) -> Result<(), ConnectError> {
    let failed = |error: KafkaError| ConnectError::fatal(error.to_string());
    let to_client = |p: &TopicPartition| kafka_client::TopicPartition::new(p.topic.clone(), p.partition);
    let starts = task.open(partitions)?;
    let assignment: Vec<_> = starts
        .iter()
        .map(|(partition, start)| {
            let start = match start {
                StartAt::Beginning => StartOffset::Beginning,
                StartAt::End => StartOffset::End,
                StartAt::Offset(offset) => StartOffset::At(*offset),
            };
            (to_client(partition), start)
        })
        .collect();
    consumer.assign(&assignment).map_err(failed)?;
    let mut wait = Duration::from_millis(10);
    loop {
        match commands.try_recv() {
            Ok(End::Cleanly) => {
                let _ = task.barrier(PATIENCE)?;
                return Ok(());
            }
            Ok(End::Crash) => return Ok(()),
            Err(_) => {}
        }
        let fetched = consumer.fetch(1000, wait).map_err(failed)?;
        let records: Vec<RawRecord<'_>> = fetched
            .messages
            .iter()
            .map(|message| RawRecord {
                topic: message.topic(),
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp_ms(),
                timestamp_type: TimestampType::CreateTime,
                key: message.key(),
                value: message.value(),
                headers: &(),
            })
            .collect();
        if !records.is_empty() {
            let _ = task.hand_over(&records)?;
        }
        let advance = task.advance(Instant::now())?;
        for (partition, offset) in advance.rewind.into_iter().flatten() {
            consumer.seek(&to_client(&partition), offset).map_err(failed)?;
        }
        let until = advance.wake_at.map_or(Duration::from_millis(100), |at| {
            at.saturating_duration_since(Instant::now())
        });
        wait = until.min(Duration::from_millis(100));
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
            None => tokio::task::yield_now().await,
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
