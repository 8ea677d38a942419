//! Why a model is refused, or a run failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::ElementType;

/// Error of loading or running a model. The text names the node, tensor or limit, and is shown to
/// the tenant as it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// The artifact is larger than `Limits::max_bytes`.
    #[error("the model has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Size of the artifact.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not an ONNX model, or contradict themselves.
    #[error("not a usable ONNX model: {reason}")]
    Broken {
        /// What is wrong.
        reason: String,
    },
    /// A version of the file format or of an operator set that this engine does not know.
    #[error("{what} is not known: {reason}")]
    Version {
        /// `IR version 99`, `opset 99 of domain ai.onnx`.
        what: String,
        /// What is known, and what to do.
        reason: String,
    },
    /// The graph has no outputs (or none is computed).
    #[error("the model has no outputs")]
    NoOutputs,
    /// The graph has no inputs.
    #[error("the model has no inputs")]
    NoInputs,
    /// An operator that is not supported, or a use of it.
    #[error("operator {operator} of node '{node}' is not supported: {reason}")]
    UnsupportedOperator {
        /// `Loop`, or `ai.onnx.ml.LabelEncoder`.
        operator: String,
        /// Name of the node, or of its first output where it has no name.
        node: String,
        /// Why.
        reason: String,
    },
    /// An element type that cannot be fed or read.
    #[error("tensor '{tensor}' has element type {element}, which is not supported: {reason}")]
    UnsupportedElement {
        /// Name of the input or output.
        tensor: String,
        /// Its type.
        element: String,
        /// What is.
        reason: String,
    },
    /// A shape that is missing, dynamic beyond the batch, or wrong.
    #[error("shape of '{tensor}': {reason}")]
    Shape {
        /// Name of the tensor or node.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// The memory that the shapes ask for is over `Limits::max_memory_bytes`.
    #[error("the model needs {needed} bytes of memory, more than the limit of {limit}")]
    Memory {
        /// Weights and activations of every compiled batch size.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// The file fixes a batch of several rows, and the rows change each other's answers.
    #[error(
        "the file fixes its batch to {batch} rows, which change each other's answers: {reason}; export it with an open batch, or a batch of 1"
    )]
    RowsMixed {
        /// Rows of the batch.
        batch: usize,
        /// How that is known.
        reason: String,
    },
    /// `Limits::batch_sizes` is empty, not ascending, or has a zero.
    #[error("batch sizes {sizes:?} must be ascending and above zero")]
    BatchSizes {
        /// As given.
        sizes: Vec<usize>,
    },
    /// An output selector that matches nothing.
    #[error("output '{text}': {reason}; the model has {outputs}")]
    Selector {
        /// As written.
        text: String,
        /// What is wrong with it.
        reason: String,
        /// The outputs there are.
        outputs: String,
    },
    /// Rows of another type than the input's elements.
    #[error("input '{input}' takes elements of type {expected}, {got} were given")]
    InputElement {
        /// Name of the input.
        input: String,
        /// Type of its elements.
        expected: ElementType,
        /// Type given.
        got: ElementType,
    },
    /// A run with another number of inputs than the model has.
    #[error("{got} inputs were given, the model has {expected}")]
    InputCount {
        /// Inputs of the model.
        expected: usize,
        /// Inputs given.
        got: usize,
    },
    /// A number of features that is not the input's width.
    #[error("input '{input}' takes {expected} features per row, {got} were given")]
    InputWidth {
        /// Name of the input.
        input: String,
        /// Features per row of the input.
        expected: usize,
        /// Features given.
        got: usize,
    },
    /// The engine failed on a run.
    #[error("the run failed: {reason}")]
    Run {
        /// The engine's text.
        reason: String,
    },
    /// The engine panicked; the panic was caught and stays in this model.
    #[error("the model made the engine panic while it was {stage}: {message}")]
    Panicked {
        /// `loaded` or `run`.
        stage: &'static str,
        /// The panic's text.
        message: String,
    },
}

/// Runs `work` and turns a panic inside into an error of this model.
pub(crate) fn contain<T>(stage: &'static str, work: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(ModelError::Panicked { stage, message })
    })
}
