//! From sums to scores and labels: base values, post transforms, and the rules for two classes.

use super::attributes::{Aggregate, ClassLabels, Description};
use crate::ModelError;
use crate::onnx::{broken, pb, unsupported};

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
    pub(crate) fn apply(self, scores: &mut [f32]) {
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
pub(crate) fn logistic(value: f32) -> f32 {
    let upper = 1.0 / (1.0 + (-value.abs()).exp());
    if value < 0.0 { 1.0 - upper } else { upper }
}

/// Softmax of one row, in place.
pub(crate) fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Softmax in which zeros stay (nearly) zero.
fn softmax_zero(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::MIN, f32::max);
    let exp_neg_max = (-max).exp();
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > 1e-7 {
            *score = (*score - max).exp();
            sum += *score;
        } else {
            *score *= exp_neg_max;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The inverse of the normal distribution, by Winitzki's approximation of the inverse error
/// function, with the constants that ONNX Runtime uses.
fn probit(value: f32) -> f32 {
    /// Pi as ONNX Runtime writes it, times Winitzki's constant.
    const PI_A: f32 = 314_159.0 / 100_000.0 * 0.147;
    let x = 2.0 * value - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / PI_A + 0.5 * log;
    let root = (-half + (half * half - 1.0 / 0.147 * log).sqrt()).sqrt();
    std::f32::consts::SQRT_2 * if x < 0.0 { -root } else { root }
}

/// How sums become scores.
#[derive(Debug)]
pub(super) struct Rules {
    aggregate: Aggregate,
    post_transform: PostTransform,
    base_values: Vec<f32>,
    targets: usize,
    labels: Option<ClassLabels>,
    /// Two classes, weights for one of them.
    one_sided: bool,
    /// No weight is below zero: they are shares, and the middle is 0.5.
    all_positive: bool,
}

impl Rules {
    pub(super) fn new(node: &pb::NodeProto, description: &Description) -> Result<Rules, ModelError> {
        let base_values = description.base_values.clone();
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
    pub(super) fn finish(&self, trees: usize, sums: &mut [f32], given: &mut [bool], scores: &mut Vec<f32>) -> i64 {
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

    fn regression(&self, trees: usize, sums: &mut [f32], scores: &mut Vec<f32>) {
        if self.aggregate == Aggregate::Average {
            sums.iter_mut().for_each(|sum| *sum /= trees as f32);
        }
        if self.base_values.len() == sums.len() {
            sums.iter_mut()
                .zip(&self.base_values)
                .for_each(|(sum, base)| *sum += base);
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
    fn classes(&self, sums: &mut [f32], given: &mut [bool], scores: &mut Vec<f32>) -> i64 {
        for ((sum, given), base) in sums.iter_mut().zip(given.iter_mut()).zip(&self.base_values) {
            *sum += base;
            *given = true;
        }
        let mut best: Option<(usize, f32)> = None;
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
    fn two_classes(&self, sums: [f32; 2], given: [bool; 2], scores: &mut Vec<f32>) -> i64 {
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
            (false, false) => 0.0,
        };
        let middle = if self.one_sided && self.all_positive { 0.5 } else { 0.0 };
        let label = decisive > middle;
        let mut pair = [
            if first_given { first } else { 0.0 },
            if second_given { second } else { 0.0 },
        ];
        if !alone {
            self.post_transform.apply(&mut pair);
        } else if self.post_transform == PostTransform::Probit {
            pair = [probit(first), 0.0];
        } else {
            pair = match self.post_transform {
                PostTransform::Logistic => [logistic(-first), logistic(first)],
                _ if self.one_sided && self.all_positive => [1.0 - first, first],
                _ => [-first, first],
            };
        }
        scores.extend_from_slice(&pair);
        i64::from(label)
    }
}
