//! Raw requests over one TCP connection, for what librdkafka does not speak (the group protocol of Connect).
//!
//! ```text
//!  call(request, version) -> frame -> broker
//!                         <- frame <-
//! ```

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::config::ClientConfig;
use crate::error::{ErrorCode, KafkaError};
use crate::frame::{self, ApiVersions, transport};

/// How long connecting may take where `socket.connection.setup.timeout.ms` does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to one broker. Requests are answered in order: a call waits for the one before it, so whatever may take
/// long at the broker (JoinGroup) wants a connection of its own.
pub struct RawConnection {
    exchange: Mutex<Exchange>,
    address: String,
    client_id: StrBytes,
    versions: ApiVersions,
}

struct Exchange {
    stream: TcpStream,
    next_correlation_id: i32,
    /// A call was given up half way: what comes next on the stream answers nobody.
    broken: bool,
}

impl RawConnection {
    /// Connects in plain text to `host:port` and asks which versions the broker speaks (KIP-511).
    ///
    /// # Errors
    /// `BrokerTransportFailure` (retriable) when the broker cannot be reached.
    pub async fn connect(address: &str) -> Result<Self, KafkaError> {
        Self::connect_as(address, "", CONNECT_TIMEOUT).await
    }

    /// As [`Self::connect`], with `client.id`, for `socket.connection.setup.timeout.ms` at most, and checked against `security.protocol` of a configuration.
    ///
    /// # Errors
    /// `InvalidConfig` for every protocol but PLAINTEXT; otherwise as `connect`.
    pub async fn connect_with(address: &str, config: &ClientConfig) -> Result<Self, KafkaError> {
        match config.get("security.protocol").map(str::trim) {
            None | Some("PLAINTEXT" | "plaintext") => {}
            Some(protocol) => {
                return Err(KafkaError::option(
                    "security.protocol",
                    format_args!("{protocol} is not supported for the worker's group membership; use PLAINTEXT"),
                ));
            }
        }
        let limit = config
            .get("socket.connection.setup.timeout.ms")
            .and_then(|millis| millis.trim().parse().ok())
            .map_or(CONNECT_TIMEOUT, Duration::from_millis);
        Self::connect_as(address, config.get("client.id").unwrap_or_default(), limit).await
    }

    async fn connect_as(address: &str, client_id: &str, limit: Duration) -> Result<Self, KafkaError> {
        let stream = tokio::time::timeout(limit, TcpStream::connect(address))
            .await
            .map_err(|_| KafkaError::timed_out(format!("connect to {address}")))?
            .map_err(|error| transport(address, &error))?;
        stream.set_nodelay(true).map_err(|error| transport(address, &error))?;
        let mut connection = Self {
            exchange: Mutex::new(Exchange {
                stream,
                next_correlation_id: 0,
                broken: false,
            }),
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            versions: ApiVersions::default(),
        };
        connection.versions = connection.api_versions().await?;
        Ok(connection)
    }

    async fn api_versions(&self) -> Result<ApiVersions, KafkaError> {
        let mut response: ApiVersionsResponse =
            self.call(&ApiVersions::request(), ApiVersions::REQUEST_VERSION).await?;
        if response.error_code == ErrorCode::UnsupportedVersion as i16 {
            response = self.call(&ApiVersionsRequest::default(), 0).await?;
        }
        ApiVersions::read(&response, &self.address)
    }

    /// Lowest and highest version of a request that the broker speaks; `None` where it does not know it.
    pub fn broker_versions<R: Request>(&self) -> Option<(i16, i16)> {
        self.versions.range::<R>()
    }

    /// The highest version of a request that both sides speak, `at_most` where the caller needs an older layout.
    ///
    /// # Errors
    /// `UnsupportedVersion`, naming the request.
    pub fn version<R: Request>(&self, at_most: i16) -> Result<i16, KafkaError> {
        self.versions.version::<R>(at_most, &self.address)
    }

    /// Sends a request and waits for its response. The response's own error codes are the caller's to read.
    ///
    /// A call that is dropped half way leaves the connection unusable; connect again.
    ///
    /// # Errors
    /// `BrokerTransportFailure` (retriable, connect again) when the connection is gone; `BadMessage` for a response that
    /// cannot be read, and a request that does not fit the version.
    pub async fn call<R: Request>(&self, request: &R, version: i16) -> Result<R::Response, KafkaError> {
        let mut exchange = self.exchange.lock().await;
        if exchange.broken {
            let doing = format!("{} at {}: a call before was given up", frame::name::<R>(), self.address);
            return Err(KafkaError::new(ErrorCode::BrokerTransportFailure, doing));
        }
        let correlation_id = exchange.next_correlation_id;
        exchange.next_correlation_id = correlation_id.wrapping_add(1);
        let request = frame::encode(request, version, correlation_id, &self.client_id)?;
        exchange.broken = true;
        let response = exchange
            .round_trip(&request)
            .await
            .map_err(|error| transport(&self.address, &error))?;
        exchange.broken = false;
        drop(exchange);
        frame::decode::<R>(response, version, correlation_id)
    }

    /// `host:port`, as connected to.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Exchange {
    async fn round_trip(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let length = frame::response_length(self.stream.read_i32().await?)?;
        let mut response = vec![0; length];
        self.stream.read_exact(&mut response).await?;
        Ok(response.into())
    }
}
