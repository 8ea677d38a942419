//! Nodes of every compare mode, brought to one mode and laid out for the walk.

use super::attributes::{Branch, Description, Mode};
use crate::ModelError;
use crate::onnx::{broken, pb};
use crate::real::Real;

/// One step of the walk: go to `no` if the feature is above the threshold, else to `yes`. A leaf
/// goes to itself, so that lanes which arrive early may wait there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<T> {
    /// Of a leaf: its weight, where each leaf has one weight for the one target.
    pub(super) threshold: T,
    /// Feature in the low bits, `EQUAL` and `NAN_TO_NO` above.
    pub(super) feature: u32,
    pub(super) yes: u32,
    pub(super) no: u32,
}

/// Below the threshold goes to `no` too: the node asks for equality.
pub(super) const EQUAL: u32 = 1 << 31;
/// A missing feature (NaN) goes to `no`.
pub(super) const NAN_TO_NO: u32 = 1 << 30;
/// The feature without the flags.
pub(super) const FEATURE: u32 = NAN_TO_NO - 1;

/// All trees in one array.
#[derive(Debug)]
pub(super) struct Forest<T> {
    pub(super) nodes: Vec<Node<T>>,
    /// Per tree: position of the root, and steps to its deepest leaf.
    pub(super) roots: Vec<(u32, u32)>,
    pub(super) targets: usize,
    /// Whether any node asks for equality.
    pub(super) has_equal: bool,
    /// Whether each leaf has exactly one weight, kept in its `threshold`, and there is one target
    /// (or all weights are for this one of them).
    pub(super) single: Option<u32>,
    /// Per node the range in `weights`; empty when `single`.
    pub(super) leaves: Vec<(u32, u32)>,
    pub(super) weights: Vec<(u32, T)>,
    pub(super) min_features: usize,
}

impl<T> Forest<T> {
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.roots.as_slice())
            + size_of_val(self.leaves.as_slice())
            + size_of_val(self.weights.as_slice())
    }
}

/// Lays the trees out one after the other, each in depth-first order.
pub(super) fn flatten<T: Real>(node: &pb::NodeProto, description: &Description) -> Result<Forest<T>, ModelError> {
    let depths = depths(node, description)?;
    let mut forest = Forest {
        nodes: Vec::with_capacity(description.branches.len()),
        roots: Vec::with_capacity(description.roots.len()),
        targets: description.targets,
        has_equal: false,
        single: single_target(description),
        leaves: Vec::new(),
        weights: Vec::new(),
        min_features: 0,
    };
    let mut placed: Vec<Option<u32>> = vec![None; description.branches.len()];
    let mut order = Vec::new();
    let mut stack = Vec::new();
    for &root in &description.roots {
        order.clear();
        stack.push(root);
        while let Some(at) = stack.pop() {
            let (Some(place @ None), Some(branch)) = (placed.get_mut(at), description.branches.get(at)) else {
                continue;
            };
            *place = Some(u32::try_from(forest.nodes.len() + order.len()).map_err(|_| broken(node, "too many nodes"))?);
            order.push(at);
            if branch.mode != Mode::Leaf {
                stack.push(branch.no);
                stack.push(branch.yes);
            }
        }
        for &at in &order {
            if let Some(branch) = description.branches.get(at) {
                push(node, &mut forest, branch, &placed)?;
            }
        }
        let start = placed.get(root).copied().flatten().unwrap_or_default();
        forest
            .roots
            .push((start, depths.get(root).copied().unwrap_or_default()));
    }
    Ok(forest)
}

