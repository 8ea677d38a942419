//! A correction of the general engine's graph for GRUs over sequences of single numbers, as PyTorch exports them.
//!
//! The engine runs a GRU with `linear_before_reset` as one operator, whose product of the sequence and the input weights fails
//! where the sequence has one number per step. The operator also takes that product ready made, so it is made before it: a
//! number times a row of weights, plus the bias.

use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::math;

/// Makes the product before every such operator of the graph.
pub(super) fn multiply_single_inputs(model: &mut TypedModel) -> TractResult<()> {
    let nodes: Vec<usize> = model
        .nodes()
        .iter()
        .filter(|node| node.op_is::<GruSeq>())
        .map(|node| node.id)
        .collect();
    for id in nodes {
        if let Some(patch) = product_before(model, id)? {
            patch.apply(model)?;
        }
    }
    Ok(())
}

fn product_before(model: &TypedModel, id: usize) -> TractResult<Option<TypedModelPatch>> {
    let node = model.node(id);
    let (Some(op), [sequence, weights, rest @ ..]) = (node.op_as::<GruSeq>(), node.inputs.as_slice()) else {
        return Ok(None);
    };
    let single = model
        .outlet_fact(*sequence)?
        .shape
        .last()
        .is_some_and(|size| size.is_one());
    let Some(weights) = model
        .outlet_fact(*weights)?
        .konst
        .clone()
        .filter(|_| single && !op.projected)
    else {
        return Ok(None);
    };
    let gates = 3 * op.hidden;
    let mut patch = TypedModelPatch::default();
    let row = weights.into_tensor().into_shape(&[1, 1, gates])?;
    let weights = patch.add_const(format!("{}.single.weights", node.name), row)?;
    let sequence = patch.tap_model(model, *sequence)?;
    let mut product = patch.wire_node(
        format!("{}.single.product", node.name),
        math::mul(),
        &[sequence, weights],
    )?;
    if op.has_bias {
        let bias = rest
            .get(1)
            .and_then(|bias| model.outlet_fact(*bias).ok()?.konst.clone());
        let Some(bias) = bias else { return Ok(None) };
        let both = bias.into_tensor();
        let count = both.len();
        let row = both
            .into_shape(&[count])?
            .slice(0, 0, gates)?
            .into_shape(&[1, 1, gates])?;
        let bias = patch.add_const(format!("{}.single.bias", node.name), row)?;
        product.push(bias);
        product = patch.wire_node(format!("{}.single.sum", node.name), math::add(), &product)?;
    }
    let mut inputs = product;
    for outlet in rest {
        inputs.push(patch.tap_model(model, *outlet)?);
    }
    let ready = GruSeq {
        projected: true,
        ..op.clone()
    };
    let outputs = patch.wire_node(&node.name, ready, &inputs)?;
    for (slot, output) in outputs.into_iter().enumerate() {
        patch.shunt_outside(model, OutletId::new(id, slot), output)?;
    }
    Ok(Some(patch))
}
