//! The topics behind keyed stores, deleted and made again, and shared by two names; the real worker over Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord, TopicId};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tests::KafkaBroker;
use tests::broker_laws::eventually;
use tests::worker::WorkerProcess;

/// Purchases of one household over one keyed store.
struct Job {
    bootstrap: String,
    worker: WorkerProcess,
    name: String,
    store: String,
    producer: Producer,
    sent: u64,
}

impl Job {
    /// A worker with a model over a keyed store, and the connector `name`, which has not been started.
    async fn new(name: &str, store: &str) -> Result<Job> {
        let bootstrap = KafkaBroker::shared().await?.bootstrap();
        let mut worker = WorkerProcess::new(&bootstrap, name)?;
        let models = tests::inference_scenarios::models().display().to_string();
        worker.set("inference.artifact.allowed.prefixes", &models);
        worker.start().await?;
        let job = Job {
            producer: Producer::new(&ClientConfig::new(&bootstrap), Arc::new(Ignored))?,
            bootstrap,
            worker,
            name: name.to_owned(),
            store: store.to_owned(),
            sent: 0,
        };
        job.declare(&job.topic("events"), &job.store, &models).await?;
        Ok(job)
    }

    async fn declare(&self, events: &str, store: &str, models: &str) -> Result<()> {
        let predictions = self.topic(&format!("{store}-predictions"));
        self.create(events, "delete").await?;
        self.create(&predictions, "delete").await?;
        let aggregate = |function: &str| json!({ "function": function, "by": ["event.household"], "store": store });
        let mut spent = aggregate("sum");
        spent["of"] = "event.amount".into();
        for (path, document) in [
            ("tenants/shop".to_owned(), json!({})),
            (
                format!("stores/{store}"),
                json!({ "keyed": { "by": "event.household" } }),
            ),
            (
                format!("feature-views/of-{store}"),
                json!({
                    "source": events, "partitioned_by": "event.household",
                    "features": {
                        "amount": { "expression": "event.amount" },
                        "spent": { "aggregate": spent },
                        "seen": { "aggregate": aggregate("count") },
                    }
                }),
            ),
            (
                format!("models/shop/of-{store}"),
                json!({
                    "artifact": format!("file://{models}/linear.onnx"), "subscribe": { "topics": [events] },
                    "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
                    "output": { "topic": predictions, "fields": { "score": "variable" } },
                }),
            ),
        ] {
            self.worker.put(&format!("/inference/{path}"), &document).await?;
        }
        Ok(())
    }

