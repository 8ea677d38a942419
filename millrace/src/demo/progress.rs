//! How far the replay is: what the worker says of itself, once in a while.

use super::requests::Operator;
use super::view::{Progress, TenantRow};
use anyhow::Result;
use inference_sink::{InferenceService, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Nothing moved for so long: nothing will.
const SETTLED: Duration = Duration::from_millis(1_500);
/// Time between two lines of progress without a terminal.
const LINE: Duration = Duration::from_secs(2);

/// Watches one worker.
pub struct Watch {
    service: Arc<InferenceService>,
    worker: String,
    bootstrap: String,
    total: u64,
    started: Instant,
    last: (Instant, Snapshot),
}

/// The replay, ended.
pub struct Ended {
    /// figures at the end
    pub snapshot: Snapshot,
    /// from the first event to the last change
    pub took: Duration,
}

impl Watch {
    /// `total` events were asked for; the replay began at `started`.
    pub fn new(
        service: Arc<InferenceService>,
        worker: String,
        bootstrap: String,
        total: usize,
        started: Instant,
    ) -> Self {
        let last = (started, Snapshot::default());
        Self {
            service,
            worker,
            bootstrap,
            total: total as u64,
            started,
            last,
        }
    }

    /// Waits until all events went in, in this run or in one before it, and nothing moves any more.
    pub async fn until_settled(&mut self, operator: &Operator) -> Result<Ended> {
        let mut moved = (Instant::now(), 0);
        let mut printed = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let snapshot = self.service.snapshot();
            let sum = work(&snapshot);
            if sum != moved.1 {
                moved = (Instant::now(), sum);
            }
            if printed.elapsed() >= LINE {
                printed = Instant::now();
                eprintln!(
                    "{} of {} events, {} predictions, {} archived, {} models detached",
                    snapshot.events_in, self.total, snapshot.predictions, snapshot.archived, snapshot.detached
                );
            }
            let quiet = moved.0.elapsed();
            // models that fell behind still work through the feature log
            let settled = quiet > SETTLED
                && snapshot.detached == 0
                && (snapshot.events_in >= self.total || self.has_caught_up(operator).await);
            if settled || quiet > 40 * SETTLED {
                return Ok(Ended {
                    snapshot,
                    took: moved.0.duration_since(self.started),
                });
            }
        }
    }

    /// Whether every purchase is in the topic and the inference sink's position is the topic's end, as Kafka has it: what
    /// an earlier run has done counts too. What cannot be asked yet has not.
    async fn has_caught_up(&self, operator: &Operator) -> bool {
        let replayed = operator.get("/connectors/purchases/offsets").await;
        let replayed = replayed.ok().and_then(|answer| {
            answer
                .pointer("/offsets/0/offset/position")
                .and_then(serde_json::Value::as_u64)
        });
        if replayed.is_none_or(|rows| rows < self.total) {
            return false;
        }
        let Ok(answer) = operator.get("/connectors/inference/offsets").await else {
            return false;
        };
        let offsets = answer.get("offsets").and_then(serde_json::Value::as_array);
        let offset = |entry: &serde_json::Value| entry.pointer("/offset/kafka_offset")?.as_u64();
        let predicted: u64 = offsets.into_iter().flatten().filter_map(offset).sum();
        predicted >= self.total
    }

    /// What the screen shows now.
    pub fn look(&mut self) -> Progress {
        let now = Instant::now();
        let snapshot = self.service.snapshot();
        let seconds = now.duration_since(self.last.0).as_secs_f64().max(1e-3);
        let before = &self.last.1;
        let rate = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
        let tenants = snapshot
            .tenants
            .iter()
            .map(|(name, tenant)| TenantRow {
                name: name.clone(),
                predictions_per_second: rate(
                    tenant.predictions,
                    before.tenants.get(name).map_or(0, |tenant| tenant.predictions),
                ),
                predictions: tenant.predictions,
                p50_ms: tenant.latency_p50_ms,
                p99_ms: tenant.latency_p99_ms,
                lag: tenant.lag,
                cpu_share: tenant.cpu_share,
                shed: tenant.shed,
            })
            .collect();
        let stores: BTreeMap<_, _> = snapshot
            .stores
            .iter()
            .map(|(name, store)| (name.clone(), store.rows))
            .collect();
        let progress = Progress {
            elapsed: now.duration_since(self.started),
            events_in: snapshot.events_in,
            events_total: self.total,
            events_per_second: rate(snapshot.events_in, before.events_in),
            tenants,
            stores: stores.into_iter().collect(),
            archived: snapshot.archived,
            dead_lettered: snapshot.dead_lettered,
            worker: self.worker.clone(),
            bootstrap: self.bootstrap.clone(),
        };
        self.last = (now, snapshot);
        progress
    }
}

/// A number that grows with everything that is done.
fn work(snapshot: &Snapshot) -> u64 {
    let shed: u64 = snapshot.tenants.values().map(|tenant| tenant.shed).sum();
    snapshot.events_in + snapshot.predictions + snapshot.dead_lettered + snapshot.expired + snapshot.archived + shed
}
