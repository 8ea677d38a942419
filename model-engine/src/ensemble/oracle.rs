//! The flat walk against a walk that follows the operator's page word by word, over random trees.

use proptest::prelude::*;

use super::attributes::{Aggregate, Branch, Description, Mode};
use super::{EnsembleScratch, PostTransform, flatten, walk};
use crate::onnx::pb;
use crate::real::Real;

const FEATURES: usize = 4;

/// One comparison as the page of TreeEnsembleRegressor says it.
fn is_true(branch: &Branch, value: f64) -> bool {
    let compared = match branch.mode {
        Mode::Leq => value <= branch.value,
        Mode::Lt => value < branch.value,
        Mode::Gte => value >= branch.value,
        Mode::Gt => value > branch.value,
        Mode::Eq => value == branch.value,
        Mode::Neq => value != branch.value,
        Mode::Member | Mode::Leaf => unreachable!("not in these trees"),
    };
    compared || (branch.missing_tracks_true && value.is_nan())
}

fn leaf<'a>(description: &'a Description, root: usize, row: &[f64]) -> &'a Branch {
    let mut at = &description.branches[root];
    while at.mode != Mode::Leaf {
        at = &description.branches[if is_true(at, row[at.feature as usize]) {
            at.yes
        } else {
            at.no
        }];
    }
    at
}

fn sums(description: &Description, row: &[f64]) -> Vec<f64> {
    let mut given: Vec<Option<f64>> = vec![None; description.targets];
    for &root in &description.roots {
        for &(target, weight) in &leaf(description, root, row).weights {
            let slot = &mut given[target as usize];
            *slot = Some(match (*slot, description.aggregate) {
                (None, _) => weight,
                (Some(sum), Aggregate::Sum | Aggregate::Average) => sum + weight,
                (Some(sum), Aggregate::Min) => sum.min(weight),
                (Some(sum), Aggregate::Max) => sum.max(weight),
            });
        }
    }
    given.into_iter().map(Option::unwrap_or_default).collect()
}

/// Few values, so that features meet thresholds exactly.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![8 => (-4_i8..5).prop_map(|number| f64::from(number) / 2.0), 1 => Just(0.0), 1 => Just(-0.0)]
}

fn feature_value() -> impl Strategy<Value = f64> {
    prop_oneof![12 => number(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY)]
}

/// Doubles beside a threshold, which floats do not tell from it.
fn beside(value: f64, step: i8) -> f64 {
    value * (1.0 + f64::from(step) * f64::EPSILON)
}

/// A node's part that does not depend on where it stands: mode, feature, value, missing, and which
/// open leaf it replaces.
type Split = (Mode, u32, f64, bool, prop::sample::Index);

fn split() -> impl Strategy<Value = Split> {
    let mode = prop::sample::select(vec![Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Eq, Mode::Neq]);
    (
        mode,
        0..FEATURES as u32,
        number(),
        any::<bool>(),
        any::<prop::sample::Index>(),
    )
}

/// Trees grown from one leaf by splitting leaves.
fn grow(trees: Vec<Vec<Split>>, targets: usize, aggregate: Aggregate) -> Description {
    let mut branches: Vec<Branch> = Vec::new();
    let mut roots = Vec::new();
    let fresh = |at: usize| Branch {
        mode: Mode::Leaf,
        feature: 0,
        value: 0.0,
        yes: at,
        no: at,
        missing_tracks_true: false,
        weights: vec![((at % targets) as u32, at as f64 / 8.0 - 3.0)],
    };
    for splits in trees {
        roots.push(branches.len());
        let mut open = vec![branches.len()];
        branches.push(fresh(branches.len()));
        for (mode, feature, value, missing_tracks_true, which) in splits {
            let at = open.swap_remove(which.index(open.len()));
            let (yes, no) = (branches.len(), branches.len() + 1);
            branches.extend([fresh(yes), fresh(no)]);
            open.extend([yes, no]);
            branches[at] = Branch {
                mode,
                feature,
                value,
                yes,
                no,
                missing_tracks_true,
                weights: Vec::new(),
            };
        }
    }
    Description {
        branches,
        roots,
        targets,
        labels: None,
        aggregate,
        post_transform: PostTransform::None,
        base_values: Vec::new(),
    }
}

/// Walks rows of doubles or floats; the sums are multiples of an eighth, which both hold exactly.
fn check<T: Real + Into<f64>>(description: &Description, features: &[f64]) -> Result<(), TestCaseError> {
    let forest = flatten::flatten::<T>(&pb::NodeProto::default(), description).unwrap();
    let (rows, targets) = (features.len() / FEATURES, description.targets);
    let given: Vec<T> = features.iter().map(|value| T::from_double(*value)).collect();
    let mut scratch = EnsembleScratch {
        sums: vec![T::ZERO; rows * targets],
        given: vec![false; rows * targets],
    };
    walk::walk(&forest, description.aggregate, rows, FEATURES, &given, &mut scratch);
    let walked = scratch.sums.chunks_exact(targets);
    for (row, got) in features.chunks_exact(FEATURES).zip(walked) {
        let got: Vec<f64> = got.iter().map(|sum| (*sum).into()).collect();
        prop_assert_eq!(got, sums(description, row), "row {:?}", row);
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_flat_walk_reaches_the_same_leaves(
        trees in prop::collection::vec(prop::collection::vec(split(), 0..12), 1..20),
        targets in 1_usize..4,
        aggregate in prop::sample::select(vec![Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max]),
        features in prop::collection::vec(feature_value(), FEATURES..FEATURES * 20),
    ) {
        let description = grow(trees, targets, aggregate);
        let features = &features[..features.len() / FEATURES * FEATURES];
        check::<f32>(&description, features)?;
        let beside: Vec<f64> = features.iter().enumerate().map(|(at, value)| beside(*value, (at % 3) as i8 - 1)).collect();
        check::<f64>(&description, &beside)?;
    }
}
