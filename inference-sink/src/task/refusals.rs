//! Models whose outputs a topic refuses (no rights, not there, records too large): a pure machine, over explicit time.
//!
//! ```text
//! refused -> detached: rows wait in the feature log -> after a while one row is tried, then two, four, ... -> as usual again
//!     ^                                                        |
//!     '------------ refused: half as many, or a longer wait ---'       one row alone that is too large is given up
//! ```
//! Trials go with everybody's transactions, which stand without what is refused, so trying costs nobody else anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// So many rows at once are as usual.
const ENOUGH: usize = 4096;
/// A single row that is refused for its size is given up where its topic has taken others. Where it has not, the topic may take
/// nothing at all for now: then after so many trials, some ten minutes.
const PATIENT_TRIALS: u32 = 7;
/// After so many single rows that were given up one after the other, a topic is no longer known to take others.
const MOST_IN_A_ROW: u32 = 3;
/// How long a topic of shed events is left alone.
const SHED_WAIT: Duration = Duration::from_secs(30);

/// What becomes of rows whose outputs were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// they wait in the feature log
    Wait,
    /// it was one row alone, and it is the row that the topic does not take
    GivenUp,
}

#[derive(Debug)]
struct Trial {
    until: Instant,
    /// trials in a row that the topic has refused by itself
    attempts: u32,
    /// rows of the next trial
    rows: usize,
    /// rows of the trial under way
    under_way: usize,
    /// the last trial went well
    went_well: bool,
    /// rows that may be given up one after the other: it has taken others
    may_give_up: u32,
    /// its topic is known not to be there: nothing is tried before it is
    held: bool,
}

/// The models of one task whose outputs are refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    models: BTreeMap<Arc<str>, Trial>,
    /// until when they are left alone; none: until they are there
    shed: BTreeMap<Arc<str>, Option<Instant>>,
}

impl Refusals {
    /// Whether a model's outputs are refused, as far as is known.
    pub fn has(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }

    /// How many rows a model may take from the feature log now; none: as many as it can.
    pub fn allowance(&self, model: &str, now: Instant) -> Option<usize> {
        let trial = self.models.get(model)?;
        let waits = trial.under_way > 0 || trial.held || now < trial.until;
        Some(if waits { 0 } else { trial.rows })
    }

    /// Rows have been given to a model whose outputs are refused.
    pub fn begin(&mut self, model: &str, rows: usize) {
        if let Some(trial) = self.models.get_mut(model) {
            trial.under_way = rows;
        }
    }

    /// Models with a trial under way.
    pub fn under_way(&self) -> Vec<Arc<str>> {
        let trials = self.models.iter().filter(|(_, trial)| trial.under_way > 0);
        trials.map(|(model, _)| model.clone()).collect()
    }

    /// A trial has ended without a word of the topic: its rows had no outputs, or were taken back.
    pub fn nothing_tried(&mut self, model: &str) {
        self.begin(model, 0);
    }

    /// Outputs of a model are committed. True: with that its topic takes them as usual.
    pub fn taken(&mut self, model: &str) -> bool {
        let Some(trial) = self.models.get_mut(model).filter(|trial| trial.under_way > 0) else {
            return false;
        };
        (trial.under_way, trial.attempts) = (0, 0);
        (trial.went_well, trial.may_give_up) = (true, MOST_IN_A_ROW);
        trial.rows = trial.rows.saturating_mul(2);
        let over = trial.rows > ENOUGH;
        if over {
            self.models.remove(model);
        }
        over
    }

    /// Others of a model's outputs were written beside those that its topic has refused.
    pub fn takes_others(&mut self, model: &str) {
        if let Some(trial) = self.models.get_mut(model) {
            trial.may_give_up = MOST_IN_A_ROW;
        }
    }

