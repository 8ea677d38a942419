//! End-to-end tests, and the harness that starts real services for them.
//!
//! ```text
//!  tests/*.rs -> KafkaBroker (Apache Kafka, fetched by scripts/kafka.sh) -> clients under test
//! ```

pub mod inference;
pub mod kafka;

pub use kafka::KafkaBroker;
