//! Content types, browsers' cross-origin requests, and headers that the worker adds.

use super::answer::Answer;
use super::route::Route;
use crate::config::WorkerConfig;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

/// The content type without parameters.
pub(super) fn content_type(request: &Request<Body>) -> Option<&str> {
    request
        .headers()
        .get(header::CONTENT_TYPE)?
        .to_str()
        .ok()?
        .split(';')
        .next()
        .map(str::trim)
}

/// Refuses other bodies than JSON (415) and clients that want something else (406).
pub(super) fn check(route: &Route, request: &Request<Body>) -> Result<(), Answer> {
    match content_type(request) {
        None | Some("") => {}
        Some(given) if given.eq_ignore_ascii_case("application/json") => {}
        Some(given) if given.contains('/') => return Err(Answer::http_error(415)),
        Some(given) => return Err(Answer::error(400, format!("'{given}' is no content type"))),
    }
    if *route == Route::Metrics {
        return Ok(());
    }
    let accepts_json = |accepted: &str| {
        accepted.split(',').any(|range| {
            let media = range.split(';').next().unwrap_or_default().trim();
            ["application/json", "application/*", "*/*"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(media))
        })
    };
    match request.headers().get(header::ACCEPT).map(|accept| accept.to_str()) {
        None => Ok(()),
        Some(Ok(accepted)) if accepted.trim().is_empty() || accepts_json(accepted) => Ok(()),
        Some(_) => Err(Answer::http_error(406)),
    }
}

/// The answer to OPTIONS on a path of the worker's own: the methods that it has.
pub(super) fn options(path: &[String]) -> Option<Response<Body>> {
    let methods = super::route::methods(path);
    if methods.is_empty() {
        return None;
    }
    let mut response = Response::new(Body::from(methods.join(", ")));
    let allow = HeaderValue::from_str(&methods.join(",")).ok()?;
    response.headers_mut().insert(header::ALLOW, allow);
    let text = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    Some(response)
}

/// `/admin/loggers` is not served where `admin.listeners` is the empty list.
pub(super) fn admin_disabled(worker: &WorkerConfig) -> bool {
    worker
        .properties()
        .get("admin.listeners")
        .is_some_and(|listeners| listeners.as_deref().is_some_and(|text| text.trim().is_empty()))
}

/// The `Origin` of a browser's request.
pub(super) fn origin(request: &Request<Body>) -> Option<HeaderValue> {
    request.headers().get(header::ORIGIN).cloned()
}

fn allows(worker: &WorkerConfig, origin: &HeaderValue) -> bool {
    let allowed = worker.parsed().text("access.control.allow.origin").unwrap_or_default();
    allowed
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || (!one.is_empty() && one.as_bytes() == origin.as_bytes()))
}

/// The answer to a browser that asks before its request.
pub(super) fn preflight(worker: &WorkerConfig, request: &Request<Body>) -> Option<Response<Body>> {
    let asks =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks || !allows(worker, request.headers().get(header::ORIGIN)?) {
        return None;
    }
    let methods = worker
        .parsed()
        .text("access.control.allow.methods")
        .filter(|methods| !methods.is_empty());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    let methods = HeaderValue::from_str(methods.unwrap_or("GET,POST,HEAD")).ok()?;
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        response
            .headers_mut()
            .insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Some(response)
}

/// Adds what `access.control.allow.origin` and `response.http.headers.config` ask for.
pub(super) fn add_headers(worker: &WorkerConfig, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let Some(origin) = origin.filter(|origin| allows(worker, origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    let rules = worker.parsed().text("response.http.headers.config").unwrap_or_default();
    for rule in rules.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
        let Some((action, name, value)) = crate::config::header_rule(rule) else {
            continue;
        };
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
            continue;
        };
        if action == "set" {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
}
