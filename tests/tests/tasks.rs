//! The task loops against Apache Kafka: file connectors, catalog, dead letters, retries, a broker that goes away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use async_trait::async_trait;
use connect_api::delivery::SinkOffsets;
use connect_api::record::SourceMap;
use connect_api::*;
use connect_runtime::storage::{OffsetStore, SourceOffset};
use connect_runtime::{Plugins, RunningTask, Stopped, TaskEvents, TaskRunner, TaskSpec, TaskState, WorkerConfig};
use indexmap::IndexMap;
use kafka_client::{Admin, IsolationLevel, LogRecord, NewTopic, Producer, ProducerRecord};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::{KafkaBroker, WorkerProcess};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Source offsets in memory.
#[derive(Default)]
struct Offsets(Mutex<BTreeMap<(String, String), (SourceMap, SourceMap)>>);

fn key(connector: &str, partition: &SourceMap) -> (String, String) {
    let sorted: BTreeMap<_, _> = partition.iter().collect();
    (connector.to_owned(), serde_json::to_string(&sorted).unwrap())
}

#[async_trait]
impl OffsetStore for Offsets {
    async fn read(&self, connector: &str, partition: &SourceMap) -> Result<Option<SourceMap>, ConnectError> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .get(&key(connector, partition))
            .map(|(_, offset)| offset.clone()))
    }

    async fn read_all(&self, connector: &str) -> Result<Vec<(SourceMap, SourceMap)>, ConnectError> {
        let all = self.0.lock().unwrap();
        Ok(all
            .iter()
            .filter(|((name, _), _)| name == connector)
            .map(|(_, pair)| pair.clone())
            .collect())
    }

    async fn write(&self, connector: &str, offsets: &[SourceOffset]) -> Result<(), ConnectError> {
        let mut all = self.0.lock().unwrap();
        for (partition, offset) in offsets {
            let key = key(connector, partition);
            match offset {
                Some(offset) => all.insert(key, ((**partition).clone(), offset.clone())),
                None => all.remove(&key),
            };
        }
        Ok(())
    }
}

/// What tasks reported.
#[derive(Default)]
struct Events {
    states: Mutex<Vec<(String, usize, TaskState)>>,
    topics: Mutex<HashSet<String>>,
}

impl TaskEvents for Events {
    fn state(&self, connector: &str, task: usize, state: TaskState) {
        self.states.lock().unwrap().push((connector.to_owned(), task, state));
    }

    fn topic_used(&self, _connector: &str, _task: usize, topic: &str) {
        self.topics.lock().unwrap().insert(topic.to_owned());
    }
}

impl Events {
    fn last(&self, connector: &str) -> Option<TaskState> {
        let states = self.states.lock().unwrap();
        states
            .iter()
            .rev()
            .find(|(name, _, _)| name == connector)
            .map(|(_, _, state)| state.clone())
    }

    async fn reaches(&self, connector: &str, wanted: TaskState) {
        eventually(&format!("{connector} is {wanted:?}"), async || {
            let last = self.last(connector);
            assert!(!matches!(last, Some(TaskState::Failed { .. })), "{last:?}");
            (last == Some(wanted.clone())).then_some(())
        })
        .await;
    }

    async fn fails(&self, connector: &str) -> String {
        eventually(&format!("{connector} fails"), async || match self.last(connector) {
            Some(TaskState::Failed { trace }) => Some(trace),
            _ => None,
        })
        .await
    }
}

struct Worker {
    runner: TaskRunner,
    plugins: Arc<Plugins>,
    events: Arc<Events>,
}

fn map(pairs: &[(&str, &str)]) -> ConfigMap {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect()
}

impl Worker {
    fn new(bootstrap: &str, more: Vec<Arc<dyn ConnectorPlugin>>) -> Self {
        let mut connectors = connectors::plugins();
        connectors.extend(catalog_source::plugins());
        connectors.extend(more);
        let plugins = Arc::new(Plugins {
            connectors,
            converters: formats::converters(),
            header_converters: formats::header_converters(),
            transformations: transforms::transformations(),
            predicates: transforms::predicates(),
            extensions: Vec::new(),
        });
        let properties = map(&[
            ("bootstrap.servers", bootstrap),
            ("group.id", "workers"),
            ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
            ("config.storage.topic", "configs"),
            ("offset.storage.topic", "offsets"),
            ("status.storage.topic", "statuses"),
            ("offset.flush.interval.ms", "100"),
        ]);
        let config = Arc::new(WorkerConfig::new(properties, &[]).unwrap());
        let offsets: Arc<dyn OffsetStore> = Arc::new(Offsets::default());
        Self {
            runner: TaskRunner::new(Arc::clone(&plugins), config, offsets),
            plugins,
            events: Arc::new(Events::default()),
        }
    }

