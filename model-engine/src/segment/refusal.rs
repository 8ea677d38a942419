//! The general engine's errors in the words of the file: it speaks of its own graph and its own types.

use tract_onnx::prelude::TractError;

use crate::ModelError;
use crate::graph::Graph;
use crate::onnx::{self, pb};

use super::SegmentInput;

/// The nodes of a segment, as errors name them.
#[derive(Debug)]
pub(super) struct Nodes(Vec<Node>);

#[derive(Debug)]
struct Node {
    name: String,
    operator: String,
    /// Its inputs, with types and shapes where they are known.
    inputs: String,
}

impl Nodes {
    pub(super) fn new(graph: &Graph<'_>, positions: &[usize], inputs: &[SegmentInput]) -> Nodes {
        let nodes = positions.iter().filter_map(|position| graph.nodes.get(*position));
        let node = |node: &&pb::NodeProto| Node {
            name: onnx::node_name(node),
            operator: onnx::operator_name(node),
            inputs: node
                .input
                .iter()
                .filter(|name| !name.is_empty())
                .map(|name| described(graph, inputs, name))
                .collect::<Vec<_>>()
                .join(", "),
        };
        Nodes(nodes.map(node).collect())
    }

    /// Why the nodes are not compiled.
    pub(super) fn refused(&self, error: &TractError) -> ModelError {
        let reason = match self.blamed(error) {
            Some(node) => format!(
                "operator {} of node '{}' is not supported in this form, or its inputs do not go together ({})",
                node.operator, node.name, node.inputs
            ),
            None => "its operators do not go together".to_owned(),
        };
        ModelError::Broken {
            reason: format!("{reason}; check it with onnx.checker.check_model, and that ONNX Runtime runs it"),
        }
    }

    /// Why a run failed.
    pub(super) fn failed(&self, error: &TractError) -> ModelError {
        let reason = match self.blamed(error) {
            Some(node) => format!(
                "operator {} of node '{}' cannot compute what it was given ({})",
                node.operator, node.name, node.inputs
            ),
            None => "an operator cannot compute what it was given".to_owned(),
        };
        ModelError::Run { reason }
    }

    /// The node that an error is about. The engine quotes its nodes' names, which start with those of the file.
    fn blamed(&self, error: &TractError) -> Option<&Node> {
        let text = format!("{error:#}");
        let quoted = |node: &&Node| {
            ["\"", ".", "_", "-", "/"]
                .iter()
                .any(|end| text.contains(&format!("\"{}{end}", node.name)))
        };
        let longest = self.0.iter().filter(quoted).max_by_key(|node| node.name.len());
        longest.or(self.0.first().filter(|_| self.0.len() == 1))
    }
}

/// `x: float[rows, 4]`, as far as it is known.
fn described(graph: &Graph<'_>, inputs: &[SegmentInput], name: &str) -> String {
    if let Some(input) = inputs.iter().find(|input| input.name == name) {
        let dims = std::iter::once("rows".to_owned()).chain(input.dims.iter().map(usize::to_string));
        return format!("{name}: {}[{}]", input.element, dims.collect::<Vec<_>>().join(", "));
    }
    match graph.initializers.get(name) {
        Some(tensor) => {
            let element = pb::tensor_proto::DataType::try_from(tensor.data_type);
            let element = element
                .map_or("unknown", |element| element.as_str_name())
                .to_lowercase();
            let dims: Vec<String> = tensor.dims.iter().map(i64::to_string).collect();
            format!("{name}: {element}[{}]", dims.join(", "))
        }
        None => name.to_owned(),
    }
}
