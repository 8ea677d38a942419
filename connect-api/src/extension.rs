//! What a plugin adds to the worker beside connectors: options of its own in the worker's properties, work that lives as
//! long as the worker, and REST resources.

use crate::config::{ConfigDef, ConfigMap};
use crate::error::ConnectError;
use crate::partitioned::ClientSettings;
use async_trait::async_trait;
use std::sync::Arc;

/// A request to a REST resource of a plugin.
#[derive(Debug, Clone)]
pub struct RestRequest {
    /// upper-case method
    pub method: String,
    /// path segments below the root, percent-decoded: `["inference", "tenants", "ads"]`
    pub path: Vec<String>,
    /// query parameters, decoded, in order
    pub query: Vec<(String, String)>,
    /// `Content-Type`, if any
    pub content_type: Option<String>,
    /// body
    pub body: bytes::Bytes,
}

/// The answer of a REST resource.
#[derive(Debug, Clone)]
pub struct RestResponse {
    /// HTTP status
    pub status: u16,
    /// further headers
    pub headers: Vec<(String, String)>,
    /// `Content-Type`; `application/json` by default
    pub content_type: &'static str,
    /// body; empty for none
    pub body: bytes::Bytes,
}

impl RestResponse {
    /// A JSON answer.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type: "application/json",
            body: bytes::Bytes::from(body.to_string()),
        }
    }

    /// An error in Connect's form: `{"error_code", "message"}`.
    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error_code": status, "message": message }))
    }
}

/// What an extension is given when the worker starts.
#[derive(Clone)]
pub struct WorkerContext {
    /// the worker's properties, references resolved; unknown keys included
    pub properties: ConfigMap,
    /// `group.id`
    pub group_id: Arc<str>,
    /// `host:port` of the advertised URL
    pub worker_id: Arc<str>,
    /// settings for clients on the worker's own cluster
    pub clients: ClientSettings,
}

/// Lives as long as the worker. A plugin's connectors and its extension share what they need through `Arc`s that the
/// plugin's author puts into both.
#[async_trait]
pub trait WorkerExtension: Send + Sync {
    /// First path segment of its REST resources (`inference`).
    fn name(&self) -> &'static str;

    /// Its keys in the worker's properties.
    fn config_def(&self) -> ConfigDef;

    /// What is wrong with the worker's properties beyond what the definition of each key says, keys that follow from others
    /// among them: one message for each fault, which names its option. The worker is not started then.
    fn check(&self, properties: &ConfigMap) -> Vec<String> {
        let _ = properties;
        Vec::new()
    }

    /// Starts; REST answers 503 for its paths until it returns. A slow start must not hold up the worker. After a retriable
    /// error it is called again.
    async fn start(&self, context: WorkerContext) -> Result<(), ConnectError>;

    /// Answers a request below its path.
    async fn handle(&self, request: RestRequest) -> RestResponse;

    /// Prometheus text of its metrics.
    fn metrics(&self) -> String {
        String::new()
    }

    /// Stops; all tasks have been stopped before.
    async fn stop(&self);
}
