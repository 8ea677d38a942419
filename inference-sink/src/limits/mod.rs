//! Limits of a tenant: events per second, for the whole cluster.
//!
//! Each task enforces the tenant's rate times its own share of the input's partitions (`governor`'s GCRA). What happens
//! over the limit is the tenant's choice: wait (the models detach), sample or shed.

mod rate;

pub use rate::{RateLimit, Verdict};
