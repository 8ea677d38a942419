//! The state of one input partition, over all topics of the connector.
//!
//! Everything that is not in a keyed store is an owner's record of the partition's progress store:
//!
//! ```text
//! p topic                       next offset to read (8 bytes, big endian)
//! m tenant/model                mode (JSON)
//! s tenant/model                feature log entries behind its position that are done (offsets, 8 bytes each, big endian)
//! t view                        stream time (8 bytes, big endian) and, once it is known, the longest pause between events
//! o tenant/model 00 ...         open window (see `stored_windows`)
//! i tenant/model 00 hash        inputs that stored rows were made for (JSON; see `kept_signatures`)
//! g                             `group.id` of the workers that the state belongs to
//! l                             id of the feature log's topic, which the modes' positions are of (16 bytes)
//! ```
//! The group is there because the topics of a connector's state are named by the connector alone: two groups on one Kafka
//! cluster that each have a connector of one name would write into each other's state.

use super::kept_signatures::{KeptSignatures, SIGNATURE};
use super::stored_row::{NoEntry, StoredRow};
use super::stored_windows::{
    OLD_WINDOW, WINDOW, adopt_window, decode_window, encode_window, read_window_key, split_model, window_key,
};
use crate::detach::{Mode, Reason};
use crate::expiry::Archiver;
use crate::flow::RowBlock;
use crate::models::ServedModel;
use crate::trigger::{WindowEntry, WindowPlace, WindowRule, Windows};
use bytes::Bytes;
use kafka_client::TopicId;
use state_store::changelog::owner_record;
use state_store::{ChangeRecord, KeyedPartition, StreamTime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Name of the store that holds progress; a dot keeps it apart from stores of users.
pub(super) const PROGRESS: &str = "task.progress";

/// Key of the record that names the group.
const GROUP: &[u8] = b"g";
/// Key of the record with the feature log's id.
const LOG_ID: &[u8] = b"l";

/// One input partition.
pub(super) struct PartitionState {
    /// whose state it is: `group.id`
    group: Arc<str>,
    group_recorded: bool,
    /// the feature log's id, and the one that was committed
    log_id: Option<TopicId>,
    log_id_recorded: Option<TopicId>,
    /// owner's records
    pub progress: KeyedPartition<NoEntry>,
    /// in the order of the topology's stores
    pub stores: Vec<KeyedPartition<StoredRow>>,
    /// of the stores that are archived, in the same order
    pub archivers: Vec<Option<Archiver>>,
    /// in the order of the topology's views
    times: Vec<ViewTime>,
    idle_after_ms: Option<i64>,
    /// next offset to read, by topic number
    positions: Vec<Option<i64>>,
    /// where reading began of topics that nothing had been committed of
    started: Vec<Option<i64>>,
    positions_changed: bool,
    modes: BTreeMap<Arc<str>, Mode>,
    modes_changed: BTreeSet<Arc<str>>,
    /// feature log entries behind models' positions that are done already
    passed_over: BTreeMap<Arc<str>, BTreeSet<i64>>,
    windows: BTreeMap<Arc<str>, Windows>,
    /// windows of before windows knew their version, as they were committed
    old_windows: Vec<(Bytes, Bytes)>,
    /// windows that cannot be read: their models, and why
    lost_windows: Vec<(Arc<str>, &'static str)>,
    /// keys of windows' records that are to be deleted: they were lost, or are written under another key
    gone_windows: Vec<Vec<u8>>,
    /// what stored rows were made for
    pub signatures: KeptSignatures,
    /// rows of detached models that wait for the feature log
    waiting: BTreeMap<Arc<str>, Vec<RowBlock>>,
    diverted: BTreeMap<Arc<str>, Reason>,
}

/// Stream time of one view: the largest time of its events in this partition.
struct ViewTime {
    view: Arc<str>,
    time: StreamTime,
    /// what the last barrier wrote
    written: Option<(i64, Option<i64>)>,
}

impl ViewTime {
    /// What is to be written.
    fn state(&self) -> Option<(i64, Option<i64>)> {
        Some((self.time.now_ms()?, self.time.pause_ms()))
    }
}

impl PartitionState {
    /// A restored partition of a group's connector; `topics` by number, `idle_after_ms` as configured.
    ///
    /// Error: what is restored cannot be read, or is another group's.
    pub fn new(
        group: &Arc<str>,
        progress: KeyedPartition<NoEntry>,
        stores: Vec<KeyedPartition<StoredRow>>,
        topics: &[Arc<str>],
        idle_after_ms: Option<i64>,
    ) -> Result<PartitionState, String> {
        let recorded = progress.owner_records().map_err(|error| error.to_string())?;
        let recorded = recorded.iter().find(|(key, _)| key[..] == *GROUP);
        if let Some((_, other)) = recorded.filter(|(_, recorded)| recorded[..] != *group.as_bytes()) {
            return Err(format!(
                "the state in connect-{connector}-* on this Kafka cluster belongs to the connector {connector} of the group {}, \
                 and group.id is {group} here: give this connector another name, or delete those topics if that group is no more",
                String::from_utf8_lossy(other),
                connector = progress.spec().connector,
            ));
        }
        let mut state = PartitionState {
            group: group.clone(),
            group_recorded: false,
            log_id: None,
            log_id_recorded: None,
            times: Vec::new(),
            idle_after_ms,
            progress,
            stores,
            archivers: Vec::new(),
            positions: vec![None; topics.len()],
            started: vec![None; topics.len()],
            positions_changed: false,
            modes: BTreeMap::new(),
            modes_changed: BTreeSet::new(),
            passed_over: BTreeMap::new(),
            windows: BTreeMap::new(),
            old_windows: Vec::new(),
            lost_windows: Vec::new(),
            gone_windows: Vec::new(),
            signatures: KeptSignatures::default(),
            waiting: BTreeMap::new(),
            diverted: BTreeMap::new(),
        };
        state.reload(topics)?;
        Ok(state)
    }

    /// Goes back to what was committed last.
    pub fn reload(&mut self, topics: &[Arc<str>]) -> Result<(), String> {
        let views: Vec<Arc<str>> = self.times.drain(..).map(|time| time.view).collect();
        self.follow_views(&views)?;
        self.positions.fill(None);
        self.positions_changed = false;
        self.group_recorded = false;
        self.log_id_recorded = None;
        self.modes.clear();
        self.modes_changed.clear();
        self.passed_over.clear();
        self.windows.clear();
        self.old_windows.clear();
        self.lost_windows.clear();
        self.gone_windows.clear();
        self.signatures = KeptSignatures::default();
        self.waiting.clear();
        self.diverted.clear();
        let records = self.progress.owner_records().map_err(|error| error.to_string())?;
        for (key, value) in &records {
            match key.split_first() {
                Some((&SIGNATURE, key)) => self.signatures.restore(key, value)?,
                Some((&OLD_WINDOW, _)) => self.old_windows.push((key.clone(), value.clone())),
                _ => {}
            }
        }
        for (key, value) in records {
            match key.split_first() {
                Some((b'p', topic)) => {
                    let number = topics.iter().position(|known| known.as_bytes() == topic);
                    let offset = <[u8; 8]>::try_from(&value[..]).map(i64::from_be_bytes);
                    if let (Some(number), Ok(offset)) = (number, offset)
                        && let Some(position) = self.positions.get_mut(number)
                    {
                        *position = Some(offset);
                    }
                }
                Some((b'm', model)) => {
                    let mode = serde_json::from_slice(&value).map_err(|error| format!("mode of a model: {error}"))?;
                    self.modes.insert(String::from_utf8_lossy(model).into(), mode);
                }
                Some((b's', model)) => {
                    let offsets = value.chunks_exact(8).filter_map(|offset| offset.try_into().ok());
                    let offsets = offsets.map(i64::from_be_bytes).collect();
                    self.passed_over.insert(String::from_utf8_lossy(model).into(), offsets);
                }
                Some((&WINDOW, place)) => self.restore_window(&key, place, &value, topics),
                Some((b'g', [])) => self.group_recorded = true,
                Some((b'l', [])) => {
                    self.log_id_recorded = <[u8; 16]>::try_from(&value[..]).ok().and_then(TopicId::from_bytes);
                }
                _ => {}
            }
        }
        for (position, started) in self.positions.iter_mut().zip(&self.started) {
            if position.is_none() && started.is_some() {
                *position = *started;
                self.positions_changed = true;
            }
        }
        Ok(())
    }

    /// Notes where reading of a topic begins that nothing was committed of: the next barrier commits that, and what is lost
    /// before is read from there again.
    pub fn starts_at(&mut self, topic: usize, offset: i64) {
        if let (Some(started), Some(position)) = (self.started.get_mut(topic), self.positions.get_mut(topic)) {
            *started = Some(offset);
            *position = Some(offset);
            self.positions_changed = true;
        }
    }

    /// Has a time for each of these views, in their order: what it has, else what was committed.
    pub fn follow_views(&mut self, views: &[Arc<str>]) -> Result<(), String> {
        let mut committed: BTreeMap<String, (i64, Option<i64>)> = BTreeMap::new();
        for (key, value) in self.progress.owner_records().map_err(|error| error.to_string())? {
            if let Some((b't', view)) = key.split_first()
                && let Some((now, pause)) = value.split_first_chunk::<8>()
            {
                let pause = <[u8; 8]>::try_from(pause).ok().map(i64::from_be_bytes);
                let view = String::from_utf8_lossy(view).into_owned();
                committed.insert(view, (i64::from_be_bytes(*now), pause));
            }
        }
        // State of before views had times of their own: all of them had this one.
        let position = self.progress.position().filter(|_| committed.is_empty());
        let common = position
            .map(|position| (position.stream_time_ms, None))
            .filter(|(now, _)| *now > i64::MIN);
        let mut before = std::mem::take(&mut self.times);
        for view in views {
            if let Some(known) = before.iter().position(|time| time.view == *view) {
                self.times.push(before.swap_remove(known));
                continue;
            }
            let written = committed.get(&**view).copied();
            let start = written.or(common);
            let time = StreamTime::new(start.map(|(now, _)| now), self.idle_after_ms);
            self.times.push(ViewTime {
                view: view.clone(),
                time: time.with_pause(start.and_then(|(_, pause)| pause), crate::clock::wall_ms()),
                written,
            });
        }
        Ok(())
    }

    /// A view's time and the stores, to compute an event.
    pub fn time_and_stores(&mut self, view: usize) -> Option<(&mut StreamTime, &mut [KeyedPartition<StoredRow>])> {
        let time = self.times.get_mut(view)?;
        Some((&mut time.time, &mut self.stores))
    }

    /// The least of the times of these views, of those that have one.
    pub fn time_of(&self, views: &BTreeSet<usize>) -> Option<i64> {
        let times = views.iter().filter_map(|view| self.times.get(*view)?.time.now_ms());
        times.min()
    }

    /// Input that is idle moves the times on; `quiet_since_wall_ms`: since when nothing has come that was not handed over.
    pub fn idle(&mut self, quiet_since_wall_ms: i64, wall_ms: i64) {
        for time in &mut self.times {
            time.time.idle(quiet_since_wall_ms, wall_ms);
        }
    }

    /// The largest of all times.
    pub fn latest_time(&self) -> Option<i64> {
        self.times.iter().filter_map(|time| time.time.now_ms()).max()
    }

    /// The next offset of a topic; none: nothing was committed for it.
    pub fn position(&self, topic: usize) -> Option<i64> {
        self.positions.get(topic).copied().flatten()
    }

    /// Notes that a topic was read up to `next`.
    pub fn read_to(&mut self, topic: usize, next: i64) {
        if let Some(position) = self.positions.get_mut(topic) {
            *position = Some(next);
            self.positions_changed = true;
        }
    }

    /// A model's mode.
    pub fn mode(&self, model: &str) -> Mode {
        self.modes.get(model).copied().unwrap_or_default()
    }

    /// Changes a model's mode.
    pub fn set_mode(&mut self, model: &Arc<str>, mode: Mode) {
        if self.mode(model) != mode {
            self.modes.insert(model.clone(), mode);
            self.modes_changed.insert(model.clone());
        }
    }

    /// The owner's record of a model's mode.
    pub fn mode_record(&self, model: &str) -> ChangeRecord {
        let mode = self.mode(model);
        let key = [b"m", model.as_bytes()].concat();
        let value = mode
            .is_detached()
            .then(|| Bytes::from(serde_json::to_vec(&mode).unwrap_or_default()));
        owner_record(&key, value)
    }

    /// Notes that a model has done entries behind its position: it passes them over when it comes to them again.
    pub fn pass_over(&mut self, model: &Arc<str>, offsets: impl Iterator<Item = i64>) {
        let mut offsets = offsets.peekable();
        if offsets.peek().is_some() {
            self.passed_over.entry(model.clone()).or_default().extend(offsets);
        }
    }

    /// Whether a model has done an entry behind its position.
    pub fn passes_over(&self, model: &str, offset: i64) -> bool {
        let own = self.passed_over.get(model);
        own.is_some_and(|offsets| offsets.contains(&offset))
    }

    /// The owner's record of what a model passes over; none: there never was anything.
    pub fn passed_over_record(&self, model: &str) -> Option<ChangeRecord> {
        let offsets = self.passed_over.get(model)?;
        let key = [b"s", model.as_bytes()].concat();
        let value: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        Some(owner_record(&key, (!value.is_empty()).then(|| value.into())))
    }

    /// Forgets entries that models' positions have passed; gives the records that say so.
    fn trim_passed_over(&mut self) -> Vec<ChangeRecord> {
        let mut records = Vec::new();
        for model in self.passed_over.keys().cloned().collect::<Vec<_>>() {
            let position = match self.mode(&model) {
                Mode::InStep => i64::MAX,
                Mode::Detached(detached) => detached.position,
            };
            let Some(offsets) = self.passed_over.get_mut(&model) else {
                continue;
            };
            let left = offsets.split_off(&position);
            if std::mem::replace(offsets, left).is_empty() {
                continue;
            }
            records.extend(self.passed_over_record(&model));
            if self.passed_over.get(&model).is_some_and(BTreeSet::is_empty) {
                self.passed_over.remove(&model);
            }
        }
        records
    }

    /// The feature log has this id (none: the brokers have none). If it is another one than the positions of detached models
    /// are of, they go on at its beginning. Returns those, with how many entries of theirs are lost at most.
    pub fn follow_log(&mut self, id: Option<TopicId>) -> Vec<(Arc<str>, i64)> {
        self.log_id = id;
        let made_again = matches!((self.log_id_recorded, id), (Some(before), Some(now)) if before != now);
        if !made_again {
            return Vec::new();
        }
        let detached: Vec<(Arc<str>, Mode)> = self.detached().map(|(model, mode)| (model.clone(), *mode)).collect();
        let mut lost = Vec::with_capacity(detached.len());
        for (model, mut mode) in detached {
            let entries = mode.log_made_again();
            self.set_mode(&model, mode);
            lost.push((model, entries));
        }
        lost
    }

    /// Models that are detached, with their modes.
    pub fn detached(&self) -> impl Iterator<Item = (&Arc<str>, &Mode)> {
        self.modes.iter().filter(|(_, mode)| mode.is_detached())
    }

    /// From now on a model's rows wait for the feature log; the barrier makes that its mode.
    pub fn divert(&mut self, model: &ServedModel, reason: Reason) {
        if !self.mode(&model.identity).is_detached() {
            self.diverted.entry(model.identity.clone()).or_insert(reason);
        }
    }

    /// The same for a model that may not run: whatever detached it before, that is now why.
    pub fn hold(&mut self, model: &ServedModel, reason: Reason) {
        let mut mode = self.mode(&model.identity);
        match mode.is_detached() {
            true => {
                mode.detach(reason, 0);
                self.set_mode(&model.identity, mode);
            }
            false => self.divert(model, reason),
        }
    }

    /// Why models were diverted since the last barrier.
    pub fn take_diverted(&mut self) -> BTreeMap<Arc<str>, Reason> {
        std::mem::take(&mut self.diverted)
    }

    /// Whether a model's rows wait for the feature log.
    pub fn is_diverted(&self, model: &str) -> bool {
        (!self.modes.is_empty() && self.mode(model).is_detached())
            || (!self.diverted.is_empty() && self.diverted.contains_key(model))
    }

    /// The block that takes a detached model's next row.
    pub fn waiting_block(&mut self, model: &Arc<ServedModel>) -> Option<&mut RowBlock> {
        let blocks = self.waiting.entry(model.identity.clone()).or_default();
        if !blocks.last().is_some_and(|block| Arc::ptr_eq(&block.model, model)) {
            blocks.push(RowBlock::new(model));
        }
        blocks.last_mut()
    }

    /// Puts rows in front of those that wait.
    pub fn wait_first(&mut self, model: &Arc<str>, mut rows: Vec<RowBlock>) {
        let blocks = self.waiting.entry(model.clone()).or_default();
        rows.append(blocks);
        *blocks = rows;
    }

    /// Whether rows of a model wait.
    pub fn has_waiting(&self, model: &str) -> bool {
        self.waiting
            .get(model)
            .is_some_and(|blocks| blocks.iter().any(|block| block.rows() > 0))
    }

    /// Number of a model's rows that wait.
    pub fn waiting_rows(&self, model: &str) -> usize {
        self.waiting
            .get(model)
            .map_or(0, |blocks| blocks.iter().map(RowBlock::rows).sum())
    }

    /// Takes a model's rows that wait.
    pub fn take_waiting(&mut self, model: &str) -> Vec<RowBlock> {
        self.waiting.remove(model).unwrap_or_default()
    }

    /// Takes all rows that wait.
    pub fn take_all_waiting(&mut self) -> BTreeMap<Arc<str>, Vec<RowBlock>> {
        std::mem::take(&mut self.waiting)
    }

    fn restore_window(&mut self, key: &[u8], place: &[u8], value: &[u8], topics: &[Arc<str>]) {
        let Some((model, place)) = read_window_key(place) else {
            tracing::warn!(key = ?key, "the record of an open window has a key that cannot be read");
            return;
        };
        let model: Arc<str> = model.into();
        let signature = |hash| self.signatures.by_hash(&model, hash).cloned();
        match decode_window(value, topics, signature) {
            Ok(entry) => self.windows.entry(model).or_default().restore(place, entry),
            Err(error) => {
                self.lost_windows.push((model, error));
                self.gone_windows.push(key.to_vec());
            }
        }
    }

    /// The open windows of a model.
    pub fn windows_of(&mut self, model: &Arc<str>) -> &mut Windows {
        if !self.windows.contains_key(model) {
            self.windows.insert(model.clone(), Windows::default());
        }
        #[allow(clippy::expect_used)] // inserted just above
        self.windows.get_mut(model).expect("the windows of a model")
    }

    /// Takes up the open windows of before windows knew their version, as those of these models and their triggers.
    pub fn adopt_windows<'a>(
        &mut self,
        models: impl Iterator<Item = (&'a Arc<ServedModel>, WindowRule)>,
        topics: &[Arc<str>],
    ) {
        if self.old_windows.is_empty() {
            return;
        }
        let models: BTreeMap<&str, (&Arc<ServedModel>, WindowRule)> =
            models.map(|(model, rule)| (&*model.identity, (model, rule))).collect();
        for (key, value) in std::mem::take(&mut self.old_windows) {
            let split = key.get(1..).and_then(split_model);
            let known = split.and_then(|(model, rest)| Some((models.get(model)?, rest)));
            let Some(((model, rule), rest)) = known else {
                // Its model may be put again.
                self.old_windows.push((key, value));
                continue;
            };
            match adopt_window(rest, &value, topics, rule, model) {
                Ok((place, entry)) => {
                    let windows = self.windows_of(&model.identity);
                    windows.restore(place.clone(), entry);
                    windows.write_again(place);
                }
                Err(error) => self.lost_windows.push((model.identity.clone(), error)),
            }
            self.gone_windows.push(key.to_vec());
        }
    }

    /// Windows that cannot be read, by model, with the reason.
    pub fn take_lost_windows(&mut self) -> Vec<(Arc<str>, &'static str)> {
        std::mem::take(&mut self.lost_windows)
    }

    /// Forgets what rows were made for that are not stored any more. Called when nothing is under way.
    pub fn trim_signatures(&mut self) {
        for model in self.signatures.models() {
            // Nobody knows which signatures the entries of the feature log are of.
            if self.is_diverted(&model) || self.has_waiting(&model) {
                continue;
            }
            let open = self.windows.get(&model).into_iter().flat_map(Windows::open);
            let used = open.map(|(_, entry)| entry.signature.hash()).collect();
            self.signatures.retain(&model, &used);
        }
    }

    /// Models with windows.
    pub fn windowed(&self) -> Vec<Arc<str>> {
        let open = self.windows.iter().filter(|(_, windows)| !windows.is_empty());
        open.map(|(model, _)| model.clone()).collect()
    }

    /// Closes what a model's time has passed.
    pub fn close_windows(&mut self, model: &str, views: &BTreeSet<usize>) -> Vec<(WindowPlace, WindowEntry)> {
        let now_ms = self.time_of(views);
        match (self.windows.get_mut(model), now_ms) {
            (Some(windows), Some(now_ms)) => windows.close(now_ms),
            _ => Vec::new(),
        }
    }

    /// Owner's records that have changed since the last call.
    pub fn take_owner_records(&mut self, topics: &[Arc<str>]) -> Vec<ChangeRecord> {
        let mut records = Vec::new();
        if std::mem::take(&mut self.positions_changed) {
            for (topic, position) in topics.iter().zip(&self.positions) {
                if let Some(position) = position {
                    let key = [b"p", topic.as_bytes()].concat();
                    records.push(owner_record(
                        &key,
                        Some(Bytes::copy_from_slice(&position.to_be_bytes())),
                    ));
                }
            }
        }
        for model in std::mem::take(&mut self.modes_changed) {
            records.push(self.mode_record(&model));
        }
        records.append(&mut self.trim_passed_over());
        for time in &mut self.times {
            let state = time.state();
            if let Some((now, pause)) = state.filter(|_| state != time.written) {
                time.written = state;
                let key = [b"t", time.view.as_bytes()].concat();
                let mut value = now.to_be_bytes().to_vec();
                value.extend(pause.into_iter().flat_map(i64::to_be_bytes));
                records.push(owner_record(&key, Some(value.into())));
            }
        }
        if !records.is_empty() && !std::mem::replace(&mut self.group_recorded, true) {
            let group = Bytes::copy_from_slice(self.group.as_bytes());
            records.push(owner_record(GROUP, Some(group)));
        }
        if let Some(id) = self
            .log_id
            .filter(|id| !records.is_empty() && self.log_id_recorded != Some(*id))
        {
            records.push(owner_record(LOG_ID, Some(Bytes::copy_from_slice(id.as_bytes()))));
            self.log_id_recorded = Some(id);
        }
        for (model, windows) in &mut self.windows {
            for (place, entry) in windows.changes() {
                if let Some(entry) = &entry {
                    self.signatures.keep(model, &entry.signature);
                }
                let value = entry.map(|entry| encode_window(&entry, topics).into());
                records.push(owner_record(&window_key(model, &place), value));
            }
        }
        let gone = std::mem::take(&mut self.gone_windows).into_iter();
        records.extend(gone.map(|key| owner_record(&key, None)));
        records.append(&mut self.signatures.take_records());
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition as it is after a restart with what was committed.
    fn restored(db: &state_store::Database) -> PartitionState {
        let spec = state_store::KeyedSpec {
            connector: "c".into(),
            store: PROGRESS.into(),
            partition: 0,
            ttl: None,
            archive: false,
        };
        let progress = KeyedPartition::open(db, spec).unwrap();
        PartitionState::new(&"g".into(), progress, Vec::new(), &["events".into()], None).unwrap()
    }

    fn commit(state: &mut PartitionState) {
        let records = state.take_owner_records(&["events".into()]);
        let mut changes = state.progress.changes();
        records.into_iter().for_each(|record| changes.push(record));
        let position = state_store::Position {
            input_offset: 1,
            stream_time_ms: 0,
            changelog_offset: 1,
        };
        state.progress.committed(changes, &position).unwrap();
    }

    #[test]
    fn a_detached_model_goes_on_at_the_beginning_of_a_feature_log_that_was_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let db = state_store::Database::open(directory.path(), state_store::MemoryBudget::default()).unwrap();
        let id = |number| TopicId::from_bytes([number; 16]);
        let model: Arc<str> = "ads/bid".into();
        let mut state = restored(&db);
        assert_eq!(state.follow_log(id(1)), []);
        let mut mode = Mode::default();
        mode.detach(Reason::Paused, 40);
        mode.appended(49);
        state.set_mode(&model, mode);
        commit(&mut state);
        drop(state);
        let mut state = restored(&db);
        assert_eq!(state.follow_log(id(1)), [], "the same log");
        assert_eq!(state.follow_log(None), [], "brokers without ids");
        assert_eq!(state.follow_log(id(2)), [(model.clone(), 10)]);
        let mut begun = Mode::default();
        begun.detach(Reason::Paused, 0);
        assert_eq!(state.mode(&model), begun);
        commit(&mut state);
        drop(state);
        assert_eq!(restored(&db).follow_log(id(2)), [], "said once");
    }
}
