//! How often a client speaks of brokers that it cannot reach. librdkafka reports every attempt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An outage that goes on is spoken of again after so long.
const AGAIN: Duration = Duration::from_secs(30);

/// When an outage was spoken of last.
#[derive(Default)]
pub(super) struct Outage {
    told: AtomicBool,
    told_at: Mutex<Option<Instant>>,
}

impl Outage {
    /// Whether a report of that moment is news: the first of an outage, and one of every 30 s.
    pub(super) fn is_news(&self, now: Instant) -> bool {
        let mut told_at = self.told_at.lock();
        let is_news = told_at.is_none_or(|told_at| now.saturating_duration_since(told_at) >= AGAIN);
        if is_news {
            *told_at = Some(now);
            self.told.store(true, Ordering::Release);
        }
        is_news
    }

    /// A broker has answered: the next report is news.
    pub(super) fn is_over(&self) {
        if self.told.load(Ordering::Relaxed) {
            *self.told_at.lock() = None;
            self.told.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_again_while_it_lasts() {
        let (outage, start) = (Outage::default(), Instant::now());
        let told: Vec<u64> = (0..100)
            .filter(|second| outage.is_news(start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(told, [0, 30, 60, 90]);
        outage.is_over();
        assert!(outage.is_news(start + Duration::from_secs(100)));
        assert!(!outage.is_news(start + Duration::from_secs(101)));
    }
}
