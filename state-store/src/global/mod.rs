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
mod format;
mod gate;
mod hot;
mod intake;
mod meta;
mod writer;

pub use crate::keyed::RebuildReason;
pub use feeder::{Feeder, FeederConfig};
pub use format::{KeyFormat, RejectReason, RowFormat, ValueFormat};
pub use gate::{Gate, Refusal};
pub use intake::Intake;
pub use meta::Rebuild;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use serde::Serialize;

use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyed::{CopyState, RestorePlan, TopicState, plan_restore};
use crate::keyspace::Keyspace;
use crate::topic_bounds::TopicBounds;
use area::Area;
use hot::{HotRows, Lookup};
use meta::{Found, GlobalMeta};
use writer::Writer;

/// What a global store is.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalSpec {
    /// The store's name.
    pub store: String,
    /// The topic it is a copy of.
    pub topic: String,
    /// How its records become rows.
    pub format: RowFormat,
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
    /// The value of the header [`connect_api::catalog_marker::HEADER`]; needed only where [`connect_api::catalog_marker::Marker::is_key`] holds for the key.
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
    /// A version serves, the topic was read to the end it had when the worker started, and if it had records, rows of them
    /// could be taken.
    pub ready: bool,
    /// Why it is not.
    pub not_ready: Option<String>,
    /// Rows that serve.
    pub rows: u64,
    /// The version that serves, if the topic has markers.
    pub version: Option<u64>,
    /// The last version that the gate refused, until one passes.
    pub refused: Option<RefusedVersion>,
    /// Records that could not be taken, since the copy was made.
    pub rejected_rows: u64,
    /// The last of them: where it was and what was wrong.
    pub last_rejection: Option<String>,
    /// What became of all records, since the copy was made.
    pub intake: Intake,
    /// Rows that did not decode when they were read, since the store was opened.
    pub undecodable_rows: u64,
    /// The last of them, by its key, and what was wrong.
    pub last_undecodable: Option<String>,
    /// How often the copy had to be made anew since the store was first declared.
    pub rebuilds: u64,
    /// The last time.
    pub last_rebuild: Option<Rebuild>,
    /// Bytes of decoded rows in memory, about.
    pub hot_bytes: usize,
    /// Progress by partition.
    pub partitions: BTreeMap<i32, PartitionProgress>,
    /// The timestamp of the newest record applied, in milliseconds since 1970.
    pub newest_record_ms: Option<i64>,
    /// Why the topic cannot be read at the moment.
    pub trouble: Option<String>,
}

/// A store has two places for its copy, so that a new one can be made while the old one serves: when the document names another
/// topic or format. Keyspaces count partitions from 0; these are none.
const SLOTS: [i32; 2] = [-1, -2];

/// The place of a store's copy, claimed: where it lies already, or one that nobody has open, emptied.
fn place(db: &Database, spec: &GlobalSpec) -> Result<(Keyspace, GlobalMeta), StateError> {
    let in_use = || StateError::AlreadyOpen {
        keyspace: format!("global store {}", spec.store),
    };
    let mut keyspaces = Vec::with_capacity(SLOTS.len());
    for slot in SLOTS {
        let keyspace = Keyspace::named(db, "", &spec.store, slot)?;
        let found = GlobalMeta::find(db, keyspace, spec)?;
        if let Found::Copy(meta) = found {
            return db.claim(keyspace.0).then_some((keyspace, *meta)).ok_or_else(in_use);
        }
        keyspaces.push((keyspace, found));
    }
    // One that is empty comes before one whose content is lost.
    keyspaces.sort_by_key(|(_, found)| !matches!(found, Found::Nothing));
    let free = keyspaces.into_iter().find(|(keyspace, _)| db.claim(keyspace.0));
    let (keyspace, found) = free.ok_or_else(in_use)?;
    if let Found::Other(reason) = found {
        tracing::info!(store = %spec.store, topic = %spec.topic, reason, "the local copy of a global store is deleted and read again");
        GlobalMeta::delete(db, keyspace).inspect_err(|_| db.release(keyspace.0))?;
    }
    Ok((keyspace, GlobalMeta::fresh(spec)))
}

fn check_gate(store: &str, gate: &Gate) -> Result<(), StateError> {
    match gate.max_shrink {
        Some(shrink) if !(0.0..=1.0).contains(&shrink) => Err(StateError::Setting {
            store: store.to_owned(),
            detail: "gate.max_shrink must be between 0% and 100%".into(),
        }),
        _ => Ok(()),
    }
}

type Decode<R> = Box<dyn Fn(&[u8], &[u8]) -> Result<R, String> + Send + Sync>;

