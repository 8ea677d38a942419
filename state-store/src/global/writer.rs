//! The write side of a global store: rows into the right area, versions at markers, the gate.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kafka_client::TopicId;
use rocksdb::WriteBatch;

use super::area::{Area, Presence};
use super::bulk_load::BulkLoad;
use super::format::{RejectReason, Unreadable};
use super::intake::Intake;
use super::meta::{GlobalMeta, Promotion, Rebuild};
use super::{GlobalRecord, GlobalSpec, Refusal, RefusedVersion};
use crate::database::{Database, Family};
use crate::error::StateError;
use crate::keyed::{RebuildReason, wall_clock_ms};
use crate::keyspace::Keyspace;
use connect_api::catalog_marker::Marker;

/// Bytes of one batch while a version is promoted.
const PROMOTION_BATCH_BYTES: usize = 1 << 20;

pub(crate) struct Writer {
    keyspace: Keyspace,
    meta: GlobalMeta,
    load: Option<BulkLoad>,
    /// Where a load has read up to; becomes `meta.positions` when its version serves.
    load_positions: BTreeMap<i32, i64>,
    /// What became of the records that a load has read; becomes `meta.intake` with them.
    load_intake: Intake,
    batch: WriteBatch,
    /// Keys in the batch, with what they will be.
    pending: HashMap<Vec<u8>, Presence>,
    /// Records of partitions that wait at a marker.
    deferred: BTreeMap<i32, VecDeque<OwnedRecord>>,
    changed: Changed,
    pub(crate) newest_record_ms: Option<i64>,
}

/// What readers must forget.
#[derive(Default)]
pub(crate) struct Changed {
    pub(crate) everything: bool,
    pub(crate) keys: Vec<Vec<u8>>,
}

struct OwnedRecord {
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    marker_header: Option<Vec<u8>>,
}

impl Writer {
    pub(crate) fn open(
        db: &Database,
        spec: &GlobalSpec,
        keyspace: Keyspace,
        meta: GlobalMeta,
    ) -> Result<Writer, StateError> {
        let mut writer = Writer {
            keyspace,
            meta,
            load: None,
            load_positions: BTreeMap::new(),
            load_intake: Intake::default(),
            batch: WriteBatch::default(),
            pending: HashMap::new(),
            deferred: BTreeMap::new(),
            changed: Changed::default(),
            newest_record_ms: None,
        };
        writer.clear_staging(db)?;
        if writer.meta.serving.is_none() || writer.meta.rebuilding {
            writer.start_load(db)?;
        } else if writer.meta.promoting.is_some() {
            writer.promote(db)?;
        } else {
            writer.adopt_gate(db, spec)?;
        }
        Ok(writer)
    }

    /// If a gate was taken away, what it held back serves now.
    pub(crate) fn adopt_gate(&mut self, db: &Database, spec: &GlobalSpec) -> Result<(), StateError> {
        if spec.gate.compares_versions() || self.load.is_some() || self.meta.serving.is_none() {
            return Ok(());
        }
        let (version, rows) = (self.meta.version, self.meta.candidate_rows());
        self.meta.promoting = Some(Promotion { version, rows });
        self.promote(db)?;
        // Nobody waits at a marker any more.
        self.take_deferred(db, spec)?;
        self.write(db)
    }

    /// The area that serves.
    pub(crate) fn serving_area(&self) -> Option<Area> {
        self.meta.serving.map(|number| Area {
            keyspace: self.keyspace,
            number,
        })
    }

    fn staging_area(&self) -> Area {
        self.serving_area().map_or(
            Area {
                keyspace: self.keyspace,
                number: 0,
            },
            Area::other,
        )
    }

    pub(crate) fn rows(&self) -> u64 {
        self.meta.rows
    }

    pub(crate) fn version(&self) -> Option<u64> {
        self.meta.version
    }

    pub(crate) fn refused(&self) -> Option<RefusedVersion> {
        self.meta.refused.clone()
    }

    pub(crate) fn written_at_ms(&self) -> i64 {
        self.meta.written_at_ms
    }