    fn topic(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    fn changelog(&self) -> String {
        format!("connect-{}-{}-changelog", self.name, self.store)
    }

    async fn run(&self, connector: &str, events: &str) -> Result<()> {
        let config = json!({
            "connector.class": "millrace.InferenceSink", "tasks.max": "1", "topics": events,
            "inference.commit.interval.ms": "10",
        });
        self.worker
            .put(&format!("/connectors/{connector}/config"), &config)
            .await?;
        Ok(())
    }

    /// Waits for the state of the connector's task; its trace.
    async fn task_is(&self, connector: &str, state: &str) -> Result<String> {
        let path = format!("/connectors/{connector}/status");
        let is = |_, status: &Value| status["tasks"][0]["state"] == state;
        let status = self.worker.until(&path, is).await?;
        Ok(status["tasks"][0]["trace"].as_str().unwrap_or_default().to_owned())
    }

    fn purchase(&mut self) -> Result<()> {
        let record = ProducerRecord {
            topic: &self.topic("events"),
            partition: Some(0),
            key: None,
            value: Some(br#"{"household":"h1","amount":1.0}"#),
            timestamp_ms: None,
            headers: &[],
        };
        self.producer.send_waiting(&record, 1, PATIENCE)?;
        self.producer.flush(PATIENCE)?;
        self.sent += 1;
        Ok(())
    }

    /// Waits until the household's state is the sum of so many purchases.
    async fn has_counted(&self, purchases: u64) -> Result<()> {
        let path = format!("/inference/stores/{}/keys/h1", self.store);
        let sum = format!("{purchases}.0");
        let counted = |_, found: &Value| {
            found["entries"][0]["value"]
                .as_str()
                .is_some_and(|value| value.contains(&sum))
        };
        self.worker.until(&path, counted).await.map(drop)
    }

    async fn create(&self, topic: &str, policy: &str) -> Result<()> {
        let new = NewTopic::new(topic, 1, 1).with("cleanup.policy", policy);
        for (_, result) in self.admin()?.create_topics(&[new]).await? {
            result?;
        }
        Ok(())
    }

    fn admin(&self) -> Result<Admin> {
        Ok(Admin::new(&ClientConfig::new(&self.bootstrap))?)
    }

    async fn id(&self, topic: &str) -> Result<Option<TopicId>> {
        Ok(self.admin()?.topic(topic).await?.and_then(|topic| topic.id))
    }

    /// Deletes a topic and makes it again.
    async fn make_again(&self, topic: &str) -> Result<()> {
        let before = self.id(topic).await?.context("no id")?;
        for (_, result) in self.admin()?.delete_topics(&[topic.to_owned()]).await? {
            result?;
        }
        let again = eventually("the topic is there again", || async {
            // Deletion takes its time, and until it is done the name is taken.
            let _ = self.create(topic, "compact").await;
            Ok(self.id(topic).await?.filter(|now| *now != before))
        });
        again.await.map(drop)
    }

    /// The rebuilds of the store's partition, and why the last one was.
    async fn rebuilds(&self) -> Result<(u64, String)> {
        let path = format!("/inference/stores/{}/status", self.store);
        let there = |_, status: &Value| status["partitions"][0]["rebuilds"].is_object();
        let status = self.worker.until(&path, there).await?;
        let rebuilds = &status["partitions"][0]["rebuilds"];
        let reason = rebuilds["last_reason"].as_str().unwrap_or_default().to_owned();
        Ok((rebuilds["count"].as_u64().unwrap_or_default(), reason))
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

struct Ignored;

impl Deliveries for Ignored {
    fn delivered(&self, _: u64, _: Result<(i32, i64), KafkaError>) {}
}

/// A changelog that is made again while its task runs stops it, by name and before anything is written that would be half of a
/// history. A restart goes on with what the topic holds, counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_changelog_made_again_stops_its_task_by_name() -> Result<()> {
    let mut job = Job::new("again-running", "households").await?;
    job.run("again-running", &job.topic("events")).await?;
    for _ in 0..5 {
        job.purchase()?;
        job.has_counted(job.sent).await?;
    }
    let changelog = job.changelog();
    job.make_again(&changelog).await?;
    job.purchase()?;
    let trace = job.task_is("again-running", "FAILED").await?;
    ensure!(
        trace.contains(&format!("topic {changelog} was deleted and made again")),
        "{trace}"
    );
    let path = "/connectors/again-running/tasks/0/restart";
    let (status, body) = job.worker.request("POST", path, None).await?;
    ensure!(status == 204, "{status} {body}");
    job.task_is("again-running", "RUNNING").await?;
    // The purchase that stopped it was not lost; what the topic held was.
    job.has_counted(1).await?;
    let (count, reason) = job.rebuilds().await?;
    ensure!((count, reason.as_str()) == (1, "topic_made_again"), "{count} {reason}");
    let metrics = job.worker.get("/metrics").await?;
    let line = "millrace_inference_store_rebuilds_total{store=\"households\",kind=\"keyed\"} 1";
    ensure!(
        metrics
            .as_str()
            .is_some_and(|text| text.lines().any(|found| found == line)),
        "{line}"
    );
    Ok(())
}

/// One that is made again while nobody looks, with as many records as the copy had read: its id tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_changelog_made_again_while_the_worker_is_away_is_noticed() -> Result<()> {
    let mut job = Job::new("again-away", "households").await?;
    job.run("again-away", &job.topic("events")).await?;
    job.purchase()?;
    job.has_counted(1).await?;
    job.worker.stop()?;
    let changelog = job.changelog();
    job.make_again(&changelog).await?;
    job.worker.start().await?;
    job.task_is("again-away", "RUNNING").await?;
    job.purchase()?;
    job.has_counted(1).await?;
    let (count, reason) = job.rebuilds().await?;
    ensure!((count, reason.as_str()) == (1, "topic_made_again"), "{count} {reason}");
    Ok(())
}

/// State whose progress is gone would count the input a second time.
#[tokio::test(flavor = "multi_thread")]
async fn state_without_progress_is_refused_by_name() -> Result<()> {
    let mut job = Job::new("no-progress", "households").await?;
    job.run("no-progress", &job.topic("events")).await?;
    job.purchase()?;
    job.has_counted(1).await?;
    job.worker.stop()?;
    let progress = "connect-no-progress-task.progress-changelog";
    job.make_again(progress).await?;
    job.worker.start().await?;
    let trace = job.task_is("no-progress", "FAILED").await?;
    ensure!(
        trace.contains(progress) && trace.contains("count events twice"),
        "{trace}"
    );
    Ok(())
}

/// Store `c` of connector `x-b` and store `b-c` of connector `x` have one changelog topic by name.
#[tokio::test(flavor = "multi_thread")]
async fn two_pairs_with_one_changelog_topic_are_told_of_each_other() -> Result<()> {
    let mut job = Job::new("pair-b", "c").await?;
    job.run("pair-b", &job.topic("events")).await?;
    job.purchase()?;
    job.has_counted(1).await?;
    let models = tests::inference_scenarios::models().display().to_string();
    job.declare("pair.other-events", "b-c", &models).await?;
    job.run("pair", "pair.other-events").await?;
    let trace = job.task_is("pair", "FAILED").await?;
    ensure!(trace.contains("connect-pair-b-c-changelog"), "{trace}");
    ensure!(trace.contains("store c of connector pair-b"), "{trace}");
    job.purchase()?;
    job.has_counted(2).await
}

/// Topics in which workers keep what is theirs cannot be named in documents.
#[tokio::test(flavor = "multi_thread")]
async fn internal_topics_are_refused_where_they_are_named() -> Result<()> {
    let job = Job::new("internal", "households").await?;
    let changelog = job.changelog();
    for (path, document) in [
        ("tenants/spy", json!({ "outputs": { "topic": changelog } })),
        ("stores/spy", json!({ "global": { "topic": "internal-configs" } })),
        (
            "stores/spy",
            json!({ "global": { "topic": "internal-inference-registry" } }),
        ),
        ("stores/spy", json!({ "global": { "topic": "__consumer_offsets" } })),
    ] {
        let (status, body) = job
            .worker
            .request("PUT", &format!("/inference/{path}"), Some(&document))
            .await?;
        ensure!(
            status == 400
                && body["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("name another topic")),
            "{body}"
        );
    }
    Ok(())
}
