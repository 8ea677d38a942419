//! A worker against Apache Kafka, asked over REST: what it answers, what it writes to its topics, what it keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use connect_api::ConfigMap;
use connect_runtime::logging::Loggers;
use connect_runtime::{Plugins, Worker};
use kafka_client::IsolationLevel;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::inference::{create_topics, produce};
use tests::kafka::KafkaBroker;
use tests::worker::WorkerProcess;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition: who asks without a pause takes the CPU from what is waited for.
const LOOK: Duration = Duration::from_millis(20);

struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// Waits until `condition` holds of the answer to `GET path`.
    async fn until(&self, path: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let (_, body) = self.send("GET", path, None).await;
            if condition(&body) {
                return body;
            }
            assert!(
                Instant::now() < give_up,
                "GET {path} never became what it should: {body}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn until_states(&self, connector: &str, state: &str, tasks: &[&str]) -> Value {
        self.until(&format!("/connectors/{connector}/status"), |body| {
            let found: Vec<&str> = body["tasks"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|task| task["state"].as_str())
                .collect();
            body["connector"]["state"] == state && found == tasks
        })
        .await
    }
}

fn properties(broker: &KafkaBroker, group: &str) -> ConfigMap {
    let storage = |topic: &str| format!("{group}-{topic}");
    [
        ("bootstrap.servers", broker.bootstrap()),
        ("group.id", group.to_owned()),
        (
            "key.converter",
            "org.apache.kafka.connect.storage.StringConverter".to_owned(),
        ),
        (
            "value.converter",
            "org.apache.kafka.connect.storage.StringConverter".to_owned(),
        ),
        ("config.storage.topic", storage("configs")),
        ("offset.storage.topic", storage("offsets")),
        ("status.storage.topic", storage("status")),
        ("config.storage.replication.factor", "1".to_owned()),
        ("offset.storage.replication.factor", "1".to_owned()),
        ("status.storage.replication.factor", "1".to_owned()),
        ("offset.storage.partitions", "2".to_owned()),
        ("status.storage.partitions", "2".to_owned()),
        ("offset.flush.interval.ms", "200".to_owned()),
        ("listeners", "http://127.0.0.1:0".to_owned()),
        ("config.providers", "file".to_owned()),
        (
            "config.providers.file.class",
            "org.apache.kafka.common.config.provider.FileConfigProvider".to_owned(),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Some(value)))
    .collect()
}

async fn worker(broker: &KafkaBroker, group: &str) -> (Worker, Client) {
    let mut plugins = Plugins::builtin();
    plugins.connectors.extend(connectors::plugins());
    let starting = Worker::start(&properties(broker, group), Arc::new(plugins), Loggers::detached())
        .await
        .unwrap();
    let client = Client {
        http: reqwest::Client::new(),
        url: format!("http://{}", starting.id()),
    };
    let (status, health) = client.send("GET", "/health", None).await;
    assert_eq!((status, health["status"].as_str()), (503, Some("starting")));
    assert_eq!(client.send("GET", "/connectors", None).await.0, 404);
    let worker = starting.finish().await.unwrap();
    assert_eq!(client.get("/health").await["status"], "healthy");
    (worker, client)
}

fn source(name: &str, file: &Path, topic: &str) -> Value {
    json!({
        "name": name,
        "config": {
            "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
            "tasks.max": 1,
            "file": file.to_str().unwrap(),
            "topic": topic,
        },
    })
}

