//! One connection to PostgreSQL: the simple query protocol, `COPY ... TO STDOUT` and the replication stream.
//!
//! ```text
//!   open: startup (replication=database) -> authentication -> ready
//!   query      -> rows of text
//!   copy_out   -> copied_row, copied_row, ... until None
//!   replicate  -> replication_message (cancel-safe), send_status
//! ```
//! Message formats: PostgreSQL documentation, chapters "Message Formats" and "Streaming Replication Protocol". A connection
//! opened for replication runs SQL too, so the snapshot is read in the very transaction that created the slot.

use super::error::{PostgresError, ServerError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes that one read from the socket may bring.
const READ_SIZE: usize = 256 << 10;
/// A longer message than any that PostgreSQL sends (its fields end at 1 GB).
const LARGEST_MESSAGE: usize = 1_200 << 20;
/// Between 1970 and 2000, where PostgreSQL's clock starts, in microseconds.
pub(super) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Where and as whom to connect.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
    pub(super) connect_timeout: Duration,
    pub(super) keepalive: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// SQL
    Queries,
    /// SQL and the replication commands; needs a role with REPLICATION
    Replication,
}

/// One row of an answer; null is `None`.
pub(super) type Row = Vec<Option<String>>;

/// An open connection.
pub(super) struct Connection {
    socket: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
}

/// A message from the server.
struct Message {
    tag: u8,
    body: Bytes,
}

impl Connection {
    /// Connects and authenticates.
    pub(super) async fn open(server: &Server, purpose: Purpose) -> Result<Self, PostgresError> {
        match tokio::time::timeout(server.connect_timeout, Self::connect(server, purpose)).await {
            Ok(opened) => opened,
            Err(_) => Err(PostgresError::Unreachable(format!(
                "no answer within {} ms",
                server.connect_timeout.as_millis()
            ))),
        }
    }

