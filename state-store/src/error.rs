//! Everything that can go wrong in a store, said so that the reader knows what to do.

use std::path::PathBuf;

/// An error of a state store. Each message names the directory, store, key or object concerned and what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// Another process (or another open handle in this one) holds the directory.
    #[error(
        "state.dir {path} is in use by another process: give every worker its own state.dir, or stop the other one ({detail})"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// RocksDB's words.
        detail: String,
    },
    /// The directory holds files that RocksDB cannot read, or of a newer version of millrace.
    #[error(
        "state.dir {path} cannot be read ({detail}): stop the worker, move the directory away and start again; state is rebuilt from the changelog topics"
    )]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The directory cannot be made or opened.
    #[error("state.dir {path} cannot be opened: {detail}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The operating system's words.
        detail: String,
    },
    /// RocksDB refused an operation while the database was open (disk full, a file damaged, ...).
    #[error("the state database failed while {during}: {detail}")]
    Database {
        /// What was being done.
        during: &'static str,
        /// RocksDB's words.
        detail: String,
    },
    /// The same partition of a store is open twice.
    #[error("{keyspace} is already open on this worker: its former task has not closed it yet")]
    AlreadyOpen {
        /// Connector, store and partition.
        keyspace: String,
    },
    /// Changes of a barrier that was aborted, or that were handed back out of order.
    #[error(
        "changes of barrier {sequence} of {keyspace} do not follow on what is committed: abort, and go on from the committed position"
    )]
    StaleChanges {
        /// Connector, store and partition.
        keyspace: String,
        /// The barrier's number.
        sequence: u64,
    },
    /// Bytes that are not what this version writes.
    #[error("{place} holds a record that cannot be read: {detail}")]
    Format {
        /// Where the bytes come from: store, partition, key or object.
        place: String,
        /// What is wrong with them.
        detail: String,
    },
    /// A changelog that another pair of connector and store writes, whose topic has the same name.
    #[error(
        "the changelog of {keyspace} is written by connector {connector} for its store {store}: their topics have one name; give a connector or a store another name"
    )]
    AnothersChangelog {
        /// Who was going to use it: connector, store and partition.
        keyspace: String,
        /// Whose it is.
        connector: String,
        /// For which store.
        store: String,
    },
    /// The object store refused an operation.
    #[error("archive object {object}: {detail}")]
    Archive {
        /// The object's name below the archive's root.
        object: String,
        /// The store's words.
        detail: String,
    },
    /// A setting of a store is wrong.
    #[error("store {store}: {detail}")]
    Setting {
        /// The store.
        store: String,
        /// What is wrong, and what would be right.
        detail: String,
    },
    /// The topic behind a global store cannot be read.
    #[error("global store {store}: topic {topic} cannot be read: {detail}")]
    Topic {
        /// The store.
        store: String,
        /// Its topic.
        topic: String,
        /// What failed.
        detail: String,
    },
}

impl StateError {
    /// An error of RocksDB during an operation on an open database.
    pub(crate) fn database(during: &'static str) -> impl FnOnce(rocksdb::Error) -> StateError {
        move |error| StateError::Database {
            during,
            detail: error.to_string(),
        }
    }
}
