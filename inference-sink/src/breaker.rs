//! Circuit breaker of one model: pure, over explicit time in milliseconds.
//!
//! ```text
//! CLOSED --open_after errors within `within`--> OPEN --retry_after, a run starts--> HALF OPEN --it went well--> CLOSED
//!                                                 ^---------------error in it-----------'
//! ```

use std::collections::VecDeque;

/// When to stop running a failing model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// errors that open it
    pub open_after: u32,
    /// milliseconds in which they must happen
    pub within_ms: i64,
    /// milliseconds after which a run is tried again
    pub retry_after_ms: i64,
}

impl BreakerPolicy {
    /// The policy of a model's `on_error`; by default 20 errors within a minute, tried again after 30 s.
    pub fn of(breaker: Option<feature_engine::resource::Breaker>) -> BreakerPolicy {
        match breaker {
            Some(breaker) => BreakerPolicy {
                open_after: breaker.open_after,
                within_ms: i64::try_from(breaker.within.as_millis()).unwrap_or(i64::MAX),
                retry_after_ms: i64::try_from(breaker.retry_after.as_millis()).unwrap_or(i64::MAX),
            },
            None => BreakerPolicy {
                open_after: 20,
                within_ms: 60_000,
                retry_after_ms: 30_000,
            },
        }
    }
}

/// Whether runs are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// runs are let through
    Closed,
    /// no run until this time; the first after it is on trial
    Open {
        /// milliseconds
        until_ms: i64,
    },
    /// one run is on trial, and no other is let through
    HalfOpen,
}

/// Leave for one run, to be told of its end by [`Breaker::failure`] and [`Breaker::ended`], or of its not having come to pass
/// by [`Breaker::given_back`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a run on trial that nobody hears of keeps all others from running"]
pub struct Run {
    /// number of the trial that it is
    trial: Option<u64>,
}