    async fn connect(server: &Server, purpose: Purpose) -> Result<Self, PostgresError> {
        let socket = TcpStream::connect((server.host.as_str(), server.port))
            .await
            .map_err(|error| PostgresError::Unreachable(error.to_string()))?;
        socket.set_nodelay(true)?;
        if server.keepalive {
            let keepalive = socket2::TcpKeepalive::new()
                .with_time(Duration::from_secs(30))
                .with_interval(Duration::from_secs(10));
            socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        }
        let mut connection = Self {
            socket,
            incoming: BytesMut::with_capacity(READ_SIZE),
            outgoing: BytesMut::new(),
        };
        let mut parameters = vec![
            ("user", server.user.as_str()),
            ("database", server.database.as_str()),
            ("application_name", "millrace"),
            ("client_encoding", "UTF8"),
            // the text of values depends on these
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("extra_float_digits", "3"),
            ("bytea_output", "hex"),
        ];
        if purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, &mut connection.outgoing)?;
        connection.flush().await?;
        connection.authenticate(server).await?;
        loop {
            let message = connection.message().await?;
            match message.tag {
                b'Z' => return Ok(connection),
                b'K' | b'S' | b'N' => {}
                tag => return Err(unexpected(tag, "the end of the startup")),
            }
        }
    }

    async fn authenticate(&mut self, server: &Server) -> Result<(), PostgresError> {
        let mut scram: Option<ScramSha256> = None;
        loop {
            let mut message = self.message().await?;
            if message.tag != b'R' {
                return Err(unexpected(message.tag, "authentication"));
            }
            match take_i32(&mut message.body)? {
                0 => return Ok(()),
                3 => frontend::password_message(server.password.as_bytes(), &mut self.outgoing)?,
                5 => {
                    let salt = <[u8; 4]>::try_from(message.body.as_ref())
                        .map_err(|_| PostgresError::Protocol("a salt that is not 4 bytes long".to_owned()))?;
                    let hash = md5_hash(server.user.as_bytes(), server.password.as_bytes(), salt);
                    frontend::password_message(hash.as_bytes(), &mut self.outgoing)?;
                }
                10 => {
                    let offered = message.body.split(|byte| *byte == 0);
                    if !offered.into_iter().any(|name| name == SCRAM_SHA_256.as_bytes()) {
                        return Err(PostgresError::Protocol(
                            "the server offers no SASL mechanism but ones with channel binding, which needs TLS"
                                .to_owned(),
                        ));
                    }
                    let started = ScramSha256::new(server.password.as_bytes(), ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, started.message(), &mut self.outgoing)?;
                    scram = Some(started);
                }
                11 => {
                    let scram = scram.as_mut().ok_or_else(|| unexpected(b'R', "SASL"))?;
                    scram.update(&message.body)?;
                    frontend::sasl_response(scram.message(), &mut self.outgoing)?;
                }
                12 => {
                    let scram = scram.as_mut().ok_or_else(|| unexpected(b'R', "SASL"))?;
                    scram.finish(&message.body)?;
                }
                method => {
                    return Err(PostgresError::Protocol(format!(
                        "the server asks for authentication method {method}; supported are trust, password, md5 and \
                         scram-sha-256: change pg_hba.conf"
                    )));
                }
            }
            self.flush().await?;
        }
    }

    /// Runs statements; the rows of all of them.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, PostgresError> {
        frontend::query(sql, &mut self.outgoing)?;
        self.flush().await?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let message = match self.message_or_error().await? {
                Ok(message) => message,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            match message.tag {
                b'D' => rows.push(text_row(message.body)?),
                b'Z' => return failed.map_or(Ok(rows), |error| Err(PostgresError::Server(error))),
                b'T' | b'C' | b'I' | b'N' | b'S' | b'A' => {}
                tag => return Err(unexpected(tag, "the answer to a query")),
            }
        }
    }

    /// Starts `COPY ... TO STDOUT`; the rows follow by [`Self::copied_row`].
    pub(super) async fn copy_out(&mut self, sql: &str) -> Result<(), PostgresError> {
        frontend::query(sql, &mut self.outgoing)?;
        self.flush().await?;
        loop {
            match self.message_or_error().await? {
                Ok(message) if message.tag == b'H' => return Ok(()),
                Ok(message) if matches!(message.tag, b'N' | b'S') => {}
                Ok(message) => return Err(unexpected(message.tag, "the start of a copy")),
                Err(error) => {
                    self.until_ready().await?;
                    return Err(PostgresError::Server(error));
                }
            }
        }
    }

    /// The next row of the copy that runs, in the text format with its line feed; `None` at its end. Cancel-safe.
    pub(super) async fn copied_row(&mut self) -> Result<Option<Bytes>, PostgresError> {
        loop {
            let message = self.message().await?;
            match message.tag {
                b'd' => return Ok(Some(message.body)),
                b'c' | b'C' | b'N' | b'S' => {}
                b'Z' => return Ok(None),
                tag => return Err(unexpected(tag, "a copy")),
            }
        }
    }

    /// Starts the replication stream.
    pub(super) async fn replicate(&mut self, command: &str) -> Result<(), PostgresError> {
        frontend::query(command, &mut self.outgoing)?;
        self.flush().await?;
        loop {
            match self.message_or_error().await? {
                Ok(message) if message.tag == b'W' => return Ok(()),
                Ok(message) if matches!(message.tag, b'N' | b'S') => {}
                Ok(message) => return Err(unexpected(message.tag, "the start of replication")),
                Err(error) => return Err(PostgresError::Server(error)),
            }
        }
    }

    /// A message of the replication stream that has arrived already; no waiting.
    pub(super) fn arrived_message(&mut self) -> Result<Option<Bytes>, PostgresError> {
        while let Some(message) = self.frame()? {
            match message.tag {
                b'd' => return Ok(Some(message.body)),
                b'E' => return Err(PostgresError::Server(ServerError::parse(&message.body))),
                b'N' | b'S' => {}
                b'c' | b'C' | b'Z' => return Err(PostgresError::Closed),
                tag => return Err(unexpected(tag, "replication")),
            }
        }
        Ok(None)
    }

    /// Waits for bytes. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Result<(), PostgresError> {
        if self.incoming.capacity() - self.incoming.len() < READ_SIZE / 4 {
            self.incoming.reserve(READ_SIZE);
        }
        match self.socket.read_buf(&mut self.incoming).await? {
            0 => Err(PostgresError::Closed),
            _ => Ok(()),
        }
    }

    /// Tells the server up to where changes were received, and up to where they are durable and need not be sent again.
    pub(super) async fn send_status(&mut self, received: u64, durable: u64, reply: bool) -> Result<(), PostgresError> {
        self.outgoing.put_u8(b'd');
        self.outgoing.put_i32(4 + 1 + 8 * 4 + 1);
        self.outgoing.put_u8(b'r');
        self.outgoing.put_u64(received.max(durable));
        self.outgoing.put_u64(durable);
        self.outgoing.put_u64(durable);
        self.outgoing.put_i64(now_micros() - POSTGRES_EPOCH_MICROS);
        self.outgoing.put_u8(u8::from(reply));
        self.flush().await
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        frontend::terminate(&mut self.outgoing);
        let _ = tokio::time::timeout(Duration::from_secs(1), self.flush()).await;
        let _ = self.socket.shutdown().await;
    }

    async fn flush(&mut self) -> Result<(), PostgresError> {
        // not cancel-safe in itself: what was written is taken from the buffer at once
        while !self.outgoing.is_empty() {
            self.socket.write_buf(&mut self.outgoing).await?;
        }
        Ok(())
    }

    async fn until_ready(&mut self) -> Result<(), PostgresError> {
        while self.message().await?.tag != b'Z' {}
        Ok(())
    }

    async fn message(&mut self) -> Result<Message, PostgresError> {
        self.message_or_error().await?.map_err(PostgresError::Server)
    }

    async fn message_or_error(&mut self) -> Result<Result<Message, ServerError>, PostgresError> {
        loop {
            match self.frame()? {
                Some(message) if message.tag == b'E' => return Ok(Err(ServerError::parse(&message.body))),
                Some(message) => return Ok(Ok(message)),
                None => self.receive().await?,
            }
        }
    }

    /// The next whole message of what has arrived.
    fn frame(&mut self) -> Result<Option<Message>, PostgresError> {
        let Some((header, _)) = self.incoming.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=LARGEST_MESSAGE).contains(&length) {
            return Err(PostgresError::Protocol(format!(
                "a message of {length} bytes: this is not PostgreSQL, or not its version 3 protocol"
            )));
        }
        if self.incoming.len() < length + 1 {
            self.incoming.reserve(length + 1 - self.incoming.len());
            return Ok(None);
        }
        let mut whole = self.incoming.split_to(length + 1).freeze();
        whole.advance(5);
        Ok(Some(Message { tag, body: whole }))
    }
}

