//! Requests that another worker must carry out (contract 1.2): at most two hops.

use super::answer::{Answer, AnswerBody};
use super::state::RestState;
use crate::herder::CONFLICTING;
use axum::body::Bytes;
use percent_encoding::percent_decode_str;

/// The parts of a request that go along.
pub(super) struct Original {
    pub(super) method: String,
    /// as it came, escapes and all
    pub(super) path: String,
    /// as it came
    pub(super) query: String,
    pub(super) authorization: Option<Vec<u8>>,
    pub(super) body: Bytes,
}

/// Sends the request to the worker at `url`, and answers what that one does.
pub(super) async fn forward(state: &RestState, url: &str, original: Original) -> Answer {
    let Some(query) = next_hop(&original.query) else {
        return Answer::error(409, CONFLICTING);
    };
    let path = format!("{}?{query}", original.path);
    tracing::debug!(method = %original.method, %path, to = %url, "request is forwarded");
    let authorization = original.authorization.as_deref();
    let body = original.body.to_vec();
    match state
        .client
        .send(&original.method, url, &path, authorization, body)
        .await
    {
        Ok(relayed) => Answer {
            status: relayed.status,
            body: match relayed.body.is_empty() {
                true => AnswerBody::Empty,
                false => AnswerBody::Relayed(relayed.body),
            },
            location: relayed.location,
            forward_to: None,
        },
        Err(message) => Answer::error(500, message),
    }
}

/// The query of the forwarded request: first `forward=true`, then `forward=false`, then no more.
fn next_hop(query: &str) -> Option<String> {
    let mut parameters: Vec<&str> = Vec::new();
    let mut hop = "true";
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "forward" {
            parameters.push(pair);
            continue;
        }
        match percent_decode_str(value)
            .decode_utf8_lossy()
            .trim()
            .eq_ignore_ascii_case("true")
        {
            true => hop = "false",
            false => return None,
        }
    }
    let forward = format!("forward={hop}");
    parameters.push(&forward);
    Some(parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_forwarded_twice_at_most() {
        let first = next_hop("includeTasks=true&onlyFailed=false").unwrap();
        assert_eq!(first, "includeTasks=true&onlyFailed=false&forward=true");
        let second = next_hop(&first).unwrap();
        assert_eq!(second, "includeTasks=true&onlyFailed=false&forward=false");
        assert_eq!(next_hop(&second), None);
        assert_eq!(next_hop(""), Some("forward=true".to_owned()));
    }
}
