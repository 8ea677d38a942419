//! Object stores by URL, for the archive and for whoever else keeps things as objects.
//!
//! ```text
//! URL text -> Location (scheme, bucket, prefix: pure) -> open(Location, S3Settings) -> dyn ObjectStore below the prefix
//! ```
//! `file:///directory` (or a plain path) and `s3://BUCKET/PREFIX`. Opening makes no request: a server that is down is met
//! by the first read or write.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod s3;
mod signing;

pub use s3::S3Settings;

use std::path::PathBuf;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};

/// Where objects are, as a URL says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `file:///directory`, `file:directory` or a plain path.
    Directory(PathBuf),
    /// `s3://BUCKET/PREFIX`.
    S3 {
        /// the bucket
        bucket: String,
        /// the path below it, without slashes at its ends; may be empty
        prefix: String,
    },
}

impl Location {
    /// Reads a URL. Errors say what is wrong with it, without the option's name, which the caller knows.
    pub fn parse(url: &str) -> Result<Location, String> {
        match url.split_once("://") {
            None => Ok(Location::Directory(url.strip_prefix("file:").unwrap_or(url).into())),
            Some(("file", path)) => Ok(Location::Directory(path.into())),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.contains('@') {
                    return Err(
                        "credentials do not belong in a URL: use s3.access.key.id and s3.secret.access.key".into(),
                    );
                }
                if let Some(part) = ["?", "#"].iter().find(|part| rest.contains(**part)) {
                    return Err(format!(
                        "{part} is not supported in an s3: URL; write s3://BUCKET/PREFIX"
                    ));
                }
                if bucket.is_empty()
                    || !bucket
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
                {
                    return Err(format!(
                        "`{bucket}` is not the name of a bucket; write s3://BUCKET/PREFIX"
                    ));
                }
                let prefix = prefix.trim_matches('/');
                Path::parse(prefix).map_err(|error| format!("its prefix is not a path: {error}"))?;
                Ok(Location::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                })
            }
            Some((scheme, _)) => Err(format!(
                "scheme {scheme} is not supported; use s3://BUCKET/PREFIX or file:///directory"
            )),
        }
    }

    /// Opens it for writing and reading: a directory is made if it is not there, and files are synced to the disk.
    ///
    /// Errors: the directory cannot be made; S3 settings that contradict each other, by option name.
    pub fn open(&self, s3: &S3Settings) -> Result<Arc<dyn ObjectStore>, String> {
        match self {
            Location::Directory(directory) => {
                std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
                let objects = LocalFileSystem::new_with_prefix(directory).map_err(|error| error.to_string())?;
                Ok(Arc::new(objects.with_fsync(true)))
            }
            Location::S3 { bucket, prefix } => {
                let objects = s3.bucket(bucket)?;
                Ok(match prefix.is_empty() {
                    true => Arc::new(objects),
                    false => Arc::new(PrefixStore::new(objects, prefix.as_str())),
                })
            }
        }
    }
}

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is none of that name, or it is not what was asked for: reading it again gives the same.
    #[error("{0}")]
    Unusable(String),
    /// The store did not give it: it is down, refuses, or cannot be reached. Another attempt may succeed.
    #[error("{0}")]
    Unreachable(String),
}

/// Reads an object of at most so many bytes.
pub async fn read_object(objects: &dyn ObjectStore, key: &str, most: u64) -> Result<Vec<u8>, ReadError> {
    let failed = |error: object_store::Error| match error {
        object_store::Error::NotFound { .. } => ReadError::Unusable(error.to_string()),
        _ => ReadError::Unreachable(error.to_string()),
    };
    let path = Path::parse(key).map_err(|error| ReadError::Unusable(error.to_string()))?;
    let found = objects.get(&path).await.map_err(failed)?;
    if found.meta.size > most {
        let size = found.meta.size;
        return Err(ReadError::Unusable(format!(
            "has {size} bytes, more than the limit of {most}"
        )));
    }
    Ok(found.bytes().await.map_err(failed)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read_or_refused_with_a_reason() {
        let s3 = |bucket: &str, prefix: &str| {
            Ok(Location::S3 {
                bucket: bucket.into(),
                prefix: prefix.into(),
            })
        };
        for (url, expected) in [
            ("/var/archive", Ok(Location::Directory("/var/archive".into()))),
            ("file:///var/archive", Ok(Location::Directory("/var/archive".into()))),
            ("file:archive", Ok(Location::Directory("archive".into()))),
            ("s3://cold", s3("cold", "")),
            ("s3://cold/", s3("cold", "")),
            ("s3://cold.eu/millrace/one/", s3("cold.eu", "millrace/one")),
            ("s3:///prefix", Err("not the name of a bucket")),
            ("s3://key:secret@cold/a", Err("s3.access.key.id")),
            ("s3://cold/a?versionId=1", Err("? is not supported")),
            ("s3://cold/a/../b", Err("prefix")),
            ("gs://cold/a", Err("scheme gs is not supported")),
        ] {
            match (Location::parse(url), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{url}"),
                (Err(error), Err(words)) => {
                    assert!(error.contains(words), "{url}: {error}");
                    assert!(!error.contains("secret@"), "{error}");
                }
                (found, expected) => panic!("{url}: {found:?}, expected {expected:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_location_or_an_error(url in "(s3://|file:|x:)?[ -~]{0,30}") {
            let _ = Location::parse(&url);
        }
    }
}
