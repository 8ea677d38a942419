//! A lookup writes its key as plain text, and a global store reads plain text out of the keys of its topic: for one value the
//! two are the same, however the key is written in the topic and the event.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use feature_engine::resource::{Resource, Store, parse_document};
use feature_engine::{CatalogRow, Evaluator, Event, FeaturePlan, FieldSet, GlobalLookup, MemoryState, Scalar, Wanted};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use state_store::{Database, Gate, GlobalRecord, GlobalSpec, GlobalStore, MemoryBudget, RowFormat};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Rows<'a>(&'a GlobalStore<CatalogRow>);

impl GlobalLookup for Rows<'_> {
    fn get(&mut self, _store: usize, key: &[u8]) -> Option<Arc<CatalogRow>> {
        self.0.get(key)
    }
}

fn resource(mut document: serde_json::Value) -> Resource {
    document["apiVersion"] = "millrace/v1".into();
    parse_document(&document).unwrap()
}

/// A primitive in JSON, as converters and producers of events write it.
fn primitive() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<i64>().prop_map(|number| number.to_string()),
        2 => (1u64 << 63..=u64::MAX).prop_map(|number| number.to_string()),
        2 => (-(1i64 << 53)..=1 << 53).prop_map(|number| format!("{number}.0")),
        2 => any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| serde_json::to_string(&number).unwrap()),
        1 => (1u32..999, 0u32..18).prop_map(|(digits, power)| format!("{digits}e{power}")),
        1 => Just("-0.0".to_owned()),
        4 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => any::<bool>().prop_map(|flag| flag.to_string()),
    ]
}

#[test]
fn a_lookup_finds_the_row_of_the_same_value() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path(), MemoryBudget::default()).unwrap();
    let spec = GlobalSpec {
        store: "s".into(),
        topic: "t".into(),
        format: RowFormat::default(),
        gate: Gate::default(),
    };
    let fields = FieldSet::all();
    let store = GlobalStore::open(&db, spec, move |_, value| CatalogRow::decode(value, &fields)).unwrap();
    store.reached_end().unwrap();

    let Resource::Store(declared) = resource(json!({ "kind": "store", "name": "s", "global": { "topic": "t" } }))
    else {
        panic!("no store")
    };
    let stores: BTreeMap<String, Store> = BTreeMap::from([("s".to_owned(), declared)]);
    let Resource::FeatureView(view) = resource(json!({
        "kind": "feature_view", "name": "v", "source": "e",
        "features": { "row": { "lookup": { "store": "s", "key": "event.id" } }, "number": { "expression": "row.number" } }
    })) else {
        panic!("no view")
    };
    let plan = Arc::new(FeaturePlan::compile(&view, &Wanted::everything(&view), &stores).unwrap());
    let slot = plan.slot("number").unwrap();
    let evaluator = std::cell::RefCell::new(Evaluator::new(plan.clone()));
    let offset = std::cell::Cell::new(0);
    TestRunner::new(ProptestConfig::with_cases(2_000))
        .run(&primitive(), |id| {
            offset.set(offset.get() + 1);
            let number = offset.get();
            let key = format!(r#"{{"schema":{{"type":"struct"}},"payload":{{"id":{id}}}}}"#);
            let value = format!(r#"{{"number":{number}}}"#);
            let record = GlobalRecord {
                partition: 0,
                offset: number,
                timestamp_ms: None,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                marker_header: None,
            };
            store.apply(&[record]).unwrap();
            prop_assert_eq!(store.status().rejected_rows, 0, "{:?}", store.status().last_rejection);
            let event = format!(r#"{{"id":{id}}}"#);
            let event = Event {
                topic: "e",
                partition: 0,
                offset: number,
                timestamp_ms: 0,
                key: None,
                value: event.as_bytes(),
                headers: &[],
            };
            let mut evaluator = evaluator.borrow_mut();
            let mut state = MemoryState::new(plan.groups());
            evaluator.evaluate(&event, &mut Rows(&store), &mut state).unwrap();
            let found = evaluator.feature_scalar(slot);
            prop_assert_eq!(found, Scalar::Number(number as f64));
            Ok(())
        })
        .unwrap();
}
