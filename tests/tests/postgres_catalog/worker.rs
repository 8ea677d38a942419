//! A worker with the Postgres connector, asked over REST, and what its topics hold.

#![allow(dead_code)] // two binaries share this file, and neither uses all of it

use connect_api::ConfigMap;
use connect_runtime::logging::Loggers;
use connect_runtime::{Plugins, Worker};
use kafka_client::{Admin, IsolationLevel, LogRecord, NewTopic};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tests::worker_process::WorkerProcess;
use tests::{KafkaBroker, PostgresServer};

/// A condition that does not hold by then never will.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until `condition` gives something; `state` says in a failure what is there instead.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut state = "the first look has not come back".to_owned();
    loop {
        let look = tokio::time::timeout_at(deadline.into(), condition()).await;
        match look {
            Ok(Ok(found)) => return found,
            Ok(Err(other)) => state = other,
            Err(_) => panic!("waited too long: {what}; instead: {state}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the workers of this process have logged at WARN and ERROR.
static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn keep_log() -> &'static Arc<Mutex<Vec<u8>>> {
    LOG.get_or_init(|| {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&kept);
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
            .with_ansi(false)
            .with_writer(move || Log(Arc::clone(&writer)))
            .init();
        kept
    })
}

/// Lines of the log that contain `text`.
pub fn logged(text: &str) -> Vec<String> {
    let log = keep_log().lock().unwrap_or_else(PoisonError::into_inner).clone();
    let log = String::from_utf8_lossy(&log).into_owned();
    log.lines()
        .filter(|line| line.contains(text))
        .map(str::to_owned)
        .collect()
}

/// A broker, a database of the test's own, and a worker.
pub struct Stage {
    pub broker: &'static KafkaBroker,
    pub database: String,
    pub port: u16,
    name: String,
    worker: Option<Worker>,
    client: Client,
}

pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.timeout(PATIENCE).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

fn properties(broker: &KafkaBroker, group: &str) -> ConfigMap {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    [
        ("bootstrap.servers", broker.bootstrap()),
        ("group.id", group.to_owned()),
        ("key.converter", json.to_owned()),
        ("key.converter.schemas.enable", "false".to_owned()),
        ("value.converter", json.to_owned()),
        ("value.converter.schemas.enable", "false".to_owned()),
        ("config.storage.topic", format!("{group}-configs")),
        ("offset.storage.topic", format!("{group}-offsets")),
        ("status.storage.topic", format!("{group}-status")),
        ("config.storage.replication.factor", "1".to_owned()),
        ("offset.storage.replication.factor", "1".to_owned()),
        ("status.storage.replication.factor", "1".to_owned()),
        ("offset.storage.partitions", "2".to_owned()),
        ("status.storage.partitions", "2".to_owned()),
        ("offset.flush.interval.ms", "100".to_owned()),
        ("listeners", "http://127.0.0.1:0".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Some(value)))
    .collect()
}

async fn start_worker(broker: &KafkaBroker, group: &str) -> (Worker, Client) {
    keep_log();
    let mut plugins = Plugins::builtin();
    plugins.connectors.extend(catalog_source::plugins());
    let starting = Worker::start(&properties(broker, group), Arc::new(plugins), Loggers::detached())
        .await
        .unwrap();
    let client = Client {
        http: reqwest::Client::new(),
        url: format!("http://{}", starting.id()),
    };
    (starting.finish().await.unwrap(), client)
}

impl Stage {
    /// On the server that the tests share.
    pub async fn new(name: &str) -> Self {
        Self::on(PostgresServer::shared().await.unwrap(), name).await
    }

    /// On a server of the test's own.
    pub async fn on(server: &PostgresServer, name: &str) -> Self {
        let broker = KafkaBroker::shared().await.unwrap();
        let database = format!("{name}_db");
        server
            .psql("postgres", &format!("CREATE DATABASE {database}"))
            .await
            .unwrap();
        server
            .psql(
                &database,
                "DO $$ BEGIN CREATE ROLE capture LOGIN REPLICATION SUPERUSER PASSWORD 'correct horse'; \
                 EXCEPTION WHEN duplicate_object THEN END $$;",
            )
            .await
            .unwrap_or_else(|error| {
                // another test was quicker
                assert!(error.to_string().contains("pg_authid"), "{error}");
                String::new()
            });
        let (worker, client) = start_worker(broker, name).await;
        Self {
            broker,
            database,
            port: server.port(),
            name: name.to_owned(),
            worker: Some(worker),
            client,
        }
    }

    /// Options that every connector here has; the topic prefix is the test's name.
    pub fn config(&self, more: &[(&str, &str)]) -> Value {
        let mut config = Map::new();
        let port = self.port.to_string();
        for (name, value) in [
            ("name", self.name.as_str()),
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("tasks.max", "1"),
            ("database.hostname", "127.0.0.1"),
            ("database.port", port.as_str()),
            ("database.user", "capture"),
            ("database.password", "correct horse"),
            ("database.dbname", self.database.as_str()),
            ("topic.prefix", self.name.as_str()),
            ("plugin.name", "pgoutput"),
            ("slot.name", self.name.as_str()),
            ("publication.autocreate.mode", "filtered"),
            ("slot.retry.delay.ms", "200"),
            ("slot.max.retries", "100"),
            ("topic.creation.default.partitions", "1"),
            ("topic.creation.default.replication.factor", "1"),
            ("topic.creation.default.cleanup.policy", "compact"),
        ]
        .iter()
        .chain(more)
        {
            config.insert((*name).to_owned(), (*value).into());
        }
        Value::Object(config)
    }

    /// A Java worker with Debezium in the place of this one, which must not run: of the same group, on the same topics.
    pub async fn start_debezium(&mut self) -> Debezium {
        assert!(self.worker.is_none(), "two workers of one group");
        let mut properties = properties(self.broker, &self.name);
        properties.shift_remove("listeners");
        let properties: Vec<(&str, String)> = properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone().unwrap_or_default()))
            .collect();
        let worker = WorkerProcess::start_debezium(&properties).await.unwrap();
        self.client = Client {
            http: reqwest::Client::new(),
            url: worker.url.clone(),
        };
        Debezium(worker)
    }

    /// Creates or changes the connector.
    pub async fn put(&self, config: Value) -> (u16, Value) {
        let path = format!("/connectors/{}/config", self.name);
        // a worker that has just started may still be joining its group
        eventually("the worker takes a configuration", async || {
            match self.client.send("PUT", &path, Some(config.clone())).await {
                (409 | 503, body) => Err(body.to_string()),
                answer => Ok(answer),
            }
        })
        .await
    }

    /// Stops the connector; its task has ended then.
    pub async fn stop_connector(&self) {
        assert_eq!(self.send("PUT", "/stop").await.0, 204);
        eventually("the connector has stopped", async || {
            let status = self.send("GET", "/status").await.1;
            if status["tasks"] == json!([]) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
    }

    /// Resumes it, and waits until its task is in `state`; the trace.
    pub async fn resume_connector(&self, state: &str) -> String {
        assert_eq!(self.send("PUT", "/resume").await.0, 202);
        self.task_is(state).await
    }

    /// Creates the connector, which must be accepted, and waits until its task runs. One that is there is stopped before: what
    /// follows is read as it is told now.
    pub async fn run(&self, config: Value) {
        let there = self.send("GET", "/config").await.0 == 200;
        if there {
            self.stop_connector().await;
        }
        let (status, body) = self.put(config).await;
        assert!(status == 201 || status == 200, "{status} {body}");
        if there {
            self.resume_connector("RUNNING").await;
        } else {
            self.task_is("RUNNING").await;
        }
    }

    pub async fn send(&self, method: &str, path: &str) -> (u16, Value) {
        let path = format!("/connectors/{}{path}", self.name);
        self.client.send(method, &path, None).await
    }

    pub async fn patch_offsets(&self, offsets: Value) -> (u16, Value) {
        let path = format!("/connectors/{}/offsets", self.name);
        self.client.send("PATCH", &path, Some(offsets)).await
    }

    pub async fn validate(&self, config: Value) -> Vec<(String, String)> {
        let path = "/connector-plugins/PostgresConnector/config/validate";
        let (status, body) = self.client.send("PUT", path, Some(config)).await;
        assert_eq!(status, 200, "{body}");
        let configs = body["configs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|config| &config["value"]);
        configs
            .flat_map(|value| {
                let errors = value["errors"].as_array().cloned().unwrap_or_default();
                let name = value["name"].as_str().unwrap().to_owned();
                errors
                    .into_iter()
                    .map(move |error| (name.clone(), error.as_str().unwrap().to_owned()))
            })
            .collect()
    }

    /// Waits for the state of the task; its trace.
    pub async fn task_is(&self, state: &str) -> String {
        eventually(&format!("the task is {state}"), async || {
            let (_, body) = self.send("GET", "/status").await;
            let task = &body["tasks"][0];
            match task["state"] == state {
                true => Ok(task["trace"].as_str().unwrap_or_default().to_owned()),
                false => Err(body.to_string()),
            }
        })
        .await
    }

    /// Stops the worker, as if its machine was shut down, and starts another.
    pub async fn restart_worker(&mut self) {
        self.stop_worker().await;
        self.start_worker().await;
    }

    pub async fn stop_worker(&mut self) {
        self.worker.take().unwrap().stop().await;
    }

    pub async fn start_worker(&mut self) {
        let (worker, client) = start_worker(self.broker, &self.name).await;
        (self.worker, self.client) = (Some(worker), client);
    }

    pub async fn create_topic(&self, topic: &str, partitions: i32) {
        let mut new = NewTopic::new(topic, partitions, 1);
        new.config.insert("cleanup.policy".to_owned(), "compact".to_owned());
        for (_, result) in Admin::new(&self.broker.config())
            .unwrap()
            .create_topics(&[new])
            .await
            .unwrap()
        {
            result.unwrap();
        }
    }

    /// Everything in a topic; nothing where it is not there. Any other error fails the test when it does not pass.
    pub async fn dump(&self, topic: &str) -> Vec<LogRecord> {
        let admin = Admin::new(&self.broker.config()).unwrap();
        eventually(&format!("topic {topic} can be read"), async || {
            let described = admin.topic(topic).await.map_err(|error| error.to_string())?;
            match described {
                None => Ok(Vec::new()),
                Some(_) => self
                    .broker
                    .dump(topic, IsolationLevel::ReadUncommitted)
                    .await
                    .map_err(|error| format!("{error:#}")),
            }
        })
        .await
    }

    /// Waits until a topic has at least so many records.
    pub async fn records(&self, topic: &str, count: usize) -> Vec<LogRecord> {
        eventually(&format!("{count} records in {topic}"), async || {
            let records = self.dump(topic).await;
            match records.len() >= count {
                true => Ok(records),
                false => Err(format!(
                    "{} records; {}",
                    records.len(),
                    self.send("GET", "/status").await.1
                )),
            }
        })
        .await
    }

    /// What a compacted topic comes to: the newest value of each key.
    pub async fn compacted(&self, topic: &str) -> BTreeMap<String, Value> {
        let mut rows = BTreeMap::new();
        for record in self.dump(topic).await {
            let key = text(&record.key);
            match &record.value {
                Some(value) => rows.insert(key, serde_json::from_slice(value).unwrap()),
                None => rows.remove(&key),
            };
        }
        rows
    }

    /// Waits until a compacted topic comes to exactly these rows.
    pub async fn comes_to(&self, topic: &str, rows: &[(&str, Value)]) {
        let expected: BTreeMap<String, Value> =
            rows.iter().map(|(key, row)| ((*key).to_owned(), row.clone())).collect();
        eventually(&format!("topic {topic} holds the table"), async || {
            let found = self.compacted(topic).await;
            match found == expected {
                true => Ok(()),
                false => Err(format!(
                    "{}; status {}",
                    json!(found),
                    self.send("GET", "/status").await.1
                )),
            }
        })
        .await;
    }

    /// The committed source offset.
    pub async fn offset(&self) -> Value {
        self.send("GET", "/offsets").await.1["offsets"][0]["offset"].clone()
    }

    pub async fn finish(mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop().await;
        }
    }
}

/// Waits until nobody reads a slot: the server notices that a reader has gone a moment later.
pub async fn slot_is_free(server: &PostgresServer, slot: &str) {
    eventually(&format!("slot {slot} is free"), async || {
        let sql = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
        let active = server.psql("postgres", &sql).await.map_err(|error| error.to_string())?;
        if active == "0" {
            Ok(())
        } else {
            Err("it is read".to_owned())
        }
    })
    .await;
}

/// A running Java worker with Debezium.
pub struct Debezium(WorkerProcess);

impl Debezium {
    /// Stops it cleanly.
    pub async fn stop(self) {
        self.0.stop().await.unwrap();
    }
}

pub fn text(bytes: &Option<bytes::Bytes>) -> String {
    bytes
        .as_ref()
        .map_or("null".to_owned(), |bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// A record as key and value.
pub fn pair(record: &LogRecord) -> (String, Value) {
    let value = record
        .value
        .as_ref()
        .map_or(Value::Null, |value| serde_json::from_slice(value).unwrap());
    (text(&record.key), value)
}
