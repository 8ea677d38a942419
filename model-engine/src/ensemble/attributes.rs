//! Attributes of the three tree operators, read into one list of nodes.

use rustc_hash::FxHashMap;

use super::PostTransform;
use crate::ModelError;
use crate::onnx::{Attributes, Data, broken, constant, pb, unsupported};

/// How a node compares a feature with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    /// In a set; expanded to a chain of `Eq` before it is walked.
    Member,
    Leaf,
}

/// One node. Children are positions in the list; numbers are doubles, which floats are exactly.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) mode: Mode,
    pub(super) feature: u32,
    pub(super) value: f64,
    pub(super) yes: usize,
    pub(super) no: usize,
    pub(super) missing_tracks_true: bool,
    /// Target and weight; of leaves only.
    pub(super) weights: Vec<(u32, f64)>,
}

/// How the trees' answers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// Names of the classes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClassLabels {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

impl ClassLabels {
    pub(crate) fn len(&self) -> usize {
        match self {
            ClassLabels::Ints(labels) => labels.len(),
            ClassLabels::Texts(labels) => labels.len(),
        }
    }

    /// `classlabels_strings` or, without these, `ints`; `None` when there are neither.
    pub(crate) fn read(attributes: Attributes<'_>, ints: &str) -> Option<ClassLabels> {
        let texts = attributes.strings("classlabels_strings");
        if !texts.is_empty() {
            return Some(ClassLabels::Texts(texts));
        }
        let ints = attributes.ints(ints);
        (!ints.is_empty()).then(|| ClassLabels::Ints(ints.to_vec()))
    }
}

/// An ensemble as the file describes it.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) branches: Vec<Branch>,
    pub(super) roots: Vec<usize>,
    pub(super) targets: usize,
    pub(super) labels: Option<ClassLabels>,
    pub(super) aggregate: Aggregate,
    pub(super) post_transform: PostTransform,
    pub(super) base_values: Vec<f64>,
}

/// More targets than this in one ensemble is a mistake or an attack.
const MAX_TARGETS: usize = 65_536;

pub(super) fn parse(node: &pb::NodeProto) -> Result<Description, ModelError> {
    let description = match node.op_type.as_str() {
        "TreeEnsembleClassifier" => by_ids(node, "class", ClassLabels::read(Attributes(node), "classlabels_int64s")),
        "TreeEnsembleRegressor" => by_ids(node, "target", None),
        "TreeEnsemble" => by_positions(node),
        _ => Err(unsupported(node, "it is not a tree ensemble")),
    }?;
    let targets = description.targets;
    if targets == 0 || targets > MAX_TARGETS {
        return Err(broken(node, format!("{targets} targets or classes")));
    }
    if description.roots.is_empty() {
        return Err(broken(node, "there are no trees"));
    }
    for branch in &description.branches {
        if let Some((target, _)) = branch.weights.iter().find(|(target, _)| *target as usize >= targets) {
            return Err(broken(node, format!("a leaf names target {target} of {targets}")));
        }
    }
    Ok(description)
}