    /// The id of the topic that the copy is of, as far as it is known.
    pub(crate) fn topic_id(&self) -> Option<TopicId> {
        self.meta.topic_id.and_then(TopicId::from_bytes)
    }

    /// What is read from now on is of the topic with this id.
    pub(crate) fn set_topic_id(&mut self, db: &Database, id: Option<TopicId>) -> Result<(), StateError> {
        if self.topic_id() == id {
            return Ok(());
        }
        self.meta.topic_id = id.map(|id| *id.as_bytes());
        let mut batch = WriteBatch::default();
        self.meta.put(db, self.keyspace, &mut batch)?;
        db.write(batch)
    }

    /// The whole topic is being read into the area that does not serve.
    pub(crate) fn is_loading(&self) -> bool {
        self.load.is_some()
    }

    /// Rebuilds of the copy, and the last one.
    pub(crate) fn rebuilds(&self) -> (u64, Option<Rebuild>) {
        (self.meta.rebuilds, self.meta.last_rebuild)
    }

    /// What became of the records that serve.
    pub(crate) fn serving_intake(&self) -> &Intake {
        &self.meta.intake
    }

    /// What became of the records of the copy that is being read: that which serves, or the load that follows it.
    pub(crate) fn intake(&self) -> &Intake {
        if self.load.is_some() {
            &self.load_intake
        } else {
            &self.meta.intake
        }
    }

    fn intake_mut(&mut self) -> &mut Intake {
        if self.load.is_some() {
            &mut self.load_intake
        } else {
            &mut self.meta.intake
        }
    }

    /// Where reading goes on after a restart; a load starts again.
    pub(crate) fn positions(&self) -> BTreeMap<i32, i64> {
        if self.load.is_some() {
            BTreeMap::new()
        } else {
            self.meta.positions.clone()
        }
    }

    /// Where reading is.
    pub(crate) fn progress(&self) -> &BTreeMap<i32, i64> {
        if self.load.is_some() {
            &self.load_positions
        } else {
            &self.meta.positions
        }
    }

    fn position_of(&self, partition: i32) -> Option<i64> {
        self.progress().get(&partition).copied()
    }

    pub(crate) fn waiting_partitions(&self) -> Vec<i32> {
        self.deferred
            .iter()
            .filter(|(_, records)| !records.is_empty())
            .map(|(&partition, _)| partition)
            .collect()
    }

    pub(crate) fn changes_everything(&self) -> bool {
        self.changed.everything
    }

    pub(crate) fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// Starts to load the whole topic into the area that does not serve.
    pub(crate) fn start_load(&mut self, db: &Database) -> Result<(), StateError> {
        self.batch = WriteBatch::default();
        self.pending.clear();
        self.deferred.clear();
        self.meta.staged_rows = 0;
        self.meta.at_marker.clear();
        self.meta.has_markers = false;
        self.load_positions.clear();
        self.load_intake = Intake::default();
        if self.meta.serving.is_some() && !self.meta.rebuilding {
            self.meta.rebuilding = true;
            let mut batch = WriteBatch::default();
            self.meta.put(db, self.keyspace, &mut batch)?;
            db.write(batch)?;
        }
        self.load = Some(BulkLoad::start(db, self.staging_area())?);
        Ok(())
    }

    /// Starts to load the whole topic anew, because the copy cannot be carried on.
    pub(crate) fn rebuild(&mut self, db: &Database, reason: RebuildReason) -> Result<(), StateError> {
        self.meta.rebuilds += 1;
        self.meta.last_rebuild = Some(Rebuild {
            reason,
            at_ms: wall_clock_ms(),
        });
        self.start_load(db)
    }

