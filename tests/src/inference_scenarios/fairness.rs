//! Tenants get CPU by their weights while all of them want it; what one does not want is lent to the others; a ceiling holds
//! even when nobody else wants the CPU. Measured in CPU as `GET /inference/fairness` tells it, on a machine that may be busy
//! with other things: what is asserted are ratios.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{LOOK, Stage, events, wait_for};
use crate::broker_laws::unique;
use crate::inference::{PATIENCE, create_topics};

/// All rows wait in the executors' queues: no barrier takes any of them back before they have run.
const ALL_AT_ONCE: [(&str, &str); 2] = [
    ("inference.commit.interval.ms", "60000"),
    ("inference.commit.drain.ms", "600000"),
];
/// Models of a tenant: more than there are executors, so that it can use all of them.
const MODELS: i64 = 3;

/// What `GET /inference/fairness` says at one moment.
struct Reading {
    at: Instant,
    fairness: Value,
}

impl Reading {
    fn of(&self, tenant: &str) -> Result<&Value> {
        let tenants = self.fairness["since_start"]["tenants"].as_object();
        let found = tenants.and_then(|tenants| tenants.get(tenant));
        found.with_context(|| format!("no tenant {tenant} in {}", self.fairness))
    }

    fn cpu_us(&self, tenant: &str) -> Result<f64> {
        self.of(tenant)?["cpu_us"].as_f64().context("cpu_us")
    }

    /// CPU microseconds of a tenant since an earlier reading.
    fn spent_us(&self, tenant: &str, before: &Reading) -> Result<f64> {
        Ok(self.cpu_us(tenant)? - before.cpu_us(tenant)?)
    }

    /// CPU of a tenant since an earlier reading as a share of one core.
    fn cores(&self, tenant: &str, before: &Reading) -> Result<f64> {
        let elapsed = self.at.duration_since(before.at);
        Ok(self.spent_us(tenant, before)? / 1e6 / elapsed.as_secs_f64())
    }
}

impl Stage {
    /// A tenant with several costly models, and no other.
    async fn costly_tenant(&self, tenant: &str, document: &Value) -> Result<()> {
        let topic = unique(tenant);
        create_topics(self.bootstrap(), &[(&topic, super::PARTITIONS)]).await?;
        self.put(&format!("tenants/{tenant}"), document).await?;
        for number in 0..MODELS {
            let mut model = self.model("costly.onnx");
            model["output"]["topic"] = topic.as_str().into();
            self.put(&format!("models/{tenant}/costly{number}"), &model).await?;
        }
        Ok(())
    }

    async fn reading(&self) -> Result<Reading> {
        let fairness = self.worker.ok("GET", "fairness", &Value::Null).await?;
        Ok(Reading {
            at: Instant::now(),
            fairness,
        })
    }

    /// Rows of a tenant that wait or run.
    fn waiting(&self, tenant: &str) -> u64 {
        let snapshot = self.worker.service.snapshot();
        snapshot.tenants.get(tenant).map_or(0, |tenant| tenant.lag)
    }

