//! The text of dates and times (DateStyle ISO, zone UTC), read as Debezium does. Pure.

pub(super) const MILLIS_OF_DAY: i64 = 86_400_000;
const MICROS_OF_DAY: i64 = 86_400_000_000;
/// What Debezium writes for a timestamp of infinity and of minus infinity, in milliseconds
/// (`PGStatement.DATE_POSITIVE_INFINITY`).
const INFINITY_MILLIS: i64 = 9_223_372_036_825_200;
const MINUS_INFINITY_MILLIS: i64 = -9_223_372_036_832_400;

/// Days since the epoch of `2016-11-04`, `0044-03-15 BC`, `infinity`.
pub(super) fn days(text: &str) -> Result<i32, String> {
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (text, before_christ) = without_era(text);
    let days = date(text, before_christ)?;
    i32::try_from(days).map_err(|error| error.to_string())
}

/// Microseconds of the day of `13:51:30.123`; `24:00:00` is the day's length.
pub(super) fn time_micros(text: &str) -> Result<i64, String> {
    let wrong = || format!("not a time: {text}");
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    // two digits: nothing below can overflow
    let mut next = || {
        parts
            .next()
            .and_then(|part| part.parse::<u8>().ok())
            .map(i64::from)
            .ok_or_else(wrong)
    };
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let fraction = micros(fraction).ok_or_else(wrong)?;
    Ok(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction)
}

/// `11:51:30.123Z` of `13:51:30.123+02`.
pub(super) fn zoned_time(text: &str) -> Result<String, String> {
    let at = text
        .rfind(['+', '-'])
        .ok_or_else(|| format!("not a time with a zone: {text}"))?;
    let (clock, zone) = text.split_at(at);
    let micros = (time_micros(clock)? - offset_micros(zone)?).rem_euclid(MICROS_OF_DAY);
    let mut written = clock_text(micros);
    let fraction = micros % 1_000_000;
    if fraction != 0 {
        written.push('.');
        written.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    written.push('Z');
    Ok(written)
}

/// A timestamp without a zone.
enum Timestamp {
    Infinity,
    MinusInfinity,
    /// days since the epoch, microseconds of the day
    At(i64, i64),
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    match text {
        "infinity" => return Ok(Timestamp::Infinity),
        "-infinity" => return Ok(Timestamp::MinusInfinity),
        _ => {}
    }
    let (text, before_christ) = without_era(text);
    let (day, clock) = text.split_once(' ').ok_or_else(|| format!("not a timestamp: {text}"))?;
    Ok(Timestamp::At(date(day, before_christ)?, time_micros(clock)?))
}

/// Milliseconds since the epoch of `2016-11-04 13:51:30.123`.
pub(super) fn timestamp_millis(text: &str) -> Result<i64, String> {
    Ok(match timestamp(text)? {
        Timestamp::Infinity => INFINITY_MILLIS,
        Timestamp::MinusInfinity => MINUS_INFINITY_MILLIS,
        Timestamp::At(days, micros) => days
            .checked_mul(MILLIS_OF_DAY)
            .and_then(|start| start.checked_add(micros.div_euclid(1000)))
            .ok_or_else(|| format!("too far from 1970: {text}"))?,
    })
}

/// Microseconds since the epoch of `2016-11-04 13:51:30.123456`; `None` where 64 bits do not hold them: PostgreSQL's
/// timestamps go 30 years further than that, to the end of 294276.
pub(super) fn timestamp_micros(text: &str) -> Result<Option<i64>, String> {
    Ok(match timestamp(text)? {
        Timestamp::Infinity => Some(INFINITY_MILLIS * 1000),
        Timestamp::MinusInfinity => Some(MINUS_INFINITY_MILLIS * 1000),
        Timestamp::At(days, micros) => days
            .checked_mul(MICROS_OF_DAY)
            .and_then(|start| start.checked_add(micros)),
    })
}

/// `2016-11-04T11:51:30.123456Z` of `2016-11-04 11:51:30.123456+00`, with exactly `digits` digits behind the point; where
/// that is 0, with as many as there are.
pub(super) fn zoned_timestamp(text: &str, digits: usize) -> Result<String, String> {
    if matches!(text, "infinity" | "-infinity") {
        return Ok(text.to_owned());
    }
    let (text, before_christ) = without_era(text);
    let wrong = || format!("not a timestamp with a zone: {text}");
    let (day, rest) = text.split_once(' ').ok_or_else(wrong)?;
    let (clock, zone) = rest.split_at(rest.rfind(['+', '-']).ok_or_else(wrong)?);
    let micros = time_micros(clock)? - offset_micros(zone)?;
    let days = date(day, before_christ)? + micros.div_euclid(MICROS_OF_DAY);
    let micros = micros.rem_euclid(MICROS_OF_DAY);
    let (year, month, day) = civil(days);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        10_000.. => format!("+{year}"),
        _ => format!("-{:04}", year.unsigned_abs()),
    };
    let mut written = format!("{year}-{month:02}-{day:02}T{}", clock_text(micros));
    let fraction = format!("{:06}", micros % 1_000_000);
    let fraction = match digits {
        0 => fraction.trim_end_matches('0'),
        digits => fraction.get(..digits).unwrap_or(&fraction),
    };
    if !fraction.is_empty() {
        written.push('.');
        written.push_str(fraction);
    }
    written.push('Z');
    Ok(written)
}

fn without_era(text: &str) -> (&str, bool) {
    match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    }
}

fn clock_text(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Up to six digits behind a point, as microseconds.
fn micros(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 6)?;
    Some(fraction.parse::<u32>().ok().map(i64::from)? * 10_i64.pow(6 - digits))
}

