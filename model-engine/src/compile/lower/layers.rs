//! Operators of ONNX's own domain over tables of floats: layers, arithmetic, columns.

use std::sync::Arc;

use super::super::{Builder, Value};
use crate::onnx::{self, Attributes, Constant, Data, pb, unsupported};
use crate::operators::columns::{ArgMax, Concat, Convert};
use crate::operators::dense::{Dense, Matrix};
use crate::operators::rowwise::{Activation, Arithmetic, Operation};
use crate::program::{Floats, Slot};
use crate::{ElementType, ModelError};

/// A matrix with more weights goes to the general engine, whose kernels win from there on.
const MAX_DENSE_WEIGHTS: usize = 16_384;

impl Builder<'_> {
    pub(super) fn cast(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
        use pb::tensor_proto::DataType;
        let Some(value) = self.value(node, 0).cloned() else {
            return Ok(false);
        };
        let to = i32::try_from(Attributes(node).int("to").unwrap_or_default()).unwrap_or_default();
        let element = match DataType::try_from(to) {
            Ok(DataType::Float) => ElementType::Float,
            Ok(DataType::Int64) => ElementType::Int64,
            Ok(DataType::Bool) => ElementType::Boolean,
            Ok(DataType::String) if value.element == ElementType::Text => ElementType::Text,
            _ => return Ok(false),
        };
        if value.element == element {
            return Ok(self.alias(node, |value| Some(value.clone())));
        }
        if value.element == ElementType::Text {
            return Err(unsupported(node, "class labels that are strings cannot become numbers"));
        }
        let same_storage = matches!(
            (value.element, element),
            (ElementType::Double, ElementType::Float) | (ElementType::Boolean | ElementType::Int32, ElementType::Int64)
        );
        if same_storage {
            return Ok(self.alias(node, |value| {
                Some(Value {
                    element,
                    ..value.clone()
                })
            }));
        }
        let output = match element {
            ElementType::Float => Slot::Floats(self.layout.add_floats(value.width())),
            _ => Slot::Ints(self.layout.add_ints(value.width())),
        };
        self.steps.push(Box::new(Convert {
            input: value.slot,
            output,
            to_boolean: element == ElementType::Boolean,
        }));
        self.name(
            node,
            0,
            Value {
                slot: output,
                element,
                ..value
            },
        );
        Ok(true)
    }

    pub(super) fn matmul(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
        let (Some((input, width)), Some(weights)) = (self.floats(node, 0), self.graph.constant_input(node, 1)) else {
            return Ok(false);
        };
        let weights = weights.clone();
        let (Data::Floats(values), [inputs, outputs]) = (&weights.data, weights.dims.as_slice()) else {
            return Ok(false);
        };
        if *inputs != width || values.len() > MAX_DENSE_WEIGHTS || values.is_empty() {
            return Ok(false);
        }
        // The addition of a bias right behind is part of the layer.
        let mut last = node;
        let mut bias = vec![0.0; *outputs];
        if let Some((position, add)) = self.graph.only_consumer(output_name(node))
            && add.op_type == "Add"
            && onnx::is_default_domain(&add.domain)
            && let Some(constant) =
                (0..2).find_map(|input| per_column(self.graph.constant_input(add, input)?, *outputs))
        {
            bias = constant;
            last = add;
            self.done.insert(position);
        }
        let at = |input: usize, output: usize| values.get(input * outputs + output).copied().unwrap_or_default();
        self.dense(last, Matrix::new(*inputs, *outputs, at, &bias), input);
        Ok(true)
    }

    pub(super) fn gemm(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
        let (Some((input, width)), Some(weights)) = (self.floats(node, 0), self.graph.constant_input(node, 1)) else {
            return Ok(false);
        };
        let attributes = Attributes(node);
        let transposed = attributes.int("transB").unwrap_or(0) != 0;
        let (alpha, beta) = (
            attributes.float("alpha").unwrap_or(1.0),
            attributes.float("beta").unwrap_or(1.0),
        );
        let weights = weights.clone();
        let (Data::Floats(values), [rows, columns]) = (&weights.data, weights.dims.as_slice()) else {
            return Ok(false);
        };
        let (inputs, outputs) = if transposed {
            (*columns, *rows)
        } else {
            (*rows, *columns)
        };
        let fits = inputs == width && values.len() <= MAX_DENSE_WEIGHTS && !values.is_empty();
        if !fits || attributes.int("transA").unwrap_or(0) != 0 {
            return Ok(false);
        }
        let mut bias = vec![0.0; outputs];
        if node.input.get(2).is_some_and(|name| !name.is_empty()) {
            let Some(constant) = self
                .graph
                .constant_input(node, 2)
                .and_then(|bias| per_column(bias, outputs))
            else {
                return Ok(false);
            };
            bias = constant.iter().map(|value| beta * value).collect();
        }
        let at = |input: usize, output: usize| {
            let place = if transposed {
                output * inputs + input
            } else {
                input * outputs + output
            };
            alpha * values.get(place).copied().unwrap_or_default()
        };
        self.dense(node, Matrix::new(inputs, outputs, at, &bias), input);
        Ok(true)
    }

    /// A layer whose last node is `last`; an activation right behind is part of it.
    fn dense(&mut self, last: &pb::NodeProto, matrix: Matrix, input: Floats) {
        let mut named = last;
        let mut activation = None;
        if let Some((position, next)) = self.graph.only_consumer(output_name(last))
            && onnx::is_default_domain(&next.domain)
            && let Some(found) = Activation::by_operator(&next.op_type)
            && (found != Activation::Softmax || is_last_axis(next, -1))
        {
            activation = Some(found);
            named = next;
            self.done.insert(position);
        }
        let (outputs, output) = (matrix.outputs, self.layout.add_floats(matrix.outputs));
        self.steps.push(Box::new(Dense {
            matrix,
            activation,
            input,
            output,
        }));
        self.name_floats(named, 0, output, outputs);
    }

    pub(super) fn arithmetic(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
        let constant_first = self.graph.constant_input(node, 0).is_some();
        let (value, constant) = if constant_first { (1, 0) } else { (0, 1) };
        let (Some((input, width)), Some(constant)) =
            (self.floats(node, value), self.graph.constant_input(node, constant))
        else {
            return Ok(false);
        };
        let Some(constants) = per_column(constant, width) else {
            return Ok(false);
        };
        let arithmetic = match (node.op_type.as_str(), constant_first) {
            ("Add", _) => Arithmetic::Add,
            ("Mul", _) => Arithmetic::Multiply,
            ("Sub", false) => Arithmetic::Subtract,
            ("Sub", true) => Arithmetic::SubtractFrom,
            ("Div", false) => Arithmetic::Divide,
            _ => Arithmetic::DivideInto,
        };
        self.rowwise(node, Operation::Constant(arithmetic, constants), input, width);
        Ok(true)
    }

    pub(super) fn activation(&mut self, node: &pb::NodeProto, activation: Activation) -> Result<bool, ModelError> {
        let Some((input, width)) = self.floats(node, 0) else {
            return Ok(false);
        };
        if activation == Activation::Softmax && !is_last_axis(node, -1) {
            return Ok(false);
        }
        self.rowwise(node, Operation::Activate(activation), input, width);
        Ok(true)
    }

    pub(super) fn concat(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
        let inputs: Option<Vec<_>> = (0..node.input.len())
            .map(|position| self.floats(node, position))
            .collect();
        let Some(inputs) = inputs.filter(|_| is_last_axis(node, 0)) else {
            return Ok(false);
        };
        let width = inputs.iter().map(|(_, width)| width).sum();
        let output = self.layout.add_floats(width);
        self.steps.push(Box::new(Concat { inputs, output }));
        self.name_floats(node, 0, output, width);
        Ok(true)
    }

    pub(super) fn arg_max(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
        let Some((input, width)) = self.floats(node, 0) else {
            return Ok(false);
        };
        if !is_last_axis(node, 0) || Attributes(node).int("select_last_index").unwrap_or(0) != 0 || width == 0 {
            return Ok(false);
        }
        let dims = if Attributes(node).int("keepdims").unwrap_or(1) != 0 {
            vec![1]
        } else {
            Vec::new()
        };
        let output = self.layout.add_ints(1);
        self.steps.push(Box::new(ArgMax { input, width, output }));
        self.name(node, 0, Value::new(Slot::Ints(output), ElementType::Int64, dims));
        Ok(true)
    }
}

fn output_name(node: &pb::NodeProto) -> &str {
    node.output.first().map_or("", String::as_str)
}

/// Whether the attribute `axis` of a node over `[rows, width]` names the width.
fn is_last_axis(node: &pb::NodeProto, default: i64) -> bool {
    matches!(Attributes(node).int("axis").unwrap_or(default), 1 | -1)
}

/// A constant of one value, or of one per column, as one per column.
fn per_column(constant: &Arc<Constant>, width: usize) -> Option<Vec<f32>> {
    let Data::Floats(values) = &constant.data else {
        return None;
    };
    let row = constant.dims.len() <= 2 && constant.dims.iter().rev().skip(1).all(|dim| *dim == 1);
    match values.as_slice() {
        [one] if row => Some(vec![*one; width]),
        each if row && each.len() == width => Some(each.to_vec()),
        _ => None,
    }
}
