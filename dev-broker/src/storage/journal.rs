//! The journal: one line per change of anything that is not a record (topics, settings, groups,
//! transactions), `CRC32C JSON`, appended. A line that a crash has cut is dropped at the next start,
//! and the journal is then written anew as the state it leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::committed_offsets::{CommittedOffset, PartitionKey};

/// Name of the journal in the data directory.
pub const FILE_NAME: &str = "journal";

/// Where a transactional id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionState {
    /// No transaction since its producer was initialised.
    Empty,
    /// Partitions or offsets were added.
    Ongoing,
    /// Decided: commit, not all markers written.
    PrepareCommit,
    /// Decided: abort, not all markers written.
    PrepareAbort,
    /// Committed.
    CompleteCommit,
    /// Aborted.
    CompleteAbort,
}

/// Everything about a transactional id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransactionalProducer {
    /// Its producer id.
    pub producer_id: i64,
    /// Its epoch; older ones are fenced.
    pub epoch: i16,
    /// The epoch before the broker itself aborted a transaction that took too long: its producer
    /// may go on by initialising again (KIP-360).
    pub epoch_before_timeout: Option<i16>,
    /// An open transaction is aborted after so long, milliseconds.
    pub timeout_ms: i32,
    /// Where it is.
    pub state: TransactionState,
    /// Partitions in the transaction.
    #[serde(with = "partition_list")]
    pub partitions: BTreeSet<PartitionKey>,
    /// Groups with offsets in the transaction.
    pub groups: BTreeSet<String>,
    /// When the transaction began, milliseconds since 1970.
    pub started_ms: i64,
}

mod partition_list {
    use super::{BTreeSet, PartitionKey};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(set: &BTreeSet<PartitionKey>, serializer: S) -> Result<S::Ok, S::Error> {
        set.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<PartitionKey>, D::Error> {
        Ok(Vec::<PartitionKey>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Entry {
    /// The cluster's id, once.
    Cluster { id: String },
    /// A topic is there, with so many partitions and its own settings.
    TopicCreated {
        name: String,
        id: u128,
        partitions: i32,
        config: BTreeMap<String, String>,
    },
    /// A topic is gone, with the offsets that groups had of it.
    TopicDeleted { name: String },
    /// A topic has that many partitions now.
    PartitionsAdded { name: String, partitions: i32 },
    /// A topic's own settings now.
    ConfigChanged {
        name: String,
        config: BTreeMap<String, String>,
    },
    /// Records before the offset are deleted.
    LogStart { topic: String, partition: i32, offset: i64 },
    /// A rebalance began a generation.
    Generation {
        group: String,
        generation: i32,
        protocol_type: Option<String>,
    },
    /// A group committed offsets.
    Offsets {
        group: String,
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    },
    /// Offsets of a group are deleted.
    OffsetsDeleted {
        group: String,
        partitions: Vec<PartitionKey>,
    },
    /// A group is deleted.
    GroupDeleted { group: String },
    /// Offsets of an open transaction.
    PendingOffsets {
        group: String,
        producer_id: i64,
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    },
    /// The transaction that the pending offsets belong to has ended.
    PendingEnded {
        group: String,
        producer_id: i64,
        commit: bool,
    },
    /// Producer ids below this one are given out.
    NextProducerId { next: i64 },
    /// A transactional id as it is now.
    Transaction {
        transactional_id: String,
        producer: TransactionalProducer,
    },
}

/// The journal's writing end; without a data directory it keeps nothing. Clones share the file.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    file: Option<Arc<Mutex<File>>>,
}

impl Journal {
    /// Appends one entry. A disk that does not take it is logged: the broker goes on in memory.
    pub fn record(&self, entry: &Entry) {
        let Some(file) = &self.file else { return };
        let written = encode(entry).and_then(|line| file.lock().write_all(&line));
        if let Err(error) = written {
            tracing::error!(%error, "the journal of the broker cannot be written");
        }
    }

    /// Reads what the journal in `directory` holds.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(directory: &Path) -> std::io::Result<Vec<Entry>> {
        let bytes = match std::fs::read(directory.join(FILE_NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match decode(line) {
                Some(entry) => entries.push(entry),
                None => {
                    tracing::warn!(entries = entries.len(), "the journal ends in a cut line");
                    break;
                }
            }
        }
        Ok(entries)
    }

    /// Writes the journal anew with `entries` and opens it for appending.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn rewrite(directory: &Path, entries: &[Entry]) -> std::io::Result<Journal> {
        let path: PathBuf = directory.join(FILE_NAME);
        let new = directory.join("journal.new");
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(encode(entry)?);
        }
        std::fs::write(&new, bytes)?;
        std::fs::rename(&new, &path)?;
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Journal {
            file: Some(Arc::new(Mutex::new(file))),
        })
    }
}

fn encode(entry: &Entry) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Option<Entry> {
    let line = line.strip_suffix(b"\n")?;
    let checksum = u32::from_str_radix(std::str::from_utf8(line.get(..8)?).ok()?, 16).ok()?;
    let json = line.get(9..)?;
    if crc32c::crc32c(json) != checksum {
        return None;
    }
    serde_json::from_slice(json).ok()
}
