//! How a feature reaches a model: as an element of a tensor, in the tensor's own type, exactly.
//!
//! | feature            | float, double        | int64, int32      | bool         |
//! |--------------------|----------------------|-------------------|--------------|
//! | missing, no number | NaN                  | misfit            | misfit       |
//! | bool               | 1, 0                 | 1, 0              | itself       |
//! | whole number       | exactly, else misfit | in range          | 1, 0         |
//! | other number       | the nearest          | misfit            | misfit       |
//!
//! What an expression has made a double is rounded to the nearest float32: that is what the types mean. A whole number of an
//! event is not, as two ids would become one.
//!
//! A row that waited while its model changed is made again for the tensors of the version that runs it, from the elements that
//! it was made of ([`KeptElement`]), by the same table. A NaN among those was something missing.

use std::fmt;

use crate::number::EXACT_DOUBLES;
use crate::slot::Slot;

/// A type that a feature can be handed to a model in: `f32`, `f64`, `i64`, `i32`, `bool`.
pub trait Element: Copy + Default + private::Convert {}

impl<T: Copy + Default + private::Convert> Element for T {}

/// Why a feature is no element of a tensor. The text goes on from the feature's name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// There is no value, and none stands for that in the tensor.
    #[error("is missing, and {element} has no missing value: give the feature a default")]
    Missing {
        /// Type of the tensor's elements.
        element: &'static str,
    },
    /// There is a value that is no number.
    #[error(
        "is {kind} and no number, which counts as missing, and {element} has no missing value: give the feature a default"
    )]
    NotANumber {
        /// `a string`
        kind: &'static str,
        /// Type of the tensor's elements.
        element: &'static str,
    },
    /// A fraction where a whole number is wanted.
    #[error("is {value}, which is not a whole number as {element} wants it")]
    NotWhole {
        /// The number.
        value: f64,
        /// Type of the tensor's elements.
        element: &'static str,
    },
    /// A number that the type does not reach to.
    #[error("is {value}, which is out of the range of {element}")]
    OutOfRange {
        /// The number.
        value: String,
        /// Type of the tensor's elements.
        element: &'static str,
    },
    /// A whole number that the type would round.
    #[error(
        "is {value}, which {element} cannot hold exactly: write double(...) in the feature's expression to have the nearest"
    )]
    Inexact {
        /// The number.
        value: i128,
        /// Type of the tensor's elements.
        element: &'static str,
    },
    /// A whole number that a row has kept in a type that may have rounded it.
    #[error("was kept as the {kept} {value}, which may be rounded, and {element} wants it exactly")]
    KeptRounded {
        /// The number.
        value: f64,
        /// Type that it was kept in.
        kept: &'static str,
        /// Type of the tensor's elements.
        element: &'static str,
    },
}

/// A feature that is no element of its tensor, by its place in the row.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfit {
    /// Index among the features of the row.
    pub position: usize,
    /// Why.
    pub misfit: Misfit,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "feature {} of the row {}", self.position, self.misfit)
    }
}

/// The value of a feature for a model's input.
#[derive(Clone, Copy, Debug)]
pub struct InputValue {
    /// A number, a bool, or nothing.
    pub(crate) value: Slot,
    /// What the feature is where `value` is nothing.
    pub(crate) shown: Slot,
    /// Whether an expression has made the number a double, which then may be rounded even where it is whole.
    pub(crate) is_double: bool,
}

/// What a register holds.
#[derive(Clone, Copy, Debug)]
pub struct RegisterValue(pub(crate) Slot);

/// An element of a tensor, as a row has kept it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // named as the element types
pub enum KeptElement {
    Float(f32),
    Double(f64),
    Int64(i64),
    Int32(i32),
    Boolean(bool),
}

impl KeptElement {
    fn slot(self) -> Slot {
        match self {
            KeptElement::Float(value) => Slot::Number(value.into()),
            KeptElement::Double(value) => Slot::Number(value),
            KeptElement::Int64(value) => Slot::Integer(value),
            KeptElement::Int32(value) => Slot::Integer(value.into()),
            KeptElement::Boolean(value) => Slot::Bool(value),
        }
    }

    /// The number and the type that it was kept in, where that type does not tell it from its neighbours.
    fn rounded(self) -> Option<(f64, &'static str)> {
        match self {
            KeptElement::Float(value) => {
                (value.is_finite() && value.abs() >= 16_777_216.0).then_some((value.into(), "float"))
            }
            KeptElement::Double(value) => {
                (value.is_finite() && value.abs() >= EXACT_DOUBLES).then_some((value, "double"))
            }
            _ => None,
        }
    }

