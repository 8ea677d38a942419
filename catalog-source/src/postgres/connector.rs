//! The class `io.debezium.connector.postgresql.PostgresConnector`.

use super::captured::{Captured, LeftOut, NothingLeft};
use super::config::{self, PostgresConfig, SnapshotMode};
use super::connection::{Connection, Purpose};
use super::envelope::EnvelopeSchemas;
use super::error::PostgresError;
use super::history::Position;
use super::offset::{self, Resume};
use super::plan::Slot;
use super::task::PostgresTask;
use super::types::NotRead;
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
        for (name, message) in refused::unsupported(config) {
            entry(values, &name).errors.push(message);
        }
        // names are the worker's to refuse
        let refused = values.iter().any(|value| !value.errors.is_empty()) || !refused::misnamed(config).is_empty();
        if refused {
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
                    "message.prefix.exclude.list",
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

    /// The offset of the one partition may be set to a position of the log from which the slot holds every change, or reset.
    async fn alter_offsets(
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
            let Some(offset) = offset else { continue };
            if *partition != ours {
                return Err(ConnectError::config(format!(
                    "the connector's only partition is {}",
                    serde_json::Value::Object(ours)
                )));
            }
            let Resume::From(position) = Resume::read(Some(offset)) else {
                return Err(ConnectError::config(
                    "an offset needs lsn, a position of the log as a whole number",
                ));
            };
            let config = PostgresConfig::new(config)?;
            if config.snapshot != SnapshotMode::InitialOnly {
                check_offset(&config, &position)
                    .await
                    .map_err(|error| error.into_connect(&config))?;
            }
        }
        Ok(true)
    }
}

/// Whether changes can be read from `position` on.
async fn check_offset(config: &PostgresConfig, position: &Position) -> Result<(), PostgresError> {
    let mut connection = Connection::open(&config.server, Purpose::Replication).await?;
    let log = server::log(&mut connection).await?;
    let state = server::slot(&mut connection, config).await?;
    connection.close().await;
    let (slot, at) = (&config.slot, server::format_lsn(position.lsn));
    let (lsn, advice) = (position.lsn, "or reset the offsets, so that a new snapshot is taken");
    let reason = match (state.slot, log.gap_at(position)) {
        (_, Some(_)) => format!(
            "offset {lsn} ({at}) is no position of this server's log, which ends at {} ({}): give an earlier one, {advice}",
            log.end,
            server::format_lsn(log.end)
        ),
        (Slot::Holds(from), None) if from > lsn => format!(
            "offset {lsn} ({at}) lies before {from} ({}), from where on replication slot {slot} holds changes: give {from} or a \
             later one, {advice}",
            server::format_lsn(from)
        ),
        (Slot::Missing, None) => format!(
            "there is no replication slot {slot}, which held changes from offset {lsn} on: reset the offsets, so that a new snapshot is taken"
        ),
        (Slot::Lost, None) => format!(
            "replication slot {slot} has lost its changes (max_slot_wal_keep_size): reset the offsets, so that a new snapshot is taken"
        ),
        (Slot::Holds(_), None) => return Ok(()),
    };
    Err(PostgresError::Task(ConnectError::config(reason)))
}

/// Looks at the server; what is found is the option to blame and what is wrong.
async fn look(config: &PostgresConfig, found: &mut Vec<(&'static str, String)>) -> Result<(), PostgresError> {
    let mut connection = Connection::open(&config.server, Purpose::Queries).await?;
    if config.snapshot != SnapshotMode::InitialOnly {
        let missing = server::requirements(&mut connection, config).await?;
        found.extend(missing.into_iter().map(|missing| (missing.option, missing.message)));
    }
    let wanted = tables::wanted(&mut connection, config).await?;
    for missing in tables::missing(config, &wanted) {
        found.push((
            "table.include.list",
            format!(
                "Invalid value for configuration table.include.list: there is no table {missing} in database {} (or it is unlogged): \
                 create it first, or correct the list",
                config.server.database
            ),
        ));
    }
    let schemas = EnvelopeSchemas::new();
    let mut unsupported = Vec::new();
    for table in wanted.tables {
        if let Some(right) = missing_rights(&mut connection, &table.name.to_string(), table.oid).await? {
            found.push(("database.user", right));
        }
        match Captured::new(table, config, &schemas) {
            Ok((captured, left_out)) => {
                let left_out = left_out
                    .into_iter()
                    .filter(|column| column.reason == NotRead::Unsupported);
                for column in left_out {
                    unsupported.push((captured.name.to_string(), column));
                }
            }
            Err(NothingLeft(table)) => found.push((
                "table.exclude.list",
                format!("table {table} has no column that can be captured: name it in table.exclude.list"),
            )),
        }
    }
    found.extend(refusals(&unsupported));
    connection.close().await;
    Ok(())
}

/// All columns of unsupported types at once, so that they can be excluded at once. A column of the key cannot be.
fn refusals(unsupported: &[(String, LeftOut)]) -> Vec<(&'static str, String)> {
    let listed = |key: bool| {
        let columns = unsupported.iter().filter(|(_, column)| column.key == key);
        let texts =
            columns.map(|(table, column)| format!("column {table}.{} has type {}", column.column, column.base_type));
        texts.collect::<Vec<_>>()
    };
    let refusal = |option, columns: Vec<String>, advice: &str| {
        let verb = if columns.len() == 1 { "is" } else { "are" };
        (!columns.is_empty()).then(|| {
            (
                option,
                format!("{}, which {verb} not supported: {advice}", columns.join(", ")),
            )
        })
    };
    let keys = "a key cannot be represented without them, name the tables in table.exclude.list";
    let others = "name them in column.exclude.list";
    [
        refusal("column.exclude.list", listed(false), others),
        refusal("table.exclude.list", listed(true), keys),
    ]
    .into_iter()
    .flatten()
    .collect()
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
