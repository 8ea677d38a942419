//! The graph as it is read while a program is built: who uses what, and which values are constant.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ModelError;
use crate::onnx::{self, Attributes, Constant, pb};

/// An ONNX graph with its constants taken out.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) proto: &'a pb::GraphProto,
    /// Nodes that compute something, in the file's order; `Constant` nodes are among the constants.
    pub(crate) nodes: Vec<&'a pb::NodeProto>,
    pub(crate) constants: FxHashMap<&'a str, Arc<Constant>>,
    /// Tensors of the file by name, constants of element types that only the general engine reads
    /// among them.
    pub(crate) initializers: FxHashMap<&'a str, &'a pb::TensorProto>,
    consumers: FxHashMap<&'a str, Vec<usize>>,
    outputs: FxHashSet<&'a str>,
}

/// Operators whose outputs' shapes depend on data, or that contain graphs of their own.
const REFUSED: &[(&str, &str)] = &[
    ("Loop", "loops are refused, as their cost has no bound"),
    ("Scan", "loops are refused, as their cost has no bound"),
    ("If", "branches are refused; export the branch that is taken"),
    ("SequenceMap", "sequences are refused"),
    ("NonZero", "the shape of its output depends on data"),
    ("Unique", "the shape of its output depends on data"),
    ("Compress", "the shape of its output depends on data"),
    ("NonMaxSuppression", "the shape of its output depends on data"),
    ("StringSplit", "the shape of its output depends on data"),
    ("RandomNormal", "the same input must give the same output"),
    ("RandomNormalLike", "the same input must give the same output"),
    ("RandomUniform", "the same input must give the same output"),
    ("RandomUniformLike", "the same input must give the same output"),
    ("Multinomial", "the same input must give the same output"),
    ("Bernoulli", "the same input must give the same output"),
];

impl<'a> Graph<'a> {
    pub(crate) fn new(proto: &'a pb::GraphProto) -> Result<Graph<'a>, ModelError> {
        let mut graph = Graph {
            proto,
            nodes: Vec::new(),
            constants: FxHashMap::default(),
            initializers: FxHashMap::default(),
            consumers: FxHashMap::default(),
            outputs: proto.output.iter().map(|output| output.name.as_str()).collect(),
        };
        for tensor in &proto.initializer {
            graph.add_constant(&tensor.name, tensor)?;
        }
        for node in &proto.node {
            refuse(node)?;
            let is_constant = node.op_type == "Constant" && onnx::is_default_domain(&node.domain);
            match (Attributes(node).tensor("value"), node.output.as_slice()) {
                (Some(tensor), [name]) if is_constant => graph.add_constant(name, tensor)?,
                _ => graph.nodes.push(node),
            }
        }
        for (position, node) in graph.nodes.iter().enumerate() {
            for input in node.input.iter().filter(|input| !input.is_empty()) {
                graph.consumers.entry(input).or_default().push(position);
            }
        }
        Ok(graph)
    }

    fn add_constant(&mut self, name: &'a str, tensor: &'a pb::TensorProto) -> Result<(), ModelError> {
        self.initializers.insert(name, tensor);
        if let Some(constant) = onnx::constant(tensor)? {
            self.constants.insert(name, Arc::new(constant));
        }
        Ok(())
    }

    /// A constant input of a node, by position.
    pub(crate) fn constant_input(&self, node: &pb::NodeProto, position: usize) -> Option<&Arc<Constant>> {
        self.constants.get(node.input.get(position)?.as_str())
    }

    /// The one node that uses a value, if it is not an output of the graph as well.
    pub(crate) fn only_consumer(&self, value: &str) -> Option<(usize, &'a pb::NodeProto)> {
        match self.consumers.get(value).map(Vec::as_slice) {
            Some([position]) if !self.outputs.contains(value) => {
                self.nodes.get(*position).map(|node| (*position, *node))
            }
            _ => None,
        }
    }

    /// Whether a value is used after the nodes at `inside`, or is an output of the graph.
    pub(crate) fn used_outside(&self, value: &str, inside: &FxHashSet<usize>) -> bool {
        self.outputs.contains(value)
            || self
                .consumers
                .get(value)
                .is_some_and(|users| users.iter().any(|user| !inside.contains(user)))
    }
}

fn refuse(node: &pb::NodeProto) -> Result<(), ModelError> {
    if onnx::is_default_domain(&node.domain)
        && let Some((_, reason)) = REFUSED.iter().find(|(name, _)| *name == node.op_type)
    {
        return Err(onnx::unsupported(node, *reason));
    }
    let has_graph = |attribute: &pb::AttributeProto| attribute.g.is_some() || !attribute.graphs.is_empty();
    if node.attribute.iter().any(has_graph) {
        return Err(onnx::unsupported(node, "graphs inside of nodes are refused"));
    }
    Ok(())
}
