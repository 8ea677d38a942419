//! The worker's configuration: from a Java properties file to typed settings and to the settings of Kafka clients.
//!
//! ```text
//!   bytes --properties::parse--> text --ConfigProviders::resolve--> definition --> WorkerConfig --> ClientSettings
//! ```

mod clients;
mod definition;
mod header_rule;
mod json;
pub mod properties;
mod providers;
mod worker;

pub use clients::{ClientKind, OverridePolicy};
pub use definition::definition;
pub(crate) use header_rule::header_rule;
pub(crate) use json::config_json;
pub use providers::{ConfigProviders, parameters as provider_parameters};
pub use worker::{WorkerConfig, WorkerConfigError};
