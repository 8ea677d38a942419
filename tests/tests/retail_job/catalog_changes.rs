//! Changes of the catalog's table while the job runs: the next purchase sees them.

use crate::job::{EVENTS, Job, eventually};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Instant;
use tests::inference::produce;
use tests::worker::PATIENCE;

/// Households that buy here, and nowhere else, start so.
pub const PROBE: &str = "probe-";
/// Products that nobody else buys.
pub const PRODUCTS: [&str; 3] = ["probe-changed", "probe-deleted", "probe-changed-later"];
const MODEL: &str = "/inference/models/marketing/coupon";
const PREDICTIONS: &str = "predictions.marketing";

impl Job {
    /// Waits until a product's row is so on every worker.
    pub async fn until_product(&self, product: &str, so: impl Fn(&Value) -> bool) -> Result<()> {
        for worker in &self.workers {
            let path = format!("/inference/stores/products/keys/{product}");
            worker.until(&path, |_, found| so(&found["value"])).await?;
        }
        Ok(())
    }

    /// A purchase of the moment that the replay has reached.
    async fn probe(&self, household: &str, product: &str) -> Result<Value> {
        Ok(json!({
            "household_id": household, "store_id": "1", "basket_id": "1", "product_id": product, "quantity": 1,
            "sales_value": 2.5, "retail_disc": 0.0, "transaction_timestamp": self.purchases.time_of(self.replayed().await?)?,
        }))
    }

    /// Sends a purchase, and waits for its prediction.
    async fn prediction_for(&mut self, purchase: &Value) -> Result<f64> {
        let household = purchase["household_id"].as_str().context("a household")?.to_owned();
        let record = (household.clone(), purchase.to_string());
        let bootstrap = self.site.broker.bootstrap();
        tokio::task::block_in_place(|| produce(&bootstrap, EVENTS, [record]))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.outputs.read()?;
            let outputs = self.outputs.by_topic.get(PREDICTIONS).into_iter().flatten();
            let mut outputs = outputs.flat_map(|(_, outputs)| outputs);
            if let Some(output) = outputs.find(|output| output.key == household) {
                let value: Value = serde_json::from_str(&output.value)?;
                return value["probability"].as_f64().context("no probability");
            }
            ensure!(Instant::now() < deadline, "no prediction for {purchase}");
        }
    }
}

/// New products come, one gets another brand and type, another is deleted: every worker has it so, and so has the next
/// prediction.
pub async fn are_seen_by_the_next_purchase(job: &mut Job) -> Result<()> {
    let [product, gone, _] = PRODUCTS;
    let rows = PRODUCTS.map(|product| format!("('{product}', '1', 'GROCERY', 'National', 'A CATEGORY', 'A TYPE', '')"));
    let new = format!("INSERT INTO products VALUES {}", rows.join(", "));
    job.catalog.sql(&new).await?;
    job.catalog.rows += PRODUCTS.len();
    job.until_catalog_is_whole().await?;
    let before = job.probe("probe-before", product).await?;
    let as_national = job.prediction_for(&before).await?;

    let change = format!(
        "UPDATE products SET brand = 'Private', product_type = 'ANOTHER TYPE' WHERE product_id = '{product}'; \
         DELETE FROM products WHERE product_id = '{gone}'"
    );
    job.catalog.sql(&change).await?;
    job.catalog.rows -= 1;
    job.until_product(product, |row| row["product_type"] == "ANOTHER TYPE")
        .await?;
    for worker in &job.workers {
        let path = format!("/inference/stores/products/keys/{gone}");
        worker.until(&path, |status, _| status == 404).await?;
    }
    job.until_catalog_is_whole().await?;

    let after = job.probe("probe-after", product).await?;
    let as_private = job.prediction_for(&after).await?;
    let (path, event) = (format!("{MODEL}/evaluate"), json!({ "event": after }));
    let by_hand = job.worker().success("POST", &path, Some(&event)).await?;
    ensure!(by_hand["features"]["is_private"] == 1.0, "{by_hand}");
    let probability = by_hand["outputs"]["probability"].as_f64().unwrap_or_default();
    ensure!(
        probability as f32 == as_private as f32,
        "{by_hand}, predicted {as_private}"
    );
    ensure!(as_private != as_national, "{as_private} for both brands");
    // The household's state counts the type that the product has now, and counted the other before.
    eventually("the new type is counted", async || {
        let found = job.types_of("probe-after").await?;
        ensure!(
            found == ["probe-after", "probe-after|ANOTHER TYPE"].map(str::to_owned).into(),
            "{found:?}"
        );
        let found = job.types_of("probe-before").await?;
        ensure!(
            found == ["probe-before", "probe-before|A TYPE"].map(str::to_owned).into(),
            "{found:?}"
        );
        Ok(())
    })
    .await?;
    // A product that is gone has no type to count.
    let nowhere = job.probe("probe-gone", gone).await?;
    job.prediction_for(&nowhere).await?;
    eventually("the household is counted", async || {
        let found = job.types_of("probe-gone").await?;
        ensure!(found.len() == 1 && found.contains("probe-gone"), "{found:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

impl Job {
    /// Keys of a household's state.
    async fn types_of(&self, household: &str) -> Result<BTreeSet<String>> {
        let mut keys = BTreeSet::new();
        for worker in &self.workers {
            let path = format!("/inference/stores/household_state/keys?prefix={household}");
            let found = worker.get(&path).await?;
            let found = found.as_array().into_iter().flatten();
            keys.extend(found.filter_map(|entry| entry["key"].as_str().map(str::to_owned)));
        }
        Ok(keys)
    }
}
