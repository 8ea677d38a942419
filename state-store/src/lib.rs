//! Stores in RocksDB: global and keyed, write-back cache, changelog, stream time, expiry, archive.
//!
//! ```text
//! events ---------> stream_time, ttl              (pure: when is it, what has expired)
//!                       |
//! task thread ----> keyed::KeyedPartition         write-back cache -> barrier -> changelog records
//!                       |   ^                                            | (the owner's transaction)
//!                       v   | restore                                    v
//! state.dir ------> database::Database  <---------------- changelog topic (changelog: its bytes)
//!                       ^
//! compacted topic -> global::GlobalStore          bulk load -> rows -> versions at markers -> gate -> hot rows
//!                       |
//! due entries ----> archive                       intent -> Parquet object -> manifest and tombstones -> read by key
//!                       v
//! archive.url ----> objects                       a directory, or a bucket of S3
//! ```
//! Topics are the truth, the database is a copy: it is written without a log, data and position in one batch.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::print_stdout
    )
)]

pub mod archive;
pub mod changelog;
mod database;
mod error;
pub mod global;
mod keyed;
mod keyspace;
mod stream_time;
mod topic_bounds;
mod ttl;

pub use archive::{Archive, ArchivedEntry, IntentLog, Manifest};
pub use changelog::{ChangeRecord, EntryVersion};
pub use database::{Database, MemoryBudget};
pub use error::StateError;
pub use global::{
    Feeder, FeederConfig, Gate, GlobalRecord, GlobalSpec, GlobalStatus, GlobalStore, Intake, KeyFormat, RowFormat,
    ValueFormat,
};
pub use keyed::{
    Changes, CommittedEntry, CopyState, ExpiredEntry, KeyedPartition, KeyedReader, KeyedSpec, Position, RebuildReason,
    Rebuilds, RestorePlan, StateValue, TopicState, plan_restore,
};
pub use stream_time::{AheadOfWallClock, MAX_AHEAD_MS, StreamTime};
pub use topic_bounds::TopicBounds;
pub use ttl::{Since, Ttl};
