//! A global store whose document changes while models look things up in it; the real worker over Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Result, ensure};
use kafka_client::{Admin, ClientConfig, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tests::KafkaBroker;
use tests::worker::WorkerProcess;

const PATIENCE: Duration = Duration::from_secs(60);
const STATUS: &str = "/inference/stores/products/status";

struct Ignored;

impl Deliveries for Ignored {
    fn delivered(&self, _: u64, _: Result<(i32, i64), KafkaError>) {}
}

fn send(producer: &Producer, topic: &str, key: &str, value: &str) -> Result<()> {
    let record = ProducerRecord {
        topic,
        partition: Some(0),
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        timestamp_ms: None,
        headers: &[],
    };
    producer.send_waiting(&record, 1, PATIENCE)?;
    Ok(producer.flush(PATIENCE)?)
}

/// Another topic takes over when its copy is ready, without a lookup that misses in between; one of which nothing can be taken
/// never does, and the status says so.
#[tokio::test(flavor = "multi_thread")]
async fn another_topic_takes_over_when_its_copy_is_ready() -> Result<()> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let admin = Admin::new(&ClientConfig::new(&bootstrap))?;
    for topic in ["change.a", "change.b", "change.events", "change.predictions"] {
        for (_, result) in admin.create_topics(&[NewTopic::new(topic, 1, 1)]).await? {
            result?;
        }
    }
    let producer = Producer::new(&ClientConfig::new(&bootstrap), Arc::new(Ignored))?;
    send(&producer, "change.a", "1", r#"{"weight":1.0}"#)?;
    send(&producer, "change.b", "1", r#"{"weight":2.0}"#)?;
    send(&producer, "change.b", "2", r#"{"weight":2.0}"#)?;

    let mut worker = WorkerProcess::new(&bootstrap, "change")?;
    let models = tests::inference_scenarios::models().display().to_string();
    worker.set("inference.artifact.allowed.prefixes", &models);
    worker.start().await?;
    let store = |topic: &str, more: Value| {
        let mut document = json!({ "global": { "topic": topic } });
        document
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        document
    };
    for (path, document) in [
        ("tenants/shop", json!({})),
        ("stores/products", store("change.a", json!({}))),
        (
            "feature-views/purchase",
            json!({
                "source": "change.events",
                "features": {
                    "product": { "lookup": { "store": "products", "key": "event.product" } },
                    "amount": { "expression": "product.weight", "default": -1.0 },
                    "spent": { "expression": "1.0" }, "seen": { "expression": "1.0" },
                }
            }),
        ),
        (
            "models/shop/score",
            json!({
                "artifact": format!("file://{models}/linear.onnx"), "subscribe": { "topics": ["change.events"] },
                "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
                "output": { "topic": "change.predictions", "fields": { "score": "variable" } },
            }),
        ),
    ] {
        worker.put(&format!("/inference/{path}"), &document).await?;
    }
    let ready = |topic: &'static str| {
        move |_: u16, status: &Value| status["ready"] == true && status["topic"] == topic && status["next"].is_null()
    };
    worker.until(STATUS, ready("change.a")).await?;
    let connector = json!({
        "connector.class": "millrace.InferenceSink", "tasks.max": "1", "topics": "change.events",
        "inference.commit.interval.ms": "10",
    });
    worker.put("/connectors/change/config", &connector).await?;
    let asked = |events: u64| {
        let worker = &worker;
        async move {
            let seen = |_: u16, status: &Value| status["figures"]["features"]["product"]["lookup"]["asked"] == events;
            let view = worker.until("/inference/feature-views/purchase/status", seen).await?;
            let missed = view["figures"]["features"]["product"]["lookup"]["missed"].as_u64();
            ensure!(missed == Some(0), "{view}");
            Ok(())
        }
    };
    send(&producer, "change.events", "e", r#"{"product":"1"}"#)?;
    asked(1).await?;

    worker
        .put("/inference/stores/products", &store("change.b", json!({})))
        .await?;
    worker.until(STATUS, ready("change.b")).await?;
    // Only the new topic has it: the task looks into the new copy.
    send(&producer, "change.events", "e", r#"{"product":"2"}"#)?;
    asked(2).await?;

    // A gate is another judge of the same copy.
    let gated = store("change.b", json!({ "gate": { "required": ["weight"] } }));
    worker.put("/inference/stores/products", &gated).await?;
    send(&producer, "change.b", "3", r#"{"brand":"none"}"#)?;
    let rejected = |_: u16, status: &Value| status["intake"]["rejected"]["required"] == 1;
    let status = worker.until(STATUS, rejected).await?;
    ensure!(status["rows"] == 2 && status["rebuilds"] == 0, "{status}");

    // Nothing can be taken as numbers of eight bytes: what serves goes on.
    let unreadable = store("change.b", json!({ "key": { "format": "long" } }));
    worker.put("/inference/stores/products", &unreadable).await?;
    let refused = |_: u16, status: &Value| status["next"]["rejected_rows"] == 3;
    let status = worker.until(STATUS, refused).await?;
    ensure!(status["ready"] == true && status["rows"] == 2, "{status}");
    let why = status["next"]["not_ready"].as_str().unwrap_or_default();
    ensure!(why.contains("a key of format long has 8"), "{status}");
    send(&producer, "change.events", "e", r#"{"product":"2"}"#)?;
    asked(3).await?;

    // And back: the copy that serves is what is declared.
    worker
        .put("/inference/stores/products", &store("change.b", json!({})))
        .await?;
    worker.until(STATUS, ready("change.b")).await?;
    Ok(())
}
