//! Answers, and errors in Connect's form: `{"error_code", "message"}`.

use crate::herder::Refusal;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use connect_api::ConnectError;
use connect_api::extension::RestResponse;
use serde_json::{Value, json};

/// An answer, before it becomes HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status
    pub status: u16,
    /// JSON, text with its content type, or nothing
    pub body: AnswerBody,
    /// `Location`, if any
    pub location: Option<String>,
    /// another worker must answer: its URL; the rest is for where that cannot be
    pub forward_to: Option<Box<str>>,
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum AnswerBody {
    Empty,
    Json(Box<Value>),
    /// JSON without a content type, as upstream's server sends what no resource has answered
    Untyped(Box<Value>),
    Text(&'static str, String),
    /// JSON of another worker
    Relayed(Vec<u8>),
}

impl Answer {
    /// 200 with JSON.
    pub fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    /// JSON under any status.
    pub fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            body: AnswerBody::Json(Box::new(body)),
            location: None,
            forward_to: None,
        }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            body: AnswerBody::Empty,
            location: None,
            forward_to: None,
        }
    }

    /// An error.
    pub fn error(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, json!({ "error_code": status, "message": message.into() }))
    }

    /// An error of HTTP itself: there is no such path, no such method, no such form of the answer.
    pub fn http_error(status: u16) -> Self {
        let reason = match status {
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            _ => "Unsupported Media Type",
        };
        Self {
            body: AnswerBody::Untyped(Box::new(
                json!({ "error_code": status, "message": format!("HTTP {status} {reason}") }),
            )),
            ..Self::empty(status)
        }
    }

    /// The HTTP response.
    pub fn into_response(self) -> Response<Body> {
        let (content_type, bytes) = match self.body {
            AnswerBody::Empty => (None, Vec::new()),
            AnswerBody::Json(value) => (Some("application/json"), value.to_string().into_bytes()),
            AnswerBody::Untyped(value) => (None, value.to_string().into_bytes()),
            AnswerBody::Text(content_type, text) => (Some(content_type), text.into_bytes()),
            AnswerBody::Relayed(bytes) => (Some("application/json"), bytes),
        };
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(content_type) = content_type {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(location) = self.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let mut answer = Answer::error(refusal.status(), refusal.message());
        if let Refusal::Elsewhere(url) = refusal {
            answer.forward_to = Some(url.into());
        }
        answer
    }
}

impl From<ConnectError> for Answer {
    fn from(error: ConnectError) -> Self {
        Answer::error(500, error.message())
    }
}

/// The HTTP response of an extension.
pub(super) fn extension_response(answer: RestResponse) -> Response<Body> {
    let empty = answer.body.is_empty();
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !empty {
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
