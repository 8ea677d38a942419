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
    /// of a generated column: what makes it
    pub(super) generated: Option<Generated>,
}

/// A generated column. Before PostgreSQL 18 its value is not replicated.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Generated {
    /// SQL over the table's other columns
    pub(super) expression: String,
    /// the columns that the expression reads, with their types in SQL
    pub(super) inputs: Vec<(String, String)>,
}

/// A table as the catalog describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) oid: u32,
    pub(super) partitioned: bool,
    /// condition of the publication's row filter
    pub(super) row_filter: Option<String>,
    /// whether the key is the primary key; else it is the index of the replica identity, or there is none
    pub(super) primary: bool,
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
                primary: false,
                columns: Vec::new(),
            });
        }
    }
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    for found in columns(connection, &oids).await? {
        if let Some(table) = tables.iter_mut().find(|table| table.oid == found.table) {
            table.primary |= found.primary;
            table.columns.push(found.column);
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
    let found = columns(connection, &[oid]).await?;
    Ok(Some(Table {
        name: name.clone(),
        oid,
        partitioned: partitioned == "t",
        row_filter: None,
        primary: found.iter().any(|found| found.primary),
        columns: found.into_iter().map(|found| found.column).collect(),
    }))
}

/// A column with the table that it belongs to.
struct Found {
    table: u32,
    /// part of a primary key
    primary: bool,
    column: Column,
}

/// Follows domains down to the type that they are made of: `NAME` has its `oid`, `modifier` and whether it takes no null.
fn base_of(oid: &str, modifier: &str) -> String {
    format!(
        "(WITH RECURSIVE down(oid, modifier, required, depth) AS ( \
           SELECT t.oid, {modifier}, t.typnotnull, 0 FROM pg_catalog.pg_type t WHERE t.oid = {oid} \
           UNION ALL \
           SELECT n.oid, t.typtypmod, down.required OR n.typnotnull, depth + 1 FROM down \
             JOIN pg_catalog.pg_type t ON t.oid = down.oid AND t.typtype = 'd' \
             JOIN pg_catalog.pg_type n ON n.oid = t.typbasetype) \
         SELECT down.modifier, bool_or(down.required) OVER () AS required, b.* FROM down \
           JOIN pg_catalog.pg_type b ON b.oid = down.oid ORDER BY depth DESC LIMIT 1)"
    )
}

/// The labels of the enum `NAME`, or of the enum that the array `NAME` holds.
fn labels_of(name: &str) -> String {
    format!(
        "(SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e \
         WHERE e.enumtypid = CASE WHEN {name}.typcategory = 'A' THEN {name}.typelem ELSE {name}.oid END)"
    )
}

/// The columns of tables, in order. The key is the primary key, or else the index of the replica identity, without what it
/// only includes. Generated columns are left out unless they are part of the key.
async fn columns(connection: &mut Connection, tables: &[u32]) -> Result<Vec<Found>, PostgresError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = tables.iter().map(u32::to_string).collect();
    let rows = connection
        .query(&format!(
            "SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, b.typname, b.modifier, {labels}, \
             NOT (a.attnotnull OR b.required), k.place, k.place IS NOT NULL AND i.indisprimary, \
             CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(g.adbin, g.adrelid) END, \
             CASE WHEN a.attgenerated <> '' THEN (SELECT jsonb_agg(jsonb_build_array(u.attname, \
               pg_catalog.format_type(u.atttypid, u.atttypmod)))::text FROM pg_catalog.pg_depend d \
               JOIN pg_catalog.pg_attribute u ON u.attrelid = d.refobjid AND u.attnum = d.refobjsubid \
               WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = g.oid \
               AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid <> a.attnum) END \
             FROM pg_catalog.pg_attribute a \
             JOIN LATERAL {base} b ON true \
             LEFT JOIN pg_catalog.pg_attrdef g ON g.adrelid = a.attrelid AND g.adnum = a.attnum \
             LEFT JOIN LATERAL (SELECT x.indkey, x.indnkeyatts, x.indisprimary FROM pg_catalog.pg_index x \
              WHERE x.indrelid = a.attrelid AND (x.indisprimary OR x.indisreplident) ORDER BY x.indisprimary DESC LIMIT 1) i ON true \
             LEFT JOIN LATERAL (SELECT array_position((string_to_array(i.indkey::text, ' ')::int2[])[1:i.indnkeyatts], a.attnum) \
              AS place) k ON true \
             WHERE a.attrelid IN ({list}) AND a.attnum > 0 AND NOT a.attisdropped \
             AND (a.attgenerated = '' OR k.place IS NOT NULL) ORDER BY a.attrelid, a.attnum",
            labels = labels_of("b"),
            base = base_of("a.atttypid", "a.atttypmod"),
            list = list.join(", ")
        ))
        .await?;
    rows.into_iter().map(found).collect()
}

