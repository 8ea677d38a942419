//! Event times written as text.

use chrono::{DateTime, NaiveDateTime};

/// Epoch milliseconds of an RFC 3339 time (`2026-03-01T12:00:00.5Z`). A space may stand for the `T`, and a time without
/// an offset is in UTC.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let format = if text.as_bytes().get(10) == Some(&b'T') {
        "%Y-%m-%dT%H:%M:%S%.f"
    } else {
        "%Y-%m-%d %H:%M:%S%.f"
    };
    Some(
        NaiveDateTime::parse_from_str(text, format)
            .ok()?
            .and_utc()
            .timestamp_millis(),
    )
}

#[cfg(test)]
mod tests {
    use super::parse_time;

    #[test]
    fn reads_the_usual_forms() {
        for (text, ms) in [
            ("1970-01-01T00:00:01Z", 1_000),
            ("1970-01-01T00:00:01.5Z", 1_500),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01 00:00:01Z", 1_000),
            ("1970-01-01T00:00:01", 1_000),
            ("1970-01-01 00:00:01.25", 1_250),
            ("1969-12-31T23:59:59Z", -1_000),
        ] {
            assert_eq!(parse_time(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "12:00",
            "é970-01-01T00:00:00",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
