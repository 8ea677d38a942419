//! The time on the wall, as records carry it.

use std::time::SystemTime;

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
