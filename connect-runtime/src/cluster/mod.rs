//! The cluster's state and what follows from it: pure, over explicit time.
//!
//! ```text
//!   ConfigRecord* --fold--> ClusterState --round--> who runs what: the leader's word to each member
//!                                |                        |
//!                                |                        +--share--> what of it runs here
//!                                +--task_configs--> what a connector publishes
//!                                `--restart-------> which connector and tasks a restart means
//! ```

pub mod fold;
pub mod restart;
pub mod round;
pub mod share;
pub(crate) mod task_configs;