/// The layout of operator sets 1 and 3: nodes and leaves are named by (tree, node).
fn by_ids(node: &pb::NodeProto, leaf: &str, labels: Option<ClassLabels>) -> Result<Description, ModelError> {
    let attributes = Attributes(node);
    let trees = attributes.ints("nodes_treeids");
    let column = |name: &str| {
        let values = attributes.ints(name);
        if values.len() == trees.len() {
            Ok(values)
        } else {
            Err(broken(
                node,
                format!("{name} has {} entries, nodes_treeids {}", values.len(), trees.len()),
            ))
        }
    };
    let (ids, features) = (column("nodes_nodeids")?, column("nodes_featureids")?);
    let (yes, no) = (column("nodes_truenodeids")?, column("nodes_falsenodeids")?);
    let modes = attributes.strings("nodes_modes");
    let values = attributes.reals("nodes_values")?;
    if modes.len() != trees.len() || values.len() != trees.len() {
        return Err(broken(
            node,
            "nodes_modes or nodes_values differ in length from nodes_treeids",
        ));
    }
    let missing = attributes.ints("nodes_missing_value_tracks_true");

    let mut positions = FxHashMap::default();
    let mut roots = Vec::new();
    let mut last_tree = None;
    for (position, (&tree, &id)) in trees.iter().zip(ids).enumerate() {
        if positions.insert((tree, id), position).is_some() {
            return Err(broken(node, format!("node {id} of tree {tree} is there twice")));
        }
        // As ONNX Runtime does, the first node of a run of one tree's nodes is its root.
        if last_tree != Some(tree) {
            roots.push(position);
        }
        last_tree = Some(tree);
    }
    let child = |tree: i64, id: i64| {
        positions
            .get(&(tree, id))
            .copied()
            .ok_or_else(|| broken(node, format!("node {id} of tree {tree} is missing")))
    };
    let mut branches = Vec::with_capacity(trees.len());
    for (position, ((((&tree, &feature), mode), &value), (&yes, &no))) in trees
        .iter()
        .zip(features)
        .zip(&modes)
        .zip(&values)
        .zip(yes.iter().zip(no))
        .enumerate()
    {
        let mode = mode_by_name(node, mode)?;
        let (yes, no) = if mode == Mode::Leaf {
            (position, position)
        } else {
            (child(tree, yes)?, child(tree, no)?)
        };
        branches.push(Branch {
            mode,
            feature: feature_id(node, feature)?,
            value,
            yes,
            no,
            missing_tracks_true: missing.get(position).is_some_and(|&flag| flag == 1),
            weights: Vec::new(),
        });
    }

    let targets = attributes.ints(&format!("{leaf}_ids"));
    let leaf_trees = attributes.ints(&format!("{leaf}_treeids"));
    let leaf_nodes = attributes.ints(&format!("{leaf}_nodeids"));
    let weights = attributes.reals(&format!("{leaf}_weights"))?;
    if leaf_trees.len() != targets.len() || leaf_nodes.len() != targets.len() || weights.len() != targets.len() {
        return Err(broken(
            node,
            format!("{leaf}_ids, _treeids, _nodeids and _weights differ in length"),
        ));
    }
    for (((&target, &tree), &id), &weight) in targets.iter().zip(leaf_trees).zip(leaf_nodes).zip(&weights) {
        let target = u32::try_from(target).map_err(|_| broken(node, format!("target {target}")))?;
        // Weights of inner nodes are written by old exporters and mean nothing.
        if let Some(branch) = branches
            .get_mut(child(tree, id)?)
            .filter(|branch| branch.mode == Mode::Leaf)
        {
            branch.weights.push((target, weight));
        }
    }
    let count = match &labels {
        Some(labels) => labels.len(),
        None if leaf == "class" => return Err(broken(node, "it has no class labels")),
        None => usize::try_from(attributes.int("n_targets").unwrap_or(1)).unwrap_or(0),
    };
    Ok(Description {
        branches,
        roots,
        targets: count,
        labels,
        aggregate: match attributes.string("aggregate_function").unwrap_or("SUM") {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => return Err(unsupported(node, format!("aggregate_function '{other}'"))),
        },
        post_transform: PostTransform::by_name(node, attributes.string("post_transform"))?,
        base_values: attributes.reals("base_values")?,
    })
}

