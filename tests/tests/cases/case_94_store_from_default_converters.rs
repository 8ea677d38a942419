//! A global store on the topic of a Debezium connector with the usual converters: change events in envelopes, keys as structs
//! in JSON (confluentinc/ksql#1244, #1847, and every Debezium file that was looked at). Lookups must find the rows, and what
//! they do not find must be counted where its user looks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, NewTopic, Producer, ProducerRecord};
use serde_json::{Value, json};
use std::sync::Arc;
use tests::worker::WorkerProcess;
use tests::{KafkaBroker, PostgresServer};

const DATABASE: &str = "case94";
const TOPIC: &str = "shop94.public.products";
const EVENTS: &str = "shop94.events";
const PREDICTIONS: &str = "shop94.predictions";

#[tokio::test(flavor = "multi_thread")]
async fn lookups_find_the_rows_of_a_connector_with_default_converters() -> Result<()> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let database = PostgresServer::shared().await?;
    let mut worker = WorkerProcess::new(&bootstrap, "case94")?;
    worker.set("inference.artifact.allowed.prefixes", &models());
    worker.start().await?;
    capture(database, &worker).await?;

    worker
        .put("/inference/stores/products", &json!({ "global": { "topic": TOPIC } }))
        .await?;
    let has_rows = |_, status: &Value| status["ready"] == true && status["rows"] == 3;
    let status = worker.until("/inference/stores/products/status", has_rows).await?;
    ensure!(status["rejected_rows"] == 0, "{status}");
    let read = &status["intake"];
    ensure!(
        read["json_keys"] == 3 && read["envelopes"] == 3 && read["change_events"] == 3,
        "what was taken off is said: {status}"
    );
    let row = worker.get("/inference/stores/products/keys/1").await?;
    ensure!(
        row["value"] == json!({ "id": 1, "weight": 2.5, "brand": "Private" }),
        "{row}"
    );

    infer(&bootstrap, &worker).await?;
    send(&bootstrap, &["1", "2", "9007199254740993", "77"])?;
    let seen = |_, status: &Value| status["figures"]["predictions"] == 4;
    worker.until("/inference/models/shop/score/status", seen).await?;
    // A view's figures are published when its interval is committed.
    let counted = |_, status: &Value| status["figures"]["events"] == 4;
    let view = worker
        .until("/inference/feature-views/purchase/status", counted)
        .await?;
    let model = worker.get("/inference/models/shop/score/status").await?;
    ensure!(
        model["features"]["purchase"]["amount"]["defaults_used"] == 1,
        "of four events one had the default: {model}"
    );
    let lookup = &view["figures"]["features"]["product"]["lookup"];
    ensure!(lookup["asked"] == 4 && lookup["missed"] == 1, "{view}");
    let metrics = worker.get("/metrics").await?;
    let metrics = metrics.as_str().context("metrics are text")?;
    for line in [
        "millrace_inference_view_feature_lookups_total{view=\"purchase\",feature=\"product\",store=\"products\"} 4",
        "millrace_inference_view_feature_lookups_missed_total{view=\"purchase\",feature=\"product\",store=\"products\"} 1",
        "millrace_inference_view_feature_defaults_used_total{view=\"purchase\",feature=\"amount\"} 1",
        "millrace_inference_store_ready{store=\"products\"} 1",
    ] {
        ensure!(
            metrics.lines().any(|found| found == line),
            "{line} is not among\n{metrics}"
        );
    }

    // Changes and deletions come as change events too.
    database
        .psql(
            DATABASE,
            "UPDATE products SET brand = 'Other' WHERE id = 1; DELETE FROM products WHERE id = 2;",
        )
        .await?;
    let changed = |_, row: &Value| row["value"]["brand"] == "Other";
    worker.until("/inference/stores/products/keys/1", changed).await?;
    let gone = |status, _: &Value| status == 404;
    worker.until("/inference/stores/products/keys/2", gone).await?;
    Ok(())
}

