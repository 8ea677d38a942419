//! Who runs next: deficit round robin, charged in measured CPU microseconds.

mod drr;
mod fairness;

pub use drr::{Drr, FlowId, Grant, Next, TenantId};
pub use fairness::{Demand, fairness_index};