    fn start(&self, name: &str, class: &str, config: &[(&str, &str)]) -> Arc<dyn RunningTask> {
        let plugin = Arc::clone(self.plugins.connector(class).unwrap());
        let spec = TaskSpec {
            connector: name.into(),
            task: 0,
            tasks: 1,
            generation: 1,
            connector_config: map(config),
            task_config: map(config),
            plugin,
            paused: false,
        };
        self.runner.start(spec, Arc::clone(&self.events) as Arc<dyn TaskEvents>)
    }
}

async fn stop(task: &Arc<dyn RunningTask>) {
    assert_eq!(task.stop(PATIENCE).await, Stopped::Clean);
}

fn unique(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn create(broker: &KafkaBroker, topic: &str, partitions: i32) {
    let admin = Admin::new(&broker.config()).unwrap();
    for (_, result) in admin
        .create_topics(&[NewTopic::new(topic, partitions, 1)])
        .await
        .unwrap()
    {
        result.unwrap();
    }
}

struct Reported;

impl kafka_client::Deliveries for Reported {
    fn delivered(&self, _: u64, result: Result<(i32, i64), kafka_client::KafkaError>) {
        result.unwrap();
    }
}

async fn produce(broker: &KafkaBroker, topic: &str, values: &[&str]) {
    let (config, topic) = (broker.config(), topic.to_owned());
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let producer = Producer::new(&config, Arc::new(Reported)).unwrap();
        for value in &values {
            let record = ProducerRecord {
                topic: &topic,
                partition: Some(0),
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                timestamp_ms: Some(1_700_000_000_000),
                headers: &[("h", Some(b"1"))],
            };
            producer.send_waiting(&record, 1, PATIENCE).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    })
    .await
    .unwrap();
}

/// What is in a topic; nothing, where it is not there yet.
async fn dump(broker: &KafkaBroker, topic: &str) -> Vec<LogRecord> {
    let admin = Admin::new(&broker.config()).unwrap();
    match admin.topic(topic).await.unwrap() {
        Some(_) => broker.dump(topic, IsolationLevel::ReadCommitted).await.unwrap(),
        None => Vec::new(),
    }
}

async fn values(broker: &KafkaBroker, topic: &str) -> Vec<String> {
    dump(broker, topic)
        .await
        .iter()
        .map(|record| text(&record.value))
        .collect()
}