    /// As an element of another tensor. `is_double`: an expression has made the feature a double, so that it may have been
    /// rounded when it was kept.
    pub(crate) fn convert<E: Element>(self, is_double: bool) -> Result<E, Misfit> {
        if let (true, Some((value, kept)), Some(element)) = (is_double, self.rounded(), E::WHOLE) {
            return Err(Misfit::KeptRounded { value, kept, element });
        }
        E::convert(InputValue {
            value: self.slot(),
            shown: self.slot(),
            is_double,
        })
    }
}

mod private {
    use super::{InputValue, Misfit, RegisterValue};

    pub trait Convert: Sized {
        /// Name of the type, if it is one of whole numbers.
        const WHOLE: Option<&'static str>;

        fn convert(input: InputValue) -> Result<Self, Misfit>;

        /// What [`Convert::convert`] makes of a usual value, whoever made it; `None` tells nothing.
        fn of_usual(_value: RegisterValue) -> Option<Self> {
            None
        }
    }
}

use private::Convert;

impl InputValue {
    /// There is no number.
    #[cold]
    fn nothing(self, element: &'static str) -> Misfit {
        let kind = match self.shown {
            Slot::Text(_) => "a string",
            Slot::List(_) => "an array",
            Slot::Object => "an object",
            Slot::Time(_) => "a timestamp",
            _ => return Misfit::Missing { element },
        };
        Misfit::NotANumber { kind, element }
    }

    fn whole(self, element: &'static str) -> Result<i128, Misfit> {
        match self.value {
            Slot::Bool(value) => Ok(value.into()),
            Slot::Integer(value) | Slot::Signed(value) => Ok(value.into()),
            Slot::Unsigned(value) => Ok(value.into()),
            Slot::Number(value) if value.is_nan() => Err(self.nothing(element)),
            Slot::Number(value) if value.abs() > LARGEST => Err(out_of_range(value, element)),
            Slot::Number(value) if value.trunc() != value => Err(Misfit::NotWhole { value, element }),
            Slot::Number(value) => Ok(value as i128),
            Slot::Missing | Slot::Time(_) | Slot::Text(_) | Slot::List(_) | Slot::Object => Err(self.nothing(element)),
        }
    }
}

/// No tensor's integers reach beyond: 2^64.
const LARGEST: f64 = 18_446_744_073_709_551_616.0;

#[cold]
fn out_of_range(value: impl fmt::Display, element: &'static str) -> Misfit {
    let value = value.to_string();
    Misfit::OutOfRange { value, element }
}

impl Convert for f32 {
    const WHOLE: Option<&'static str> = None;

    #[inline(always)]
    fn of_usual(value: RegisterValue) -> Option<f32> {
        match value.0 {
            // Whole numbers below 2^24 are float32s.
            Slot::Number(value) if value.abs() < 16_777_216.0 => Some(value as f32),
            Slot::Integer(value) if value.unsigned_abs() < 1 << 24 => Some(value as f32),
            Slot::Bool(value) => Some(f32::from(u8::from(value))),
            _ => None,
        }
    }

    fn convert(input: InputValue) -> Result<f32, Misfit> {
        match input.value {
            Slot::Number(value) => {
                let nearest = value as f32;
                if f64::from(nearest) == value {
                    return Ok(nearest);
                }
                narrowed(value, nearest, input.is_double)
            }
            Slot::Bool(value) => Ok(f32::from(u8::from(value))),
            Slot::Integer(value) if value.unsigned_abs() <= 1 << 24 => Ok(value as f32),
            Slot::Signed(value) if input.is_double => Ok(value as f32),
            Slot::Unsigned(value) if input.is_double => Ok(value as f32),
            Slot::Integer(value) | Slot::Signed(value) => {
                exact(value.into(), value as f32, |nearest| nearest as i128, "float")
            }
            Slot::Unsigned(value) => exact(value.into(), value as f32, |nearest| nearest as i128, "float"),
            Slot::Missing | Slot::Time(_) | Slot::Text(_) | Slot::List(_) | Slot::Object => Ok(f32::NAN),
        }
    }
}

impl Convert for f64 {
    const WHOLE: Option<&'static str> = None;

    #[inline(always)]
    fn of_usual(value: RegisterValue) -> Option<f64> {
        match value.0 {
            Slot::Number(value) => Some(value),
            _ => None,
        }
    }

