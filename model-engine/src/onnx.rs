//! Reading the ONNX container: attributes of nodes, constant tensors, checks of the file itself.
//! Messages are the ones generated from `onnx.proto` that come with tract.

use prost::Message;
pub(crate) use tract_onnx::pb;

use crate::ModelError;

/// Newest version of the file format that there is (onnx 1.23).
const NEWEST_IR: i64 = 14;
/// Newest versions of the operator sets that there are (onnx 1.23).
const NEWEST_OPSETS: [(&str, i64); 2] = [("ai.onnx", 28), ("ai.onnx.ml", 5)];
/// Before this version operators of ONNX's own domain meant something else; ONNX Runtime does not run these either.
const OLDEST_OPSET: i64 = 7;

/// Decodes the file and refuses what must never be followed: tensors outside the file, versions that nobody knows.
pub(crate) fn decode(bytes: &[u8]) -> Result<pb::ModelProto, ModelError> {
    let model = pb::ModelProto::decode(bytes).map_err(|error| ModelError::Broken {
        reason: error.to_string(),
    })?;
    check_versions(&model)?;
    let graph = model.graph.as_ref().ok_or_else(|| ModelError::Broken {
        reason: "there is no graph in it".to_owned(),
    })?;
    for tensor in &graph.initializer {
        check_inline(tensor)?;
    }
    for node in &graph.node {
        for tensor in node
            .attribute
            .iter()
            .flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors))
        {
            check_inline(tensor)?;
        }
    }
    Ok(model)
}

/// What an operator of an unknown version computes is unknown too.
fn check_versions(model: &pb::ModelProto) -> Result<(), ModelError> {
    let version = |what: String, reason: String| ModelError::Version { what, reason };
    if model.ir_version > NEWEST_IR {
        let newest =
            format!("the newest that this engine knows is {NEWEST_IR}; export the model for that or an older one");
        return Err(version(format!("IR version {}", model.ir_version), newest));
    }
    for opset in &model.opset_import {
        let domain = if is_default_domain(&opset.domain) {
            "ai.onnx"
        } else {
            opset.domain.as_str()
        };
        let Some((_, newest)) = NEWEST_OPSETS.iter().find(|(known, _)| *known == domain) else {
            continue;
        };
        let what = || format!("opset {} of domain {domain}", opset.version);
        if opset.version > *newest {
            let reason = format!(
                "the newest that this engine knows is {newest}; export the model with target_opset {newest} or lower"
            );
            return Err(version(what(), reason));
        }
        let oldest = if domain == "ai.onnx" { OLDEST_OPSET } else { 1 };
        if opset.version < oldest {
            let reason = format!("the oldest that this engine knows is {oldest}; export the model again");
            return Err(version(what(), reason));
        }
    }
    Ok(())
}

/// The node of the file that a node of the engine's graph comes from: the engine appends parts to names.
pub(crate) fn node_of_engine<'a>(model: &'a pb::ModelProto, engine_name: &str) -> Option<&'a pb::NodeProto> {
    let matches = |name: &&str| {
        let rest = engine_name.strip_prefix(*name).filter(|_| !name.is_empty());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_', '-', '/']))
    };
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    let longest = |node: &'a pb::NodeProto| {
        let names = std::iter::once(node.name.as_str()).chain(node.output.iter().map(String::as_str));
        Some((names.filter(matches).map(str::len).max()?, node))
    };
    nodes
        .filter_map(longest)
        .max_by_key(|(length, _)| *length)
        .map(|(_, node)| node)
}

/// A tensor kept in another file would let a model read the worker's disk.
fn check_inline(tensor: &pb::TensorProto) -> Result<(), ModelError> {
    let external = tensor.data_location == Some(pb::tensor_proto::DataLocation::External as i32);
    if external || !tensor.external_data.is_empty() {
        return Err(ModelError::Broken {
            reason: format!(
                "tensor '{}' is stored outside the file; save the model as one file",
                tensor.name
            ),
        });
    }
    Ok(())
}

/// Name of an operator as errors show it: `Loop`, `ai.onnx.ml.LabelEncoder`.
pub(crate) fn operator_name(node: &pb::NodeProto) -> String {
    if is_default_domain(&node.domain) {
        node.op_type.clone()
    } else {
        format!("{}.{}", node.domain, node.op_type)
    }
}

/// Whether a domain is ONNX's own.
pub(crate) fn is_default_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Name of a node as errors show it: its own, or that of its first output.
pub(crate) fn node_name(node: &pb::NodeProto) -> String {
    if node.name.is_empty() {
        node.output.first().cloned().unwrap_or_default()
    } else {
        node.name.clone()
    }
}

/// An operator, or a use of it, that is refused.
pub(crate) fn unsupported(node: &pb::NodeProto, reason: impl Into<String>) -> ModelError {
    ModelError::UnsupportedOperator {
        operator: operator_name(node),
        node: node_name(node),
        reason: reason.into(),
    }
}

