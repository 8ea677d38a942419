//! `GET /inference/fairness`: who asked for CPU and who got it.

use crate::metrics::Metrics;
use crate::scheduler::{Demand, fairness_index};
use crate::service::Started;
use connect_api::extension::RestResponse;
use serde_json::json;

pub(super) fn answer(started: &Started, metrics: &Metrics) -> RestResponse {
    let figures = started.pool.figures();
    let demands = started.pool.demands();
    let deployment = started.deployment();
    let all_us: u64 = figures.values().map(|tenant| tenant.cpu_us).sum();
    let active = || figures.iter().filter(|(_, tenant)| tenant.cpu_us > 0);
    let weights: u32 = active().map(|(_, tenant)| tenant.weight).sum();
    let shed = metrics.shed_counts();
    let tenants: serde_json::Map<String, serde_json::Value> = figures
        .iter()
        .map(|(name, tenant)| {
            let models: serde_json::Map<String, serde_json::Value> = deployment
                .runtimes
                .values()
                .filter(|runtime| *runtime.tenant == **name)
                .map(|runtime| {
                    let figures = runtime.figures();
                    let entry = json!({
                        "cpu_us": figures.cpu_us, "cpu_us_per_row": figures.cpu_us_per_row, "rows": figures.rows,
                        "predictions": figures.predictions, "latency_p50_ms": figures.latency_p50_ms,
                        "latency_p99_ms": figures.latency_p99_ms,
                    });
                    (runtime.identity.to_string(), entry)
                })
                .collect();
            let own_shed: u64 = shed.iter().filter(|((tenant, _), _)| tenant == &**name).map(|(_, count)| count).sum();
            let entry = json!({
                "weight": tenant.weight, "max_share": tenant.max_share, "cpu_us": tenant.cpu_us, "feature_us": tenant.feature_us,
                "asked_us": demands.get(name).map_or(0, |demand| demand.asked_us as u64),
                "share_asked": f64::from(tenant.weight) / f64::from(weights.max(1)),
                "share_got": tenant.cpu_us as f64 / all_us.max(1) as f64, "shed": own_shed, "models": models,
            });
            (name.to_string(), entry)
        })
        .collect();
    let demands: Vec<Demand> = demands.into_values().collect();
    RestResponse::json(
        200,
        &json!({ "since_start": { "jain_index": fairness_index(&demands), "cores": started.pool.cores(), "tenants": tenants } }),
    )
}
