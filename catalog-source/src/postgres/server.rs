//! What must be true of the server before anything is captured: logical decoding, rights, the publication, the slot.

use super::config::{Autocreate, PostgresConfig};
use super::connection::{Connection, identifier, literal};
use super::error::{PostgresError, ServerError};
use super::history::{self, History, ServerLog};
use super::plan::Slot;
use super::tables::Table;
use connect_api::ConnectError;

/// SQLSTATE of a slot that somebody else reads.
pub(super) const OBJECT_IN_USE: &str = "55006";

/// Something that must be put right, and the option that names it.
pub(super) struct Requirement {
    pub(super) option: &'static str,
    pub(super) message: String,
}

/// Checks `wal_level`, the role and, where it must be there, the publication.
pub(super) async fn requirements(
    connection: &mut Connection,
    config: &PostgresConfig,
) -> Result<Vec<Requirement>, PostgresError> {
    let mut missing = Vec::new();
    let rows = connection
        .query(&format!(
            "SELECT current_setting('wal_level'), (r.rolreplication OR r.rolsuper OR EXISTS (SELECT 1 FROM pg_catalog.pg_roles g \
             WHERE g.rolname IN ('rds_superuser', 'rdsadmin', 'rdsrepladmin', 'rds_replication') \
             AND pg_has_role(r.oid, g.oid, 'member'))), \
             EXISTS (SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = {}) \
             FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
            literal(&config.publication)
        ))
        .await?;
    let Some([Some(wal_level), Some(replicates), Some(published)]) = rows.first().map(Vec::as_slice) else {
        return Err(PostgresError::Protocol(
            "pg_roles does not know the current user".to_owned(),
        ));
    };
    if wal_level != "logical" {
        missing.push(Requirement {
            option: "database.hostname",
            message: format!(
                "the server's wal_level is {wal_level}, it must be logical: set wal_level = logical in postgresql.conf and \
                 restart PostgreSQL"
            ),
        });
    }
    if replicates != "t" {
        missing.push(Requirement {
            option: "database.user",
            message: format!(
                "role {0} may not replicate: run ALTER ROLE {0} REPLICATION as a superuser",
                config.server.user
            ),
        });
    }
    if config.autocreate == Autocreate::Disabled && published != "t" {
        missing.push(Requirement {
            option: "publication.name",
            message: format!(
                "there is no publication {0} in database {1}, and publication.autocreate.mode=disabled forbids to make it: \
                 run CREATE PUBLICATION {0} FOR TABLE ..., or choose filtered",
                config.publication, config.server.database
            ),
        });
    }
    Ok(missing)
}

/// Where the server's log is, from a connection for replication.
pub(super) async fn log(connection: &mut Connection) -> Result<ServerLog, PostgresError> {
    let rows = connection.query("IDENTIFY_SYSTEM").await?;
    let Some([Some(system), Some(timeline), Some(end), ..]) = rows.first().map(Vec::as_slice) else {
        return Err(PostgresError::Protocol("the server does not say who it is".to_owned()));
    };
    let parsed = (system.parse(), timeline.parse(), parse_lsn(end));
    let (Ok(system), Ok(timeline), Some(end)) = parsed else {
        return Err(PostgresError::Protocol(format!(
            "the server says that it is {system} on timeline {timeline} at {end}"
        )));
    };
    let mut left = Vec::new();
    if timeline > 1 {
        let rows = connection.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        if let Some([_, Some(file)]) = rows.first().map(Vec::as_slice) {
            left = history::timelines(file);
        }
    }
    Ok(ServerLog {
        history: History { system, timeline },
        end,
        left,
    })
}

/// The server's version, 150003 for 15.3.
pub(super) async fn version(connection: &mut Connection) -> Result<u32, PostgresError> {
    let rows = connection.query("SHOW server_version_num").await?;
    let number = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| PostgresError::Protocol("the server does not say its version".to_owned()))
}

/// Makes the publication, or brings its tables up to date, as `publication.autocreate.mode` says.
pub(super) async fn ensure_publication(
    connection: &mut Connection,
    config: &PostgresConfig,
    tables: &[Table],
) -> Result<(), PostgresError> {
    let publication = identifier(&config.publication);
    let rows = connection
        .query(&format!(
            "SELECT p.puballtables, (SELECT string_agg(r.prrelid::text, ',' ORDER BY r.prrelid) \
             FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid) \
             FROM pg_catalog.pg_publication p WHERE p.pubname = {}",
            literal(&config.publication)
        ))
        .await?;
    let names: Vec<String> = tables
        .iter()
        .map(|table| format!("{}.{}", identifier(&table.name.schema), identifier(&table.name.table)))
        .collect();
    let names = names.join(", ");
    let root = match config.via_partition_root {
        true => " WITH (publish_via_partition_root = true)",
        false => "",
    };
    let statement = match (config.autocreate, rows.first().map(Vec::as_slice)) {
        (Autocreate::Disabled, _) | (Autocreate::AllTables, Some(_)) => return Ok(()),
        (Autocreate::AllTables, None) => format!("CREATE PUBLICATION {publication} FOR ALL TABLES{root}"),
        // a publication that is changed cannot name no table, and what is dropped leaves it anyway
        (Autocreate::Filtered, Some(_)) if tables.is_empty() => return Ok(()),
        (Autocreate::Filtered, None) if tables.is_empty() => format!("CREATE PUBLICATION {publication}{root}"),
        (Autocreate::Filtered, None) => format!("CREATE PUBLICATION {publication} FOR TABLE {names}{root}"),
        (Autocreate::Filtered, Some([all, published])) => {
            let mut oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
            oids.sort_unstable();
            let wanted: Vec<String> = oids.iter().map(u32::to_string).collect();
            if all.as_deref() == Some("t") || published.as_deref() == Some(wanted.join(",").as_str()) {
                return Ok(());
            }
            format!("ALTER PUBLICATION {publication} SET TABLE {names}")
        }
        (Autocreate::Filtered, Some(_)) => return Ok(()),
    };
    tracing::info!(
        publication = config.publication,
        statement,
        "bringing the publication up to date"
    );
    match connection.query(&statement).await {
        Ok(_) => Ok(()),
        Err(PostgresError::Server(error)) => Err(PostgresError::Task(ConnectError::fatal(format!(
            "publication {} could not be made or changed for role {}: {}; let a superuser run {statement}, or set \
             publication.autocreate.mode=disabled",
            config.publication, config.server.user, error.message
        )))),
        Err(error) => Err(error),
    }
}