/// Keys and values of a topic, in the order of its only partition; session keys are left out, they are random.
async fn records(broker: &KafkaBroker, topic: &str) -> Vec<(String, Option<Value>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    broker
        .dump(topic, IsolationLevel::ReadUncommitted)
        .await
        .unwrap()
        .into_iter()
        .map(|record| {
            (
                text(&record.key.unwrap()),
                record.value.map(|value| serde_json::from_slice(&value).unwrap()),
            )
        })
        .filter(|(key, _)| key != "session-key")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_from_its_creation_to_its_end() {
    let broker = KafkaBroker::shared().await.unwrap();
    let (worker, client) = worker(broker, "life").await;
    let folder = tempfile::tempdir().unwrap();
    let (input, secrets) = (folder.path().join("in.txt"), folder.path().join("s.properties"));
    std::fs::write(&input, "one\ntwo\n").unwrap();
    std::fs::write(&secrets, format!("f={}\n", input.display())).unwrap();
    let reference = format!("${{file:{}:f}}", secrets.display());
    let config = json!({
        "connector.class": "FileStreamSource", "file": reference, "topic": "life-lines", "name": "src",
    });

    assert_eq!(client.get("/connectors/").await, json!([]));
    let (status, created) = client
        .send("POST", "/connectors", Some(json!({"name": "src", "config": config})))
        .await;
    assert_eq!(
        (status, &created["config"], &created["type"]),
        (201, &config, &json!("source")),
        "{created}"
    );
    let (status, refused) = client
        .send("POST", "/connectors", Some(json!({"name": "src", "config": config})))
        .await;
    assert_eq!(
        (status, refused),
        (
            409,
            json!({"error_code": 409, "message": "Connector src already exists"})
        )
    );

    let running = client.until_states("src", "RUNNING", &["RUNNING"]).await;
    assert_eq!(
        (&running["name"], &running["type"], &running["tasks"][0]["id"]),
        (&json!("src"), &json!("source"), &json!(0))
    );
    let task_config = json!({
        "file": reference, "topic": "life-lines", "connector.class": "FileStreamSource", "name": "src",
        "task.class": "org.apache.kafka.connect.file.FileStreamSourceTask",
    });
    let tasks = client.get("/connectors/src/tasks").await;
    assert_eq!(
        tasks,
        json!([{"id": {"connector": "src", "task": 0}, "config": task_config}])
    );
    assert_eq!(client.get("/connectors/src/config").await, config);
    let offsets = client
        .until("/connectors/src/offsets", |body| {
            body["offsets"][0]["offset"]["position"] == 8
        })
        .await;
    assert_eq!(offsets["offsets"][0]["partition"]["filename"], input.to_str().unwrap());
    let topics = client
        .until("/connectors/src/topics", |body| {
            body["src"]["topics"] == json!(["life-lines"])
        })
        .await;
    assert_eq!(topics, json!({"src": {"topics": ["life-lines"]}}));

    assert_eq!(client.send("PUT", "/connectors/src/pause", None).await.0, 202);
    client.until_states("src", "PAUSED", &["PAUSED"]).await;
    assert_eq!(client.send("PUT", "/connectors/src/resume", None).await.0, 202);
    client.until_states("src", "RUNNING", &["RUNNING"]).await;
    assert_eq!(client.send("POST", "/connectors/src/restart", None).await.0, 204);
    assert_eq!(
        client.send("POST", "/connectors/src/tasks/0/restart", None).await.0,
        204
    );
    let (status, unknown) = client.send("POST", "/connectors/src/tasks/7/restart", None).await;
    assert_eq!(
        (status, unknown["message"].as_str()),
        (404, Some("Unknown task: src-7"))
    );
    let (status, restarting) = client
        .send("POST", "/connectors/src/restart?includeTasks=true", None)
        .await;
    assert_eq!((status, &restarting["connector"]["state"]), (202, &json!("RESTARTING")));
    client.until_states("src", "RUNNING", &["RUNNING"]).await;

    let (status, refused) = client.send("DELETE", "/connectors/src/offsets", None).await;
    assert_eq!(status, 400);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .starts_with("Connectors must be in the STOPPED state")
    );
    assert_eq!(client.send("PUT", "/connectors/src/stop", None).await.0, 204);
    client.until_states("src", "STOPPED", &[]).await;
    let (status, reset) = client.send("DELETE", "/connectors/src/offsets", None).await;
    assert_eq!(status, 200, "{reset}");
    assert_eq!(client.get("/connectors/src/offsets").await, json!({"offsets": []}));

    let (status, deleted) = client.send("DELETE", "/connectors/src", None).await;
    assert_eq!(status, 204, "{deleted}");
    assert_eq!(client.get("/connectors").await, json!([]));
    assert_eq!(
        client.send("GET", "/connectors/src", None).await.1["message"],
        "Connector src not found"
    );
    client
        .until("/connectors/src/status", |body| {
            body["message"] == "No status found for connector src"
        })
        .await;
    worker.stop().await;

    // the records that a Java worker writes for the same requests
    let properties = |config: &Value| Some(json!({"properties": config}));
    let target = |state: &str, v2: &str| Some(json!({"state": state, "state.v2": v2}));
    let key = |key: &str| key.to_owned();
    let expected = vec![
        (key("connector-src"), properties(&config)),
        (key("task-src-0"), properties(&task_config)),
        (key("commit-src"), Some(json!({"tasks": 1}))),
        (key("target-state-src"), target("PAUSED", "PAUSED")),
        (key("target-state-src"), target("STARTED", "STARTED")),
        (
            key("restart-connector-src"),
            Some(json!({"include-tasks": true, "only-failed": false})),
        ),
        (key("commit-src"), Some(json!({"tasks": 0}))),
        (key("target-state-src"), target("PAUSED", "STOPPED")),
        (key("connector-src"), None),
        (key("target-state-src"), None),
    ];
    assert_eq!(records(broker, "life-configs").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_keeps_everything() {
    let broker = KafkaBroker::shared().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.txt");
    std::fs::write(&input, "one\n").unwrap();
    let (first, client) = worker(broker, "back").await;
    for name in ["running", "paused"] {
        let (status, created) = client
            .send("POST", "/connectors", Some(source(name, &input, "back-lines")))
            .await;
        assert_eq!(status, 201, "{created}");
        client.until_states(name, "RUNNING", &["RUNNING"]).await;
    }
    assert_eq!(client.send("PUT", "/connectors/paused/pause", None).await.0, 202);
    client.until_states("paused", "PAUSED", &["PAUSED"]).await;
    client
        .until("/connectors/running/offsets", |body| {
            body["offsets"][0]["offset"]["position"] == 4
        })
        .await;
    let before = client.get("/connectors?expand=info").await;
    first.stop().await;

    let (second, client) = worker(broker, "back").await;
    assert_eq!(client.get("/connectors?expand=info").await, before);
    client.until_states("running", "RUNNING", &["RUNNING"]).await;
    client.until_states("paused", "PAUSED", &["PAUSED"]).await;
    assert_eq!(
        client.get("/connectors/running/offsets").await["offsets"][0]["offset"]["position"],
        4
    );
    second.stop().await;
    let commits = records(broker, "back-configs")
        .await
        .into_iter()
        .filter(|(key, _)| key.starts_with("commit-"));
    assert_eq!(
        commits.count(),
        2,
        "a restart publishes no task set that is in force already"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_by_name() {
    let broker = KafkaBroker::shared().await.unwrap();
    let (worker, client) = worker(broker, "wrong").await;
    let message = |body: &Value| body["message"].as_str().unwrap_or_default().to_owned();
    let sink = |further: Value| {
        let mut config = json!({"connector.class": "FileStreamSink", "file": "/dev/null"});
        config
            .as_object_mut()
            .unwrap()
            .extend(further.as_object().unwrap().clone());
        json!({"name": "a/b", "config": config})
    };
    let (status, body) = client
        .send("POST", "/connectors", Some(sink(json!({"tasks.max": "x"}))))
        .await;
    assert_eq!(status, 400);
    assert!(
        message(&body).contains("Invalid value x for configuration tasks.max: Not a number of type INT"),
        "{body}"
    );
    assert!(message(&body).contains("Must configure one of topics or topics.regex"));
    let (status, body) = client
        .send("POST", "/connectors", Some(json!({"name": "x", "confg": {}})))
        .await;
    assert_eq!(status, 500);
    assert!(message(&body).contains("Unrecognized field \"confg\""));
    let (status, body) = client.send("PUT", "/connectors/x/config", Some(json!([1]))).await;
    assert_eq!(status, 500);
    assert!(message(&body).contains("Cannot deserialize value"));
    let (status, body) = client.send("PUT", "/connectors/x/pause", None).await;
    assert_eq!((status, message(&body)), (404, "Unknown connector x".to_owned()));
    assert_eq!(client.send("DELETE", "/connectors", None).await.0, 405);
    assert_eq!(client.send("GET", "/nothing", None).await.0, 404);

    // a name with a slash can be addressed
    let (status, body) = client
        .send("POST", "/connectors", Some(sink(json!({"topics": "wrong-t"}))))
        .await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(client.get("/connectors/a%2Fb").await["name"], "a/b");
    let (status, body) = client
        .send("PATCH", "/connectors/a%2Fb/config", Some(json!({"name": "other"})))
        .await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(client.send("DELETE", "/connectors/a%2Fb", None).await.0, 204);

    let body = json!({"connector.class": "FileStreamSink", "name": "v", "topics": "t", "file": "/dev/null"});
    let (status, validated) = client
        .send("PUT", "/connector-plugins/FileStreamSink/config/validate", Some(body))
        .await;
    assert_eq!((status, &validated["error_count"]), (200, &json!(0)), "{validated}");
    worker.stop().await;
}

/// Where statuses are asked for, a connector that no worker has taken yet is left out, as in Java: it is never there without one.
#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_was_made_just_now_has_a_status_or_is_left_out() {
    let broker = KafkaBroker::shared().await.unwrap();
    let (worker, client) = worker(broker, "listed").await;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.txt");
    std::fs::write(&input, "").unwrap();
    for number in 0..10 {
        let name = format!("new-{number}");
        let (status, made) = client
            .send("POST", "/connectors", Some(source(&name, &input, "listed-lines")))
            .await;
        assert_eq!(status, 201, "{made}");
        for query in [
            "",
            "?expand=status",
            "?expand=info",
            "?expand=info&expand=status",
            "?expand=info,status",
        ] {
            let all = client.get(&format!("/connectors{query}")).await;
            let listed = match query {
                "" => all.as_array().is_some_and(|names| names.contains(&json!(name))),
                _ => all.get(&name).is_some(),
            };
            if !query.contains("status") {
                assert!(listed, "GET /connectors{query} after POST of {name}: {all}");
            }
        }
        // Sooner or later it is there, and whenever it is, whole.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let all = client.get("/connectors?expand=status").await;
            if let Some(found) = all.get(&name) {
                let status = &found["status"];
                let state = &status["connector"]["state"];
                assert!(state == "UNASSIGNED" || state == "RUNNING", "{all}");
                assert_eq!((&status["name"], &status["type"]), (&json!(name), &json!("source")));
                break;
            }
            assert!(Instant::now() < deadline, "{name} is never there: {all}");
        }
    }
    worker.stop().await;
}

/// Brokers that go away are no reason to hang, neither for who asks after the worker nor for who stops it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_broker_is_away_says_so_and_stops() {
    let broker = KafkaBroker::start().await.unwrap();
    let mut worker = WorkerProcess::new(&broker.bootstrap(), "away").unwrap();
    worker.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    a_source_and_a_sink(&worker, folder.path()).await;
    broker.kill().await.unwrap();
    says_that_it_is_unhealthy(&worker).await;
    assert_eq!(worker.stop().unwrap(), 0, "SIGTERM without a broker");

    broker.restart().await.unwrap();
    worker.start().await.unwrap();
    assert_eq!(worker.get("/health").await.unwrap()["status"], "healthy");
    assert_eq!(worker.stop().unwrap(), 0);
}

/// A broker that holds its connections and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_broker_hangs_says_so_and_stops() {
    let broker = KafkaBroker::start().await.unwrap();
    let mut worker = WorkerProcess::new(&broker.bootstrap(), "hangs").unwrap();
    worker.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    a_source_and_a_sink(&worker, folder.path()).await;
    broker.freeze().unwrap();
    says_that_it_is_unhealthy(&worker).await;
    assert_eq!(worker.stop().unwrap(), 0, "SIGTERM beside a broker that hangs");

    broker.thaw().unwrap();
    worker.start().await.unwrap();
    assert_eq!(worker.get("/health").await.unwrap()["status"], "healthy");
    assert_eq!(worker.stop().unwrap(), 0);
}

