//! The worker's REST interface (contract part 1).
//!
//! ```text
//!   HTTP --negotiate--> segments --route--> Route --handler--> Answer --> JSON
//!                                             |
//!        GET: the fold and the status table, in memory      all else: a Command to the herder, or the validator
//!        /NAME/...: an extension
//! ```
//!
//! It is up before anything else is: until the worker is ready, `/health` answers 503 and the rest 404.

mod answer;
mod body;
mod connector_plugins;
mod connectors;
mod forward;
mod listener;
mod loggers;
mod metrics;
mod negotiation;
pub mod route;
mod state;

pub use answer::{Answer, AnswerBody};
pub use listener::{BoundListeners, RestServer};
pub use state::{ExtensionState, MountedExtension, Ready, RestState};

use crate::herder::Command;
use crate::records::config_record::TargetState;
use axum::body::Body;
use axum::http::{Method, Request, Response, header};
use connect_api::extension::{RestRequest, RestResponse};
use percent_encoding::percent_decode_str;
use route::{NoRoute, Route};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Time for a request (contract 1.1).
const REQUEST_LIMIT: Duration = Duration::from_secs(90);
/// Time for a look at the herder's health.
const HEALTH_LIMIT: Duration = Duration::from_secs(10);
/// Largest body of a request to the worker itself, in bytes.
const BODY_LIMIT: usize = 8 << 20;
/// Largest body of a request to an extension, in bytes: it takes documents, and no data.
const EXTENSION_BODY_LIMIT: usize = 1 << 20;

/// Answers one request.
pub(super) async fn answer(state: Arc<RestState>, request: Request<Body>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let origin = negotiation::origin(&request);
    let mut response = match tokio::time::timeout(REQUEST_LIMIT, dispatch(&state, request)).await {
        Ok(response) => response,
        Err(_) => {
            let stage = state.stage();
            Answer::error(500, format!("Request timed out. {stage}")).into_response()
        }
    };
    negotiation::add_headers(&state.worker, origin.as_ref(), response.headers_mut());
    tracing::debug!(%method, %path, status = response.status().as_u16(), "request");
    response
}

async fn dispatch(state: &Arc<RestState>, request: Request<Body>) -> Response<Body> {
    if let Some(preflight) = negotiation::preflight(&state.worker, &request) {
        return preflight;
    }
    let method = request.method().as_str().to_owned();
    let extensions: Vec<&str> = state
        .extensions
        .iter()
        .map(|mounted| mounted.extension.name())
        .collect();
    let segments = route::segments(request.uri().path());
    if let Ok(path) = &segments
        && request.method() == Method::OPTIONS
        && let Some(answer) = negotiation::options(path)
    {
        return answer;
    }
    let route = match segments.and_then(|path| route::route(&method, &path, &extensions)) {
        Ok(route) => route,
        Err(NoRoute::BadPath) => return Answer::error(400, "Bad escape in the path").into_response(),
        Err(NoRoute::EmptySegment) => return Answer::error(400, "Empty segment in the path").into_response(),
        Err(NoRoute::NotFound) => return Answer::http_error(404).into_response(),
        Err(NoRoute::MethodNotAllowed) => return Answer::http_error(405).into_response(),
    };
    if let Route::Extension(path) = route {
        return extension(state, path, request).await;
    }
    if let Err(refusal) = negotiation::check(&route, &request) {
        return refusal.into_response();
    }
    let query = query(&request);
    let (path, raw_query) = (
        request.uri().path().to_owned(),
        request.uri().query().unwrap_or_default().to_owned(),
    );
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes().to_vec());
    let body = match axum::body::to_bytes(request.into_body(), BODY_LIMIT).await {
        Ok(bytes) => bytes,
        Err(_) => return Answer::error(413, format!("The body is larger than {BODY_LIMIT} bytes")).into_response(),
    };
    let answer = match handle(state, route, &query, &body).await {
        Ok(answer) => answer,
        Err(refusal) => match refusal.forward_to.clone() {
            Some(url) => {
                let original = forward::Original {
                    method,
                    path,
                    query: raw_query,
                    authorization,
                    body,
                };
                forward::forward(state, &url, original).await
            }
            None => refusal,
        },
    };
    answer.into_response()
}