/// The connector's slot, and who reads it.
pub(super) struct SlotState {
    pub(super) slot: Slot,
    /// process of the server
    reader: Option<String>,
}

impl SlotState {
    /// The slot, if nobody reads it.
    ///
    /// # Errors
    /// Somebody does ([`OBJECT_IN_USE`]).
    pub(super) fn free(self, config: &PostgresConfig) -> Result<Slot, PostgresError> {
        match self.reader {
            None => Ok(self.slot),
            Some(reader) => Err(PostgresError::Server(ServerError {
                code: OBJECT_IN_USE.to_owned(),
                message: format!("replication slot {} is active for PID {reader}", config.slot),
                ..ServerError::default()
            })),
        }
    }
}

/// Looks at the connector's slot.
///
/// # Errors
/// A slot of another plug-in or database.
pub(super) async fn slot(connection: &mut Connection, config: &PostgresConfig) -> Result<SlotState, PostgresError> {
    let rows = connection
        .query(&format!(
            "SELECT s.plugin, s.database, s.active_pid, (s.confirmed_flush_lsn - '0/0'::pg_lsn)::text, \
             to_jsonb(s) ->> 'wal_status' FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = {}",
            literal(&config.slot)
        ))
        .await?;
    let Some([plugin, database, reader, confirmed, status]) = rows.first().map(Vec::as_slice) else {
        return Ok(SlotState {
            slot: Slot::Missing,
            reader: None,
        });
    };
    let wrong = |what: String| {
        Err(PostgresError::Task(ConnectError::fatal(format!(
            "replication slot {} {what}: choose another slot.name",
            config.slot
        ))))
    };
    if plugin.as_deref() != Some("pgoutput") {
        return wrong(format!(
            "is of plug-in {}, not pgoutput",
            plugin.as_deref().unwrap_or("none")
        ));
    }
    if database.as_deref() != Some(config.server.database.as_str()) {
        return wrong(format!(
            "belongs to database {}",
            database.as_deref().unwrap_or_default()
        ));
    }
    let slot = match (
        status.as_deref(),
        confirmed.as_deref().and_then(|text| text.parse().ok()),
    ) {
        (Some("lost"), _) => Slot::Lost,
        (_, Some(confirmed)) => Slot::Holds(confirmed),
        (_, None) if reader.is_some() => Slot::Missing, // it is being made
        (_, None) => return wrong("has no position yet".to_owned()),
    };
    Ok(SlotState {
        slot,
        reader: reader.clone(),
    })
}

/// Makes the slot. With `in_snapshot` the transaction that is open, and has done nothing yet, then reads the tables exactly as
/// they were at the slot's first position, which is returned.
pub(super) async fn create_slot(
    connection: &mut Connection,
    config: &PostgresConfig,
    in_snapshot: bool,
) -> Result<u64, PostgresError> {
    let snapshot = if in_snapshot {
        "USE_SNAPSHOT"
    } else {
        "NOEXPORT_SNAPSHOT"
    };
    tracing::info!(
        slot = config.slot,
        "creating the replication slot, which waits for transactions that are open now"
    );
    let rows = connection
        .query(&format!(
            "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput {snapshot}",
            identifier(&config.slot)
        ))
        .await?;
    rows.first()
        .and_then(|row| row.get(1))
        .and_then(Option::as_deref)
        .and_then(parse_lsn)
        .ok_or_else(|| PostgresError::Protocol("the server made a slot without a position".to_owned()))
}

/// Drops the slot.
pub(super) async fn drop_slot(connection: &mut Connection, config: &PostgresConfig) -> Result<(), PostgresError> {
    let name = literal(&config.slot);
    connection
        .query(&format!("SELECT pg_catalog.pg_drop_replication_slot({name})"))
        .await
        .map(drop)
}

/// `16/B374D848` as a number.
pub(super) fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(half(high)? << 32 | half(low)?)
}

/// A number as `16/B374D848`.
pub(super) fn format_lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_come_back(lsn in any::<u64>()) {
            prop_assert_eq!(parse_lsn(&format_lsn(lsn)), Some(lsn));
        }
    }

    #[test]
    fn positions_are_written_as_postgresql_writes_them() {
        assert_eq!(format_lsn(0x16_B374_D848), "16/B374D848");
        assert_eq!(parse_lsn("nonsense"), None);
    }
}