/// A store that reads the keys in a format that they do not have serves nothing: it says so, and why.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_can_take_nothing_is_not_ready() -> Result<()> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let topic = "shop94.unreadable";
    create(&bootstrap, topic).await?;
    let producer = Producer::new(&ClientConfig::new(&bootstrap), Arc::new(Ignored))?;
    for id in 0..3 {
        let key = format!(r#"{{"shop":{id},"id":{id}}}"#);
        let record = ProducerRecord {
            topic,
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(br#"{"brand":"Private"}"#),
            timestamp_ms: None,
            headers: &[],
        };
        producer.send_waiting(&record, 1, Duration::from_secs(60))?;
    }
    producer.flush(Duration::from_secs(60))?;
    let mut worker = WorkerProcess::new(&bootstrap, "case94-unreadable")?;
    worker.start().await?;
    worker
        .put("/inference/stores/products", &json!({ "global": { "topic": topic } }))
        .await?;
    let rejected = |_, status: &Value| status["rejected_rows"] == 3;
    let status = worker.until("/inference/stores/products/status", rejected).await?;
    ensure!(status["ready"] == false && status["rows"] == 0, "{status}");
    let why = status["not_ready"].as_str().unwrap_or_default();
    ensure!(why.contains("key: {format: json, fields: [shop, id]}"), "{status}");
    let metrics = worker.get("/metrics").await?;
    let metrics = metrics.as_str().context("metrics are text")?;
    for line in [
        "millrace_inference_store_ready{store=\"products\"} 0",
        "millrace_inference_store_records_rejected_total{store=\"products\",reason=\"key\"} 3",
    ] {
        ensure!(
            metrics.lines().any(|found| found == line),
            "{line} is not among\n{metrics}"
        );
    }
    // As it says:
    let document = json!({ "global": { "topic": topic }, "key": { "format": "json", "fields": ["shop", "id"] } });
    worker.put("/inference/stores/products", &document).await?;
    let ready = |_, status: &Value| status["ready"] == true && status["rows"] == 3;
    worker.until("/inference/stores/products/status", ready).await?;
    worker.get("/inference/stores/products/keys/2%7C2").await?;
    Ok(())
}

/// The connector as its users write it: no converter is named but Connect's default, with schemas.
async fn capture(database: &PostgresServer, worker: &WorkerProcess) -> Result<()> {
    database
        .psql(
            "postgres",
            &format!("ALTER ROLE postgres PASSWORD 'postgres'; CREATE DATABASE {DATABASE}"),
        )
        .await?;
    database
        .psql(
            DATABASE,
            "CREATE TABLE products (id bigint PRIMARY KEY, weight double precision, brand text); \
             INSERT INTO products VALUES (1, 2.5, 'Private'), (2, 3.5, 'National'), (9007199254740993, 4.5, 'Big');",
        )
        .await?;
    let json_converter = "org.apache.kafka.connect.json.JsonConverter";
    let connector = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1",
        "database.hostname": "127.0.0.1", "database.port": database.port().to_string(), "database.user": "postgres",
        "database.password": "postgres", "database.dbname": DATABASE, "topic.prefix": "shop94", "plugin.name": "pgoutput",
        "slot.name": "case94", "publication.name": "case94", "publication.autocreate.mode": "filtered",
        "table.include.list": "public.products",
        "key.converter": json_converter, "key.converter.schemas.enable": "true",
        "value.converter": json_converter, "value.converter.schemas.enable": "true",
        "topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1",
        "topic.creation.default.cleanup.policy": "compact",
    });
    worker.put("/connectors/case94-products/config", &connector).await?;
    let runs = |_, status: &Value| status["tasks"][0]["state"] == "RUNNING";
    worker.until("/connectors/case94-products/status", runs).await.map(drop)
}

async fn infer(bootstrap: &str, worker: &WorkerProcess) -> Result<()> {
    create(bootstrap, EVENTS).await?;
    create(bootstrap, PREDICTIONS).await?;
    for (path, document) in [
        ("tenants/shop", json!({})),
        (
            "feature-views/purchase",
            json!({
                "source": EVENTS,
                "features": {
                    "product": { "lookup": { "store": "products", "key": "event.product_id" } },
                    "amount": { "expression": "product.weight", "default": -1000.0 },
                    "spent": { "expression": "1.0" },
                    "seen": { "expression": "1.0" },
                }
            }),
        ),
        (
            "models/shop/score",
            json!({
                "artifact": format!("file://{}/linear.onnx", models()),
                "subscribe": { "topics": [EVENTS] },
                "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
                "output": { "topic": PREDICTIONS, "fields": { "score": "variable" } },
            }),
        ),
    ] {
        worker.put(&format!("/inference/{path}"), &document).await?;
    }
    let connector = json!({ "connector.class": "millrace.InferenceSink", "tasks.max": "1", "topics": EVENTS });
    worker.put("/connectors/case94-inference/config", &connector).await?;
    let runs = |_, status: &Value| status["tasks"][0]["state"] == "RUNNING";
    worker
        .until("/connectors/case94-inference/status", runs)
        .await
        .map(drop)
}

fn send(bootstrap: &str, products: &[&str]) -> Result<()> {
    let producer = Producer::new(&ClientConfig::new(bootstrap), Arc::new(Ignored))?;
    for product in products {
        let value = format!(r#"{{"product_id":{product}}}"#);
        let record = ProducerRecord {
            topic: EVENTS,
            partition: None,
            key: None,
            value: Some(value.as_bytes()),
            timestamp_ms: None,
            headers: &[],
        };
        producer.send_waiting(&record, 1, Duration::from_secs(60))?;
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

async fn create(bootstrap: &str, topic: &str) -> Result<()> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    for (_, result) in admin.create_topics(&[NewTopic::new(topic, 1, 1)]).await? {
        result?;
    }
    Ok(())
}

fn models() -> String {
    tests::inference_scenarios::models().display().to_string()
}

struct Ignored;

impl kafka_client::Deliveries for Ignored {
    fn delivered(&self, _: u64, _: Result<(i32, i64), kafka_client::KafkaError>) {}
}
