//! Raw requests over one TCP connection, for what librdkafka does not speak (the group protocol of Connect).
//!
//! ```text
//!  call(request, version) -> length | header (key, version, correlation id, client id) | body -> broker
//!                         <- length | correlation id                                   | body <-
//! ```

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::config::ClientConfig;
use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::code_of;

/// A response larger than this is not read (`socket.request.max.bytes` of brokers).
const MAX_RESPONSE_BYTES: usize = 104_857_600;

/// How long connecting may take: Java's `socket.connection.setup.timeout.ms`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to one broker. Requests are answered in order: a call waits for the one before it, so whatever may take
/// long at the broker (JoinGroup) wants a connection of its own.
pub struct RawConnection {
    exchange: Mutex<Exchange>,
    address: String,
    client_id: StrBytes,
    /// What the broker speaks: lowest and highest version by API key.
    versions: HashMap<i16, (i16, i16)>,
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
        Self::connect_as(address, "").await
    }

    /// As [`Self::connect`], with `client.id` and checked against `security.protocol` of a configuration.
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
        Self::connect_as(address, config.get("client.id").unwrap_or_default()).await
    }

    async fn connect_as(address: &str, client_id: &str) -> Result<Self, KafkaError> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
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
            versions: HashMap::new(),
        };
        connection.versions = connection.api_versions().await?;
        Ok(connection)
    }

    async fn api_versions(&self) -> Result<HashMap<i16, (i16, i16)>, KafkaError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("millrace"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut response: ApiVersionsResponse = self.call(&request, 3).await?;
        if response.error_code == ErrorCode::UnsupportedVersion as i16 {
            response = self.call(&ApiVersionsRequest::default(), 0).await?;
        }
        if response.error_code != 0 {
            let code = code_of(i32::from(response.error_code));
            return Err(KafkaError::new(
                code,
                format!("negotiate versions with {}", self.address),
            ));
        }
        Ok(response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect())
    }

    /// Lowest and highest version of a request that the broker speaks; `None` where it does not know it.
    pub fn broker_versions<R: Request>(&self) -> Option<(i16, i16)> {
        self.versions.get(&R::KEY).copied()
    }

    /// The highest version of a request that both sides speak, `at_most` where the caller needs an older layout.
    ///
    /// # Errors
    /// `UnsupportedVersion`, naming the request.
    pub fn version<R: Request>(&self, at_most: i16) -> Result<i16, KafkaError> {
        let VersionRange { min, max } = R::VERSIONS;
        self.broker_versions::<R>()
            .map(|(low, high)| (low.max(min), high.min(max).min(at_most)))
            .filter(|(low, high)| low <= high)
            .map(|(_, high)| high)
            .ok_or_else(|| {
                let doing = format!("{} at {}", request_name::<R>(), self.address);
                KafkaError::new(ErrorCode::UnsupportedVersion, doing)
            })
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
            let doing = format!(
                "{} at {}: a call before was given up",
                request_name::<R>(),
                self.address
            );
            return Err(KafkaError::new(ErrorCode::BrokerTransportFailure, doing));
        }
        let correlation_id = exchange.next_correlation_id;
        exchange.next_correlation_id = correlation_id.wrapping_add(1);
        let frame = self.frame(request, version, correlation_id)?;
        exchange.broken = true;
        let response = exchange
            .round_trip(&frame)
            .await
            .map_err(|error| transport(&self.address, &error))?;
        exchange.broken = false;
        drop(exchange);

        let bad = |reason: String| {
            let doing = format!("read response of {} version {version}: {reason}", request_name::<R>());
            KafkaError::new(ErrorCode::BadMessage, doing)
        };
        let mut response = response;
        // ApiVersions answers in version 0 when it does not know the version asked (KIP-511).
        let version = if R::KEY == ApiVersionsRequest::KEY && unsupported_version(&response) {
            0
        } else {
            version
        };
        let header = ResponseHeader::decode(&mut response, R::Response::header_version(version))
            .map_err(|error| bad(error.to_string()))?;
        if header.correlation_id != correlation_id {
            return Err(bad(format!(
                "it answers request {}, not {correlation_id}",
                header.correlation_id
            )));
        }
        R::Response::decode(&mut response, version).map_err(|error| bad(error.to_string()))
    }

    fn frame<R: Request>(&self, request: &R, version: i16, correlation_id: i32) -> Result<BytesMut, KafkaError> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| {
                let doing = format!("write {} version {version}: {error}", request_name::<R>());
                KafkaError::new(ErrorCode::BadMessage, doing)
            })?;
        let length = i32::try_from(frame.len() - 4)
            .map_err(|_| KafkaError::new(ErrorCode::MessageSizeTooLarge, request_name::<R>()))?;
        if let Some(place) = frame.get_mut(..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(frame)
    }

    /// `host:port`, as connected to.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Exchange {
    async fn round_trip(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_RESPONSE_BYTES)
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "not a Kafka response"))?;
        let mut response = vec![0; length];
        self.stream.read_exact(&mut response).await?;
        Ok(response.into())
    }
}

/// A response to ApiVersions whose error says that it is written in version 0: correlation id, then the code.
fn unsupported_version(response: &Bytes) -> bool {
    let mut rest = response.clone();
    rest.remaining() >= 6 && {
        rest.advance(4);
        rest.get_i16() == ErrorCode::UnsupportedVersion as i16
    }
}

fn request_name<R>() -> &'static str {
    std::any::type_name::<R>().rsplit("::").next().unwrap_or_default()
}

fn transport(address: &str, error: &std::io::Error) -> KafkaError {
    KafkaError::new(ErrorCode::BrokerTransportFailure, format!("{address}: {error}"))
}
