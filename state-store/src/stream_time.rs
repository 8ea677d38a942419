//! Stream time: the largest event time seen, of one partition and whatever has a time of its own there.
//!
//! Pure: the wall clock is an argument. Where it is asked for, idle input moves stream time on by the wall time that passes,
//! never *to* the wall clock, so that a replay of last year's events stays in last year and expires what that year would
//! have. The value is persisted with the state at each barrier, and a replay starts again from there.
//!
//! Time that moves on too early makes events late that were only on their way: an upstream that delivers every half minute is
//! not idle in between. So how events come is measured, and input counts as idle only once nothing has come for twice the
//! longest pause so far; and only what passes beyond that moves stream time on:
//!
//! ```text
//!  events   |||      |||      |||                         now = time at the last event + (passed - patience)
//!  wall     ---|-pause-|---------|======= patience =======|------------------>
//!                                          2 x pause, at least `idle_after`
//! ```

/// How far ahead of the wall clock an event may be, in milliseconds: one hour.
pub const MAX_AHEAD_MS: i64 = 3_600_000;

/// How events come is known once it was watched for so many times the idle time.
const WATCHED: i64 = 4;

/// An event from the future. The caller does not take it: one such event would expire everything there is.
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
    idle: Option<Idle>,
}

/// How events come, by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Idle {
    after_ms: i64,
    /// wall clock of the first event and of the last
    watched: Option<(i64, i64)>,
    longest_pause_ms: i64,
    /// stream time at the last event
    at_last_event_ms: i64,
}

impl StreamTime {
    /// Starts from what was persisted (none: no event has been seen). `idle_after_ms`: the shortest time without events that
    /// counts as idle; none: stream time moves by events alone.
    pub fn new(persisted_ms: Option<i64>, idle_after_ms: Option<i64>) -> StreamTime {
        StreamTime {
            now_ms: persisted_ms,
            idle: idle_after_ms.map(|after_ms| Idle {
                after_ms: after_ms.max(1),
                watched: None,
                longest_pause_ms: 0,
                at_last_event_ms: i64::MIN,
            }),
        }
    }

    /// Goes on from how events came before, as [`Self::pause_ms`] said; none: that was not known. `wall_ms`: now, from which
    /// on input may be idle.
    pub fn with_pause(mut self, pause_ms: Option<i64>, wall_ms: i64) -> StreamTime {
        if let (Some(idle), Some(pause_ms), Some(now_ms)) = (&mut self.idle, pause_ms, self.now_ms) {
            let watched_ms = idle.after_ms.saturating_mul(WATCHED);
            idle.watched = Some((wall_ms.saturating_sub(watched_ms), wall_ms));
            idle.longest_pause_ms = pause_ms.max(0);
            idle.at_last_event_ms = now_ms;
        }
        self
    }

    /// The longest pause between events so far, by the wall clock and in milliseconds, once it is known how they come; to be
    /// persisted beside the time.
    pub fn pause_ms(&self) -> Option<i64> {
        let idle = self.idle.as_ref()?;
        idle.is_known().then_some(idle.longest_pause_ms)
    }

    /// Takes an event's time; returns stream time, which never moves back.
    ///
    /// Error: the event is more than an hour ahead of the wall clock; stream time is as it was.
    #[inline]
    pub fn observe(&mut self, event_time_ms: i64, wall_ms: i64) -> Result<i64, AheadOfWallClock> {
        if event_time_ms > wall_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(AheadOfWallClock { event_time_ms, wall_ms });
        }
        let now_ms = self.now_ms.map_or(event_time_ms, |now| now.max(event_time_ms));
        self.now_ms = Some(now_ms);
        if let Some(idle) = &mut self.idle {
            idle.event(now_ms, wall_ms);
        }
        Ok(now_ms)
    }

    /// Moves stream time on if the input is idle. `quiet_since_wall_ms`: since when it is known that nothing more has come
    /// than was observed; as long as the broker cannot be asked, that is not known, and this is not called.
    /// Returns stream time; none while no event has been seen.
    pub fn idle(&mut self, quiet_since_wall_ms: i64, wall_ms: i64) -> Option<i64> {
        let idle_ms = self
            .idle
            .as_ref()
            .and_then(|idle| idle.stream_time(quiet_since_wall_ms, wall_ms));
        // Without events there is no time that could move on.
        if let (Some(now_ms), Some(idle_ms)) = (&mut self.now_ms, idle_ms) {
            *now_ms = idle_ms.max(*now_ms);
        }
        self.now_ms
    }

    /// Stream time, in milliseconds since 1970; none while no event has been seen.
    #[inline]
    pub fn now_ms(&self) -> Option<i64> {
        self.now_ms
    }
}

impl Idle {
    fn event(&mut self, now_ms: i64, wall_ms: i64) {
        let (first, last) = self.watched.unwrap_or((wall_ms, wall_ms));
        self.longest_pause_ms = self.longest_pause_ms.max(wall_ms.saturating_sub(last));
        self.watched = Some((first, last.max(wall_ms)));
        self.at_last_event_ms = now_ms;
    }

    fn is_known(&self) -> bool {
        let watched = self.watched.map(|(first, last)| last.saturating_sub(first));
        watched.is_some_and(|watched| watched >= self.after_ms.saturating_mul(WATCHED))
    }

