//! Which tables are captured, and what they look like: read from PostgreSQL's catalog.
//!
//! ```text
//!   pg_class   --include and exclude lists--> wanted --published?--> captured
//!   pg_attribute, pg_type, pg_index --> columns: name, type, may be null, place in the key
//! ```

use super::config::PostgresConfig;
use super::connection::{Connection, Row, literal};
use super::error::PostgresError;
use connect_api::ConnectError;
use std::sync::Arc;

/// A table's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TableName {
    pub(super) schema: Arc<str>,
    pub(super) table: Arc<str>,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.schema, self.table)
    }
}

/// A column as the catalog describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub(super) name: Arc<str>,
    /// type and modifier as a relation message has them
    pub(super) type_oid: u32,
    pub(super) modifier: i32,
    /// a domain's base type and modifier, else the same type
    pub(super) base_type: String,
    pub(super) base_modifier: i32,
    pub(super) labels: Option<String>,
    pub(super) optional: bool,
    /// place in the key, from 1
    pub(super) key: Option<i32>,
}

/// A table as the catalog describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) oid: u32,
    pub(super) partitioned: bool,
    /// condition of the publication's row filter
    pub(super) row_filter: Option<String>,
    pub(super) columns: Vec<Column>,
}

/// What is found before anything is captured.
pub(super) struct Wanted {
    /// tables that the lists name
    pub(super) tables: Vec<Table>,
    /// every table there is, `schema.table`
    pub(super) all: Vec<String>,
}

/// Reads the tables that the lists name.
pub(super) async fn wanted(connection: &mut Connection, config: &PostgresConfig) -> Result<Wanted, PostgresError> {
    let rows = connection
        .query(
            "SELECT n.nspname, c.relname, c.oid, c.relkind = 'p' FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast' ORDER BY 1, 2",
        )
        .await?;
    let mut tables = Vec::new();
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let [Some(schema), Some(table), Some(oid), Some(partitioned)] = row.as_slice() else {
            return Err(PostgresError::Protocol(
                "pg_class has a table without a name".to_owned(),
            ));
        };
        all.push(format!("{schema}.{table}"));
        if config.capture.takes_table(schema, table) {
            tables.push(Table {
                name: TableName {
                    schema: schema.as_str().into(),
                    table: table.as_str().into(),
                },
                oid: number(oid)?,
                partitioned: partitioned == "t",
                row_filter: None,
                columns: Vec::new(),
            });
        }
    }
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    for (oid, column) in columns(connection, &oids).await? {
        if let Some(table) = tables.iter_mut().find(|table| table.oid == oid) {
            table.columns.push(column);
        }
    }
    Ok(Wanted { tables, all })
}

/// Reads one table by its name; `None` if it is not there any more.
pub(super) async fn by_name(connection: &mut Connection, name: &TableName) -> Result<Option<Table>, PostgresError> {
    let rows = connection
        .query(&format!(
            "SELECT c.oid, c.relkind = 'p' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
             ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
            literal(&name.schema),
            literal(&name.table)
        ))
        .await?;
    let Some([Some(oid), Some(partitioned)]) = rows.first().map(Vec::as_slice) else {
        return Ok(None);
    };
    let oid = number(oid)?;
    Ok(Some(Table {
        name: name.clone(),
        oid,
        partitioned: partitioned == "t",
        row_filter: None,
        columns: columns(connection, &[oid])
            .await?
            .into_iter()
            .map(|(_, column)| column)
            .collect(),
    }))
}

/// The columns of tables, in order. Generated columns are left out: PostgreSQL does not replicate them. The key is the
/// primary key, or else the index of the replica identity.
async fn columns(connection: &mut Connection, tables: &[u32]) -> Result<Vec<(u32, Column)>, PostgresError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = tables.iter().map(u32::to_string).collect();
    let rows = connection
        .query(&format!(
            "SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, \
             b.typname, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, \
             (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e \
              WHERE e.enumtypid = CASE WHEN b.typcategory = 'A' THEN b.typelem ELSE b.oid END), \
             NOT (a.attnotnull OR t.typnotnull), \
             array_position(string_to_array(i.indkey::text, ' ')::int2[], a.attnum) \
             FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
             LEFT JOIN LATERAL (SELECT x.indkey FROM pg_catalog.pg_index x WHERE x.indrelid = a.attrelid \
              AND (x.indisprimary OR x.indisreplident) ORDER BY x.indisprimary DESC LIMIT 1) i ON true \
             WHERE a.attrelid IN ({}) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
             ORDER BY a.attrelid, a.attnum",
            list.join(", ")
        ))
        .await?;
    rows.into_iter().map(column).collect()
}

