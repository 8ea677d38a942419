//! A run of nodes that the general engine (tract) executes, compiled once per batch size.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tract_onnx::prelude::*;

use crate::graph::Graph;
use crate::onnx::{self, pb};
use crate::program::{Layout, Operator, Slot, Tables};
use crate::{ElementType, ModelError};

/// Scratch state of the general engine for one plan.
pub(crate) type State = tract_onnx::tract_core::internal::TypedSimpleState;

type Plan = Arc<TypedRunnableModel>;

/// A value that enters a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentInput {
    pub(crate) name: String,
    pub(crate) slot: Slot,
    pub(crate) element: ElementType,
    /// After the batch.
    pub(crate) dims: Vec<usize>,
}

/// A value that leaves a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentOutput {
    pub(crate) name: String,
    pub(crate) slot: Slot,
    pub(crate) element: ElementType,
    /// After the batch.
    pub(crate) dims: Vec<usize>,
}

/// Nodes compiled by the general engine.
#[derive(Debug)]
pub(crate) struct Segment {
    index: usize,
    inputs: Vec<SegmentInput>,
    outputs: Vec<Slot>,
    /// Per batch size, ascending.
    plans: Vec<(usize, Plan)>,
    memory_bytes: usize,
}

/// What a segment is compiled for.
pub(crate) struct SegmentLimits<'a> {
    pub(crate) batch_sizes: &'a [usize],
    /// Memory that the steps before need, in bytes.
    pub(crate) used_bytes: usize,
    /// Memory that all steps may need, in bytes.
    pub(crate) max_bytes: usize,
}

impl Segment {
    /// Compiles the nodes at `positions`, which are closed over `inputs` and constants.
    pub(crate) fn compile(
        model: &pb::ModelProto,
        graph: &Graph<'_>,
        positions: &[usize],
        inputs: Vec<SegmentInput>,
        limits: &SegmentLimits<'_>,
        layout: &mut Layout,
    ) -> Result<(Segment, Vec<SegmentOutput>), ModelError> {
        let mut proto = extract(model, graph, positions);
        let wanted: Vec<String> = proto
            .graph
            .iter()
            .flat_map(|graph| &graph.output)
            .map(|output| output.name.clone())
            .collect();
        let mut plans = Vec::new();
        let mut memory_bytes = 0_usize;
        let mut facts: Option<Vec<(ElementType, Vec<usize>)>> = None;
        for &batch in limits.batch_sizes {
            if let Some(graph) = &mut proto.graph {
                graph.input = inputs.iter().map(|input| declare(input, batch)).collect();
            }
            let used = limits.used_bytes.saturating_add(memory_bytes);
            let (plan, bytes) = plan(&proto, graph, positions, used, limits.max_bytes)?;
            memory_bytes = memory_bytes.saturating_add(bytes);
            let mut seen = Vec::with_capacity(wanted.len());
            for (name, outlet) in wanted.iter().zip(plan.model().outputs.iter()) {
                let fact = plan.model().outlet_fact(*outlet).map_err(|error| refused(&error))?;
                seen.push(rows_of(name, fact, batch)?);
            }
            if facts.as_ref().is_some_and(|facts| *facts != seen) {
                return Err(ModelError::Shape {
                    tensor: wanted.join(", "),
                    reason: "the width changes with the number of rows".to_owned(),
                });
            }
            facts = Some(seen);
            plans.push((batch, plan));
        }
        let mut outputs = Vec::new();
        for (name, (element, dims)) in wanted.into_iter().zip(facts.unwrap_or_default()) {
            let width = dims.iter().product();
            let slot = match element {
                ElementType::Float | ElementType::Double => Slot::Floats(layout.add_floats(width)),
                _ => Slot::Ints(layout.add_ints(width)),
            };
            outputs.push(SegmentOutput {
                name,
                slot,
                element,
                dims,
            });
        }
        let segment = Segment {
            index: layout.segments,
            inputs,
            outputs: outputs.iter().map(|output| output.slot).collect(),
            plans,
            memory_bytes,
        };
        layout.segments += 1;
        Ok((segment, outputs))
    }
}

