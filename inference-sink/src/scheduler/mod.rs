//! Who runs next: deficit round robin, charged in measured CPU microseconds.

mod drr;
mod jain;

pub use drr::{Drr, FlowId, Grant, Next, TenantId};
pub use jain::jain_index;
