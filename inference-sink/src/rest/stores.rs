//! Reading stores: status, one key, pages of keys, the archive.

use super::store_pages::{self, Query, Row, entry_json, unknown};
use crate::expiry::{candidate_keys, shown_key};
use crate::registry::Kind;
use crate::service::Started;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connect_api::extension::{RestRequest, RestResponse};
use feature_engine::AggregateRow;
use feature_engine::resource::StoreKind;
use serde_json::{Value, json};
use state_store::StateError;
use state_store::archive::Manifest;
use std::sync::Arc;

/// A read below a store.
enum Read {
    Page(Query),
    Key(Vec<u8>),
}

pub(super) async fn answer(started: &Arc<Started>, request: &RestRequest, store: &str, rest: &[&str]) -> RestResponse {
    if let [later @ ("pin" | "rollback")] | ["archive", .., later @ "restore"] = rest
        && request.method == "POST"
    {
        return RestResponse::error(501, &format!("{later} of a store is not supported yet"));
    }
    if request.method != "GET" {
        return RestResponse::error(
            405,
            &format!("{} is not allowed on /{}", request.method, request.path.join("/")),
        );
    }
    // Nothing lies below a key, so a key may have slashes, escaped or not.
    let read = match rest {
        ["keys"] => Query::read(request).map(Read::Page),
        ["keys", key @ ..] => key_of(request, &key.join("/")).map(Read::Key),
        ["archive", key @ ..] if !key.is_empty() => return read_archive(started, store, &key.join("/")).await,
        _ => return RestResponse::error(404, "there is no such path below a store"),
    };
    let read = match read {
        Ok(read) => read,
        Err(message) => return RestResponse::error(400, &message),
    };
    // Few at a time: each may read much, and takes a thread meanwhile.
    let Ok(turn) = started.store_reads.clone().acquire_owned().await else {
        return RestResponse::error(503, "the worker is stopping");
    };
    let (started, store) = (started.clone(), store.to_owned());
    // RocksDB may go to disk.
    let answered = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let deployment = started.deployment();
        let is_keyed = match deployment.resources.stores.get(&store).map(|store| &store.kind) {
            Some(StoreKind::Global { .. }) => false,
            // A view's own store is declared by the view.
            Some(StoreKind::Keyed { .. }) => true,
            None if deployment.resources.views.contains_key(&store) => true,
            None => return RestResponse::error(404, &format!("there is no store {store}")),
        };
        match (read, is_keyed) {
            (Read::Page(query), true) => store_pages::of_keyed(&started, &store, &query),
            (Read::Page(query), false) => store_pages::of_global(&started, &store, &query),
            (Read::Key(key), true) => match String::from_utf8(key) {
                Ok(key) => get_keyed(&started, &store, &key),
                Err(_) => RestResponse::error(400, "a key of a keyed store is text: its parts, joined by |"),
            },
            (Read::Key(key), false) => get_global(&started, &store, &key),
        }
    });
    answered
        .await
        .unwrap_or_else(|error| RestResponse::error(500, &format!("reading failed: {error}")))
}

/// The key of a path; `?encoding=base64` for one that is no text.
fn key_of(request: &RestRequest, key: &str) -> Result<Vec<u8>, String> {
    let mut bytes = key.as_bytes().to_vec();
    for (name, value) in &request.query {
        bytes = match (name.as_str(), value.as_str()) {
            ("encoding", "base64") => URL_SAFE_NO_PAD
                .decode(key.trim_end_matches('='))
                .map_err(|_| "the key is not base64 as URLs have it (RFC 4648, section 5)".to_owned())?,
            ("encoding", other) => return Err(format!("encoding {other} is not known; use base64")),
            (other, _) => return Err(unknown(other, "encoding")),
        };
    }
    Ok(bytes)
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
    let failure = started.globals.failure(name);
    if let Some(status) = started.globals.status_of(name) {
        let mut status = serde_json::to_value(status).unwrap_or_default();
        if let (Some(status), Some(failure)) = (status.as_object_mut(), failure) {
            // What is declared now cannot be opened, and what was before serves on.
            status.insert("next".to_owned(), json!({ "ready": false, "trouble": failure }));
        }
        return status;
    }
    if let Some(error) = failure {
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
                "archive_waits": archive_waits, "rebuilds": reader.rebuilds().unwrap_or_default(),
                "input_offset": position.map(|position| position.input_offset),
                "stream_time_ms": position.map(|position| position.stream_time_ms).filter(|ms| *ms > i64::MIN),
                "changelog_offset": position.map(|position| position.changelog_offset),
            })
        })
        .collect();
    let used_by = crate::registry::check::users(&started.deployment().resources, Kind::Store, name);
    json!({ "store": name, "kind": "keyed", "rows": rows, "partitions": partitions, "used_by": used_by, "served-by": &*started.context.worker_id })
}

fn get_global(started: &Started, store: &str, key: &[u8]) -> RestResponse {
    let Some(global) = started.globals.store(store) else {
        return RestResponse::error(503, &format!("store {store} is not open on this worker yet"));
    };
    match global.get_bytes(key) {
        Ok(Some(value)) => {
            let served_by = &*started.context.worker_id;
            let found = Found {
                row: Row::new(key, &value),
                served_by,
                role: "active",
            };
            RestResponse {
                status: 200,
                headers: Vec::new(),
                content_type: "application/json",
                // Texts and JSON values always serialise.
                body: serde_json::to_vec(&found).unwrap_or_default().into(),
            }
        }
        Ok(None) => RestResponse::error(
            404,
            &format!("store {store} has no key {}", String::from_utf8_lossy(key)),
        ),
        Err(error) => RestResponse::error(500, &error.to_string()),
    }
}

/// A row with where it was read.
#[derive(serde::Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    #[serde(rename = "served-by")]
    served_by: &'a str,
    role: &'static str,
}

/// A key of a keyed store as people write it: its parts, joined by `|`. A key that several groups of aggregates share
/// answers with all of them.
fn get_keyed(started: &Started, store: &str, key: &str) -> RestResponse {
    let candidates = candidate_keys(&started.deployment().resources, store, key);
    let mut found = Vec::new();
    for (connector, partition, reader) in started.keyed_readers(store) {
        for candidate in &candidates {
            match reader.get(candidate) {
                Ok(Some(entry)) => found.push(entry_json(&connector, partition, &entry)),
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
