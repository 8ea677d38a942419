//! The same features without a worker: stores in memory, and a plan run over a topic's history. It is the online code
//! over the same events in the same order, so expressions and aggregates are equal bit for bit.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::aggregate::AggregateRow;
use crate::catalog_row::CatalogRow;
use crate::element::Unfit;
use crate::evaluator::{AggregateStore, Evaluator, GlobalLookup};
use crate::event::{Event, EventError, StateFault};
use crate::plan::{AggregateGroup, FeaturePlan, FeatureSlot};
use crate::resource::{Since, Ttl};

/// Aggregates of one partition in memory, with the rules of the state store: a row is visible while
/// `stream time < since + ttl`. Stream time is the greatest event time so far, `since` the stream time of the row's last
/// write or last access.
#[derive(Debug)]
pub struct MemoryState {
    stream_time_ms: i64,
    ttls: Vec<Option<Ttl>>,
    rows: HashMap<Vec<u8>, Timed>,
}

#[derive(Debug, Default)]
struct Timed {
    row: AggregateRow,
    since_ms: i64,
}

impl MemoryState {
    /// Empty state for a plan's groups.
    pub fn new(groups: &[AggregateGroup]) -> MemoryState {
        MemoryState {
            stream_time_ms: i64::MIN,
            ttls: groups.iter().map(|group| group.ttl).collect(),
            rows: HashMap::new(),
        }
    }

    /// Number of rows, expired ones included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every row with its encoded key, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &AggregateRow)> {
        self.rows.iter().map(|(key, timed)| (key.as_slice(), &timed.row))
    }

    fn ttl(&self, group: usize) -> Option<Ttl> {
        self.ttls.get(group).copied().flatten()
    }
}

impl Timed {
    fn is_visible(&self, ttl: Option<Ttl>, now_ms: i64) -> bool {
        ttl.is_none_or(|ttl| now_ms < self.since_ms.saturating_add_unsigned(ttl.after.as_millis()))
    }
}

impl AggregateStore for MemoryState {
    fn take_time(&mut self, event_time_ms: i64) -> Result<(), String> {
        self.stream_time_ms = self.stream_time_ms.max(event_time_ms);
        Ok(())
    }

    fn read(&mut self, group: usize, key: &[u8]) -> Result<Option<&AggregateRow>, StateFault> {
        let (ttl, now_ms) = (self.ttl(group), self.stream_time_ms);
        let Some(timed) = self.rows.get_mut(key).filter(|timed| timed.is_visible(ttl, now_ms)) else {
            return Ok(None);
        };
        if ttl.is_some_and(|ttl| ttl.since == Since::Access) {
            timed.since_ms = now_ms;
        }
        Ok(Some(&timed.row))
    }

    fn update(&mut self, group: usize, key: &[u8]) -> Result<&mut AggregateRow, StateFault> {
        let (ttl, now_ms) = (self.ttl(group), self.stream_time_ms);
        let timed = self.rows.entry_ref(key).or_default();
        if !timed.is_visible(ttl, now_ms) {
            timed.row = AggregateRow::new();
        }
        timed.since_ms = now_ms;
        Ok(&mut timed.row)
    }
}

/// Global stores in memory, by the store's index in a plan.
#[derive(Clone, Debug, Default)]
pub struct MemoryGlobals {
    stores: Vec<HashMap<Vec<u8>, Arc<CatalogRow>>>,
}

impl MemoryGlobals {
    /// No rows.
    pub fn new() -> MemoryGlobals {
        MemoryGlobals::default()
    }

    /// Puts a row under the plain text of its key.
    pub fn insert(&mut self, store: usize, key: impl Into<Vec<u8>>, row: CatalogRow) {
        while self.stores.len() <= store {
            self.stores.push(HashMap::new());
        }
        if let Some(rows) = self.stores.get_mut(store) {
            rows.insert(key.into(), Arc::new(row));
        }
    }
}

impl GlobalLookup for MemoryGlobals {
    fn get(&mut self, store: usize, key: &[u8]) -> Option<Arc<CatalogRow>> {
        self.stores.get(store)?.get(key).cloned()
    }
}

/// What a backfill gives for one event.
#[derive(Debug)]
pub struct BackfillRow {
    /// Event time, epoch milliseconds; the record's timestamp where the event failed.
    pub event_time_ms: i64,
    /// The features in the order asked for, as float32, or why there are none.
    pub features: Result<Vec<f32>, BackfillError>,
}

/// Why an event gives no row.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// The event could not be computed.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A feature is no element of a row.
    #[error("{0}")]
    Feature(Unfit),
}

/// Runs a plan over the events of one partition, in the order of their offsets, and gives one row per event.
pub fn backfill<'e>(
    plan: Arc<FeaturePlan>,
    columns: &[FeatureSlot],
    events: impl IntoIterator<Item = Event<'e>>,
    globals: &mut dyn GlobalLookup,
    state: &mut dyn AggregateStore,
) -> Vec<BackfillRow> {
    let mut evaluator = Evaluator::new(plan);
    let row = |event: Event<'e>| match evaluator.evaluate(&event, globals, state) {
        Ok(()) => {
            let mut features = Vec::with_capacity(columns.len());
            let written = evaluator.write_row(columns, &mut features);
            BackfillRow {
                event_time_ms: evaluator.event_time_ms(),
                features: written.map(|()| features).map_err(BackfillError::Feature),
            }
        }
        Err(error) => BackfillRow {
            event_time_ms: event.timestamp_ms,
            features: Err(error.into()),
        },
    };
    events.into_iter().map(row).collect()
}