fn push<T: Real>(
    node: &pb::NodeProto,
    forest: &mut Forest<T>,
    branch: &Branch,
    placed: &[Option<u32>],
) -> Result<(), ModelError> {
    let place = |at: usize| placed.get(at).copied().flatten().unwrap_or_default();
    let own = u32::try_from(forest.nodes.len()).unwrap_or_default();
    let flat = match branch.mode {
        Mode::Leaf => {
            if forest.single.is_none() {
                let start = u32::try_from(forest.weights.len()).map_err(|_| broken(node, "too many leaves"))?;
                forest.weights.extend(
                    branch
                        .weights
                        .iter()
                        .map(|(target, weight)| (*target, T::from_double(*weight))),
                );
                forest.leaves.push((start, start + branch.weights.len() as u32));
            }
            let threshold = branch
                .weights
                .first()
                .map_or(T::ZERO, |(_, weight)| T::from_double(*weight));
            Node {
                threshold,
                feature: 0,
                yes: own,
                no: own,
            }
        }
        _ => {
            if forest.single.is_none() {
                forest.leaves.push((0, 0));
            }
            if branch.value.is_nan() {
                return Err(broken(node, "a node compares with NaN"));
            }
            forest.min_features = forest.min_features.max(branch.feature as usize + 1);
            let one_mode = one_mode(branch);
            forest.has_equal |= one_mode.equal;
            let (yes, no) = if one_mode.swapped {
                (branch.no, branch.yes)
            } else {
                (branch.yes, branch.no)
            };
            let nan_to_no = one_mode.nan_to_true == one_mode.swapped;
            Node {
                threshold: one_mode.threshold,
                feature: branch.feature
                    | if one_mode.equal { EQUAL } else { 0 }
                    | if nan_to_no { NAN_TO_NO } else { 0 },
                yes: place(yes),
                no: place(no),
            }
        }
    };
    forest.nodes.push(flat);
    Ok(())
}

/// A compare mode expressed by `x <= threshold` (or `x == threshold`), perhaps with the branches
/// exchanged: `x < t` is `x <= (the number below t)`, `x >= t` its opposite, `x > t` the opposite of
/// `x <= t`.
struct OneMode<T> {
    threshold: T,
    equal: bool,
    swapped: bool,
    /// Whether NaN goes to the branch that the file calls true.
    nan_to_true: bool,
}

fn one_mode<T: Real>(branch: &Branch) -> OneMode<T> {
    let value = T::from_double(branch.value);
    let (threshold, equal, swapped) = match branch.mode {
        Mode::Lt => (value.next_down(), false, false),
        Mode::Gte => (value.next_down(), false, true),
        Mode::Gt => (value, false, true),
        Mode::Eq => (value, true, false),
        Mode::Neq => (value, true, true),
        Mode::Leq | Mode::Member | Mode::Leaf => (value, false, false),
    };
    OneMode {
        threshold,
        equal,
        swapped,
        nan_to_true: branch.missing_tracks_true || branch.mode == Mode::Neq,
    }
}

/// The target, if every leaf has exactly one weight and all are for the same target.
fn single_target(description: &Description) -> Option<u32> {
    let mut leaves = description.branches.iter().filter(|branch| branch.mode == Mode::Leaf);
    let single = |branch: &Branch| match branch.weights.as_slice() {
        [(target, _)] => Some(*target),
        _ => None,
    };
    let first = single(leaves.next()?)?;
    leaves.all(|branch| single(branch) == Some(first)).then_some(first)
}

/// Steps from each node to its deepest leaf; refuses trees that never end.
fn depths(node: &pb::NodeProto, description: &Description) -> Result<Vec<u32>, ModelError> {
    const UNSEEN: u32 = u32::MAX;
    const OPEN: u32 = u32::MAX - 1;
    let mut depths = vec![UNSEEN; description.branches.len()];
    let mut stack = Vec::new();
    for &root in &description.roots {
        stack.push(root);
        while let Some(&at) = stack.last() {
            let (Some(branch), Some(&depth)) = (description.branches.get(at), depths.get(at)) else {
                return Err(broken(node, "a child is missing"));
            };
            if branch.mode == Mode::Leaf || depth < OPEN {
                if branch.mode == Mode::Leaf
                    && let Some(depth) = depths.get_mut(at)
                {
                    *depth = 0;
                }
                stack.pop();
                continue;
            }
            let children = [branch.yes, branch.no].map(|child| depths.get(child).copied().unwrap_or(UNSEEN));
            if depth == OPEN {
                // Both children are done, unless one of them is above this node.
                if children.contains(&OPEN) {
                    return Err(broken(node, "a tree goes round in a circle"));
                }
            }
            match (children, depths.get_mut(at)) {
                ([yes, no], Some(depth)) if yes < OPEN && no < OPEN => {
                    *depth = 1 + yes.max(no);
                    stack.pop();
                }
                (children, Some(depth)) => {
                    if children.contains(&OPEN) {
                        return Err(broken(node, "a tree goes round in a circle"));
                    }
                    *depth = OPEN;
                    for (child, seen) in [branch.yes, branch.no].into_iter().zip(children) {
                        if seen == UNSEEN {
                            stack.push(child);
                        }
                    }
                }
                _ => {
                    stack.pop();
                }
            }
        }
    }
    Ok(depths)
}
