//! Tumbling windows of one model and one input partition: one row per key and window.
//!
//! A window holds the features of its latest event alone: no events are kept. It closes when stream time has reached its
//! end plus the grace that it was opened with, whatever the model's trigger says by then; an event that comes for a closed
//! window is late. What changed since the last barrier is handed out as changelog entries, so that open windows survive as
//! state does.

use crate::models::InputSignature;
use model_engine::Values;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is kept of an open window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowEntry {
    /// the version of the model that made the row
    pub version: u64,
    /// what the row holds
    pub signature: Arc<InputSignature>,
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

/// Which windows a trigger opens. They are aligned to the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRule {
    /// length in milliseconds
    pub length_ms: i64,
    /// how long late events are waited for, in milliseconds of event time
    pub grace_ms: i64,
    /// tells keys of some expressions from keys of others
    pub by: u64,
}

impl WindowRule {
    /// The window that it opens for an event.
    pub(crate) fn place(&self, event_time_ms: i64, key: &[u8]) -> WindowPlace {
        let length_ms = self.length_ms.max(1);
        let start_ms = event_time_ms.div_euclid(length_ms).saturating_mul(length_ms);
        let end_ms = start_ms.saturating_add(length_ms);
        WindowPlace {
            closes_ms: end_ms.saturating_add(self.grace_ms.max(0)),
            end_ms,
            start_ms,
            by: self.by,
            key: key.to_vec(),
        }
    }
}

/// A window, in the order of closing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowPlace {
    /// stream time at which it closes, in milliseconds
    pub closes_ms: i64,
    /// the first millisecond that is behind it
    pub end_ms: i64,
    /// its first millisecond
    pub start_ms: i64,
    /// by which expressions
    pub by: u64,
    /// its key
    pub key: Vec<u8>,
}

impl WindowPlace {
    fn grace_ms(&self) -> i64 {
        self.closes_ms.saturating_sub(self.end_ms)
    }
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// it is its window's latest event now, or came after that one
    Taken,
    /// its window has closed
    Late,
}

/// A change of an open window since the last barrier; no entry: it has closed.
pub type WindowChange = (WindowPlace, Option<WindowEntry>);

/// The open windows.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    open: BTreeMap<WindowPlace, WindowEntry>,
    changed: BTreeSet<WindowPlace>,
    /// how many are open with each grace: an event's window may have been opened under another than the trigger says now
    graces: BTreeMap<i64, usize>,
}

impl Windows {
    /// Puts a window back as the changelog has it.
    pub fn restore(&mut self, place: WindowPlace, entry: WindowEntry) {
        self.put(place, entry);
    }

    /// A window of before is written anew.
    pub fn write_again(&mut self, place: WindowPlace) {
        self.changed.insert(place);
    }

    fn put(&mut self, place: WindowPlace, entry: WindowEntry) {
        let grace_ms = place.grace_ms();
        if self.open.insert(place, entry).is_none() {
            *self.graces.entry(grace_ms).or_insert(0) += 1;
        }
    }

    /// Takes an event, after stream time has moved to `stream_time_ms`.
    pub fn observe(&mut self, rule: &WindowRule, key: &[u8], entry: WindowEntry, stream_time_ms: i64) -> Observed {
        let mut place = rule.place(entry.event_time_ms, key);
        let opened_now = place.closes_ms;
        let known = self.graces.keys().any(|grace_ms| {
            place.closes_ms = place.end_ms.saturating_add(*grace_ms);
            place.closes_ms > stream_time_ms && self.open.contains_key(&place)
        });
        if !known {
            place.closes_ms = opened_now;
        }
        if place.closes_ms <= stream_time_ms {
            return Observed::Late;
        }
        let later = self.open.get(&place).map(|open| open.event_time_ms);
        if later.is_none_or(|later| later <= entry.event_time_ms) {
            self.put(place.clone(), entry);
        }
        self.changed.insert(place);
        Observed::Taken
    }

    /// Closes what stream time has passed, in order.
    pub fn close(&mut self, stream_time_ms: i64) -> Vec<(WindowPlace, WindowEntry)> {
        let mut closed = Vec::new();
        while let Some(first) = self.open.first_entry() {
            if first.key().closes_ms > stream_time_ms {
                break;
            }
            let (place, entry) = first.remove_entry();
            let grace_ms = place.grace_ms();
            if let Some(count) = self.graces.get_mut(&grace_ms) {
                *count -= 1;
                if *count == 0 {
                    self.graces.remove(&grace_ms);
                }
            }
            self.changed.insert(place.clone());
            closed.push((place, entry));
        }
        closed
    }