fn text(bytes: &Option<bytes::Bytes>) -> String {
    bytes
        .as_ref()
        .map_or("-".to_owned(), |bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

const SOURCE: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";
const SINK: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_out_as_it_went_in_across_restarts() {
    let broker = KafkaBroker::shared().await.unwrap();
    let worker = Worker::new(&broker.bootstrap(), Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let topic = unique("files");
    let source = [
        ("file", input.to_str().unwrap()),
        ("topic", topic.as_str()),
        ("topic.creation.default.partitions", "1"),
        ("topic.creation.default.replication.factor", "1"),
    ];
    let sink = [("file", output.to_str().unwrap()), ("topics", topic.as_str())];
    let first: String = (0..3000).map(|line| format!("line {line} é\n")).collect();
    std::fs::write(&input, &first).unwrap();
    let reading = worker.start("in", SOURCE, &source);
    worker.events.reaches("in", TaskState::Running).await;
    let writing = worker.start("out", SINK, &sink);
    eventually("the first lines arrive", async || {
        (lines(&output).len() == 3000).then_some(())
    })
    .await;
    assert_eq!(std::fs::read_to_string(&output).unwrap(), first);
    assert!(worker.events.topics.lock().unwrap().contains(&topic));

    // a clean restart of both repeats nothing and loses nothing
    stop(&reading).await;
    stop(&writing).await;
    let more = "and more\nand the last\n";
    std::fs::write(&input, format!("{first}{more}")).unwrap();
    let reading = worker.start("in", SOURCE, &source);
    let writing = worker.start("out", SINK, &sink);
    eventually("all lines arrive", async || {
        (lines(&output).len() >= 3002).then_some(())
    })
    .await;
    assert_eq!(std::fs::read_to_string(&output).unwrap(), format!("{first}{more}"));

    // pausing holds the source back, resuming lets it go on; another reader of the file shows that the line could be read
    reading.pause();
    worker.events.reaches("in", TaskState::Paused).await;
    std::fs::write(&input, format!("{first}{more}late\n")).unwrap();
    let control_topic = unique("control");
    create(broker, &control_topic, 1).await;
    let control = [("file", input.to_str().unwrap()), ("topic", control_topic.as_str())];
    let control = worker.start("control", SOURCE, &control);
    eventually("another reader has the late line", async || {
        let read = values(broker, &control_topic).await;
        (read.last().map(String::as_str) == Some("late")).then_some(())
    })
    .await;
    stop(&control).await;
    assert_eq!(
        values(broker, &topic).await.len(),
        3002,
        "a source that is paused reads on"
    );
    assert_eq!(worker.events.last("in"), Some(TaskState::Paused));
    reading.resume();
    eventually("the late line arrives", async || {
        (lines(&output).len() == 3003).then_some(())
    })
    .await;
    stop(&reading).await;
    stop(&writing).await;
}

/// A worker that is killed: lines that are in the topic, and whose offsets nobody had written, come again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_uncommitted_is_read_again() {
    let broker = KafkaBroker::shared().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    let topic = unique("crash");
    create(broker, &topic, 1).await;
    let config = serde_json::json!({
        "connector.class": "FileStreamSource", "tasks.max": "1", "topic": topic, "file": input,
        "value.converter": "org.apache.kafka.connect.storage.StringConverter"
    });
    let mut worker = WorkerProcess::new(&broker.bootstrap(), &unique("crashing")).unwrap();
    worker.set("offset.flush.interval.ms", "100");
    worker.start().await.unwrap();
    std::fs::write(&input, "a\n").unwrap();
    worker.put("/connectors/crashing/config", &config).await.unwrap();
    let committed = |_, offsets: &serde_json::Value| offsets["offsets"][0]["offset"]["position"] == 2;
    worker.until("/connectors/crashing/offsets", committed).await.unwrap();
    worker.stop().unwrap();

    // From here on nothing is written before the worker dies.
    worker.set("offset.flush.interval.ms", "3600000");
    worker.start().await.unwrap();
    std::fs::write(&input, "a\nb\nc\n").unwrap();
    eventually("two more lines", async || {
        (values(broker, &topic).await == ["a", "b", "c"]).then_some(())
    })
    .await;
    worker.kill().unwrap();
    worker.start().await.unwrap();
    let found = eventually("two lines again", async || {
        let values = values(broker, &topic).await;
        (values.len() >= 5).then_some(values)
    })
    .await;
    assert_eq!(found, ["a", "b", "c", "b", "c"]);
    worker.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_read_go_where_the_options_say() {
    let broker = KafkaBroker::shared().await.unwrap();
    let worker = Worker::new(&broker.bootstrap(), Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let topic = unique("bad");
    create(broker, &topic, 1).await;
    produce(broker, &topic, &["{\"a\":1}", "no json", "{\"a\":2}"]).await;
    let run = |name: &'static str, tolerance: &'static str| {
        let output = folder.path().join(name);
        let letters = format!("{topic}.{name}.dlq");
        let task = worker.start(
            name,
            SINK,
            &[
                ("file", output.to_str().unwrap()),
                ("topics", topic.as_str()),
                ("value.converter", "JsonConverter"),
                ("value.converter.schemas.enable", "false"),
                ("errors.tolerance", tolerance),
                ("errors.deadletterqueue.topic.name", letters.as_str()),
                ("errors.deadletterqueue.topic.replication.factor", "1"),
                ("errors.deadletterqueue.context.headers.enable", "true"),
            ],
        );
        (task, output, letters)
    };
    let (task, output, letters) = run("all", "all");
    eventually("the good records arrive", async || {
        (lines(&output) == ["{a=1}", "{a=2}"]).then_some(())
    })
    .await;
    let dead = eventually("a dead letter", async || {
        dump(broker, &letters).await.into_iter().next()
    })
    .await;
    assert_eq!(
        (text(&dead.key), text(&dead.value), dead.timestamp_ms),
        ("k".into(), "no json".into(), Some(1_700_000_000_000))
    );
    let headers: IndexMap<String, String> = dead
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    for (name, value) in [
        ("h", "1"),
        ("__connect.errors.topic", topic.as_str()),
        ("__connect.errors.partition", "0"),
        ("__connect.errors.offset", "1"),
        ("__connect.errors.connector.name", "all"),
        ("__connect.errors.task.id", "0"),
        ("__connect.errors.stage", "VALUE_CONVERTER"),
        (
            "__connect.errors.class.name",
            "org.apache.kafka.connect.json.JsonConverter",
        ),
        (
            "__connect.errors.exception.class.name",
            "org.apache.kafka.connect.errors.DataException",
        ),
        (
            "__connect.errors.exception.message",
            "Converting byte[] to Kafka Connect data failed due to serialization error: ",
        ),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(
        headers["__connect.errors.exception.stacktrace"].starts_with("org.apache.kafka.connect.errors.DataException: ")
    );
    stop(&task).await;

    let (task, _, letters) = run("none", "none");
    let trace = worker.events.fails("none").await;
    assert!(trace.contains("Tolerance exceeded in error handler"), "{trace}");
    eventually("its dead letter", async || {
        (dump(broker, &letters).await.len() == 1).then_some(())
    })
    .await;
    stop(&task).await;
}

/// A sink that refuses its first puts for now, then keeps what it is given.
#[derive(Default)]
struct Reluctant {
    refusals: AtomicUsize,
    taken: Mutex<Vec<String>>,
    kept: Mutex<Vec<SinkRecord>>,
    calls: AtomicUsize,
}

struct ReluctantPlugin(Arc<Reluctant>);
struct ReluctantTask(Arc<Reluctant>);
struct NoConnector;

#[async_trait]
impl Connector for NoConnector {
    async fn start(&mut self, _: ConnectorContext) -> Result<(), ConnectError> {
        Ok(())
    }
    fn task_configs(&self, _: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        Ok(vec![ConfigMap::new()])
    }
    async fn stop(&mut self) {}
}

#[async_trait]
impl ConnectorPlugin for ReluctantPlugin {
    fn class(&self) -> &'static str {
        "test.Reluctant"
    }
    fn task_class(&self) -> &'static str {
        "test.ReluctantTask"
    }
    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Sink
    }
    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }
    fn connector(&self) -> Box<dyn Connector> {
        Box::new(NoConnector)
    }
    fn task(&self) -> Task {
        Task::Sink(Box::new(ReluctantTask(Arc::clone(&self.0))))
    }
}

#[async_trait]
impl SinkTask for ReluctantTask {
    async fn start(&mut self, _: SinkTaskContext) -> Result<(), ConnectError> {
        Ok(())
    }
    async fn put(&mut self, records: &[SinkRecord]) -> Result<Accepted, ConnectError> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let refuse = |left: usize| left.checked_sub(1);
        if self
            .0
            .refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse)
            .is_ok()
        {
            return Err(ConnectError::retriable("not now"));
        }
        self.0.kept.lock().unwrap().extend_from_slice(records);
        let mut taken = self.0.taken.lock().unwrap();
        for record in records {
            taken.push(record.value().get()?.value.to_string());
        }
        Ok(Accepted { records: records.len() })
    }
    async fn pre_commit(&mut self, accepted: SinkOffsets) -> Result<Durable<SinkOffsets>, ConnectError> {
        Ok(Durable::up_to(accepted))
    }
    async fn stop(&mut self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_may_succeed_later_gets_the_same_records_again() {
    let broker = KafkaBroker::shared().await.unwrap();
    let sink = Arc::new(Reluctant {
        refusals: AtomicUsize::new(3),
        ..Reluctant::default()
    });
    let worker = Worker::new(&broker.bootstrap(), vec![Arc::new(ReluctantPlugin(Arc::clone(&sink)))]);
    let topic = unique("reluctant");
    create(broker, &topic, 1).await;
    let values: Vec<String> = (0..50).map(|value| value.to_string()).collect();
    let task = worker.start("reluctant", "test.Reluctant", &[("topics", topic.as_str())]);
    worker.events.reaches("reluctant", TaskState::Running).await;
    let borrowed: Vec<&str> = values.iter().map(String::as_str).collect();
    produce(broker, &topic, &borrowed).await;
    eventually("all records are taken", async || {
        (sink.taken.lock().unwrap().len() >= 50).then_some(())
    })
    .await;
    assert_eq!(*sink.taken.lock().unwrap(), values);
    assert!(sink.calls.load(Ordering::Relaxed) >= 4);
    stop(&task).await;
    let admin = Admin::new(&broker.config()).unwrap();
    let committed = admin.group_offsets("connect-reluctant").await.unwrap();
    assert_eq!(committed.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [50]);
}

/// Whatever the converters make of them, and whether they are read before `put`, in it, or when their client is gone.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_task_keeps_are_whole_after_it_has_ended() {
    let broker = KafkaBroker::shared().await.unwrap();
    let json = "org.apache.kafka.connect.json.JsonConverter";
    let bytes = "org.apache.kafka.connect.converters.ByteArrayConverter";
    let text = "org.apache.kafka.connect.storage.StringConverter";
    let simple = "org.apache.kafka.connect.storage.SimpleHeaderConverter";
    let cases = [
        (bytes, simple, Value::Bytes("7".into()), Value::Int8(1)),
        (text, bytes, Value::from("7"), Value::Bytes("1".into())),
        (json, json, Value::Int64(7), Value::Int64(1)),
        (bytes, json, Value::Bytes("7".into()), Value::Int64(1)),
    ];
    for (converter, header_converter, value, header) in cases {
        let sink = Arc::new(Reluctant::default());
        let worker = Worker::new(&broker.bootstrap(), vec![Arc::new(ReluctantPlugin(Arc::clone(&sink)))]);
        let topic = unique("kept");
        create(broker, &topic, 1).await;
        produce(broker, &topic, &["7", "7", "7"]).await;
        let config = [
            ("topics", topic.as_str()),
            ("value.converter", converter),
            ("value.converter.schemas.enable", "false"),
            ("header.converter", header_converter),
            ("header.converter.schemas.enable", "false"),
        ];
        let task = worker.start(&topic, "test.Reluctant", &config);
        eventually("all records are taken", async || {
            (sink.kept.lock().unwrap().len() >= 3).then_some(())
        })
        .await;
        stop(&task).await;
        drop((task, worker));
        let kept = std::mem::take(&mut *sink.kept.lock().unwrap());
        for (record, offset) in kept.iter().zip(0..) {
            assert_eq!((&**record.topic(), &**record.original_topic()), (&*topic, &*topic));
            assert_eq!((record.partition, record.offset), (0, offset));
            assert_eq!(
                (record.timestamp_ms, record.timestamp_type),
                (Some(1_700_000_000_000), TimestampType::CreateTime)
            );
            assert_eq!(record.key().get().unwrap().value, Value::from("k"), "{converter}");
            assert_eq!(record.key().raw(), Some(Some("k".into())), "{converter}");
            assert_eq!(record.value().get().unwrap().value, value, "{converter}");
            let headers: Vec<(&str, &Value)> = record.headers().iter().map(|h| (&*h.name, &h.data.value)).collect();
            assert_eq!(headers, [("h", &header)], "{header_converter}");
        }
        assert_eq!(kept.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_and_comes_back_costs_only_time() {
    let broker = KafkaBroker::start().await.unwrap();
    let owner = Arc::new(Owner::default());
    let worker = Worker::new(&broker.bootstrap(), vec![Arc::new(OwnerPlugin(Arc::clone(&owner)))]);
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let topic = unique("outage");
    create(&broker, &topic, 1).await;
    std::fs::write(&input, "before\n").unwrap();
    let source = worker.start("in", SOURCE, &[("file", input.to_str().unwrap()), ("topic", &topic)]);
    let sink = worker.start("out", SINK, &[("file", output.to_str().unwrap()), ("topics", &topic)]);
    let owning = worker.start("owner", "test.Owner", &[("topics", &topic)]);
    eventually("the first line", async || (lines(&output) == ["before"]).then_some(())).await;
    broker.kill().await.unwrap();
    std::fs::write(&input, "before\nduring\n").unwrap();
    broker.restart().await.unwrap();
    std::fs::write(&input, "before\nduring\nafter\n").unwrap();
    eventually("all lines", async || {
        lines(&output).contains(&"after".to_owned()).then_some(())
    })
    .await;
    eventually("the owner has them, too", async || {
        (owner.taken.lock().unwrap().last().map(String::as_str) == Some("after")).then_some(())
    })
    .await;
    // The source may send again what was not acknowledged, which is in the topic then.
    let sent = values(&broker, &topic).await;
    let mut once = sent.clone();
    once.dedup();
    assert_eq!(once, ["before", "during", "after"], "{sent:?}");
    assert!(sent.len() <= 4, "more was sent again than was under way: {sent:?}");
    // The owner keeps its positions itself: each record once. The sink goes back to what its group had committed.
    assert_eq!(*owner.taken.lock().unwrap(), sent);
    let written = lines(&output);
    let mut next = 0;
    for line in &written {
        let place = match sent.get(next) == Some(line) {
            true => next,
            false => sent[..next]
                .iter()
                .rposition(|earlier| earlier == line)
                .expect("a line of nowhere"),
        };
        next = place + 1;
    }
    assert_eq!(next, sent.len(), "{written:?} of {sent:?}");
    assert!(written.len() <= 2 * sent.len(), "{written:?} of {sent:?}");
    for task in [&source, &sink, &owning] {
        stop(task).await;
    }
    for connector in ["in", "out", "owner"] {
        assert_eq!(worker.events.last(connector), Some(TaskState::Running), "{connector}");
    }
}

/// A task that owns partitions and keeps what it is handed.
#[derive(Default)]
struct Owner {
    taken: Mutex<Vec<String>>,
    position: Mutex<BTreeMap<TopicPartition, i64>>,
    opened: AtomicUsize,
}

struct OwnerPlugin(Arc<Owner>);
struct OwnerTask(Arc<Owner>, SinkOffsets);

#[async_trait]
impl ConnectorPlugin for OwnerPlugin {
    fn class(&self) -> &'static str {
        "test.Owner"
    }
    fn task_class(&self) -> &'static str {
        "test.OwnerTask"
    }
    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Sink
    }
    fn config_def(&self) -> ConfigDef {
        ConfigDef::new()
    }
    fn connector(&self) -> Box<dyn Connector> {
        Box::new(NoConnector)
    }
    fn task(&self) -> Task {
        let owner = Arc::clone(&self.0);
        Task::Partitioned(Box::new(move |_| Ok(Box::new(OwnerTask(owner, SinkOffsets::new())))))
    }
}

