//! Circuit breaker of one model: pure, over explicit time in milliseconds.
//!
//! ```text
//! CLOSED --open_after errors within `within`--> OPEN --retry_after--> HALF OPEN --success--> CLOSED
//!                                                 ^------error----------'
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
    /// no run until this time
    Open {
        /// milliseconds
        until_ms: i64,
    },
    /// one run is on trial
    HalfOpen,
}

/// The breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    errors: VecDeque<i64>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: BreakerPolicy) -> Breaker {
        Breaker {
            policy,
            state: BreakerState::Closed,
            errors: VecDeque::new(),
        }
    }

    /// Its state.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a run may start now. After the retry time this starts the trial.
    pub fn allows(&mut self, now_ms: i64) -> bool {
        match self.state {
            BreakerState::Closed | BreakerState::HalfOpen => true,
            BreakerState::Open { until_ms } if now_ms >= until_ms => {
                self.state = BreakerState::HalfOpen;
                true
            }
            BreakerState::Open { .. } => false,
        }
    }

    /// A run went well.
    pub fn success(&mut self) {
        if self.state == BreakerState::HalfOpen {
            self.state = BreakerState::Closed;
            self.errors.clear();
        }
    }

    /// A run failed. True: the breaker has just opened.
    pub fn failure(&mut self, now_ms: i64) -> bool {
        match self.state {
            BreakerState::Open { .. } => false,
            BreakerState::HalfOpen => {
                self.open(now_ms);
                true
            }
            BreakerState::Closed => {
                self.errors.push_back(now_ms);
                let oldest = now_ms.saturating_sub(self.policy.within_ms);
                while self.errors.front().is_some_and(|at| *at <= oldest) {
                    self.errors.pop_front();
                }
                let opens = self.errors.len() >= self.policy.open_after as usize;
                if opens {
                    self.open(now_ms);
                }
                opens
            }
        }
    }

    fn open(&mut self, now_ms: i64) {
        self.errors.clear();
        self.state = BreakerState::Open {
            until_ms: now_ms.saturating_add(self.policy.retry_after_ms),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn opens_exactly_at_the_given_number_of_errors_within_the_time(
            gaps in prop::collection::vec((0i64..50, any::<bool>()), 1..200), open_after in 1u32..10, within_ms in 1i64..200,
        ) {
            let mut breaker = Breaker::new(BreakerPolicy { open_after, within_ms, retry_after_ms: 100 });
            let (mut now, mut errors) = (0i64, Vec::<i64>::new());
            for (gap, fails) in gaps {
                now += gap;
                let expected = match breaker.state() {
                    BreakerState::Open { until_ms } => now >= until_ms,
                    _ => true,
                };
                prop_assert_eq!(breaker.allows(now), expected);
                if !expected { continue; }
                let trial = breaker.state() == BreakerState::HalfOpen;
                if fails {
                    errors.push(now);
                    let recent = errors.iter().filter(|at| **at > now - within_ms).count();
                    let opened = breaker.failure(now);
                    prop_assert_eq!(opened, trial || recent >= open_after as usize);
                    if opened { errors.clear(); }
                } else {
                    breaker.success();
                    if trial { prop_assert_eq!(breaker.state(), BreakerState::Closed); errors.clear(); }
                }
            }
        }
    }
}