    /// Takes one record; rows are written with the next [`write`](Self::write) at the latest.
    pub(crate) fn take(
        &mut self,
        db: &Database,
        spec: &GlobalSpec,
        record: &GlobalRecord<'_>,
    ) -> Result<(), StateError> {
        if self.waits(spec, record.partition) {
            self.deferred
                .entry(record.partition)
                .or_default()
                .push_back(OwnedRecord {
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    marker_header: record.marker_header.map(<[u8]>::to_vec),
                });
            return Ok(());
        }
        if self
            .position_of(record.partition)
            .is_some_and(|position| record.offset < position)
        {
            return Ok(());
        }
        match record.key {
            Some(key) if Marker::is_key(key) => {
                match (record.value, Marker::parse(record.value, record.marker_header)) {
                    // A tombstone of the marker says nothing.
                    (None, Err(_)) => {}
                    (_, Ok(marker)) => {
                        self.moved_to(record);
                        return self.take_marker(db, spec, record.partition, marker);
                    }
                    (Some(_), Err(detail)) => {
                        self.reject(spec, record, &Unreadable::new(RejectReason::Marker, detail));
                    }
                }
            }
            Some(key) => self.take_change(db, spec, record, key)?,
            None => {
                let no_key = Unreadable::new(RejectReason::NoKey, "the record has no key");
                self.reject(spec, record, &no_key);
            }
        }
        self.moved_to(record);
        Ok(())
    }

    /// A record that is no marker: a row or a deletion, or rejected.
    fn take_change(
        &mut self,
        db: &Database,
        spec: &GlobalSpec,
        record: &GlobalRecord<'_>,
        key: &[u8],
    ) -> Result<(), StateError> {
        let change = spec.format.key.read(key).and_then(|key| {
            let value = record.value.map(|value| spec.format.value.read(value)).transpose()?;
            if let Some(row) = value.and_then(|value| value.row) {
                spec.gate
                    .check_row(row)
                    .map_err(|detail| Unreadable::new(RejectReason::Required, detail))?;
            }
            Ok((key, value))
        });
        match change {
            Ok((key, value)) => {
                self.intake_mut().took(&key, value.as_ref());
                self.take_row(db, spec, &key.plain, value.and_then(|value| value.row))
            }
            Err(unreadable) => {
                self.reject(spec, record, &unreadable);
                Ok(())
            }
        }
    }

    /// A partition has been read up to `end`, beyond its last record: what lies between are records of aborted
    /// transactions, transactions' markers, and what compaction removed.
    pub(crate) fn read_to(&mut self, partition: i32, end: i64) {
        if self.deferred.get(&partition).is_some_and(|records| !records.is_empty()) {
            return;
        }
        let positions = if self.load.is_some() {
            &mut self.load_positions
        } else {
            &mut self.meta.positions
        };
        let position = positions.entry(partition).or_insert(end);
        *position = end.max(*position);
    }

    /// Without markers, the version ends where the topic ended.
    pub(crate) fn reached_end(&mut self, db: &Database, spec: &GlobalSpec) -> Result<(), StateError> {
        self.write(db)?;
        match &self.load {
            Some(load) if load.unseen && !(self.meta.has_markers && spec.gate.compares_versions()) => {
                let version = self.meta.version;
                self.end_load(db, spec, version)
            }
            _ => Ok(()),
        }
    }

    /// Writes rows and position, all in one batch.
    pub(crate) fn write(&mut self, db: &Database) -> Result<(), StateError> {
        if self.load.is_some() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.meta.written_at_ms = wall_clock_ms();
        self.meta.put(db, self.keyspace, &mut batch)?;
        db.write(batch)?;
        self.changed.keys.extend(self.pending.drain().map(|(key, _)| key));
        Ok(())
    }

    fn waits(&self, spec: &GlobalSpec, partition: i32) -> bool {
        spec.gate.compares_versions() && self.meta.at_marker.contains_key(&partition)
    }

    fn moved_to(&mut self, record: &GlobalRecord<'_>) {
        let positions = if self.load.is_some() {
            &mut self.load_positions
        } else {
            &mut self.meta.positions
        };
        positions.insert(record.partition, record.offset + 1);
        self.newest_record_ms = self.newest_record_ms.max(record.timestamp_ms);
    }

