//! When a producer is stuck: its oldest record waits though brokers answer. Pure.
//!
//! ```text
//!  oldest record in flight ---- the same for `patience` ----> another client asks whether brokers answer
//!         | another one                                         | no: an outage, which costs time and nothing else
//!         v                                                     | yes, and `patience` later again, with the same oldest record
//!      all is well                                              v
//!                                                             stuck
//! ```
//! `patience` is `request.timeout.ms`: within it a request that was never answered is given up and made again, so a producer
//! that is well has a new oldest record by then.

use std::time::{Duration, Instant};

/// A producer that stays stuck though it was made anew is not made anew more often than this.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// Watches one producer.
#[derive(Debug)]
pub(super) struct Watch {
    usual: Duration,
    patience: Duration,
    /// the oldest record, and since when it has been that
    oldest: Option<(u64, Instant)>,
    /// since when brokers have answered meanwhile
    answered: Option<Instant>,
}

impl Watch {
    pub fn new(patience: Duration) -> Watch {
        Watch {
            usual: patience,
            patience,
            oldest: None,
            answered: None,
        }
    }

    /// The oldest record in flight now. True: it waits for long, and it is to be asked whether brokers answer.
    pub fn look(&mut self, oldest: Option<u64>, now: Instant) -> bool {
        match (oldest, self.oldest) {
            (Some(now_oldest), Some((known, since))) if now_oldest == known => {
                now.saturating_duration_since(since) >= self.patience
            }
            _ => {
                self.patience = self.usual;
                self.oldest = oldest.map(|oldest| (oldest, now));
                self.answered = None;
                false
            }
        }
    }

    /// Whether brokers answered that question. True: the producer is stuck.
    pub fn asked(&mut self, answered: bool, now: Instant) -> bool {
        if !answered {
            self.answered = None;
            return false;
        }
        let since = *self.answered.get_or_insert(now);
        now.saturating_duration_since(since) >= self.patience
    }

    /// The producer was made anew, and has its time again: more of it each time that does not help.
    pub fn renewed(&mut self, now: Instant) {
        self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
        self.oldest = self.oldest.map(|(oldest, _)| (oldest, now));
        self.answered = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Seconds at which the producer was found stuck, looked at every 5 s; what is the oldest record and whether brokers
    /// answer are given by the second.
    fn stuck(until: u64, oldest: impl Fn(u64) -> Option<u64>, answers: impl Fn(u64) -> bool) -> Vec<u64> {
        let (mut watch, start) = (Watch::new(PATIENCE), Instant::now());
        let mut found = Vec::new();
        for second in (0..until).step_by(5) {
            let now = start + Duration::from_secs(second);
            if watch.look(oldest(second), now) && watch.asked(answers(second), now) {
                watch.renewed(now);
                found.push(second);
            }
        }
        found
    }

    #[test]
    fn a_record_that_waits_while_brokers_answer_is_stuck() {
        assert_eq!(stuck(100, |_| Some(7), |_| true), [60]);
    }

    #[test]
    fn an_outage_is_waited_for_and_what_comes_after_it_has_its_time() {
        assert_eq!(stuck(3_600, |_| Some(7), |_| false), [] as [u64; 0]);
        assert_eq!(stuck(1_040, |_| Some(7), |second| second >= 1_000), [1_030]);
        // They come and go.
        assert_eq!(stuck(1_000, |_| Some(7), |second| second % 30 < 20), [] as [u64; 0]);
    }

    #[test]
    fn a_producer_that_moves_is_well_however_slow_it_is() {
        assert_eq!(stuck(3_600, |second| Some(second / 55), |_| true), [] as [u64; 0]);
        assert_eq!(stuck(3_600, |_| None, |_| true), [] as [u64; 0]);
    }

    #[test]
    fn what_does_not_help_is_done_less_and_less_often() {
        // 30 + 30, then 60 + 60, 120 + 120, ...
        assert_eq!(stuck(1_000, |_| Some(7), |_| true), [60, 180, 420, 900]);
        let helped = |second| if second < 70 { Some(7) } else { Some(8) };
        assert_eq!(stuck(135, helped, |_| true), [60, 130]);
    }
}
