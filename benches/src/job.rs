//! The job that is measured, as an operator would set it up: topics, stores, one feature view, tenants with their models.

use crate::events::{CATALOG, PARTITIONS, TOPIC};
use crate::paced::STRAIGHT;
use crate::process::Worker;
use anyhow::{Context, Result};
use kafka_client::{Admin, ClientConfig, NewTopic};
use serde_json::{Value, json};
use std::time::Duration;

/// Input features of the demo's models (configs/demo/models/FEATURES.md).
pub const FEATURES: [&str; 12] = [
    "quantity",
    "sales_value",
    "retail_disc",
    "hour",
    "is_private",
    "type_count",
    "days_since",
    "spend_type_mean",
    "household_count",
    "household_mean_value",
    "basket_total",
    "basket_lines",
];

/// Artifacts and the tenants that subscribe them, in turn.
const MODELS: [(&str, &str); 3] = [("alpha", "logistic"), ("beta", "mlp"), ("gamma", "lightgbm")];

/// What varies between runs.
#[derive(Clone, Debug)]
pub struct Job {
    /// number of models, dealt to three tenants
    pub models: usize,
    /// `processing.guarantee`
    pub guarantee: &'static str,
    /// `inference.commit.interval.ms`
    pub commit_interval_ms: u64,
    /// of the models
    pub trigger: Value,
    /// the output's key
    pub key: &'static str,
    /// tasks of the connector
    pub tasks: u32,
}

impl Default for Job {
    fn default() -> Job {
        Job {
            models: 3,
            guarantee: "at_least_once",
            commit_interval_ms: 100,
            trigger: json!({ "each": {} }),
            key: "event.household_id",
            tasks: 1,
        }
    }
}

/// Makes the topics of the input.
pub async fn create_topics(bootstrap: &str) -> Result<()> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    let mut topics = vec![
        NewTopic::new(TOPIC, PARTITIONS, 1),
        NewTopic::new(STRAIGHT, PARTITIONS, 1),
        NewTopic::new(CATALOG, 1, 1).with("cleanup.policy", "compact"),
    ];
    topics.extend(
        MODELS
            .iter()
            .map(|(tenant, _)| NewTopic::new(output_topic(tenant), PARTITIONS, 1)),
    );
    for (topic, result) in admin.create_topics(&topics).await? {
        result.with_context(|| format!("create {topic}"))?;
    }
    Ok(())
}

/// Where a tenant's predictions go.
pub fn output_topic(tenant: &str) -> String {
    format!("predictions.{tenant}")
}

/// Puts stores, view, tenants and models, and waits for the catalog.
pub async fn put_resources(worker: &mut Worker, job: &Job, catalog_rows: usize) -> Result<()> {
    let document = |kind: &str, body: Value| {
        let mut document = json!({ "apiVersion": "millrace/v1", "kind": kind });
        if let (Some(document), Some(body)) = (document.as_object_mut(), body.as_object()) {
            document.extend(body.clone());
        }
        document
    };
    let stores = [
        json!({ "name": "products", "global": { "topic": CATALOG }, "value": { "format": "json" } }),
        json!({ "name": "household_state", "keyed": { "by": "event.household_id" }, "ttl": { "after": "90d", "since": "write" } }),
        json!({ "name": "basket_state", "keyed": { "by": "event.household_id" }, "ttl": { "after": "1d", "since": "write" } }),
    ];
    for store in stores {
        let path = format!("/inference/stores/{}", store["name"].as_str().unwrap_or_default());
        worker.request("PUT", &path, Some(&document("store", store))).await?;
    }
    let view = document("feature_view", feature_view());
    worker
        .request("PUT", "/inference/feature-views/purchase", Some(&view))
        .await?;
    for (tenant, _) in MODELS {
        let body =
            json!({ "name": tenant, "weight": 1, "memory": "256MiB", "outputs": { "topic": output_topic(tenant) } });
        worker
            .request(
                "PUT",
                &format!("/inference/tenants/{tenant}"),
                Some(&document("tenant", body)),
            )
            .await?;
    }
    for number in 0..job.models {
        // One model of each kind in turn; a single model is LightGBM, as the peer's.
        let (tenant, artifact) = if job.models == 1 {
            MODELS[2]
        } else {
            MODELS[number % MODELS.len()]
        };
        let name = format!("{artifact}-{number}");
        let body = json!({
            "tenant": tenant, "name": name,
            "artifact": format!("file://configs/demo/models/{artifact}.onnx"),
            "subscribe": { "topics": [TOPIC] },
            "inputs": { "X": FEATURES },
            "trigger": job.trigger,
            "output": { "key": job.key, "fields": { "probability": "probabilities[1]" } },
        });
        worker
            .request(
                "PUT",
                &format!("/inference/models/{tenant}/{name}"),
                Some(&document("model", body)),
            )
            .await?;
    }
    worker
        .wait_for(
            "millrace_inference_store_rows{store=\"products\",kind=\"global\"}",
            catalog_rows as f64,
            Duration::from_secs(60),
        )
        .await?;
    Ok(())
}

/// Starts the connector.
pub async fn start(worker: &Worker, job: &Job) -> Result<()> {
    let connector = json!({ "name": "inference", "config": {
        "connector.class": "millrace.InferenceSink",
        "tasks.max": job.tasks.to_string(),
        "topics": TOPIC,
        "processing.guarantee": job.guarantee,
        "inference.commit.interval.ms": job.commit_interval_ms.to_string(),
    } });
    worker.request("POST", "/connectors", Some(&connector)).await.map(drop)
}

/// The demo's features: a catalog lookup and seven aggregates over three keys.
fn feature_view() -> Value {
    let by_type = json!(["event.household_id", "product.product_type"]);
    let by_household = json!(["event.household_id"]);
    let by_basket = json!(["event.household_id", "event.basket_id"]);
    let aggregate = |function: &str, of: Option<&str>, by: &Value, store: &str, default: f64| {
        let mut aggregate = json!({ "function": function, "by": by, "store": store });
        if let Some(of) = of {
            aggregate["of"] = of.into();
        }
        if function == "time_since_last" {
            aggregate["unit"] = "days".into();
        }
        json!({ "aggregate": aggregate, "default": default })
    };
    let value = Some("event.sales_value");
    json!({
        "name": "purchase", "source": TOPIC, "entity": "household",
        "partitioned_by": "event.household_id", "event_time": "event.transaction_timestamp",
        "features": {
            "quantity": { "expression": "event.quantity", "default": 0.0 },
            "sales_value": { "expression": "event.sales_value", "default": 0.0 },
            "retail_disc": { "expression": "event.retail_disc", "default": 0.0 },
            "hour": { "expression": "event_time.getHours()" },
            // no event has it: what a model gets that fails at every event
            "never": { "expression": "event.never" },
            "product": { "lookup": { "store": "products", "key": "event.product_id" } },
            "is_private": { "expression": "product.brand == 'Private' ? 1.0 : 0.0", "default": 0.0 },
            "type_count": aggregate("count", None, &by_type, "household_state", 0.0),
            "days_since": aggregate("time_since_last", None, &by_type, "household_state", -1.0),
            "spend_type_mean": aggregate("mean", value, &by_type, "household_state", 0.0),
            "household_count": aggregate("count", None, &by_household, "household_state", 0.0),
            "household_mean_value": aggregate("mean", value, &by_household, "household_state", 0.0),
            "basket_total": aggregate("sum", value, &by_basket, "basket_state", 0.0),
            "basket_lines": aggregate("count", None, &by_basket, "basket_state", 0.0),
        }
    })
}
