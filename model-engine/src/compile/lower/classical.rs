//! Operators of `ai.onnx.ml`: ensembles, linear models, scaling, class maps.

use std::sync::Arc;

use super::super::{Builder, Value};
use crate::ensemble::{ClassLabels, Ensemble, PostTransform};
use crate::onnx::{Attributes, Constant, Data, broken, pb, unsupported};
use crate::operators::columns::{Lookup, Pick};
use crate::operators::dense::{Classifier, Dense, Matrix};
use crate::operators::rowwise::{Activation, Norm, Operation};
use crate::operators::trees::{Trees, Walked};
use crate::program::{Slot, Stored, Table};
use crate::real::Real;
use crate::{ElementType, ModelError};

impl Builder<'_> {
    pub(super) fn trees(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        match self.features(node)? {
            (Slot::Doubles(input), width) => self.trees_of(node, input, width),
            (other, width) => {
                let input = self.converted::<f32>(other, width);
                self.trees_of(node, input, width)
            }
        }
    }

    fn trees_of<T: Walked>(&mut self, node: &pb::NodeProto, input: Table<T>, width: usize) -> Result<(), ModelError> {
        let ensemble = Ensemble::<T>::parse(node)?;
        if ensemble.min_features() > width {
            return Err(broken(
                node,
                format!(
                    "it looks at feature {}, its input has {width}",
                    ensemble.min_features() - 1
                ),
            ));
        }
        let scores = self.layout.add(ensemble.score_width());
        let labels = ensemble.labels().cloned();
        let label = labels.is_some().then(|| self.layout.add(1));
        let score_width = ensemble.score_width();
        self.steps.push(Box::new(Trees {
            ensemble,
            input,
            width,
            label,
            scores,
        }));
        let position = match (label, labels) {
            (Some(label), Some(labels)) => {
                self.name_label(node, label, &labels);
                1
            }
            _ => 0,
        };
        // The scores of `TreeEnsemble` have the type of its input, those of the two before it are floats.
        match node.op_type.as_str() {
            "TreeEnsemble" => self.name_reals(node, position, scores, score_width),
            _ => self.name_as_floats(node, position, scores, score_width),
        }
        Ok(())
    }

    /// Names the values of a table as floats, which the outputs of most `ai.onnx.ml` operators are.
    fn name_as_floats<T: Real>(&mut self, node: &pb::NodeProto, output: usize, table: Table<T>, width: usize) {
        let floats = self.converted::<f32>(T::slot(table), width);
        self.name_reals(node, output, floats, width);
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html>: in floats, whatever the input is, as in ONNX
    /// Runtime.
    pub(super) fn linear_classifier(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (input, width) = self.float_features(node)?;
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
        let (label, scores) = (self.layout.add(1), self.layout.add(score_width));
        self.steps.push(Box::new(Classifier {
            matrix: Matrix::new(width, classes, at, intercepts),
            post_transform: PostTransform::by_name(node, attributes.string("post_transform"))?,
            two_classes,
            input,
            label: Some(label),
            scores,
        }));
        self.name_label(node, label, &labels);
        self.name_reals(node, 1, scores, score_width);
        Ok(())
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html>
    pub(super) fn linear_regressor(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        match self.features(node)? {
            (Slot::Doubles(input), width) => self.linear_regressor_of(node, input, width),
            (other, width) => {
                let input = self.converted::<f32>(other, width);
                self.linear_regressor_of(node, input, width)
            }
        }
    }

    fn linear_regressor_of<T: Real>(
        &mut self,
        node: &pb::NodeProto,
        input: Table<T>,
        width: usize,
    ) -> Result<(), ModelError> {
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
        let at = |feature: usize, target: usize| {
            T::from_float(coefficients.get(target * width + feature).copied().unwrap_or_default())
        };
        let intercepts: Vec<T> = intercepts.iter().map(|value| T::from_float(*value)).collect();
        let output = self.layout.add(targets);
        self.steps.push(Box::new(Dense {
            matrix: Matrix::new(width, targets, at, &intercepts),
            activation,
            input,
            output,
        }));
        self.name_as_floats(node, 0, output, targets);
        Ok(())
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html>
    pub(super) fn scaler(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        match self.features(node)? {
            (Slot::Doubles(input), width) => self.scaler_of(node, input, width),
            (other, width) => {
                let input = self.converted::<f32>(other, width);
                self.scaler_of(node, input, width)
            }
        }
    }

    fn scaler_of<T: Real>(&mut self, node: &pb::NodeProto, input: Table<T>, width: usize) -> Result<(), ModelError> {
        let attributes = Attributes(node);
        let per_column = |name: &str, default: T| match *attributes.floats(name) {
            [] => Ok(vec![default; width]),
            [one] => Ok(vec![T::from_float(one); width]),
            ref each if each.len() == width => Ok(each.iter().map(|value| T::from_float(*value)).collect()),
            ref other => Err(broken(
                node,
                format!("{name} has {} entries for {width} features", other.len()),
            )),
        };
        let operation = Operation::Scale {
            offset: per_column("offset", T::ZERO)?,
            scale: per_column("scale", T::ONE)?,
        };
        let output = self.rowwise(operation, input, width);
        self.name_as_floats(node, 0, output, width);
        Ok(())
    }

    /// <https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html>
    pub(super) fn normalizer(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let norm = match Attributes(node).string("norm").unwrap_or("MAX") {
            "MAX" => Norm::Max,
            "L1" => Norm::L1,
            "L2" => Norm::L2,
            other => return Err(unsupported(node, format!("norm '{other}'"))),
        };
        match self.features(node)? {
            (Slot::Doubles(input), width) => {
                let output = self.rowwise(Operation::Normalize(norm), input, width);
                self.name_as_floats(node, 0, output, width);
            }
            (other, width) => {
                let input = self.converted::<f32>(other, width);
                let output = self.rowwise(Operation::Normalize(norm), input, width);
                self.name_reals(node, 0, output, width);
            }
        }
        Ok(())
    }

    /// A map from class to score stays a table; the classes name its columns.
    pub(super) fn zip_map(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        let (table, width) = self.float_features(node)?;
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
    pub(super) fn feature_extractor(&mut self, node: &pb::NodeProto) -> Result<(), ModelError> {
        if let Some(list) = self.graph.constant_input(node, 0).cloned() {
            return self.lookup(node, &list);
        }
        match self.features(node)? {
            (Slot::Floats(input), width) => self.pick(node, input, width),
            (Slot::Doubles(input), width) => self.pick(node, input, width),
            (Slot::Ints(input), width) => self.pick(node, input, width),
        }
    }

    fn pick<T: Stored>(&mut self, node: &pb::NodeProto, input: Table<T>, width: usize) -> Result<(), ModelError> {
        let element = self.value(node, 0).map_or(ElementType::Int64, |value| value.element);
        let Some(Data::Ints(columns)) = self.graph.constant_input(node, 1).map(|columns| &columns.data) else {
            return Err(unsupported(node, "columns that are computed"));
        };
        let columns = columns
            .iter()
            .map(|&column| usize::try_from(column).ok().filter(|column| *column < width))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| broken(node, format!("a column outside of the {width} there are")))?;
        let (output, picked) = (self.layout.add(columns.len()), columns.len());
        self.steps.push(Box::new(Pick {
            input,
            width,
            columns,
            output,
        }));
        self.name(node, 0, Value::new(T::slot(output), element, vec![picked]));
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
        let (slot, element) = match &list.data {
            Data::Texts(_) => (Slot::Ints(positions), ElementType::Text),
            Data::Ints(ints) => (self.looked_up(positions, ints), self.integer_type(node)),
            Data::Floats(floats) => (self.looked_up(positions, floats), ElementType::Float),
            Data::Doubles(doubles) => (self.looked_up(positions, doubles), ElementType::Double),
        };
        let mut value = Value::new(slot, element, Vec::new());
        if let Data::Texts(texts) = &list.data {
            value.texts = Some(Arc::new(texts.clone()));
        }
        value.batch_last = true;
        self.name(node, 0, value);
        Ok(())
    }

    fn looked_up<T: Stored>(&mut self, positions: Table<i64>, list: &[T]) -> Slot {
        let output = self.layout.add(1);
        self.steps.push(Box::new(Lookup {
            input: positions,
            list: list.to_vec(),
            output,
        }));
        T::slot(output)
    }

    /// Type of the integers of a node's first input, which is constant.
    fn integer_type(&self, node: &pb::NodeProto) -> ElementType {
        let name = node.input.first().map_or("", String::as_str);
        let data_type = self.graph.initializers.get(name).map(|tensor| tensor.data_type);
        match data_type.map(pb::tensor_proto::DataType::try_from) {
            Some(Ok(pb::tensor_proto::DataType::Int32)) => ElementType::Int32,
            _ => ElementType::Int64,
        }
    }
}