    fn convert(input: InputValue) -> Result<f64, Misfit> {
        match input.value {
            Slot::Number(value) => Ok(value),
            Slot::Bool(value) => Ok(f64::from(u8::from(value))),
            Slot::Integer(value) if value.unsigned_abs() <= 1 << 53 => Ok(value as f64),
            Slot::Signed(value) if input.is_double => Ok(value as f64),
            Slot::Unsigned(value) if input.is_double => Ok(value as f64),
            Slot::Integer(value) | Slot::Signed(value) => {
                exact(value.into(), value as f64, |nearest| nearest as i128, "double")
            }
            Slot::Unsigned(value) => exact(value.into(), value as f64, |nearest| nearest as i128, "double"),
            Slot::Missing | Slot::Time(_) | Slot::Text(_) | Slot::List(_) | Slot::Object => Ok(f64::NAN),
        }
    }
}

/// A double that is not a float32.
fn narrowed(value: f64, nearest: f32, is_double: bool) -> Result<f32, Misfit> {
    if !value.is_finite() {
        return Ok(nearest);
    }
    if nearest.is_infinite() {
        return Err(out_of_range(value, "float"));
    }
    match !is_double && value.trunc() == value {
        true => Err(Misfit::Inexact {
            value: value as i128,
            element: "float",
        }),
        false => Ok(nearest),
    }
}

fn exact<T: Copy>(value: i128, nearest: T, back: impl Fn(T) -> i128, element: &'static str) -> Result<T, Misfit> {
    match back(nearest) == value {
        true => Ok(nearest),
        false => Err(Misfit::Inexact { value, element }),
    }
}

impl Convert for i64 {
    const WHOLE: Option<&'static str> = Some("int64");

    fn convert(input: InputValue) -> Result<i64, Misfit> {
        let whole = input.whole("int64")?;
        whole.try_into().map_err(|_| out_of_range(whole, "int64"))
    }
}

impl Convert for i32 {
    const WHOLE: Option<&'static str> = Some("int32");

    fn convert(input: InputValue) -> Result<i32, Misfit> {
        let whole = input.whole("int32")?;
        whole.try_into().map_err(|_| out_of_range(whole, "int32"))
    }
}

impl Convert for bool {
    const WHOLE: Option<&'static str> = Some("bool");

