//! A blocking connection to one broker, for a thread that has nothing else to do than to write.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::{Request, StrBytes};

use crate::error::{ErrorCode, KafkaError};
use crate::frame::{self, ApiVersions, transport};

/// How long connecting may take: Java's `socket.connection.setup.timeout.ms`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The connection. After an error it is of no use any more.
pub(super) struct Connection {
    stream: TcpStream,
    address: String,
    client_id: StrBytes,
    next_correlation_id: i32,
    versions: ApiVersions,
}

impl Connection {
    /// Connects in plain text to `host:port` and asks which versions the broker speaks (KIP-511).
    pub fn open(address: &str, client_id: &str, request_timeout: Duration) -> Result<Connection, KafkaError> {
        let failed = |error: std::io::Error| transport(address, &error);
        let mut last = None;
        for resolved in address.to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&resolved, CONNECT_TIMEOUT) {
                Ok(stream) => return Self::over(stream, address, client_id, request_timeout),
                Err(error) => last = Some(error),
            }
        }
        let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address");
        Err(failed(last.unwrap_or_else(none)))
    }

    fn over(stream: TcpStream, address: &str, client_id: &str, timeout: Duration) -> Result<Connection, KafkaError> {
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(timeout)))
            .and_then(|()| stream.set_write_timeout(Some(timeout)));
        prepared.map_err(|error| transport(address, &error))?;
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            next_correlation_id: 0,
            versions: ApiVersions::default(),
        };
        let mut answer = connection.exchange(&ApiVersions::request(), ApiVersions::REQUEST_VERSION)?;
        if answer.error_code == ErrorCode::UnsupportedVersion as i16 {
            answer = connection.exchange(&ApiVersionsRequest::default(), 0)?;
        }
        connection.versions = ApiVersions::read(&answer, address)?;
        Ok(connection)
    }

    /// Sends a request in the highest version that both sides speak, but `at_most`, and waits for its response. The
    /// response's own error codes are the caller's to read.
    pub fn call<R: Request>(&mut self, request: &R, at_most: i16) -> Result<R::Response, KafkaError> {
        let version = self.version::<R>(at_most)?;
        self.exchange(request, version)
    }

    /// The highest version of a request that both sides speak, but `at_most`.
    pub fn version<R: Request>(&self, at_most: i16) -> Result<i16, KafkaError> {
        self.versions.version::<R>(at_most, &self.address)
    }

    /// Sends a request without waiting; [`Self::receive`] takes its response, in the order of the requests.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<i32, KafkaError> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1);
        let frame = frame::encode(request, version, correlation_id, &self.client_id)?;
        self.stream
            .write_all(&frame)
            .map_err(|error| transport(&self.address, &error))?;
        Ok(correlation_id)
    }

    /// The response to the request of this number.
    pub fn receive<R: Request>(&mut self, correlation_id: i32, version: i16) -> Result<R::Response, KafkaError> {
        let response = self.read().map_err(|error| transport(&self.address, &error))?;
        frame::decode::<R>(response, version, correlation_id)
    }

    fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, KafkaError> {
        let correlation_id = self.send(request, version)?;
        self.receive::<R>(correlation_id, version)
    }

    fn read(&mut self) -> std::io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = frame::response_length(i32::from_be_bytes(length))?;
        let mut response = vec![0; length];
        self.stream.read_exact(&mut response)?;
        Ok(response.into())
    }
}