impl Operator for Segment {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let failed = |error: TractError| ModelError::Run {
            reason: format!("{error:#}"),
        };
        let (number, plan) = self
            .plans
            .iter()
            .enumerate()
            .find_map(|(number, (batch, plan))| (*batch == rows).then_some((number, plan)))
            .ok_or_else(|| ModelError::Run {
                reason: format!("no plan was compiled for {rows} rows"),
            })?;
        let mut inputs = TVec::new();
        for input in &self.inputs {
            inputs.push(tensor(input, rows, tables).map_err(failed)?.into_tvalue());
        }
        let states = tables.engine.get_mut(self.index).ok_or_else(|| ModelError::Run {
            reason: "the session belongs to another model".to_owned(),
        })?;
        states.resize_with(self.plans.len(), || None);
        // The state is put back only after a good run: a failed one may have left it half done.
        let mut state = match states.get_mut(number).and_then(Option::take) {
            Some(state) => state,
            None => plan.spawn().map_err(failed)?,
        };
        let results = state.run(inputs).map_err(failed)?;
        if let Some(place) = states.get_mut(number) {
            *place = Some(state);
        }
        for (result, slot) in results.iter().zip(&self.outputs) {
            store(result, *slot, tables).map_err(failed)?;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

/// The part of the graph that the segment is.
fn extract(model: &pb::ModelProto, graph: &Graph<'_>, positions: &[usize]) -> pb::ModelProto {
    let inside: FxHashSet<usize> = positions.iter().copied().collect();
    let nodes: Vec<&pb::NodeProto> = positions
        .iter()
        .filter_map(|position| graph.nodes.get(*position).copied())
        .collect();
    let mut initializers: FxHashMap<&str, pb::TensorProto> = FxHashMap::default();
    for name in nodes.iter().flat_map(|node| &node.input) {
        if let Some(tensor) = graph.initializers.get(name.as_str()) {
            let named = pb::TensorProto {
                name: name.clone(),
                ..(*tensor).clone()
            };
            initializers.insert(name, named);
        }
    }
    let outputs = nodes
        .iter()
        .flat_map(|node| &node.output)
        .filter(|name| !name.is_empty() && graph.used_outside(name, &inside))
        .map(|name| pb::ValueInfoProto {
            name: name.clone(),
            ..Default::default()
        })
        .collect();
    pb::ModelProto {
        ir_version: model.ir_version,
        opset_import: model.opset_import.clone(),
        graph: Some(pb::GraphProto {
            node: nodes.into_iter().cloned().collect(),
            initializer: initializers.into_values().collect(),
            output: outputs,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// An input with a fixed batch.
fn declare(input: &SegmentInput, batch: usize) -> pb::ValueInfoProto {
    use pb::tensor_proto::DataType;
    let dim = |size: usize| pb::tensor_shape_proto::Dimension {
        value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(size as i64)),
        ..Default::default()
    };
    let element = match input.element {
        ElementType::Float => DataType::Float,
        ElementType::Double => DataType::Double,
        ElementType::Int64 | ElementType::Text => DataType::Int64,
        ElementType::Int32 => DataType::Int32,
        ElementType::Boolean => DataType::Bool,
    };
    pb::ValueInfoProto {
        name: input.name.clone(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(pb::type_proto::Tensor {
                elem_type: element as i32,
                shape: Some(pb::TensorShapeProto {
                    dim: std::iter::once(batch)
                        .chain(input.dims.iter().copied())
                        .map(dim)
                        .collect(),
                }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn refused(error: &TractError) -> ModelError {
    ModelError::Broken {
        reason: format!("{error:#}"),
    }
}

/// Compiles for one batch size; the memory is known from the shapes before anything is optimised.
fn plan(
    proto: &pb::ModelProto,
    graph: &Graph<'_>,
    positions: &[usize],
    used: usize,
    limit: usize,
) -> Result<(Plan, usize), ModelError> {
    let onnx = tract_onnx::onnx();
    for node in positions.iter().filter_map(|position| graph.nodes.get(*position)) {
        if !onnx.op_register.0.contains_key(&node.op_type) {
            return Err(onnx::unsupported(node, "the engine does not know it"));
        }
    }
    let model = onnx.model_for_proto_model(proto).map_err(|error| refused(&error))?;
    let model = model.into_typed().map_err(|error| refused(&error))?;
    let mut bytes = 0_usize;
    for node in &model.nodes {
        for output in &node.outputs {
            let Some(shape) = output.fact.shape.as_concrete() else {
                return Err(ModelError::Shape {
                    tensor: node.name.clone(),
                    reason: "it depends on data".to_owned(),
                });
            };
            let elements = shape.iter().fold(1_usize, |product, dim| product.saturating_mul(*dim));
            bytes = bytes.saturating_add(elements.saturating_mul(output.fact.datum_type.size_of()));
        }
    }
    let needed = used.saturating_add(bytes);
    if needed > limit {
        return Err(ModelError::Memory { needed, limit });
    }
    let plan = model
        .into_optimized()
        .and_then(|model| model.into_runnable())
        .map_err(|error| refused(&error))?;
    Ok((plan, bytes))
}

/// Element type and dimensions after the batch of a value that leaves the segment.
fn rows_of(name: &str, fact: &TypedFact, batch: usize) -> Result<(ElementType, Vec<usize>), ModelError> {
    let wrong = |reason: String| ModelError::Shape {
        tensor: name.to_owned(),
        reason,
    };
    let shape = fact
        .shape
        .as_concrete()
        .ok_or_else(|| wrong("it depends on data".to_owned()))?;
    let dims = match shape.split_first() {
        Some((first, dims)) if *first == batch => dims.to_vec(),
        _ => {
            return Err(wrong(format!(
                "its first dimension is not the batch: {shape:?} for {batch} rows"
            )));
        }
    };
    let element = match fact.datum_type {
        DatumType::F32 => ElementType::Float,
        DatumType::F64 => ElementType::Double,
        DatumType::I64 => ElementType::Int64,
        DatumType::I32 => ElementType::Int32,
        DatumType::Bool => ElementType::Boolean,
        other => {
            return Err(ModelError::UnsupportedElement {
                tensor: name.to_owned(),
                element: format!("{other:?}").to_lowercase(),
                reason: "results are floats, doubles, integers or booleans".to_owned(),
            });
        }
    };
    Ok((element, dims))
}

fn tensor(input: &SegmentInput, rows: usize, tables: &Tables) -> TractResult<Tensor> {
    let shape: TVec<usize> = std::iter::once(rows).chain(input.dims.iter().copied()).collect();
    match (input.slot, input.element) {
        (Slot::Floats(table), ElementType::Double) => {
            let values: Vec<f64> = tables.floats(table).iter().map(|&value| f64::from(value)).collect();
            Tensor::from_shape(&shape, &values)
        }
        (Slot::Floats(table), _) => Tensor::from_shape(&shape, tables.floats(table)),
        (Slot::Ints(table), ElementType::Int32) => {
            let values: Vec<i32> = tables.ints(table).iter().map(|&value| value as i32).collect();
            Tensor::from_shape(&shape, &values)
        }
        (Slot::Ints(table), ElementType::Boolean) => {
            let values: Vec<bool> = tables.ints(table).iter().map(|&value| value != 0).collect();
            Tensor::from_shape(&shape, &values)
        }
        (Slot::Ints(table), _) => Tensor::from_shape(&shape, tables.ints(table)),
    }
}

fn store(result: &TValue, slot: Slot, tables: &mut Tables) -> TractResult<()> {
    match slot {
        Slot::Floats(table) => {
            let mut out = tables.take_floats(table);
            out.clear();
            let cast = result.cast_to::<f32>()?;
            out.extend_from_slice(cast.try_as_plain_ram()?.as_slice::<f32>()?);
            tables.put_floats(table, out);
        }
        Slot::Ints(table) => {
            let mut out = tables.take_ints(table);
            out.clear();
            let cast = result.cast_to::<i64>()?;
            out.extend_from_slice(cast.try_as_plain_ram()?.as_slice::<i64>()?);
            tables.put_ints(table, out);
        }
    }
    Ok(())
}