/// A node that contradicts itself or its operator's definition.
pub(crate) fn broken(node: &pb::NodeProto, reason: impl AsRef<str>) -> ModelError {
    ModelError::Broken {
        reason: format!(
            "{} of node '{}': {}",
            operator_name(node),
            node_name(node),
            reason.as_ref()
        ),
    }
}

/// Attributes of a node by name.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a pb::NodeProto);

impl<'a> Attributes<'a> {
    fn find(&self, name: &str) -> Option<&'a pb::AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.find(name).map(|attribute| attribute.i)
    }

    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        self.find(name).map(|attribute| attribute.f)
    }

    pub(crate) fn ints(&self, name: &str) -> &'a [i64] {
        self.find(name).map_or(&[], |attribute| &attribute.ints)
    }

    pub(crate) fn floats(&self, name: &str) -> &'a [f32] {
        self.find(name).map_or(&[], |attribute| &attribute.floats)
    }

    pub(crate) fn string(&self, name: &str) -> Option<&'a str> {
        self.find(name)
            .and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
    }

    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        self.find(name).map_or_else(Vec::new, |attribute| {
            attribute
                .strings
                .iter()
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect()
        })
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&'a pb::TensorProto> {
        self.find(name).and_then(|attribute| attribute.t.as_ref())
    }

    /// `name`, or `name_as_tensor`, which some exporters write instead: floats or doubles.
    pub(crate) fn reals(&self, name: &str) -> Result<Vec<f64>, ModelError> {
        let floats = self.floats(name);
        if !floats.is_empty() {
            return Ok(floats.iter().map(|value| f64::from(*value)).collect());
        }
        match self.tensor(&format!("{name}_as_tensor")) {
            Some(tensor) => self.tensor_reals(tensor),
            None => Ok(Vec::new()),
        }
    }

    /// A tensor attribute of floats or doubles.
    pub(crate) fn tensor_reals(&self, tensor: &pb::TensorProto) -> Result<Vec<f64>, ModelError> {
        match constant(tensor)?.map(|constant| constant.data) {
            Some(Data::Floats(values)) => Ok(values.into_iter().map(f64::from).collect()),
            Some(Data::Doubles(values)) => Ok(values),
            _ => Err(broken(self.0, "a tensor attribute is not of floats")),
        }
    }
}

/// A tensor known when the model is loaded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
}

/// Elements of a constant, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::Floats(values) => values.len(),
            Data::Doubles(values) => values.len(),
            Data::Ints(values) => values.len(),
            Data::Texts(values) => values.len(),
        }
    }
}

/// Reads a tensor; `None` for element types that only the general engine reads.
pub(crate) fn constant(tensor: &pb::TensorProto) -> Result<Option<Constant>, ModelError> {
    use pb::tensor_proto::DataType;
    let broken = |reason: &str| ModelError::Broken {
        reason: format!("tensor '{}' {reason}", tensor.name),
    };
    let dims = tensor
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| broken("has a negative dimension")))
        .collect::<Result<Vec<_>, _>>()?;
    let elements = dims
        .iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
        .ok_or_else(|| broken("has dimensions that overflow"))?;
    let raw = !tensor.raw_data.is_empty();
    let data = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) if raw => Data::Floats(little_endian(&tensor.raw_data, f32::from_le_bytes)),
        Ok(DataType::Float) => Data::Floats(tensor.float_data.clone()),
        Ok(DataType::Double) if raw => Data::Doubles(little_endian(&tensor.raw_data, f64::from_le_bytes)),
        Ok(DataType::Double) => Data::Doubles(tensor.double_data.clone()),
        Ok(DataType::Int64) if raw => Data::Ints(little_endian(&tensor.raw_data, i64::from_le_bytes)),
        Ok(DataType::Int64) => Data::Ints(tensor.int64_data.clone()),
        Ok(DataType::Int32) if raw => Data::Ints(little_endian(&tensor.raw_data, |bytes| {
            i64::from(i32::from_le_bytes(bytes))
        })),
        Ok(DataType::Uint8) if raw => Data::Ints(tensor.raw_data.iter().map(|&byte| i64::from(byte)).collect()),
        Ok(DataType::Int32 | DataType::Uint8) => {
            Data::Ints(tensor.int32_data.iter().map(|&value| i64::from(value)).collect())
        }
        Ok(DataType::String) => Data::Texts(
            tensor
                .string_data
                .iter()
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect(),
        ),
        _ => return Ok(None),
    };
    if data.len() != elements {
        return Err(broken(&format!(
            "has {} elements, its dimensions say {elements}",
            data.len()
        )));
    }
    Ok(Some(Constant { dims, data }))
}

fn little_endian<T, const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
}
