//! What goes wrong with PostgreSQL, and what is to be done about it.

use super::config::PostgresConfig;
use connect_api::ConnectError;

/// An error of a connection or of the server.
#[derive(Debug)]
pub(super) enum PostgresError {
    /// no connection could be made
    Unreachable(String),
    /// the connection broke
    Io(std::io::Error),
    /// the server closed the connection
    Closed,
    /// the server refused
    Server(ServerError),
    /// the server sent what it should not
    Protocol(String),
    /// anything else that ends the task; says what to do
    Task(ConnectError),
}

/// An error as the server sends it (documentation, "Error and Notice Message Fields").
#[derive(Debug, Default)]
pub(super) struct ServerError {
    /// SQLSTATE
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

impl ServerError {
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut error = ServerError::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else {
                break;
            };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        error
    }
}

impl ServerError {
    /// Whether pg_hba.conf has no entry, or a rejecting one, for a connection without encryption ("SSL off" before
    /// PostgreSQL 14).
    fn wants_tls(&self) -> bool {
        let message = &self.message;
        message.contains("pg_hba.conf") && (message.ends_with("no encryption") || message.ends_with("SSL off"))
    }
}

impl From<std::io::Error> for PostgresError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // what the SCRAM exchange answers to a wrong proof
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData => {
                PostgresError::Protocol(error.to_string())
            }
            _ => PostgresError::Io(error),
        }
    }
}

impl From<ConnectError> for PostgresError {
    fn from(error: ConnectError) -> Self {
        PostgresError::Task(error)
    }
}

impl std::fmt::Display for PostgresError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PostgresError::Unreachable(reason) => write!(formatter, "could not connect: {reason}"),
            PostgresError::Io(error) => write!(formatter, "the connection broke: {error}"),
            PostgresError::Closed => formatter.write_str("the server closed the connection"),
            PostgresError::Protocol(reason) => formatter.write_str(reason),
            PostgresError::Task(error) => formatter.write_str(error.message()),
            PostgresError::Server(error) => {
                formatter.write_str(&error.message)?;
                for more in [&error.detail, &error.hint].into_iter().flatten() {
                    write!(formatter, "; {more}")?;
                }
                write!(formatter, " (SQLSTATE {})", error.code)
            }
        }
    }
}

impl PostgresError {
    /// SQLSTATE of a refusal.
    pub(super) fn code(&self) -> &str {
        match self {
            PostgresError::Server(error) => &error.code,
            _ => "",
        }
    }

    /// Whether the server may be back later: it is worth waiting.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            PostgresError::Unreachable(_) | PostgresError::Io(_) | PostgresError::Closed => true,
            PostgresError::Protocol(_) => false,
            PostgresError::Task(error) => error.kind() == connect_api::ErrorKind::Retriable,
            // connection exceptions, too many connections, shutdown, crash, starting up
            PostgresError::Server(error) => {
                error.code.starts_with("08") || matches!(error.code.as_str(), "53300" | "57P01" | "57P02" | "57P03")
            }
        }
    }

    /// The option that is to blame, as REST names it.
    pub(super) fn option(&self) -> &'static str {
        match self.code() {
            "28P01" => "database.password",
            "28000" if matches!(self, PostgresError::Server(error) if error.wants_tls()) => "database.sslmode",
            "28000" | "42501" => "database.user",
            "3D000" => "database.dbname",
            _ => "database.hostname",
        }
    }

    /// One sentence for a person: what was asked, what the server said, what to do.
    pub(super) fn explain(&self, config: &PostgresConfig) -> String {
        let server = &config.server;
        let place = format!("PostgreSQL at {}:{}", server.host, server.port);
        let (user, database) = (&server.user, &server.database);
        match (self, self.code()) {
            (PostgresError::Task(error), _) => error.message().to_owned(),
            (PostgresError::Unreachable(reason), _) => format!(
                "{place} cannot be reached ({reason}): check database.hostname and database.port, and that the server runs"
            ),
            (_, "28P01") => {
                format!("{place} refused the password of user {user}: check database.user and database.password")
            }
            (PostgresError::Server(error), "28000") if error.wants_tls() => format!(
                "{place} wants TLS for user {user} ({}), and this connector has none yet: take the connection through a tunnel \
                 (stunnel, ssh -L, or a proxy of the provider), or let pg_hba.conf accept it without encryption (host or hostnossl)",
                error.message
            ),
            (_, "28000") => format!("{place} does not let user {user} in: {self}; check database.user and pg_hba.conf"),
            (_, "3D000") => format!("{place} has no database {database}: check database.dbname"),
            (_, "42501") => format!(
                "{place}: user {user} lacks a right: {self}; it needs LOGIN, REPLICATION, CONNECT, and USAGE and SELECT on \
                 what it captures"
            ),
            (_, "53400") => format!("{place}: {self}; drop an unused replication slot or raise max_replication_slots"),
            (_, "58P01") => format!(
                "{place} no longer has the changes after the committed offset: {self}; reset the connector's offsets, or set \
                 snapshot.mode=when_needed, so that a new snapshot is taken"
            ),
            _ => format!("{place}: {self}"),
        }
    }

    /// The error that fails the task.
    pub(super) fn into_connect(self, config: &PostgresConfig) -> ConnectError {
        match self {
            PostgresError::Task(error) => error,
            other => ConnectError::fatal(other.explain(config)),
        }
    }
}
