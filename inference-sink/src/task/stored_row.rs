//! Values of keyed stores.

use feature_engine::AggregateRow;
use state_store::StateValue;

/// The aggregates of one key of one group, as a value of a keyed store.
#[derive(Debug)]
pub struct StoredRow(pub AggregateRow);

impl StateValue for StoredRow {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        AggregateRow::decode(bytes).map(StoredRow)
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

/// The store of a task's own progress has no entries: everything in it is an owner's record.
#[derive(Debug)]
pub struct NoEntry;

impl StateValue for NoEntry {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_bytes: &[u8]) -> Result<Self, String> {
        Ok(NoEntry)
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}
