//! One client's connection: frames in, answers out, in order, one request at a time as Kafka does.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::{self, RequestContext};
use crate::faults::FaultAction;
use crate::state::Broker;

/// Largest request, bytes (Kafka's `socket.request.max.bytes`).
const MAX_REQUEST: usize = 100 * 1024 * 1024;
/// Read and write buffers start with so many bytes.
const BUFFER: usize = 64 * 1024;

/// Why a connection ends, other than by its client.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("input or output: {0}")]
    Io(#[from] std::io::Error),
    #[error("a request of {0} bytes is too large or not Kafka's protocol")]
    Size(i64),
    #[error("request {api_key} version {version} is not offered by this broker")]
    NotOffered { api_key: i16, version: i16 },
    #[error("request cannot be decoded: {0}")]
    Decode(String),
    #[error("answer cannot be encoded: {0}")]
    Encode(String),
    #[error("an injected fault")]
    Injected,
}

/// Serves one client until it goes.
pub async fn serve(broker: Arc<Broker>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "no TCP_NODELAY");
    }
    match run(&broker, stream, peer).await {
        Ok(()) => {}
        Err(ConnectionError::Io(error)) => tracing::debug!(%peer, %error, "connection lost"),
        Err(error) => tracing::warn!(%peer, %error, "connection closed"),
    }
}

async fn run(broker: &Arc<Broker>, mut stream: TcpStream, peer: SocketAddr) -> Result<(), ConnectionError> {
    let client_host = StrBytes::from_string(format!("/{}", peer.ip()));
    let mut input = BytesMut::with_capacity(BUFFER);
    let mut output = BytesMut::with_capacity(BUFFER);
    loop {
        let frame = match next_frame(&mut input)? {
            Some(frame) => frame,
            None => {
                // Answers go out together once there is no further request to handle at once.
                if !output.is_empty() {
                    stream.write_all_buf(&mut output).await?;
                }
                input.reserve(BUFFER);
                if stream.read_buf(&mut input).await? == 0 {
                    return Ok(());
                }
                continue;
            }
        };
        handle(broker, frame, &client_host, &mut output, &mut stream).await?;
    }
}

/// The next whole frame without its length, if it is there.
fn next_frame(input: &mut BytesMut) -> Result<Option<Bytes>, ConnectionError> {
    let Some(mut length) = input.get(..4) else {
        return Ok(None);
    };
    let length = length.get_i32();
    let size = usize::try_from(length)
        .ok()
        .filter(|size| (8..=MAX_REQUEST).contains(size))
        .ok_or(ConnectionError::Size(i64::from(length)))?;
    if input.len() < 4 + size {
        input.reserve(4 + size - input.len());
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(size).freeze()))
}

async fn handle(
    broker: &Arc<Broker>,
    mut frame: Bytes,
    client_host: &StrBytes,
    output: &mut BytesMut,
    stream: &mut TcpStream,
) -> Result<(), ConnectionError> {
    let mut start = frame.slice(..8);
    let (key, version, correlation) = (start.get_i16(), start.get_i16(), start.get_i32());
    let not_offered = ConnectionError::NotOffered { api_key: key, version };
    let Ok(api_key) = ApiKey::try_from(key) else {
        return Err(not_offered);
    };
    if !api::is_supported(api_key, version) {
        if api_key == ApiKey::ApiVersions {
            // The client asks again with a version from this list (KIP-511).
            let error = ResponseError::UnsupportedVersion.code();
            let answer = ResponseKind::ApiVersions(api::api_versions().with_error_code(error));
            return put_answer(output, api_key, 0, correlation, &answer);
        }
        return Err(not_offered);
    }
    let header = RequestHeader::decode(&mut frame, api_key.request_header_version(version)).map_err(decode_error)?;
    let request = RequestKind::decode(api_key, &mut frame, version).map_err(decode_error)?;
    let context = RequestContext {
        version,
        client_id: header.client_id.unwrap_or_default(),
        client_host: client_host.clone(),
    };
    let fault = broker.faults.on_request(api_key);
    if let Some(action) = fault {
        tracing::info!(request = ?api_key, ?action, "injected fault");
    }
    let answer = match fault {
        Some(FaultAction::Drop) => None,
        Some(FaultAction::Close) => return Err(ConnectionError::Injected),
        Some(FaultAction::Error(error)) => {
            let answer = api::error_answer(&request, error).ok_or(ConnectionError::Injected)?;
            Some(answer)
        }
        Some(FaultAction::HandleThenError(error)) => {
            let answer = api::error_answer(&request, error).ok_or(ConnectionError::Injected)?;
            let _unsent = api::dispatch(broker, &context, request).await;
            Some(answer)
        }
        Some(FaultAction::HandleThenClose) => {
            let _unsent = api::dispatch(broker, &context, request).await;
            return Err(ConnectionError::Injected);
        }
        Some(FaultAction::Delay(delay)) => {
            flush(output, stream).await?;
            tokio::time::sleep(delay).await;
            api::dispatch(broker, &context, request).await
        }
        None => {
            // A request that may wait must not hold back the answers before it.
            if matches!(api_key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup) {
                flush(output, stream).await?;
            }
            api::dispatch(broker, &context, request).await
        }
    };
    match answer {
        Some(answer) => put_answer(output, api_key, version, correlation, &answer),
        None => Ok(()),
    }
}

async fn flush(output: &mut BytesMut, stream: &mut TcpStream) -> Result<(), ConnectionError> {
    if !output.is_empty() {
        stream.write_all_buf(output).await?;
    }
    Ok(())
}

fn put_answer(
    output: &mut BytesMut,
    api_key: ApiKey,
    version: i16,
    correlation: i32,
    answer: &ResponseKind,
) -> Result<(), ConnectionError> {
    let start = output.len();
    output.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header
        .encode(output, api_key.response_header_version(version))
        .map_err(encode_error)?;
    answer.encode(output, version).map_err(encode_error)?;
    let size = output.len() - start - 4;
    let length = i32::try_from(size).map_err(|_| encode_error(format!("{size} bytes are too many")))?;
    if let Some(place) = output.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn decode_error(error: impl std::fmt::Display) -> ConnectionError {
    ConnectionError::Decode(error.to_string())
}

fn encode_error(error: impl std::fmt::Display) -> ConnectionError {
    ConnectionError::Encode(error.to_string())
}