    /// What idleness has moved stream time to; none: the input is not idle, or it is not known how events come.
    fn stream_time(&self, quiet_since_wall_ms: i64, wall_ms: i64) -> Option<i64> {
        let (_, last) = self.watched.filter(|_| self.is_known())?;
        let patience_ms = self.after_ms.max(self.longest_pause_ms.saturating_mul(2));
        let passed_ms = wall_ms.saturating_sub(last.max(quiet_since_wall_ms));
        (passed_ms > patience_ms).then(|| self.at_last_event_ms.saturating_add(passed_ms - patience_ms))
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
        fn moves_on_only_by_events_and_by_elapsed_time(steps in steps(), idle_after in prop::option::of(0i64..10_000)) {
            const START: i64 = 10_000_000;
            let mut wall = START;
            let mut time = StreamTime::new(None, idle_after);
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
                        let now = time.idle(START, wall);
                        // Idleness alone never starts time, and never moves it by more than what passed since the start.
                        prop_assert_eq!(now.is_some(), largest_event.is_some());
                        if let (Some(now), Some(largest)) = (now, largest_event) {
                            prop_assert!(now - largest <= wall - START);
                            if idle_after.is_none() { prop_assert_eq!(now, largest); }
                        }
                    }
                }
                prop_assert!(time.now_ms() >= before);
                before = time.now_ms();
            }
        }

        /// An upstream delivers at its pace, each time what has happened since the last delivery, and some of that late. What
        /// grace would take of it without any idle time, it takes with it, however short the idle time is.
        #[test]
        fn no_event_is_late_that_grace_would_have_taken(
            period in 1_000i64..120_000, jitter in prop::collection::vec(0i64..1_000, 8..40), idle_after in 1i64..30_000,
            length in 1_000i64..300_000, grace in 0i64..60_000, lateness in 0i64..30_000,
        ) {
            let (mut plain, mut idle) = (StreamTime::new(None, None), StreamTime::new(None, Some(idle_after)));
            let mut wall = 1_000_000_000;
            for (delivery, jitter) in jitter.into_iter().enumerate() {
                let until = wall + period + if delivery < 4 { 0 } else { jitter };
                while wall < until {
                    wall = (wall + 500).min(until);
                    idle.idle(0, wall);
                }
                for back in [period, period / 2, lateness, 0] {
                    let event = wall - back;
                    let closes = event.div_euclid(length) * length + length + grace;
                    let late_anyway = closes <= plain.observe(event, wall).unwrap();
                    let late = closes <= idle.observe(event, wall).unwrap();
                    prop_assert_eq!(late, late_anyway, "delivery {}", delivery);
                }
            }
        }

        #[test]
        fn a_replay_of_old_events_stays_old(age in 1_000_000i64..1_000_000_000, idle in 1i64..1_000_000) {
            let wall = 2_000_000_000;
            let mut time = StreamTime::new(None, Some(10));
            for step in 0..10 {
                prop_assert_eq!(time.observe(wall - age, wall + step * 10), Ok(wall - age));
            }
            let now = time.idle(0, wall + 90 + idle).unwrap();
            prop_assert_eq!(now, wall - age + (idle - 20).max(0));
        }
    }

    /// How events come is known: one every 100 ms, for a while.
    fn watched(idle_after_ms: i64) -> StreamTime {
        let mut time = StreamTime::new(None, Some(idle_after_ms));
        for step in 0..=100 {
            time.observe(step, step * 100).unwrap();
        }
        time
    }

    #[test]
    fn short_gaps_do_not_count_as_idle_until_they_are_long_enough() {
        let mut time = watched(1_000);
        assert_eq!(time.idle(0, 11_000), Some(100));
        assert_eq!(time.idle(0, 11_500), Some(600));
        assert_eq!(time.idle(0, 11_600), Some(700));
        // Twice the longest pause.
        let mut time = watched(100);
        assert_eq!(time.idle(0, 10_200), Some(100));
        assert_eq!(time.idle(0, 10_201), Some(101));
    }

    #[test]
    fn nothing_is_idle_before_it_is_known_how_events_come() {
        let mut time = StreamTime::new(Some(100), Some(1_000));
        assert_eq!(time.idle(0, 1_000_000), Some(100));
        time.observe(200, 1_000_000).unwrap();
        assert_eq!(time.idle(0, 2_000_000), Some(200));
        assert_eq!(StreamTime::new(Some(100), None).idle(0, 1_000_000), Some(100));
    }

    #[test]
    fn how_events_come_is_known_after_a_restart() {
        let before = watched(1_000);
        assert_eq!(before.pause_ms(), Some(100));
        let mut time = StreamTime::new(before.now_ms(), Some(1_000)).with_pause(before.pause_ms(), 50_000);
        assert_eq!(time.idle(0, 51_000), Some(100));
        assert_eq!(time.idle(0, 51_001), Some(101));
    }

    #[test]
    fn what_may_have_come_meanwhile_does_not_count_as_idle() {
        let mut time = watched(1_000);
        // The broker was away until 60 s.
        assert_eq!(time.idle(60_000, 61_000), Some(100));
        assert_eq!(time.idle(60_000, 61_001), Some(101));
    }

    #[test]
    fn a_wall_clock_that_is_set_back_stops_nothing() {
        let mut time = watched(1_000);
        assert_eq!(time.idle(0, 5_000), Some(100));
        assert_eq!(time.observe(200, 5_000), Ok(200));
        assert_eq!(time.idle(0, 11_010), Some(210));
    }
}
