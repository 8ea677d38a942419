//! Numbers as events, rows of stores and aggregates have them.
//!
//! JSON does not say how long a number may be. Most are doubles, as in JavaScript; but ids and counters of 64 bits are common,
//! and beyond 2^53 a double cannot tell two of them apart. So a number is a double, or an integer of 64 bits that is larger:
//!
//! ```text
//! -2^63 ........ -2^53 ........ 0 ........ 2^53 ........ 2^63 ........ 2^64
//!     Signed       |         Double         |    Signed     |  Unsigned  |     (beyond: Double, rounded)
//! ```
//! What a number is follows from its value alone, never from how it was written: `5`, `5.0` and `5e0` are one number.
//! `+`, `-` and `*` of integers are exact as long as the result fits into 64 bits, and the nearest double when it does not.
//! A double beyond 2^53 (the result of a division, for instance) counts as rounded, and what is computed from it too.

use std::cmp::Ordering;

/// Up to here, on both sides of 0, a double tells every integer from its neighbours.
pub(crate) const EXACT_DOUBLES: f64 = 9_007_199_254_740_992.0;

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Double(f64),
    /// Beyond 2^53 on either side.
    Signed(i64),
    /// Beyond 2^63.
    Unsigned(u64),
}

impl Number {
    /// An integer: exactly, if it fits into 64 bits.
    pub fn of_integer(value: i128) -> Number {
        if value.unsigned_abs() <= EXACT_DOUBLES as u128 {
            return Number::Double(value as f64);
        }
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => Number::Signed(value),
            (_, Ok(value)) => Number::Unsigned(value),
            _ => Number::Double(value as f64),
        }
    }

    /// A number that `serde_json` has read: of a document, or of a row.
    pub fn of_json(number: &serde_json::Number) -> Option<Number> {
        let integer = number.as_i64().map(i128::from);
        match integer.or_else(|| number.as_u64().map(i128::from)) {
            Some(integer) => Some(Number::of_integer(integer)),
            None => number.as_f64().map(Number::Double),
        }
    }

    /// The nearest double.
    pub fn to_double(self) -> f64 {
        match self {
            Number::Double(value) => value,
            Number::Signed(value) => value as f64,
            Number::Unsigned(value) => value as f64,
        }
    }

    /// The integer that it is exactly and, in the case of a double, is not rounded to. -0 is none: it has another inverse
    /// than 0.
    pub fn exact_integer(self) -> Option<i128> {
        match self {
            Number::Double(value) if value == 0.0 && value.is_sign_negative() => None,
            Number::Double(value) => {
                (value.abs() <= EXACT_DOUBLES && value.trunc() == value).then_some(i128::from(value as i64))
            }
            Number::Signed(value) => Some(value.into()),
            Number::Unsigned(value) => Some(value.into()),
        }
    }

    /// The 64-bit integer that it is by value; what keys and texts show.
    pub fn whole(self) -> Option<i128> {
        match self {
            Number::Double(value) => whole_double(value),
            Number::Signed(value) => Some(value.into()),
            Number::Unsigned(value) => Some(value.into()),
        }
    }

    pub fn plus(self, other: Number) -> Number {
        self.combined(other, |a, b| a + b, i128::checked_add)
    }

    pub fn minus(self, other: Number) -> Number {
        self.combined(other, |a, b| a - b, i128::checked_sub)
    }

    pub fn times(self, other: Number) -> Number {
        self.combined(other, |a, b| a * b, i128::checked_mul)
    }

    #[inline]
    fn combined(
        self,
        other: Number,
        doubles: impl Fn(f64, f64) -> f64,
        integers: impl Fn(i128, i128) -> Option<i128>,
    ) -> Number {
        if let (Number::Double(a), Number::Double(b)) = (self, other) {
            let result = doubles(a, b);
            // What is smaller is exact where both are integers; NaN has none behind it.
            if result.abs() < EXACT_DOUBLES || result.is_nan() {
                return Number::Double(result);
            }
        }
        match (self.exact_integer(), other.exact_integer()) {
            (Some(a), Some(b)) => match integers(a, b) {
                // 0 times something negative is the double -0, as it is for small numbers.
                Some(0) => Number::Double(doubles(self.to_double(), other.to_double())),
                Some(result) => Number::of_integer(result),
                None => Number::Double(doubles(self.to_double(), other.to_double())),
            },
            _ => Number::Double(doubles(self.to_double(), other.to_double())),
        }
    }

    /// Which is greater, by value and without rounding; none with NaN.
    #[inline]
    pub fn compare(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Double(a), Number::Double(b)) => a.partial_cmp(&b),
            (Number::Double(a), b) => compare_double(a, b.whole()?),
            (a, Number::Double(b)) => compare_double(b, a.whole()?).map(Ordering::reverse),
            (a, b) => Some(a.whole()?.cmp(&b.whole()?)),
        }
    }
}

