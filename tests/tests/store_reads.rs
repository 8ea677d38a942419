//! Reading global stores over REST: pages, cursors and odd keys; the real worker over Apache Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, Deliveries, KafkaError, NewTopic, Producer, ProducerRecord};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tests::KafkaBroker;
use tests::worker::WorkerProcess;

const PATIENCE: Duration = Duration::from_secs(60);
/// A row of these is a hundredth of a page.
const LONG: usize = 40_000;

struct Ignored;

impl Deliveries for Ignored {
    fn delivered(&self, _: u64, _: Result<(i32, i64), KafkaError>) {}
}

/// A worker with a global store of these rows; keys as they are.
async fn store(name: &str, rows: &[(Vec<u8>, String)]) -> Result<WorkerProcess> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let topic = format!("{name}.rows");
    let new = NewTopic::new(&topic, 2, 1).with("cleanup.policy", "compact");
    for (_, result) in Admin::new(&ClientConfig::new(&bootstrap))?
        .create_topics(&[new])
        .await?
    {
        result?;
    }
    let producer = Producer::new(&ClientConfig::new(&bootstrap), Arc::new(Ignored))?;
    for (key, value) in rows {
        let record = ProducerRecord {
            topic: &topic,
            partition: None,
            key: Some(key),
            value: Some(value.as_bytes()),
            timestamp_ms: None,
            headers: &[],
        };
        producer.send_waiting(&record, 1, PATIENCE)?;
    }
    producer.flush(PATIENCE)?;
    let mut worker = WorkerProcess::new(&bootstrap, name)?;
    worker.start().await?;
    let document = json!({ "global": { "topic": topic }, "key": { "format": "string" } });
    worker.put("/inference/stores/rows", &document).await?;
    let count = rows.len();
    let complete = |_, status: &Value| status["ready"] == true && status["rows"] == count;
    worker.until("/inference/stores/rows/status", complete).await?;
    Ok(worker)
}

/// One page, with the path of the next.
async fn page(worker: &WorkerProcess, path: &str) -> Result<(String, Option<String>)> {
    let answer = reqwest::get(format!("http://{}{path}", worker.id())).await?;
    ensure!(answer.status().is_success(), "{path}: {}", answer.status());
    let next = answer.headers().get("link").map(|link| {
        let link = link.to_str().unwrap();
        let (address, relation) = link.split_once(">; ").unwrap();
        assert_eq!(relation, "rel=\"next\"");
        address.trim_start_matches('<').to_owned()
    });
    Ok((answer.text().await?, next))
}

/// A prefix that matches everything is answered page by page, each of a bounded size, and all of them are the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_matches_everything_is_read_in_pages() -> Result<()> {
    let rows: Vec<(Vec<u8>, String)> = (0..450)
        .map(|number| {
            let key = format!("product-{number:04}").into_bytes();
            (key, format!("{{\"id\":{number},\"text\":\"{}\"}}", "x".repeat(LONG)))
        })
        .collect();
    let worker = store("pages", &rows).await?;
    let mut path = Some("/inference/stores/rows/keys?prefix=product&limit=10000".to_owned());
    let (mut found, mut pages) = (BTreeSet::new(), 0);
    while let Some(now) = path {
        let (text, next) = page(&worker, &now).await?;
        ensure!(text.len() < (4 << 20) + 2 * LONG, "a page of {} bytes", text.len());
        for row in serde_json::from_str::<Value>(&text)?.as_array().context("an array")? {
            let key = row["key"].as_str().unwrap_or_default().to_owned();
            ensure!(found.insert(key), "{} is there twice", row["key"]);
        }
        (path, pages) = (next, pages + 1);
    }
    ensure!(
        found.len() == rows.len() && pages >= 4,
        "{} rows in {pages} pages",
        found.len()
    );

    let (text, next) = page(&worker, "/inference/stores/rows/keys?prefix=product-000&limit=3").await?;
    ensure!(serde_json::from_str::<Value>(&text)?.as_array().map(Vec::len) == Some(3));
    let (text, next) = page(&worker, &next.context("there is more")?).await?;
    ensure!(text.contains("product-0003") && next.is_some());
    let (text, next) = page(&worker, "/inference/stores/rows/keys?prefix=nothing").await?;
    ensure!((text.as_str(), next) == ("[]", None));
    for wrong in ["limit=all", "limit=0", "cursor=%25", "prefx=a", "max.lag.ms=1"] {
        let (status, body) = worker
            .request("GET", &format!("/inference/stores/rows/keys?{wrong}"), None)
            .await?;
        let name = wrong.split('=').next().unwrap();
        ensure!(
            status == 400 && body["message"].as_str().is_some_and(|text| text.contains(name)),
            "{wrong}: {body}"
        );
    }
    Ok(())
}

/// Keys with slashes, spaces, percent signs, in any script or none, and integers that a double would round.
#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_are_found_and_shown() -> Result<()> {
    let odd: [(&[u8], &str); 8] = [
        (b"a/b", "a/b"),
        (b"a//b/", "a%2F%2Fb%2F"),
        (b"100%", "100%25"),
        (b"a b+c?d#e", "a%20b+c%3Fd%23e"),
        ("Käse|\u{1f9c0}".as_bytes(), "K%C3%A4se%7C%F0%9F%A7%80"),
        (b"9007199254740993", "9007199254740993"),
        (b"\xff\x00\xfe", "_wD-?encoding=base64"),
        (b"keys", "keys"),
    ];
    let rows: Vec<(Vec<u8>, String)> = odd
        .iter()
        .enumerate()
        .map(|(number, (key, _))| {
            (
                key.to_vec(),
                format!("{{\"n\":{number},\"id\":18446744073709551615,\"p\":1.10}}"),
            )
        })
        .collect();
    let worker = store("odd-keys", &rows).await?;
    for (number, (key, path)) in odd.iter().enumerate() {
        let (text, _) = page(&worker, &format!("/inference/stores/rows/keys/{path}"))
            .await
            .with_context(|| format!("{}", key.escape_ascii()))?;
        // As the topic has it, digit by digit.
        let value = format!("\"value\":{{\"n\":{number},\"id\":18446744073709551615,\"p\":1.10}}");
        ensure!(text.contains(&value), "{}: {text}", key.escape_ascii());
    }
    let (text, _) = page(&worker, "/inference/stores/rows/keys").await?;
    let shown: Value = serde_json::from_str(&text)?;
    let binary = shown
        .as_array()
        .context("an array")?
        .iter()
        .find(|row| row["key_base64"].is_string());
    ensure!(binary.is_some_and(|row| row["key_base64"] == "_wD-"), "{text}");
    ensure!(shown.as_array().map(Vec::len) == Some(odd.len()), "{text}");
    let (status, body) = worker
        .request("GET", "/inference/stores/rows/keys/_wD-?encoding=hex", None)
        .await?;
    ensure!(status == 400, "{body}");
    Ok(())
}