/// The breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    errors: VecDeque<i64>,
    /// trials so far; the last of them is under way while the breaker is half open
    trials: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: BreakerPolicy) -> Breaker {
        Breaker {
            policy,
            state: BreakerState::Closed,
            errors: VecDeque::new(),
            trials: 0,
        }
    }

    /// Closes it, with another policy. What runs now has no say in it any more.
    pub fn renew(&mut self, policy: BreakerPolicy) {
        *self = Breaker {
            trials: self.trials,
            ..Breaker::new(policy)
        };
    }

    /// Its state.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a run may start now.
    pub fn allows(&self, now_ms: i64) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open { until_ms } => now_ms >= until_ms,
            BreakerState::HalfOpen => false,
        }
    }

    /// Starts a run if one may start now. The first after the retry time is on trial.
    pub fn start(&mut self, now_ms: i64) -> Option<Run> {
        if !self.allows(now_ms) {
            return None;
        }
        let trial = (self.state != BreakerState::Closed).then(|| {
            self.trials += 1;
            self.state = BreakerState::HalfOpen;
            self.trials
        });
        Some(Run { trial })
    }

    /// Something failed, in a run or beside all of them. True: the breaker has just opened.
    pub fn failure(&mut self, run: Option<Run>, now_ms: i64) -> bool {
        match self.state {
            BreakerState::Open { .. } => false,
            BreakerState::HalfOpen => {
                let opens = run.is_some_and(|run| self.is_on_trial(run));
                if opens {
                    self.open_until(now_ms.saturating_add(self.policy.retry_after_ms));
                }
                opens
            }
            BreakerState::Closed => {
                self.errors.push_back(now_ms);
                let oldest = now_ms.saturating_sub(self.policy.within_ms);
                while self.errors.front().is_some_and(|at| *at <= oldest) {
                    self.errors.pop_front();
                }
                let opens = self.errors.len() >= self.policy.open_after as usize;
                if opens {
                    self.open_until(now_ms.saturating_add(self.policy.retry_after_ms));
                }
                opens
            }
        }
    }

    /// A run is over, its failures told before. True: it was the trial and went well, and the breaker has just closed.
    pub fn ended(&mut self, run: Run) -> bool {
        let closes = self.is_on_trial(run);
        if closes {
            self.state = BreakerState::Closed;
            self.errors.clear();
        }
        closes
    }

    /// There was nothing to run: the trial is the next one's.
    pub fn given_back(&mut self, run: Run) {
        if self.is_on_trial(run) {
            self.open_until(i64::MIN);
        }
    }

    /// Whether a run is the trial under way: not one from before the breaker opened, or of an earlier trial.
    fn is_on_trial(&self, run: Run) -> bool {
        self.state == BreakerState::HalfOpen && run.trial == Some(self.trials)
    }

    fn open_until(&mut self, until_ms: i64) {
        self.errors.clear();
        self.state = BreakerState::Open { until_ms };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RETRY_AFTER_MS: i64 = 100;

    /// What the test knows of the breaker: by its own clock, and from what it did itself.
    enum Known {
        /// errors that have happened since it closed
        Closed(Vec<i64>),
        OpenedAt(i64),
        /// which of the runs under way is on trial
        Trial(usize),
    }

    /// What happens next, to which of the runs under way.
    #[derive(Clone, Debug)]
    enum Step {
        Start,
        Fail(prop::sample::Index),
        End(prop::sample::Index),
        GiveBack(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = (i64, Step)> {
        let run = any::<prop::sample::Index>;
        let step = prop_oneof![
            3 => Just(Step::Start),
            3 => run().prop_map(Step::Fail),
            2 => run().prop_map(Step::End),
            1 => run().prop_map(Step::GiveBack),
        ];
        (0i64..60, step)
    }

    proptest! {
        /// Several runs are under way at a time, and end in any order.
        #[test]
        fn opens_exactly_when_it_should_and_lets_one_run_through_on_trial(
            steps in prop::collection::vec(step(), 1..300), open_after in 1u32..6, within_ms in 1i64..200,
        ) {
            let mut breaker = Breaker::new(BreakerPolicy { open_after, within_ms, retry_after_ms: RETRY_AFTER_MS });
            let (mut now, mut known, mut next) = (0i64, Known::Closed(Vec::new()), 0usize);
            let mut running: Vec<(usize, Run)> = Vec::new();
            for (gap, step) in steps {
                now += gap;
                let may_start = match &known {
                    Known::Closed(_) => true,
                    Known::OpenedAt(at) => now >= at + RETRY_AFTER_MS,
                    Known::Trial(_) => false,
                };
                prop_assert_eq!(breaker.allows(now), may_start);
                match step {
                    Step::Start => {
                        let run = breaker.start(now);
                        prop_assert_eq!(run.is_some(), may_start);
                        if let Some(run) = run {
                            if matches!(known, Known::OpenedAt(_)) { known = Known::Trial(next); }
                            running.push((next, run));
                            next += 1;
                        }
                    }
                    _ if running.is_empty() => {}
                    Step::Fail(which) => {
                        let (number, run) = *which.get(&running);
                        let opened = breaker.failure(Some(run), now);
                        let opens = match &mut known {
                            Known::Closed(errors) => {
                                errors.push(now);
                                errors.iter().filter(|at| **at > now - within_ms).count() >= open_after as usize
                            }
                            Known::OpenedAt(_) => false,
                            Known::Trial(trial) => *trial == number,
                        };
                        prop_assert_eq!(opened, opens);
                        if opens { known = Known::OpenedAt(now); }
                    }
                    Step::End(which) => {
                        let (number, run) = running.remove(which.index(running.len()));
                        let closes = matches!(known, Known::Trial(trial) if trial == number);
                        prop_assert_eq!(breaker.ended(run), closes);
                        if closes { known = Known::Closed(Vec::new()); }
                    }
                    Step::GiveBack(which) => {
                        let (number, run) = running.remove(which.index(running.len()));
                        breaker.given_back(run);
                        if matches!(known, Known::Trial(trial) if trial == number) {
                            known = Known::OpenedAt(i64::MIN / 2);
                        }
                    }
                }
                let state = breaker.state();
                let agrees = match known {
                    Known::Closed(_) => state == BreakerState::Closed,
                    Known::OpenedAt(_) => matches!(state, BreakerState::Open { .. }),
                    Known::Trial(_) => state == BreakerState::HalfOpen,
                };
                prop_assert!(agrees, "{:?}", state);
            }
        }
    }

    #[test]
    fn what_ran_before_a_new_version_does_not_judge_it() {
        let policy = BreakerPolicy {
            open_after: 1,
            within_ms: 1_000,
            retry_after_ms: RETRY_AFTER_MS,
        };
        let mut breaker = Breaker::new(policy);
        assert!(breaker.failure(None, 0));
        let old = breaker.start(RETRY_AFTER_MS).unwrap();
        breaker.renew(policy);
        assert!(breaker.failure(None, RETRY_AFTER_MS));
        let new = breaker.start(2 * RETRY_AFTER_MS).unwrap();
        assert!(!breaker.ended(old) && !breaker.failure(Some(old), 2 * RETRY_AFTER_MS));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.ended(new));
    }
}
