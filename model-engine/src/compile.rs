//! From a graph to a program.
//!
//! ```text
//! loop: lower every node that is ready and ours -> put what is ready and not ours into one segment
//! ```
//! so that a pipeline of our own operators never meets the general engine.

mod lower;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::graph::Graph;
use crate::onnx::{self, pb};
use crate::program::{Layout, Operator, Slot};
use crate::segment::{Segment, SegmentInput, SegmentLimits};
use crate::{Dim, ElementType, Limits, ModelError, TensorSpec, bounds};

/// A value of the graph that has been computed: where it is, and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) slot: Slot,
    pub(crate) element: ElementType,
    /// After the batch.
    pub(crate) dims: Vec<usize>,
    /// What integers point into, where they stand for strings.
    pub(crate) texts: Option<Arc<Vec<String>>>,
    /// Class names of the columns, behind a ZipMap.
    pub(crate) classes: Vec<String>,
    /// The batch is the last dimension of a `[1, rows]` tensor, behind an ArrayFeatureExtractor.
    pub(crate) batch_last: bool,
}

impl Value {
    pub(crate) fn new(slot: Slot, element: ElementType, dims: Vec<usize>) -> Value {
        Value {
            slot,
            element,
            dims,
            texts: None,
            classes: Vec::new(),
            batch_last: false,
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.dims.iter().product()
    }
}

/// A model as it is run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Box<dyn Operator>>,
    pub(crate) layout: Layout,
    pub(crate) inputs: Vec<(TensorSpec, Value)>,
    pub(crate) outputs: Vec<(TensorSpec, Value)>,
    pub(crate) memory_bytes: usize,
    /// Batch sizes that runs are cut into; any number of rows up to the last where no step minds.
    pub(crate) batch_sizes: Vec<usize>,
    /// Whether a step has plans for the batch sizes only.
    pub(crate) fixed: bool,
    /// The batch size that the file fixes.
    pub(crate) file_batch: Option<usize>,
    /// Whether the general engine runs a part of it.
    pub(crate) has_segments: bool,
    /// A node of the general engine's graph that is not known to compute the rows of a batch apart from each other.
    pub(crate) mixing_node: Option<String>,
}

/// How many features an input will be given, by its name, where that is known.
pub(crate) type Widths<'a> = &'a dyn Fn(&str) -> Option<usize>;

/// Graphs with more nodes are refused before anything is done with them.
const MAX_NODES: usize = 20_000;
/// Values per row of an input.
const MAX_WIDTH: usize = 1 << 24;

struct Builder<'a> {
    model: &'a pb::ModelProto,
    graph: Graph<'a>,
    limits: &'a Limits,
    batch_sizes: Vec<usize>,
    values: FxHashMap<String, Value>,
    layout: Layout,
    steps: Vec<Box<dyn Operator>>,
    done: FxHashSet<usize>,
    fixed: bool,
    mixing_node: Option<String>,
}

/// Compiles the whole graph, within the limits.
pub(crate) fn compile(model: &pb::ModelProto, limits: &Limits, widths: Widths<'_>) -> Result<Program, ModelError> {
    let Some(proto) = &model.graph else {
        return Err(ModelError::Broken {
            reason: "there is no graph in it".to_owned(),
        });
    };
    if proto.node.len() > MAX_NODES {
        return Err(ModelError::Broken {
            reason: format!("{} nodes, more than {MAX_NODES}", proto.node.len()),
        });
    }
    let mut builder = Builder {
        model,
        graph: Graph::new(proto)?,
        limits,
        batch_sizes: limits.batch_sizes.clone(),
        values: FxHashMap::default(),
        layout: Layout::default(),
        steps: Vec::new(),
        done: FxHashSet::default(),
        fixed: false,
        mixing_node: None,
    };
    bounds::check(&builder.graph, limits.max_memory_bytes)?;
    let inputs = builder.inputs(widths)?;
    let file_batch = builder.fixed.then(|| builder.batch_sizes.first().copied()).flatten();
    if proto.output.is_empty() {
        return Err(ModelError::NoOutputs);
    }
    builder.steps()?;
    let outputs = builder.outputs()?;
    let largest = builder.batch_sizes.last().copied().unwrap_or(1);
    let tables = builder.layout.bytes_per_row().saturating_mul(largest);
    let memory_bytes = builder.weights().saturating_add(tables);
    if memory_bytes > limits.max_memory_bytes {
        return Err(ModelError::Memory {
            needed: memory_bytes,
            limit: limits.max_memory_bytes,
        });
    }
    let has_segments = builder.layout.segments > 0;
    Ok(Program {
        steps: builder.steps,
        layout: builder.layout,
        inputs,
        outputs,
        memory_bytes,
        batch_sizes: builder.batch_sizes,
        fixed: builder.fixed,
        file_batch,
        has_segments,
        mixing_node: builder.mixing_node,
    })
}