async fn handle(
    state: &Arc<RestState>,
    route: Route,
    query: &[(String, String)],
    bytes: &[u8],
) -> Result<Answer, Answer> {
    match route {
        Route::Health => return Ok(health(state).await),
        Route::Metrics => {
            let body = AnswerBody::Text("text/plain; version=0.0.4; charset=utf-8", metrics::text(state));
            return Ok(Answer {
                status: 200,
                body,
                location: None,
                forward_to: None,
            });
        }
        Route::ListLoggers | Route::GetLogger(_) | Route::SetLogger(_)
            if negotiation::admin_disabled(&state.worker) =>
        {
            return Err(Answer::http_error(404));
        }
        _ => {}
    }
    let ready = state.ready()?;
    match route {
        Route::Root => Ok(Answer::ok(json!({
            "version": KAFKA_VERSION,
            "commit": concat!("millrace-", env!("CARGO_PKG_VERSION")),
            "kafka_cluster_id": ready.cluster_id,
        }))),
        Route::ListConnectors => connectors::list(state, ready, query),
        Route::CreateConnector => connectors::create(state, ready, bytes).await,
        Route::GetConnector(name) => connectors::get(state, ready, &name),
        Route::DeleteConnector(name) => connectors::delete(ready, name).await,
        Route::GetConfig(name) => connectors::get_config(ready, &name),
        Route::PutConfig(name) => connectors::put_config(state, ready, name, bytes).await,
        Route::PatchConfig(name) => connectors::patch_config(state, ready, name, bytes).await,
        Route::GetStatus(name) => connectors::get_status(state, ready, &name),
        Route::GetTasks(name) => connectors::get_tasks(ready, &name),
        Route::GetTaskStatus(name, task) => connectors::get_task_status(ready, &name, &task),
        Route::RestartTask(name, task) => connectors::restart_task(ready, name, &task).await,
        Route::RestartConnector(name) => connectors::restart(state, ready, name, query).await,
        Route::Pause(name) => connectors::set_target(ready, name, TargetState::Paused).await,
        Route::Resume(name) => connectors::set_target(ready, name, TargetState::Started).await,
        Route::Stop(name) => connectors::set_target(ready, name, TargetState::Stopped).await,
        Route::GetTopics(name) => connectors::get_topics(state, ready, &name),
        Route::ResetTopics(name) => connectors::reset_topics(state, ready, name).await,
        Route::GetOffsets(name) => connectors::get_offsets(state, ready, &name).await,
        Route::AlterOffsets(name) => connectors::change_offsets(ready, name, Some(bytes)).await,
        Route::ResetOffsets(name) => connectors::change_offsets(ready, name, None).await,
        Route::PublishTasks(name) => connectors::publish_tasks(ready, name, bytes).await,
        Route::Fence(name) => connectors::fence(ready, &name),
        Route::ListPlugins => Ok(connector_plugins::list(state, query)),
        Route::GetPluginConfig(plugin) => connector_plugins::config(state, &plugin, query),
        Route::Validate(plugin) => connector_plugins::validate(ready, &plugin, bytes).await,
        Route::ListLoggers => Ok(loggers::list(state)),
        Route::GetLogger(name) => loggers::get(state, &name),
        Route::SetLogger(name) => loggers::set(state, name, query, bytes).await,
        Route::Health | Route::Metrics | Route::Extension(_) => Err(Answer::http_error(404)),
    }
}

/// The version of Kafka whose Connect interface this is; clients read it as `major.minor`.
const KAFKA_VERSION: &str = "4.3.1";

