//! The registry of tenants, stores, feature views and models: one compacted topic per cluster.
//!
//! ```text
//! PUT -> check (pure: everything that is wrong, by field) -> topic -> fold (pure) -> Resources
//!                                                                        |
//!                     loader thread: artifacts, warming -> Deployment <--'   what tasks take over at a barrier
//! ```

pub mod check;
mod deployment;
pub mod fold;
mod internal_topics;
pub mod layout;
pub mod model_views;
mod topic;

pub use deployment::{Deployment, Loader, ModelState};
pub use fold::{Kind, ModelControl, ModelInputs, RecordKey, Resources};
pub use internal_topics::InternalTopics;
pub use layout::Layout;
pub use topic::RegistryTopic;
