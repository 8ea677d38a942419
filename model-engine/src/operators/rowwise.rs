//! Operators that keep a row's width: scaling, norms, arithmetic with a constant, activations.

use crate::ModelError;
use crate::ensemble::{PostTransform, logistic};
use crate::program::{Operator, Table, Tables};
use crate::real::Real;

/// What is done to every value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    Relu,
    Sigmoid,
    Tanh,
    Exp,
    Neg,
    Softmax,
}

impl Activation {
    /// The activation that a node of ONNX's own domain is; `Softmax` is checked by the caller.
    pub(crate) fn by_operator(name: &str) -> Option<Activation> {
        Some(match name {
            "Relu" => Activation::Relu,
            "Sigmoid" => Activation::Sigmoid,
            "Tanh" => Activation::Tanh,
            "Exp" => Activation::Exp,
            "Neg" => Activation::Neg,
            "Softmax" => Activation::Softmax,
            _ => return None,
        })
    }

    pub(crate) fn apply<T: Real>(self, width: usize, values: &mut [T]) {
        match self {
            // NaN stays NaN, which `max` would hide.
            Activation::Relu => values
                .iter_mut()
                .for_each(|value| *value = if *value < T::ZERO { T::ZERO } else { *value }),
            Activation::Sigmoid => values.iter_mut().for_each(|value| *value = logistic(*value)),
            Activation::Tanh => values.iter_mut().for_each(|value| *value = value.tanh()),
            Activation::Exp => values.iter_mut().for_each(|value| *value = value.exp()),
            Activation::Neg => values.iter_mut().for_each(|value| *value = -*value),
            Activation::Softmax => {
                values
                    .chunks_exact_mut(width.max(1))
                    .for_each(|row| PostTransform::Softmax.apply(row));
            }
        }
    }
}

/// How rows are brought to length one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    Max,
    L1,
    L2,
}

/// Arithmetic with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    SubtractFrom,
    Multiply,
    Divide,
    DivideInto,
}

/// One operation on every row.
#[derive(Debug)]
pub(crate) enum Operation<T> {
    /// `(value - offset) * scale`, one of each per column.
    Scale {
        offset: Vec<T>,
        scale: Vec<T>,
    },
    Normalize(Norm),
    /// One constant per column.
    Constant(Arithmetic, Vec<T>),
    Activate(Activation),
}

/// An operation from one table to another of the same width.
#[derive(Debug)]
pub(crate) struct Rowwise<T> {
    pub(crate) operation: Operation<T>,
    pub(crate) width: usize,
    pub(crate) input: Table<T>,
    pub(crate) output: Table<T>,
}

impl<T: Real> Operator for Rowwise<T> {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take(self.output);
        out.clear();
        out.extend_from_slice(tables.get(self.input));
        let width = self.width.max(1);
        match &self.operation {
            Operation::Scale { offset, scale } => {
                for row in out.chunks_exact_mut(width) {
                    for ((value, offset), scale) in row.iter_mut().zip(offset).zip(scale) {
                        *value = (*value - *offset) * *scale;
                    }
                }
            }
            Operation::Normalize(norm) => out.chunks_exact_mut(width).for_each(|row| normalize(*norm, row)),
            Operation::Constant(arithmetic, constants) => {
                for row in out.chunks_exact_mut(width) {
                    for (value, constant) in row.iter_mut().zip(constants) {
                        *value = match arithmetic {
                            Arithmetic::Add => *value + *constant,
                            Arithmetic::Subtract => *value - *constant,
                            Arithmetic::SubtractFrom => *constant - *value,
                            Arithmetic::Multiply => *value * *constant,
                            Arithmetic::Divide => *value / *constant,
                            Arithmetic::DivideInto => *constant / *value,
                        };
                    }
                }
            }
            Operation::Activate(activation) => activation.apply(width, &mut out),
        }
        tables.put(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        match &self.operation {
            Operation::Scale { offset, scale } => size_of::<T>() * (offset.len() + scale.len()),
            Operation::Constant(_, constants) => size_of::<T>() * constants.len(),
            Operation::Normalize(_) | Operation::Activate(_) => 0,
        }
    }
}

/// A row whose norm is zero stays as it is.
fn normalize<T: Real>(norm: Norm, row: &mut [T]) {
    let values = row.iter().copied();
    let length = match norm {
        Norm::Max => values.fold(T::NEG_INFINITY, T::larger),
        Norm::L1 => values.fold(T::ZERO, |sum, value| sum + value.abs()),
        Norm::L2 => values.fold(T::ZERO, |sum, value| sum + value * value).sqrt(),
    };
    if length != T::ZERO {
        row.iter_mut().for_each(|value| *value /= length);
    }
}
