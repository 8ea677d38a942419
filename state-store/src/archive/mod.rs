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
pub use parquet_file::{encode, find};

use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::changelog::EntryVersion;
use crate::error::StateError;

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
    /// Opens `archive.url`: `file:///directory` (or a plain path), made if it is not there.
    ///
    /// Errors: [`StateError::Archive`] for another scheme, by name, or a directory that cannot be made.
    pub fn open(url: &str) -> Result<Archive, StateError> {
        let failed = |detail: String| StateError::Archive {
            object: format!("archive.url {url}"),
            detail,
        };
        let directory = match url.split_once("://") {
            None => url,
            Some(("file", path)) => path,
            Some((scheme, _)) => {
                return Err(failed(format!(
                    "scheme {scheme} is not supported: use file:///directory"
                )));
            }
        };
        std::fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(directory).map_err(|error| failed(error.to_string()))?;
        Ok(Self::with_objects(Arc::new(objects.with_fsync(true))))
    }

    /// An archive in any object store that honours `PutMode::Create`.
    pub fn with_objects(objects: Arc<dyn ObjectStore>) -> Archive {
        Archive { objects }
    }

    /// Puts an object unless there is one of that name (`If-None-Match: *`).
    pub async fn put(&self, object: &str, bytes: Bytes) -> Result<Put, StateError> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&Path::from(object), bytes.into(), options).await {
            Ok(_) => Ok(Put::Written),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::AlreadyThere),
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
