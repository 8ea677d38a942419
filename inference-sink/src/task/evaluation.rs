//! Glue between an evaluator and the stores of one partition.

use super::stored_row::StoredRow;
use crate::service::GlobalRows;
use feature_engine::{AggregateRow, AggregateStore, CatalogRow, GlobalLookup, StateFault};
use state_store::{AheadOfWallClock, KeyedPartition, MAX_AHEAD_MS};
use std::sync::Arc;

/// The global stores of one plan.
pub(super) struct Globals<'a>(pub &'a [Option<Arc<dyn GlobalRows>>]);

impl GlobalLookup for Globals<'_> {
    fn get(&mut self, store: usize, key: &[u8]) -> Option<Arc<CatalogRow>> {
        self.0.get(store)?.as_ref()?.get(key)
    }
}

/// The keyed stores of one plan in one partition.
pub(super) struct KeyedStores<'a> {
    /// the partition's stores
    pub stores: &'a mut [KeyedPartition<StoredRow>],
    /// which of them each group uses
    pub group_stores: &'a [usize],
    /// the wall clock, in milliseconds
    pub wall_ms: i64,
}

impl KeyedStores<'_> {
    fn store(&mut self, group: usize, event_time_ms: i64) -> Result<&mut KeyedPartition<StoredRow>, StateFault> {
        // Before any state is touched: one event from the future would expire everything there is.
        if event_time_ms > self.wall_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(StateFault(Box::new(AheadOfWallClock {
                event_time_ms,
                wall_ms: self.wall_ms,
            })));
        }
        let store = self
            .group_stores
            .get(group)
            .and_then(|index| self.stores.get_mut(*index));
        store.ok_or_else(|| StateFault(format!("aggregate group {group} has no store").into()))
    }
}

impl AggregateStore for KeyedStores<'_> {
    fn read(&mut self, group: usize, key: &[u8], event_time_ms: i64) -> Result<Option<&AggregateRow>, StateFault> {
        let found = self.store(group, event_time_ms)?.get(key, event_time_ms);
        found
            .map(|row| row.map(|row| &row.0))
            .map_err(|error| StateFault(Box::new(error)))
    }

    fn update(&mut self, group: usize, key: &[u8], event_time_ms: i64) -> Result<&mut AggregateRow, StateFault> {
        let store = self.store(group, event_time_ms)?;
        let row = store.get_or_insert_with(key, event_time_ms, || StoredRow(AggregateRow::new()));
        row.map(|row| &mut row.0).map_err(|error| StateFault(Box::new(error)))
    }
}
