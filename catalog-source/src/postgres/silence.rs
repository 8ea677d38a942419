//! How long a server has said nothing while somebody listened. Pure, over explicit time.

use std::time::{Duration, Instant};

/// A server that says nothing for this long, though it was asked, is lost.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Silence {
    since: Instant,
    limit: Duration,
}

impl Silence {
    /// The server, which is asked every `interval`, was heard at `now`.
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            since: now,
            limit: LIMIT.max(interval * 3),
        }
    }

    /// Something has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.since = now;
    }

    /// Nobody listened from `from` to `until`: what came then has not been read.
    pub(super) fn not_listening(&mut self, from: Instant, until: Instant) {
        self.since += until.saturating_duration_since(from);
    }

    /// Whether the server is lost.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What happens between two looks.
    #[derive(Debug, Clone)]
    enum Step {
        Heard,
        Listened(u64),
        NotListened(u64),
    }

    proptest! {
        /// A server is lost exactly if the time of listening since it was heard last is over the limit, however long nobody
        /// listened in between.
        #[test]
        fn only_listening_counts(
            steps in proptest::collection::vec(prop_oneof![
                Just(Step::Heard), (0_u64..50).prop_map(Step::Listened), (0_u64..5000).prop_map(Step::NotListened),
            ], 0..30),
            interval in 1_u64..40,
        ) {
            let mut now = Instant::now();
            let mut silence = Silence::new(now, Duration::from_secs(interval));
            let mut listened = 0;
            for step in steps {
                match step {
                    Step::Heard => {
                        silence.heard(now);
                        listened = 0;
                    }
                    Step::Listened(seconds) => {
                        now += Duration::from_secs(seconds);
                        listened += seconds;
                    }
                    Step::NotListened(seconds) => {
                        let until = now + Duration::from_secs(seconds);
                        silence.not_listening(now, until);
                        now = until;
                    }
                }
                prop_assert_eq!(silence.is_over(now), listened > 60.max(3 * interval));
            }
        }
    }
}
