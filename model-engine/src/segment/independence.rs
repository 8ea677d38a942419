//! Whether the rows of a batch are computed apart from each other: a proof over the graph that the general engine runs.
//!
//! ```text
//! the batch's axis of the inputs -> node after node: where is it in the results? -> the first axis of every output
//! ```
//! A node that is not known to keep rows apart, or a constant that differs from row to row of the batch, ends the proof: the
//! first such node is the answer. The engine's own mapping of axes says where an axis goes, and not that nothing crosses it
//! (a softmax maps the axis that it sums over to itself), so operators are listed here.

use rustc_hash::FxHashMap;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::array::{
    CumSum, Gather, GatherElements, MultiBroadcastTo, OneHot, Pad, Slice, Topk, Trilu, TypedConcat,
};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{Conv, Deconv, MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::gru_cell::GruEpilogue;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::logic::Iff;
use tract_onnx::tract_core::ops::lstm_cell::LstmEpilogue;
use tract_onnx::tract_core::ops::nn::{Reduce, RmsNorm, Softmax};
use tract_onnx::tract_core::ops::quant::DequantizeLinearF32;
use tract_onnx::tract_core::ops::scan::{InputMapping, OutputMapping, Scan};

/// The axis that the batch is on, for values that depend on the rows; none for those that do not.
type RowAxis = Option<usize>;

/// Name of the first node that is not known to keep the rows apart, in the engine's graph; none: all of them do. `axes`: the
/// batch's axis of each input of the graph. The outputs must have it first.
pub(super) fn first_mixing_node(model: &TypedModel, axes: &[RowAxis]) -> TractResult<Option<String>> {
    let outputs = match follow(model, axes)? {
        Ok(outputs) => outputs,
        Err(node) => return Ok(Some(node)),
    };
    for (outlet, axis) in model.output_outlets()?.iter().zip(outputs) {
        let apart = match axis {
            Some(axis) => axis == 0,
            None => is_constant_along(model, *outlet, 0)?,
        };
        if !apart {
            return Ok(Some(model.node(outlet.node).name.clone()));
        }
    }
    Ok(None)
}

/// The batch's axis of each output; or the node at which it is lost.
fn follow(model: &TypedModel, axes: &[RowAxis]) -> TractResult<Result<TVec<RowAxis>, String>> {
    let mut known: FxHashMap<OutletId, usize> = FxHashMap::default();
    for (outlet, axis) in model.input_outlets()?.iter().zip(axes) {
        known.extend(axis.map(|axis| (*outlet, axis)));
    }
    for id in model.eval_order()? {
        let node = model.node(id);
        let inputs: TVec<RowAxis> = node.inputs.iter().map(|input| known.get(input).copied()).collect();
        if inputs.iter().all(Option::is_none) {
            continue;
        }
        let Some(outputs) = results(model, node, &inputs)? else {
            return Ok(Err(node.name.clone()));
        };
        for (slot, axis) in outputs.iter().enumerate() {
            known.extend(axis.map(|axis| (OutletId::new(id, slot), axis)));
        }
    }
    let outputs = model.output_outlets()?.iter().map(|outlet| known.get(outlet).copied());
    Ok(Ok(outputs.collect()))
}

/// The batch's axis of each result of a node; none: the node may mix rows.
fn results(model: &TypedModel, node: &TypedNode, inputs: &[RowAxis]) -> TractResult<Option<TVec<RowAxis>>> {
    if let Some(scan) = node.op_as::<Scan>() {
        return scanned(model, node, scan, inputs);
    }
    if node.op_is::<GruSeq>() {
        return whole_sequence(model, node, inputs);
    }
    let positions = match kept(model, node)? {
        Some(mixed) => same_axis(node, inputs, &mixed),
        None if goes_as_mapped(node) => mapped_axis(model, node, inputs)?,
        None => None,
    };
    let Some(positions) = positions else { return Ok(None) };
    // What does not depend on the rows must be the same for all of them.
    for ((input, outlet), axis) in inputs.iter().zip(&node.inputs).zip(&positions.inputs) {
        if let (None, Some(axis)) = (input, axis)
            && !is_constant_along(model, *outlet, *axis)?
        {
            return Ok(None);
        }
    }
    Ok(Some(positions.outputs))
}

/// Where the batch's axis is, in all inputs and outputs of a node.
struct Positions {
    inputs: TVec<RowAxis>,
    outputs: TVec<RowAxis>,
}

/// Operators whose mapping of axes is exact: along a mapped axis nothing is computed from two places.
fn goes_as_mapped(node: &TypedNode) -> bool {
    node.op_is::<ElementWiseOp>()
        || node.op_is::<TypedBinOp>()
        || node.op_is::<Iff>()
        || node.op_is::<Cast>()
        || node.op_is::<Identity>()
        || node.op_is::<DequantizeLinearF32>()
        || node.op_is::<AxisOp>()
        || node.op_is::<EinSum>()
        || node.op_is::<Reduce>()
        || node.op_is::<CumSum>()
        || node.op_is::<Gather>()
        || node.op_is::<OneHot>()
        || node.op_is::<Slice>()
        || node.op_is::<TypedConcat>()
        || node.op_is::<Pad>()
        || node.op_is::<MultiBroadcastTo>()
        || node.op_is::<Conv>()
        || node.op_is::<Deconv>()
}

/// For operators that leave every axis where it is: the axes along which they compute.
fn kept(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TVec<usize>>> {
    let rank = match node.inputs.first() {
        Some(first) => model.outlet_fact(*first)?.rank(),
        None => return Ok(None),
    };
    let last = |count: usize| (rank.saturating_sub(count)..rank).collect();
    let all_but_batch = |pool: &PoolSpec| {
        (0..rank)
            .filter(|axis| !pool.data_format.has_n() || *axis != 0)
            .collect()
    };
    Ok(if let Some(softmax) = node.op_as::<Softmax>() {
        Some(softmax.axes.clone())
    } else if let Some(norm) = node.op_as::<RmsNorm>() {
        Some(tvec!(norm.axis))
    } else if let Some(top) = node.op_as::<Topk>() {
        Some(tvec!(top.axis))
    } else if let Some(gather) = node.op_as::<GatherElements>() {
        Some(tvec!(gather.axis))
    } else if node.op_is::<LstmEpilogue>() || node.op_is::<GruEpilogue>() {
        Some(last(1))
    } else if node.op_is::<Trilu>() {
        Some(last(2))
    } else if let Some(pool) = node.op_as::<MaxPool>() {
        // The positions that it can also give are counted over the batch.
        pool.with_index_outputs
            .is_none()
            .then(|| all_but_batch(&pool.pool_spec))
    } else {
        node.op_as::<SumPool>().map(|pool| all_but_batch(&pool.pool_spec))
    })
}

fn same_axis(node: &TypedNode, inputs: &[RowAxis], mixed: &[usize]) -> Option<Positions> {
    let axis = inputs.iter().flatten().next().copied()?;
    let same = inputs.iter().flatten().all(|other| *other == axis);
    (same && !mixed.contains(&axis)).then(|| Positions {
        inputs: inputs.iter().map(|_| Some(axis)).collect(),
        outputs: node.outputs.iter().map(|_| Some(axis)).collect(),
    })
}

fn mapped_axis(model: &TypedModel, node: &TypedNode, inputs: &[RowAxis]) -> TractResult<Option<Positions>> {
    let (input_facts, output_facts) = model.node_facts(node.id)?;
    let mapping = node.op.axes_mapping(&input_facts, &output_facts)?;
    let Some((slot, axis)) = inputs
        .iter()
        .enumerate()
        .find_map(|(slot, axis)| Some((slot, (*axis)?)))
    else {
        return Ok(None);
    };
    let Ok(axis) = mapping.axis((InOut::In(slot), axis)) else {
        return Ok(None);
    };
    let once = |positions: &TVec<usize>| match positions.as_slice() {
        [] => Some(None),
        [position] => Some(Some(*position)),
        _ => None,
    };
    let (Some(mapped), Some(outputs)) = (
        axis.inputs.iter().map(once).collect::<Option<TVec<RowAxis>>>(),
        axis.outputs.iter().map(once).collect::<Option<TVec<RowAxis>>>(),
    ) else {
        return Ok(None);
    };
    let agree = inputs
        .iter()
        .zip(&mapped)
        .all(|(known, mapped)| known.is_none() || known == mapped);
    if !agree || outputs.iter().any(Option::is_none) {
        return Ok(None);
    }
    // Both ends must have all of the rows: an axis of one place that is repeated is not the batch's.
    let rows = |facts: &[&TypedFact], axes: &[RowAxis], known: &dyn Fn(usize) -> bool| {
        let axes = facts.iter().zip(axes).enumerate();
        axes.filter(|(slot, _)| known(*slot))
            .filter_map(|(_, (fact, axis))| fact.shape.get((*axis)?).cloned())
            .collect::<Vec<TDim>>()
    };
    let mut dims = rows(&input_facts, &mapped, &|slot| {
        inputs.get(slot).is_some_and(Option::is_some)
    });
    dims.extend(rows(&output_facts, &outputs, &|_| true));
    let equal = dims.windows(2).all(|pair| pair.first() == pair.last());
    Ok(equal.then_some(Positions {
        inputs: mapped,
        outputs,
    }))
}

/// A recurrent operator in one piece, `[rows, steps, features]`: its weights are the same for all rows, and so is its initial
/// state unless it comes from them.
fn whole_sequence(model: &TypedModel, node: &TypedNode, inputs: &[RowAxis]) -> TractResult<Option<TVec<RowAxis>>> {
    let (Some(Some(0)), Some(state), Some(outlet)) = (inputs.first(), inputs.last(), node.inputs.last()) else {
        return Ok(None);
    };
    let weights = inputs.get(1..inputs.len() - 1).unwrap_or_default();
    let same_start = match state {
        Some(axis) => *axis == 0,
        None => is_constant_along(model, *outlet, 0)?,
    };
    let apart = same_start && weights.iter().all(Option::is_none);
    Ok(apart.then(|| node.outputs.iter().map(|_| Some(0)).collect()))
}

/// A loop over another axis, which recurrent operators become: its body must keep the rows apart, and its state starts equal
/// for all of them or comes from them.
fn scanned(
    model: &TypedModel,
    node: &TypedNode,
    scan: &Scan,
    inputs: &[RowAxis],
) -> TractResult<Option<TVec<RowAxis>>> {
    let is_state = |slot: usize| matches!(scan.input_mapping.get(slot), Some(InputMapping::State));
    let states: Vec<usize> = (0..inputs.len()).filter(|slot| is_state(*slot)).collect();
    let scanned_axes = scan
        .input_mapping
        .iter()
        .map(|mapping| mapping.as_scan().map(|info| info.axis));
    if inputs
        .iter()
        .zip(scanned_axes)
        .any(|(axis, scanned)| axis.is_some() && *axis == scanned)
    {
        return Ok(None);
    }
    for starts in starting_axes(model, node, inputs, &states)? {
        let mut body_inputs: TVec<RowAxis> = inputs.into();
        for (slot, axis) in starts {
            if let Some(state) = body_inputs.get_mut(slot) {
                *state = Some(axis);
            }
        }
        let Ok(body_outputs) = follow(&scan.body, &body_inputs)? else {
            continue;
        };
        let both = || scan.output_mapping.iter().zip(&body_outputs);
        let before = states.iter().map(|slot| body_inputs.get(*slot).copied().flatten());
        if before.eq(both().filter(|(mapping, _)| mapping.state).map(|(_, axis)| *axis)) {
            return Ok(scan_outputs(node, both()));
        }
    }
    Ok(None)
}

/// A loop with more states than that, of more axes, is not tried in all ways.
const MOST_STARTS: usize = 256;

/// States of a loop that do not depend on the rows at first will have them on some axis afterwards, each on its own, or never:
/// all ways in which that may be, as slots and axes. Along its axis a state must start equal for all rows.
fn starting_axes(
    model: &TypedModel,
    node: &TypedNode,
    inputs: &[RowAxis],
    states: &[usize],
) -> TractResult<Vec<Vec<(usize, usize)>>> {
    let mut ways: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
    for slot in states {
        let (Some(None), Some(outlet)) = (inputs.get(*slot), node.inputs.get(*slot)) else {
            continue;
        };
        let mut longer = Vec::new();
        for axis in 0..model.outlet_fact(*outlet)?.rank() {
            if is_constant_along(model, *outlet, axis)? {
                longer.extend(ways.iter().map(|way| [way.as_slice(), &[(*slot, axis)]].concat()));
            }
        }
        longer.append(&mut ways);
        longer.truncate(MOST_STARTS);
        ways = longer;
    }
    Ok(ways)
}

fn scan_outputs<'a>(
    node: &TypedNode,
    body_outputs: impl Iterator<Item = (&'a OutputMapping<TDim>, &'a RowAxis)>,
) -> Option<TVec<RowAxis>> {
    let mut outputs: TVec<RowAxis> = node.outputs.iter().map(|_| None).collect();
    for (mapping, axis) in body_outputs {
        if mapping.scan.is_some_and(|(_, info)| *axis == Some(info.axis)) {
            return None;
        }
        let whole = mapping.scan.map(|(slot, _)| slot);
        for slot in whole.into_iter().chain(mapping.last_value_slot) {
            *outputs.get_mut(slot)? = *axis;
        }
    }
    Some(outputs)
}

/// Whether a value that does not depend on the rows is the same in every place of an axis.
fn is_constant_along(model: &TypedModel, outlet: OutletId, axis: usize) -> TractResult<bool> {
    let fact = model.outlet_fact(outlet)?;
    if fact.shape.get(axis).is_none_or(|dim| dim.is_one()) || fact.uniform.is_some() {
        return Ok(true);
    }
    if let Some(constant) = &fact.konst {
        let first = constant.slice(axis, 0, 1)?;
        for place in 1..constant.shape().get(axis).copied().unwrap_or(1) {
            if constant.slice(axis, place, place + 1)? != first {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let node = model.node(outlet.node);
    match node.inputs.first() {
        Some(input) if node.op_is::<MultiBroadcastTo>() => {
            let missing = fact.rank() - model.outlet_fact(*input)?.rank();
            match axis.checked_sub(missing) {
                Some(axis) => is_constant_along(model, *input, axis),
                None => Ok(true),
            }
        }
        _ => Ok(false),
    }
}
