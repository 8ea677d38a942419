//! The meta record of a global store: what serves, what is staged, how far the topic was read. Written with the rows.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};

use super::area::Area;
use super::format::RowFormat;
use super::intake::Intake;
use super::{GlobalSpec, RefusedVersion};
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyed::RebuildReason;
use crate::keyspace::Keyspace;
use connect_api::catalog_marker::Marker;

/// The version of what lies in the two areas and of the record itself. 1 (without the field): keys and values as the topic
/// had them. A copy of any other version is thrown away and read from the topic again.
const COPY_VERSION: u32 = 2;

/// Kept as JSON: it is small, and written once per batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GlobalMeta {
    copy_version: u32,
    pub(crate) topic: String,
    /// The topic's id; none: the brokers have not told it (they are older than 2.8). During a rebuild, which starts again
    /// after a restart, the id of the topic that is read.
    pub(crate) topic_id: Option<[u8; 16]>,
    /// How records became the rows of the copy.
    pub(crate) format: RowFormat,
    /// The area that serves, once one does.
    pub(crate) serving: Option<u8>,
    pub(crate) rows: u64,
    pub(crate) version: Option<u64>,
    pub(crate) positions: BTreeMap<i32, i64>,
    /// Rows that the serving version would gain (or lose) by what is staged.
    pub(crate) staged_rows: i64,
    /// A version has ended at markers: from then on versions are compared, if the gate does that.
    pub(crate) has_markers: bool,
    /// Partitions that have read their marker of the version that is not complete yet.
    pub(crate) at_marker: BTreeMap<i32, Marker>,
    /// A version that passed and is being moved from staging to serving.
    pub(crate) promoting: Option<Promotion>,
    pub(crate) refused: Option<RefusedVersion>,
    /// The topic is being loaded anew beside what serves.
    pub(crate) rebuilding: bool,
    /// The area that does not serve holds what served before.
    pub(crate) clear_staging: bool,
    pub(crate) written_at_ms: i64,
    /// What became of the records up to `positions`.
    pub(crate) intake: Intake,
    /// How often the copy had to be made anew.
    pub(crate) rebuilds: u64,
    pub(crate) last_rebuild: Option<Rebuild>,
}

/// What a keyspace holds for a store.
pub(crate) enum Found {
    Nothing,
    /// A copy of the store as it is declared.
    Copy(Box<GlobalMeta>),
    /// Something else: why it is of no use.
    Other(String),
}

/// A copy that was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// Why.
    pub reason: RebuildReason,
    /// When that was found, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A version on its way from staging to serving.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Promotion {
    pub(crate) version: Option<u64>,
    pub(crate) rows: u64,
}

impl GlobalMeta {
    /// A record for a copy that is to be made.
    pub(crate) fn fresh(spec: &GlobalSpec) -> GlobalMeta {
        GlobalMeta {
            copy_version: COPY_VERSION,
            topic: spec.topic.clone(),
            format: spec.format.clone(),
            ..GlobalMeta::default()
        }
    }

    /// What lies in a keyspace.
    pub(crate) fn find(db: &Database, keyspace: Keyspace, spec: &GlobalSpec) -> Result<Found, StateError> {
        let family = db.family(Family::Positions)?;
        let found = db
            .rocksdb()
            .get_pinned_cf(family, keyspace.meta_key())
            .map_err(StateError::database("reading a global store's position"))?;
        Ok(match found {
            None => Found::Nothing,
            Some(bytes) => usable(&bytes, spec).map_or_else(Found::Other, |meta| Found::Copy(Box::new(meta))),
        })
    }

    /// Deletes whatever lies in a keyspace.
    pub(crate) fn delete(db: &Database, keyspace: Keyspace) -> Result<(), StateError> {
        for number in [0, 1] {
            Area { keyspace, number }.clear(db)?;
        }
        let mut batch = WriteBatch::default();
        batch.delete_cf(db.family(Family::Positions)?, keyspace.meta_key());
        db.write(batch)
    }

    pub(crate) fn put(&self, db: &Database, keyspace: Keyspace, batch: &mut WriteBatch) -> Result<(), StateError> {
        let json = serde_json::to_vec(self).map_err(|error| StateError::Format {
            place: format!("the position of the global store of topic {}", self.topic),
            detail: error.to_string(),
        })?;
        batch.put_cf(db.family(Family::Positions)?, keyspace.meta_key(), json);
        Ok(())
    }
}

/// The record, if the copy is one of this store as it is declared. Error: why it is not.
fn usable(bytes: &[u8], spec: &GlobalSpec) -> Result<GlobalMeta, String> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        copy_version: u32,
    }
    let version = serde_json::from_slice::<Version>(bytes).map_or(0, |version| version.copy_version);
    if version != COPY_VERSION {
        return Err(format!("it is of version {version}, this is {COPY_VERSION}"));
    }
    let meta: GlobalMeta =
        serde_json::from_slice(bytes).map_err(|error| format!("its record cannot be read: {error}"))?;
    if meta.topic != spec.topic {
        return Err(format!("it is of topic {}", meta.topic));
    }
    if meta.format != spec.format {
        return Err("its records were read in another format".to_owned());
    }
    Ok(meta)
}