    fn convert(input: InputValue) -> Result<bool, Misfit> {
        match input.whole("bool")? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(out_of_range(other, "bool, which is 0 or 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Number;
    use proptest::prelude::*;

    /// To the bit, or both NaN.
    fn same<T: Element + fmt::Debug>(one: T, other: T) -> bool {
        format!("{one:?}") == format!("{other:?}")
    }

    fn of<T: Element + fmt::Debug>(value: Slot, is_double: bool) -> Result<T, String> {
        let input = InputValue {
            value,
            shown: value,
            is_double,
        };
        let converted = T::convert(input).map_err(|misfit| misfit.to_string());
        if let Some(usual) = T::of_usual(RegisterValue(value)) {
            assert!(converted.as_ref().is_ok_and(|converted| same(*converted, usual)));
        }
        converted
    }

    proptest! {
        #[test]
        fn integers_arrive_exactly_or_not_at_all(value: i64) {
            prop_assert_eq!(of::<i64>(Slot::Integer(value), false), Ok(value));
            prop_assert_eq!(of::<i32>(Slot::Integer(value), false).ok(), i32::try_from(value).ok());
            for slot in [Slot::Integer(value), Slot::Integer(value >> 20), Slot::Integer(value >> 40)] {
                let Slot::Integer(value) = slot else { continue };
                if let Ok(float) = of::<f32>(slot, false) { prop_assert_eq!(float as i128, i128::from(value)); }
                if let Ok(double) = of::<f64>(slot, false) { prop_assert_eq!(double as i128, i128::from(value)); }
                prop_assert_eq!(of::<f64>(slot, false).is_ok(), (value as f64) as i128 == i128::from(value));
            }
        }

        #[test]
        fn doubles_are_the_nearest_float(value in -1e38f64..1e38) {
            prop_assert_eq!(of::<f64>(Slot::Number(value), true), Ok(value));
            prop_assert_eq!(of::<f32>(Slot::Number(value), true), Ok(value as f32));
        }
    }

    #[test]
    fn whole_numbers_are_not_rounded_unless_they_are_doubles() {
        let id = Slot::Number(16_777_217.0);
        assert_eq!(of::<i64>(id, false), Ok(16_777_217));
        assert_eq!(
            of::<f32>(id, false),
            Err("is 16777217, which float cannot hold exactly: \
                 write double(...) in the feature's expression to have the nearest"
                .to_owned())
        );
        assert_eq!(of::<f32>(id, true), Ok(16_777_216.0));
        assert_eq!(of::<f32>(Slot::Number(16_777_216.0), false), Ok(16_777_216.0));
        assert_eq!(of::<f32>(Slot::Number(0.1), false), Ok(0.1));
        assert!(of::<f64>(Slot::Integer(i64::MAX), false).is_err());
        assert_eq!(of::<f64>(Slot::Integer(i64::MIN), false), Ok(-(2f64.powi(63))));
    }

    proptest! {
        #[test]
        fn what_was_kept_is_there_again_or_not_at_all(value: i64, is_double: bool) {
            let back = |kept: KeptElement| kept.convert::<i64>(is_double).ok();
            prop_assert_eq!(back(KeptElement::Int64(value)), Some(value));
            prop_assert_eq!(back(KeptElement::Int32(value as i32)), Some((value as i32).into()));
            for value in [value, value >> 10, value >> 11, value >> 20, value >> 38, value >> 39, value >> 40] {
                // What a tensor of floats or doubles has taken of it.
                let slot = Slot::from(Number::of_integer(value.into()));
                if let Ok(float) = of::<f32>(slot, is_double) {
                    prop_assert!(back(KeptElement::Float(float)).is_none_or(|back| back == value));
                }
                if let Ok(double) = of::<f64>(slot, is_double) {
                    prop_assert!(back(KeptElement::Double(double)).is_none_or(|back| back == value));
                }
            }
        }

        #[test]
        fn one_type_gives_what_it_has_kept(float: f32, double: f64, small: i32, truth: bool, is_double: bool) {
            let bits = KeptElement::Float(float).convert::<f32>(true).map(f32::to_bits);
            prop_assert!(float.is_nan() || bits == Ok(float.to_bits()));
            let bits = KeptElement::Double(double).convert::<f64>(is_double).map(f64::to_bits);
            prop_assert!(double.is_nan() || bits == Ok(double.to_bits()));
            prop_assert_eq!(KeptElement::Int32(small).convert::<i32>(is_double), Ok(small));
            prop_assert_eq!(KeptElement::Boolean(truth).convert::<bool>(is_double), Ok(truth));
        }
    }

    #[test]
    fn what_may_have_been_rounded_when_it_was_kept_is_no_id() {
        let kept = KeptElement::Float(16_777_218.0);
        assert_eq!(kept.convert::<i64>(false), Ok(16_777_218));
        assert_eq!(
            kept.convert::<i64>(true).map_err(|misfit| misfit.to_string()),
            Err("was kept as the float 16777218, which may be rounded, and int64 wants it exactly".to_owned())
        );
        assert_eq!(kept.convert::<f64>(true), Ok(16_777_218.0));
        assert!(
            KeptElement::Float(f32::NAN)
                .convert::<f64>(false)
                .is_ok_and(f64::is_nan)
        );
        assert!(KeptElement::Float(f32::NAN).convert::<i32>(false).is_err());
    }

    #[test]
    fn what_is_missing_is_nan_where_there_is_one() {
        assert!(of::<f32>(Slot::Missing, false).unwrap().is_nan());
        assert!(of::<f64>(Slot::List(2), false).unwrap().is_nan());
        assert!(of::<f32>(Slot::Number(f64::NAN), false).unwrap().is_nan());
        for missing in [Slot::Missing, Slot::Number(f64::NAN)] {
            assert_eq!(
                of::<i64>(missing, false),
                Err("is missing, and int64 has no missing value: give the feature a default".to_owned())
            );
        }
        assert!(
            of::<bool>(Slot::Object, false)
                .unwrap_err()
                .starts_with("is an object and no number")
        );
    }

    #[test]
    fn fractions_and_what_is_too_large_are_no_integers() {
        assert_eq!(
            of::<i32>(Slot::Number(1.5), true),
            Err("is 1.5, which is not a whole number as int32 wants it".to_owned())
        );
        assert_eq!(
            of::<i32>(Slot::Number(3e9), false),
            Err("is 3000000000, which is out of the range of int32".to_owned())
        );
        for value in [9.3e18, -1e300, f64::INFINITY] {
            assert!(
                of::<i64>(Slot::Number(value), true)
                    .unwrap_err()
                    .contains("out of the range of int64")
            );
        }
        assert!(
            of::<f32>(Slot::Number(1e39), true)
                .unwrap_err()
                .contains("out of the range of float")
        );
        assert_eq!(of::<f32>(Slot::Number(f64::INFINITY), true), Ok(f32::INFINITY));
        assert_eq!(of::<bool>(Slot::Number(1.0), false), Ok(true));
        assert!(of::<bool>(Slot::Number(2.0), false).is_err());
    }
}
