//! The job of `configs/retail` as its users run it: their files, on Apache Kafka, PostgreSQL and an S3 server.
//!
//! ```text
//!   files.rs      configs/retail and configs/demo/inference, addresses and passwords replaced
//!   site.rs       the services, and what an operator does there
//!   purchases.rs  a bounded number of purchases
//!   outputs.rs    predictions by the input record that they were made from
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod files;
mod outputs;
mod purchases;
mod site;

use anyhow::Result;
use outputs::Outputs;
use purchases::Purchases;
use serde_json::Value;
use site::{Catalog, Site};

const STORE: &str = "/inference/stores/products/status";

#[tokio::test(flavor = "multi_thread")]
async fn every_purchase_is_predicted_once() -> Result<()> {
    let (site, catalog) = tokio::try_join!(Site::start(), Catalog::start())?;
    let folder = tempfile::tempdir()?;
    let purchases = Purchases::write(&folder.path().join("purchases.csv"), 5_000)?;
    let mut worker = site.worker("one")?;
    worker.start().await?;
    site.post(&worker, "catalog", &catalog.addresses()).await?;
    site.put_documents(&worker).await?;
    let whole = |_, status: &Value| status["ready"] == true && status["rows"] == catalog.rows;
    worker.until(STORE, whole).await?;
    site.post(&worker, "inference", &[]).await?;
    let file = ("file", purchases.file.display().to_string());
    site.post(&worker, "purchases", &[file]).await?;
    let bootstrap = site.broker.bootstrap();
    Outputs::follow(&bootstrap)?.until_all(purchases.count)?;
    assert_eq!(worker.stop()?, 0);
    Outputs::all(&bootstrap)?.check_none_twice()
}