async fn a_source_and_a_sink(worker: &WorkerProcess, folder: &Path) {
    let (input, output) = (folder.join("in"), folder.join("out"));
    std::fs::write(&input, "one\n").unwrap();
    let source = json!({ "connector.class": "FileStreamSource", "file": input, "topic": "away-lines" });
    let sink = json!({ "connector.class": "FileStreamSink", "file": output, "topics": "away-lines" });
    worker.put("/connectors/source/config", &source).await.unwrap();
    worker.put("/connectors/sink/config", &sink).await.unwrap();
    for connector in ["source", "sink"] {
        let running = |_, status: &Value| status["tasks"][0]["state"] == "RUNNING";
        let path = format!("/connectors/{connector}/status");
        worker.until(&path, running).await.unwrap();
    }
}

async fn says_that_it_is_unhealthy(worker: &WorkerProcess) {
    let health = worker.until("/health", |status, _| status == 500).await.unwrap();
    assert_eq!(health["status"], "unhealthy");
    let message = health["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("Worker was unable to handle this request"),
        "{health}"
    );
    // what it knows it still tells
    let config = worker.get("/connectors/source/config").await.unwrap();
    assert_eq!(config["topic"], "away-lines");
}

/// The properties of a Java worker whose default converter is not built in: who has converters of his own runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_default_converter_that_is_not_built_in_stops_only_who_relies_on_it() {
    const AVRO: &str = "io.confluent.connect.avro.AvroConverter";
    let broker = KafkaBroker::shared().await.unwrap();
    let mut worker = WorkerProcess::new(&broker.bootstrap(), "converter-elsewhere").unwrap();
    worker.set("value.converter", AVRO);
    worker.set("value.converter.schema.registry.url", "http://localhost:8081");
    worker.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    std::fs::write(&input, "one\n").unwrap();
    let text = "org.apache.kafka.connect.storage.StringConverter";
    let relies = json!({ "connector.class": "FileStreamSource", "file": input, "topic": "converter-elsewhere" });
    let mut has_its_own = relies.clone();
    has_its_own["value.converter"] = json!(text);
    worker.put("/connectors/relies/config", &relies).await.unwrap();
    worker
        .put("/connectors/has-its-own/config", &has_its_own)
        .await
        .unwrap();
    let failed = |_, status: &Value| status["tasks"][0]["state"] == "FAILED";
    let status = worker.until("/connectors/relies/status", failed).await.unwrap();
    assert!(
        status["tasks"][0]["trace"]
            .as_str()
            .is_some_and(|trace| trace.contains(AVRO)),
        "{status}"
    );
    let runs = |_, status: &Value| status["tasks"][0]["state"] == "RUNNING";
    worker.until("/connectors/has-its-own/status", runs).await.unwrap();
    let log = worker.log();
    assert!(
        log.lines().any(|line| line.contains(" ERROR ") && line.contains(AVRO)),
        "{log}"
    );
    assert_eq!(worker.stop().unwrap(), 0);

    // what nobody has is a mistake, as in Java
    worker.set("value.converter", "io.confluent.connect.avro.AvroConverterr");
    assert!(worker.start().await.is_err());
    let log = worker.log();
    assert!(
        log.contains("Class io.confluent.connect.avro.AvroConverterr could not be found"),
        "{log}"
    );
}

