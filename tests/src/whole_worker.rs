//! A whole worker in the process of a test, and its REST interface as a client sees it.

#![allow(clippy::indexing_slicing)] // of JSON values: one that has no such member gives null

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use connect_api::{ConfigMap, ConnectorPlugin, WorkerExtension};
use connect_runtime::logging::Loggers;
use connect_runtime::{Plugins, Worker};
use inference_sink::{InferenceService, InferenceSink};
use serde_json::Value;

use crate::inference_scenarios::models;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);
/// A request that is not answered by then hangs, whatever Kafka does meanwhile.
const ANSWER: Duration = Duration::from_secs(10);

/// A worker with every connector that this repository has, over one broker.
pub struct WholeWorker {
    worker: Worker,
    /// what its inference connectors share
    pub inference: Arc<InferenceService>,
    /// its REST interface
    pub rest: RestClient,
}

impl WholeWorker {
    /// Starts one with its files below `directory`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(bootstrap: &str, group: &str, directory: &std::path::Path) -> Result<Self> {
        let inference = Arc::new(InferenceService::new());
        let mut plugins = Plugins::builtin();
        plugins.connectors.extend(connectors::plugins());
        let sink = Arc::new(InferenceSink::new(Arc::clone(&inference))) as Arc<dyn ConnectorPlugin>;
        plugins.connectors.push(sink);
        plugins
            .extensions
            .push(Arc::clone(&inference) as Arc<dyn WorkerExtension>);
        let properties = properties(bootstrap, group, directory);
        let starting = Worker::start(&properties, Arc::new(plugins), Loggers::detached()).await?;
        let rest = RestClient::new(starting.id())?;
        let worker = starting.finish().await?;
        Ok(Self {
            worker,
            inference,
            rest,
        })
    }

    /// Stops it in order.
    pub async fn stop(self) {
        drop(self.rest);
        self.worker.stop().await;
    }
}

/// Properties of a worker on one broker, with its files below `directory` and the models of the scenarios.
pub fn properties(bootstrap: &str, group: &str, directory: &std::path::Path) -> ConfigMap {
    let topic = |name: &str| format!("{group}-{name}");
    [
        ("bootstrap.servers", bootstrap.to_owned()),
        ("group.id", group.to_owned()),
        (
            "key.converter",
            "org.apache.kafka.connect.storage.StringConverter".to_owned(),
        ),
        (
            "value.converter",
            "org.apache.kafka.connect.json.JsonConverter".to_owned(),
        ),
        ("value.converter.schemas.enable", "false".to_owned()),
        ("config.storage.topic", topic("configs")),
        ("offset.storage.topic", topic("offsets")),
        ("status.storage.topic", topic("status")),
        ("config.storage.replication.factor", "1".to_owned()),
        ("offset.storage.replication.factor", "1".to_owned()),
        ("status.storage.replication.factor", "1".to_owned()),
        ("offset.storage.partitions", "2".to_owned()),
        ("status.storage.partitions", "2".to_owned()),
        ("offset.flush.interval.ms", "200".to_owned()),
        ("listeners", "http://127.0.0.1:0".to_owned()),
        ("state.dir", directory.join("state").display().to_string()),
        ("inference.artifact.allowed.prefixes", models().display().to_string()),
        ("inference.cores", "2".to_owned()),
        ("inference.registry.replication.factor", "1".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Some(value)))
    .collect()
}

/// A client of a worker's REST interface.
pub struct RestClient {
    http: reqwest::Client,
    url: String,
}

impl RestClient {
    fn new(address: &str) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().timeout(ANSWER).build()?,
            url: format!("http://{address}"),
        })
    }

    /// A request that must be answered with success.
    ///
    /// # Errors
    /// When it is refused, or not answered within 10 s.
    pub async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.http.request(
            reqwest::Method::from_bytes(method.as_bytes())?,
            format!("{}{path}", self.url),
        );
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{method} {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Sends a request until it is answered with success: brokers may still be on their way.
    ///
    /// # Errors
    /// When it never is.
    pub async fn until_sent(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.send(method, path, body).await {
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(LOOK).await,
                answer => return answer,
            }
        }
    }

    /// What a path has.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send("GET", path, None).await
    }

    /// Waits until `condition` holds of what a path has; meanwhile it may have nothing.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn until(&self, path: &str, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path).await;
            if let Ok(found) = &found
                && condition(found)
            {
                return Ok(found.clone());
            }
            ensure!(
                Instant::now() < deadline,
                "GET {path} never became what it should: {found:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a connector and all of its tasks run.
    ///
    /// # Errors
    /// When they do not.
    pub async fn until_running(&self, connector: &str) -> Result<()> {
        let path = format!("/connectors/{connector}/status");
        self.until(&path, is_running).await.map(drop)
    }
}

/// Whether a connector's status says that it and all of its tasks run.
pub fn is_running(status: &Value) -> bool {
    let tasks = status["tasks"].as_array();
    status["connector"]["state"] == "RUNNING"
        && tasks.is_some_and(|tasks| !tasks.is_empty() && tasks.iter().all(|task| task["state"] == "RUNNING"))
}
