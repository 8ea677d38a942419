//! Global stores: a whole compacted topic on every worker.
//!
//! ```text
//! topic -> feeder (a thread) -> apply -> writer -> bulk_load (first copy, rebuild) \
//!                                        |          staging area (versions gated)   > area -> RocksDB
//!                                        |          serving area (rows singly)     /
//!                                        marker: the version ends -> gate -> serve or keep serving the last good one
//! get -> hot (decoded rows in memory) -> serving area, decoded on the first read
//! ```
//! A first copy, and a rebuild, are loaded into the area that does not serve, and served as a whole when the version (or,
//! without markers, the topic's end) is reached; until then the former copy serves, if there is one. After that rows are
//! applied singly, unless the gate compares versions and the topic has markers: then rows are staged and promoted when the
//! version passes. A refused version stays staged; the next one that passes brings its rows with it.

mod area;
mod bulk_load;
mod feeder;
mod gate;
mod hot;
pub mod marker;
mod meta;
mod writer;

pub use feeder::{Feeder, FeederConfig};
pub use gate::{Gate, Refusal};
pub use marker::Marker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyed::{RestorePlan, plan_restore};
use crate::keyspace::Keyspace;
use area::Area;
use hot::{HotRows, Lookup};
use meta::GlobalMeta;
use writer::Writer;

/// What a global store is.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalSpec {
    /// The store's name.
    pub store: String,
    /// The topic it is a copy of.
    pub topic: String,
    /// What a version must fulfil to be served.
    pub gate: Gate,
}

/// A record of the topic, borrowed from whoever read it.
#[derive(Clone, Copy, Debug)]
pub struct GlobalRecord<'a> {
    /// The record's partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The row's key.
    pub key: Option<&'a [u8]>,
    /// The row; none: a tombstone.
    pub value: Option<&'a [u8]>,
    /// The value of the header [`marker::HEADER`]; needed only where [`Marker::is_key`] holds for the key.
    pub marker_header: Option<&'a [u8]>,
}

/// A partition's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionProgress {
    /// The next offset to read.
    pub position: i64,
    /// The partition's end when it was last asked for.
    pub end: i64,
    /// Records in between.
    pub lag: i64,
}

/// A version that is not served.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct RefusedVersion {
    /// Its number; none: the end of the topic at bootstrap.
    pub version: Option<u64>,
    /// Why.
    pub reason: Refusal,
}

/// Where a global store stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GlobalStatus {
    /// The store.
    pub store: String,
    /// Its topic.
    pub topic: String,
    /// A version serves, and the topic was read to the end it had when the worker started.
    pub ready: bool,
    /// Rows that serve.
    pub rows: u64,
    /// The version that serves, if the topic has markers.
    pub version: Option<u64>,
    /// The last version that the gate refused, until one passes.
    pub refused: Option<RefusedVersion>,
    /// Row changes that failed `required`, or had no key, since the store was opened.
    pub rejected_rows: u64,
    /// The last such change: where it was and what was wrong.
    pub last_rejection: Option<String>,
    /// Rows that did not decode when they were read, since the store was opened.
    pub undecodable_rows: u64,
    /// Bytes of decoded rows in memory, about.
    pub hot_bytes: usize,
    /// Progress by partition.
    pub partitions: BTreeMap<i32, PartitionProgress>,
    /// The timestamp of the newest record applied, in milliseconds since 1970.
    pub newest_record_ms: Option<i64>,
    /// Why the topic cannot be read at the moment.
    pub trouble: Option<String>,
}

type Decode<R> = Box<dyn Fn(&[u8], &[u8]) -> Result<R, String> + Send + Sync>;

/// The whole of a topic, readable from every thread.
pub struct GlobalStore<R> {
    db: Database,
    spec: GlobalSpec,
    keyspace: Keyspace,
    decode: Decode<R>,
    hot: HotRows<R>,
    /// The area that serves; [`NOTHING_SERVES`] until the first version does.
    serving: AtomicU8,
    writer: Mutex<Writer>,
    caught_up: AtomicBool,
    undecodable: AtomicU64,
    ends: Mutex<BTreeMap<i32, i64>>,
    trouble: Mutex<Option<String>>,
    /// Counts what happened, for those who wait.
    happened: Mutex<u64>,
    happening: Condvar,
}

const NOTHING_SERVES: u8 = u8::MAX;

/// What a decoded row costs beside its bytes in the topic, about: a map, its strings, an `Arc`.
const DECODED_FACTOR: usize = 4;