async fn health(state: &RestState) -> Answer {
    let body = |status: &str, message: String| json!({ "status": status, "message": message });
    let Some(ready) = state.ready.get() else {
        let stage = state.stage();
        return Answer::json(503, body("starting", format!("Worker is still starting up. {stage}")));
    };
    // a worker that has not joined its group runs nothing
    let joined = async {
        if ready.position().await.is_none() {
            return Ok(false);
        }
        ready.ask(|reply| Command::Ping { reply }).await.map(|()| true)
    };
    let outcome = tokio::time::timeout(HEALTH_LIMIT, joined).await;
    if let Ok(Ok(true)) = outcome
        && let Some(answer) = unhealthy_extension(state)
    {
        return answer;
    }
    match outcome {
        Ok(Ok(true)) => Answer::ok(body(
            "healthy",
            "Worker has completed startup and is ready to handle requests.".to_owned(),
        )),
        Ok(Ok(false)) if !ready.herder.has_joined() => Answer::json(
            503,
            body(
                "starting",
                "Worker is still starting up. The worker is currently joining its group.".to_owned(),
            ),
        ),
        outcome => {
            let mut message =
                "Worker was unable to handle this request and may be unable to handle other requests.".to_owned();
            if let Ok(Ok(false)) = outcome {
                message.push_str(" The worker is currently ensuring membership in the cluster.");
            }
            Answer::json(500, body("unhealthy", message))
        }
    }
}

/// What `/health` says of a worker whose extension does not come up: its resources do not answer and its connectors' tasks do not
/// run.
fn unhealthy_extension(state: &RestState) -> Option<Answer> {
    state.extensions.iter().find_map(|mounted| {
        let state = mounted.state.read();
        let trouble = state.trouble(mounted.extension.name())?;
        let (code, status, beginning) = match *state {
            ExtensionState::Failed(_) => (
                500,
                "unhealthy",
                "Worker was unable to handle this request and may be unable to handle other requests.",
            ),
            ExtensionState::Started | ExtensionState::Starting { .. } => {
                (503, "starting", "Worker is still starting up.")
            }
        };
        let message = format!("{beginning} The extension {trouble}");
        Some(Answer::json(code, json!({ "status": status, "message": message })))
    })
}

fn query(request: &Request<Body>) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

async fn extension(state: &RestState, path: Vec<String>, request: Request<Body>) -> Response<Body> {
    let Some(mounted) = state
        .extensions
        .iter()
        .find(|mounted| path.first().is_some_and(|name| name == mounted.extension.name()))
    else {
        return Answer::http_error(404).into_response();
    };
    let name = mounted.extension.name();
    let status = match *mounted.state.read() {
        ExtensionState::Started => None,
        ExtensionState::Starting { .. } => Some(503),
        ExtensionState::Failed(_) => Some(500),
    };
    if let Some(status) = status {
        let trouble = mounted.state.read().trouble(name);
        let message = trouble.unwrap_or_else(|| format!("{name} is still starting up"));
        return Answer::error(status, message).into_response();
    }
    let query = query(&request);
    let method = request.method().as_str().to_owned();
    let content_type = negotiation::content_type(&request).map(str::to_owned);
    let body = match axum::body::to_bytes(request.into_body(), EXTENSION_BODY_LIMIT).await {
        Ok(body) => body,
        Err(_) => {
            return Answer::error(413, format!("The body is larger than {EXTENSION_BODY_LIMIT} bytes")).into_response();
        }
    };
    let request = RestRequest {
        method,
        path,
        query,
        content_type,
        body,
    };
    let extension = Arc::clone(&mounted.extension);
    // on a task of its own: a panic is an answer, and a client that goes away does not cut the work short
    let handled = tokio::spawn(async move { extension.handle(request).await }).await;
    answer::extension_response(handled.unwrap_or_else(|_| RestResponse::error(500, "the request failed by a panic")))
}