impl<'a> Builder<'a> {
    fn weights(&self) -> usize {
        self.steps
            .iter()
            .fold(0_usize, |sum, step| sum.saturating_add(step.memory_bytes()))
    }

    /// Declares the inputs; a fixed first dimension becomes the only batch size.
    fn inputs(&mut self, widths: Widths<'_>) -> Result<Vec<(TensorSpec, Value)>, ModelError> {
        let mut inputs = Vec::new();
        for input in &self.graph.proto.input {
            if self.graph.initializers.contains_key(input.name.as_str()) {
                continue;
            }
            let (spec, batch) = input_spec(input, widths(&input.name))?;
            if let Some(batch) = batch {
                if self.fixed && self.batch_sizes != [batch] {
                    return Err(ModelError::Shape {
                        tensor: input.name.clone(),
                        reason: "inputs are fixed to different batch sizes".to_owned(),
                    });
                }
                self.batch_sizes = vec![batch];
                self.fixed = true;
            }
            let dims = fixed_dims(&spec);
            let slot = self.layout.slot(spec.element, spec.width());
            let value = Value::new(slot, spec.element, dims);
            self.values.insert(input.name.clone(), value.clone());
            inputs.push((spec, value));
        }
        if inputs.is_empty() {
            return Err(ModelError::NoInputs);
        }
        Ok(inputs)
    }

    fn steps(&mut self) -> Result<(), ModelError> {
        while self.done.len() < self.graph.nodes.len() {
            let before = self.done.len();
            for position in 0..self.graph.nodes.len() {
                let Some(&node) = self.graph.nodes.get(position) else {
                    continue;
                };
                if !self.done.contains(&position) && self.is_ready(node, &FxHashSet::default()) && self.lower(node)? {
                    self.done.insert(position);
                }
            }
            if self.done.len() < self.graph.nodes.len() {
                self.segment()?;
            }
            if self.done.len() == before {
                return Err(self.stuck());
            }
        }
        Ok(())
    }

    /// Whether all inputs are there, or come from `also`.
    fn is_ready(&self, node: &pb::NodeProto, also: &FxHashSet<&str>) -> bool {
        node.input.iter().filter(|name| !name.is_empty()).all(|name| {
            self.values.contains_key(name)
                || self.graph.initializers.contains_key(name.as_str())
                || also.contains(name.as_str())
        })
    }

