//! How Java reads text: `String.trim`, `Double.parseDouble`.

/// `String.trim`: without the control characters and blanks at both ends. Other white space than ASCII's stays, unlike in
/// [`str::trim`].
pub fn trim(text: &str) -> &str {
    text.trim_matches(|character| character <= ' ')
}

/// `Double.parseDouble` of a text without blanks around it: decimal or hexadecimal (`0x1p3`), with or without the suffix of a
/// type (`1d`, `1f`), `NaN`, `Infinity`. What is too large is infinite.
pub fn parse_double(text: &str) -> Option<f64> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = match magnitude {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        _ => {
            let digits = magnitude.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(magnitude);
            match magnitude.strip_prefix("0x").or_else(|| magnitude.strip_prefix("0X")) {
                Some(_) => hexadecimal(digits.get(2..)?)?,
                None => decimal(digits)?,
            }
        }
    };
    Some(if negative { -number } else { number })
}

fn decimal(text: &str) -> Option<f64> {
    // Rust reads words too: inf, nan
    let is_number = text.bytes().any(|byte| byte.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
        && !text.starts_with(['+', '-']);
    is_number.then(|| text.parse().ok()).flatten()
}

/// `1.8p1`: hexadecimal digits, and a binary exponent that must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_exponent = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    if whole.len() + fraction.len() == 0 || !is_exponent(digits) {
        return None;
    }
    // an exponent beyond these is zero or infinity whatever the digits
    let mut exponent = sign * digits.parse().unwrap_or(i64::MAX / 4).min(1 << 32);
    let mut bits: u64 = 0;
    for digit in whole.chars().chain(fraction.chars()) {
        let digit = u64::from(digit.to_digit(16)?);
        if bits >> 58 == 0 {
            bits = bits << 4 | digit;
        } else {
            // what no longer fits decides ties only
            bits |= u64::from(digit != 0);
            exponent += 4;
        }
    }
    exponent -= 4 * i64::try_from(fraction.len()).unwrap_or(i64::MAX / 8);
    Some(scaled(bits, exponent))
}

/// `bits * 2^exponent`, rounded once.
fn scaled(bits: u64, exponent: i64) -> f64 {
    const SMALLEST: i64 = -1074;
    if bits == 0 {
        return 0.0;
    }
    // bits of the result that there is room for: fewer than 53 near zero
    let top = 63 - i64::from(bits.leading_zeros());
    let room = (top + exponent - SMALLEST + 1).min(53);
    if room < 0 {
        return 0.0;
    }
    let surplus = top + 1 - room;
    let (kept, exponent) = match u32::try_from(surplus) {
        Ok(surplus) if surplus > 0 => {
            let kept = bits.checked_shr(surplus).unwrap_or(0);
            let rest = bits & (u64::MAX >> (64 - surplus.min(64)));
            let half = 1u64 << (surplus - 1).min(63);
            let up = rest > half || (rest == half && kept & 1 == 1);
            (kept + u64::from(up), exponent + i64::from(surplus))
        }
        _ => (bits, exponent),
    };
    // at most 2^53, so exact; and each step exact, since nothing is left to round
    let mut number = kept as f64;
    let mut left = exponent.clamp(-4000, 4000);
    while left != 0 {
        let step = left.clamp(-500, 500);
        number *= 2f64.powi(i32::try_from(step).unwrap_or(0));
        left -= step;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_java_reads_them() {
        for (text, number) in [
            ("1d", 1.0),
            ("1D", 1.0),
            ("1f", 1.0),
            ("0x1p3", 8.0),
            ("0X1.8P1", 3.0),
            ("0x.8p+1d", 1.0),
            ("-0x1p-1", -0.5),
            ("0x1p-1074", f64::from_bits(1)),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", f64::from_bits(1)),
            ("0x1p99999999999999999999", f64::INFINITY),
            ("0x0p99999999999999999999", 0.0),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.fffffffffffff7ffffffffffp0", 2.0 - f64::EPSILON),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("1e400", f64::INFINITY),
            ("+1.5", 1.5),
            ("-.5e-2d", -0.005),
        ] {
            assert_eq!(parse_double(text), Some(number), "{text}");
        }
        assert!(parse_double("NaN").is_some_and(f64::is_nan));
        assert!(parse_double("+NaN").is_some_and(f64::is_nan));
        for text in [
            "",
            "inf",
            "nan",
            "infinity",
            "1_0",
            "1dd",
            "0x10",
            "１",
            "1e",
            "d",
            ".",
            "+-1",
            "--1",
            "0xp1",
            "0x1p",
            "0x1p+",
            "NaNd",
            "0x1.8.0p1",
            "1 d",
        ] {
            assert_eq!(parse_double(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn hexadecimal_digits_give_the_number_they_stand_for(bits in any::<u64>()) {
            let number = f64::from_bits(bits).abs();
            prop_assume!(number.is_finite());
            let bits = number.to_bits();
            let (exponent, fraction) = ((bits >> 52) as i64, bits & ((1 << 52) - 1));
            let (first, exponent) = if exponent == 0 { (0, -1022) } else { (1, exponent - 1023) };
            prop_assert_eq!(parse_double(&format!("0x{first}.{fraction:013x}p{exponent}")), Some(number));
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,30}") {
            let _ = parse_double(&text);
        }
    }

    #[test]
    fn control_characters_are_trimmed_and_other_blanks_are_not() {
        assert_eq!(trim("\u{7} a\u{0}\t"), "a");
        assert_eq!(trim("\u{a0}a\u{2003}"), "\u{a0}a\u{2003}");
    }
}