/// The layout of operator set 5: children are positions among the nodes or among the leaves.
fn by_positions(node: &pb::NodeProto) -> Result<Description, ModelError> {
    let attributes = Attributes(node);
    let features = attributes.ints("nodes_featureids");
    let tensor = |name: &str| {
        attributes
            .tensor(name)
            .ok_or_else(|| broken(node, format!("{name} is missing")))
    };
    let splits = attributes.tensor_reals(tensor("nodes_splits")?)?;
    let Some(Data::Ints(modes)) = constant(tensor("nodes_modes")?)?.map(|modes| modes.data) else {
        return Err(broken(node, "nodes_modes is not of uint8"));
    };
    let column = |name: &str| {
        let values = attributes.ints(name);
        if values.len() == features.len() {
            Ok(values)
        } else {
            Err(broken(
                node,
                format!(
                    "{name} has {} entries, nodes_featureids {}",
                    values.len(),
                    features.len()
                ),
            ))
        }
    };
    let (yes, yes_leaf) = (column("nodes_truenodeids")?, column("nodes_trueleafs")?);
    let (no, no_leaf) = (column("nodes_falsenodeids")?, column("nodes_falseleafs")?);
    if splits.len() != features.len() || modes.len() != features.len() {
        return Err(broken(
            node,
            "nodes_splits or nodes_modes differ in length from nodes_featureids",
        ));
    }
    let missing = attributes.ints("nodes_missing_value_tracks_true");
    let leaf_targets = attributes.ints("leaf_targetids");
    let leaf_weights = attributes.tensor_reals(tensor("leaf_weights")?)?;
    if leaf_targets.len() != leaf_weights.len() {
        return Err(broken(node, "leaf_targetids and leaf_weights differ in length"));
    }

    let inner = features.len();
    let child = |position: i64, leaf: i64| {
        let limit = if leaf == 0 { inner } else { leaf_targets.len() };
        match usize::try_from(position) {
            Ok(position) if position < limit => Ok(if leaf == 0 { position } else { inner + position }),
            _ => Err(broken(node, format!("child {position} is not there"))),
        }
    };
    let mut branches = Vec::with_capacity(inner + leaf_targets.len());
    for (position, (((&feature, &value), &mode), children)) in features
        .iter()
        .zip(&splits)
        .zip(&modes)
        .zip(yes.iter().zip(yes_leaf).zip(no.iter().zip(no_leaf)))
        .enumerate()
    {
        let ((&yes, &yes_leaf), (&no, &no_leaf)) = children;
        branches.push(Branch {
            mode: match mode {
                0 => Mode::Leq,
                1 => Mode::Lt,
                2 => Mode::Gte,
                3 => Mode::Gt,
                4 => Mode::Eq,
                5 => Mode::Neq,
                6 => Mode::Member,
                other => return Err(unsupported(node, format!("node mode {other}"))),
            },
            feature: feature_id(node, feature)?,
            value,
            yes: child(yes, yes_leaf)?,
            no: child(no, no_leaf)?,
            missing_tracks_true: missing.get(position).is_some_and(|&flag| flag == 1),
            weights: Vec::new(),
        });
    }
    for (&target, &weight) in leaf_targets.iter().zip(&leaf_weights) {
        let target = u32::try_from(target).map_err(|_| broken(node, format!("target {target}")))?;
        let own = branches.len();
        branches.push(Branch {
            mode: Mode::Leaf,
            feature: 0,
            value: 0.0,
            yes: own,
            no: own,
            missing_tracks_true: false,
            weights: vec![(target, weight)],
        });
    }
    let sets = match attributes.tensor("membership_values") {
        Some(values) => attributes.tensor_reals(values)?,
        None => Vec::new(),
    };
    expand_members(node, &mut branches, &sets)?;

    // A tree whose root has both children on one leaf is a tree of that leaf alone.
    let roots = attributes
        .ints("tree_roots")
        .iter()
        .map(|&root| child(root, 0))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Description {
        branches,
        roots,
        targets: usize::try_from(attributes.int("n_targets").unwrap_or(1)).unwrap_or(0),
        labels: None,
        aggregate: match attributes.int("aggregate_function").unwrap_or(1) {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => return Err(unsupported(node, format!("aggregate_function {other}"))),
        },
        post_transform: PostTransform::by_number(node, attributes.int("post_transform").unwrap_or(0))?,
        base_values: Vec::new(),
    })
}

/// A node that asks for membership becomes a chain of equalities. The sets stand one after the
/// other in the order of these nodes, each ended by a NaN.
fn expand_members(node: &pb::NodeProto, branches: &mut Vec<Branch>, values: &[f64]) -> Result<(), ModelError> {
    let mut sets = values.split(|value| value.is_nan());
    let askers: Vec<usize> = branches
        .iter()
        .enumerate()
        .filter(|(_, branch)| branch.mode == Mode::Member)
        .map(|(at, _)| at)
        .collect();
    for at in askers {
        let set = sets.next().unwrap_or_default();
        let Some((&last, others)) = set.split_last() else {
            return Err(broken(node, "a set in membership_values is empty or missing"));
        };
        let Some(asker) = branches.get(at).cloned() else {
            continue;
        };
        let mut next = asker.no;
        for &value in others {
            let position = branches.len();
            branches.push(Branch {
                mode: Mode::Eq,
                value,
                no: next,
                ..asker.clone()
            });
            next = position;
        }
        if let Some(branch) = branches.get_mut(at) {
            *branch = Branch {
                mode: Mode::Eq,
                value: last,
                no: next,
                ..asker
            };
        }
    }
    Ok(())
}

fn mode_by_name(node: &pb::NodeProto, name: &str) -> Result<Mode, ModelError> {
    Ok(match name {
        "BRANCH_LEQ" => Mode::Leq,
        "BRANCH_LT" => Mode::Lt,
        "BRANCH_GTE" => Mode::Gte,
        "BRANCH_GT" => Mode::Gt,
        "BRANCH_EQ" => Mode::Eq,
        "BRANCH_NEQ" => Mode::Neq,
        "LEAF" => Mode::Leaf,
        other => return Err(unsupported(node, format!("node mode '{other}'"))),
    })
}

/// Features are counted in 30 bits; two bits of the word are flags of the walk.
fn feature_id(node: &pb::NodeProto, id: i64) -> Result<u32, ModelError> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id < 1 << 24)
        .ok_or_else(|| broken(node, format!("feature {id}")))
}
