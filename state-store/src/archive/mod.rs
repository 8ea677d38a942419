//! The archive: expired entries as Parquet objects, each exactly once, and read back by key.
//!
//! ```text
//! due entries -> IntentLog::propose -> barrier 1: intent record
//!             -> Step::PutObject    -> encode (Parquet) -> Archive::put (If-None-Match: *)
//!             -> Step::Finish       -> barrier 2: manifest record, tombstones of versions that are unchanged
//! a key       -> Manifest::list (which objects may have it) -> Archive::read_key -> KeyedPartition::restore_archived
//! ```
//! Nothing here writes a changelog: the owner puts the records into its own transactions.

mod intent;
mod manifest;
mod parquet_file;

pub use intent::{Intent, IntentLog, Step};
pub use manifest::Manifest;
pub use parquet_file::{encode, entries, find};

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::changelog::EntryVersion;
use crate::error::StateError;
use objects::{Location, S3Settings};

/// An entry read back from the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedEntry {
    /// The store-local key.
    pub key: Bytes,
    /// The value as [`crate::StateValue::encode`] wrote it.
    pub payload: Bytes,
    /// Which version of the key it was.
    pub version: EntryVersion,
    /// When it became invisible, in milliseconds of stream time.
    pub expires_ms: i64,
}

/// What became of an object that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    Written,
    /// An object of that name was there: it was written before, with the same contents.
    AlreadyThere,
}

/// Where objects are kept.
#[derive(Clone, Debug)]
pub struct Archive {
    objects: Arc<dyn ObjectStore>,
}

impl Archive {
    /// Opens `archive.url`: `s3://BUCKET/PREFIX`, `file:///directory` or a plain path, made if it is not there. No request is
    /// made: a server that is down is met by the first put or read.
    ///
    /// Errors: [`StateError::Archive`] for another scheme, by name, a directory that cannot be made, or settings that
    /// contradict each other.
    pub fn open(url: &str, s3: &S3Settings) -> Result<Archive, StateError> {
        let failed = |detail: String| StateError::Archive {
            object: "archive.url".to_owned(),
            detail,
        };
        let objects = Location::parse(url).and_then(|location| location.open(s3));
        Ok(Self::with_objects(objects.map_err(failed)?))
    }

    /// An archive in any object store that honours `PutMode::Create`.
    pub fn with_objects(objects: Arc<dyn ObjectStore>) -> Archive {
        Archive { objects }
    }

    /// Puts an object unless there is one of that name (`If-None-Match: *`).
    pub async fn put(&self, object: &str, bytes: Bytes) -> Result<Put, StateError> {
        let path = Path::from(object);
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&path, bytes.into(), options).await {
            Ok(_) => Ok(Put::Written),
            // S3 also refuses a put while another one of the same name is under way (409 ConditionalRequestConflict), and
            // that one may still fail: entries are deleted on the strength of this answer, so it is asked for the object.
            Err(object_store::Error::AlreadyExists { .. }) => match self.objects.head(&path).await {
                Ok(_) => Ok(Put::AlreadyThere),
                Err(error) => Err(failed(object, &error)),
            },
            Err(error) => Err(failed(object, &error)),
        }
    }

    /// The newest archived version of a key, from the objects of these manifests ([`Manifest::list`]). Parquet is decoded on
    /// the runtime's blocking threads.
    pub async fn read_key(&self, manifests: &[Manifest], key: &[u8]) -> Result<Option<ArchivedEntry>, StateError> {
        for manifest in manifests.iter().filter(|manifest| manifest.may_contain(key)) {
            let path = Path::from(manifest.object.as_str());
            let got = self
                .objects
                .get(&path)
                .await
                .map_err(|error| failed(&manifest.object, &error))?;
            let bytes = got.bytes().await.map_err(|error| failed(&manifest.object, &error))?;
            let (object, wanted) = (manifest.object.clone(), key.to_vec());
            let found = tokio::task::spawn_blocking(move || find(&object, bytes, &wanted))
                .await
                .map_err(|error| failed(&manifest.object, &error))??;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

fn failed(object: &str, error: &impl std::fmt::Display) -> StateError {
    StateError::Archive {
        object: object.to_owned(),
        detail: error.to_string(),
    }
}
