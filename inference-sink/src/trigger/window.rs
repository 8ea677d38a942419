//! Tumbling windows of one model and one input partition: one row per key and window.
//!
//! A window holds the features of its latest event alone: no events are kept. It closes when stream time has reached its
//! end plus the grace; an event that comes for a closed window is late. What changed since the last barrier is handed out
//! as changelog entries, so that open windows survive as state does.

use model_engine::Values;
use std::collections::{BTreeMap, BTreeSet};

/// What is kept of an open window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowEntry {
    /// features of the latest event, of each model input
    pub row: Vec<Values>,
    /// key of the output record
    pub output_key: Option<Vec<u8>>,
    /// which input topic the latest event is from, as the task numbers them
    pub topic: u16,
    /// offset of the latest event
    pub offset: i64,
    /// event time of the latest event, in milliseconds
    pub event_time_ms: i64,
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// it is its window's latest event now, or came after that one
    Taken,
    /// its window has closed
    Late,
}

/// A window that has closed.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedWindow {
    /// first millisecond
    pub start_ms: i64,
    /// its key
    pub key: Vec<u8>,
    /// what it held
    pub entry: WindowEntry,
}

/// A change of an open window since the last barrier; no entry: it has closed.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowChange {
    /// first millisecond
    pub start_ms: i64,
    /// its key
    pub key: Vec<u8>,
    /// what it holds now
    pub entry: Option<WindowEntry>,
}

/// The open windows.
#[derive(Clone, Debug)]
pub struct Windows {
    length_ms: i64,
    grace_ms: i64,
    open: BTreeMap<(i64, Vec<u8>), WindowEntry>,
    changed: BTreeSet<(i64, Vec<u8>)>,
    stream_time_ms: i64,
}

impl Windows {
    /// No open windows. Windows are aligned to the epoch.
    pub fn new(length_ms: i64, grace_ms: i64) -> Windows {
        Windows {
            length_ms: length_ms.max(1),
            grace_ms: grace_ms.max(0),
            open: BTreeMap::new(),
            changed: BTreeSet::new(),
            stream_time_ms: i64::MIN,
        }
    }

    /// Puts a window back as the changelog has it.
    pub fn restore(&mut self, start_ms: i64, key: Vec<u8>, entry: WindowEntry) {
        self.open.insert((start_ms, key), entry);
    }

    /// Takes an event, after stream time has moved to `stream_time_ms`.
    pub fn observe(&mut self, key: &[u8], entry: WindowEntry, stream_time_ms: i64) -> Observed {
        self.stream_time_ms = self.stream_time_ms.max(stream_time_ms);
        let start_ms = entry
            .event_time_ms
            .div_euclid(self.length_ms)
            .saturating_mul(self.length_ms);
        if self.closes_at(start_ms) <= self.stream_time_ms {
            return Observed::Late;
        }
        let place = (start_ms, key.to_vec());
        match self.open.get_mut(&place) {
            Some(open) if open.event_time_ms > entry.event_time_ms => {}
            Some(open) => *open = entry,
            None => {
                self.open.insert(place.clone(), entry);
            }
        }
        self.changed.insert(place);
        Observed::Taken
    }

    /// Closes what stream time has passed, in order of start and key.
    pub fn close(&mut self, stream_time_ms: i64) -> Vec<ClosedWindow> {
        self.stream_time_ms = self.stream_time_ms.max(stream_time_ms);
        let mut closed = Vec::new();
        while let Some(first) = self.open.first_entry() {
            let start_ms = first.key().0;
            if start_ms.saturating_add(self.length_ms).saturating_add(self.grace_ms) > self.stream_time_ms {
                break;
            }
            let (place, entry) = first.remove_entry();
            self.changed.insert(place.clone());
            closed.push(ClosedWindow {
                start_ms: place.0,
                key: place.1,
                entry,
            });
        }
        closed
    }

    /// What has changed since the last call.
    pub fn changes(&mut self) -> Vec<WindowChange> {
        std::mem::take(&mut self.changed)
            .into_iter()
            .map(|place| {
                let entry = self.open.get(&place).cloned();
                WindowChange {
                    start_ms: place.0,
                    key: place.1,
                    entry,
                }
            })
            .collect()
    }

