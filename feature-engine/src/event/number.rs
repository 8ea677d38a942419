//! JSON numbers to [`Number`]s. Most have few digits: mantissa and power of ten are then both exact doubles, and one
//! multiplication or division rounds correctly (Clinger, "How to read floating point numbers accurately", 1990).
//! The others go through the standard library, which is exact too, and integers of 64 bits keep all their digits.

use crate::number::{EXACT_DOUBLES, Number};

/// Powers of ten that are exact doubles.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// A number as the scanner has read it: `mantissa * 10^exponent`, exact unless `digits` exceeds 19.
pub(super) struct Decimal {
    pub negative: bool,
    pub mantissa: u64,
    pub digits: u32,
    pub exponent: i32,
}

impl Decimal {
    /// The number, an integer of 64 bits as it is and any other rounded to the nearest double. `text` is the number as
    /// written. `None` when it is out of the range of doubles.
    pub fn to_number(&self, text: &str) -> Option<Number> {
        const LARGEST_EXACT: u64 = 1 << 53;
        let power = EXACT_POWERS.get(self.exponent.unsigned_abs() as usize);
        let value = match power {
            Some(power) if self.digits <= 19 && self.mantissa <= LARGEST_EXACT => {
                let mantissa = self.mantissa as f64;
                let magnitude = if self.exponent < 0 {
                    mantissa / power
                } else {
                    mantissa * power
                };
                if self.negative { -magnitude } else { magnitude }
            }
            _ => text.parse().ok()?,
        };
        if value.abs() >= EXACT_DOUBLES
            && let Some(integer) = large_integer(text)
        {
            return Some(Number::of_integer(integer));
        }
        value.is_finite().then_some(Number::Double(value))
    }
}

/// The integer that a valid JSON number is, if it has one of at most 64 bits; `1.5e1` is one too.
#[cold]
fn large_integer(text: &str) -> Option<i128> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = [integer.trim_start_matches('-'), fraction].concat();
    let significant = all.trim_end_matches('0');
    let zeros = exponent
        .parse::<i64>()
        .ok()?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let zeros = zeros.checked_add(i64::try_from(all.len() - significant.len()).ok()?)?;
    let significant = significant.trim_start_matches('0');
    // 2^64 has 20 digits.
    let zeros = u32::try_from(zeros).ok().filter(|zeros| *zeros <= 20)?;
    if significant.len() > 20 {
        return None;
    }
    let value = significant.parse::<i128>().ok()?.checked_mul(10i128.pow(zeros))?;
    let value = if integer.starts_with('-') { -value } else { value };
    (i64::try_from(value).is_ok() || u64::try_from(value).is_ok()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::large_integer;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_integer_has_many_spellings(value in any::<i64>(), zeros in 0usize..4, moved in 0usize..18) {
            let digits = value.unsigned_abs().to_string();
            let sign = if value < 0 { "-" } else { "" };
            prop_assert_eq!(large_integer(&format!("{sign}{digits}")), Some(value.into()));
            prop_assert_eq!(large_integer(&format!("{sign}{digits}.{}", "0".repeat(zeros + 1))), Some(value.into()));
            prop_assert_eq!(large_integer(&format!("{sign}{digits}{}e-{zeros}", "0".repeat(zeros))), Some(value.into()));
            let point = digits.len() - moved.min(digits.len() - 1);
            let (whole, fraction) = digits.split_at(point);
            let exponent = fraction.len();
            let fraction = format!("{fraction}0");
            prop_assert_eq!(large_integer(&format!("{sign}{whole}.{fraction}E+{exponent}")), Some(value.into()));
        }
    }

    #[test]
    fn what_has_no_integer_of_64_bits_is_none() {
        assert_eq!(large_integer("18446744073709551615"), Some(u64::MAX.into()));
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            "1e20",
            "1e2000000000",
            "1e-2000000000",
            "9007199254740993.5",
            "90071992547409935e-1",
            "1e99999999999",
        ] {
            assert_eq!(large_integer(text), None, "{text}");
        }
    }
}