impl PartitionedSinkTask for OwnerTask {
    fn open(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, StartAt)>, ConnectError> {
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let position = self.0.position.lock().unwrap();
        let start = |partition| {
            position
                .get(partition)
                .map_or(StartAt::Beginning, |offset| StartAt::Offset(*offset))
        };
        Ok(partitions
            .iter()
            .map(|partition| (partition.clone(), start(partition)))
            .collect())
    }
    fn hand_over(&mut self, records: &[RawRecord<'_>]) -> Result<Accepted, ConnectError> {
        let mut taken = self.0.taken.lock().unwrap();
        for record in records {
            taken.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            self.1
                .insert(TopicPartition::new(record.topic, record.partition), record.offset + 1);
        }
        Ok(Accepted { records: records.len() })
    }
    fn advance(&mut self, _: Instant) -> Result<Advance, ConnectError> {
        let durable = std::mem::take(&mut self.1);
        self.0.position.lock().unwrap().extend(durable.clone());
        Ok(Advance {
            durable: (!durable.is_empty()).then(|| Durable::up_to(durable)),
            ..Advance::default()
        })
    }
    fn barrier(&mut self, _: Duration) -> Result<Durable<SinkOffsets>, ConnectError> {
        Ok(Durable::up_to(
            self.0.position.lock().unwrap().clone().into_iter().collect(),
        ))
    }
    fn close(&mut self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_partitions_goes_on_where_it_was_and_its_group_shows_it() {
    let broker = KafkaBroker::shared().await.unwrap();
    let owner = Arc::new(Owner::default());
    let worker = Worker::new(&broker.bootstrap(), vec![Arc::new(OwnerPlugin(Arc::clone(&owner)))]);
    let topic = unique("owned");
    create(broker, &topic, 2).await;
    let name = unique("owner");
    produce(broker, &topic, &["1", "2"]).await;
    let task = worker.start(&name, "test.Owner", &[("topics", &topic)]);
    eventually("two records", async || {
        (owner.taken.lock().unwrap().len() == 2).then_some(())
    })
    .await;
    task.pause();
    worker.events.reaches(&name, TaskState::Paused).await;
    produce(broker, &topic, &["3"]).await;
    task.resume();
    eventually("the third record", async || {
        (owner.taken.lock().unwrap().len() == 3).then_some(())
    })
    .await;
    stop(&task).await;
    assert_eq!(*owner.taken.lock().unwrap(), ["1", "2", "3"]);
    assert_eq!(owner.opened.load(Ordering::Relaxed), 2);
    let admin = Admin::new(&broker.config()).unwrap();
    let committed = admin.group_offsets(&format!("connect-{name}")).await.unwrap();
    let committed: Vec<i64> = committed
        .iter()
        .filter(|(p, _)| p.partition == 0)
        .map(|(_, offset)| *offset)
        .collect();
    assert_eq!(committed, [3]);

    // topics whose partition counts differ are refused by name
    let other = unique("unequal");
    create(broker, &other, 3).await;
    let name = unique("owner");
    let task = worker.start(&name, "test.Owner", &[("topics", &format!("{topic},{other}"))]);
    let trace = worker.events.fails(&name).await;
    assert!(
        trace.contains(&format!("{other} (3 partitions) must have the same number")),
        "{trace}"
    );
    stop(&task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_topic_follows_its_file() {
    let broker = KafkaBroker::shared().await.unwrap();
    let worker = Worker::new(&broker.bootstrap(), Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.csv");
    let topic = unique("catalog");
    let config = [
        ("file", file.to_str().unwrap()),
        ("topic", topic.as_str()),
        ("key.field", "id"),
        ("fields.numeric", "price"),
        ("poll.interval.ms", "20"),
        ("value.converter", "JsonConverter"),
        ("value.converter.schemas.enable", "false"),
        ("topic.creation.default.partitions", "2"),
        ("topic.creation.default.replication.factor", "1"),
        ("topic.creation.default.cleanup.policy", "compact"),
    ];
    let rows = async |markers: usize| {
        eventually("the version's markers", async || {
            let records = dump(broker, &topic).await;
            let marked = records
                .iter()
                .filter(|record| text(&record.key).contains("millrace.catalog.marker"))
                .count();
            if marked < markers {
                return None;
            }
            let mut rows = BTreeMap::new();
            for record in records.iter().filter(|record| !text(&record.key).contains("marker")) {
                rows.insert(text(&record.key), text(&record.value));
            }
            rows.retain(|_, value| value != "-");
            Some(
                rows.into_iter()
                    .map(|(key, value)| format!("{key} {value}"))
                    .collect::<Vec<_>>(),
            )
        })
        .await
    };
    std::fs::write(&file, "id,price\na,1\nb,2.5\n").unwrap();
    let task = worker.start("catalog", "millrace.FileCatalogSource", &config);
    assert_eq!(
        rows(2).await,
        [r#"a {"id":"a","price":1}"#, r#"b {"id":"b","price":2.5}"#]
    );
    stop(&task).await;
    // a row leaves the file while nobody watches
    std::fs::write(&file, "id,price\nb,2.5\nc,3\n").unwrap();
    let task = worker.start("catalog", "millrace.FileCatalogSource", &config);
    assert_eq!(
        rows(4).await,
        [r#"b {"id":"b","price":2.5}"#, r#"c {"id":"c","price":3}"#]
    );
    stop(&task).await;
    let unchanged = dump(broker, &topic)
        .await
        .iter()
        .filter(|record| text(&record.key) == "b")
        .count();
    assert_eq!(unchanged, 1, "a row that did not change was sent again");
}
