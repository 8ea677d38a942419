//! What a model says of its inputs and outputs.

use std::fmt;

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// 32-bit float.
    Float,
    /// 64-bit float.
    Double,
    /// 64-bit signed integer.
    Int64,
    /// 32-bit signed integer.
    Int32,
    /// True or false.
    Boolean,
    /// Strings (class labels only; never an input).
    Text,
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ElementType::Float => "float",
            ElementType::Double => "double",
            ElementType::Int64 => "int64",
            ElementType::Int32 => "int32",
            ElementType::Boolean => "bool",
            ElementType::Text => "string",
        })
    }
}

/// One dimension of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The number of rows.
    Batch,
    /// A number that does not depend on the rows.
    Fixed(usize),
}

/// Name, element type and shape of a model's input or output. The first dimension is the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the ONNX graph.
    pub name: String,
    /// Type of the elements as the graph declares it.
    pub element: ElementType,
    /// `[batch]` or `[batch, ...]`.
    pub dims: Vec<Dim>,
    /// Class names of the columns, for an output that was a map from class to score (ZipMap);
    /// otherwise empty.
    pub classes: Vec<String>,
}

impl TensorSpec {
    /// Values per row: the product of all dimensions but the batch.
    pub fn width(&self) -> usize {
        self.dims
            .iter()
            .map(|dim| match dim {
                Dim::Batch => 1,
                Dim::Fixed(size) => *size,
            })
            .fold(1, usize::saturating_mul)
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[", self.name, self.element)?;
        for (i, dim) in self.dims.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match dim {
                Dim::Batch => f.write_str("rows")?,
                Dim::Fixed(size) => write!(f, "{size}")?,
            }
        }
        f.write_str("]")
    }
}
