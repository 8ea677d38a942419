//! A run of nodes that the general engine (tract) executes, compiled once per batch size.

mod independence;
mod recurrent;
mod refusal;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tract_onnx::prelude::*;

use self::refusal::Nodes;
use crate::graph::Graph;
use crate::onnx::{self, pb};
use crate::program::{Layout, Operator, Slot, Stored, Table, Tables};
use crate::{ElementType, ModelError};

/// The nodes compiled for one batch size.
#[derive(Debug)]
struct Plan {
    batch: usize,
    runnable: Arc<TypedRunnableModel>,
    /// Whether the engine keeps something from one run of a state to the next, as recurrent operators do.
    carries: bool,
}

/// A value that enters a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentInput {
    pub(crate) name: String,
    pub(crate) slot: Slot,
    pub(crate) element: ElementType,
    /// After the batch.
    pub(crate) dims: Vec<usize>,
    /// The batch is the last dimension of a `[1, rows]` tensor.
    pub(crate) batch_last: bool,
}

impl SegmentInput {
    fn shape(&self, rows: usize) -> TVec<usize> {
        match self.batch_last {
            true => tvec![1, rows],
            false => std::iter::once(rows).chain(self.dims.iter().copied()).collect(),
        }
    }

    fn batch_axis(&self) -> usize {
        usize::from(self.batch_last)
    }
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
    /// Ascending by batch size.
    plans: Vec<Plan>,
    memory_bytes: usize,
    /// A node that is not known to compute the rows of a batch apart from each other.
    mixing_node: Option<String>,
    nodes: Nodes,
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
        let nodes = Nodes::new(graph, positions, &inputs);
        let wanted: Vec<String> = proto
            .graph
            .iter()
            .flat_map(|graph| &graph.output)
            .map(|output| output.name.clone())
            .collect();
        let mut plans = Vec::new();
        let mut memory_bytes = 0_usize;
        let mut mixing_node = None;
        let mut facts: Option<Vec<(ElementType, Vec<usize>)>> = None;
        for &batch in limits.batch_sizes {
            if let Some(graph) = &mut proto.graph {
                graph.input = inputs.iter().map(|input| declare(input, batch)).collect();
            }
            let used = limits.used_bytes.saturating_add(memory_bytes);
            let (model, bytes) = typed(&proto, &nodes, used, limits.max_bytes)?;
            memory_bytes = memory_bytes.saturating_add(bytes);
            let mut seen = Vec::with_capacity(wanted.len());
            for (name, outlet) in wanted.iter().zip(&model.outputs) {
                let fact = model.outlet_fact(*outlet).map_err(|error| nodes.refused(&error))?;
                seen.push(rows_of(name, fact, batch)?);
            }
            if facts.as_ref().is_some_and(|facts| *facts != seen) {
                return Err(ModelError::Shape {
                    tensor: wanted.join(", "),
                    reason: "the width changes with the number of rows".to_owned(),
                });
            }
            facts = Some(seen);
            let (plan, mixing) = plan(model, &inputs, batch).map_err(|error| nodes.refused(&error))?;
            mixing_node = mixing_node.or(mixing);
            plans.push(plan);
        }
        let mut outputs = Vec::new();
        for (name, (element, dims)) in wanted.into_iter().zip(facts.unwrap_or_default()) {
            let slot = layout.slot(element, dims.iter().product());
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
            mixing_node,
            nodes,
        };
        layout.segments += 1;
        Ok((segment, outputs))
    }

    /// Name of a node that is not known to compute the rows of a batch apart from each other; none: all of them do.
    pub(crate) fn mixing_node(&self) -> Option<&str> {
        self.mixing_node.as_deref()
    }
}

