//! A second connection, for questions about the catalog while the first one streams. It is opened when it is needed.

use super::connection::{Connection, Purpose, Row, Server};
use super::error::PostgresError;

/// The connection, where one is open.
pub(super) struct SideConnection {
    server: Server,
    open: Option<Connection>,
}

impl SideConnection {
    pub(super) fn new(server: Server) -> Self {
        Self { server, open: None }
    }

    /// The connection, opened if it is not.
    pub(super) async fn connection(&mut self) -> Result<&mut Connection, PostgresError> {
        match &mut self.open {
            Some(connection) => Ok(connection),
            closed => Ok(closed.insert(Connection::open(&self.server, Purpose::Queries).await?)),
        }
    }

    /// Runs a statement. After any error but the server's own the connection is given up.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, PostgresError> {
        let result = self.connection().await?.query(sql).await;
        if result.as_ref().is_err_and(|error| error.code().is_empty()) {
            self.open = None;
        }
        result
    }

    /// Closes it.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.open.take() {
            connection.close().await;
        }
    }
}
