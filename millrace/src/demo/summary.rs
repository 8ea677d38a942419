//! The last line: one JSON object, from what a subscriber of the topics finds there.

use super::accounting::{self, Findings, Topics};
use super::offline::OfflinePredictions;
use super::progress::Ended;
use super::purchases::Purchases;
use super::requests::Operator;
use super::threads::Threads;
use anyhow::{Context, Result};
use kafka_client::{Admin, ClientConfig};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A model of the demo, from its document.
struct DemoModel {
    identity: String,
    tenant: String,
    /// `lightgbm` for `lightgbm.onnx`
    artifact: String,
    windowed: bool,
}

/// What was found, and whether it is what there should be.
pub struct Summary {
    /// the last line
    pub line: Value,
    /// what is missing or too much, in words
    pub complaints: Vec<String>,
}

/// Reads the topics and compares them with the purchases that were replayed.
pub async fn summarise(
    operator: &Operator,
    bootstrap: &str,
    purchases: &Purchases,
    offline: &OfflinePredictions,
    ended: &Ended,
    threads: &mut Threads,
) -> Result<Summary> {
    let models = models(operator).await?;
    let admin = Admin::new(&ClientConfig::new(bootstrap))?;
    let mut topics = Topics {
        events: "events.purchases".to_owned(),
        outputs: Vec::new(),
        shed: Vec::new(),
        dead_letters: "events.purchases.dlq".to_owned(),
    };
    for topic in admin.topics().await? {
        if topic.starts_with("predictions.") {
            topics.outputs.push(topic);
        } else if let Some(tenant) = topic.strip_prefix("shed.").map(str::to_owned) {
            topics.shed.push((topic, tenant));
        }
    }
    let mut partitions: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for topic in topics.all() {
        let description = admin.topic(topic).await?;
        let found = description.map(|description| {
            description
                .partitions
                .iter()
                .map(|partition| partition.partition)
                .collect()
        });
        partitions.insert(topic.clone(), found.unwrap_or_default());
    }
    let event_partitions = i32::try_from(partitions.get(&topics.events).map_or(0, Vec::len))?;
    let bootstrap = bootstrap.to_owned();
    let findings = threads
        .run(move |given_up| accounting::read(&bootstrap, &topics, &partitions, given_up))
        .await
        .context("reading the output topics")?;
    let complaints = complaints(&findings, &models, purchases, event_partitions);
    Ok(Summary {
        line: line(&findings, &models, purchases, offline, ended),
        complaints,
    })
}

async fn models(operator: &Operator) -> Result<Vec<DemoModel>> {
    let mut models = Vec::new();
    for document in operator.documents("models")? {
        let text = |name: &str| {
            document
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let artifact = text("artifact");
        let stem = artifact
            .rsplit('/')
            .next()
            .and_then(|file| file.strip_suffix(".onnx"))
            .unwrap_or_default();
        models.push(DemoModel {
            identity: format!("{}/{}", text("tenant"), text("name")),
            tenant: text("tenant"),
            artifact: stem.to_owned(),
            windowed: document.pointer("/trigger/window").is_some(),
        });
    }
    Ok(models)
}

/// Every event must be predicted by every model, or be counted as shed or dead-lettered; nothing may be there twice.
fn complaints(findings: &Findings, models: &[DemoModel], purchases: &Purchases, partitions: i32) -> Vec<String> {
    let mut complaints = Vec::new();
    let events = purchases.rows as u64;
    if findings.events as u64 != events {
        complaints.push(format!(
            "{events} purchases were to be replayed, {} are in the topic",
            findings.events
        ));
    }
    for model in models {
        let identity = &model.identity;
        let (records, duplicates) = findings
            .models
            .get(identity)
            .map_or((0, 0), |found| (found.records, found.duplicates));
        if duplicates > 0 {
            complaints.push(format!("{identity}: {duplicates} predictions are there twice"));
        }
        if model.windowed {
            let closed = purchases.closed_windows(DAY_MS, HOUR_MS, partitions) as u64;
            if records != closed {
                complaints.push(format!(
                    "{identity}: {closed} windows have closed, {records} have a result"
                ));
            }
            continue;
        }
        let shed = findings.shed.get(&model.tenant).copied().unwrap_or(0);
        let accounted = records + shed + findings.dead_lettered;
        if accounted != events {
            complaints.push(format!(
                "{identity}: {events} events, but {records} predicted + {shed} shed + {} dead-lettered = {accounted}",
                findings.dead_lettered
            ));
        }
    }
    complaints
}

fn line(
    findings: &Findings,
    models: &[DemoModel],
    purchases: &Purchases,
    offline: &OfflinePredictions,
    ended: &Ended,
) -> Value {
    let (mut predictions, mut auc) = (Map::new(), Map::new());
    for model in models {
        let identity = &model.identity;
        predictions.insert(
            identity.clone(),
            json!(findings.models.get(identity).map_or(0, |found| found.records)),
        );
        let trained = offline.get(&model.artifact).map(Vec::as_slice);
        let agreement = findings.agreement(identity, purchases, trained);
        auc.insert(
            identity.clone(),
            json!({
                "online": rounded(agreement.online_auc), "offline": rounded(agreement.offline_auc),
                "largest_difference": agreement.largest_difference,
            }),
        );
    }
    json!({
        "events_in": findings.events,
        // of this run: one that was started again has fewer events before it than there are in the topic
        "events_per_second": (ended.snapshot.events_in as f64 / ended.took.as_secs_f64().max(1e-9)).round(),
        "predictions": predictions,
        "shed": findings.shed,
        "dead_lettered": findings.dead_lettered,
        "archived": ended.snapshot.archived,
        "latency_ms": { "p50": ended.snapshot.latency_p50_ms, "p99": ended.snapshot.latency_p99_ms },
        "peak_rss_bytes": peak_rss_bytes(),
        "auc": auc,
    })
}

fn rounded(auc: Option<f64>) -> Option<f64> {
    auc.map(|auc| (auc * 1e6).round() / 1e6)
}

/// The most memory that this process ever had in RAM (`VmHWM`).
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