fn found(row: Row) -> Result<Found, PostgresError> {
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
        primary,
        expression,
        inputs,
    ] = row.as_slice()
    else {
        return Err(PostgresError::Protocol(
            "pg_attribute has a column without a type".to_owned(),
        ));
    };
    let inputs = inputs.as_deref().unwrap_or("[]");
    let inputs = serde_json::from_str(inputs)
        .map_err(|error| PostgresError::Protocol(format!("what column {name} is generated from: {error}")))?;
    Ok(Found {
        table: number(table)?,
        primary: primary.as_deref() == Some("t"),
        column: Column {
            name: name.as_str().into(),
            type_oid: number(type_oid)?,
            modifier: number(modifier)?,
            base_type: base_type.clone(),
            base_modifier: number(base_modifier)?,
            labels: labels.clone(),
            optional: optional.as_deref() == Some("t"),
            key: key.as_deref().map(number).transpose()?,
            generated: expression.clone().map(|expression| Generated { expression, inputs }),
        },
    })
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, PostgresError> {
    text.parse()
        .map_err(|_| PostgresError::Protocol(format!("the catalog has {text:?} where a number belongs")))
}

/// Plain names in `table.include.list` that are no tables, or none that can be captured.
pub(super) fn missing<'a>(config: &'a PostgresConfig, wanted: &'a Wanted) -> Vec<&'a str> {
    config.capture.tables.plain_without_match(&wanted.all).collect()
}

/// Of the wanted tables, those that the publication publishes, with its row filters and column lists. A partitioned table and
/// its partitions are published under one or the other name.
///
/// # Errors
/// Where it is `strict`: a wanted table that is not published, since its rows would never change. Else it is left out, with a
/// warning, so that the others are followed.
pub(super) async fn published(
    connection: &mut Connection,
    config: &PostgresConfig,
    wanted: Vec<Table>,
    strict: bool,
) -> Result<Vec<Table>, PostgresError> {
    // attnames and rowfilter are there from PostgreSQL 15 on
    let rows = connection
        .query(&format!(
            "SELECT p.schemaname, p.tablename, to_jsonb(p) ->> 'attnames', to_jsonb(p) ->> 'rowfilter' \
             FROM pg_catalog.pg_publication_tables p WHERE p.pubname = {}",
            literal(&config.publication)
        ))
        .await?;
    let any_wanted = !wanted.is_empty();
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
            if let Err(reason) = check_unpublished(connection, config, &table).await? {
                if strict {
                    return Err(PostgresError::Task(ConnectError::fatal(reason)));
                }
                tracing::warn!(connector = %config.prefix, "{reason}");
            }
            continue;
        };
        if let Some(names) = columns
            .as_deref()
            .and_then(|list| serde_json::from_str::<Vec<String>>(list).ok())
        {
            table
                .columns
                .retain(|column| column.generated.is_some() || names.iter().any(|name| **name == *column.name));
        }
        table.row_filter.clone_from(filter);
        captured.push(table);
    }
    if any_wanted && captured.is_empty() {
        let reason = format!(
            "publication {} publishes none of the captured tables: check publish.via.partition.root and table.include.list",
            config.publication
        );
        if strict {
            return Err(PostgresError::Task(ConnectError::fatal(reason)));
        }
        tracing::warn!(connector = %config.prefix, "{reason}");
    }
    Ok(captured)
}

/// Whether it is right that a table is not published; else what is to be done.
async fn check_unpublished(
    connection: &mut Connection,
    config: &PostgresConfig,
    table: &Table,
) -> Result<Result<(), String>, PostgresError> {
    let relatives = connection
        .query(&format!(
            "SELECT 1 FROM pg_catalog.pg_inherits WHERE inhparent = {0} OR inhrelid = {0} LIMIT 1",
            table.oid
        ))
        .await?;
    if relatives.is_empty() {
        return Ok(Err(format!(
            "table {0} is not in publication {1}, so its changes would never arrive: run ALTER PUBLICATION {1} ADD TABLE {0}, \
             or leave it out of table.include.list",
            table.name, config.publication
        )));
    }
    tracing::info!(table = %table.name, publication = config.publication, "published under another name of its partitions");
    Ok(Ok(()))
}

/// What the catalog says of a type with a modifier.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TypeInfo {
    pub(super) base_type: String,
    pub(super) base_modifier: i32,
    pub(super) labels: Option<String>,
}

/// What the catalog says of types with their modifiers, for columns that it has no more, or has in another type.
pub(super) async fn types(
    connection: &mut Connection,
    wanted: &[(u32, i32)],
) -> Result<Vec<((u32, i32), TypeInfo)>, PostgresError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = wanted
        .iter()
        .map(|(oid, modifier)| format!("({oid}::oid, {modifier})"))
        .collect();
    let rows = connection
        .query(&format!(
            "SELECT w.oid, w.modifier, b.typname, b.modifier, {labels} FROM (VALUES {list}) w(oid, modifier) \
             JOIN LATERAL {base} b ON true",
            labels = labels_of("b"),
            base = base_of("w.oid", "w.modifier"),
            list = list.join(", ")
        ))
        .await?;
    rows.iter()
        .map(|row| match row.as_slice() {
            [Some(oid), Some(modifier), Some(name), Some(base_modifier), labels] => Ok((
                (number(oid)?, number(modifier)?),
                TypeInfo {
                    base_type: name.clone(),
                    base_modifier: number(base_modifier)?,
                    labels: labels.clone(),
                },
            )),
            _ => Err(PostgresError::Protocol("pg_type has a type without a name".to_owned())),
        })
        .collect()
}