    /// Waits until so many rows of a tenant wait, at most.
    async fn until_waiting(&self, tenant: &str, rows: u64) -> Result<()> {
        let deadline = Instant::now() + 3 * PATIENCE;
        while self.waiting(tenant) > rows {
            ensure!(
                Instant::now() < deadline,
                "{} rows of {tenant} wait",
                self.waiting(tenant)
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Sends events and waits until all of them are the executors' business.
    async fn hand_over(&self, count: i64) -> Result<()> {
        let before = self.worker.service.snapshot().events_in;
        self.produce(events(0..count))?;
        let all = before + count.unsigned_abs();
        wait_for("events handed over", || self.worker.service.snapshot().events_in >= all).await
    }
}

/// Two tenants with more to do than the executors can, one with nine times the weight of the other: until one of them has
/// nothing left to do.
///
/// # Errors
/// When the shares are not those of the weights, or what is free is not lent.
pub async fn cpu_is_shared_by_weight_and_what_is_idle_is_lent(stage: Stage) -> Result<()> {
    const EVENTS: i64 = 20_000;
    stage.worker.ok("DELETE", "models/shop/score", &Value::Null).await?;
    stage.costly_tenant("light", &json!({ "weight": 1 })).await?;
    stage.costly_tenant("heavy", &json!({ "weight": 9 })).await?;
    let task = stage.task(&ALL_AT_ONCE)?;
    stage.hand_over(EVENTS).await?;

    let first = stage.reading().await?;
    let waited = stage.waiting("heavy");
    ensure!(
        waited > EVENTS.unsigned_abs(),
        "the backlog was gone before it was looked at: {waited}"
    );
    stage.until_waiting("heavy", waited * 3 / 10).await?;
    let second = stage.reading().await?;
    ensure!(
        stage.waiting("heavy") > 0,
        "both had to have work all the time: take more events"
    );
    let spent = [second.spent_us("light", &first)?, second.spent_us("heavy", &first)?];
    let share = spent[0] / (spent[0] + spent[1]);
    ensure!(
        (0.09..=0.11).contains(&share),
        "weights 1 and 9: a share of {share}, {spent:?}"
    );
    for (tenant, asked) in [("light", 0.1), ("heavy", 0.9)] {
        let said = second.of(tenant)?;
        let (share_asked, share_got) = (said["share_asked"].as_f64(), said["share_got"].as_f64());
        ensure!(share_asked == Some(asked), "{said}");
        let got = share_got.context("share_got")?;
        ensure!((asked - 0.03..=asked + 0.03).contains(&got), "{said}");
    }
    let jain = second.fairness["since_start"]["jain_index"].as_f64();
    ensure!(jain.is_some_and(|jain| (0.95..=1.0).contains(&jain)), "{jain:?}");

    // Nobody else wants anything now. By its weight the light one would still get a tenth.
    stage.until_waiting("heavy", 0).await?;
    let third = stage.reading().await?;
    let left = stage.waiting("light");
    ensure!(left > EVENTS.unsigned_abs(), "{left} rows are no backlog");
    stage.until_waiting("light", left / 2).await?;
    let fourth = stage.reading().await?;
    ensure!(
        fourth.spent_us("heavy", &third)? == 0.0,
        "CPU of one who has nothing to do"
    );
    let (beside, alone) = (second.cores("light", &first)?, fourth.cores("light", &third)?);
    ensure!(
        alone > 2.0 * beside,
        "{beside} cores beside the heavy one, {alone} alone"
    );
    stage.until_waiting("light", 0).await?;
    task.stop()
}

/// A tenant with a ceiling far below what it wants, and one that wants little: the ceiling is reached and not passed, also once
/// the other has had all that it wants.
///
/// # Errors
/// When it gets more than its ceiling, or much less, or the other waits for it.
pub async fn a_ceiling_holds_and_is_reached(stage: Stage) -> Result<()> {
    const EVENTS: i64 = 1_500;
    const SHARE: f64 = 0.05;
    stage
        .costly_tenant("capped", &json!({ "cpu": { "max_share": SHARE } }))
        .await?;
    let task = stage.task(&ALL_AT_ONCE)?;
    stage.hand_over(EVENTS).await?;
    let first = stage.reading().await?;
    let waited = stage.waiting("capped");
    stage.until_waiting("shop", 0).await?;
    ensure!(
        stage.waiting("capped") > waited / 2,
        "the other had to wait for the one with the ceiling"
    );
    stage.until_waiting("capped", waited * 7 / 10).await?;
    let second = stage.reading().await?;
    let cores = second.fairness["since_start"]["cores"].as_f64().context("cores")?;
    let share = second.cores("capped", &first)? / cores;
    // A full bucket, which its share fills in 50 ms, is spent beside it.
    let burst = SHARE * 0.05 / second.at.duration_since(first.at).as_secs_f64();
    ensure!(
        (0.5 * SHARE..=1.05 * SHARE + burst).contains(&share),
        "a share of {share} under a ceiling of {SHARE}"
    );
    let said = second.of("capped")?;
    ensure!(said["max_share"] == SHARE, "{said}");
    stage.put("tenants/capped", &json!({})).await?;
    stage.until_waiting("capped", 0).await?;
    task.stop()
}