/// Properties that nobody reads are named with the file that they stand in: those that are nearly one are an error.
#[tokio::test(flavor = "multi_thread")]
async fn properties_that_nobody_reads_are_named_with_their_file() {
    let broker = KafkaBroker::shared().await.unwrap();
    let faults: [(&str, &str, &str); 5] = [
        ("consumer.zzz", "1", "consumer.zzz: option zzz: unknown"),
        (
            "producer.linger.mss",
            "1",
            "producer.linger.mss: option linger.mss: unknown, or not supported by this client; remove it; did you mean linger.ms?",
        ),
        (
            "offset.flush.intervall.ms",
            "1",
            "'offset.flush.intervall.ms': did you mean 'offset.flush.interval.ms'?",
        ),
        (
            "consumer.max.poll.records",
            "many",
            "consumer.max.poll.records: option max.poll.records: \"many\" is not a whole number",
        ),
        (
            "value.converter.schema.enable",
            "false",
            "did you mean 'value.converter.schemas.enable'?",
        ),
    ];
    // converters are asked once the worker's own properties are right
    for (group, faults) in [("unread-one", &faults[..4]), ("unread-other", &faults[4..])] {
        let mut worker = WorkerProcess::new(&broker.bootstrap(), group).unwrap();
        for (name, value, _) in faults {
            worker.set(name, value);
        }
        worker.start_without_waiting().await.unwrap();
        let give_up = Instant::now() + PATIENCE;
        while worker.is_running().unwrap() {
            assert!(Instant::now() < give_up, "it does not end: {}", worker.log_tail());
            tokio::time::sleep(LOOK).await;
        }
        let log = worker.log();
        let words = log
            .split("the worker could not be started: ")
            .nth(1)
            .unwrap_or_default();
        let file = worker.directory().join("worker.properties").display().to_string();
        assert!(words.starts_with(&file), "{log}");
        for (.., said) in faults {
            assert_eq!(words.matches(said).count(), 1, "{said}: {log}");
        }
        // a line for each, not all in one
        assert!(!words.contains("\\n"), "{log}");
    }

    let mut worker = WorkerProcess::new(&broker.bootstrap(), "unread-warned").unwrap();
    worker.set("note.of.the.owner", "team a");
    worker.start().await.unwrap();
    let log = worker.log();
    let line = log
        .lines()
        .find(|line| line.contains("note.of.the.owner"))
        .unwrap_or_default();
    let file = worker.directory().join("worker.properties").display().to_string();
    assert!(line.contains(" WARN ") && line.contains(&file), "{line}");
    worker.stop().unwrap();
}

