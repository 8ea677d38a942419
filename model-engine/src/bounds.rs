//! How large the constant part of a graph can become. The general engine computes nodes whose inputs
//! are constant while it loads a model, before shapes can be counted, and memory that cannot be had
//! ends the process: so what a small file can blow up is refused before.

use rustc_hash::FxHashMap;

use crate::ModelError;
use crate::graph::Graph;
use crate::onnx::{self, Data, pb, unsupported};

/// Operators whose output's size is the value of an input, and which input that is.
const SIZED_BY_VALUE: &[(&str, usize)] = &[
    ("ConstantOfShape", 0),
    ("Expand", 1),
    ("Tile", 1),
    ("Range", 1),
    ("OneHot", 1),
    ("CenterCropPad", 1),
];

/// Operators whose output may hold the product of what their inputs hold.
const PRODUCTS: &[&str] = &["MatMul", "MatMulInteger", "Gemm", "Einsum"];

/// Operators that are refused over constants, because their output's size is not looked into.
const REFUSED_OVER_CONSTANTS: &[&str] = &["Pad", "Resize", "Upsample", "EyeLike", "ConvTranspose", "Col2Im"];

/// Refuses a graph whose constants could need more than `max_bytes`.
pub(crate) fn check(graph: &Graph<'_>, max_bytes: usize) -> Result<(), ModelError> {
    let mut elements: FxHashMap<&str, usize> = FxHashMap::default();
    for (name, tensor) in &graph.initializers {
        elements.insert(name, product(&tensor.dims));
    }
    for node in graph.nodes.iter().filter(|node| onnx::is_default_domain(&node.domain)) {
        let sized = sized_by_value(graph, node)?;
        let inputs: Vec<&str> = node
            .input
            .iter()
            .map(String::as_str)
            .filter(|name| !name.is_empty())
            .collect();
        let known: Option<Vec<usize>> = inputs.iter().map(|name| elements.get(name).copied()).collect();
        let constant = known.is_some();
        let made = match known {
            // A node without inputs is a constant in another form.
            Some(known) => {
                if REFUSED_OVER_CONSTANTS.contains(&node.op_type.as_str()) {
                    return Err(unsupported(
                        node,
                        "its inputs are constant; fold constants when the model is exported",
                    ));
                }
                let largest = known.iter().copied().max().unwrap_or(1);
                let multiplied = known
                    .iter()
                    .fold(1_usize, |product, count| product.saturating_mul(*count));
                let repeated = largest.saturating_mul(sized.unwrap_or(1));
                if PRODUCTS.contains(&node.op_type.as_str()) {
                    multiplied
                } else if sized.is_some() {
                    repeated
                } else {
                    broadcast(graph, &inputs).unwrap_or(multiplied)
                }
            }
            None => sized.unwrap_or(0),
        };
        let needed = made.saturating_mul(4);
        if needed > max_bytes {
            return Err(ModelError::Memory {
                needed,
                limit: max_bytes,
            });
        }
        if constant {
            elements.extend(node.output.iter().map(|name| (name.as_str(), made)));
        }
    }
    Ok(())
}

/// Elements that the value of an input asks for; the input must be a constant.
fn sized_by_value(graph: &Graph<'_>, node: &pb::NodeProto) -> Result<Option<usize>, ModelError> {
    let Some((_, input)) = SIZED_BY_VALUE.iter().find(|(name, _)| *name == node.op_type) else {
        return Ok(None);
    };
    match graph.constant_input(node, *input).map(|constant| &constant.data) {
        Some(Data::Ints(sizes)) => Ok(Some(product(sizes))),
        Some(Data::Floats(sizes)) => Ok(Some(
            sizes
                .iter()
                .fold(1_usize, |all, size| all.saturating_mul(*size as usize)),
        )),
        _ => Err(unsupported(
            node,
            "the size of its output is computed; it must be a constant",
        )),
    }
}

fn product(dims: &[i64]) -> usize {
    dims.iter().fold(1_usize, |product, dim| {
        product.saturating_mul(usize::try_from(*dim).unwrap_or(1).max(1))
    })
}

/// Elements of what initializers give when they are broadcast; `None` if an input is none of them.
fn broadcast(graph: &Graph<'_>, inputs: &[&str]) -> Option<usize> {
    if let [_] = inputs {
        return graph
            .initializers
            .get(inputs.first()?)
            .map(|tensor| product(&tensor.dims));
    }
    let mut dims: Vec<i64> = Vec::new();
    for name in inputs {
        let tensor = graph.initializers.get(name)?;
        for (place, dim) in tensor.dims.iter().rev().enumerate() {
            match dims.get_mut(place) {
                Some(known) => *known = (*known).max(*dim),
                None => dims.push(*dim),
            }
        }
    }
    Some(product(&dims))
}