    /// One segment of all that the general engine can do by now.
    fn segment(&mut self) -> Result<(), ModelError> {
        let mut made: FxHashSet<&str> = FxHashSet::default();
        let mut positions = Vec::new();
        for (position, node) in self.graph.nodes.iter().enumerate() {
            let general = onnx::is_default_domain(&node.domain);
            if general && !self.done.contains(&position) && self.is_ready(node, &made) {
                made.extend(node.output.iter().map(String::as_str));
                positions.push(position);
            }
        }
        if positions.is_empty() {
            return Ok(());
        }
        let mut inputs: Vec<SegmentInput> = Vec::new();
        for &position in &positions {
            let names = self.graph.nodes.get(position).map_or(&[][..], |node| &node.input);
            for name in names {
                let Some(value) = self.values.get(name) else { continue };
                if value.texts.is_some() {
                    return Err(ModelError::UnsupportedElement {
                        tensor: name.clone(),
                        element: value.element.to_string(),
                        reason: "class labels may only be an output".to_owned(),
                    });
                }
                if !inputs.iter().any(|input| input.name == *name) {
                    inputs.push(SegmentInput {
                        name: name.clone(),
                        slot: value.slot,
                        element: value.element,
                        dims: value.dims.clone(),
                        batch_last: value.batch_last,
                    });
                }
            }
        }
        let limits = SegmentLimits {
            batch_sizes: &self.batch_sizes,
            used_bytes: self.weights(),
            max_bytes: self.limits.max_memory_bytes,
        };
        let (segment, outputs) =
            Segment::compile(self.model, &self.graph, &positions, inputs, &limits, &mut self.layout)?;
        for output in outputs {
            self.values
                .insert(output.name, Value::new(output.slot, output.element, output.dims));
        }
        if self.mixing_node.is_none() {
            self.mixing_node = segment.mixing_node().map(str::to_owned);
        }
        self.steps.push(Box::new(segment));
        self.done.extend(positions);
        self.fixed = true;
        Ok(())
    }

    /// Why the first node that is left cannot be done.
    fn stuck(&self) -> ModelError {
        for (position, node) in self.graph.nodes.iter().enumerate() {
            if self.done.contains(&position) {
                continue;
            }
            if self.is_ready(node, &FxHashSet::default()) {
                return onnx::unsupported(node, "it is not among the operators of this engine");
            }
            let made = |name: &String| self.graph.nodes.iter().any(|node| node.output.contains(name));
            if let Some(name) = node
                .input
                .iter()
                .find(|name| !name.is_empty() && !self.known(name) && !made(name))
            {
                return onnx::broken(node, format!("nothing computes its input '{name}'"));
            }
        }
        ModelError::Broken {
            reason: "the graph goes round in a circle".to_owned(),
        }
    }

    fn known(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.graph.initializers.contains_key(name)
    }

    fn outputs(&mut self) -> Result<Vec<(TensorSpec, Value)>, ModelError> {
        let mut outputs = Vec::new();
        for output in &self.graph.proto.output {
            let value = self.values.get(&output.name).ok_or_else(|| ModelError::Shape {
                tensor: output.name.clone(),
                reason: "nothing computes this output from the inputs".to_owned(),
            })?;
            let fixed = value.dims.iter().map(|dim| Dim::Fixed(*dim));
            let spec = TensorSpec {
                name: output.name.clone(),
                element: value.element,
                dims: std::iter::once(Dim::Batch).chain(fixed).collect(),
                classes: value.classes.clone(),
            };
            outputs.push((spec, value.clone()));
        }
        Ok(outputs)
    }
}

fn fixed_dims(spec: &TensorSpec) -> Vec<usize> {
    spec.dims
        .iter()
        .filter_map(|dim| match dim {
            Dim::Batch => None,
            Dim::Fixed(size) => Some(*size),
        })
        .collect()
}

