//! The time on the wall, as records carry it, and lengths of time as librdkafka takes them.

use std::time::{Duration, SystemTime};

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// As librdkafka counts; more than 24 days are cut to that.
pub(crate) fn millis(duration: Duration) -> i32 {
    // Rounded up, so that a short wait is not a busy one.
    i32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
