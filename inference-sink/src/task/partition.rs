//! The state of one input partition, over all topics of the connector.
//!
//! Everything that is not in a keyed store is an owner's record of the partition's progress store:
//!
//! ```text
//! p topic                       next offset to read (8 bytes, big endian)
//! m tenant/model                mode (JSON)
//! w tenant/model 00 start key   open window (see `encode_window`)
//! g                             `group.id` of the workers that the state belongs to
//! ```
//! The last is there because the topics of a connector's state are named by the connector alone: two groups on one Kafka
//! cluster that each have a connector of one name would write into each other's state.

use super::stored_row::{NoEntry, StoredRow};
use super::topology::WindowPlan;
use crate::detach::{Mode, Reason};
use crate::expiry::Archiver;
use crate::flow::RowBlock;
use crate::models::{ServedModel, decode_row, encode_row};
use crate::trigger::{ClosedWindow, WindowEntry, Windows};
use bytes::Bytes;
use model_engine::{ElementType, Values};
use state_store::changelog::owner_record;
use state_store::{ChangeRecord, KeyedPartition, StreamTime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Name of the store that holds progress; a dot keeps it apart from stores of users.
pub(super) const PROGRESS: &str = "task.progress";

/// Key of the record that names the group.
const GROUP: &[u8] = b"g";

/// One input partition.
pub(super) struct PartitionState {
    /// whose state it is: `group.id`
    group: Arc<str>,
    group_recorded: bool,
    /// owner's records
    pub progress: KeyedPartition<NoEntry>,
    /// in the order of the topology's stores
    pub stores: Vec<KeyedPartition<StoredRow>>,
    /// of the stores that are archived, in the same order
    pub archivers: Vec<Option<Archiver>>,
    pub stream_time: StreamTime,
    /// next offset to read, by topic number
    positions: Vec<Option<i64>>,
    positions_changed: bool,
    modes: BTreeMap<Arc<str>, Mode>,
    modes_changed: BTreeSet<Arc<str>>,
    windows: BTreeMap<Arc<str>, Windows>,
    /// rows of detached models that wait for the feature log
    waiting: BTreeMap<Arc<str>, Vec<RowBlock>>,
    diverted: BTreeMap<Arc<str>, Reason>,
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
        idle_after_ms: i64,
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
            stream_time: StreamTime::new(None, idle_after_ms, crate::clock::wall_ms()),
            progress,
            stores,
            archivers: Vec::new(),
            positions: vec![None; topics.len()],
            positions_changed: false,
            modes: BTreeMap::new(),
            modes_changed: BTreeSet::new(),
            windows: BTreeMap::new(),
            waiting: BTreeMap::new(),
            diverted: BTreeMap::new(),
        };
        state.reload(topics, idle_after_ms)?;
        Ok(state)
    }

    /// Goes back to what was committed last. Window state comes with `windows_of`, from the records kept here.
    pub fn reload(&mut self, topics: &[Arc<str>], idle_after_ms: i64) -> Result<(), String> {
        let persisted = self
            .progress
            .position()
            .map(|position| position.stream_time_ms)
            .filter(|ms| *ms > i64::MIN);
        self.stream_time = StreamTime::new(persisted, idle_after_ms, crate::clock::wall_ms());
        self.positions.fill(None);
        self.positions_changed = false;
        self.group_recorded = false;
        self.modes.clear();
        self.modes_changed.clear();
        self.windows.clear();
        self.waiting.clear();
        self.diverted.clear();
        for (key, value) in self.progress.owner_records().map_err(|error| error.to_string())? {
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
                Some((b'g', [])) => self.group_recorded = true,
                _ => {}
            }
        }
        Ok(())
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

    /// The windows of a model, read back from the committed state at the first call.
    pub fn windows_of(&mut self, model: &ServedModel, plan: &WindowPlan, topics: &[Arc<str>]) -> &mut Windows {
        let progress = &self.progress;
        self.windows.entry(model.identity.clone()).or_insert_with(|| {
            let mut windows = Windows::new(plan.length_ms, plan.grace_ms);
            let start = [b"w", model.identity.as_bytes(), b"\0"].concat();
            for (key, value) in progress.owner_records().unwrap_or_default() {
                let Some((start_ms, rest)) = key
                    .strip_prefix(&start[..])
                    .and_then(|rest| rest.split_first_chunk::<8>())
                else {
                    continue;
                };
                match decode_window(&value, model.widths(), topics) {
                    Some(entry) => windows.restore(i64::from_be_bytes(*start_ms), rest.to_vec(), entry),
                    None => tracing::warn!(model = %model.identity, "an open window cannot be read and is dropped"),
                }
            }
            windows
        })
    }

    /// Closes what stream time has passed, by model.
    pub fn close_windows(&mut self, stream_ms: i64) -> Vec<(Arc<str>, Vec<ClosedWindow>)> {
        let closed = self
            .windows
            .iter_mut()
            .map(|(model, windows)| (model.clone(), windows.close(stream_ms)));
        closed.filter(|(_, closed)| !closed.is_empty()).collect()
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
            let mode = self.mode(&model);
            let key = [b"m", model.as_bytes()].concat();
            let value = mode
                .is_detached()
                .then(|| Bytes::from(serde_json::to_vec(&mode).unwrap_or_default()));
            records.push(owner_record(&key, value));
        }
        if !records.is_empty() && !std::mem::replace(&mut self.group_recorded, true) {
            let group = Bytes::copy_from_slice(self.group.as_bytes());
            records.push(owner_record(GROUP, Some(group)));
        }
        for (model, windows) in &mut self.windows {
            for change in windows.changes() {
                let key = [
                    b"w",
                    model.as_bytes(),
                    b"\0",
                    &change.start_ms.to_be_bytes()[..],
                    &change.key,
                ]
                .concat();
                records.push(owner_record(
                    &key,
                    change.entry.map(|entry| encode_window(&entry, topics).into()),
                ));
            }
        }
        records
    }
}

