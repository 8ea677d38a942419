//! Which nodes are ours, and the steps they become.

mod classical;
mod layers;

use std::sync::Arc;

use super::{Builder, Value};
use crate::ensemble::ClassLabels;
use crate::onnx::{self, Attributes, Data, broken, pb, unsupported};
use crate::operators::columns::Lookup;
use crate::operators::convert::{Convert, Integers};
use crate::operators::rowwise::{Activation, Operation, Rowwise};
use crate::program::{Slot, Stored, Table};
use crate::real::Real;
use crate::{ElementType, ModelError};

impl Builder<'_> {
    /// Turns a node whose inputs are known into steps, or into another name for a table. `false`
    /// leaves it to the general engine.
    pub(super) fn lower(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
        if node.domain == "ai.onnx.ml" {
            return self.lower_ml(node).map(|()| true);
        }
        if !onnx::is_default_domain(&node.domain) {
            return Err(unsupported(
                node,
                format!("operators of domain '{}' are not known", node.domain),
            ));
        }
        match node.op_type.as_str() {
            "Identity" => Ok(self.alias(node, |value| Some(value.clone()))),
            "Cast" => self.cast(node),
            "Reshape" => {
                let Some(Data::Ints(shape)) = self.graph.constant_input(node, 1).map(|shape| &shape.data) else {
                    return Ok(false);
                };
                let shape = shape.clone();
                Ok(self.alias(node, |value| reshape(value, &shape)))
            }
            "Flatten" if Attributes(node).int("axis").unwrap_or(1) == 1 => Ok(self.alias(node, |value| {
                (!value.batch_last).then(|| Value {
                    dims: vec![value.width()],
                    ..value.clone()
                })
            })),
            "MatMul" => Ok(self.matmul::<f32>(node) || self.matmul::<f64>(node)),
            "Gemm" => Ok(self.gemm::<f32>(node) || self.gemm::<f64>(node)),
            "Add" | "Sub" | "Mul" | "Div" => Ok(self.arithmetic::<f32>(node) || self.arithmetic::<f64>(node)),
            "Concat" => Ok(self.concat::<f32>(node) || self.concat::<f64>(node) || self.concat::<i64>(node)),
            "ArgMax" => Ok(self.arg_max::<f32>(node) || self.arg_max::<f64>(node)),
            other => Ok(match Activation::by_operator(other) {
                Some(activation) => {
                    self.activation::<f32>(node, activation) || self.activation::<f64>(node, activation)
                }
                None => false,
            }),
        }
    }

    fn lower_ml(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        match node.op_type.as_str() {
            "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble" => self.trees(node),
            "LinearClassifier" => self.linear_classifier(node),
            "LinearRegressor" => self.linear_regressor(node),
            "Scaler" => self.scaler(node),
            "Normalizer" => self.normalizer(node),
            "ZipMap" => self.zip_map(node),
            "ArrayFeatureExtractor" => self.feature_extractor(node),
            _ => Err(unsupported(node, "it is not among the operators of this engine")),
        }
    }

    fn value(&self, node: &pb::NodeProto, position: usize) -> Option<&Value> {
        self.values.get(node.input.get(position)?)
    }

    /// A table `[rows, width]` of floats or doubles that our operators read.
    fn reals<T: Real>(&self, node: &pb::NodeProto, position: usize) -> Option<(Table<T>, usize)> {
        let value = self.value(node, position)?;
        match value.dims.as_slice() {
            [width] if value.texts.is_none() => Some((T::table(value.slot)?, *width)),
            _ => None,
        }
    }

    /// The features of an `ai.onnx.ml` operator, whatever number type they have.
    fn features(&self, node: &pb::NodeProto) -> Result<(Slot, usize), ModelError> {
        let value = self
            .value(node, 0)
            .ok_or_else(|| broken(node, "its input is not computed from the inputs"))?;
        match (value.dims.as_slice(), &value.texts) {
            ([width], None) => Ok((value.slot, *width)),
            _ => Err(broken(node, "its input is not [rows, features]")),
        }
    }

    /// The features of an `ai.onnx.ml` operator that computes in floats.
    fn float_features(&mut self, node: &pb::NodeProto) -> Result<(Table<f32>, usize), ModelError> {
        let (slot, width) = self.features(node)?;
        Ok((self.converted(slot, width), width))
    }

    /// The table itself, or its values as another type.
    fn converted<T: Stored>(&mut self, input: Slot, width: usize) -> Table<T> {
        T::table(input).unwrap_or_else(|| {
            let output = self.layout.add(width);
            self.steps.push(Box::new(Convert {
                input,
                output: T::slot(output),
                integers: Integers::Whole,
            }));
            output
        })
    }

    fn name(&mut self, node: &pb::NodeProto, output: usize, value: Value) {
        if let Some(name) = node.output.get(output).filter(|name| !name.is_empty()) {
            self.values.insert(name.clone(), value);
        }
    }

    fn name_reals<T: Real>(&mut self, node: &pb::NodeProto, output: usize, table: Table<T>, width: usize) {
        self.name(node, output, Value::new(T::slot(table), T::ELEMENT, vec![width]));
    }

    fn alias(&mut self, node: &pb::NodeProto, change: impl Fn(&Value) -> Option<Value>) -> bool {
        let changed = self.value(node, 0).and_then(change);
        let lowered = changed.is_some();
        if let Some(value) = changed {
            self.name(node, 0, value);
        }
        lowered
    }

    /// Class labels as the first output: integers, or positions in a list of strings.
    fn name_label(&mut self, node: &pb::NodeProto, label: Table<i64>, labels: &ClassLabels) {
        let mut value = Value::new(Slot::Ints(label), ElementType::Int64, Vec::new());
        match labels {
            ClassLabels::Ints(labels) => {
                // Positions that are the labels already need no step.
                if !labels
                    .iter()
                    .enumerate()
                    .all(|(position, label)| position as i64 == *label)
                {
                    let named = self.layout.add(1);
                    self.steps.push(Box::new(Lookup {
                        input: label,
                        list: labels.clone(),
                        output: named,
                    }));
                    value.slot = Slot::Ints(named);
                }
            }
            ClassLabels::Texts(texts) => {
                value.element = ElementType::Text;
                value.texts = Some(Arc::new(texts.clone()));
            }
        }
        self.name(node, 0, value);
    }

    fn rowwise<T: Real>(&mut self, operation: Operation<T>, input: Table<T>, width: usize) -> Table<T> {
        let output = self.layout.add(width);
        self.steps.push(Box::new(Rowwise {
            operation,
            width,
            input,
            output,
        }));
        output
    }
}

/// A shape that keeps rows as rows: `[-1]`, `[-1, width]`, `[0, -1]`.
fn reshape(value: &Value, shape: &[i64]) -> Option<Value> {
    let (first, rest) = shape.split_first()?;
    let free = rest.iter().filter(|dim| **dim == -1).count();
    if !(*first == -1 && free == 0 || *first == 0 && free <= 1 && !value.batch_last) {
        return None;
    }
    let known = rest
        .iter()
        .filter(|dim| **dim != -1)
        .try_fold(1_usize, |product, dim| {
            product.checked_mul(usize::try_from(*dim).ok().filter(|dim| *dim > 0)?)
        })?;
    let dims: Vec<usize> = rest
        .iter()
        .map(|dim| usize::try_from(*dim).unwrap_or(value.width() / known))
        .collect();
    let same = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim)) == Some(value.width());
    same.then(|| Value {
        dims,
        batch_last: false,
        ..value.clone()
    })
}
