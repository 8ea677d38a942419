//! Quantities with units as users write them: time spans (`10ms`, `7d`), sizes (`256MiB`) and shares (`10%`).

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A length of time in whole milliseconds, written with one of the units ms, s, m, h and d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(u64);

const SPAN_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Spans are added to epoch milliseconds; a bound of 10,000 years keeps every such sum inside an `i64`.
const LONGEST_SPAN_MS: u64 = 10_000 * 365 * 86_400_000;

impl TimeSpan {
    /// A span of so many milliseconds.
    pub const fn from_millis(ms: u64) -> TimeSpan {
        TimeSpan(ms)
    }

    /// Milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The same as a standard duration.
    pub const fn to_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads `10ms`, `30s`, `5m`, `1h` or `7d`.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<TimeSpan, String> {
        let wrong = || format!("`{text}` is not a time span; write a whole number with ms, s, m, h or d, such as 30s");
        let (number, unit) = split_unit(text);
        let factor = SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        match number.checked_mul(factor) {
            Some(ms) if ms <= LONGEST_SPAN_MS => Ok(TimeSpan(ms)),
            _ => Err(format!("`{text}` is too long; the longest span is 3650000d")),
        }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match SPAN_UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A size in bytes, written as a whole number or with a unit: B, KiB, MiB, GiB, TiB or KB, MB, GB, TB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// A size of so many bytes.
    pub const fn from_bytes(bytes: u64) -> ByteSize {
        ByteSize(bytes)
    }

    /// Bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// Reads `256MiB`, `10GB` or `1048576`.
    ///
    /// # Errors
    /// A sentence that says what is expected.
    pub fn parse(text: &str) -> Result<ByteSize, String> {
        let wrong = || format!("`{text}` is not a size; write a whole number with B, KiB, MiB or GiB, such as 256MiB");
        let (number, unit) = split_unit(text);
        let factor = match unit {
            "" => 1,
            unit => SIZE_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor)
                .ok_or_else(wrong)?,
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number
            .checked_mul(factor)
            .map(ByteSize)
            .ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match SIZE_UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a share: `10%`, or a fraction from 0 to 1 such as `0.1`. Gives the fraction.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a share; write a percentage such as 10%, or a fraction from 0 to 1");
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| wrong());
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent)? / 100.0,
        None => number(text)?,
    };
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(wrong())
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit() {
        for (text, ms) in [
            ("10ms", 10),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(TimeSpan::parse(text), Ok(TimeSpan(ms)), "{text}");
        }
        for (text, bytes) in [
            ("256MiB", 256 << 20),
            ("10GiB", 10 << 30),
            ("1KB", 1000),
            ("17", 17),
            ("17B", 17),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!(parse_share("10%"), Ok(0.1));
        assert_eq!(parse_share("0.5"), Ok(0.5));
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for text in [
            "",
            "5",
            "ms",
            "-5s",
            "1.5h",
            "5 weeks",
            "99999999999999999999d",
            "9999999999d",
        ] {
            assert!(TimeSpan::parse(text).is_err(), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "5 apples", "99999999999999TiB"] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
        for text in ["", "%", "110%", "-1%", "2", "NaN"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0..LONGEST_SPAN_MS, bytes: u64) {
            prop_assert_eq!(TimeSpan::parse(&TimeSpan(ms).to_string()), Ok(TimeSpan(ms)));
            prop_assert_eq!(ByteSize::parse(&ByteSize(bytes).to_string()), Ok(ByteSize(bytes)));
        }
    }
}
