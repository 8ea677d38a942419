//! Whether a model's rows may be run together: those of a batch are different events', and none may change another's answer.

use crate::compile::{self, Program};
use crate::onnx::{self, pb};
use crate::trial::{self, Trial};
use crate::{Limits, ModelError};

/// How the rows of a model are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batching {
    /// In batches: the rows of a batch do not change each other's answers.
    Together {
        /// An operator for which that was shown by trial only; none: it is proven from the graph.
        by_trial: Option<String>,
    },
    /// One by one.
    OneByOne {
        /// Why.
        reason: String,
    },
}

/// Brings a program to the batch sizes that its rows may be run in.
///
/// # Errors
/// The file fixes a batch of several rows, and these are not apart from each other.
pub(crate) fn settle(
    proto: &pb::ModelProto,
    limits: &Limits,
    widths: compile::Widths<'_>,
    program: Program,
) -> Result<(Program, Batching), ModelError> {
    if program.file_batch == Some(1) {
        let reason = "the file fixes its batch to one row".to_owned();
        return Ok((program, Batching::OneByOne { reason }));
    }
    // Our own operators work row by row.
    let mixing = if program.has_segments {
        mixes(proto, &program)
    } else {
        Ok(None)
    };
    let reason = match mixing {
        Ok(by_trial) => return Ok((program, Batching::Together { by_trial })),
        Err(reason) => reason,
    };
    if let Some(batch) = program.file_batch {
        return Err(ModelError::RowsMixed { batch, reason });
    }
    let one = Limits {
        batch_sizes: vec![1],
        ..limits.clone()
    };
    Ok((compile::compile(proto, &one, widths)?, Batching::OneByOne { reason }))
}

/// Whether rows may be run together, with the operator for which only a trial shows it; error: why they may not.
fn mixes(proto: &pb::ModelProto, program: &Program) -> Result<Option<String>, String> {
    let Some(engine_node) = &program.mixing_node else {
        return match trial::between_sizes(program) {
            Trial::Differs { output, by } => Err(format!(
                "'{output}' of the same row differs by {by} between batches of different sizes"
            )),
            Trial::Same | Trial::Failed(_) => Ok(None),
        };
    };
    let suspect = match onnx::node_of_engine(proto, engine_node) {
        Some(node) => format!("{} of node '{}'", onnx::operator_name(node), onnx::node_name(node)),
        None => format!("node '{engine_node}'"),
    };
    match trial::within_batches(program) {
        Trial::Differs { output, by } => Err(format!(
            "{suspect} computes over all rows of a batch: '{output}' of a row differs by {by} with the rows beside it"
        )),
        Trial::Failed(error) => Err(format!(
            "{suspect} may compute over all rows of a batch, and no trial could show that it does not: {error}"
        )),
        Trial::Same => match trial::between_sizes(program) {
            Trial::Differs { output, by } => Err(format!(
                "{suspect}: '{output}' of the same row differs by {by} between batches of different sizes"
            )),
            Trial::Same | Trial::Failed(_) => Ok(Some(suspect)),
        },
    }
}
