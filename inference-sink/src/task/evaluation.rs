//! Glue between an evaluator and the stores of one partition.

use super::stored_row::StoredRow;
use crate::service::GlobalRows;
use feature_engine::{AggregateRow, AggregateStore, CatalogRow, GlobalLookup, StateFault};
use state_store::{KeyedPartition, StreamTime};
use std::sync::Arc;

/// The global stores of one plan.
pub(super) struct Globals<'a>(pub &'a [Option<Arc<dyn GlobalRows>>]);

impl GlobalLookup for Globals<'_> {
    fn get(&mut self, store: usize, key: &[u8]) -> Option<Arc<CatalogRow>> {
        self.0.get(store)?.as_ref()?.get(key)
    }
}

/// The keyed stores of one view's plan in one partition. A row is its view's alone, and lives by that view's time: what other
/// views write into the same store moves nobody's time.
pub(super) struct KeyedStores<'a> {
    /// the partition's stores
    pub stores: &'a mut [KeyedPartition<StoredRow>],
    /// which of them each group uses
    pub group_stores: &'a [usize],
    /// the view's time in the partition
    pub time: &'a mut StreamTime,
    /// stream time with the event at hand, in milliseconds
    pub now_ms: i64,
    /// the wall clock, in milliseconds
    pub wall_ms: i64,
}

impl KeyedStores<'_> {
    fn store(&mut self, group: usize) -> Result<&mut KeyedPartition<StoredRow>, StateFault> {
        let store = self
            .group_stores
            .get(group)
            .and_then(|index| self.stores.get_mut(*index));
        store.ok_or_else(|| StateFault(format!("aggregate group {group} has no store").into()))
    }
}

impl AggregateStore for KeyedStores<'_> {
    fn take_time(&mut self, event_time_ms: i64) -> Result<(), String> {
        // One event from the future would expire everything there is.
        let observed = self.time.observe(event_time_ms, self.wall_ms);
        self.now_ms = observed.map_err(|ahead| ahead.to_string())?;
        Ok(())
    }

    fn read(&mut self, group: usize, key: &[u8]) -> Result<Option<&AggregateRow>, StateFault> {
        let now_ms = self.now_ms;
        let found = self.store(group)?.get_as_of(key, now_ms);
        found
            .map(|row| row.map(|row| &row.0))
            .map_err(|error| StateFault(Box::new(error)))
    }

    fn update(&mut self, group: usize, key: &[u8]) -> Result<&mut AggregateRow, StateFault> {
        let now_ms = self.now_ms;
        let row = self
            .store(group)?
            .get_or_insert_as_of(key, now_ms, || StoredRow(AggregateRow::new()));
        row.map(|row| &mut row.0).map_err(|error| StateFault(Box::new(error)))
    }
}
