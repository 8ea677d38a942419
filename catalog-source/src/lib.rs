//! Catalogs into compacted topics, from which every worker fills its global stores.
//!
//! ```text
//!   file/      CSV or JSON lines --rows--> compare with the topic --changed rows, tombstones, marker--> compacted topic
//!   postgres/  snapshot, then logical replication --changes, tombstones--> topics, one per table
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

pub mod file;
pub mod postgres;

use connect_api::ConnectorPlugin;
use std::sync::Arc;

/// Every connector of this crate.
pub fn plugins() -> Vec<Arc<dyn ConnectorPlugin>> {
    vec![Arc::new(file::FileCatalogSource), Arc::new(postgres::PostgresSource)]
}
