//! The job that is measured, as an operator would set it up: topics, stores, one feature view, tenants with their models.

use crate::events::{self, CATALOG, PARTITIONS};
use crate::worker::Worker;
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
    /// of the connector, and before the names of its outputs
    pub name: String,
    /// topic of the events
    pub input: String,
    /// number of models, dealt to three tenants
    pub models: usize,
    /// `processing.guarantee`
    pub guarantee: &'static str,
    /// more options of the connector
    pub options: Vec<(&'static str, String)>,
    /// the output's key
    pub key: &'static str,
}

impl Job {
    /// The tenants' names.
    pub const TENANTS: [&str; 3] = [MODELS[0].0, MODELS[1].0, MODELS[2].0];

    /// Where a tenant's predictions go.
    pub fn output(&self, tenant: &str) -> String {
        format!("{}.{tenant}", self.name)
    }

    /// Where all predictions go.
    pub fn outputs(&self) -> Vec<String> {
        Self::TENANTS.iter().map(|tenant| self.output(tenant)).collect()
    }

    /// The models as [`crate::streams::Application`] names them.
    pub fn models_of_streams(&self) -> String {
        match self.models {
            1 => MODELS[2].1.to_owned(),
            models => format!(
                "{}*{}",
                MODELS.map(|(_, artifact)| artifact).join("+"),
                models / MODELS.len()
            ),
        }
    }
}

/// Makes topics, of as many partitions as the events have.
pub async fn create_topics(bootstrap: &str, names: &[String]) -> Result<()> {
    let topics: Vec<NewTopic> = names.iter().map(|name| NewTopic::new(name, PARTITIONS, 1)).collect();
    create(bootstrap, &topics).await
}

/// Makes the topic of the catalog, and fills it. Returns how many rows there are.
pub async fn create_catalog(bootstrap: &str) -> Result<usize> {
    create_compacted(bootstrap, CATALOG).await?;
    events::send_catalog(bootstrap)
}

/// Makes a compacted topic of one partition.
pub async fn create_compacted(bootstrap: &str, name: &str) -> Result<()> {
    create(
        bootstrap,
        &[NewTopic::new(name, 1, 1).with("cleanup.policy", "compact")],
    )
    .await
}

async fn create(bootstrap: &str, topics: &[NewTopic]) -> Result<()> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    for (topic, result) in admin.create_topics(topics).await? {
        result.with_context(|| format!("create {topic}"))?;
    }
    Ok(())
}

/// Deletes the topics whose names have `name` in them: what a run has left.
pub async fn delete_topics(bootstrap: &str, name: &str) -> Result<()> {
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    let topics: Vec<String> = admin
        .topics()
        .await?
        .into_iter()
        .filter(|topic| topic.contains(name))
        .collect();
    if !topics.is_empty() {
        admin.delete_topics(&topics).await?;
    }
    Ok(())
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
    let view = document("feature_view", feature_view(&job.input));
    worker
        .request("PUT", "/inference/feature-views/purchase", Some(&view))
        .await?;
    for (tenant, _) in MODELS {
        let body =
            json!({ "name": tenant, "weight": 1, "memory": "256MiB", "outputs": { "topic": job.output(tenant) } });
        worker
            .request(
                "PUT",
                &format!("/inference/tenants/{tenant}"),
                Some(&document("tenant", body)),
            )
            .await?;
    }
    for number in 0..job.models {
        // One model of each kind in turn; a single model is LightGBM.
        let (tenant, artifact) = if job.models == 1 {
            MODELS[2]
        } else {
            MODELS[number % MODELS.len()]
        };
        let name = format!("{artifact}-{number}");
        let body = json!({
            "tenant": tenant, "name": name,
            "artifact": format!("file://configs/demo/models/{artifact}.onnx"),
            "subscribe": { "topics": [job.input] },
            "inputs": { "X": FEATURES },
            "trigger": { "each": {} },
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
    let mut config = json!({
        "connector.class": "millrace.InferenceSink",
        "tasks.max": "1",
        "topics": job.input,
        "processing.guarantee": job.guarantee,
    });
    for (name, value) in &job.options {
        config[*name] = value.as_str().into();
    }
    let connector = json!({ "name": job.name, "config": config });
    worker.request("POST", "/connectors", Some(&connector)).await.map(drop)
}

/// The demo's features: a catalog lookup and seven aggregates over three keys.
fn feature_view(input: &str) -> Value {
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
        "name": "purchase", "source": input, "entity": "household",
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
