//! End-to-end tests, and the harness that starts real services for them.
//!
//! ```text
//!  tests/*.rs -> KafkaBroker (Apache Kafka, fetched by scripts/kafka.sh) -> clients under test
//!             -> S3Server (versitygw, built by scripts/s3-server.sh), FaultProxy before any of them
//!             -> WorkerProcess (the built millrace command) -> FaultJob: a job whose results are known, disturbed
//!  tests/broker_laws_*.rs -> broker_laws (what millrace needs of a broker) -> KafkaBroker, DevBroker
//! ```

pub mod broker_laws;
pub mod fault_job;
pub mod fault_proxy;
pub mod inference;
pub mod kafka;
pub mod process;
pub mod s3;
pub mod worker;

pub use fault_proxy::{Fault, FaultProxy};
pub use kafka::KafkaBroker;
pub use s3::S3Server;
pub use worker::WorkerProcess;
