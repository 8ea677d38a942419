//! A loaded, checked, immutable model.

use std::sync::Arc;

use crate::{ModelError, OutputSelector, Session, TensorSpec};

/// What a model may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest artifact, in bytes.
    pub max_bytes: usize,
    /// Largest sum of weights and activations over all compiled batch sizes, in bytes.
    pub max_memory_bytes: usize,
    /// Batch sizes to compile, ascending, such as `[1, 8, 64]`.
    pub batch_sizes: Vec<usize>,
}

impl Default for Limits {
    /// 64 MiB of artifact, 256 MiB of memory, batches of 1, 8 and 64 rows.
    fn default() -> Self {
        Limits {
            max_bytes: 64 << 20,
            max_memory_bytes: 256 << 20,
            batch_sizes: vec![1, 8, 64],
        }
    }
}

/// A model that was loaded and checked. Immutable; shared by `Arc` between the sessions that run it.
#[derive(Debug)]
pub struct Model {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    sha256: String,
    memory_bytes: usize,
    batch_sizes: Vec<usize>,
}

impl Model {
    /// Reads an ONNX file, checks it against `limits` and compiles it for each batch size.
    pub fn load(onnx: &[u8], limits: &Limits) -> Result<Model, ModelError> {
        if onnx.len() > limits.max_bytes {
            return Err(ModelError::TooLarge {
                bytes: onnx.len(),
                limit: limits.max_bytes,
            });
        }
        Err(ModelError::NoOutputs)
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
        self.memory_bytes
    }

    /// The compiled batch sizes, ascending.
    pub fn batch_sizes(&self) -> &[usize] {
        &self.batch_sizes
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

    /// Reads an output selector: `label`, `variable`, `probabilities[1]`. The bracket is the column
    /// (row-major over the dimensions after the batch), or the class for a ZipMap's output.
    pub fn selector(&self, text: &str) -> Result<OutputSelector, ModelError> {
        Err(ModelError::Selector {
            text: text.to_owned(),
            reason: "there is no such output".to_owned(),
            outputs: String::new(),
        })
    }

    /// A new session with scratch memory of its own.
    pub fn session(self: &Arc<Self>) -> Session {
        Session::new(self.clone())
    }
}
