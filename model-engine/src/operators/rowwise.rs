//! Operators that keep a row's width: scaling, norms, arithmetic with a constant, activations.

use crate::ModelError;
use crate::ensemble::{PostTransform, logistic};
use crate::program::{Floats, Operator, Tables};

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

    pub(crate) fn apply(self, width: usize, values: &mut [f32]) {
        match self {
            // NaN stays NaN, which `max` would hide.
            Activation::Relu => values
                .iter_mut()
                .for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value }),
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
pub(crate) enum Operation {
    /// `(value - offset) * scale`, one of each per column.
    Scale {
        offset: Vec<f32>,
        scale: Vec<f32>,
    },
    Normalize(Norm),
    /// One constant per column.
    Constant(Arithmetic, Vec<f32>),
    Activate(Activation),
}

/// An operation from one table to another of the same width.
#[derive(Debug)]
pub(crate) struct Rowwise {
    pub(crate) operation: Operation,
    pub(crate) width: usize,
    pub(crate) input: Floats,
    pub(crate) output: Floats,
}

impl Operator for Rowwise {
    fn run(&self, _rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take_floats(self.output);
        out.clear();
        out.extend_from_slice(tables.floats(self.input));
        let width = self.width.max(1);
        match &self.operation {
            Operation::Scale { offset, scale } => {
                for row in out.chunks_exact_mut(width) {
                    for ((value, offset), scale) in row.iter_mut().zip(offset).zip(scale) {
                        *value = (*value - offset) * scale;
                    }
                }
            }
            Operation::Normalize(norm) => out.chunks_exact_mut(width).for_each(|row| normalize(*norm, row)),
            Operation::Constant(arithmetic, constants) => {
                for row in out.chunks_exact_mut(width) {
                    for (value, constant) in row.iter_mut().zip(constants) {
                        *value = match arithmetic {
                            Arithmetic::Add => *value + constant,
                            Arithmetic::Subtract => *value - constant,
                            Arithmetic::SubtractFrom => constant - *value,
                            Arithmetic::Multiply => *value * constant,
                            Arithmetic::Divide => *value / constant,
                            Arithmetic::DivideInto => constant / *value,
                        };
                    }
                }
            }
            Operation::Activate(activation) => activation.apply(width, &mut out),
        }
        tables.put_floats(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        match &self.operation {
            Operation::Scale { offset, scale } => 4 * (offset.len() + scale.len()),
            Operation::Constant(_, constants) => 4 * constants.len(),
            Operation::Normalize(_) | Operation::Activate(_) => 0,
        }
    }
}

/// A row whose norm is zero stays as it is.
fn normalize(norm: Norm, row: &mut [f32]) {
    let length = match norm {
        Norm::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        Norm::L1 => row.iter().map(|value| value.abs()).sum(),
        Norm::L2 => row.iter().map(|value| value * value).sum::<f32>().sqrt(),
    };
    if length != 0.0 {
        row.iter_mut().for_each(|value| *value /= length);
    }
}
