//! Floats and doubles: what our own operators compute in.

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, Neg, Sub};

use crate::ElementType;
use crate::onnx::Data;
use crate::program::Stored;

/// A number type of ONNX that operators compute in, as they are written once for both.
pub(crate) trait Real:
    Stored
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + DivAssign
{
    const ELEMENT: ElementType;
    const ZERO: Self;
    const ONE: Self;
    const LEAST: Self;
    const NEG_INFINITY: Self;

    /// Exactly.
    fn from_float(value: f32) -> Self;
    /// The nearest.
    fn from_double(value: f64) -> Self;
    fn abs(self) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn tanh(self) -> Self;
    fn sqrt(self) -> Self;
    /// The larger one; the other if one is NaN.
    fn larger(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
    fn next_down(self) -> Self;
    /// The elements of a constant, if they are of this type.
    fn constants(data: &Data) -> Option<&[Self]>;
}

macro_rules! real {
    ($($real:ident, $element:ident, $data:ident;)*) => {$(
        impl Real for $real {
            const ELEMENT: ElementType = ElementType::$element;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LEAST: Self = $real::MIN;
            const NEG_INFINITY: Self = $real::NEG_INFINITY;

            fn from_float(value: f32) -> Self {
                value.into()
            }

            fn from_double(value: f64) -> Self {
                value as $real
            }

            fn abs(self) -> Self {
                $real::abs(self)
            }

            fn exp(self) -> Self {
                $real::exp(self)
            }

            fn ln(self) -> Self {
                $real::ln(self)
            }

            fn tanh(self) -> Self {
                $real::tanh(self)
            }

            fn sqrt(self) -> Self {
                $real::sqrt(self)
            }

            fn larger(self, other: Self) -> Self {
                self.max(other)
            }

            fn is_nan(self) -> bool {
                $real::is_nan(self)
            }

            fn next_down(self) -> Self {
                $real::next_down(self)
            }

            fn constants(data: &Data) -> Option<&[Self]> {
                match data {
                    Data::$data(values) => Some(values),
                    _ => None,
                }
            }
        }
    )*};
}

real! {
    f32, Float, Floats;
    f64, Double, Doubles;
}
