//! Operators of ONNX's own domain over tables of floats or doubles: layers, arithmetic, columns. Each function answers
//! whether the node is ours, for the type that it is asked for.

use std::sync::Arc;

use super::super::{Builder, Value};
use crate::onnx::{self, Attributes, Constant, pb, unsupported};
use crate::operators::columns::{ArgMax, Concat};
use crate::operators::convert::{Convert, Integers};
use crate::operators::dense::{Dense, Matrix};
use crate::operators::rowwise::{Activation, Arithmetic, Operation};
use crate::program::{Slot, Stored, Table};
use crate::real::Real;
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
            Ok(DataType::Double) => ElementType::Double,
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
        let slot = match (value.element, element) {
            // Tables of integers hold all of them.
            (ElementType::Boolean | ElementType::Int32, ElementType::Int64) => value.slot,
            (_, ElementType::Float) => Slot::Floats(self.converted(value.slot, value.width())),
            (_, ElementType::Double) => Slot::Doubles(self.converted(value.slot, value.width())),
            (_, ElementType::Int64) => Slot::Ints(self.converted(value.slot, value.width())),
            _ => {
                let output = Slot::Ints(self.layout.add(value.width()));
                self.steps.push(Box::new(Convert {
                    input: value.slot,
                    output,
                    integers: Integers::Boolean,
                }));
                output
            }
        };
        self.name(node, 0, Value { slot, element, ..value });
        Ok(true)
    }

    pub(super) fn matmul<T: Real>(&mut self, node: &pb::NodeProto) -> bool {
        let (Some((input, width)), Some(weights)) = (self.reals::<T>(node, 0), self.graph.constant_input(node, 1))
        else {
            return false;
        };
        let weights = weights.clone();
        let (Some(values), [inputs, outputs]) = (T::constants(&weights.data), weights.dims.as_slice()) else {
            return false;
        };
        if *inputs != width || values.len() > MAX_DENSE_WEIGHTS || values.is_empty() {
            return false;
        }
        // The addition of a bias right behind is part of the layer.
        let mut last = node;
        let mut bias = vec![T::ZERO; *outputs];
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
        let at = |input: usize, output: usize| values.get(input * outputs + output).copied().unwrap_or(T::ZERO);
        self.dense(last, Matrix::new(*inputs, *outputs, at, &bias), input);
        true
    }

    pub(super) fn gemm<T: Real>(&mut self, node: &pb::NodeProto) -> bool {
        let (Some((input, width)), Some(weights)) = (self.reals::<T>(node, 0), self.graph.constant_input(node, 1))
        else {
            return false;
        };
        let attributes = Attributes(node);
        let transposed = attributes.int("transB").unwrap_or(0) != 0;
        let [alpha, beta] = ["alpha", "beta"].map(|name| T::from_float(attributes.float(name).unwrap_or(1.0)));
        let weights = weights.clone();
        let (Some(values), [rows, columns]) = (T::constants(&weights.data), weights.dims.as_slice()) else {
            return false;
        };
        let (inputs, outputs) = if transposed {
            (*columns, *rows)
        } else {
            (*rows, *columns)
        };
        let fits = inputs == width && values.len() <= MAX_DENSE_WEIGHTS && !values.is_empty();
        if !fits || attributes.int("transA").unwrap_or(0) != 0 {
            return false;
        }
        let mut bias = vec![T::ZERO; outputs];
        if node.input.get(2).is_some_and(|name| !name.is_empty()) {
            let Some(constant) = self
                .graph
                .constant_input(node, 2)
                .and_then(|bias| per_column::<T>(bias, outputs))
            else {
                return false;
            };
            bias = constant.iter().map(|value| beta * *value).collect();
        }
        let at = |input: usize, output: usize| {
            let place = if transposed {
                output * inputs + input
            } else {
                input * outputs + output
            };
            alpha * values.get(place).copied().unwrap_or(T::ZERO)
        };
        self.dense(node, Matrix::new(inputs, outputs, at, &bias), input);
        true
    }

    /// A layer whose last node is `last`; an activation right behind is part of it.
    fn dense<T: Real>(&mut self, last: &pb::NodeProto, matrix: Matrix<T>, input: Table<T>) {
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
        let (outputs, output) = (matrix.outputs, self.layout.add(matrix.outputs));
        self.steps.push(Box::new(Dense {
            matrix,
            activation,
            input,
            output,
        }));
        self.name_reals(named, 0, output, outputs);
    }

    pub(super) fn arithmetic<T: Real>(&mut self, node: &pb::NodeProto) -> bool {
        let constant_first = self.graph.constant_input(node, 0).is_some();
        let (value, constant) = if constant_first { (1, 0) } else { (0, 1) };
        let (Some((input, width)), Some(constant)) =
            (self.reals::<T>(node, value), self.graph.constant_input(node, constant))
        else {
            return false;
        };
        let Some(constants) = per_column(constant, width) else {
            return false;
        };
        let arithmetic = match (node.op_type.as_str(), constant_first) {
            ("Add", _) => Arithmetic::Add,
            ("Mul", _) => Arithmetic::Multiply,
            ("Sub", false) => Arithmetic::Subtract,
            ("Sub", true) => Arithmetic::SubtractFrom,
            ("Div", false) => Arithmetic::Divide,
            _ => Arithmetic::DivideInto,
        };
        let output = self.rowwise(Operation::Constant(arithmetic, constants), input, width);
        self.name_reals(node, 0, output, width);
        true
    }

    pub(super) fn activation<T: Real>(&mut self, node: &pb::NodeProto, activation: Activation) -> bool {
        let Some((input, width)) = self.reals::<T>(node, 0) else {
            return false;
        };
        if activation == Activation::Softmax && !is_last_axis(node, -1) {
            return false;
        }
        let output = self.rowwise(Operation::Activate(activation), input, width);
        self.name_reals(node, 0, output, width);
        true
    }

    pub(super) fn concat<T: Stored>(&mut self, node: &pb::NodeProto) -> bool {
        let first = self.value(node, 0).map(|value| value.element);
        let input = |position: usize| {
            let value = self.value(node, position)?;
            match value.dims.as_slice() {
                [width] if Some(value.element) == first && value.texts.is_none() => {
                    Some((T::table(value.slot)?, *width))
                }
                _ => None,
            }
        };
        let inputs: Option<Vec<_>> = (0..node.input.len()).map(input).collect();
        let (Some(inputs), Some(element)) = (inputs.filter(|_| is_last_axis(node, 0)), first) else {
            return false;
        };
        let width = inputs.iter().map(|(_, width)| width).sum();
        let output = self.layout.add(width);
        self.steps.push(Box::new(Concat { inputs, output }));
        self.name(node, 0, Value::new(T::slot(output), element, vec![width]));
        true
    }

    pub(super) fn arg_max<T: Real>(&mut self, node: &pb::NodeProto) -> bool {
        let Some((input, width)) = self.reals::<T>(node, 0) else {
            return false;
        };
        if !is_last_axis(node, 0) || Attributes(node).int("select_last_index").unwrap_or(0) != 0 || width == 0 {
            return false;
        }
        let dims = if Attributes(node).int("keepdims").unwrap_or(1) != 0 {
            vec![1]
        } else {
            Vec::new()
        };
        let output = self.layout.add(1);
        self.steps.push(Box::new(ArgMax { input, width, output }));
        self.name(node, 0, Value::new(Slot::Ints(output), ElementType::Int64, dims));
        true
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
fn per_column<T: Real>(constant: &Arc<Constant>, width: usize) -> Option<Vec<T>> {
    let values = T::constants(&constant.data)?;
    let row = constant.dims.len() <= 2 && constant.dims.iter().rev().skip(1).all(|dim| *dim == 1);
    match values {
        [one] if row => Some(vec![*one; width]),
        each if row && each.len() == width => Some(each.to_vec()),
        _ => None,
    }
}