    fn reject(&mut self, spec: &GlobalSpec, record: &GlobalRecord<'_>, unreadable: &Unreadable) {
        let place = format!(
            "{}-{}-{}: {}",
            spec.topic, record.partition, record.offset, unreadable.detail
        );
        let intake = self.intake_mut();
        if intake.rejected() == 0 {
            tracing::warn!(store = %spec.store, error = %place, "record rejected, the old row stays, further ones are counted");
        }
        intake.rejects(unreadable.reason, place);
    }

    fn take_row(
        &mut self,
        db: &Database,
        spec: &GlobalSpec,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let staging = self.staging_area();
        if let Some(load) = &mut self.load {
            return load.push(db, staging, key, value);
        }
        let Some(serving) = self.serving_area() else {
            return Ok(());
        };
        let staged = spec.gate.compares_versions() && self.meta.has_markers;
        let area = if staged { staging } else { serving };
        let before = match self.pending.get(key) {
            Some(presence) => *presence,
            None => area.presence(db, key)?,
        };
        let before = match before {
            Presence::Nothing if staged => serving.presence(db, key)?,
            before => before,
        };
        let now = if value.is_some() {
            Presence::Value
        } else {
            Presence::Tombstone
        };
        let gained = i64::from(now == Presence::Value) - i64::from(before == Presence::Value);
        let family = db.family(Family::Global)?;
        match value {
            None if !staged => self.batch.delete_cf(family, area.key(key)),
            value => {
                let mut flagged = Vec::with_capacity(1 + value.map_or(0, <[u8]>::len));
                Area::value_onto(value, &mut flagged);
                self.batch.put_cf(family, area.key(key), flagged);
            }
        }
        self.pending.insert(key.to_vec(), now);
        if staged {
            self.meta.staged_rows += gained;
        } else {
            self.meta.rows = self.meta.rows.saturating_add_signed(gained);
        }
        Ok(())
    }

    fn take_marker(
        &mut self,
        db: &Database,
        spec: &GlobalSpec,
        partition: i32,
        marker: Marker,
    ) -> Result<(), StateError> {
        let carriers = marker.partitions;
        // A newer marker replaces one whose version was never completed (compaction removes old markers).
        self.meta.at_marker.insert(partition, marker);
        let newest = self
            .meta
            .at_marker
            .values()
            .map(|marker| marker.version)
            .max()
            .unwrap_or_default();
        let behind: Vec<i32> = self
            .meta
            .at_marker
            .iter()
            .filter(|(_, at)| at.version < newest)
            .map(|(&partition, _)| partition)
            .collect();
        for partition in &behind {
            self.meta.at_marker.remove(partition);
        }
        let complete = self.meta.at_marker.len() >= carriers.max(1) as usize;
        if complete {
            self.meta.at_marker.clear();
            self.end_version(db, spec, newest)?;
        }
        if complete || !behind.is_empty() {
            self.take_deferred(db, spec)?;
        }
        Ok(())
    }

    /// Every partition has read the marker of this version.
    fn end_version(&mut self, db: &Database, spec: &GlobalSpec, version: u64) -> Result<(), StateError> {
        let first_markers = !self.meta.has_markers;
        self.meta.has_markers = true;
        if !spec.gate.compares_versions() {
            self.meta.version = Some(version);
            return Ok(());
        }
        if self.load.is_some() {
            return self.end_load(db, spec, Some(version));
        }
        if first_markers {
            // Up to here rows were served singly; from the next version on they are staged.
            self.meta.version = Some(version);
            return self.write(db);
        }
        let rows = self.meta.candidate_rows();
        match spec.gate.verdict(Some(self.meta.rows), rows) {
            Ok(()) => {
                self.meta.promoting = Some(Promotion {
                    version: Some(version),
                    rows,
                });
                self.write(db)?;
                self.promote(db)
            }
            Err(reason) => {
                self.refuse(spec, Some(version), reason);
                self.write(db)
            }
        }
    }

