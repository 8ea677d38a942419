//! JSON numbers to doubles. Most have few digits: mantissa and power of ten are then both exact doubles, and one
//! multiplication or division rounds correctly (Clinger, "How to read floating point numbers accurately", 1990).
//! The others go through the standard library, which is exact too.

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
    /// The nearest double. `text` is the number as written. `None` when it is out of the range of doubles.
    pub fn to_double(&self, text: &str) -> Option<f64> {
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
        value.is_finite().then_some(value)
    }
}
