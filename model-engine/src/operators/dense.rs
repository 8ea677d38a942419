//! A small dense layer: rows times a constant matrix, plus a bias, through an activation.

use crate::ModelError;
use crate::ensemble::PostTransform;
use crate::program::{Operator, Table, Tables};
use crate::real::Real;

use super::rowwise::Activation;

/// Columns of a block whose sums stay in registers.
const WIDE: usize = 16;
/// Columns of the blocks that are left over.
const NARROW: usize = 4;

/// Weights `[inputs, outputs]`, cut into blocks of columns that are padded with zeros.
#[derive(Clone, Debug)]
pub(crate) struct Matrix<T> {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    wide: Vec<[T; WIDE]>,
    wide_bias: Vec<[T; WIDE]>,
    narrow: Vec<[T; NARROW]>,
    narrow_bias: Vec<[T; NARROW]>,
}

impl<T: Real> Matrix<T> {
    /// `at(input, output)` gives the weights; a missing bias is zero.
    pub(crate) fn new(inputs: usize, outputs: usize, at: impl Fn(usize, usize) -> T, bias: &[T]) -> Matrix<T> {
        let wide_blocks = outputs / WIDE;
        let rest = wide_blocks * WIDE;
        let narrow_blocks = (outputs - rest).div_ceil(NARROW);
        let weight = |input: usize, output: usize| if output < outputs { at(input, output) } else { T::ZERO };
        let bias_at = |output: usize| bias.get(output).copied().unwrap_or(T::ZERO);
        Matrix {
            inputs,
            outputs,
            wide: (0..wide_blocks * inputs)
                .map(|i| std::array::from_fn(|lane| weight(i % inputs, i / inputs * WIDE + lane)))
                .collect(),
            wide_bias: (0..wide_blocks)
                .map(|b| std::array::from_fn(|lane| bias_at(b * WIDE + lane)))
                .collect(),
            narrow: (0..narrow_blocks * inputs)
                .map(|i| std::array::from_fn(|lane| weight(i % inputs, rest + i / inputs * NARROW + lane)))
                .collect(),
            narrow_bias: (0..narrow_blocks)
                .map(|b| std::array::from_fn(|lane| bias_at(rest + b * NARROW + lane)))
                .collect(),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(self.wide.as_slice()) + size_of_val(self.narrow.as_slice())
    }

    /// Appends the outputs of every row to `out`.
    pub(crate) fn multiply(&self, rows: &[T], out: &mut Vec<T>) {
        if self.inputs == 0 {
            return;
        }
        for row in rows.chunks_exact(self.inputs) {
            let end = out.len() + self.outputs;
            blocks(row, &self.wide, &self.wide_bias, end, out);
            blocks(row, &self.narrow, &self.narrow_bias, end, out);
        }
    }
}

#[inline]
fn blocks<T: Real, const N: usize>(row: &[T], weights: &[[T; N]], bias: &[[T; N]], end: usize, out: &mut Vec<T>) {
    for (block, bias) in weights.chunks_exact(row.len()).zip(bias) {
        let mut sums = *bias;
        for (value, weights) in row.iter().zip(block) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += *value * *weight;
            }
        }
        let wanted = N.min(end - out.len());
        out.extend(sums.iter().take(wanted));
    }
}

/// `activation(input * matrix + bias)`.
#[derive(Debug)]
pub(crate) struct Dense<T> {
    pub(crate) matrix: Matrix<T>,
    pub(crate) activation: Option<Activation>,
    pub(crate) input: Table<T>,
    pub(crate) output: Table<T>,
}

impl<T: Real> Operator for Dense<T> {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut out = tables.take(self.output);
        out.clear();
        out.reserve(rows * self.matrix.outputs);
        self.matrix.multiply(tables.get(self.input), &mut out);
        if let Some(activation) = self.activation {
            activation.apply(self.matrix.outputs, &mut out);
        }
        tables.put(self.output, out);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.matrix.memory_bytes()
    }
}

/// A linear classifier: dense scores, then the label of the largest.
#[derive(Debug)]
pub(crate) struct Classifier {
    pub(crate) matrix: Matrix<f32>,
    pub(crate) post_transform: PostTransform,
    /// One score that stands for the second of two classes.
    pub(crate) two_classes: bool,
    pub(crate) input: Table<f32>,
    pub(crate) label: Option<Table<i64>>,
    pub(crate) scores: Table<f32>,
}

impl Operator for Classifier {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let mut scores = tables.take(self.scores);
        let mut labels = match self.label {
            Some(label) => tables.take(label),
            None => std::mem::take(&mut tables.unused),
        };
        scores.clear();
        labels.clear();
        scores.reserve(rows * self.matrix.outputs);
        self.matrix.multiply(tables.get(self.input), &mut scores);
        if self.matrix.outputs == 1 {
            labels.extend(scores.iter().map(|score| i64::from(*score > 0.0)));
        } else {
            labels.extend(scores.chunks_exact(self.matrix.outputs).map(largest));
        }
        if self.two_classes {
            let transform = self.post_transform;
            scores = scores.iter().flat_map(|&score| both(transform, score)).collect();
        } else {
            scores
                .chunks_exact_mut(self.matrix.outputs)
                .for_each(|row| self.post_transform.apply(row));
        }
        tables.put(self.scores, scores);
        match self.label {
            Some(label) => tables.put(label, labels),
            None => tables.unused = labels,
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.matrix.memory_bytes()
    }
}

/// Scores of both classes from the score of the second, as ONNX Runtime makes them.
fn both(transform: PostTransform, score: f32) -> [f32; 2] {
    match transform {
        PostTransform::Logistic => {
            let mut pair = [-score, score];
            transform.apply(&mut pair);
            pair
        }
        PostTransform::Probit => {
            let mut pair = [score];
            transform.apply(&mut pair);
            [pair[0], pair[0]]
        }
        _ => [1.0 - score, score],
    }
}

/// Index of the first of the largest values.
pub(crate) fn largest<T: Real>(row: &[T]) -> i64 {
    let mut best = (0, T::NEG_INFINITY);
    for (index, &value) in row.iter().enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0 as i64
}
