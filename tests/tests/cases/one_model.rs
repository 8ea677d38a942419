//! A worker that runs one model over one topic, on the development broker.

use std::path::PathBuf;

use anyhow::Result;
use dev_broker::DevBroker;
use serde_json::{Value, json};
use tests::broker::OwnDevBroker;
use tests::inference::{Output, RunningTask, Worker, create_topics, produce, read};
use tests::inference_scenarios::wait_for;
use tests::process::workspace;

const TOPIC: &str = "events";
const OUTPUTS: &str = "predictions";
const PATH: &str = "models/shop/model";

/// A worker with a tenant and, once it is put, a model.
pub struct OneModel {
    worker: Worker,
    folder: PathBuf,
    _directory: tempfile::TempDir,
    broker: DevBroker,
}

impl OneModel {
    /// Models come from a case's folder of data.
    pub async fn start(case: &str) -> Result<OneModel> {
        let broker = DevBroker::start(OwnDevBroker::quick())?;
        let directory = tempfile::tempdir()?;
        let folder = workspace().join("tests/tests/cases/data").join(case).canonicalize()?;
        create_topics(&broker.bootstrap(), &[(TOPIC, 1), (OUTPUTS, 1)]).await?;
        let worker = Worker::start(&broker.bootstrap(), "group", directory.path(), &folder).await?;
        worker.ok("PUT", "tenants/shop", &json!({})).await?;
        Ok(OneModel {
            worker,
            folder,
            _directory: directory,
            broker,
        })
    }

    /// The model's document: `inputs` are features of the same names as the event's fields.
    pub fn document(&self, file: &str, inputs: &Value, fields: &Value) -> Value {
        json!({
            "artifact": format!("file://{}/{file}", self.folder.display()),
            "subscribe": { "topics": [TOPIC] }, "inputs": inputs, "trigger": { "each": {} },
            "output": { "topic": OUTPUTS, "fields": fields }
        })
    }

    /// Puts a view with these features, then the model over it.
    pub async fn put(&self, features: &Value, document: &Value) -> Result<()> {
        let view = json!({ "source": TOPIC, "features": features });
        self.worker.ok("PUT", "feature-views/view", &view).await?;
        self.worker.ok("PUT", PATH, document).await.map(|_| ())
    }

    /// A feature for each of these fields of the event.
    pub fn fields(names: &[&str]) -> Value {
        let feature = |name: &&str| ((*name).to_owned(), json!({ "expression": format!("event.{name}") }));
        Value::Object(names.iter().map(feature).collect())
    }

    /// The answer to a request about the model: `status`, `evaluate`, `validate`.
    pub async fn ask(&self, what: &str, body: &Value) -> Result<Value> {
        let method = if what == "status" { "GET" } else { "POST" };
        self.worker.ok(method, &format!("{PATH}/{what}"), body).await
    }

    /// Starts the connector's task.
    pub fn task(&self) -> Result<RunningTask> {
        Ok(self
            .worker
            .task("sink", &[TOPIC], &[("inference.commit.interval.ms", "10")]))
    }

    /// Sends events.
    pub fn send(&self, events: &[Value]) -> Result<()> {
        produce(
            &self.broker.bootstrap(),
            TOPIC,
            events.iter().map(|event| (String::new(), event.to_string())),
        )
    }

    /// Reads so many outputs, and to the end of their topic.
    pub async fn outputs(&self, count: usize) -> Result<Vec<Output>> {
        read(&self.broker.bootstrap(), OUTPUTS, count).await
    }

    /// Waits until so many events have given the model no row.
    pub async fn until_input_errors(&self, count: u64) -> Result<()> {
        let errors = || {
            self.worker
                .service
                .snapshot()
                .tenants
                .get("shop")
                .map_or(0, |shop| shop.input_errors)
        };
        wait_for("every event that gives no row", || errors() == count).await
    }
}

/// A field of outputs, in their order.
pub fn values(outputs: &[Output], field: &str) -> Vec<Value> {
    outputs.iter().map(|output| output.value[field].clone()).collect()
}

/// Fails unless a number is as near to ONNX Runtime's as floats let it.
#[track_caller]
pub fn near(value: &Value, expected: f64) {
    let value = value.as_f64().expect("a number");
    assert!(
        (value - expected).abs() <= 1e-6,
        "{value}, ONNX Runtime says {expected}"
    );
}
