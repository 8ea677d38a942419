//! Reading stores: status, one key, keys by prefix, the archive.

use crate::expiry::{candidate_keys, shown_key};
use crate::registry::Kind;
use crate::service::Started;
use connect_api::extension::{RestRequest, RestResponse};
use feature_engine::AggregateRow;
use feature_engine::resource::StoreKind;
use serde_json::{Value, json};
use state_store::archive::Manifest;
use state_store::{CommittedEntry, StateError};
use std::sync::Arc;

/// Keys of one answer.
const LIMIT: usize = 100;
const MOST: usize = 10_000;
/// Entries of a partition that a search by prefix looks at.
const SCANNED: usize = 1_000_000;

pub(super) async fn answer(started: &Arc<Started>, request: &RestRequest, store: &str, rest: &[&str]) -> RestResponse {
    if let [later @ ("pin" | "rollback")] | ["archive", _, later @ "restore"] = rest {
        return RestResponse::error(501, &format!("{later} of a store is not supported yet"));
    }
    if request.method != "GET" {
        return RestResponse::error(
            405,
            &format!("{} is not allowed on /{}", request.method, request.path.join("/")),
        );
    }
    if let ["archive", key] = rest {
        return read_archive(started, store, key).await;
    }
    let started = started.clone();
    let (store, rest) = (
        store.to_owned(),
        rest.iter().map(|segment| (*segment).to_owned()).collect::<Vec<_>>(),
    );
    let query = request.query.clone();
    let parameter = move |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    // RocksDB may go to disk.
    let answered = tokio::task::spawn_blocking(move || {
        let is_keyed = match started
            .deployment()
            .resources
            .stores
            .get(&store)
            .map(|store| store.kind.clone())
        {
            Some(StoreKind::Global { .. }) => false,
            // A view's own store is declared by the view.
            Some(StoreKind::Keyed { .. }) => true,
            None if started.deployment().resources.views.contains_key(&store) => true,
            None => return RestResponse::error(404, &format!("there is no store {store}")),
        };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match rest.as_slice() {
            ["keys"] => {
                let prefix = parameter("prefix").unwrap_or_default();
                let limit = parameter("limit")
                    .and_then(|limit| limit.parse().ok())
                    .unwrap_or(LIMIT)
                    .min(MOST);
                if is_keyed {
                    scan_keyed(&started, &store, &prefix, limit)
                } else {
                    scan_global(&started, &store, &prefix, limit)
                }
            }
            ["keys", key] if is_keyed => get_keyed(&started, &store, key),
            ["keys", key] => get_global(&started, &store, key),
            _ => RestResponse::error(404, "there is no such path below a store"),
        }
    });
    answered
        .await
        .unwrap_or_else(|error| RestResponse::error(500, &format!("reading failed: {error}")))
}

/// The newest archived version of a key.
async fn read_archive(started: &Arc<Started>, store: &str, key: &str) -> RestResponse {
    let Some(archive) = &started.archive else {
        return RestResponse::error(400, "the worker's archive.url is not set: nothing is archived");
    };
    let Some(database) = started.open_database() else {
        return RestResponse::error(404, &format!("store {store} has no copy on this worker"));
    };
    let candidates = candidate_keys(&started.deployment().resources, store, key);
    let connectors: std::collections::BTreeSet<String> = started
        .keyed_readers(store)
        .into_iter()
        .map(|(connector, _, _)| connector)
        .collect();
    let mut found = Vec::new();
    for connector in connectors {
        let manifests = match Manifest::list(&database, &connector, store) {
            Ok(manifests) => manifests,
            Err(error) => return RestResponse::error(500, &error.to_string()),
        };
        for candidate in &candidates {
            match archive.read_key(&manifests, candidate).await {
                Ok(Some(entry)) => found.push(json!({
                    "key": shown_key(&entry.key), "connector": connector, "expired_ms": entry.expires_ms,
                    "touched_ms": entry.version.touched_ms,
                    "value": AggregateRow::decode(&entry.payload).map(|row| format!("{row:?}")).unwrap_or_else(|error| error),
                })),
                Ok(None) => {}
                // The archive is elsewhere and may be back in a moment.
                Err(error @ StateError::Archive { .. }) => return RestResponse::error(503, &error.to_string()),
                Err(error) => return RestResponse::error(500, &error.to_string()),
            }
        }
    }
    match found.is_empty() {
        true => RestResponse::error(404, &format!("the archive of store {store} has no key {key}")),
        false => RestResponse::json(200, &json!({ "key": key, "entries": found })),
    }
}