    /// What has changed since the last call.
    pub fn changes(&mut self) -> Vec<WindowChange> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed
            .map(|place| {
                let entry = self.open.get(&place).cloned();
                (place, entry)
            })
            .collect()
    }

    /// Every open window.
    pub fn open(&self) -> impl Iterator<Item = (&WindowPlace, &WindowEntry)> {
        self.open.iter()
    }

    /// Number of open windows.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no window is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(offset: i64, event_time_ms: i64) -> WindowEntry {
        WindowEntry {
            version: 1,
            signature: Arc::new(InputSignature::new(Vec::new())),
            row: vec![Values::Int64(vec![offset])],
            output_key: None,
            topic: 0,
            offset,
            event_time_ms,
        }
    }

    fn rule(length_ms: i64, grace_ms: i64) -> WindowRule {
        WindowRule {
            length_ms,
            grace_ms,
            by: 7,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Event {
            key: u8,
            time: i64,
        },
        /// a new version's trigger
        Rule(WindowRule),
        /// everything is restored from the changelog
        Restart,
        /// windows close
        Close,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let rules = (prop::sample::select(vec![100i64, 150, 200]), 0i64..200, 0u64..2);
        let step = prop_oneof![
            20 => (0u8..3, 0i64..2_000).prop_map(|(key, time)| Step::Event { key, time }),
            1 => rules.prop_map(|(length_ms, grace_ms, by)| Step::Rule(WindowRule { length_ms, grace_ms, by })),
            1 => Just(Step::Restart),
            4 => Just(Step::Close),
        ];
        prop::collection::vec(step, 1..150)
    }

    /// The slow and obvious windows: each with the rule that opened it, in the order of opening.
    struct Obvious {
        start: i64,
        rule: WindowRule,
        key: u8,
        latest: (i64, i64),
    }

    impl Obvious {
        fn end(&self) -> i64 {
            self.start + self.rule.length_ms
        }

        fn closes(&self) -> i64 {
            self.end() + self.rule.grace_ms
        }
    }

    proptest! {
        /// An event belongs to the window of its key that is open, whatever grace that one was opened with; if there is none, to
        /// a new one unless it is late for that. Every window closes once, at its own time, with its latest event.
        #[test]
        fn windows_close_as_they_were_opened(steps in steps()) {
            let mut windows = Windows::default();
            let mut changelog: BTreeMap<WindowPlace, WindowEntry> = BTreeMap::new();
            let (mut rule, mut now) = (rule(100, 50), i64::MIN);
            let mut obvious: Vec<Obvious> = Vec::new();
            for (index, step) in steps.into_iter().chain([Step::Event { key: 0, time: 1_000_000 }, Step::Close]).enumerate() {
                match step {
                    Step::Event { key, time } => {
                        now = now.max(time);
                        let start = time.div_euclid(rule.length_ms) * rule.length_ms;
                        let latest = (time, index as i64);
                        let same = |window: &&mut Obvious| {
                            window.closes() > now && window.start == start && window.key == key
                                && (window.rule.length_ms, window.rule.by) == (rule.length_ms, rule.by)
                        };
                        let late = match obvious.iter_mut().find(same) {
                            Some(window) => { window.latest = window.latest.max(latest); false }
                            None if start + rule.length_ms + rule.grace_ms <= now => true,
                            None => { obvious.push(Obvious { start, rule, key, latest }); false }
                        };
                        let observed = windows.observe(&rule, &[key], entry(index as i64, time), now);
                        prop_assert_eq!(observed, if late { Observed::Late } else { Observed::Taken });
                    }
                    Step::Rule(next) => rule = next,
                    Step::Restart => {
                        windows = Windows::default();
                        changelog.clone().into_iter().for_each(|(place, entry)| windows.restore(place, entry));
                    }
                    Step::Close => {
                        let closed = windows.close(now);
                        prop_assert!(closed.is_sorted_by_key(|(place, _)| (place.closes_ms, place.start_ms)));
                        let mut closed: Vec<(i64, i64, u8, i64)> = closed
                            .iter()
                            .map(|(place, entry)| (place.start_ms, place.end_ms, place.key[0], entry.offset))
                            .collect();
                        let (done, open): (Vec<Obvious>, Vec<Obvious>) = obvious.into_iter().partition(|w| w.closes() <= now);
                        obvious = open;
                        let mut expected: Vec<(i64, i64, u8, i64)> =
                            done.iter().map(|w| (w.start, w.end(), w.key, w.latest.1)).collect();
                        closed.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(closed, expected);
                    }
                }
                for (place, entry) in windows.changes() {
                    match entry {
                        Some(entry) => { changelog.insert(place, entry); }
                        None => { changelog.remove(&place); }
                    }
                }
                prop_assert_eq!(&changelog, &windows.open);
            }
            prop_assert!(windows.open().all(|(place, _)| place.end_ms > 1_000_000));
        }
    }

    #[test]
    fn times_at_the_ends_of_numbers_neither_overflow_nor_close_anything_early() {
        const TIMES: [i64; 7] = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        for length in [1, 7, i64::MAX] {
            for grace in [0, 1, i64::MAX] {
                for event in TIMES {
                    for stream in TIMES.into_iter().filter(|stream| *stream >= event) {
                        let mut windows = Windows::default();
                        let start = i128::from(event).div_euclid(i128::from(length)) * i128::from(length);
                        let closes = start + i128::from(length) + i128::from(grace);
                        let rule = rule(length, grace);
                        let late = windows.observe(&rule, b"k", entry(0, event), stream) == Observed::Late;
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
