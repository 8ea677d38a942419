//! Decoded rows in memory, before RocksDB: sharded hash maps under short shared locks.
//!
//! Filled by reads, bounded in bytes; a key that has no row is remembered too. A fill holds a ticket from before it read
//! RocksDB, and is dropped if the shard has changed since, so that no reader puts an old row back over a newer one. While the
//! writer is at work nothing is filled, and a reader that read RocksDB across its beginning or end looks again: otherwise it
//! could have a new row from there, and then an old one from memory.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hashbrown::{DefaultHashBuilder, HashTable};
use parking_lot::RwLock;

const SHARDS: usize = 64;

pub(crate) struct HotRows<R> {
    shards: Vec<RwLock<Shard<R>>>,
    hasher: DefaultHashBuilder,
    shard_budget: usize,
    bytes: AtomicUsize,
    /// Counts beginnings and ends of the writer's work: odd while it is at work.
    epoch: AtomicU64,
}

/// The writer is at work for as long as this lives.
pub(crate) struct Changing<'a>(&'a AtomicU64);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

struct Shard<R> {
    rows: HashTable<HotRow<R>>,
    /// Counts changes of the rows behind this shard.
    version: u64,
    bytes: usize,
}

struct HotRow<R> {
    hash: u64,
    key: Box<[u8]>,
    row: Option<Arc<R>>,
    bytes: usize,
    used: AtomicBool,
}

/// What a lookup found.
pub(crate) enum Lookup<R> {
    /// The row, or that there is none.
    Known(Option<Arc<R>>),
    /// Not in memory; the ticket goes with the fill.
    Unknown(Ticket),
}

/// From before a row was read.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    hash: u64,
    version: u64,
    epoch: u64,
}

impl<R> HotRows<R> {
    pub(crate) fn new(budget_bytes: usize) -> HotRows<R> {
        let shard = || {
            RwLock::new(Shard {
                rows: HashTable::new(),
                version: 0,
                bytes: 0,
            })
        };
        HotRows {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: DefaultHashBuilder::default(),
            shard_budget: budget_bytes / SHARDS,
            bytes: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
        }
    }

    /// Tells that rows behind these are going to change; one writer at a time. They have changed, and are invalidated, when
    /// the guard is dropped.
    pub(crate) fn changing(&self) -> Changing<'_> {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        Changing(&self.epoch)
    }

    /// Whether the writer has neither begun nor ended since the ticket was taken: what was read meanwhile may be used.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.epoch.load(Ordering::Acquire) == ticket.epoch
    }

    /// Bytes of all rows, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn lookup(&self, key: &[u8]) -> Lookup<R> {
        let hash = self.hasher.hash_one(key);
        let epoch = self.epoch.load(Ordering::Acquire);
        let Some(shard) = self.shard(hash) else {
            return Lookup::Unknown(Ticket {
                hash,
                version: 0,
                epoch,
            });
        };
        let shard = shard.read();
        match shard.rows.find(hash, |row| *row.key == *key) {
            Some(row) => {
                // Only the first reader after an eviction pass writes to the shared line.
                if !row.used.load(Ordering::Relaxed) {
                    row.used.store(true, Ordering::Relaxed);
                }
                Lookup::Known(row.row.clone())
            }
            None => Lookup::Unknown(Ticket {
                hash,
                version: shard.version,
                epoch,
            }),
        }
    }

    /// Remembers what was read of a key; `bytes` is about what it costs.
    pub(crate) fn fill(&self, key: &[u8], ticket: Ticket, row: Option<Arc<R>>, bytes: usize) {
        let bytes = bytes + key.len() + std::mem::size_of::<HotRow<R>>() + 8;
        let Some(shard) = self.shard(ticket.hash) else { return };
        let mut shard = shard.write();
        let at_work = !ticket.epoch.is_multiple_of(2) || !self.is_current(ticket);
        if at_work || shard.version != ticket.version || bytes > self.shard_budget {
            return;
        }
        if shard.rows.find(ticket.hash, |row| *row.key == *key).is_some() {
            return;
        }
        if shard.bytes + bytes > self.shard_budget {
            let freed = shard.evict(self.shard_budget / 8 * 7);
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
        }
        shard.bytes += bytes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let row = HotRow {
            hash: ticket.hash,
            key: key.into(),
            row,
            bytes,
            used: AtomicBool::new(true),
        };
        shard.rows.insert_unique(ticket.hash, row, |row| row.hash);
    }

    /// The row behind a key has changed. Call after the change can be read.
    pub(crate) fn invalidate(&self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        let Some(shard) = self.shard(hash) else { return };
        let mut shard = shard.write();
        shard.version += 1;
        if let Ok(found) = shard.rows.find_entry(hash, |row| *row.key == *key) {
            let (row, _) = found.remove();
            shard.bytes -= row.bytes;
            self.bytes.fetch_sub(row.bytes, Ordering::Relaxed);
        }
    }

    /// Every row may have changed.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.version += 1;
            shard.rows.clear();
            self.bytes.fetch_sub(shard.bytes, Ordering::Relaxed);
            shard.bytes = 0;
        }
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard<R>>> {
        // The table uses the low bits and the top seven; take bits between.
        self.shards.get((hash >> 40) as usize % SHARDS)
    }
}

impl<R> Shard<R> {
    /// Drops rows that were not read since the last pass until `limit` bytes are left, then any. Returns the bytes freed.
    fn evict(&mut self, limit: usize) -> usize {
        let before = self.bytes;
        for only_unused in [true, false] {
            let mut left = self.bytes;
            self.rows.retain(|row| {
                if left <= limit || (only_unused && row.used.swap(false, Ordering::Relaxed)) {
                    return true;
                }
                left -= row.bytes;
                false
            });
            self.bytes = left;
        }
        before - self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket<R>(rows: &HotRows<R>, key: &[u8]) -> Ticket {
        match rows.lookup(key) {
            Lookup::Unknown(ticket) => ticket,
            Lookup::Known(_) => panic!("known"),
        }
    }

    #[test]
    fn a_fill_from_before_a_change_is_dropped() {
        let rows: HotRows<u8> = HotRows::new(1 << 20);
        let old = ticket(&rows, b"a");
        rows.invalidate(b"a");
        rows.fill(b"a", old, Some(Arc::new(1)), 1);
        assert!(matches!(rows.lookup(b"a"), Lookup::Unknown(_)));
        rows.fill(b"a", ticket(&rows, b"a"), Some(Arc::new(2)), 1);
        assert!(matches!(rows.lookup(b"a"), Lookup::Known(Some(row)) if *row == 2));
        rows.clear();
        assert!(matches!(rows.lookup(b"a"), Lookup::Unknown(_)));
        assert_eq!(rows.bytes(), 0);
    }

    #[test]
    fn rows_stay_within_the_budget() {
        let rows: HotRows<u32> = HotRows::new(64 * 1000);
        for number in 0u32..5_000 {
            let key = number.to_be_bytes();
            rows.fill(&key, ticket(&rows, &key), Some(Arc::new(number)), 20);
            assert!(rows.bytes() <= 64 * 1000);
        }
        assert!(rows.bytes() > 64 * 500);
    }
}
