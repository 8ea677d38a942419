//! Single message transforms: the chain of a connector, and the built-in classes (contract part 6).
//!
//! ```text
//!   record -> [predicate?] transform A -> [predicate?] transform B -> ... -> record, or dropped
//! ```

mod chain;

pub(crate) use chain::TransformChain;

use connect_api::{PredicatePlugin, TransformationPlugin};
use std::sync::Arc;

/// Every built-in transformation.
pub fn plugins() -> Vec<Arc<dyn TransformationPlugin>> {
    Vec::new()
}

/// Every built-in predicate.
pub fn predicates() -> Vec<Arc<dyn PredicatePlugin>> {
    Vec::new()
}