impl Operator for Segment {
    fn run(&self, rows: usize, tables: &mut Tables) -> Result<(), ModelError> {
        let failed = |error: TractError| self.nodes.failed(&error);
        let (number, plan) = self
            .plans
            .iter()
            .enumerate()
            .find(|(_, plan)| plan.batch == rows)
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
        // A state is put back only after a good run (a failed one may have left it half done), and only if it is nothing but
        // memory: where the engine carries something on, every run has a state of its own.
        let mut state = match states.get_mut(number).and_then(Option::take) {
            Some(state) => state,
            None => plan.runnable.spawn().map_err(failed)?,
        };
        let results = state.run(inputs).map_err(failed)?;
        if let Some(place) = states.get_mut(number).filter(|_| !plan.carries) {
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
            // The engine's messages name nodes, and so must those that have no name.
            node: nodes.into_iter().map(named).collect(),
            initializer: initializers.into_values().collect(),
            output: outputs,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn named(node: &pb::NodeProto) -> pb::NodeProto {
    pb::NodeProto {
        name: onnx::node_name(node),
        ..node.clone()
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
                    dim: input.shape(batch).into_iter().map(dim).collect(),
                }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The graph for one batch size, and its memory, which is known from the shapes before anything is optimised.
fn typed(proto: &pb::ModelProto, nodes: &Nodes, used: usize, limit: usize) -> Result<(TypedModel, usize), ModelError> {
    let onnx = tract_onnx::onnx();
    for node in proto.graph.iter().flat_map(|graph| &graph.node) {
        if !onnx.op_register.0.contains_key(&node.op_type) {
            return Err(onnx::unsupported(node, "the engine does not know it"));
        }
    }
    let model = onnx
        .model_for_proto_model(proto)
        .map_err(|error| nodes.refused(&error))?;
    let model = model.into_typed().map_err(|error| nodes.refused(&error))?;
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
    Ok((model, bytes))
}

/// Compiles the graph for one batch size. Also a node that may mix the rows of a batch.
fn plan(model: TypedModel, inputs: &[SegmentInput], batch: usize) -> TractResult<(Plan, Option<String>)> {
    let mut model = model.into_decluttered()?;
    recurrent::multiply_single_inputs(&mut model)?;
    let mixing_node = match batch {
        1 => None,
        _ => {
            let axes: Vec<Option<usize>> = inputs.iter().map(|input| Some(input.batch_axis())).collect();
            independence::first_mixing_node(&model, &axes)?
        }
    };
    let runnable = model.into_optimized()?.into_runnable()?;
    let carries = runnable.spawn()?.op_states.iter().any(Option::is_some);
    let plan = Plan {
        batch,
        runnable,
        carries,
    };
    Ok((plan, mixing_node))
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
        // The engine's type of sizes, which are int64 in ONNX.
        DatumType::I64 | DatumType::TDim => ElementType::Int64,
        DatumType::I32 => ElementType::Int32,
        DatumType::Bool => ElementType::Boolean,
        other => {
            return Err(ModelError::UnsupportedElement {
                tensor: name.to_owned(),
                element: onnx_name(other),
                reason: "results are float, double, int64, int32 or bool; add a Cast when the model is exported"
                    .to_owned(),
            });
        }
    };
    Ok((element, dims))
}

/// An element type as ONNX calls it.
fn onnx_name(datum_type: DatumType) -> String {
    let name = match datum_type.unquantized() {
        DatumType::F16 => "float16",
        DatumType::I8 => "int8",
        DatumType::I16 => "int16",
        DatumType::U8 => "uint8",
        DatumType::U16 => "uint16",
        DatumType::U32 => "uint32",
        DatumType::U64 => "uint64",
        DatumType::String => "string",
        _ => "another than these",
    };
    name.to_owned()
}

fn tensor(input: &SegmentInput, rows: usize, tables: &Tables) -> TractResult<Tensor> {
    let shape = input.shape(rows);
    match (input.slot, input.element) {
        (Slot::Floats(table), _) => Tensor::from_shape(&shape, tables.get(table)),
        (Slot::Doubles(table), _) => Tensor::from_shape(&shape, tables.get(table)),
        (Slot::Ints(table), ElementType::Int32) => {
            let values = tables.get(table).iter().map(|&value| i32::try_from(value));
            Tensor::from_shape(&shape, &values.collect::<Result<Vec<i32>, _>>()?)
        }
        (Slot::Ints(table), ElementType::Boolean) => {
            let values: Vec<bool> = tables.get(table).iter().map(|&value| value != 0).collect();
            Tensor::from_shape(&shape, &values)
        }
        (Slot::Ints(table), _) => Tensor::from_shape(&shape, tables.get(table)),
    }
}

fn store(result: &TValue, slot: Slot, tables: &mut Tables) -> TractResult<()> {
    match slot {
        Slot::Floats(table) => copy(result, table, tables),
        Slot::Doubles(table) => copy(result, table, tables),
        Slot::Ints(table) => copy(result, table, tables),
    }
}

/// Copies a result of the table's type; the types of integers and booleans become the integers of tables.
fn copy<T: Stored + Datum>(result: &TValue, table: Table<T>, tables: &mut Tables) -> TractResult<()> {
    let mut out = tables.take(table);
    out.clear();
    let cast = result.cast_to::<T>()?;
    out.extend_from_slice(cast.try_as_plain_ram()?.as_slice::<T>()?);
    tables.put(table, out);
    Ok(())
}
