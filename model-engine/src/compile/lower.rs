//! Which nodes are ours, and the steps they become.

mod classical;
mod layers;

use std::sync::Arc;

use super::{Builder, Value};
use crate::ensemble::ClassLabels;
use crate::onnx::{self, Attributes, Data, broken, pb, unsupported};
use crate::operators::columns::{Convert, Lookup, LookupTable};
use crate::operators::rowwise::{Activation, Operation, Rowwise};
use crate::program::{Floats, Ints, Slot};
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
            "MatMul" => self.matmul(node),
            "Gemm" => self.gemm(node),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            "Concat" => self.concat(node),
            "ArgMax" => self.arg_max(node),
            other => match Activation::by_operator(other) {
                Some(activation) => self.activation(node, activation),
                None => Ok(false),
            },
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

    /// A table of floats `[rows, width]` that our operators read.
    fn floats(&self, node: &pb::NodeProto, position: usize) -> Option<(Floats, usize)> {
        let value = self.value(node, position)?;
        match (value.slot, value.element, value.dims.as_slice()) {
            (Slot::Floats(table), ElementType::Float, [width]) => Some((table, *width)),
            _ => None,
        }
    }

    /// The features of an `ai.onnx.ml` operator as floats, whatever number type they have.
    fn features(&mut self, node: &pb::NodeProto) -> Result<(Floats, usize), ModelError> {
        let value = self
            .value(node, 0)
            .ok_or_else(|| broken(node, "its input is not computed from the inputs"))?;
        let ([width], None) = (value.dims.as_slice(), &value.texts) else {
            return Err(broken(node, "its input is not [rows, features]"));
        };
        let width = *width;
        Ok(match value.slot {
            Slot::Floats(table) => (table, width),
            Slot::Ints(table) => (self.converted(table, width), width),
        })
    }

    fn converted(&mut self, table: Ints, width: usize) -> Floats {
        let output = self.layout.add_floats(width);
        self.steps.push(Box::new(Convert {
            input: Slot::Ints(table),
            output: Slot::Floats(output),
            to_boolean: false,
        }));
        output
    }

    fn name(&mut self, node: &pb::NodeProto, output: usize, value: Value) {
        if let Some(name) = node.output.get(output).filter(|name| !name.is_empty()) {
            self.values.insert(name.clone(), value);
        }
    }

    fn name_floats(&mut self, node: &pb::NodeProto, output: usize, table: Floats, width: usize) {
        self.name(
            node,
            output,
            Value::new(Slot::Floats(table), ElementType::Float, vec![width]),
        );
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
    fn name_label(&mut self, node: &pb::NodeProto, label: Ints, labels: &ClassLabels) {
        let mut value = Value::new(Slot::Ints(label), ElementType::Int64, Vec::new());
        match labels {
            ClassLabels::Ints(labels) => {
                // Positions that are the labels already need no step.
                if !labels
                    .iter()
                    .enumerate()
                    .all(|(position, label)| position as i64 == *label)
                {
                    let named = self.layout.add_ints(1);
                    self.steps.push(Box::new(Lookup {
                        input: label,
                        table: LookupTable::Ints(labels.clone(), named),
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

    fn rowwise(&mut self, node: &pb::NodeProto, operation: Operation, input: Floats, width: usize) {
        let output = self.layout.add_floats(width);
        self.steps.push(Box::new(Rowwise {
            operation,
            width,
            input,
            output,
        }));
        self.name_floats(node, 0, output, width);
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
