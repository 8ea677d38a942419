//! Requests to other workers of the group, over their REST interface (contract 1.2 and 1.11).

use connect_api::ConfigMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;

/// As long as a request to a worker may take at all (contract 1.1).
const LIMIT: Duration = Duration::from_secs(90);
/// A worker that does not take a connection within this time is not there.
const CONNECT: Duration = Duration::from_secs(5);

/// Another worker's answer, as it is relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relayed {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// An HTTP client that is made when it is first needed: a worker alone never needs it.
#[derive(Default)]
pub(crate) struct WorkerClient {
    http: OnceLock<reqwest::Client>,
}

impl WorkerClient {
    fn http(&self) -> Result<&reqwest::Client, String> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let http = reqwest::Client::builder()
            .user_agent("kafka-connect")
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(LIMIT)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(self.http.get_or_init(|| http))
    }

    /// Sends a request on. `url` is another worker's, `path` begins with a slash and holds the query.
    ///
    /// # Errors
    /// No answer, in upstream's words.
    pub(crate) async fn send(
        &self,
        method: &str,
        url: &str,
        path: &str,
        authorization: Option<&[u8]>,
        body: Vec<u8>,
    ) -> Result<Relayed, String> {
        let failed = |error: String| format!("IO Error trying to forward REST request: {error}");
        let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|error| failed(error.to_string()))?;
        let url = format!("{}{path}", url.trim_end_matches('/'));
        let mut request = self.http().map_err(failed)?.request(method, url);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| failed(with_causes(&error)))?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.map(str::to_owned);
        let body = response.bytes().await.map_err(|error| failed(with_causes(&error)))?;
        Ok(Relayed {
            status,
            location,
            body: body.to_vec(),
        })
    }

    /// Has the leader write the task set that one of this worker's connectors generated.
    ///
    /// # Errors
    /// The leader could not be reached, or refuses.
    pub(crate) async fn publish_tasks(&self, leader: &str, connector: &str, tasks: &[ConfigMap]) -> Result<(), String> {
        let path = format!("/connectors/{}/tasks", utf8_percent_encode(connector, NON_ALPHANUMERIC));
        let tasks: Vec<Value> = tasks.iter().map(crate::config::config_json).collect();
        let body = Value::Array(tasks).to_string().into_bytes();
        let answer = self.send("POST", leader, &path, None, body).await?;
        match answer.status {
            200..=299 => Ok(()),
            status => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
                Err(format!("the leader at {leader} answers {status}: {message}"))
            }
        }
    }
}

fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
