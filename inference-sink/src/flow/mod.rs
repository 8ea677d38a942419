//! Flows: rows of one model in one task, queued, scheduled and run.
//!
//! ```text
//! task --RowBlock--> queue (per model and task) --ready--> pool: deficit round robin over tenants
//!                      ^                                     |
//!                      | finish(cost)                        v  grant(budget)
//!                      '------------- executor thread: take -> run -> encode -> outbox of the task
//! ```

mod executor;
mod outbox;
mod pool;
mod queue;
mod rows;

pub use outbox::{BatchResult, Outbox};
pub use pool::{Flow, Pool, TenantFigures};
pub use queue::{Batch, FlowQueue};
pub use rows::{RowBlock, RowMeta, RowSource};
