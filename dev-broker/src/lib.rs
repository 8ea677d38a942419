//! A one-node Kafka-compatible broker inside the process: for demos and tests, never production.
//!
//! ```text
//! client ── connection ── faults ── api (one module per group of requests)
//!                                    │
//!              ┌─────────────────────┼──────────────────────────┐
//!           topics               groups                   transactions
//!        log (batches as     (classic protocol,       (producer ids, fencing,
//!        they arrived,        any protocol type,       markers in every
//!        producers, open      committed offsets)       partition and group)
//!        and aborted                │                           │
//!        transactions)              └──────────┬────────────────┘
//!              │                               │
//!           segment files                   journal            (only with a data directory)
//! ```
//!
//! It speaks the protocol of Apache Kafka as librdkafka, the Java clients and ours need it: topics,
//! idempotent and transactional producers, read_committed readers, groups of any protocol type,
//! offsets, settings. There is one replica of everything, no authentication, no quotas, no
//! fetch sessions, and nothing is synced to disk: a crash of the process loses nothing, a crash of
//! the machine may. One law suite (`tests/src/broker_laws.rs`) runs against it and against Apache
//! Kafka alike.
//!
//! ```no_run
//! # async fn example() -> Result<(), dev_broker::DevBrokerError> {
//! use dev_broker::{DevBroker, DevBrokerConfig};
//!
//! let broker = DevBroker::start(DevBrokerConfig::default())?;
//! println!("bootstrap.servers={}", broker.bootstrap());
//! broker.stop().await;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod api;
mod batch;
mod broker;
mod cleaner;
mod committed_offsets;
mod config;
mod connection;
mod faults;
mod groups;
mod log;
mod restored;
mod state;
mod storage;
mod topic_config;
mod topics;
mod transactions;

pub use broker::DevBroker;
pub use config::{DevBrokerConfig, DevBrokerError};
pub use faults::{Fault, FaultAction, FaultTarget};
pub use kafka_protocol::ResponseError;
pub use kafka_protocol::messages::ApiKey;
