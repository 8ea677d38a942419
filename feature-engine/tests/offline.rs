//! A backfill gives what was given online, bit for bit, whatever the events; and rows live as long as they should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use feature_engine::resource::{FeatureView, Resource, Store, parse};
use feature_engine::{
    AggregateRow, AggregateStore, Evaluator, Event, FeaturePlan, MemoryGlobals, MemoryState, StateFault, Wanted,
    backfill,
};
use proptest::prelude::*;

const VIEW: &str = "
kind: feature_view
name: purchase
source: events
partitioned_by: event.k
features:
  price:   { expression: 'event.value / event.quantity', default: 0.0 }
  sum:     { aggregate: { function: sum, of: event.value, by: event.k } }
  mean:    { aggregate: { function: mean, of: price, by: event.k } }
  count:   { aggregate: { function: count, by: [event.k, event.t], ttl: 5s } }
  since:   { aggregate: { function: time_since_last, unit: minutes, by: event.k } }
  decayed: { aggregate: { function: decayed_sum, of: event.value, by: event.k, half_life: 3s, including_this: true } }
  least:   { aggregate: { function: min, of: price, by: event.k } }
  share:   { expression: 'event.value / sum', default: 1.0 }
";
const FEATURES: [&str; 8] = ["price", "sum", "mean", "count", "since", "decayed", "least", "share"];

fn view(text: &str) -> FeatureView {
    match parse(text).unwrap() {
        Resource::FeatureView(view) => view,
        other => panic!("{other:?}"),
    }
}

fn plan(text: &str) -> Arc<FeaturePlan> {
    let view = view(text);
    let stores: BTreeMap<String, Store> = BTreeMap::new();
    Arc::new(FeaturePlan::compile(&view, &Wanted::everything(&view), &stores).unwrap())
}

/// Online state: every row goes through its encoded form between events, as through a changelog.
struct EncodedState {
    inner: MemoryState,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl EncodedState {
    fn pass_through_encoding(&mut self) {
        for (key, row) in self.inner.rows() {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            assert_eq!(AggregateRow::decode(&bytes).unwrap(), *row);
            self.rows.insert(key.to_vec(), bytes);
        }
    }
}

impl AggregateStore for EncodedState {
    fn take_time(&mut self, event_time_ms: i64) -> Result<(), String> {
        self.inner.take_time(event_time_ms)
    }

    fn read(&mut self, group: usize, key: &[u8]) -> Result<Option<&AggregateRow>, StateFault> {
        self.inner.read(group, key)
    }

