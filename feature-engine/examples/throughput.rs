//! Nanoseconds per event of one thread, of the best of many rounds, stage by stage: the scan, with expressions, with a lookup, with
//! three keyed aggregates. State and catalog are maps in memory, so their part is that of a hash map.
//!
//! `cargo run --release -p feature-engine --example throughput`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use feature_engine::resource::{Resource, Store, parse};
use feature_engine::{CatalogRow, Evaluator, Event, FeaturePlan, FieldSet, MemoryGlobals, MemoryState, Wanted};

const VIEW: &str = "
kind: feature_view
name: purchase
source: events.purchases
partitioned_by: event.household_id
features:
  product:      { lookup: { store: products, key: event.product_id } }
  quantity:     { expression: event.quantity }
  sales_value:  { expression: event.sales_value }
  price:        { expression: 'event.sales_value / event.quantity', default: 0.0 }
  discount:     { expression: 'event.retail_disc + event.coupon_disc', default: 0.0 }
  hour:         { expression: 'event_time.getHours()' }
  week:         { expression: event.week }
  store:        { expression: event.store_id }
  is_private:   { expression: \"product.brand == 'Private' ? 1.0 : 0.0\", default: 0.0 }
  basket_total: { aggregate: { function: sum, of: event.sales_value, by: [event.household_id, event.basket_id], ttl: 1d } }
  type_count:   { aggregate: { function: count, by: [event.household_id, product.product_type] } }
  days_since:   { aggregate: { function: time_since_last, unit: days, by: [event.household_id, product.product_type] } }
  spend:        { aggregate: { function: sum, of: event.sales_value, by: event.household_id } }
";
const STAGES: [(&str, &[&str]); 4] = [
    ("scan and two fields", &["quantity", "sales_value"]),
    (
        "scan and expressions",
        &["quantity", "sales_value", "price", "discount", "hour", "week", "store"],
    ),
    (
        "and a lookup",
        &[
            "quantity",
            "sales_value",
            "price",
            "discount",
            "hour",
            "week",
            "store",
            "is_private",
        ],
    ),
    (
        "and three keyed aggregates",
        &[
            "quantity",
            "sales_value",
            "price",
            "discount",
            "hour",
            "week",
            "store",
            "is_private",
            "basket_total",
            "type_count",
            "days_since",
            "spend",
        ],
    ),
];
const EVENTS: u64 = 4096;
const ROUNDS: u64 = 400;

fn main() {
    let Resource::FeatureView(view) = parse(VIEW).unwrap() else {
        panic!("not a view")
    };
    let Resource::Store(store) = parse("kind: store\nname: products\nglobal: {topic: p}").unwrap() else {
        panic!()
    };
    let stores: BTreeMap<String, Store> = BTreeMap::from([("products".to_owned(), store)]);
    let events: Vec<String> = (0..EVENTS).map(purchase).collect();
    println!(
        "{} bytes per event",
        events.iter().map(String::len).sum::<usize>() as u64 / EVENTS
    );
    for (stage, inputs) in STAGES {
        let plan = Arc::new(FeaturePlan::compile(&view, &Wanted::new().inputs(inputs.to_vec()), &stores).unwrap());
        let slots: Vec<_> = inputs.iter().map(|name| plan.slot(name).unwrap()).collect();
        let mut evaluator = Evaluator::new(Arc::clone(&plan));
        let (mut globals, mut state, mut row) = (
            products(),
            MemoryState::new(plan.groups()),
            Vec::<f32>::with_capacity(64),
        );
        let mut total = 0.0;
        let mut round = |round: u64| {
            for (n, value) in events.iter().enumerate() {
                let event = Event {
                    topic: "events.purchases",
                    partition: 0,
                    offset: n as i64,
                    timestamp_ms: (round * EVENTS + n as u64) as i64,
                    key: None,
                    value: value.as_bytes(),
                    headers: &[],
                };
                evaluator.evaluate(&event, &mut globals, &mut state).unwrap();
                row.clear();
                evaluator.write_row(&slots, &mut row).unwrap();
                total += row[0];
            }
        };
        let mut best = f64::INFINITY;
        for number in 0..ROUNDS {
            let start = Instant::now();
            round(number);
            best = best.min(start.elapsed().as_nanos() as f64 / EVENTS as f64);
        }
        println!("{stage:28} {best:7.0} ns per event (checksum {total})");
    }
}

fn purchase(n: u64) -> String {
    let mut text = String::new();
    let (household, basket, product) = (n % 257, n % 1021, n % 499);
    let cents = n % 900 + 100;
    write!(
        text,
        r#"{{"household_id":{household},"store_id":{},"basket_id":"31{basket}","product_id":{},"quantity":{},"sales_value":{}.{:02},"retail_disc":0.2,"coupon_disc":0,"coupon_match_disc":0,"week":{},"transaction_timestamp":"2017-01-01T11:53:26Z"}}"#,
        n % 400,
        800_000 + product,
        n % 3 + 1,
        cents / 100,
        cents % 100,
        n % 53
    )
    .unwrap();
    text
}

fn products() -> MemoryGlobals {
    let mut globals = MemoryGlobals::new();
    for product in 0..499u64 {
        let brand = if product.is_multiple_of(3) {
            "Private"
        } else {
            "National"
        };
        let row = format!(
            r#"{{"product_id": {}, "manufacturer_id": 2, "department": "GROCERY", "brand": "{brand}", "product_category": "C{}", "product_type": "T{}", "package_size": "22 OZ"}}"#,
            800_000 + product,
            product % 20,
            product % 90
        );
        globals.insert(
            0,
            (800_000 + product).to_string(),
            CatalogRow::decode(row.as_bytes(), &FieldSet::all()).unwrap(),
        );
    }
    globals
}