/// Microseconds since the epoch.
pub(super) fn now_micros() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// An identifier, quoted for SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, quoted for SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn unexpected(tag: u8, place: &str) -> PostgresError {
    PostgresError::Protocol(format!("unexpected message '{}' in {place}", char::from(tag)))
}

fn take_i32(body: &mut Bytes) -> Result<i32, PostgresError> {
    body.try_get_i32()
        .map_err(|_| PostgresError::Protocol("a message ends early".to_owned()))
}

fn text_row(mut body: Bytes) -> Result<Row, PostgresError> {
    let short = |_| PostgresError::Protocol("a row ends early".to_owned());
    let columns = body.try_get_i16().map_err(short)?;
    let mut row = Row::with_capacity(usize::try_from(columns).unwrap_or_default());
    for _ in 0..columns {
        match usize::try_from(body.try_get_i32().map_err(short)?) {
            Err(_) => row.push(None),
            Ok(length) if length <= body.len() => {
                row.push(Some(String::from_utf8_lossy(&body.split_to(length)).into_owned()));
            }
            Ok(_) => return Err(PostgresError::Protocol("a row ends early".to_owned())),
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    proptest! {
        /// A row that a server writes comes back; any other bytes are an error, never a panic.
        #[test]
        fn rows_come_back(row in proptest::collection::vec(proptest::option::of(".{0,12}"), 0..8), cut in any::<prop::sample::Index>()) {
            let mut body = BytesMut::new();
            body.put_i16(row.len() as i16);
            for value in &row {
                match value {
                    None => body.put_i32(-1),
                    Some(text) => {
                        body.put_i32(text.len() as i32);
                        body.extend_from_slice(text.as_bytes());
                    }
                }
            }
            let body = body.freeze();
            prop_assert_eq!(text_row(body.clone()).unwrap(), row);
            let cut = cut.index(body.len());
            prop_assert!(text_row(body.slice(..cut)).is_err());
        }
    }
}
