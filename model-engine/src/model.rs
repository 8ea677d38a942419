//! A loaded, checked, immutable model.

mod session;

pub use session::Session;

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::compile::{self, Program};
use crate::error::contain;
use crate::{Batching, ElementType, Limits, ModelError, OutputSelector, TensorSpec, batching, onnx};

/// A model that was loaded and checked. Immutable; shared by `Arc` between the sessions that run it.
#[derive(Debug)]
pub struct Model {
    pub(crate) program: Program,
    batching: Batching,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    sha256: String,
}

impl Model {
    /// Reads an ONNX file, checks it against `limits` and compiles it for each batch size.
    ///
    /// Refused, with the name of what is wrong: broken or oversized files, tensors outside of the
    /// file, operators that are not supported, loops and branches, shapes that depend on data or are
    /// dynamic beyond the first dimension, inputs that are not numbers, more memory than allowed.
    /// A panic of the engine is caught and is an error like any other.
    ///
    /// A model whose rows change each other's answers is compiled for one row at a time, see [`Self::batching`].
    pub fn load(onnx: &[u8], limits: &Limits) -> Result<Model, ModelError> {
        Model::load_for(onnx, limits, &|_| None)
    }

    /// As [`Self::load`]. `features` says how many values each row of an input will have, by the input's name: they say a
    /// dimension that the file leaves open, as in `[None, None]`.
    pub fn load_for(
        onnx: &[u8],
        limits: &Limits,
        features: &dyn Fn(&str) -> Option<usize>,
    ) -> Result<Model, ModelError> {
        if onnx.len() > limits.max_bytes {
            return Err(ModelError::TooLarge {
                bytes: onnx.len(),
                limit: limits.max_bytes,
            });
        }
        let ascending = limits.batch_sizes.windows(2).all(|pair| pair.first() < pair.last());
        if !ascending || limits.batch_sizes.first().is_none_or(|first| *first == 0) {
            return Err(ModelError::BatchSizes {
                sizes: limits.batch_sizes.clone(),
            });
        }
        let (program, batching) = contain("loaded", || {
            let proto = onnx::decode(onnx)?;
            let program = compile::compile(&proto, limits, features)?;
            batching::settle(&proto, limits, features, program)
        })?;
        Ok(Model {
            batching,
            inputs: program.inputs.iter().map(|(spec, _)| spec.clone()).collect(),
            outputs: program.outputs.iter().map(|(spec, _)| spec.clone()).collect(),
            sha256: Sha256::digest(onnx).iter().map(|byte| format!("{byte:02x}")).collect(),
            program,
        })
    }

    /// The inputs, in the graph's order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// The outputs, in the graph's order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// SHA-256 of the artifact, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Weights and activations of every compiled batch size, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.program.memory_bytes
    }

    /// Whether its rows are run together, and why not.
    pub fn batching(&self) -> &Batching {
        &self.batching
    }

    /// The batch sizes that runs are cut into, ascending: those of [`Limits`], the one that the file fixes, or 1 where rows are
    /// run one by one.
    pub fn batch_sizes(&self) -> &[usize] {
        &self.program.batch_sizes
    }

    /// Refuses a number of features that an input does not take.
    pub fn check_width(&self, input: usize, features: usize) -> Result<(), ModelError> {
        let Some(spec) = self.inputs.get(input) else {
            return Err(ModelError::InputCount {
                expected: self.inputs.len(),
                got: input + 1,
            });
        };
        if spec.width() == features {
            return Ok(());
        }
        Err(ModelError::InputWidth {
            input: spec.name.clone(),
            expected: spec.width(),
            got: features,
        })
    }

    /// Reads an output selector: `label`, `variable`, `probabilities[1]`. The bracket is the column,
    /// counted from 0 (row-major over the dimensions after the batch), or the class for the output of
    /// a ZipMap; it may be left out where there is one column.
    pub fn selector(&self, text: &str) -> Result<OutputSelector, ModelError> {
        let refuse = |reason: String| ModelError::Selector {
            text: text.to_owned(),
            reason,
            outputs: self
                .outputs
                .iter()
                .map(TensorSpec::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        };
        let (name, column) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((name, column)) => (name, Some(column.trim())),
            None => (text, None),
        };
        let (output, spec) = self
            .outputs
            .iter()
            .enumerate()
            .find(|(_, output)| output.name == name)
            .ok_or_else(|| refuse(format!("there is no output '{name}'")))?;
        let width = spec.width();
        let column = match column {
            None if width == 1 => 0,
            None => return Err(refuse(format!("it has {width} columns; name one, as in {name}[0]"))),
            Some(class) if !spec.classes.is_empty() => {
                let class = class.trim_matches(['"', '\'']);
                spec.classes
                    .iter()
                    .position(|known| known == class)
                    .ok_or_else(|| refuse(format!("there is no class '{class}' among {}", spec.classes.join(", "))))?
            }
            Some(column) => column
                .parse::<usize>()
                .ok()
                .filter(|column| *column < width)
                .ok_or_else(|| {
                    refuse(format!(
                        "'{column}' is not a column from 0 to {}",
                        width.saturating_sub(1)
                    ))
                })?,
        };
        Ok(OutputSelector {
            output,
            column,
            element: spec.element,
        })
    }

    /// A new session with scratch memory of its own.
    pub fn session(self: &Arc<Self>) -> Session {
        Session::new(self.clone())
    }
}

impl OutputSelector {
    /// Type of the values: text for string labels, otherwise a number.
    pub fn element(&self) -> ElementType {
        self.element
    }
}
