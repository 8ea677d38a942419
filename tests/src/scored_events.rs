//! One model over keyed state on the real worker: events of households in, scores out. For what becomes of a job whose topics
//! and brokers are not what they should be.
//!
//! ```text
//!  ScoredEvents::new(bootstrap, NAME) -> create topics NAME-events, NAME-scores as the test wants them -> start
//!     put_resources, put_connector -> send(events) -> scores | states of the tasks
//! ```

#![allow(clippy::indexing_slicing)] // of JSON values: one that has no such member gives null

use crate::inference::{Output, produce, read};
use crate::inference_scenarios::{artifact, events, models};
use crate::worker::WorkerProcess;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::ops::Range;

/// A job with a worker, topics and a connector of its own.
pub struct ScoredEvents {
    /// the worker
    pub worker: WorkerProcess,
    /// `host:port` of the broker
    pub bootstrap: String,
    /// what everything is named by
    pub name: String,
}

impl ScoredEvents {
    /// A job whose worker does not run yet, and whose topics nobody has made.
    ///
    /// # Errors
    /// As [`WorkerProcess::new`].
    pub fn new(bootstrap: &str, name: &str) -> Result<ScoredEvents> {
        let mut worker = WorkerProcess::new(bootstrap, name)?;
        worker.set("inference.artifact.allowed.prefixes", &models().display().to_string());
        Ok(ScoredEvents {
            worker,
            bootstrap: bootstrap.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Topic of the events.
    pub fn events(&self) -> String {
        format!("{}-events", self.name)
    }

    /// Topic of the scores.
    pub fn scores(&self) -> String {
        format!("{}-scores", self.name)
    }

    /// Starts the worker and puts tenant, store, view and model.
    ///
    /// # Errors
    /// When the worker does not start, or refuses one of them.
    pub async fn start(&mut self) -> Result<()> {
        self.worker.start().await?;
        self.put_resources().await?;
        self.worker
            .put("/inference/models/shop/score", &self.model())
            .await
            .map(drop)
    }

    /// Puts everything that the model needs.
    ///
    /// # Errors
    /// When the worker refuses one of them.
    pub async fn put_resources(&self) -> Result<()> {
        let households = |mut aggregate: Value| {
            aggregate["by"] = json!(["event.household"]);
            aggregate["store"] = "households".into();
            json!({ "aggregate": aggregate })
        };
        let view = json!({
            "source": self.events(), "partitioned_by": "event.household", "event_time": "event.time",
            "features": {
                "amount": { "expression": "event.amount" },
                "spent": households(json!({ "function": "sum", "of": "event.amount" })),
                "seen": households(json!({ "function": "count" }))
            }
        });
        for (path, document) in [
            ("tenants/shop", json!({})),
            ("stores/households", json!({ "keyed": { "by": "event.household" } })),
            ("feature-views/purchase", view),
        ] {
            self.worker.put(&format!("/inference/{path}"), &document).await?;
        }
        Ok(())
    }

    /// The model `shop/score`: its scores are those of [`crate::inference_scenarios::expected`].
    pub fn model(&self) -> Value {
        json!({
            "artifact": artifact("linear.onnx"), "subscribe": { "topics": [self.events()] },
            "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
            "output": { "topic": self.scores(), "key": "event.household", "fields": { "score": "variable" } }
        })
    }

    /// Puts the connector, with `further` options: two tasks over the events.
    ///
    /// # Errors
    /// When the worker refuses it.
    pub async fn put_connector(&self, further: &[(&str, &str)]) -> Result<()> {
        let path = format!("/connectors/{}/config", self.name);
        self.worker.put(&path, &self.connector(further)).await.map(drop)
    }

    /// The connector's configuration.
    pub fn connector(&self, further: &[(&str, &str)]) -> Value {
        let mut config = json!({
            "connector.class": "millrace.InferenceSink", "tasks.max": "2", "topics": self.events(),
            "inference.commit.interval.ms": "20"
        });
        for (option, value) in further {
            config[*option] = (*value).into();
        }
        config
    }

    /// Sends events by number.
    ///
    /// # Errors
    /// When the broker does not take them.
    pub fn send(&self, numbers: Range<i64>) -> Result<()> {
        produce(&self.bootstrap, &self.events(), events(numbers))
    }

    /// At least so many scores, and all that are there.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn outputs(&self, count: i64) -> Result<Vec<Output>> {
        read(&self.bootstrap, &self.scores(), usize::try_from(count)?).await
    }

    /// Waits until both tasks are in this state; their traces, which must hold `words`.
    ///
    /// # Errors
    /// When they do not get there.
    pub async fn until_tasks_are(&self, state: &str, words: &str) -> Result<Vec<String>> {
        let so = |status: &Value| {
            let tasks = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
            tasks.len() == 2
                && tasks.iter().all(|task| {
                    let trace = task["trace"].as_str().unwrap_or_default();
                    task["state"] == state && trace.contains(words)
                })
        };
        let status = self.until_status(|status| so(status)).await?;
        let traces = status["tasks"].as_array().into_iter().flatten();
        Ok(traces
            .map(|task| task["trace"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// Waits until the connector's status is so.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn until_status(&self, so: impl Fn(&Value) -> bool) -> Result<Value> {
        let path = format!("/connectors/{}/status", self.name);
        self.worker.until(&path, |status, body| status == 200 && so(body)).await
    }

    /// Waits until the model's status is so.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn until_model(&self, so: impl Fn(&Value) -> bool) -> Result<Value> {
        self.worker
            .until("/inference/models/shop/score/status", |_, body| so(body))
            .await
    }

    /// A line of the worker's metrics that begins so.
    ///
    /// # Errors
    /// When there is none.
    pub async fn metric(&self, begin: &str) -> Result<f64> {
        let metrics = self.worker.get("/metrics").await?;
        let text = metrics.as_str().unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(begin));
        ensure!(line.is_some(), "no metric {begin} in {text}");
        let value = line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
        Ok(value.parse()?)
    }
}