const WINDOW: u8 = 2;
const WINDOW_OF_FLOATS: u8 = 1;

/// An open window: format (1), topic length (2) and name, offset (8), event time (8), output key length (4, all ones for
/// none) and key, the row of features (see [`encode_row`]). Big endian. In format 1 the features are float32, one after the
/// other over all inputs.
fn encode_window(entry: &WindowEntry, topics: &[Arc<str>]) -> Vec<u8> {
    let topic = topics.get(usize::from(entry.topic)).map_or("", |topic| topic);
    let mut out = vec![WINDOW];
    out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(&entry.offset.to_be_bytes());
    out.extend_from_slice(&entry.event_time_ms.to_be_bytes());
    match &entry.output_key {
        Some(key) => {
            out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(key);
        }
        None => out.extend_from_slice(&u32::MAX.to_be_bytes()),
    }
    encode_row(&entry.row, &mut out);
    out
}

/// `widths`: features of each input of the model.
fn decode_window(bytes: &[u8], widths: &[usize], topics: &[Arc<str>]) -> Option<WindowEntry> {
    let (format, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (event_time, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (output_key, rest) = match u32::from_be_bytes(*length) {
        u32::MAX => (None, rest),
        length => {
            let (key, rest) = rest.split_at_checked(length as usize)?;
            (Some(key.to_vec()), rest)
        }
    };
    let row = match *format {
        WINDOW => decode_row(rest)?,
        WINDOW_OF_FLOATS => decode_floats(rest, widths)?,
        _ => return None,
    };
    Some(WindowEntry {
        row,
        output_key,
        topic: u16::try_from(topics.iter().position(|known| known.as_bytes() == topic)?).ok()?,
        offset: i64::from_be_bytes(*offset),
        event_time_ms: i64::from_be_bytes(*event_time),
    })
}

fn decode_floats(bytes: &[u8], widths: &[usize]) -> Option<Vec<Values>> {
    let mut all = Values::new(ElementType::Float);
    if !all.read(bytes) || all.len() != widths.iter().sum::<usize>() {
        return None;
    }
    let mut start = 0;
    let input = |width: &usize| {
        let mut values = Values::new(ElementType::Float);
        values.extend_from(&all, start..start + width);
        start += width;
        values
    };
    Some(widths.iter().map(input).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::any_row;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_come_back(
            row in any_row(), key in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            topic in 0u16..2, offset: i64, event_time_ms: i64,
        ) {
            let topics: Vec<Arc<str>> = vec!["a".into(), "events.b".into()];
            let entry = WindowEntry { row, output_key: key, topic, offset, event_time_ms };
            prop_assert_eq!(decode_window(&encode_window(&entry, &topics), &[], &topics), Some(entry));
        }

        #[test]
        fn any_bytes_give_a_window_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_window(&bytes, &[2, 1], &["a".into()]);
        }
    }

    #[test]
    fn windows_of_floats_come_back_by_input() {
        let floats = [1.5f32, -2.0, 0.25].map(f32::to_be_bytes).concat();
        let fixed = [&[1, 0, 1, b'a'][..], &7i64.to_be_bytes(), &8i64.to_be_bytes(), &[0xff; 4], &floats].concat();
        let entry = decode_window(&fixed, &[2, 1], &["a".into()]).unwrap();
        assert_eq!(entry.row, [Values::Float(vec![1.5, -2.0]), Values::Float(vec![0.25])]);
        assert_eq!((entry.offset, entry.event_time_ms, entry.output_key), (7, 8, None));
        assert_eq!(decode_window(&fixed, &[2], &["a".into()]), None);
    }
}
