//! The class `io.debezium.connector.postgresql.PostgresConnector`.

use super::captured::Captured;
use super::config::{self, PostgresConfig, SnapshotMode};
use super::connection::{Connection, Purpose};
use super::envelope::EnvelopeSchemas;
use super::error::PostgresError;
use super::offset::{self, Resume};
use super::task::PostgresTask;
use super::{refused, server, tables};
use async_trait::async_trait;
use connect_api::config::entry;
use connect_api::record::SourceMap;
use connect_api::{
    ConfigDef, ConfigMap, ConfigValue, ConnectError, Connector, ConnectorContext, ConnectorKind, ConnectorPlugin, Task,
};

/// `io.debezium.connector.postgresql.PostgresConnector`.
pub struct PostgresSource;

#[derive(Default)]
struct PostgresConnector {
    config: ConfigMap,
}

#[async_trait]
impl Connector for PostgresConnector {
    async fn start(&mut self, context: ConnectorContext) -> Result<(), ConnectError> {
        PostgresConfig::new(&context.config)?;
        self.config = context.config;
        Ok(())
    }

    fn task_configs(&self, _max_tasks: usize) -> Result<Vec<ConfigMap>, ConnectError> {
        Ok(vec![self.config.clone()]) // one slot has one reader
    }

    async fn stop(&mut self) {}
}

#[async_trait]
impl ConnectorPlugin for PostgresSource {
    fn class(&self) -> &'static str {
        "io.debezium.connector.postgresql.PostgresConnector"
    }

    fn task_class(&self) -> &'static str {
        "io.debezium.connector.postgresql.PostgresConnectorTask"
    }

    fn kind(&self) -> ConnectorKind {
        ConnectorKind::Source
    }

    fn config_def(&self) -> ConfigDef {
        config::definition()
    }

    /// What is not supported, and what a look at the server tells.
    async fn validate(&self, config: &ConfigMap, values: &mut Vec<ConfigValue>) {
        for (name, message) in refused::check(config) {
            entry(values, &name).errors.push(message);
        }
        if values.iter().any(|value| !value.errors.is_empty()) {
            return;
        }
        let config = match PostgresConfig::new(config) {
            Ok(config) => config,
            Err(error) => {
                let message = error.message();
                // options that contradict one another name themselves
                let named = [
                    "skipped.operations",
                    "max.queue.size",
                    "schema.exclude.list",
                    "table.exclude.list",
                ];
                let option = named
                    .into_iter()
                    .find(|name| message.contains(&format!("configuration {name}")));
                entry(values, option.unwrap_or("column.exclude.list"))
                    .errors
                    .push(message.to_owned());
                return;
            }
        };
        let mut found = Vec::new();
        if let Err(error) = look(&config, &mut found).await {
            found.push((error.option(), error.explain(&config)));
        }
        for (option, message) in found {
            entry(values, option).errors.push(message);
        }
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(PostgresConnector::default())
    }

    fn task(&self) -> Task {
        Task::Source(Box::new(PostgresTask::default()))
    }

    /// The offset of the one partition may be set to a position of the log, or reset.
    fn alter_offsets(
        &self,
        config: &ConfigMap,
        offsets: &[(SourceMap, Option<SourceMap>)],
    ) -> Result<bool, ConnectError> {
        let prefix = config
            .get("topic.prefix")
            .and_then(Option::as_deref)
            .unwrap_or_default();
        let ours = offset::partition(prefix);
        for (partition, offset) in offsets {
            if *partition != ours && offset.is_some() {
                return Err(ConnectError::config(format!(
                    "the connector's only partition is {}",
                    serde_json::Value::Object(ours)
                )));
            }
            let readable = offset
                .as_ref()
                .is_none_or(|offset| matches!(Resume::read(Some(offset)), Resume::From(_)));
            if !readable {
                return Err(ConnectError::config(
                    "an offset needs lsn, a position of the log as a whole number",
                ));
            }
        }
        Ok(true)
    }
}

/// Looks at the server; what is found is the option to blame and what is wrong.
async fn look(config: &PostgresConfig, found: &mut Vec<(&'static str, String)>) -> Result<(), PostgresError> {
    let mut connection = Connection::open(&config.server, Purpose::Queries).await?;
    if config.snapshot != SnapshotMode::InitialOnly {
        let missing = server::requirements(&mut connection, config).await?;
        found.extend(missing.into_iter().map(|missing| (missing.option, missing.message)));
    }
    let wanted = tables::wanted(&mut connection, config).await?;
    if let Err(reason) = tables::check_lists(config, &wanted) {
        found.push((
            "table.include.list",
            format!("Invalid value for configuration table.include.list: {reason}"),
        ));
    }
    let schemas = EnvelopeSchemas::new();
    for table in wanted.tables {
        if let Some(right) = missing_rights(&mut connection, &table.name.to_string(), table.oid).await? {
            found.push(("database.user", right));
        }
        if let Err(error) = Captured::new(table, config, &schemas) {
            found.push(("column.exclude.list", error.message().to_owned()));
        }
    }
    connection.close().await;
    Ok(())
}

async fn missing_rights(connection: &mut Connection, name: &str, oid: u32) -> Result<Option<String>, PostgresError> {
    let rows = connection
        .query(&format!(
            "SELECT pg_catalog.has_table_privilege({oid}, 'SELECT') \
             AND pg_catalog.has_schema_privilege((SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = {oid}), 'USAGE')"
        ))
        .await?;
    let may = rows.first().and_then(|row| row.first()).and_then(Option::as_deref) == Some("t");
    Ok((!may).then(|| format!("the role may not read table {name}: run GRANT USAGE ON SCHEMA and GRANT SELECT ON it")))
}
