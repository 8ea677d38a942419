//! Figures of stores for Prometheus: whether they serve, what they could not take, and how often they were made anew.

use super::prometheus::Text;
use crate::service::Started;
use std::collections::BTreeMap;

pub(super) fn add(text: &mut Text, started: &Started) {
    let statuses = started.globals.status();
    text.family(
        "store_ready",
        "gauge",
        "1: the global store serves and was read to its topic's end; 0: its status says why not.",
    );
    for status in &statuses {
        text.value(
            "store_ready",
            &[("store", &status.store)],
            f64::from(u8::from(status.ready)),
        );
    }
    text.family(
        "store_lag",
        "gauge",
        "Records of the topic that the global store has not read yet.",
    );
    for status in &statuses {
        let lag: i64 = status.partitions.values().map(|partition| partition.lag).sum();
        text.value("store_lag", &[("store", &status.store)], lag as f64);
    }
    text.family(
        "store_records_rejected_total",
        "counter",
        "Records that a global store could not take, since its copy was made.",
    );
    for status in &statuses {
        for (reason, records) in &status.intake.rejected {
            let labels = [("store", status.store.as_str()), ("reason", reason.name())];
            text.value("store_records_rejected_total", &labels, *records as f64);
        }
    }
    text.family(
        "store_rows_undecodable_total",
        "counter",
        "Rows of a global store that could not be decoded when they were looked up.",
    );
    for status in &statuses {
        let rows = status.undecodable_rows as f64;
        text.value("store_rows_undecodable_total", &[("store", &status.store)], rows);
    }
    text.family(
        "store_rebuilds_total",
        "counter",
        "Local copies that had to be made anew from their topics.",
    );
    for status in &statuses {
        let labels = [("store", status.store.as_str()), ("kind", "global")];
        text.value("store_rebuilds_total", &labels, status.rebuilds as f64);
    }
    let mut keyed: BTreeMap<String, u64> = BTreeMap::new();
    for ((_, store, _), reader) in started.all_keyed_copies() {
        *keyed.entry(store).or_default() += reader.rebuilds().map_or(0, |rebuilds| rebuilds.count);
    }
    for (store, rebuilds) in &keyed {
        let labels = [("store", store.as_str()), ("kind", "keyed")];
        text.value("store_rebuilds_total", &labels, *rebuilds as f64);
    }
}
