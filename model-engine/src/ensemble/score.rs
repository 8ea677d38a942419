//! From sums to scores and labels: base values, post transforms, and the rules for two classes.

use super::attributes::{Aggregate, ClassLabels, Description};
use crate::ModelError;
use crate::onnx::{broken, pb, unsupported};
use crate::real::Real;

/// What is done to the scores of a row at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    /// The name in operator sets up to 3; none is `NONE`.
    pub(crate) fn by_name(node: &pb::NodeProto, name: Option<&str>) -> Result<Self, ModelError> {
        Ok(match name {
            None | Some("NONE") => PostTransform::None,
            Some("SOFTMAX") => PostTransform::Softmax,
            Some("LOGISTIC") => PostTransform::Logistic,
            Some("SOFTMAX_ZERO") => PostTransform::SoftmaxZero,
            Some("PROBIT") => PostTransform::Probit,
            Some(other) => return Err(unsupported(node, format!("post_transform '{other}'"))),
        })
    }

    /// The number in operator set 5.
    pub(super) fn by_number(node: &pb::NodeProto, number: i64) -> Result<Self, ModelError> {
        Ok(match number {
            0 => PostTransform::None,
            1 => PostTransform::Softmax,
            2 => PostTransform::Logistic,
            3 => PostTransform::SoftmaxZero,
            4 => PostTransform::Probit,
            other => return Err(unsupported(node, format!("post_transform {other}"))),
        })
    }

    /// Applies it to the scores of one row.
    pub(crate) fn apply<T: Real>(self, scores: &mut [T]) {
        match self {
            PostTransform::None => {}
            PostTransform::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            PostTransform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            PostTransform::Softmax => softmax(scores),
            PostTransform::SoftmaxZero => softmax_zero(scores),
        }
    }
}

/// Stable for large negative values.
pub(crate) fn logistic<T: Real>(value: T) -> T {
    let upper = T::ONE / (T::ONE + (-value.abs()).exp());
    if value < T::ZERO { T::ONE - upper } else { upper }
}

