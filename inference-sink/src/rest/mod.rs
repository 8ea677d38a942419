//! REST resources below `/inference`.
//!
//! ```text
//! tenants, stores, feature-views: GET list; GET, PUT, DELETE {name}; POST {name}/validate; GET {name}/status
//! models: the same at {tenant}/{name}; POST evaluate, pause, resume
//! stores/{store}/keys/{key}, keys?prefix=&limit=&cursor=, archive/{key}
//! fairness
//! ```

mod evaluate;
mod fairness;
mod output_topics;
pub(crate) mod resources;
mod store_pages;
mod stores;

use crate::metrics::Metrics;
use crate::registry::Kind;
use crate::service::Started;
use connect_api::extension::{RestRequest, RestResponse};
use feature_engine::resource::FieldError;
use serde_json::json;
use std::sync::Arc;

/// Answers a request.
pub(crate) async fn handle(started: &Arc<Started>, metrics: &Arc<Metrics>, request: RestRequest) -> RestResponse {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let Some((_, rest)) = path.split_first() else {
        return not_found(&request);
    };
    match rest {
        [] => RestResponse::json(
            200,
            &json!({ "resources": ["tenants", "stores", "feature-views", "models", "fairness"] }),
        ),
        ["fairness"] if request.method == "GET" => fairness::answer(started, metrics),
        ["snapshot"] if request.method == "GET" => RestResponse::json(
            200,
            &serde_json::to_value(metrics.snapshot(Some(started))).unwrap_or_default(),
        ),
        ["tenants", rest @ ..] => resource(started, metrics, &request, Kind::Tenant, rest, 1).await,
        ["stores", store, rest @ ..] if matches!(rest.first(), Some(&("keys" | "archive" | "pin" | "rollback"))) => {
            stores::answer(started, &request, store, rest).await
        }
        ["stores", rest @ ..] => resource(started, metrics, &request, Kind::Store, rest, 1).await,
        ["feature-views", rest @ ..] => resource(started, metrics, &request, Kind::FeatureView, rest, 1).await,
        ["models", rest @ ..] => resource(started, metrics, &request, Kind::Model, rest, 2).await,
        _ => not_found(&request),
    }
}

/// `depth`: segments of a name.
async fn resource(
    started: &Arc<Started>,
    metrics: &Metrics,
    request: &RestRequest,
    kind: Kind,
    rest: &[&str],
    depth: usize,
) -> RestResponse {
    if rest.is_empty() {
        return match request.method.as_str() {
            "GET" => resources::list(started, kind),
            _ => wrong_method(request),
        };
    }
    let Some((name, action)) = rest.split_at_checked(depth) else {
        return match (request.method.as_str(), kind) {
            ("GET", Kind::Model) => resources::list_of_tenant(started, rest.first().copied().unwrap_or_default()),
            _ => not_found(request),
        };
    };
    let name = name.join("/");
    match (request.method.as_str(), action, kind) {
        ("GET", [], _) => resources::get(started, kind, &name),
        ("PUT", [], _) => match resources::read_body(request, kind, &name) {
            Ok(resource) => match output_topics::check(started, &resource).await {
                missing if missing.is_empty() => resources::put(started, resource).await,
                missing => refused(&missing),
            },
            Err(errors) => refused(&errors),
        },
        ("DELETE", [], _) => resources::delete(started, kind, &name).await,
        ("POST", ["validate"], _) => resources::validate(started, request, kind, &name).await,
        ("GET", ["status"], _) => resources::status(started, metrics, kind, &name),
        ("POST", ["pause"], Kind::Model) => resources::pause(started, metrics, &name, true).await,
        ("POST", ["resume"], Kind::Model) => resources::pause(started, metrics, &name, false).await,
        ("POST", ["evaluate"], Kind::Model) => evaluate::answer(started, request, &name).await,
        ("POST", [later @ ("rollback" | "replay" | "pin" | "canary")], _) => {
            RestResponse::error(501, &format!("{later} of a {} is not supported yet", kind.words()))
        }
        (_, [] | ["validate" | "status" | "pause" | "resume" | "evaluate"], _) => wrong_method(request),
        _ => not_found(request),
    }
}

/// 400 with everything that is wrong, by field.
pub(crate) fn refused(errors: &[FieldError]) -> RestResponse {
    refused_with(400, errors)
}

/// Everything that is wrong, by field, with a status.
fn refused_with(status: u16, errors: &[FieldError]) -> RestResponse {
    let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    RestResponse::json(
        status,
        &json!({ "error_code": status, "message": message, "errors": errors }),
    )
}

fn not_found(request: &RestRequest) -> RestResponse {
    RestResponse::error(
        404,
        &format!("there is no {} /{}", request.method, request.path.join("/")),
    )
}

fn wrong_method(request: &RestRequest) -> RestResponse {
    RestResponse::error(
        405,
        &format!("{} is not allowed on /{}", request.method, request.path.join("/")),
    )
}
