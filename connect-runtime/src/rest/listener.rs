//! Listeners: addresses to listen on, the address under which others reach this worker, and serving.

use super::state::RestState;
use crate::config::{WorkerConfig, WorkerConfigError};
use axum::Router;
use axum::extract::{Request, State};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Time that requests under way have when the server stops.
const GRACE: Duration = Duration::from_secs(60);

/// Listeners that are bound but not served yet.
pub struct BoundListeners {
    listeners: Vec<TcpListener>,
    /// `host:port` under which others reach this worker
    pub worker_id: Arc<str>,
}

/// An address of `listeners`.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// empty: all
    host: String,
    port: u16,
}

fn parse(listener: &str) -> Result<Address, String> {
    let invalid = || {
        format!(
            "Invalid value {listener} for configuration listeners: Listener doesn't have the right format (protocol://hostname:port)."
        )
    };
    let rest = listener
        .trim()
        .split_once("://")
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http"))
        .map(|(_, rest)| rest)
        .ok_or_else(invalid)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(invalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Address {
        host: host.to_owned(),
        port: port.parse().map_err(|_| invalid())?,
    })
}

impl BoundListeners {
    /// Binds what `listeners` says; port 0 is one that is free.
    ///
    /// # Errors
    /// An address that is no address, or cannot be bound.
    pub async fn bind(worker: &WorkerConfig) -> Result<Self, WorkerConfigError> {
        let refused = |message: String| WorkerConfigError {
            messages: vec![message],
        };
        let parsed = worker.parsed();
        let mut listeners = Vec::new();
        let mut first: Option<Address> = None;
        for text in parsed.list("listeners") {
            let address = parse(text).map_err(refused)?;
            let listener = bind(&address)
                .await
                .map_err(|error| refused(format!("listeners: {text} cannot be bound: {error}")))?;
            let port = listener.local_addr().map_or(address.port, |bound| bound.port());
            tracing::info!(listener = %text, port, "listening");
            first.get_or_insert(Address {
                host: address.host,
                port,
            });
            listeners.push(listener);
        }
        let Some(first) = first else {
            return Err(refused(
                "Invalid value  for configuration listeners: at least one listener is needed".to_owned(),
            ));
        };
        let host = match parsed.text("rest.advertised.host.name") {
            Some(host) if !host.is_empty() => host.to_owned(),
            _ if first.host.is_empty() || first.host == "0.0.0.0" || first.host == "::" => machine_name(),
            _ => first.host,
        };
        let port = parsed
            .integer("rest.advertised.port")
            .unwrap_or_else(|| i64::from(first.port));
        Ok(Self {
            listeners,
            worker_id: kafka_client::host_and_port(&host, port).into(),
        })
    }

    /// Starts to serve.
    pub fn serve(self, state: Arc<RestState>) -> RestServer {
        let router = Router::new().fallback(serve_request).with_state(state);
        let (stop, stopping) = watch::channel(false);
        let mut servers = JoinSet::new();
        for listener in self.listeners {
            let (router, mut stopping) = (router.clone(), stopping.clone());
            servers.spawn(async move {
                let stopped = async move {
                    // an error means that the server was dropped
                    let _ = stopping.wait_for(|stop| *stop).await;
                };
                if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                    tracing::error!(%error, "listener has failed");
                }
            });
        }
        RestServer { stop, servers }
    }
}

async fn serve_request(State(state): State<Arc<RestState>>, request: Request) -> axum::response::Response {
    super::answer(state, request).await
}

async fn bind(address: &Address) -> io::Result<TcpListener> {
    if !address.host.is_empty() {
        return TcpListener::bind((address.host.as_str(), address.port)).await;
    }
    // both families where the machine has them
    match TcpListener::bind(("::", address.port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", address.port)).await,
    }
}

fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A server at work.
pub struct RestServer {
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
}

impl RestServer {
    /// Accepts no more connections, and waits for the requests under way, for at most 60 s.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!("requests did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_have_a_scheme_a_host_and_a_port() {
        assert_eq!(
            parse("http://:8083"),
            Ok(Address {
                host: String::new(),
                port: 8083
            })
        );
        assert_eq!(
            parse("HTTP://h:0"),
            Ok(Address {
                host: "h".to_owned(),
                port: 0
            })
        );
        assert_eq!(
            parse("http://[::1]:1"),
            Ok(Address {
                host: "::1".to_owned(),
                port: 1
            })
        );
        for wrong in ["localhost:8083", "http://h", "ftp://h:1", "http://h:x"] {
            assert!(
                parse(wrong).unwrap_err().contains("doesn't have the right format"),
                "{wrong}"
            );
        }
    }
}
