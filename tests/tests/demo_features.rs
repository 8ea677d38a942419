//! The feature view of the demo, run over all bundled purchases, gives what the training script computed: feature by
//! feature, for the 5,000 purchases that it wrote down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use feature_engine::resource::{Resource, parse};
use feature_engine::{CatalogRow, Event, FeaturePlan, FieldSet, MemoryGlobals, MemoryState, Wanted, backfill};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NUMERIC: [&str; 6] = [
    "quantity",
    "sales_value",
    "retail_disc",
    "coupon_disc",
    "coupon_match_disc",
    "week",
];

fn demo() -> PathBuf {
    tests::process::workspace().join("configs/demo")
}

fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let file = std::fs::File::open(path).unwrap();
    csv::Reader::from_reader(flate2::read::MultiGzDecoder::new(file))
        .deserialize()
        .map(Result::unwrap)
        .collect()
}

fn document(path: &Path) -> Resource {
    parse(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()))
}

/// A line of the file as the replay source writes it.
fn event_json(row: &BTreeMap<String, String>) -> String {
    let mut object = serde_json::Map::new();
    for (name, text) in row {
        let value = match NUMERIC.contains(&name.as_str()) {
            true => serde_json::from_str(text).unwrap(),
            false => serde_json::Value::from(text.as_str()),
        };
        object.insert(name.clone(), value);
    }
    serde_json::Value::Object(object).to_string()
}

#[test]
fn online_features_equal_offline_features() {
    let Resource::FeatureView(view) = document(&demo().join("inference/feature-views/purchase.yaml")) else {
        panic!("not a feature view")
    };
    let mut stores = BTreeMap::new();
    for name in ["products", "household_state", "basket_state"] {
        let Resource::Store(store) = document(&demo().join(format!("inference/stores/{name}.yaml"))) else {
            panic!("{name} is not a store")
        };
        stores.insert(name.to_owned(), store);
    }
    let expected = rows(&demo().join("models/offline_features.csv.gz"));
    let names: Vec<String> = [
        "quantity",
        "sales_value",
        "retail_disc",
        "hour",
        "is_private",
        "type_count",
        "days_since",
        "spend_type_mean",
        "household_count",
        "household_mean_value",
        "basket_total",
        "basket_lines",
    ]
    .map(str::to_owned)
    .to_vec();
    assert_eq!(
        expected[0].len(),
        names.len() + 1,
        "a feature that this test does not know"
    );

    let plan = Arc::new(FeaturePlan::compile(&view, &Wanted::new().inputs(names.clone()), &stores).unwrap());
    let mut globals = MemoryGlobals::new();
    let products = plan
        .global_stores()
        .iter()
        .position(|store| store == "products")
        .unwrap();
    for product in rows(&demo().join("data/products.csv.gz")) {
        let json = serde_json::to_vec(&product).unwrap();
        globals.insert(
            products,
            product["product_id"].as_bytes(),
            CatalogRow::decode(&json, &FieldSet::all()).unwrap(),
        );
    }
    let events: Vec<(Vec<u8>, String)> = rows(&demo().join("data/transactions.csv.gz"))
        .iter()
        .map(|row| (row["household_id"].clone().into_bytes(), event_json(row)))
        .collect();
    let columns: Vec<_> = names.iter().map(|name| plan.slot(name).unwrap()).collect();
    let mut state = MemoryState::new(plan.groups());
    let computed = backfill(
        Arc::clone(&plan),
        &columns,
        events.iter().enumerate().map(|(offset, (key, value))| Event {
            topic: "events.purchases",
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            timestamp_ms: 0,
            key: Some(key),
            value: value.as_bytes(),
            headers: &[],
        }),
        &mut globals,
        &mut state,
    );

    let mut wrong: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for row in &expected {
        let event: usize = row["event"].parse().unwrap();
        let features = computed[event].features.as_ref().unwrap();
        for (name, got) in names.iter().zip(features) {
            let want: f32 = row[name].parse().unwrap();
            // the script writes nine digits, which name one 32-bit float
            if *got != want {
                let entry = wrong.entry(name).or_default();
                entry.0 += 1;
                entry.1 = format!("event {event}: online {got}, offline {want}");
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "features that differ, how often, and the last one: {wrong:#?}"
    );
    assert!(expected.len() >= 5_000);
}