    /// Nothing of a model waits any more. True: its last trial went well, so with that its topic takes its outputs as usual.
    pub fn nothing_waits(&mut self, model: &str) -> bool {
        let over = |trial: &Trial| trial.went_well && trial.under_way == 0 && !trial.held;
        self.models.get(model).is_some_and(over) && self.models.remove(model).is_some()
    }

    /// Outputs of a model were refused; `of_records`: its topic may take others.
    pub fn refused(&mut self, model: &Arc<str>, of_records: bool, now: Instant) -> Fate {
        let trial = self.models.entry(model.clone()).or_insert(Trial {
            until: now,
            attempts: 0,
            rows: 1,
            under_way: 0,
            went_well: false,
            may_give_up: 0,
            held: false,
        });
        let tried = std::mem::take(&mut trial.under_way);
        trial.went_well = false;
        if of_records && tried != 1 {
            (trial.rows, trial.until) = ((tried / 2).max(1), now);
            return Fate::Wait;
        }
        trial.rows = 1;
        if of_records && trial.may_give_up > 0 {
            (trial.may_give_up, trial.until) = (trial.may_give_up - 1, now);
            return Fate::GivenUp;
        }
        let wait = LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(trial.attempts));
        trial.attempts = trial.attempts.saturating_add(1);
        trial.until = now + wait;
        if of_records && trial.attempts > PATIENT_TRIALS {
            trial.attempts = 0;
            return Fate::GivenUp;
        }
        Fate::Wait
    }

    /// Forgets models that are not as they were.
    pub fn retain(&mut self, stays: impl Fn(&Arc<str>) -> bool) {
        self.models.retain(|model, _| stays(model));
    }

    /// A model's topic is known not to be there: nothing is tried until [`Self::release`].
    pub fn hold(&mut self, model: &str) {
        if let Some(trial) = self.models.get_mut(model) {
            trial.held = true;
        }
    }

    /// Whether a model waits for its topic.
    pub fn is_held(&self, model: &str) -> bool {
        self.models.get(model).is_some_and(|trial| trial.held)
    }

    /// A model's topic is there: it is tried at once.
    pub fn release(&mut self, model: &str, now: Instant) {
        if let Some(trial) = self.models.get_mut(model) {
            (trial.held, trial.until, trial.attempts) = (false, now, 0);
        }
    }

    /// A topic of shed events refuses: it is left alone for a while, or until it is there.
    pub fn shed_refused(&mut self, topic: &Arc<str>, missing: bool, now: Instant) {
        self.shed.insert(topic.clone(), (!missing).then(|| now + SHED_WAIT));
    }

    /// A topic of shed events is there.
    pub fn shed_taken(&mut self, topic: &str) {
        self.shed.remove(topic);
    }

    /// Whether a topic of shed events is left alone.
    pub fn leaves_alone(&self, topic: &str) -> bool {
        let until = self.shed.get(topic);
        until.is_some_and(|until| until.is_none_or(|until| Instant::now() < until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_topic_that_refuses_by_itself_is_tried_at_longer_and_longer_intervals() {
        let (mut refusals, model, mut now) = (Refusals::default(), Arc::<str>::from("a/m"), Instant::now());
        assert_eq!(refusals.allowance(&model, now), None);
        for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(refusals.refused(&model, false, now), Fate::Wait);
            assert_eq!(refusals.allowance(&model, now + Duration::from_secs(wait - 1)), Some(0));
            now += Duration::from_secs(wait);
            assert_eq!(refusals.allowance(&model, now), Some(1));
            refusals.begin(&model, 1);
            assert_eq!(refusals.allowance(&model, now), Some(0));
        }
        let mut trials = 1;
        while !refusals.taken(&model) {
            let rows = refusals.allowance(&model, now).unwrap();
            refusals.begin(&model, rows);
            trials += 1;
        }
        assert_eq!((trials, refusals.allowance(&model, now)), (13, None));
    }

    #[test]
    fn few_rows_that_are_all_taken_are_enough() {
        let (mut refusals, model, now) = (Refusals::default(), Arc::<str>::from("a/m"), Instant::now());
        refusals.refused(&model, false, now);
        assert!(!refusals.nothing_waits(&model), "nothing was tried");
        refusals.begin(&model, 1);
        assert!(!refusals.nothing_waits(&model), "a trial is under way");
        assert!(!refusals.taken(&model) && refusals.has(&model));
        assert!(refusals.nothing_waits(&model) && !refusals.has(&model));
        refusals.refused(&model, true, now);
        assert!(!refusals.nothing_waits(&model), "what was taken before is no sign");
    }

    /// A topic that takes nothing for a while costs no row, where one was refused alone.
    #[test]
    fn a_topic_that_takes_nothing_for_some_minutes_costs_no_row() {
        let (mut refusals, model, start) = (Refusals::default(), Arc::<str>::from("a/m"), Instant::now());
        let mut now = start;
        refusals.refused(&model, true, now);
        while now < start + Duration::from_secs(300) {
            now += FIRST_WAIT;
            if refusals.allowance(&model, now) == Some(1) {
                refusals.begin(&model, 1);
                assert_eq!(refusals.refused(&model, true, now), Fate::Wait);
            }
        }
        // It takes rows again, and then nothing: few are given up.
        now += LONGEST_WAIT;
        refusals.begin(&model, 1);
        refusals.taken(&model);
        let mut given_up = 0;
        for _ in 0..1_000 {
            let rows = refusals.allowance(&model, now).unwrap();
            refusals.begin(&model, rows);
            if rows > 0 && refusals.refused(&model, true, now) == Fate::GivenUp {
                given_up += 1;
            }
        }
        assert_eq!(given_up, MOST_IN_A_ROW);
    }

    #[test]
    fn a_topic_that_is_not_there_is_not_tried_before_it_is() {
        let (mut refusals, model, now) = (Refusals::default(), Arc::<str>::from("a/m"), Instant::now());
        refusals.refused(&model, false, now);
        refusals.hold(&model);
        let later = now + Duration::from_secs(1_000_000);
        assert_eq!(
            (refusals.is_held(&model), refusals.allowance(&model, later)),
            (true, Some(0))
        );
        refusals.release(&model, now);
        assert_eq!(
            (refusals.is_held(&model), refusals.allowance(&model, now)),
            (false, Some(1))
        );
        let topic = Arc::<str>::from("shed");
        refusals.shed_refused(&topic, true, now);
        assert!(refusals.leaves_alone(&topic));
        refusals.shed_taken(&topic);
        assert!(!refusals.leaves_alone(&topic));
    }

    proptest! {
        /// Some rows are too large for their topic, anywhere among the others: they are given up, they alone, and the others
        /// come through within some dozens of trials for each.
        #[test]
        fn rows_that_are_too_large_cost_themselves(large in prop::collection::btree_set(0usize..5_000, 0..4), rows in 1usize..5_000) {
            let (mut refusals, model, mut now) = (Refusals::default(), Arc::<str>::from("a/m"), Instant::now());
            let (mut next, mut given_up, mut trials) = (0, Vec::new(), 0);
            while next < rows {
                if refusals.allowance(&model, now) == Some(0) {
                    now += LONGEST_WAIT;
                }
                let tried = refusals.allowance(&model, now).unwrap_or(5_000).min(rows - next);
                prop_assert!(tried > 0);
                refusals.begin(&model, tried);
                if large.range(next..next + tried).next().is_some() {
                    if refusals.refused(&model, true, now) == Fate::GivenUp {
                        given_up.push(next);
                        next += 1;
                    }
                } else {
                    refusals.taken(&model);
                    next += tried;
                }
                trials += 1;
                prop_assert!(trials <= 1 + 60 * (1 + large.len()));
            }
            prop_assert_eq!(given_up, large.into_iter().filter(|row| *row < rows).collect::<Vec<_>>());
        }
    }
}