    fn update(&mut self, group: usize, key: &[u8]) -> Result<&mut AggregateRow, StateFault> {
        let row = self.inner.update(group, key)?;
        if let (Some(bytes), false) = (self.rows.get(key), row.is_empty()) {
            *row = AggregateRow::decode(bytes).unwrap();
        }
        Ok(row)
    }
}

fn values() -> impl Strategy<Value = Vec<(i64, String)>> {
    let number =
        || prop_oneof![4 => (-50..50i32).prop_map(|n| (f64::from(n) / 7.0).to_string()), 1 => Just("null".to_owned())];
    let event = (0..2_000i64, 0..3u8, 0..3u8, number(), number()).prop_map(|(step, k, t, value, quantity)| {
        (
            step,
            format!(r#"{{"k": "k{k}", "t": {t}, "value": {value}, "quantity": {quantity}}}"#),
        )
    });
    let broken = (0..2_000i64).prop_map(|step| (step, "{broken".to_owned()));
    prop::collection::vec(prop_oneof![20 => event, 1 => broken], 1..60).prop_map(|steps| {
        let mut time = 0;
        let at = |(step, value)| {
            time += step;
            (time, value)
        };
        steps.into_iter().map(at).collect()
    })
}

fn event((timestamp_ms, value): &(i64, String)) -> Event<'_> {
    let value = value.as_bytes();
    Event {
        topic: "events",
        partition: 0,
        offset: 0,
        timestamp_ms: *timestamp_ms,
        key: None,
        value,
        headers: &[],
    }
}

proptest! {
    #[test]
    fn a_backfill_is_equal_to_online_bit_for_bit(values in values()) {
        let plan = plan(VIEW);
        let columns: Vec<_> = FEATURES.map(|name| plan.slot(name).unwrap()).into();
        let mut online = EncodedState { inner: MemoryState::new(plan.groups()), rows: BTreeMap::new() };
        let mut evaluator = Evaluator::new(Arc::clone(&plan));
        let mut given = Vec::new();
        for value in &values {
            let done = evaluator.evaluate(&event(value), &mut MemoryGlobals::new(), &mut online).is_ok();
            online.pass_through_encoding();
            let mut row: Vec<f32> = Vec::new();
            if done {
                evaluator.write_row(&columns, &mut row).unwrap();
            }
            given.push(done.then(|| (evaluator.event_time_ms(), row.iter().map(|f| f.to_bits()).collect::<Vec<_>>())));
        }
        let mut state = MemoryState::new(plan.groups());
        let rows = backfill(plan, &columns, values.iter().map(event), &mut MemoryGlobals::new(), &mut state);
        let offline: Vec<_> = rows
            .into_iter()
            .map(|row| Some((row.event_time_ms, row.features.ok()?.iter().map(|f| f.to_bits()).collect::<Vec<_>>())))
            .collect();
        prop_assert_eq!(given, offline);
    }

    /// The oracle for time to live: a row counts the events since stream time last went on by at least that much
    /// between two of them. A late event neither ends a row earlier nor starts one anew.
    #[test]
    fn a_row_is_visible_before_last_write_plus_ttl(steps in prop::collection::vec(-3_000..9_000i64, 1..40)) {
        let plan = plan(VIEW);
        let columns = [plan.slot("count").unwrap()];
        let (mut time, mut stream_time) = (0, -1_000_000);
        let (mut values, mut expected, mut count) = (Vec::new(), Vec::new(), 0.0f32);
        for step in steps {
            time += step;
            if time - stream_time >= 5_000 {
                count = 0.0;
            }
            stream_time = stream_time.max(time);
            expected.push(count);
            count += 1.0;
            values.push((time, r#"{"k": "a", "t": 1}"#.to_owned()));
        }
        let mut state = MemoryState::new(plan.groups());
        let rows = backfill(plan, &columns, values.iter().map(event), &mut MemoryGlobals::new(), &mut state);
        let counts: Vec<f32> = rows.into_iter().map(|row| row.features.unwrap()[0]).collect();
        prop_assert_eq!(counts, expected);
    }
}

#[test]
fn access_prolongs_only_where_the_store_says_so() {
    let text = "kind: feature_view\nname: v\nsource: t\npartitioned_by: event.k\nfeatures:\n  sum: { aggregate: { function: \
                sum, of: event.value, by: event.k, store: s } }";
    for (since, expected) in [("write", 0.0), ("access", 1.0)] {
        let store = format!("kind: store\nname: s\nkeyed: {{by: event.k}}\nttl: {{after: 10s, since: {since}}}");
        let Resource::Store(store) = parse(&store).unwrap() else {
            panic!()
        };
        let view = view(text);
        let stores = BTreeMap::from([("s".to_owned(), store)]);
        let plan = Arc::new(FeaturePlan::compile(&view, &Wanted::everything(&view), &stores).unwrap());
        let columns = [plan.slot("sum").unwrap()];
        let written = (0, r#"{"k": 1, "value": 1}"#.to_owned());
        let read = |time: i64| (time, r#"{"k": 1}"#.to_owned());
        let values = [written, read(8_000), read(15_000)];
        let mut state = MemoryState::new(plan.groups());
        let rows = backfill(
            plan,
            &columns,
            values.iter().map(event),
            &mut MemoryGlobals::new(),
            &mut state,
        );
        let sums: Vec<f32> = rows.into_iter().map(|row| row.features.unwrap()[0]).collect();
        assert_eq!(sums, [0.0, 1.0, expected], "{since}");
    }
}
