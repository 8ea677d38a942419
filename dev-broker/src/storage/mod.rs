//! What a broker with a data directory keeps there:
//!
//! ```text
//! DIR/lock                                  held while a broker runs on the directory
//! DIR/journal                               everything that is not a record (journal)
//! DIR/topics/TOPIC_ID/PARTITION/OFFSET.log  record batches (segments)
//! ```

pub mod journal;
pub mod segments;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A data directory that this broker has for itself.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates it if need be and takes its lock.
    ///
    /// # Errors
    /// When it cannot be written, or another broker runs on it.
    pub fn open(path: &Path) -> Result<DataDirectory> {
        fs::create_dir_all(path.join("topics"))?;
        let lock = File::create(path.join("lock"))?;
        lock.try_lock()
            .map_err(|error| Error::new(ErrorKind::ResourceBusy, format!("another broker runs on it ({error})")))?;
        Ok(DataDirectory {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directory of a partition.
    pub fn partition(&self, topic: Uuid, index: usize) -> PathBuf {
        self.topic(topic).join(index.to_string())
    }

    fn topic(&self, id: Uuid) -> PathBuf {
        self.path.join("topics").join(id.simple().to_string())
    }

    /// Removes the files of a topic.
    pub fn remove_topic(&self, id: Uuid) {
        match fs::remove_dir_all(self.topic(id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::error!(%error, topic_id = %id, "files of a deleted topic not removed");
            }
            _ => {}
        }
    }

    /// Removes the files of topics that are not among `known`: their deletion was interrupted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn remove_unknown_topics(&self, known: impl Iterator<Item = Uuid>) -> Result<()> {
        let known: BTreeSet<String> = known.map(|id| id.simple().to_string()).collect();
        for entry in fs::read_dir(self.path.join("topics"))? {
            let entry = entry?;
            let is_known = entry.file_name().to_str().is_some_and(|name| known.contains(name));
            if !is_known {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
