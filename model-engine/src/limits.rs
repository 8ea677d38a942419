//! What a model may cost.

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
