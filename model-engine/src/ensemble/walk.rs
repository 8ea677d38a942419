//! The walk: eight lanes go down at once, so that the loads of one hide behind those of the others.
//! Lanes are eight rows in one tree or, for rows that do not fill eight lanes, eight trees of one row.

use std::array;

use super::attributes::Aggregate;
use super::flatten::{EQUAL, FEATURE, Forest, NAN_TO_NO, Node};
use crate::program::EnsembleScratch;
use crate::real::Real;

const LANES: usize = 8;

/// Walks all trees for all rows and merges what their leaves give into `scratch`, in the order of
/// the trees. `features` is `[rows, width]`.
#[allow(clippy::indexing_slicing)] // the hottest loop there is; positions are checked by `flatten`
pub(super) fn walk<T: Real>(
    forest: &Forest<T>,
    aggregate: Aggregate,
    rows: usize,
    width: usize,
    features: &[T],
    scratch: &mut EnsembleScratch<T>,
) {
    // Without NaN and equality one comparison decides.
    let plain = !forest.has_equal && !features.iter().any(|value| value.is_nan());
    let full = rows - rows % LANES;
    for &(root, depth) in &forest.roots {
        for first in (0..full).step_by(LANES) {
            let lanes = array::from_fn(|lane| (first + lane) * width);
            let leaves = descend(forest, plain, features, lanes, [root; LANES], depth);
            for (lane, leaf) in leaves.into_iter().enumerate() {
                merge(forest, aggregate, first + lane, leaf, scratch);
            }
        }
    }
    for row in full..rows {
        for trees in forest.roots.chunks(LANES) {
            let roots = array::from_fn(|lane| trees[lane.min(trees.len() - 1)].0);
            let depth = trees.iter().map(|(_, depth)| *depth).max().unwrap_or_default();
            let leaves = descend(forest, plain, features, [row * width; LANES], roots, depth);
            for leaf in leaves.into_iter().take(trees.len()) {
                merge(forest, aggregate, row, leaf, scratch);
            }
        }
    }
}

#[inline]
fn descend<T: Real>(
    forest: &Forest<T>,
    plain: bool,
    features: &[T],
    rows: [usize; LANES],
    at: [u32; LANES],
    depth: u32,
) -> [u32; LANES] {
    if plain {
        steps(&forest.nodes, features, rows, at, depth, |node, value| {
            value > node.threshold
        })
    } else {
        steps(&forest.nodes, features, rows, at, depth, |node, value| {
            (value > node.threshold)
                | ((node.feature & EQUAL != 0) & (value < node.threshold))
                | ((node.feature & NAN_TO_NO != 0) & value.is_nan())
        })
    }
}

/// Takes every lane down to its leaf, at most `depth` steps; lanes that arrive early stay there.
/// `rows` are where the lanes' rows start in `features`.
#[inline(always)]
#[allow(clippy::indexing_slicing)]
fn steps<T: Real>(
    nodes: &[Node<T>],
    features: &[T],
    rows: [usize; LANES],
    mut at: [u32; LANES],
    depth: u32,
    goes_to_no: impl Fn(&Node<T>, T) -> bool,
) -> [u32; LANES] {
    for _ in 0..depth {
        let mut moved = 0;
        for lane in 0..LANES {
            let node = &nodes[at[lane] as usize];
            let value = features[rows[lane] + (node.feature & FEATURE) as usize];
            let next = if goes_to_no(node, value) { node.no } else { node.yes };
            moved |= next ^ at[lane];
            at[lane] = next;
        }
        if moved == 0 {
            break;
        }
    }
    at
}

/// Adds what a leaf gives to the row's sums.
#[inline]
#[allow(clippy::indexing_slicing)]
fn merge<T: Real>(forest: &Forest<T>, aggregate: Aggregate, row: usize, leaf: u32, scratch: &mut EnsembleScratch<T>) {
    let row = row * forest.targets;
    let mut one = |target: u32, weight: T| {
        let slot = row + target as usize;
        let (sum, given) = (&mut scratch.sums[slot], &mut scratch.given[slot]);
        *sum = match aggregate {
            Aggregate::Sum | Aggregate::Average => *sum + weight,
            Aggregate::Min if !*given || weight < *sum => weight,
            Aggregate::Max if !*given || weight > *sum => weight,
            Aggregate::Min | Aggregate::Max => *sum,
        };
        *given = true;
    };
    if let Some(target) = forest.single {
        one(target, forest.nodes[leaf as usize].threshold);
    } else {
        let (start, end) = forest.leaves[leaf as usize];
        for &(target, weight) in &forest.weights[start as usize..end as usize] {
            one(target, weight);
        }
    }
}
