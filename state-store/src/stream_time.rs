//! Stream time of one partition: the largest event time seen, moved on while the input is idle.
//!
//! Pure: the wall clock is an argument. Idle input moves stream time on by the wall time that passes, never *to* the wall
//! clock, so that a replay of last year's events stays in last year and expires what that year would have. The value is
//! persisted with the state at each barrier ([`crate::Position::stream_time_ms`]), and a replay starts again from there.

/// How far ahead of the wall clock an event may be, in milliseconds: one hour.
pub const MAX_AHEAD_MS: i64 = 3_600_000;

/// An event from the future. The caller dead-letters it: one such event would expire everything there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "event time {event_time_ms} is {} ms ahead of the wall clock, more than the {MAX_AHEAD_MS} ms allowed: correct the producer's clock or the view's event_time",
    event_time_ms.saturating_sub(*wall_ms)
)]
pub struct AheadOfWallClock {
    /// The event's time, in milliseconds since 1970.
    pub event_time_ms: i64,
    /// The wall clock when it was read, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// Stream time of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTime {
    now_ms: Option<i64>,
    /// Wall clock of the last event, or of the last time idleness was counted up to.
    counted_until_wall_ms: i64,
    idle_after_ms: i64,
}

impl StreamTime {
    /// Starts from what was persisted (none: no event has been seen), at `wall_ms`. The input counts as idle once
    /// `idle_after_ms` have passed without an event.
    pub fn new(persisted_ms: Option<i64>, idle_after_ms: i64, wall_ms: i64) -> StreamTime {
        StreamTime {
            now_ms: persisted_ms,
            counted_until_wall_ms: wall_ms,
            idle_after_ms: idle_after_ms.max(0),
        }
    }

    /// Takes an event's time; returns stream time, which never moves back.
    ///
    /// Error: the event is more than an hour ahead of the wall clock; stream time is as it was.
    pub fn observe(&mut self, event_time_ms: i64, wall_ms: i64) -> Result<i64, AheadOfWallClock> {
        if event_time_ms > wall_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(AheadOfWallClock { event_time_ms, wall_ms });
        }
        let now_ms = self.now_ms.map_or(event_time_ms, |now| now.max(event_time_ms));
        self.now_ms = Some(now_ms);
        self.counted_until_wall_ms = self.counted_until_wall_ms.max(wall_ms);
        Ok(now_ms)
    }

    /// Moves stream time on by the wall time since the last event or call, if that is at least the idle time.
    /// Returns stream time; none while no event has been seen.
    pub fn idle(&mut self, wall_ms: i64) -> Option<i64> {
        let elapsed_ms = wall_ms.saturating_sub(self.counted_until_wall_ms);
        if elapsed_ms >= self.idle_after_ms.max(1) {
            self.counted_until_wall_ms = wall_ms;
            self.now_ms = self.now_ms.map(|now| now.saturating_add(elapsed_ms));
        }
        self.now_ms
    }

    /// Stream time, in milliseconds since 1970; none while no event has been seen.
    pub fn now_ms(&self) -> Option<i64> {
        self.now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Event { time_ms: i64, wall_passes_ms: i64 },
        Idle { wall_passes_ms: i64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0i64..20_000_000, 0i64..100_000).prop_map(|(time_ms, wall_passes_ms)| Step::Event {
                time_ms,
                wall_passes_ms
            }),
            (0i64..5_000_000).prop_map(|wall_passes_ms| Step::Idle { wall_passes_ms }),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn moves_on_only_by_events_and_by_elapsed_time(steps in steps(), idle_after in 0i64..10_000) {
            const START: i64 = 10_000_000;
            let mut wall = START;
            let mut time = StreamTime::new(None, idle_after, wall);
            let mut before = None;
            let mut largest_event: Option<i64> = None;
            for step in steps {
                match step {
                    Step::Event { time_ms, wall_passes_ms } => {
                        wall += wall_passes_ms;
                        let result = time.observe(time_ms, wall);
                        prop_assert_eq!(result.is_err(), time_ms > wall + MAX_AHEAD_MS);
                        if let Ok(now) = result {
                            largest_event = largest_event.max(Some(time_ms));
                            prop_assert_eq!(Some(now), before.max(Some(time_ms)));
                        }
                    }
                    Step::Idle { wall_passes_ms } => {
                        wall += wall_passes_ms;
                        let now = time.idle(wall);
                        // Idleness alone never starts time, and never moves it by more than what passed since the start.
                        prop_assert_eq!(now.is_some(), largest_event.is_some());
                        if let (Some(now), Some(largest)) = (now, largest_event) {
                            prop_assert!(now - largest <= wall - START);
                        }
                    }
                }
                prop_assert!(time.now_ms() >= before);
                before = time.now_ms();
            }
        }

        #[test]
        fn a_replay_of_old_events_stays_old(age in 1_000_000i64..1_000_000_000, idle in 1i64..1_000_000) {
            let wall = 2_000_000_000;
            let mut time = StreamTime::new(None, 0, wall);
            prop_assert_eq!(time.observe(wall - age, wall), Ok(wall - age));
            prop_assert_eq!(time.idle(wall + idle), Some(wall - age + idle));
        }
    }

    #[test]
    fn short_gaps_do_not_count_as_idle_until_they_are_long_enough() {
        let mut time = StreamTime::new(Some(100), 1_000, 0);
        assert_eq!(time.idle(999), Some(100));
        assert_eq!(time.idle(1_500), Some(1_600));
        assert_eq!(time.idle(1_600), Some(1_600));
    }

    #[test]
    fn a_wall_clock_that_is_set_back_stops_nothing() {
        let mut time = StreamTime::new(Some(100), 0, 10_000);
        assert_eq!(time.idle(5_000), Some(100));
        assert_eq!(time.observe(200, 5_000), Ok(200));
        assert_eq!(time.idle(10_010), Some(210));
    }
}
