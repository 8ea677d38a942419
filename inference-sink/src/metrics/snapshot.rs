//! The figures at one moment.

use super::Metrics;
use crate::models::ModelRuntime;
use crate::service::Started;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// One tenant.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TenantSnapshot {
    /// predictions made
    pub predictions: u64,
    /// events shed
    pub shed: u64,
    /// rows that failed
    pub errors: u64,
    /// events that gave a model no row: a feature was no element of its tensor
    pub input_errors: u64,
    /// CPU microseconds of runs
    pub cpu_us: u64,
    /// part of the CPU of all runs, from 0 to 1
    pub cpu_share: f64,
    /// weight
    pub weight: u32,
    /// median time from event to prediction, in milliseconds
    pub latency_p50_ms: f64,
    /// 99th percentile of it
    pub latency_p99_ms: f64,
    /// rows that its models have not run yet: queued, and in the feature log at most
    pub lag: u64,
}

/// One store.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StoreFigures {
    /// rows
    pub rows: u64,
    /// `global` or `keyed`
    pub kind: &'static str,
}

/// Figures of the inference part of a worker.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// events handed over
    pub events_in: u64,
    /// predictions made
    pub predictions: u64,
    /// by tenant
    pub tenants: BTreeMap<String, TenantSnapshot>,
    /// predictions by `tenant/name`
    pub models: BTreeMap<String, u64>,
    /// events sent to the dead letter topic
    pub dead_lettered: u64,
    /// entries that expired
    pub expired: u64,
    /// entries archived
    pub archived: u64,
    /// transactions committed or aborted
    pub commits: u64,
    /// median time from event to prediction, in milliseconds
    pub latency_p50_ms: f64,
    /// 99th percentile of it
    pub latency_p99_ms: f64,
    /// Jain's index over what tenants got of their fair share of CPU
    pub fairness: f64,
    /// by store
    pub stores: BTreeMap<String, StoreFigures>,
    /// records of global stores not read yet
    pub global_lag: i64,
    /// models that read from the feature log, each counted once for each partition
    pub detached: u64,
}

impl Metrics {
    /// The figures now.
    pub fn snapshot(&self, started: Option<&Started>) -> Snapshot {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut snapshot = Snapshot {
            events_in: get(&self.events_in),
            dead_lettered: get(&self.dead_letters),
            expired: get(&self.expired),
            archived: get(&self.archived),
            commits: get(&self.commits),
            fairness: 1.0,
            ..Snapshot::default()
        };
        for ((tenant, _), count) in self.shed_counts() {
            snapshot.tenants.entry(tenant).or_default().shed += count;
        }
        if let Some(started) = started {
            add_models(&mut snapshot, started);
            add_stores(&mut snapshot, started);
        }
        snapshot
    }
}

fn add_models(snapshot: &mut Snapshot, started: &Started) {
    let deployment = started.deployment();
    let mut latency: Histogram<u64> = crate::models::latency_histogram();
    let mut by_tenant: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    for (identity, runtime) in &deployment.runtimes {
        let runtime: &ModelRuntime = runtime;
        let predictions = runtime.predictions.load(Ordering::Relaxed);
        snapshot.predictions += predictions;
        snapshot.models.insert(identity.clone(), predictions);
        let tenant = snapshot.tenants.entry(runtime.tenant.to_string()).or_default();
        tenant.predictions += predictions;
        tenant.errors += runtime.errors.load(Ordering::Relaxed);
        tenant.input_errors += runtime.input_errors.load(Ordering::Relaxed);
        for mode in started.modes_of(identity).values() {
            tenant.lag += mode.lag().unsigned_abs();
            snapshot.detached += u64::from(mode.is_detached());
        }
        let own = by_tenant
            .entry(runtime.tenant.to_string())
            .or_insert_with(crate::models::latency_histogram);
        runtime.add_latency_to(own);
        runtime.add_latency_to(&mut latency);
    }
    for (name, latency) in by_tenant {
        let tenant = snapshot.tenants.entry(name).or_default();
        tenant.latency_p50_ms = latency.value_at_quantile(0.5) as f64 / 1e3;
        tenant.latency_p99_ms = latency.value_at_quantile(0.99) as f64 / 1e3;
    }
    for (name, rows) in started.pool.waiting() {
        snapshot.tenants.entry(name.to_string()).or_default().lag += rows as u64;
    }
    snapshot.latency_p50_ms = latency.value_at_quantile(0.5) as f64 / 1e3;
    snapshot.latency_p99_ms = latency.value_at_quantile(0.99) as f64 / 1e3;
    let figures = started.pool.figures();
    let all: u64 = figures.values().map(|tenant| tenant.cpu_us).sum();
    for (name, figures) in &figures {
        let tenant = snapshot.tenants.entry(name.to_string()).or_default();
        tenant.cpu_us = figures.cpu_us;
        tenant.weight = figures.weight;
        tenant.cpu_share = figures.cpu_us as f64 / all.max(1) as f64;
    }
    let demands: Vec<crate::scheduler::Demand> = started.pool.demands().into_values().collect();
    snapshot.fairness = crate::scheduler::fairness_index(&demands);
}

fn add_stores(snapshot: &mut Snapshot, started: &Started) {
    for status in started.globals.status() {
        snapshot.global_lag += status.partitions.values().map(|partition| partition.lag).sum::<i64>();
        snapshot.stores.insert(
            status.store,
            StoreFigures {
                rows: status.rows,
                kind: "global",
            },
        );
    }
    for (name, rows) in started.keyed_sizes() {
        snapshot.stores.insert(name, StoreFigures { rows, kind: "keyed" });
    }
}
