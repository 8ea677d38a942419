//! The meta record of a global store: what serves, what is staged, how far the topic was read. Written with the rows.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;
use serde::{Deserialize, Serialize};

use super::RefusedVersion;
use super::area::Area;
use super::marker::Marker;
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyspace::Keyspace;

/// Kept as JSON: it is small, and written once per batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GlobalMeta {
    pub(crate) topic: String,
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
}

/// A version on its way from staging to serving.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Promotion {
    pub(crate) version: Option<u64>,
    pub(crate) rows: u64,
}

impl GlobalMeta {
    /// The record of a store, or a fresh one; a copy of another topic is deleted.
    pub(crate) fn open(db: &Database, keyspace: Keyspace, topic: &str) -> Result<GlobalMeta, StateError> {
        let family = db.family(Family::Positions)?;
        let found = db
            .rocksdb()
            .get_pinned_cf(family, keyspace.meta_key())
            .map_err(StateError::database("reading a global store's position"))?;
        let found = found.map(|bytes| {
            serde_json::from_slice::<GlobalMeta>(&bytes).map_err(|error| StateError::Format {
                place: format!("the position of the global store of topic {topic}"),
                detail: error.to_string(),
            })
        });
        match found.transpose()? {
            Some(meta) if meta.topic == topic => Ok(meta),
            found => {
                if let Some(other) = found {
                    tracing::info!(topic, former = %other.topic, "global store reads another topic than before, its copy is deleted");
                    for number in [0, 1] {
                        Area { keyspace, number }.clear(db)?;
                    }
                }
                Ok(GlobalMeta {
                    topic: topic.to_owned(),
                    ..GlobalMeta::default()
                })
            }
        }
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
