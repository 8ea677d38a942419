//! End-to-end tests, and the harness that starts real services for them.
//!
//! ```text
//!  tests/*.rs -> KafkaBroker (Apache Kafka, fetched by scripts/kafka.sh) -> clients under test
//!  tests/group.rs -> WorkerProcess (millrace worker) -> KafkaBroker
//!  tests/postgres_*.rs -> PostgresServer (the Debian package) -> the worker with the Postgres connector -> KafkaBroker
//!             -> S3Server (versitygw, built by scripts/s3-server.sh), FaultProxy before any of them
//!             -> WorkerProcess (the built millrace command) -> FaultJob: a job whose results are known, disturbed
//!  tests/retail_job/ -> the files of configs/retail on all of these, disturbed, beside an undisturbed run
//!  tests/broker_laws_*.rs -> broker_laws (what millrace needs of a broker) -> KafkaBroker, DevBroker
//!  tests/global_store_*.rs -> global_store_scenarios (what a global store promises over any broker) -> the same two
//!  tests/inference_sink*.rs -> inference_scenarios (what the inference sink promises over any broker) -> the same two
//! ```

pub mod broker;
pub mod broker_laws;
pub mod exposition;
pub mod fault_job;
pub mod fault_proxy;
pub mod global_store_scenarios;
pub mod inference;
pub mod inference_scenarios;
pub mod kafka;
pub mod postgres;
pub mod process;
pub mod s3;
pub mod scored_events;
pub mod topics;
pub mod whole_worker;
pub mod worker;
pub mod worker_process;

pub use fault_proxy::{Fault, FaultProxy};
pub use kafka::KafkaBroker;
pub use postgres::PostgresServer;
pub use s3::S3Server;
pub use worker::WorkerProcess;
