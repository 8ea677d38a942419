//! One RocksDB per worker, under `state.dir`: column families, one shared block cache, one write-buffer budget.
//!
//! Nothing here is written to a write-ahead log: every byte can be read again from a topic (the changelog of a keyed
//! store, the compacted topic of a global one), and the position up to which the local copy follows its topic is written
//! in the same batch as the data. `atomic_flush` keeps that batch whole across column families on disk, so a crash takes
//! the local copy back to an earlier, consistent position, and the topic does the rest.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, LogLevel,
    Options, WriteBatch, WriteBufferManager, WriteOptions,
};

use crate::error::StateError;

/// How much memory the stores of one worker may use. All of it is taken when needed, nothing at opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// RocksDB's shared block cache, with index and filter blocks, in bytes.
    pub block_cache_bytes: usize,
    /// RocksDB's memtables, all column families together, in bytes.
    pub write_buffer_bytes: usize,
    /// Decoded values in the write-back caches of keyed stores, in bytes; open partitions share it evenly.
    pub value_cache_bytes: usize,
    /// Decoded rows of each global store, in bytes.
    pub hot_row_bytes: usize,
    /// The sort buffer with which a global store bulk-loads, in bytes; held only while it bootstraps.
    pub bulk_load_bytes: usize,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        MemoryBudget {
            block_cache_bytes: 16 * MIB,
            write_buffer_bytes: 16 * MIB,
            value_cache_bytes: 64 * MIB,
            hot_row_bytes: 64 * MIB,
            bulk_load_bytes: 32 * MIB,
        }
    }
}

/// The column families, each with the layout of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Keyed rows: keyspace id, changelog key.
    Data,
    /// Expiry index: keyspace id, time of the first place, page; values are pages of places.
    Expiry,
    /// Keyspace names and ids; one meta record (position, counts) per keyspace.
    Positions,
    /// Rows of global stores: keyspace id, area, key.
    Global,
    /// Side records of keyed stores (intents, manifests, records of the owner): keyspace id, changelog key.
    Archive,
}

const FAMILIES: [(Family, &str); 5] = [
    (Family::Data, "data"),
    (Family::Expiry, "expiry"),
    (Family::Positions, "positions"),
    (Family::Global, "global"),
    (Family::Archive, "archive"),
];

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::Data => "data",
            Family::Expiry => "expiry",
            Family::Positions => "positions",
            Family::Global => "global",
            Family::Archive => "archive",
        }
    }
}

/// Where files of rows lie, below the database's directory, until they are taken in.
pub(crate) const BULK_LOAD_DIRECTORY: &str = "bulk";

/// How long the local copy may trail the topics after a crash, when little is written.
const FLUSH_EVERY: Duration = Duration::from_secs(300);

