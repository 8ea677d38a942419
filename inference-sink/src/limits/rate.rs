//! One tenant's rate limit in one task.

use feature_engine::resource::{OverLimit, Rate};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::time::Duration;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// it is processed
    Pass,
    /// it waits in the feature log
    Wait,
    /// it is dropped and counted
    Shed,
}

/// A tenant's rate limit in one task.
pub struct RateLimit<C: Clock = MonotonicClock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    over: OverLimit,
    /// events seen and events passed since the last time both were halved: their ratio is what is over the limit
    seen: f64,
    passed: f64,
}

impl RateLimit<MonotonicClock> {
    /// The limit of a task that owns `owned` of the input's `partitions`.
    pub fn new(rate: &Rate, owned: usize, partitions: usize) -> Self {
        Self::with_clock(rate, owned, partitions, MonotonicClock)
    }
}

impl<C: Clock> RateLimit<C> {
    fn with_clock(rate: &Rate, owned: usize, partitions: usize, clock: C) -> Self {
        let share = owned.max(1) as f64 / partitions.max(1) as f64;
        let per_second = (rate.events_per_second * share).max(1e-6);
        let period = Duration::from_secs_f64((1.0 / per_second).clamp(1e-9, 1e6));
        let burst = (rate.burst * share).round().clamp(1.0, f64::from(u32::MAX)) as u32;
        let quota = Quota::with_period(period)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        RateLimit {
            limiter: RateLimiter::direct_with_clock(quota, clock),
            over: rate.over,
            seen: 0.0,
            passed: 0.0,
        }
    }

    /// Judges one event. `draw` is a number that is uniform over events, such as a hash of the event's offset: it decides
    /// which events a sample holds, so that a burst's first events are no more likely to be in it than its last.
    pub fn judge(&mut self, draw: u64) -> Verdict {
        self.seen += 1.0;
        if self.seen > 4096.0 {
            self.seen /= 2.0;
            self.passed /= 2.0;
        }
        if self.over == OverLimit::Sample && self.seen > 64.0 {
            let wanted = (self.passed / self.seen * 1.25).clamp(0.01, 1.0);
            if (draw as f64 / u64::MAX as f64) > wanted {
                return Verdict::Shed;
            }
        }
        if self.limiter.check().is_ok() {
            self.passed += 1.0;
            return Verdict::Pass;
        }
        match self.over {
            OverLimit::Wait => Verdict::Wait,
            OverLimit::Sample | OverLimit::Shed => Verdict::Shed,
        }
    }

    /// Takes one event from a backlog if the rate allows it now.
    pub fn admits(&mut self) -> bool {
        self.limiter.check().is_ok()
    }

    /// Takes so many events from a backlog if the rate allows all of them now.
    pub fn admits_all(&mut self, events: usize) -> bool {
        match u32::try_from(events).ok().map(NonZeroU32::new) {
            Some(Some(events)) => matches!(self.limiter.check_n(events), Ok(Ok(()))),
            Some(None) => true,
            None => false,
        }
    }

    /// Whether events over the limit wait.
    pub fn waits(&self) -> bool {
        self.over == OverLimit::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    fn mix(x: u64) -> u64 {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    proptest! {
        #[test]
        fn passes_the_rate_and_the_burst_and_no_more(
            per_second in 1.0f64..5_000.0, burst in 1.0f64..500.0, gap_us in 20u64..5_000, owned in 1usize..4,
        ) {
            let clock = FakeRelativeClock::default();
            let rate = Rate { events_per_second: per_second, burst, over: OverLimit::Shed };
            let mut limit = RateLimit::with_clock(&rate, owned, 4, clock.clone());
            let mut passed = 0u32;
            let events = 20_000u64;
            for offset in 0..events {
                clock.advance(Duration::from_micros(gap_us));
                passed += u32::from(limit.judge(mix(offset)) == Verdict::Pass);
            }
            let share = owned as f64 / 4.0;
            let seconds = (events * gap_us) as f64 / 1e6;
            let allowed = per_second * share * seconds + (burst * share).max(1.0);
            prop_assert!(f64::from(passed) <= allowed + 2.0, "{passed} of {allowed}");
            // an event passes at the first arrival after its place has come free, which is up to one gap later
            let gap = gap_us as f64 / 1e6;
            let reachable = (seconds / (1.0 / (per_second * share) + gap)).min(events as f64);
            prop_assert!(f64::from(passed) + 2.0 >= reachable * 0.95, "{passed} of {reachable}");
        }

        #[test]
        fn a_sample_keeps_about_the_rate_and_is_spread_over_the_events(times in 3u64..20) {
            let clock = FakeRelativeClock::default();
            let rate = Rate { events_per_second: 100.0, burst: 10.0, over: OverLimit::Sample };
            let mut limit = RateLimit::with_clock(&rate, 1, 1, clock.clone());
            // Of each tenth of the events, so many passed.
            let mut passed = [0u64; 10];
            for offset in 0..20_000u64 {
                clock.advance(Duration::from_micros(10_000 / times));
                match limit.judge(mix(offset)) {
                    Verdict::Pass => passed[(offset / 2_000) as usize] += 1,
                    Verdict::Shed => {}
                    Verdict::Wait => panic!("a sample does not wait"),
                }
            }
            let wanted = 2_000 / times;
            for (tenth, passed) in passed.into_iter().enumerate() {
                // What one has left of the burst, the next may have.
                prop_assert!(passed * 100 >= wanted * 95 && passed <= wanted + 12, "{passed} of {wanted} in tenth {tenth}");
            }
            let all: u64 = passed.into_iter().sum();
            prop_assert!(all <= 20_000 / times + 12, "{all} in all");
        }
    }

    #[test]
    fn a_tenant_that_waits_is_told_to() {
        let rate = Rate {
            events_per_second: 1.0,
            burst: 1.0,
            over: OverLimit::Wait,
        };
        let mut limit = RateLimit::with_clock(&rate, 1, 1, FakeRelativeClock::default());
        assert_eq!(limit.judge(0), Verdict::Pass);
        assert_eq!(limit.judge(0), Verdict::Wait);
        assert!(!limit.admits());
    }
}