/// The whole of a topic, readable from every thread.
pub struct GlobalStore<R> {
    db: Database,
    /// Changed in its gate alone.
    spec: RwLock<Arc<GlobalSpec>>,
    keyspace: Keyspace,
    decode: Decode<R>,
    hot: HotRows<R>,
    /// The area that serves; [`NOTHING_SERVES`] until the first version does.
    serving: AtomicU8,
    writer: Mutex<Writer>,
    caught_up: AtomicBool,
    undecodable: AtomicU64,
    last_undecodable: Mutex<Option<String>>,
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
            .field("spec", &*self.spec.read())
            .finish_non_exhaustive()
    }
}

impl<R: Send + Sync + 'static> GlobalStore<R> {
    /// Opens the local copy; what it has serves at once. `decode` gets key and value of a row when it is first read.
    ///
    /// A copy of another topic, or of records that were read in another format, is no copy of this store: it stays where it is
    /// while somebody has it open, and is thrown away otherwise. Errors: the database's; [`StateError::Setting`] for a wrong
    /// gate; [`StateError::AlreadyOpen`].
    pub fn open(
        db: &Database,
        spec: GlobalSpec,
        decode: impl Fn(&[u8], &[u8]) -> Result<R, String> + Send + Sync + 'static,
    ) -> Result<Self, StateError> {
        check_gate(&spec.store, &spec.gate)?;
        let (keyspace, meta) = place(db, &spec)?;
        let writer = Writer::open(db, &spec, keyspace, meta).inspect_err(|_| db.release(keyspace.0))?;
        let store = GlobalStore {
            serving: AtomicU8::new(writer.serving_area().map_or(NOTHING_SERVES, |area| area.number)),
            db: db.clone(),
            hot: HotRows::new(db.budget().hot_row_bytes),
            keyspace,
            decode: Box::new(decode),
            writer: Mutex::new(writer),
            caught_up: AtomicBool::new(false),
            undecodable: AtomicU64::new(0),
            last_undecodable: Mutex::new(None),
            ends: Mutex::new(BTreeMap::new()),
            trouble: Mutex::new(None),
            happened: Mutex::new(0),
            happening: Condvar::new(),
            spec: RwLock::new(Arc::new(spec)),
        };
        Ok(store)
    }

    /// What it is.
    pub fn spec(&self) -> Arc<GlobalSpec> {
        self.spec.read().clone()
    }

    /// From now on versions must fulfil this. What a gate held back serves if there is none any more.
    ///
    /// Errors: the database's; [`StateError::Setting`] for a wrong gate.
    pub fn set_gate(&self, gate: Gate) -> Result<(), StateError> {
        let before = self.spec();
        check_gate(&before.store, &gate)?;
        let mut writer = self.writer.lock();
        let spec = Arc::new(GlobalSpec {
            gate,
            ..GlobalSpec::clone(&before)
        });
        let changing = self.hot.changing();
        writer.adopt_gate(&self.db, &spec)?;
        *self.spec.write() = spec;
        self.publish(&mut writer)?;
        drop(changing);
        drop(writer);
        self.notify();
        Ok(())
    }

    /// Deletes what earlier declarations of this store have left on disk: copies of other topics, and in other formats.
    pub fn forget_others(&self) -> Result<(), StateError> {
        let store = &self.spec().store;
        for slot in SLOTS {
            if let Some(other) = Keyspace::find(&self.db, "", store, slot)?
                && self.db.claim(other.0)
            {
                let deleted = GlobalMeta::delete(&self.db, other);
                self.db.release(other.0);
                deleted?;
            }
        }
        Ok(())
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
                    tracing::error!(store = %self.spec().store, error = %error, "row cannot be read");
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

    /// The row of a key, without decoding.
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

    /// Rows whose keys start with `prefix`, in key order, without decoding: from the first on, or from the one after the key
    /// `after`, until `each` (key, value) returns false. As of one moment; one row is in memory at a time.
    pub fn visit(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StateError> {
        self.serving_area()
            .map_or(Ok(()), |area| area.visit(&self.db, prefix, after, each))
    }

    /// Rows that serve.
    pub fn len(&self) -> u64 {
        self.writer.lock().rows()
    }

    /// Whether no row serves.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A version serves, the topic was read to the end it had when the store was opened, and if it had records, rows of them
    /// could be taken.
    pub fn ready(&self) -> bool {
        self.not_ready(&self.writer.lock()).is_none()
    }

    fn not_ready(&self, writer: &Writer) -> Option<String> {
        let topic = &self.spec().topic;
        if !self.caught_up.load(Ordering::Acquire) {
            return Some(match writer.rebuilds() {
                (_, Some(rebuild)) if writer.is_loading() => {
                    let reason = rebuild.reason.sentence();
                    format!("topic {topic} is being read anew, since {reason}; rows of before serve meanwhile")
                }
                _ => format!("topic {topic} has not been read to its end yet"),
            });
        }
        if self.serving_area().is_none() {
            return Some(match writer.refused() {
                Some(refused) => format!("no version of topic {topic} has passed the gate: {}", refused.reason),
                None => format!("no version of topic {topic} is complete yet: its markers are missing"),
            });
        }
        let intake = writer.serving_intake();
        intake.took_nothing().then(|| {
            format!(
                "no row could be taken of topic {topic}: all of its {} records were rejected, the last one: {}",
                intake.rejected(),
                intake.last_rejection.as_deref().unwrap_or_default()
            )
        })
    }

    /// The topic was read to the end it had when the store was opened.
    pub fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// The next offset to read, by partition. Empty: read every partition from its beginning.
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.writer.lock().positions()
    }

    /// Decides whether the copy can be carried on; if not, starts a rebuild, during which the old copy serves on. Returns
    /// where to read from, by partition.
    pub fn plan(&self, topic: &TopicBounds, wall_ms: i64) -> Result<BTreeMap<i32, i64>, StateError> {
        let mut writer = self.writer.lock();
        let positions = writer.positions();
        let copy = |partition: i32| CopyState {
            offset: positions.get(&partition).copied(),
            written_at_ms: writer.written_at_ms(),
            topic_id: writer.topic_id(),
        };
        let mut starts = BTreeMap::new();
        let mut rebuild = None;
        for (&partition, &(start, end)) in &topic.bounds {
            let state = TopicState {
                start,
                end,
                written_end: topic.written_ends.get(&partition).copied().unwrap_or(end),
                id: topic.id,
                delete_retention_ms: topic.delete_retention_ms,
            };
            match plan_restore(&copy(partition), &state, wall_ms) {
                RestorePlan::From(offset) => drop(starts.insert(partition, offset)),
                RestorePlan::Rebuild(reason) => drop(rebuild.get_or_insert(reason)),
            }
        }
        if positions.keys().any(|partition| !topic.bounds.contains_key(partition)) {
            rebuild.get_or_insert(RebuildReason::FewerPartitions);
        }
        if let Some(reason) = rebuild {
            let spec = self.spec();
            tracing::warn!(store = %spec.store, topic = %spec.topic, reason = ?reason, "global store is rebuilt from its topic");
            writer.rebuild(&self.db, reason)?;
            self.caught_up.store(false, Ordering::Release);
            starts = topic
                .bounds
                .iter()
                .map(|(&partition, &(start, _))| (partition, start))
                .collect();
        }
        writer.set_topic_id(&self.db, topic.id)?;
        Ok(starts)
    }

    /// Applies records, each partition's in offset order, and persists how far that goes with them.
    pub fn apply(&self, records: &[GlobalRecord<'_>]) -> Result<(), StateError> {
        let mut writer = self.writer.lock();
        let spec = self.spec();
        let changing = self.hot.changing();
        for record in records {
            writer.take(&self.db, &spec, record)?;
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

    /// Partitions have been read up to these ends, which may lie behind their last records: those of aborted transactions,
    /// transactions' markers, and records that compaction removed lie between.
    pub fn read_to_ends(&self, ends: &BTreeMap<i32, i64>) -> Result<(), StateError> {
        let mut writer = self.writer.lock();
        let moves = ends
            .iter()
            .filter(|(partition, end)| writer.progress().get(partition).is_none_or(|position| position < end));
        let moves: Vec<(i32, i64)> = moves.map(|(&partition, &end)| (partition, end)).collect();
        if moves.is_empty() {
            return Ok(());
        }
        for (partition, end) in moves {
            writer.read_to(partition, end);
        }
        writer.write(&self.db)
    }

    /// Every partition has been read to its end: without markers, the version ends here.
    pub fn reached_end(&self) -> Result<(), StateError> {
        let mut writer = self.writer.lock();
        let changing = self.hot.changing();
        writer.reached_end(&self.db, &self.spec())?;
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
        let ends = self.ends.lock().clone();
        let writer = self.writer.lock();
        let not_ready = self.not_ready(&writer);
        let (rebuilds, last_rebuild) = writer.rebuilds();
        let spec = self.spec();
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
            store: spec.store.clone(),
            topic: spec.topic.clone(),
            ready: not_ready.is_none(),
            not_ready,
            rows: writer.rows(),
            version: writer.version(),
            refused: writer.refused(),
            rejected_rows: writer.intake().rejected(),
            last_rejection: writer.intake().last_rejection.clone(),
            intake: writer.intake().clone(),
            undecodable_rows: self.undecodable.load(Ordering::Relaxed),
            last_undecodable: self.last_undecodable.lock().clone(),
            rebuilds,
            last_rebuild,
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
                let place = format!("key {}: {detail}", crate::keyed::printable(key));
                if self.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(store = %self.spec().store, error = %place, "row does not decode, further ones are counted");
                }
                *self.last_undecodable.lock() = Some(place);
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
