//! Requests and responses as they lie on the wire.
//!
//! ```text
//!  length | header (key, version, correlation id, client id) | body  -> broker
//!  length | correlation id                                   | body <-
//! ```

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange};

use crate::error::{ErrorCode, KafkaError};
use crate::librdkafka::code_of;

/// A response larger than this is not read (`socket.request.max.bytes` of brokers).
pub(crate) const MAX_RESPONSE_BYTES: usize = 104_857_600;

/// A request with its length in front.
pub(crate) fn encode<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &StrBytes,
) -> Result<BytesMut, KafkaError> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(client_id.clone()));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header
        .encode(&mut frame, R::header_version(version))
        .and_then(|()| request.encode(&mut frame, version))
        .map_err(|error| {
            let doing = format!("write {} version {version}: {error}", name::<R>());
            KafkaError::new(ErrorCode::BadMessage, doing)
        })?;
    let length =
        i32::try_from(frame.len() - 4).map_err(|_| KafkaError::new(ErrorCode::MessageSizeTooLarge, name::<R>()))?;
    if let Some(place) = frame.get_mut(..4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(frame)
}

/// Reads the response to a request of type `R`; `response` is what came after the length.
pub(crate) fn decode<R: Request>(
    mut response: Bytes,
    version: i16,
    correlation_id: i32,
) -> Result<R::Response, KafkaError> {
    let bad = |reason: String| {
        let doing = format!("read response of {} version {version}: {reason}", name::<R>());
        KafkaError::new(ErrorCode::BadMessage, doing)
    };
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

/// The length of a response, as its first four bytes say.
pub(crate) fn response_length(length: i32) -> std::io::Result<usize> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_RESPONSE_BYTES)
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "not a Kafka response"))
}

/// What a broker speaks: lowest and highest version by API key.
#[derive(Debug, Default)]
pub(crate) struct ApiVersions(HashMap<i16, (i16, i16)>);

impl ApiVersions {
    /// The request that asks for them. An answer with [`ErrorCode::UnsupportedVersion`] means: ask in version 0.
    pub(crate) fn request() -> ApiVersionsRequest {
        ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("millrace"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
    }

    /// The version of [`Self::request`].
    pub(crate) const REQUEST_VERSION: i16 = 3;

    /// Reads the answer of the broker at `address`.
    pub(crate) fn read(response: &ApiVersionsResponse, address: &str) -> Result<ApiVersions, KafkaError> {
        if response.error_code != 0 {
            let code = code_of(i32::from(response.error_code));
            return Err(KafkaError::new(code, format!("negotiate versions with {address}")));
        }
        let versions = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)));
        Ok(ApiVersions(versions.collect()))
    }

    /// Lowest and highest version of a request that the broker speaks; `None` where it does not know it.
    pub(crate) fn range<R: Request>(&self) -> Option<(i16, i16)> {
        self.0.get(&R::KEY).copied()
    }

    /// The highest version of a request that both sides speak, `at_most` where the caller needs an older layout.
    pub(crate) fn version<R: Request>(&self, at_most: i16, address: &str) -> Result<i16, KafkaError> {
        let VersionRange { min, max } = R::VERSIONS;
        self.range::<R>()
            .map(|(low, high)| (low.max(min), high.min(max).min(at_most)))
            .filter(|(low, high)| low <= high)
            .map(|(_, high)| high)
            .ok_or_else(|| KafkaError::new(ErrorCode::UnsupportedVersion, format!("{} at {address}", name::<R>())))
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

/// A request's name, as the protocol guide has it.
pub(crate) fn name<R>() -> &'static str {
    std::any::type_name::<R>().rsplit("::").next().unwrap_or_default()
}

/// A connection's failure.
pub(crate) fn transport(address: &str, error: &std::io::Error) -> KafkaError {
    KafkaError::new(ErrorCode::BrokerTransportFailure, format!("{address}: {error}"))
}