/// Which of a double and an integer of at most 65 bits is greater, without rounding; none for NaN.
pub(crate) fn compare_double(double: f64, integer: i128) -> Option<Ordering> {
    const BEYOND: f64 = 36_893_488_147_419_103_232.0; // 2^65
    if double.is_nan() {
        return None;
    }
    if double.abs() >= BEYOND {
        return Some(if double > 0.0 {
            Ordering::Greater
        } else {
            Ordering::Less
        });
    }
    let floor = double.floor();
    Some((floor as i128).cmp(&integer).then(if double > floor {
        Ordering::Greater
    } else {
        Ordering::Equal
    }))
}

/// The 64-bit integer that a double is by value.
pub(crate) fn whole_double(value: f64) -> Option<i128> {
    const BELOW: f64 = -9_223_372_036_854_775_808.0; // -2^63
    const ABOVE: f64 = 18_446_744_073_709_551_616.0; // 2^64
    ((BELOW..ABOVE).contains(&value) && value.trunc() == value).then_some(value as i128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Integers around the places where the form changes, and any.
    fn integer() -> impl Strategy<Value = i128> {
        let around = |place: i128| (-3..=3i128).prop_map(move |step| place + step);
        prop_oneof![
            around(0),
            around(1 << 53),
            around(-(1 << 53)),
            around(1 << 63),
            around(-(1 << 63)).prop_filter("64 bits", |value| *value >= -(1 << 63)),
            (-3..=-1i128).prop_map(|step| (1 << 64) + step),
            any::<i64>().prop_map(i128::from),
            any::<u64>().prop_map(i128::from),
            (-1000..1000i128),
        ]
    }

    fn fits(value: i128) -> bool {
        i64::try_from(value).is_ok() || u64::try_from(value).is_ok()
    }

    proptest! {
        #[test]
        fn integers_are_exact_while_they_fit(a in integer(), b in integer()) {
            let (x, y) = (Number::of_integer(a), Number::of_integer(b));
            prop_assert_eq!((x.whole(), x.exact_integer()), (Some(a), Some(a)));
            prop_assert_eq!(x.compare(y), Some(a.cmp(&b)));
            for (ours, exact) in [(x.plus(y), a.checked_add(b)), (x.minus(y), a.checked_sub(b)), (x.times(y), a.checked_mul(b))] {
                match exact.filter(|exact| fits(*exact)) {
                    Some(exact) => prop_assert_eq!(ours.whole(), Some(exact)),
                    None => prop_assert!(matches!(ours, Number::Double(value) if value.abs() > EXACT_DOUBLES), "{:?}", ours),
                }
            }
        }

        #[test]
        fn doubles_that_hold_their_result_compute_as_doubles(a in -1e15..1e15f64, b in -1e15..1e15f64) {
            let (x, y) = (Number::Double(a), Number::Double(b));
            prop_assert_eq!(x.plus(y).to_double().to_bits(), (a + b).to_bits());
            prop_assert_eq!(x.minus(y).to_double().to_bits(), (a - b).to_bits());
            prop_assert_eq!(x.times(y).to_double().to_bits(), (a * b).to_bits());
        }

        #[test]
        fn doubles_and_integers_compare_by_value(double in any::<f64>(), integer in integer()) {
            let expected = if double.is_nan() {
                None
            } else if double.abs() > 1e30 {
                0.0.partial_cmp(&-double)
            } else {
                // Exact: twice the double has no fraction that a floor could lose below 2^53, and none at all above.
                Some((double.floor() as i128, double.fract() != 0.0).cmp(&(integer, false)))
            };
            prop_assert_eq!(compare_double(double, integer), expected);
        }
    }

    #[test]
    fn nothing_changes_for_zero_and_what_is_not_finite() {
        let product = Number::Double(0.0).times(Number::Double(-5.0));
        assert!(matches!(product, Number::Double(zero) if zero == 0.0 && zero.is_sign_negative()));
        let product = Number::of_integer(0).times(Number::of_integer(i128::from(i64::MIN)));
        assert!(matches!(product, Number::Double(zero) if zero == 0.0 && zero.is_sign_negative()));
        assert!(Number::Double(f64::NAN).plus(Number::Double(1.0)).to_double().is_nan());
        assert_eq!(
            Number::Double(f64::INFINITY).plus(Number::Signed(1 << 60)).to_double(),
            f64::INFINITY
        );
        assert_eq!(Number::Double(f64::NAN).compare(Number::Signed(1 << 60)), None);
    }
}
