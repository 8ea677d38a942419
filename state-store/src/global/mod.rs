//! Global stores: a whole compacted topic on every worker.

pub mod marker;