/// Softmax of one row, in place.
pub(crate) fn softmax<T: Real>(scores: &mut [T]) {
    let max = scores.iter().copied().fold(T::LEAST, T::larger);
    let mut sum = T::ZERO;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Softmax in which zeros stay (nearly) zero.
fn softmax_zero<T: Real>(scores: &mut [T]) {
    let max = scores.iter().copied().fold(T::LEAST, T::larger);
    let exp_neg_max = (-max).exp();
    let mut sum = T::ZERO;
    for score in scores.iter_mut() {
        if score.abs() > T::from_float(1e-7) {
            *score = (*score - max).exp();
            sum += *score;
        } else {
            *score = *score * exp_neg_max;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The inverse of the normal distribution, by Winitzki's approximation of the inverse error
/// function, with the constants that ONNX Runtime uses.
fn probit<T: Real>(value: T) -> T {
    /// Pi as ONNX Runtime writes it, times Winitzki's constant.
    const PI_A: f32 = 314_159.0 / 100_000.0 * 0.147;
    let number = T::from_float;
    let x = number(2.0) * value - T::ONE;
    let log = ((T::ONE - x) * (T::ONE + x)).ln();
    let half = number(2.0 / PI_A) + number(0.5) * log;
    let root = (-half + (half * half - number(1.0 / 0.147) * log).sqrt()).sqrt();
    number(std::f32::consts::SQRT_2) * if x < T::ZERO { -root } else { root }
}

/// How sums become scores.
#[derive(Debug)]
pub(super) struct Rules<T> {
    aggregate: Aggregate,
    post_transform: PostTransform,
    base_values: Vec<T>,
    targets: usize,
    labels: Option<ClassLabels>,
    /// Two classes, weights for one of them.
    one_sided: bool,
    /// No weight is below zero: they are shares, and the middle is 0.5.
    all_positive: bool,
}

impl<T: Real> Rules<T> {
    pub(super) fn new(node: &pb::NodeProto, description: &Description) -> Result<Rules<T>, ModelError> {
        let base_values: Vec<T> = description
            .base_values
            .iter()
            .map(|base| T::from_double(*base))
            .collect();
        let fits = base_values.len() <= 1 || base_values.len() == description.targets;
        if !fits {
            return Err(broken(
                node,
                format!("{} base values for {} targets", base_values.len(), description.targets),
            ));
        }
        let weights = || description.branches.iter().flat_map(|branch| &branch.weights);
        let first = weights().next().map(|(target, _)| *target);
        Ok(Rules {
            aggregate: description.aggregate,
            post_transform: description.post_transform,
            base_values,
            targets: description.targets,
            labels: description.labels.clone(),
            one_sided: description.targets == 2 && weights().all(|(target, _)| Some(*target) == first),
            all_positive: weights().all(|(_, weight)| *weight >= 0.0),
        })
    }

    pub(super) fn aggregate(&self) -> Aggregate {
        self.aggregate
    }

    pub(super) fn labels(&self) -> Option<&ClassLabels> {
        self.labels.as_ref()
    }

    /// Scores per row.
    pub(super) fn width(&self) -> usize {
        self.targets
    }

    /// Appends the scores of one row and answers the index of its class (0 for regressors).
    pub(super) fn finish(&self, trees: usize, sums: &mut [T], given: &mut [bool], scores: &mut Vec<T>) -> i64 {
        match (self.labels.is_some(), sums) {
            (false, sums) => {
                self.regression(trees, sums, scores);
                0
            }
            (true, [first, second]) => {
                let given = [given.first(), given.get(1)].map(|given| given.copied().unwrap_or_default());
                self.two_classes([*first, *second], given, scores)
            }
            (true, sums) => self.classes(sums, given, scores),
        }
    }

    fn regression(&self, trees: usize, sums: &mut [T], scores: &mut Vec<T>) {
        if self.aggregate == Aggregate::Average {
            let trees = T::from_double(trees as f64);
            sums.iter_mut().for_each(|sum| *sum /= trees);
        }
        if self.base_values.len() == sums.len() {
            sums.iter_mut()
                .zip(&self.base_values)
                .for_each(|(sum, base)| *sum += *base);
        }
        let start = scores.len();
        scores.extend_from_slice(sums);
        let row = scores.get_mut(start..).unwrap_or_default();
        // As in ONNX Runtime, a single target knows no other transform.
        if self.targets > 1 || self.post_transform == PostTransform::Probit {
            self.post_transform.apply(row);
        }
    }

    /// More than two classes (or one): the largest score wins.
    fn classes(&self, sums: &mut [T], given: &mut [bool], scores: &mut Vec<T>) -> i64 {
        for ((sum, given), base) in sums.iter_mut().zip(given.iter_mut()).zip(&self.base_values) {
            *sum += *base;
            *given = true;
        }
        let mut best: Option<(usize, T)> = None;
        for (class, (&sum, _)) in sums
            .iter()
            .zip(given.iter())
            .enumerate()
            .filter(|(_, (_, given))| **given)
        {
            if best.is_none_or(|(_, most)| sum > most) {
                best = Some((class, sum));
            }
        }
        let start = scores.len();
        scores.extend_from_slice(sums);
        self.post_transform.apply(scores.get_mut(start..).unwrap_or_default());
        best.map_or(0, |(class, _)| class as i64)
    }

    /// Two classes. Weights may be for one of them only: for the first (as exporters write them), and
    /// its score then makes both; for the second, and the first has none. The order of the cases is
    /// ONNX Runtime's.
    fn two_classes(&self, sums: [T; 2], given: [bool; 2], scores: &mut Vec<T>) -> i64 {
        let [mut first, mut second] = sums;
        let [first_given, second_given] = given;
        match *self.base_values.as_slice() {
            [_, base] if second_given => {
                second = base + first;
                first = -second;
            }
            [base, other] => {
                first += base;
                second += other;
            }
            [base] => first += base,
            _ => {}
        }
        let alone = !second_given && self.base_values.len() < 2;
        let decisive = match (second_given, first_given) {
            (true, _) => second,
            (false, true) => first,
            (false, false) => T::ZERO,
        };
        let middle = if self.one_sided && self.all_positive {
            T::from_float(0.5)
        } else {
            T::ZERO
        };
        let label = decisive > middle;
        let mut pair = [
            if first_given { first } else { T::ZERO },
            if second_given { second } else { T::ZERO },
        ];
        if !alone {
            self.post_transform.apply(&mut pair);
        } else if self.post_transform == PostTransform::Probit {
            pair = [probit(first), T::ZERO];
        } else {
            pair = match self.post_transform {
                PostTransform::Logistic => [logistic(-first), logistic(first)],
                _ if self.one_sided && self.all_positive => [T::ONE - first, first],
                _ => [-first, first],
            };
        }
        scores.extend_from_slice(&pair);
        i64::from(label)
    }
}