/// Patterns are Java's wherever one is written: look-ahead and intersections, which other engines refuse or read otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_topics_are_javas() {
    let broker = KafkaBroker::shared().await.unwrap();
    let (worker, client) = worker(broker, "patterns").await;
    let topics = ["rx-keep", "rx-drop", "rx-b", "rx-old"];
    create_topics(&broker.bootstrap(), &topics.map(|topic| (topic, 1)))
        .await
        .unwrap();
    for topic in topics {
        produce(&broker.bootstrap(), topic, [(String::new(), topic.to_owned())]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let config = json!({
        "connector.class": "FileStreamSink", "file": output, "topics.regex": "rx-(?!old)[a-z&&[^b]]+",
        "transforms": "drop", "transforms.drop.type": "Filter", "transforms.drop.predicate": "p",
        "predicates": "p", "predicates.p.type": "TopicNameMatches", "predicates.p.pattern": ".*-(?=dr)drop",
    });
    let (status, made) = client.send("PUT", "/connectors/rx/config", Some(config)).await;
    assert_eq!(status, 201, "{made}");
    let read = |topic: &str| json!({ "partition": { "kafka_topic": topic, "kafka_partition": 0 }, "offset": { "kafka_offset": 1 } });
    let offsets = client
        .until("/connectors/rx/offsets", |body| {
            let offsets = body["offsets"].as_array();
            offsets.is_some_and(|offsets| {
                [read("rx-keep"), read("rx-drop")]
                    .iter()
                    .all(|read| offsets.contains(read))
            })
        })
        .await;
    assert_eq!(offsets["offsets"].as_array().map(Vec::len), Some(2), "{offsets}");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "rx-keep\n");
    worker.stop().await;
}
