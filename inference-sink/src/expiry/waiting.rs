//! When an object that could not be put is put again, and what people are told meanwhile.

use serde::Serialize;
use std::time::{Duration, Instant};

/// Waits between attempts: the first, and the longest after doubling.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// The archive of one partition stands still: expired entries stay in the store, invisible, until an object can be put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ArchiveWait {
    /// the object, and why it could not be put last
    pub error: String,
    /// attempts that have failed
    pub attempts: u32,
    /// since when, in milliseconds since 1970
    pub since_ms: i64,
    /// until the next attempt, counted from the last
    #[serde(skip)]
    pub retry_in: Duration,
}

/// Attempts at one object.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    wait: Option<(ArchiveWait, Instant)>,
}

impl Retry {
    /// An attempt has failed.
    pub(crate) fn failed(&mut self, error: String, wall_ms: i64, now: Instant) -> &ArchiveWait {
        let before = self.wait.take().map(|(wait, _)| wait);
        let attempts = before.as_ref().map_or(0, |wait| wait.attempts).saturating_add(1);
        let retry_in = FIRST.saturating_mul(1 << (attempts - 1).min(10)).min(LONGEST);
        let wait = ArchiveWait {
            error,
            attempts,
            since_ms: before.map_or(wall_ms, |wait| wait.since_ms),
            retry_in,
        };
        &self.wait.insert((wait, now + retry_in)).0
    }

    /// An attempt has succeeded. Returns what was waited for.
    pub(crate) fn succeeded(&mut self) -> Option<ArchiveWait> {
        self.wait.take().map(|(wait, _)| wait)
    }

    /// Whether it is time for an attempt.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.wait.as_ref().is_none_or(|(_, due)| now >= *due)
    }

    /// What is waited for; none: nothing has failed since the last success.
    pub(crate) fn waiting(&self) -> Option<&ArchiveWait> {
        self.wait.as_ref().map(|(wait, _)| wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_a_success() {
        let mut retry = Retry::default();
        let start = Instant::now();
        assert!(retry.is_due(start) && retry.waiting().is_none());
        let mut waits = Vec::new();
        for attempt in 1..=8 {
            let wait = retry.failed(format!("error {attempt}"), 1_000 + attempt, start);
            assert_eq!((wait.attempts, wait.since_ms), (u32::try_from(attempt).unwrap(), 1_001));
            waits.push(wait.retry_in);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs));
        assert!(!retry.is_due(start + LONGEST - Duration::from_millis(1)));
        assert!(retry.is_due(start + LONGEST));
        assert_eq!(retry.succeeded().map(|wait| wait.error), Some("error 8".to_owned()));
        assert!(retry.is_due(start) && retry.waiting().is_none());
    }
}
