//! Which nodes are ours, and the steps they become.

use std::sync::Arc;

use super::{Builder, Value};
use crate::ensemble::{ClassLabels, Ensemble, PostTransform};
use crate::onnx::{self, Attributes, Constant, Data, broken, pb, unsupported};
use crate::operators::columns::{ArgMax, Concat, Convert, Lookup, LookupTable, Pick};
use crate::operators::dense::{Classifier, Dense, Matrix};
use crate::operators::rowwise::{Activation, Arithmetic, Norm, Operation, Rowwise};
use crate::operators::trees::Trees;
use crate::program::{Floats, Ints, Slot};
use crate::{ElementType, ModelError};

/// A matrix with more weights goes to the general engine, whose kernels win from there on.
const MAX_DENSE_WEIGHTS: usize = 16_384;

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

    // --- reading and naming values ---

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

    // --- ai.onnx.ml ---

    fn trees(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (input, width) = self.features(node)?;
        let ensemble = Ensemble::parse(node)?;
        if ensemble.min_features() > width {
            return Err(broken(
                node,
                format!(
                    "it looks at feature {}, its input has {width}",
                    ensemble.min_features() - 1
                ),
            ));
        }
        let scores = self.layout.add_floats(ensemble.score_width());
        let labels = ensemble.labels().cloned();
        let label = labels.is_some().then(|| self.layout.add_ints(1));
        let score_width = ensemble.score_width();
        self.steps.push(Box::new(Trees {
            ensemble,
            input,
            width,
            label,
            scores,
        }));
        match (label, labels) {
            (Some(label), Some(labels)) => {
                self.name_label(node, label, &labels);
                self.name_floats(node, 1, scores, score_width);
            }
            _ => self.name_floats(node, 0, scores, score_width),
        }
        Ok(())
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html>
    fn linear_classifier(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (input, width) = self.features(node)?;
        let attributes = Attributes(node);
        let labels =
            ClassLabels::read(attributes, "classlabels_ints").ok_or_else(|| broken(node, "it has no class labels"))?;
        let coefficients = attributes.floats("coefficients");
        let intercepts = attributes.floats("intercepts");
        let classes = coefficients.len().checked_div(width).unwrap_or_default();
        if classes == 0 || classes * width != coefficients.len() {
            return Err(broken(
                node,
                format!("{} coefficients for {width} features", coefficients.len()),
            ));
        }
        if !intercepts.is_empty() && intercepts.len() != classes {
            return Err(broken(
                node,
                format!("{} intercepts for {classes} classes", intercepts.len()),
            ));
        }
        let two_classes = classes == 1 && labels.len() == 2;
        if !two_classes && labels.len() != classes {
            return Err(broken(node, format!("{} labels for {classes} classes", labels.len())));
        }
        let at = |feature: usize, class: usize| coefficients.get(class * width + feature).copied().unwrap_or_default();
        let score_width = labels.len();
        let (label, scores) = (self.layout.add_ints(1), self.layout.add_floats(score_width));
        self.steps.push(Box::new(Classifier {
            matrix: Matrix::new(width, classes, at, intercepts),
            post_transform: PostTransform::by_name(node, attributes.string("post_transform"))?,
            two_classes,
            input,
            label: Some(label),
            scores,
        }));
        self.name_label(node, label, &labels);
        self.name_floats(node, 1, scores, score_width);
        Ok(())
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html>
    fn linear_regressor(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (input, width) = self.features(node)?;
        let attributes = Attributes(node);
        let targets = usize::try_from(attributes.int("targets").unwrap_or(1)).unwrap_or(0);
        let coefficients = attributes.floats("coefficients");
        let intercepts = attributes.floats("intercepts");
        let expected = targets.checked_mul(width).filter(|expected| *expected > 0);
        if expected != Some(coefficients.len()) || (!intercepts.is_empty() && intercepts.len() != targets) {
            return Err(broken(
                node,
                format!(
                    "{} coefficients for {width} features and {targets} targets",
                    coefficients.len()
                ),
            ));
        }
        let transform = PostTransform::by_name(node, attributes.string("post_transform"))?;
        let activation = match transform {
            PostTransform::None => None,
            PostTransform::Logistic => Some(Activation::Sigmoid),
            PostTransform::Softmax => Some(Activation::Softmax),
            _ => {
                return Err(unsupported(
                    node,
                    "post_transform PROBIT and SOFTMAX_ZERO of a linear regressor",
                ));
            }
        };
        let at =
            |feature: usize, target: usize| coefficients.get(target * width + feature).copied().unwrap_or_default();
        let output = self.layout.add_floats(targets);
        self.steps.push(Box::new(Dense {
            matrix: Matrix::new(width, targets, at, intercepts),
            activation,
            input,
            output,
        }));
        self.name_floats(node, 0, output, targets);
        Ok(())
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html>
    fn scaler(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (input, width) = self.features(node)?;
        let attributes = Attributes(node);
        let per_column = |name: &str, default: f32| match *attributes.floats(name) {
            [] => Ok(vec![default; width]),
            [one] => Ok(vec![one; width]),
            ref each if each.len() == width => Ok(each.to_vec()),
            ref other => Err(broken(
                node,
                format!("{name} has {} entries for {width} features", other.len()),
            )),
        };
        let operation = Operation::Scale {
            offset: per_column("offset", 0.0)?,
            scale: per_column("scale", 1.0)?,
        };
        self.rowwise(node, operation, input, width);
        Ok(())
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html>
    fn normalizer(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (input, width) = self.features(node)?;
        let norm = match Attributes(node).string("norm").unwrap_or("MAX") {
            "MAX" => Norm::Max,
            "L1" => Norm::L1,
            "L2" => Norm::L2,
            other => return Err(unsupported(node, format!("norm '{other}'"))),
        };
        self.rowwise(node, Operation::Normalize(norm), input, width);
        Ok(())
    }

    /// A map from class to score stays a table; the classes name its columns.
    fn zip_map(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (table, width) = self.features(node)?;
        let labels = ClassLabels::read(Attributes(node), "classlabels_int64s")
            .ok_or_else(|| broken(node, "it has no class labels"))?;
        if labels.len() != width {
            return Err(broken(
                node,
                format!("{} class labels for {width} scores", labels.len()),
            ));
        }
        let classes = match labels {
            ClassLabels::Ints(labels) => labels.iter().map(i64::to_string).collect(),
            ClassLabels::Texts(labels) => labels,
        };
        let value = Value::new(Slot::Floats(table), ElementType::Float, vec![width]);
        self.name(node, 0, Value { classes, ..value });
        Ok(())
    }

    /// Columns of a table by constant positions, or entries of a constant list by computed ones.
    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_ArrayFeatureExtractor.html>
    fn feature_extractor(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        if let Some(list) = self.graph.constant_input(node, 0).cloned() {
            return self.lookup(node, &list);
        }
        let (input, width) = self.features(node)?;
        let Some(Data::Ints(columns)) = self.graph.constant_input(node, 1).map(|columns| &columns.data) else {
            return Err(unsupported(node, "columns that are computed"));
        };
        let columns = columns
            .iter()
            .map(|&column| usize::try_from(column).ok().filter(|column| *column < width))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| broken(node, format!("a column outside of the {width} there are")))?;
        let (output, picked) = (self.layout.add_floats(columns.len()), columns.len());
        self.steps.push(Box::new(Pick {
            input,
            width,
            columns,
            output,
        }));
        self.name_floats(node, 0, output, picked);
        Ok(())
    }

    fn lookup(&mut self, node: &pb::NodeProto, list: &Constant) -> Result<(), ModelError> {
        let positions = match self.value(node, 1) {
            Some(Value {
                slot: Slot::Ints(table),
                texts: None,
                dims,
                ..
            }) if dims.iter().product::<usize>() == 1 => *table,
            _ => return Err(unsupported(node, "positions that are not one integer per row")),
        };
        if list.dims.iter().rev().skip(1).any(|dim| *dim != 1) {
            return Err(unsupported(node, "a constant of more than one row"));
        }
        let mut value = Value::new(Slot::Ints(positions), ElementType::Int64, Vec::new());
        let table = match &list.data {
            Data::Texts(texts) => {
                value.element = ElementType::Text;
                value.texts = Some(Arc::new(texts.clone()));
                None
            }
            Data::Ints(ints) => Some(LookupTable::Ints(ints.clone(), self.layout.add_ints(1))),
            Data::Floats(floats) => Some(LookupTable::Floats(floats.clone(), self.layout.add_floats(1))),
            Data::Doubles(_) => return Err(unsupported(node, "a constant of doubles")),
        };
        if let Some(table) = table {
            (value.slot, value.element) = match &table {
                LookupTable::Ints(_, output) => (Slot::Ints(*output), ElementType::Int64),
                LookupTable::Floats(_, output) => (Slot::Floats(*output), ElementType::Float),
            };
            self.steps.push(Box::new(Lookup {
                input: positions,
                table,
            }));
        }
        value.batch_last = true;
        self.name(node, 0, value);
        Ok(())
    }

    // --- ONNX's own domain ---

    fn cast(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
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

    fn matmul(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
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

    fn gemm(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
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

    fn arithmetic(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
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

    fn activation(&mut self, node: &pb::NodeProto, activation: Activation) -> Result<bool, ModelError> {
        let Some((input, width)) = self.floats(node, 0) else {
            return Ok(false);
        };
        if activation == Activation::Softmax && !is_last_axis(node, -1) {
            return Ok(false);
        }
        self.rowwise(node, Operation::Activate(activation), input, width);
        Ok(true)
    }

    fn concat(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
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

    fn arg_max(&mut self, node: &pb::NodeProto) -> Result<bool, ModelError> {
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