    /// Number of open windows.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no window is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn closes_at(&self, start_ms: i64) -> i64 {
        start_ms.saturating_add(self.length_ms).saturating_add(self.grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn entry(offset: i64, event_time_ms: i64) -> WindowEntry {
        WindowEntry {
            row: vec![Values::Int64(vec![offset])],
            output_key: None,
            topic: 0,
            offset,
            event_time_ms,
        }
    }

    proptest! {
        #[test]
        fn every_window_closes_once_with_its_latest_event_and_survives_a_restart(
            events in prop::collection::vec((0u8..3, 0i64..2_000), 1..120), length in 1i64..300, grace in 0i64..200, restart_at in 0usize..120,
        ) {
            let mut windows = Windows::new(length, grace);
            let mut changelog: BTreeMap<(i64, Vec<u8>), WindowEntry> = BTreeMap::new();
            let mut expected: HashMap<(i64, u8), (i64, i64)> = HashMap::new();
            let mut closed: HashMap<(i64, u8), i64> = HashMap::new();
            let mut stream_time = i64::MIN;
            let mut record = |windows: &mut Windows, closed: &mut HashMap<(i64, u8), i64>, time: i64| {
                let mut last = (i64::MIN, Vec::new());
                for window in windows.close(time) {
                    prop_assert!((window.start_ms, window.key.clone()) > last);
                    last = (window.start_ms, window.key.clone());
                    prop_assert!(window.start_ms + length + grace <= time);
                    prop_assert!(closed.insert((window.start_ms, window.key[0]), window.entry.offset).is_none());
                }
                for change in windows.changes() {
                    match change.entry {
                        Some(entry) => { changelog.insert((change.start_ms, change.key), entry); }
                        None => { changelog.remove(&(change.start_ms, change.key)); }
                    }
                }
                prop_assert_eq!(&changelog, &windows.open);
                Ok(())
            };
            for (index, (key, time)) in events.into_iter().enumerate() {
                if index == restart_at {
                    let mut restored = Windows::new(length, grace);
                    for ((start, key), entry) in windows.open.clone() { restored.restore(start, key, entry); }
                    restored.stream_time_ms = stream_time;
                    windows = restored;
                }
                stream_time = stream_time.max(time);
                let start = time.div_euclid(length) * length;
                let late = start + length + grace <= stream_time;
                let observed = windows.observe(&[key], entry(index as i64, time), stream_time);
                prop_assert_eq!(observed, if late { Observed::Late } else { Observed::Taken });
                if !late {
                    let best = expected.entry((start, key)).or_insert((time, index as i64));
                    if time >= best.0 { *best = (time, index as i64); }
                }
                record(&mut windows, &mut closed, stream_time)?;
            }
            record(&mut windows, &mut closed, 1_000_000)?;
            prop_assert!(windows.is_empty());
            let expected: HashMap<(i64, u8), i64> = expected.into_iter().map(|(place, (_, offset))| (place, offset)).collect();
            prop_assert_eq!(closed, expected);
        }
    }

    #[test]
    fn times_at_the_ends_of_numbers_neither_overflow_nor_close_anything_early() {
        const TIMES: [i64; 7] = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        for length in [1, 7, i64::MAX] {
            for grace in [0, 1, i64::MAX] {
                for event in TIMES {
                    for stream in TIMES.into_iter().filter(|stream| *stream >= event) {
                        let mut windows = Windows::new(length, grace);
                        let start = i128::from(event).div_euclid(i128::from(length)) * i128::from(length);
                        let closes = start + i128::from(length) + i128::from(grace);
                        let late = windows.observe(b"k", entry(0, event), stream) == Observed::Late;
                        // Where the exact time of closing is a number, it is the one that counts.
                        if i64::try_from(start).is_ok() && i64::try_from(closes).is_ok() {
                            assert_eq!(late, closes <= i128::from(stream), "{event} {stream} {length} {grace}");
                        }
                        assert!(windows.close(stream).is_empty(), "what was taken is open");
                    }
                }
            }
        }
    }
}