/// Where a store stands on this worker.
pub(super) fn status(started: &Started, name: &str) -> Value {
    if let Some(store) = started.globals.store(name) {
        return serde_json::to_value(store.status()).unwrap_or_default();
    }
    if let Some(error) = started.globals.failure(name) {
        return json!({ "store": name, "ready": false, "trouble": error });
    }
    let rows: u64 = started
        .keyed_sizes()
        .into_iter()
        .filter(|(store, _)| store == name)
        .map(|(_, rows)| rows)
        .sum();
    let waits = started.archive_waits(name);
    let partitions: Vec<Value> = started
        .keyed_readers(name)
        .into_iter()
        .map(|(connector, partition, reader)| {
            let position = reader.position().ok().flatten();
            let archive_waits = waits.get(&(connector.clone(), partition));
            json!({
                "connector": connector, "partition": partition, "rows": reader.len_estimate().unwrap_or(0),
                "archive_waits": archive_waits,
                "input_offset": position.map(|position| position.input_offset),
                "stream_time_ms": position.map(|position| position.stream_time_ms).filter(|ms| *ms > i64::MIN),
                "changelog_offset": position.map(|position| position.changelog_offset),
            })
        })
        .collect();
    let used_by = crate::registry::check::users(&started.deployment().resources, Kind::Store, name);
    json!({ "store": name, "kind": "keyed", "rows": rows, "partitions": partitions, "used_by": used_by, "served-by": &*started.context.worker_id })
}

fn get_global(started: &Started, store: &str, key: &str) -> RestResponse {
    let Some(global) = started.globals.store(store) else {
        return RestResponse::error(503, &format!("store {store} is not open on this worker yet"));
    };
    match global.get_bytes(key.as_bytes()) {
        Ok(Some(value)) => RestResponse::json(
            200,
            &json!({ "key": key, "value": json_or_text(&value), "served-by": &*started.context.worker_id, "role": "active" }),
        ),
        Ok(None) => RestResponse::error(404, &format!("store {store} has no key {key}")),
        Err(error) => RestResponse::error(500, &error.to_string()),
    }
}

fn scan_global(started: &Started, store: &str, prefix: &str, limit: usize) -> RestResponse {
    let Some(global) = started.globals.store(store) else {
        return RestResponse::error(503, &format!("store {store} is not open on this worker yet"));
    };
    match global.scan(prefix.as_bytes(), limit) {
        Ok(rows) => {
            let rows: Vec<Value> = rows
                .iter()
                .map(|(key, value)| json!({ "key": String::from_utf8_lossy(key), "value": json_or_text(value) }))
                .collect();
            RestResponse::json(200, &json!(rows))
        }
        Err(error) => RestResponse::error(500, &error.to_string()),
    }
}

fn json_or_text(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

/// A key of a keyed store as people write it: its parts, joined by `|`. A key that several groups of aggregates share
/// answers with all of them.
fn get_keyed(started: &Started, store: &str, key: &str) -> RestResponse {
    let candidates = candidate_keys(&started.deployment().resources, store, key);
    let mut found = Vec::new();
    for (connector, partition, reader) in started.keyed_readers(store) {
        for candidate in &candidates {
            match reader.get(candidate) {
                Ok(Some(entry)) => found.push(shown(&connector, partition, &entry)),
                Ok(None) => {}
                Err(error) => return RestResponse::error(500, &error.to_string()),
            }
        }
    }
    if found.is_empty() {
        return RestResponse::error(404, &format!("store {store} has no key {key} on this worker"));
    }
    RestResponse::json(
        200,
        &json!({ "key": key, "entries": found, "served-by": &*started.context.worker_id, "role": "active" }),
    )
}

fn shown(connector: &str, partition: i32, entry: &CommittedEntry) -> Value {
    let value = AggregateRow::decode(&entry.payload).map(|row| format!("{row:?}"));
    json!({
        "key": shown_key(&entry.key), "connector": connector, "partition": partition,
        "touched_ms": entry.version.touched_ms, "value": value.unwrap_or_else(|error| format!("unreadable: {error}")),
    })
}

/// Keys whose shown form starts with a prefix. Every entry is looked at: groups of aggregates have keys of their own.
fn scan_keyed(started: &Started, store: &str, prefix: &str, limit: usize) -> RestResponse {
    RestResponse::json(
        200,
        &json!(entries(started, store, |shown| shown.starts_with(prefix), limit)),
    )
}

fn entries(started: &Started, store: &str, wanted: impl Fn(&str) -> bool, limit: usize) -> Vec<Value> {
    let mut found = Vec::new();
    for (connector, partition, reader) in started.keyed_readers(store) {
        let Ok(all) = reader.scan(&[], SCANNED) else { continue };
        for entry in all.iter().filter(|entry| wanted(&shown_key(&entry.key))) {
            if found.len() >= limit {
                return found;
            }
            found.push(shown(&connector, partition, entry));
        }
    }
    found
}