/// `+02`, `-03:30`, `+05:53:28`.
fn offset_micros(zone: &str) -> Result<i64, String> {
    let wrong = || format!("not a zone: {zone}");
    let (sign, rest) = match zone.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(wrong()),
    };
    let mut seconds = 0;
    for (part, unit) in rest.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<u8>().map(i64::from).map_err(|_| wrong())? * unit;
    }
    Ok(sign * seconds * 1_000_000)
}

/// Days since the epoch of `YYYY-MM-DD`, in the proleptic Gregorian calendar.
fn date(text: &str, before_christ: bool) -> Result<i64, String> {
    let wrong = || format!("not a date: {text}");
    let mut parts = text.splitn(3, '-');
    let mut next = || {
        parts
            .next()
            .and_then(|part| part.parse::<u32>().ok())
            .map(i64::from)
            .ok_or_else(wrong)
    };
    let (year, month, day) = (next()?, next()?, next()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(wrong());
    }
    let year = if before_christ { 1 - year } else { year };
    // the year starts in March, so that the leap day is its last
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Ok(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day of days since the epoch.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values that Debezium's own tests expect of these texts.
    #[test]
    fn as_debezium_reads_them() {
        assert_eq!(days("2016-11-04"), Ok(17_109));
        assert_eq!(days("infinity"), Ok(i32::MAX));
        assert_eq!(time_micros("13:51:30.123"), Ok(49_890_123_000));
        assert_eq!(time_micros("24:00:00"), Ok(86_400_000_000));
        assert_eq!(zoned_time("13:51:30.123789+02").unwrap(), "11:51:30.123789Z");
        assert_eq!(zoned_time("13:51:30.12+02").unwrap(), "11:51:30.12Z");
        assert_eq!(zoned_time("01:00:00+02:30").unwrap(), "22:30:00Z");
        assert_eq!(
            timestamp_micros("1936-10-25 22:10:12.608"),
            Ok(Some(-1_047_174_587_392_000))
        );
        assert_eq!(timestamp_millis("2016-11-04 13:51:30.123456"), Ok(1_478_267_490_123));
        assert_eq!(
            timestamp_micros("4713-12-31 23:59:59.999999 BC"),
            Ok(Some(-210_831_897_600_000_001))
        );
        assert_eq!(
            timestamp_micros("294247-01-01 23:59:59.999999"),
            Ok(Some(9_223_371_331_200_000_000 - 1))
        );
        assert_eq!(timestamp_micros("294276-12-31 23:59:59.999999"), Ok(None));
        assert_eq!(timestamp_millis("294276-12-31 23:59:59"), Ok(9_224_318_015_999_000));
        assert_eq!(timestamp_micros("infinity"), Ok(Some(9_223_372_036_825_200_000)));
        assert_eq!(timestamp_micros("-infinity"), Ok(Some(-9_223_372_036_832_400_000)));
        assert_eq!(timestamp_millis("infinity"), Ok(9_223_372_036_825_200));
        assert_eq!(timestamp_millis("-infinity"), Ok(-9_223_372_036_832_400));
        let zoned = |text| zoned_timestamp(text, 6).unwrap();
        assert_eq!(zoned("2016-11-04 11:51:30.123456+00"), "2016-11-04T11:51:30.123456Z");
        assert_eq!(zoned("2020-04-01 11:51:02+00"), "2020-04-01T11:51:02.000000Z");
        assert_eq!(zoned("21016-11-04 06:51:30.123456+00"), "+21016-11-04T06:51:30.123456Z");
        assert_eq!(
            zoned("4714-12-31 23:59:59.999999+00 BC"),
            "-4713-12-31T23:59:59.999999Z"
        );
        assert_eq!(zoned("infinity"), "infinity");
        assert_eq!(
            zoned_timestamp("2016-11-04 11:51:30+00", 0).unwrap(),
            "2016-11-04T11:51:30Z"
        );
        assert_eq!(
            zoned_timestamp("2016-11-04 11:51:30.1+00", 3).unwrap(),
            "2016-11-04T11:51:30.100Z"
        );
    }

    proptest! {
        /// A day's number and its date are the same day.
        #[test]
        fn dates_come_back(day in -2_000_000_i64..4_000_000) {
            let (year, month, of_month) = civil(day);
            let text = format!("{:04}-{month:02}-{of_month:02}", if year > 0 { year } else { 1 - year });
            prop_assert_eq!(date(&text, year <= 0), Ok(day));
        }

        /// Whatever stands there, nothing overflows: with the largest numbers of each length too.
        #[test]
        fn any_text_is_read(text in "[0-9:. +BC-]{0,24}", numbers in proptest::collection::vec(any::<u64>(), 8)) {
            let all = |text: &str| {
                let _ = (days(text), time_micros(text), zoned_time(text), timestamp_micros(text), timestamp_millis(text));
                let _ = zoned_timestamp(text, 6);
            };
            all(&text);
            let [a, b, c, d, e, f, g, h] = numbers[..] else { unreachable!() };
            for shift in [0, 32, 40, 56] {
                let [a, b, c, d, e, f, g, h] = [a, b, c, d, e, f, g, h].map(|number| number >> shift);
                all(&format!("{a}-{b}-{c} {d}:{e}:{f}.{g}+{h}"));
                all(&format!("{a}-11-04 {d}:{e}:{f}"));
                all(&format!("{a}-11-04"));
                all(&format!("{d}:{e}:{f}-{g}:{h}"));
            }
        }
    }
}