/// One RocksDB per worker. Cloning shares the handle; the last one flushes and closes.
///
/// Open it when the first store is needed: a worker without stores then pays nothing for it.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    path: PathBuf,
    budget: MemoryBudget,
    cache: Cache,
    /// Keyspaces that are open for writing.
    open: Mutex<HashSet<u32>>,
    open_partitions: AtomicUsize,
    started: Instant,
    flushed_ms: AtomicU64,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.inner.path)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the database under `path`, and makes it if there is none.
    ///
    /// Errors: [`StateError::Locked`] when another process has it, [`StateError::Corrupt`] when its files are damaged or
    /// of another program, [`StateError::Directory`] when the directory cannot be made or read.
    pub fn open(path: &Path, budget: MemoryBudget) -> Result<Database, StateError> {
        std::fs::create_dir_all(path).map_err(|error| StateError::Directory {
            path: path.to_path_buf(),
            detail: error.to_string(),
        })?;
        let cache = Cache::new_lru_cache(budget.block_cache_bytes);
        let options = database_options(&budget);
        let families = FAMILIES
            .iter()
            .map(|(_, name)| ColumnFamilyDescriptor::new(*name, family_options(&budget, &cache)));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|error| opening_error(path, &error))?;
        // Files of rows that a process which died had written and not taken in; their store is loaded again.
        let _ = std::fs::remove_dir_all(path.join(BULK_LOAD_DIRECTORY));
        Ok(Database {
            inner: Arc::new(Inner {
                db,
                path: path.to_path_buf(),
                budget,
                cache,
                open: Mutex::new(HashSet::new()),
                open_partitions: AtomicUsize::new(0),
                started: Instant::now(),
                flushed_ms: AtomicU64::new(0),
            }),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The budget it was opened with.
    pub fn budget(&self) -> &MemoryBudget {
        &self.inner.budget
    }

    /// Bytes in the block cache and in memtables.
    pub fn memory_bytes(&self) -> usize {
        let memtables = self
            .inner
            .db
            .property_int_value("rocksdb.cur-size-all-mem-tables")
            .ok()
            .flatten()
            .unwrap_or(0);
        self.inner.cache.get_usage() + usize::try_from(memtables).unwrap_or(0)
    }

    /// Writes every memtable to disk, all column families together.
    pub fn flush(&self) -> Result<(), StateError> {
        self.inner.flush(true)
    }

    pub(crate) fn rocksdb(&self) -> &DB {
        &self.inner.db
    }

    pub(crate) fn family(&self, family: Family) -> Result<&ColumnFamily, StateError> {
        self.inner
            .db
            .cf_handle(family.name())
            .ok_or_else(|| StateError::Corrupt {
                path: self.inner.path.clone(),
                detail: format!("column family {} is missing", family.name()),
            })
    }

    /// Options for files that are to be taken into a column family.
    pub(crate) fn file_options(&self) -> Options {
        family_options(&self.inner.budget, &self.inner.cache)
    }

    /// Writes a batch without the write-ahead log, and flushes when the last flush is long ago.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), StateError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.inner
            .db
            .write_opt(batch, &options)
            .map_err(StateError::database("writing a batch"))?;
        let now_ms = u64::try_from(self.inner.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let flushed_ms = self.inner.flushed_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(flushed_ms) > u64::try_from(FLUSH_EVERY.as_millis()).unwrap_or(u64::MAX)
            && self
                .inner
                .flushed_ms
                .compare_exchange(flushed_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.inner.flush(false)?;
        }
        Ok(())
    }

    /// Marks a keyspace as open for writing. False: somebody else has it open.
    pub(crate) fn claim(&self, keyspace: u32) -> bool {
        self.inner.open.lock().insert(keyspace)
    }

    pub(crate) fn release(&self, keyspace: u32) {
        self.inner.open.lock().remove(&keyspace);
    }

    /// The lock under which keyspace ids are given out.
    pub(crate) fn naming_lock(&self) -> parking_lot::MutexGuard<'_, HashSet<u32>> {
        self.inner.open.lock()
    }

    /// Counts a partition with a value cache in (`true`) or out.
    pub(crate) fn count_partition(&self, opened: bool) {
        if opened {
            self.inner.open_partitions.fetch_add(1, Ordering::Relaxed);
        } else {
            self.inner.open_partitions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// One partition's even share of the value cache, in bytes.
    pub(crate) fn value_cache_share(&self) -> usize {
        self.inner.budget.value_cache_bytes / self.inner.open_partitions.load(Ordering::Relaxed).max(1)
    }
}

impl Inner {
    fn flush(&self, wait: bool) -> Result<(), StateError> {
        let families: Vec<&ColumnFamily> = FAMILIES
            .iter()
            .filter_map(|(_, name)| self.db.cf_handle(name))
            .collect();
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(StateError::database("flushing"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.flush(true) {
            tracing::warn!(path = %self.path.display(), error = %error, "state database closed without a flush");
        }
    }
}

fn database_options(budget: &MemoryBudget) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
        budget.write_buffer_bytes,
        false,
    ));
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

fn family_options(budget: &MemoryBudget, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(8 << 10);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    // A key that is new, as most keys that the cache does not have are, is not searched for in the memtable.
    options.set_memtable_prefix_bloom_ratio(0.05);
    options.set_memtable_whole_key_filtering(true);
    // Atomic flush makes every family flush when one is full, so each may grow to half of what there is for all.
    options.set_write_buffer_size((budget.write_buffer_bytes / 2).max(64 << 10));
    options.set_target_file_size_base(32 << 20);
    options
}

fn opening_error(path: &Path, error: &rocksdb::Error) -> StateError {
    let path = path.to_path_buf();
    let detail = error.to_string();
    let locked = detail.contains("LOCK") || detail.contains("lock hold");
    match error.kind() {
        rocksdb::ErrorKind::IOError | rocksdb::ErrorKind::Busy if locked => StateError::Locked { path, detail },
        rocksdb::ErrorKind::Corruption
        | rocksdb::ErrorKind::InvalidArgument
        | rocksdb::ErrorKind::NotSupported
        | rocksdb::ErrorKind::Incomplete => StateError::Corrupt { path, detail },
        _ if detail.contains("No such file") || detail.contains("Corruption") => StateError::Corrupt { path, detail },
        _ => StateError::Directory { path, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_handle_is_told_that_the_directory_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Database::open(directory.path(), MemoryBudget::default()).unwrap();
        let second = Database::open(directory.path(), MemoryBudget::default());
        assert!(matches!(second, Err(StateError::Locked { .. })), "{second:?}");
    }

    #[test]
    fn damaged_files_are_reported_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        drop(Database::open(directory.path(), MemoryBudget::default()).unwrap());
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap().path();
            if file.file_name().unwrap().to_string_lossy().starts_with("MANIFEST") {
                std::fs::write(&file, b"not a manifest at all").unwrap();
            }
        }
        let error = Database::open(directory.path(), MemoryBudget::default()).unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("rebuilt from the changelog"));
    }

    #[test]
    fn a_path_that_is_a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Database::open(file.path(), MemoryBudget::default()).unwrap_err();
        assert!(matches!(error, StateError::Directory { .. }), "{error:?}");
    }
}