fn column(row: Row) -> Result<(u32, Column), PostgresError> {
    let [
        Some(table),
        Some(name),
        Some(type_oid),
        Some(modifier),
        Some(base_type),
        Some(base_modifier),
        labels,
        optional,
        key,
    ] = row.as_slice()
    else {
        return Err(PostgresError::Protocol(
            "pg_attribute has a column without a type".to_owned(),
        ));
    };
    Ok((
        number(table)?,
        Column {
            name: name.as_str().into(),
            type_oid: number(type_oid)?,
            modifier: number(modifier)?,
            base_type: base_type.clone(),
            base_modifier: number(base_modifier)?,
            labels: labels.clone(),
            optional: optional.as_deref() == Some("t"),
            key: key.as_deref().map(number).transpose()?,
        },
    ))
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, PostgresError> {
    text.parse()
        .map_err(|_| PostgresError::Protocol(format!("the catalog has {text:?} where a number belongs")))
}

/// What is wrong with the lists, if anything.
pub(super) fn check_lists(config: &PostgresConfig, wanted: &Wanted) -> Result<(), String> {
    let database = &config.server.database;
    if let Some(missing) = config.capture.tables.plain_without_match(&wanted.all).next() {
        return Err(format!(
            "there is no table {missing} in database {database} (or it is unlogged): create it first, or correct the list"
        ));
    }
    match wanted.tables.is_empty() {
        true => Err(format!("no table of database {database} is captured by these lists")),
        false => Ok(()),
    }
}

/// Of the wanted tables, those that the publication publishes, with its row filters and column lists.
///
/// # Errors
/// A wanted table that is not published: its rows would never change. A partitioned table and its partitions are published
/// under one or the other name.
pub(super) async fn published(
    connection: &mut Connection,
    config: &PostgresConfig,
    wanted: Vec<Table>,
) -> Result<Vec<Table>, PostgresError> {
    // attnames and rowfilter are there from PostgreSQL 15 on
    let rows = connection
        .query(&format!(
            "SELECT p.schemaname, p.tablename, to_jsonb(p) ->> 'attnames', to_jsonb(p) ->> 'rowfilter' \
             FROM pg_catalog.pg_publication_tables p WHERE p.pubname = {}",
            literal(&config.publication)
        ))
        .await?;
    let mut captured = Vec::new();
    for mut table in wanted {
        let found = rows.iter().find_map(|row| match row.as_slice() {
            [Some(schema), Some(name), columns, filter]
                if **schema == *table.name.schema && **name == *table.name.table =>
            {
                Some((columns, filter))
            }
            _ => None,
        });
        let Some((columns, filter)) = found else {
            check_unpublished(connection, config, &table).await?;
            continue;
        };
        if let Some(names) = columns
            .as_deref()
            .and_then(|list| serde_json::from_str::<Vec<String>>(list).ok())
        {
            table
                .columns
                .retain(|column| names.iter().any(|name| **name == *column.name));
        }
        table.row_filter.clone_from(filter);
        captured.push(table);
    }
    match captured.is_empty() {
        true => Err(PostgresError::Task(ConnectError::fatal(format!(
            "publication {} publishes none of the captured tables: check publish.via.partition.root and table.include.list",
            config.publication
        )))),
        false => Ok(captured),
    }
}

async fn check_unpublished(
    connection: &mut Connection,
    config: &PostgresConfig,
    table: &Table,
) -> Result<(), PostgresError> {
    let relatives = connection
        .query(&format!(
            "SELECT 1 FROM pg_catalog.pg_inherits WHERE inhparent = {0} OR inhrelid = {0} LIMIT 1",
            table.oid
        ))
        .await?;
    if relatives.is_empty() {
        return Err(PostgresError::Task(ConnectError::fatal(format!(
            "table {0} is not in publication {1}, so its changes would never arrive: run ALTER PUBLICATION {1} ADD TABLE {0}, \
             or leave it out of table.include.list",
            table.name, config.publication
        ))));
    }
    tracing::info!(table = %table.name, publication = config.publication, "published under another name of its partitions");
    Ok(())
}

/// Name and, for an enum, labels of a type, for columns that the catalog no longer has.
pub(super) async fn type_of(connection: &mut Connection, oid: u32) -> Result<(String, Option<String>), PostgresError> {
    let rows = connection
        .query(&format!(
            "SELECT t.typname, (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e \
             WHERE e.enumtypid = CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE t.oid END) \
             FROM pg_catalog.pg_type t WHERE t.oid = {oid}"
        ))
        .await?;
    match rows.first().map(Vec::as_slice) {
        Some([Some(name), labels]) => Ok((name.clone(), labels.clone())),
        _ => Ok((format!("type {oid}"), None)),
    }
}