/// Reads an input's declaration, and the batch size if the file fixes it. `features`: how many values a row will have; they
/// say a dimension that the file leaves open.
fn input_spec(input: &pb::ValueInfoProto, features: Option<usize>) -> Result<(TensorSpec, Option<usize>), ModelError> {
    use pb::tensor_proto::DataType;
    use pb::tensor_shape_proto::dimension::Value as DimValue;
    let wrong = |reason: String| ModelError::Shape {
        tensor: input.name.clone(),
        reason,
    };
    let Some(pb::type_proto::Value::TensorType(tensor)) = input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    else {
        return Err(wrong("an input must be a tensor".to_owned()));
    };
    let element = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Float) => ElementType::Float,
        Ok(DataType::Double) => ElementType::Double,
        Ok(DataType::Int64) => ElementType::Int64,
        Ok(DataType::Int32) => ElementType::Int32,
        Ok(DataType::Bool) => ElementType::Boolean,
        other => {
            return Err(ModelError::UnsupportedElement {
                tensor: input.name.clone(),
                element: other.map_or("unknown", |kind| kind.as_str_name()).to_lowercase(),
                reason: "features are numbers; an input is float, double, int64, int32 or bool".to_owned(),
            });
        }
    };
    let shape = tensor
        .shape
        .as_ref()
        .map(|shape| shape.dim.as_slice())
        .unwrap_or_default();
    let Some((first, rest)) = shape.split_first() else {
        return Err(wrong("it has no dimensions; the first must be the batch".to_owned()));
    };
    let batch = match &first.value {
        Some(DimValue::DimValue(size)) if *size > 0 => {
            let size = usize::try_from(*size).ok().filter(|size| *size <= 65_536);
            Some(size.ok_or_else(|| wrong("its batch is fixed to more than 65536 rows".to_owned()))?)
        }
        Some(DimValue::DimValue(size)) if *size < -1 => return Err(wrong(format!("its batch is {size}"))),
        _ => None,
    };
    let mut sizes = Vec::with_capacity(rest.len());
    for dim in rest {
        sizes.push(match &dim.value {
            Some(DimValue::DimValue(size)) if *size > 0 => Some(usize::try_from(*size).unwrap_or(usize::MAX)),
            Some(DimValue::DimValue(size)) if *size != -1 => {
                return Err(wrong(format!(
                    "a dimension beyond the batch is {size}, which is not positive"
                )));
            }
            _ => None,
        });
    }
    let sizes = bind(&sizes, features).map_err(|reason| wrong(format!("{} {reason}", shown(shape))))?;
    let dims = std::iter::once(Dim::Batch)
        .chain(sizes.into_iter().map(Dim::Fixed))
        .collect();
    let spec = TensorSpec {
        name: input.name.clone(),
        element,
        dims,
        classes: Vec::new(),
    };
    if spec.width() > MAX_WIDTH {
        return Err(wrong(format!("{} values per row, more than {MAX_WIDTH}", spec.width())));
    }
    Ok((spec, batch))
}

/// The sizes of the dimensions after the batch. One that the file leaves open is what `features` values per row leave for it.
fn bind(sizes: &[Option<usize>], features: Option<usize>) -> Result<Vec<usize>, String> {
    const EXPORT: &str = "export the model with numbers after the first dimension, as in [None, 6]";
    let fixed = sizes
        .iter()
        .flatten()
        .fold(1_usize, |product, size| product.saturating_mul(*size));
    let open = match (sizes.iter().filter(|size| size.is_none()).count(), features) {
        (0, _) => 0,
        (1, Some(features)) if features > 0 && features % fixed == 0 => features / fixed,
        (1, Some(features)) => {
            return Err(format!(
                "leaves a dimension open, and {features} features do not fill rows of {fixed} values: {EXPORT}"
            ));
        }
        (1, None) => return Err(format!("leaves a dimension open that is not the batch: {EXPORT}")),
        _ => return Err(format!("leaves several dimensions open beside the batch: {EXPORT}")),
    };
    Ok(sizes.iter().map(|size| size.unwrap_or(open)).collect())
}

/// A shape as exporters write it: `[batch, None, 6]`.
fn shown(shape: &[pb::tensor_shape_proto::Dimension]) -> String {
    use pb::tensor_shape_proto::dimension::Value as DimValue;
    let dims: Vec<String> = shape
        .iter()
        .map(|dim| match &dim.value {
            Some(DimValue::DimValue(size)) if *size >= 0 => size.to_string(),
            Some(DimValue::DimParam(name)) if !name.is_empty() => name.clone(),
            _ => "None".to_owned(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}