    /// The load has a whole version: it serves if it passes the gate, and loading goes on if not.
    fn end_load(&mut self, db: &Database, spec: &GlobalSpec, version: Option<u64>) -> Result<(), StateError> {
        let area = self.staging_area();
        let Some(load) = &mut self.load else { return Ok(()) };
        let rows = load.finish(db, area)?;
        let serving = self.serving_area();
        let mut verdict = spec.gate.verdict(serving.map(|_| self.meta.rows), rows);
        if serving.is_some() && self.load_intake.took_nothing() {
            let rejected = self.load_intake.rejected();
            verdict = Err(Refusal::NothingReadable { rejected });
        }
        if let Err(reason) = verdict {
            self.refuse(spec, version, reason);
            return Ok(());
        }
        self.load = None;
        self.meta.serving = Some(area.number);
        self.meta.rows = rows;
        self.meta.version = version;
        self.meta.staged_rows = 0;
        self.meta.refused = None;
        self.meta.rebuilding = false;
        self.meta.clear_staging = serving.is_some();
        self.meta.positions = std::mem::take(&mut self.load_positions);
        self.meta.intake = std::mem::take(&mut self.load_intake);
        self.meta.written_at_ms = wall_clock_ms();
        self.changed.everything = true;
        let mut batch = WriteBatch::default();
        self.meta.put(db, self.keyspace, &mut batch)?;
        db.write(batch)?;
        tracing::info!(store = %spec.store, rows, version = ?version, "global store serves");
        Ok(())
    }

    fn refuse(&mut self, spec: &GlobalSpec, version: Option<u64>, reason: Refusal) {
        tracing::warn!(store = %spec.store, version = ?version, reason = %reason, "version refused, the last good one serves on");
        self.meta.refused = Some(RefusedVersion { version, reason });
    }

    /// Moves staged rows into the serving area, in batches; a restart carries on where it was interrupted.
    fn promote(&mut self, db: &Database) -> Result<(), StateError> {
        let (Some(serving), Some(promotion)) = (self.serving_area(), self.meta.promoting) else {
            return Ok(());
        };
        let staging = self.staging_area();
        let family = db.family(Family::Global)?;
        loop {
            let mut batch = WriteBatch::default();
            let mut keys = Vec::new();
            staging.for_each(db, |key, value| {
                match value {
                    Some(value) => {
                        let mut flagged = Vec::with_capacity(1 + value.len());
                        Area::value_onto(Some(value), &mut flagged);
                        batch.put_cf(family, serving.key(key), flagged);
                    }
                    None => batch.delete_cf(family, serving.key(key)),
                }
                batch.delete_cf(family, staging.key(key));
                keys.push(key.to_vec());
                batch.size_in_bytes() < PROMOTION_BATCH_BYTES
            })?;
            if keys.is_empty() {
                break;
            }
            db.write(batch)?;
            self.changed.keys.extend(keys);
        }
        self.meta.promoting = None;
        self.meta.staged_rows = 0;
        self.meta.rows = promotion.rows;
        self.meta.version = promotion.version;
        self.meta.refused = None;
        self.write(db)
    }

    /// Empties the area that served before the last load, once readers have been sent to the other one.
    pub(crate) fn clear_staging(&mut self, db: &Database) -> Result<(), StateError> {
        if !self.meta.clear_staging {
            return Ok(());
        }
        self.meta.clear_staging = false;
        let mut batch = WriteBatch::default();
        self.staging_area().clear_in(db, &mut batch)?;
        self.meta.put(db, self.keyspace, &mut batch)?;
        db.write(batch)
    }

    /// Records that waited at a marker go on, until their partition waits again.
    fn take_deferred(&mut self, db: &Database, spec: &GlobalSpec) -> Result<(), StateError> {
        let partitions: Vec<i32> = self.deferred.keys().copied().collect();
        for partition in partitions {
            while !self.waits(spec, partition) {
                let Some(record) = self.deferred.get_mut(&partition).and_then(VecDeque::pop_front) else {
                    break;
                };
                self.take(
                    db,
                    spec,
                    &GlobalRecord {
                        partition,
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        marker_header: record.marker_header.as_deref(),
                    },
                )?;
            }
        }
        Ok(())
    }
}

impl GlobalMeta {
    fn candidate_rows(&self) -> u64 {
        self.rows.saturating_add_signed(self.staged_rows)
    }
}
