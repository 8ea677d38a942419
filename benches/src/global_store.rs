//! A compacted topic of two million rows into a global store that had nothing.

use crate::events;
use crate::process::Worker;
use crate::report::Report;
use anyhow::{Context, Result};
use kafka_client::{Admin, ClientConfig, NewTopic};
use serde_json::json;
use std::time::{Duration, Instant};
use tests::kafka::KafkaBroker;

/// Rows, of 200 bytes each.
const ROWS: usize = 2_000_000;
const TOPIC: &str = "catalog.large";
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures the first copy.
pub async fn measure(report: &mut Report) -> Result<()> {
    let broker = KafkaBroker::start().await?;
    let bootstrap = broker.bootstrap();
    let admin = Admin::new(&ClientConfig::new(&bootstrap))?;
    for (topic, result) in admin
        .create_topics(&[NewTopic::new(TOPIC, 1, 1).with("cleanup.policy", "compact")])
        .await?
    {
        result.with_context(|| format!("create {topic}"))?;
    }
    let rows = (0..ROWS).map(|number| (format!("product-{number:09}"), Some(row(number))));
    events::send(&bootstrap, TOPIC, rows)?;
    let directory = tempfile::tempdir()?;
    let mut worker = Worker::start(&bootstrap, directory.path(), &[]).await?;
    // A new cluster makes its topics first.
    worker.request("GET", "/connectors", None).await?;
    worker.request("GET", "/inference/stores", None).await?;
    let before = worker.usage()?;
    let started = Instant::now();
    let store = json!({ "global": { "topic": TOPIC }, "value": { "format": "json" } });
    worker.request("PUT", "/inference/stores/large", Some(&store)).await?;
    let rows = "millrace_inference_store_rows{store=\"large\",kind=\"global\"}";
    let ended = worker.wait_for(rows, ROWS as f64, PATIENCE).await?;
    let after = worker.usage()?;
    let seconds = (ended - started).as_secs_f64();
    let peer = "GlobalKTable on RocksDB, recorded";
    report.beside(
        "topic to global store, 2M rows of 200 bytes",
        "rows/s",
        ROWS as f64 / seconds,
        353_000.0,
        peer,
        1,
    );
    let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
    report.alone(
        "topic to global store, CPU",
        "CPU-s per million rows",
        cpu_seconds / ROWS as f64 * 1e6,
        1,
    );
    report.beside(
        "topic to global store, peak memory",
        "MB",
        after.peak_bytes / 1e6,
        749.0,
        peer,
        1,
    );
    Ok(())
}

fn row(number: usize) -> Vec<u8> {
    let mut row = format!(
        "{{\"product_id\":\"product-{number:09}\",\"brand\":\"{}\",\"product_type\":\"type-{}\",\"price\":{}.{:02},\"description\":\"",
        if number.is_multiple_of(3) { "Private" } else { "National" },
        number % 1500,
        number % 90 + 1,
        number % 100,
    )
    .into_bytes();
    while row.len() < 198 {
        row.push(b'a' + (number.wrapping_mul(row.len()) % 26) as u8);
    }
    row.extend_from_slice(b"\"}");
    row
}