impl<R> std::fmt::Debug for GlobalStore<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GlobalStore")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl<R: Send + Sync + 'static> GlobalStore<R> {
    /// Opens the local copy; what it has serves at once. `decode` gets key and value of a row when it is first read.
    ///
    /// A copy of another topic is thrown away. Errors: the database's; [`StateError::Setting`] for a wrong gate.
    pub fn open(
        db: &Database,
        spec: GlobalSpec,
        decode: impl Fn(&[u8], &[u8]) -> Result<R, String> + Send + Sync + 'static,
    ) -> Result<Self, StateError> {
        if spec
            .gate
            .max_shrink
            .is_some_and(|shrink| !(0.0..=1.0).contains(&shrink))
        {
            return Err(StateError::Setting {
                store: spec.store,
                detail: "gate.max_shrink must be between 0% and 100%".into(),
            });
        }
        let keyspace = Keyspace::named(db, "", &spec.store, -1)?;
        if !db.claim(keyspace.0) {
            return Err(StateError::AlreadyOpen {
                keyspace: format!("global store {}", spec.store),
            });
        }
        let writer =
            GlobalMeta::open(db, keyspace, &spec.topic).and_then(|meta| Writer::open(db, &spec, keyspace, meta));
        let writer = writer.inspect_err(|_| db.release(keyspace.0))?;
        let store = GlobalStore {
            serving: AtomicU8::new(writer.serving_area().map_or(NOTHING_SERVES, |area| area.number)),
            db: db.clone(),
            hot: HotRows::new(db.budget().hot_row_bytes),
            keyspace,
            decode: Box::new(decode),
            writer: Mutex::new(writer),
            caught_up: AtomicBool::new(false),
            undecodable: AtomicU64::new(0),
            ends: Mutex::new(BTreeMap::new()),
            trouble: Mutex::new(None),
            happened: Mutex::new(0),
            happening: Condvar::new(),
            spec,
        };
        Ok(store)
    }

    /// What it was opened as.
    pub fn spec(&self) -> &GlobalSpec {
        &self.spec
    }

    /// The row of a key: from memory in well under a microsecond, else from RocksDB, decoded and kept. None: there is no such
    /// row, no version serves yet, or the row does not decode (counted in the status).
    pub fn get(&self, key: &[u8]) -> Option<Arc<R>> {
        loop {
            let ticket = match self.hot.lookup(key) {
                Lookup::Known(row) => return row,
                Lookup::Unknown(ticket) => ticket,
            };
            let area = self.serving_area()?;
            let (row, bytes) = match self.read(area, key) {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(store = %self.spec.store, error = %error, "row cannot be read");
                    return None;
                }
            };
            // An area that stopped serving meanwhile may have been emptied.
            if self.serving_area() == Some(area) && self.hot.is_current(ticket) {
                self.hot.fill(key, ticket, row.clone(), bytes);
                return row;
            }
        }
    }

    /// The row of a key as the topic has it, without decoding.
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let Some(area) = self.serving_area() else {
            return Ok(None);
        };
        let family = self.db.family(Family::Global)?;
        let found = self
            .db
            .rocksdb()
            .get_pinned_cf(family, area.key(key))
            .map_err(StateError::database("reading a row"))?;
        Ok(found.and_then(|bytes| match bytes.split_first() {
            Some((&Area::VALUE, value)) => Some(value.to_vec()),
            _ => None,
        }))
    }

    /// Up to `limit` rows whose keys start with `prefix`, in key order, as the topic has them: key and value.
    pub fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StateError> {
        self.serving_area()
            .map_or(Ok(Vec::new()), |area| area.scan(&self.db, prefix, limit))
    }

    /// Rows that serve.
    pub fn len(&self) -> u64 {
        self.writer.lock().rows()
    }

    /// Whether no row serves.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A version serves, and the topic was read to the end it had when the store was opened.
    pub fn ready(&self) -> bool {
        self.caught_up.load(Ordering::Acquire) && self.serving_area().is_some()
    }

    /// The topic was read to the end it had when the store was opened.
    pub fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// The next offset to read, by partition. Empty: read every partition from its beginning.
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.writer.lock().positions()
    }

    /// Decides whether the copy can be carried on, from each partition's (start, end) offsets; if not, starts a rebuild, during
    /// which the old copy serves on. Returns where to read from, by partition.
    pub fn plan(
        &self,
        bounds: &BTreeMap<i32, (i64, i64)>,
        wall_ms: i64,
        delete_retention_ms: i64,
    ) -> Result<BTreeMap<i32, i64>, StateError> {
        let mut writer = self.writer.lock();
        let positions = writer.positions();
        let written_at_ms = writer.written_at_ms();
        let plans = bounds.iter().map(|(&partition, &(start, end))| {
            let at = positions.get(&partition).copied();
            (
                partition,
                plan_restore(at, written_at_ms, start, end, wall_ms, delete_retention_ms),
            )
        });
        let plans: BTreeMap<i32, RestorePlan> = plans.collect();
        let rebuild = plans.iter().find_map(|(partition, plan)| match plan {
            RestorePlan::Rebuild(reason) => Some((*partition, *reason)),
            RestorePlan::From(_) => None,
        });
        if let Some((partition, reason)) = rebuild {
            tracing::info!(store = %self.spec.store, partition, reason = ?reason, "global store is rebuilt from its topic");
            writer.start_load(&self.db)?;
            return Ok(bounds
                .iter()
                .map(|(&partition, &(start, _))| (partition, start))
                .collect());
        }
        Ok(plans
            .into_iter()
            .map(|(partition, plan)| match plan {
                RestorePlan::From(offset) => (partition, offset),
                RestorePlan::Rebuild(_) => (partition, 0),
            })
            .collect())
    }

    /// Applies records, each partition's in offset order, and persists how far that goes with them.
    pub fn apply(&self, records: &[GlobalRecord<'_>]) -> Result<(), StateError> {
        let mut writer = self.writer.lock();
        let changing = self.hot.changing();
        for record in records {
            writer.take(&self.db, &self.spec, record)?;
            if writer.changes_everything() {
                self.publish(&mut writer)?;
            }
        }
        writer.write(&self.db)?;
        self.publish(&mut writer)?;
        drop(changing);
        drop(writer);
        self.notify();
        Ok(())
    }

    /// Every partition has been read to its end: without markers, the version ends here.
    pub fn reached_end(&self) -> Result<(), StateError> {
        let mut writer = self.writer.lock();
        let changing = self.hot.changing();
        writer.reached_end(&self.db, &self.spec)?;
        self.publish(&mut writer)?;
        drop(changing);
        drop(writer);
        self.caught_up.store(true, Ordering::Release);
        self.notify();
        Ok(())
    }

    /// Partitions that wait at a marker for the others: reading on from them only fills memory.
    pub fn waiting_partitions(&self) -> Vec<i32> {
        self.writer.lock().waiting_partitions()
    }

    /// Blocks until the store is in a state, for `timeout` at most; false: it is not. Looks after every batch applied and
    /// whenever the feeder's trouble changes. Not for async threads.
    pub fn wait_until(&self, timeout: Duration, state: impl Fn(&GlobalStatus) -> bool) -> bool {
        let until = Instant::now() + timeout;
        loop {
            let seen = *self.happened.lock();
            if state(&self.status()) {
                return true;
            }
            let mut happened = self.happened.lock();
            while *happened == seen {
                if self.happening.wait_until(&mut happened, until).timed_out() {
                    drop(happened);
                    return state(&self.status());
                }
            }
        }
    }

    fn notify(&self) {
        *self.happened.lock() += 1;
        self.happening.notify_all();
    }

    /// Where the store stands.
    pub fn status(&self) -> GlobalStatus {
        let ready = self.ready();
        let ends = self.ends.lock().clone();
        let writer = self.writer.lock();
        let progress = |(&partition, &position): (&i32, &i64)| {
            let end = ends.get(&partition).copied().unwrap_or(position).max(position);
            (
                partition,
                PartitionProgress {
                    position,
                    end,
                    lag: end - position,
                },
            )
        };
        GlobalStatus {
            store: self.spec.store.clone(),
            topic: self.spec.topic.clone(),
            ready,
            rows: writer.rows(),
            version: writer.version(),
            refused: writer.refused(),
            rejected_rows: writer.rejected_rows,
            last_rejection: writer.last_rejection.clone(),
            undecodable_rows: self.undecodable.load(Ordering::Relaxed),
            hot_bytes: self.hot.bytes(),
            partitions: writer.progress().iter().map(progress).collect(),
            newest_record_ms: writer.newest_record_ms,
            trouble: self.trouble.lock().clone(),
        }
    }

    pub(crate) fn set_ends(&self, ends: BTreeMap<i32, i64>) {
        *self.ends.lock() = ends;
    }

    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
        self.notify();
    }

    fn serving_area(&self) -> Option<Area> {
        let number = self.serving.load(Ordering::Acquire);
        (number != NOTHING_SERVES).then_some(Area {
            keyspace: self.keyspace,
            number,
        })
    }

    /// Makes readers see what the writer has written: first the area, then the rows in memory.
    fn publish(&self, writer: &mut Writer) -> Result<(), StateError> {
        let changed = writer.take_changed();
        if changed.everything {
            let number = writer.serving_area().map_or(NOTHING_SERVES, |area| area.number);
            self.serving.store(number, Ordering::Release);
            self.hot.clear();
            return writer.clear_staging(&self.db);
        }
        for key in changed.keys {
            self.hot.invalidate(&key);
        }
        Ok(())
    }

    fn read(&self, area: Area, key: &[u8]) -> Result<(Option<Arc<R>>, usize), StateError> {
        let family = self.db.family(Family::Global)?;
        let found = self
            .db
            .rocksdb()
            .get_pinned_cf(family, area.key(key))
            .map_err(StateError::database("reading a row"))?;
        let Some((&Area::VALUE, value)) = found.as_deref().and_then(<[u8]>::split_first) else {
            return Ok((None, 0));
        };
        match (self.decode)(key, value) {
            Ok(row) => Ok((Some(Arc::new(row)), value.len() * DECODED_FACTOR)),
            Err(detail) => {
                if self.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                    let key = crate::keyed::printable(key);
                    tracing::warn!(store = %self.spec.store, key, error = %detail, "row does not decode, further ones are counted");
                }
                Ok((None, 0))
            }
        }
    }
}

impl<R> Drop for GlobalStore<R> {
    fn drop(&mut self) {
        self.db.release(self.keyspace.0);
    }
}
