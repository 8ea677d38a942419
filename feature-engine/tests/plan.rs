//! Compiled views: what is refused, what is computed once, and the order of reads and updates within an event.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use feature_engine::resource::{FeatureView, Resource, Store, parse, parse_document};
use feature_engine::{
    AggregateRow, AggregateStore, CatalogRow, Evaluator, Event, EventError, FeaturePlan, FieldSet, GlobalLookup,
    LookupCounts, MemoryGlobals, MemoryState, Scalar, StateFault, Wanted,
};
use serde_json::{Value, json};

fn view(document: Value) -> FeatureView {
    match parse_document(&document).unwrap() {
        Resource::FeatureView(view) => view,
        other => panic!("{other:?}"),
    }
}

fn purchases(features: Value) -> FeatureView {
    view(json!({
        "kind": "feature_view", "name": "purchase", "source": "events.purchases",
        "partitioned_by": "event.household_id", "features": features,
    }))
}

fn stores() -> BTreeMap<String, Store> {
    let documents = [
        "kind: store\nname: products\nglobal: {topic: catalog.products}",
        "kind: store\nname: household_state\nkeyed: {by: event.household_id}\nttl: {after: 90d}",
    ];
    let store = |text: &&str| match parse(text).unwrap() {
        Resource::Store(store) => (store.name.clone(), store),
        other => panic!("{other:?}"),
    };
    documents.iter().map(store).collect()
}

fn refusals(features: Value) -> Vec<(String, String)> {
    let view = purchases(features);
    let errors = FeaturePlan::compile(&view, &Wanted::everything(&view), &stores()).expect_err("compiles");
    errors.into_iter().map(|error| (error.field, error.message)).collect()
}

fn assert_refused(features: Value, field: &str, message: &str) {
    assert_eq!(refusals(features), [(field.to_owned(), message.to_owned())]);
}

fn aggregate(function: &str, of: &str, by: Value) -> Value {
    json!({"aggregate": {"function": function, "of": of, "by": by}})
}

fn household(function: &str) -> Value {
    aggregate(function, "event.value", json!(["event.household_id"]))
}

fn event(value: &str) -> Event<'_> {
    Event {
        topic: "events.purchases",
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: value.as_bytes(),
        headers: &[],
    }
}

struct Run {
    plan: Arc<FeaturePlan>,
    evaluator: Evaluator,
    globals: MemoryGlobals,
    state: MemoryState,
}

impl Run {
    fn new(view: &FeatureView, wanted: &Wanted) -> Run {
        let plan = Arc::new(FeaturePlan::compile(view, wanted, &stores()).unwrap());
        let (evaluator, state) = (Evaluator::new(Arc::clone(&plan)), MemoryState::new(plan.groups()));
        Run {
            plan,
            evaluator,
            globals: MemoryGlobals::new(),
            state,
        }
    }

    fn all(features: Value) -> Run {
        let view = purchases(features);
        Run::new(&view, &Wanted::everything(&view))
    }

    fn product(mut self, key: &str, json: &str) -> Run {
        self.globals
            .insert(0, key, CatalogRow::decode(json.as_bytes(), &FieldSet::all()).unwrap());
        self
    }

    fn at(&mut self, timestamp_ms: i64, value: &str) -> &mut Run {
        let event = Event {
            timestamp_ms,
            ..event(value)
        };
        self.evaluator
            .evaluate(&event, &mut self.globals, &mut self.state)
            .unwrap();
        self
    }

    fn feature(&self, name: &str) -> Scalar<'_> {
        self.evaluator.feature_scalar(self.plan.slot(name).unwrap())
    }

    fn number(&self, name: &str) -> f64 {
        match self.feature(name) {
            Scalar::Number(value) => value,
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn unknown_names_are_refused() {
    assert_refused(
        json!({"p": {"lookup": {"store": "shops", "key": "event.id"}}}),
        "features.p.lookup.store",
        "there is no store `shops`",
    );
    assert_refused(
        json!({"p": {"lookup": {"store": "household_state", "key": "event.id"}}}),
        "features.p.lookup.store",
        "store `household_state` is keyed; a lookup reads a global store",
    );
    let in_store =
        |store: &str| json!({"n": {"aggregate": {"function": "count", "by": "event.household_id", "store": store}}});
    assert_refused(
        in_store("shops"),
        "features.n.aggregate.store",
        "there is no store `shops`",
    );
    assert_refused(
        in_store("products"),
        "features.n.aggregate.store",
        "store `products` is global; aggregates are kept in a keyed store",
    );
    let view = purchases(json!({"a": {"expression": "event.a"}}));
    let wanted = Wanted::new()
        .input("b")
        .expression("output.key", "c")
        .filter("subscribe.filter", "event.a + 1.0");
    let errors = FeaturePlan::compile(&view, &wanted, &stores()).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "features.b: view `purchase` has no feature `b`",
            "output.key: there is no feature `c` in view `purchase`, and no variable of this name; a field of the event is \
             written event.c",
            "subscribe.filter: `event.a + 1.0` is a double; it must be true or false",
        ]
    );
}

#[test]
fn cycles_are_refused_by_name() {
    let features = json!({
        "a": {"expression": "b + 1.0"}, "b": {"expression": "c + 1.0"}, "c": {"expression": "a + 1.0"},
    });
    let refused = refusals(features);
    assert_eq!(
        refused[0],
        (
            "features.a".to_owned(),
            "depends on itself: a -> b -> c -> a".to_owned()
        )
    );
    let long: serde_json::Map<String, Value> = (0..200)
        .map(|n| (format!("f{n}"), json!({"expression": format!("f{} + 1.0", n + 1)})))
        .chain([("f200".to_owned(), json!({"expression": "1.0"}))])
        .collect();
    assert!(refusals(json!(long)).contains(&(
        "features.f100".to_owned(),
        "is at the end of a chain of more than 100 features".to_owned()
    )));
}

#[test]
fn an_aggregate_across_partitions_is_refused() {
    let message = "must contain `event.household_id`, which the topic is partitioned by: events of one key would be in \
                   several partitions, and each would have a part of the aggregate";
    assert_refused(
        json!({"n": aggregate("sum", "event.value", json!(["event.store_id"]))}),
        "features.n.aggregate.by",
        message,
    );
    assert!(
        FeaturePlan::compile(
            &purchases(json!({"n": aggregate("sum", "event.value", json!(["event.x", " event . household_id "]))})),
            &Wanted::new().input("n"),
            &stores()
        )
        .is_ok()
    );
    let mut own = stores();
    let Resource::Store(store) = parse("kind: store\nname: s\nkeyed: {by: event.shop}").unwrap() else {
        panic!()
    };
    own.insert("s".to_owned(), store);
    let view = purchases(json!({"n": {"aggregate": {"function": "count", "by": "event.household_id", "store": "s"}}}));
    let errors = FeaturePlan::compile(&view, &Wanted::everything(&view), &own).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "features.n.aggregate.by: `by` must contain `event.shop`, which store `s` is keyed by"
    );
}

#[test]
fn types_are_checked() {
    let product = json!({"lookup": {"store": "products", "key": "event.product_id"}});
    for (features, field, message) in [
        (
            json!({"p": product, "f": {"expression": "p"}}),
            "features.f.expression",
            "`p` is a row; name one of its fields, such as p.brand",
        ),
        (
            json!({"f": {"expression": "'a' + key", "default": 1.0}}),
            "features.f.default",
            "the feature is a string, its default is not",
        ),
        (
            json!({"f": {"expression": "event_time.getHours()", "default": 0.5}}),
            "features.f.default",
            "the feature is an int, its default is not",
        ),
        (
            json!({"f": aggregate("sum", "key", json!(["event.household_id"]))}),
            "features.f.aggregate.of",
            "`key` is a string; an aggregate takes numbers",
        ),
        (
            json!({"g": {"expression": "f + 1"}, "f": {"expression": "event.a * 2.0"}}),
            "features.g.expression",
            "`f + 1`: `+` cannot take a double and an int; JSON numbers are doubles, so write 1.0",
        ),
    ] {
        assert_refused(features, field, message);
    }
    let features = json!({
        "row": product, "text": {"expression": "key"}, "time": {"expression": "event_time"}, "json": {"expression": "event.a"},
    });
    let wanted = Wanted::new().inputs(["row", "text", "time", "json"]);
    let errors = FeaturePlan::compile(&purchases(features), &wanted, &stores()).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "features.row: is a row, and a model's input takes numbers; make a feature of one of its fields",
            "features.text: is a string, and a model's input takes numbers",
            "features.time: is a timestamp, and a model's input takes numbers; use int() or a part such as getHours()",
        ]
    );
}

#[test]
fn only_what_is_wanted_is_computed() {
    let features = json!({
        "product": {"lookup": {"store": "products", "key": "event.product_id"}},
        "brand_is_private": {"expression": "product.brand == 'Private'"},
        "total": household("sum"),
        "value": {"expression": "event.value"},
    });
    let plan = FeaturePlan::compile(&purchases(features.clone()), &Wanted::new().input("value"), &stores()).unwrap();
    assert!(plan.groups().is_empty() && plan.global_stores().is_empty());
    assert!(plan.slot("total").is_none());
    let plan = FeaturePlan::compile(
        &purchases(features),
        &Wanted::new().inputs(["total", "brand_is_private"]),
        &stores(),
    );
    let plan = plan.unwrap();
    assert_eq!(plan.global_stores(), ["products"]);
    assert_eq!(plan.groups().len(), 1);
}

#[test]
fn aggregates_of_one_key_share_one_row() {
    let features = json!({
        "count": {"aggregate": {"function": "count", "by": ["event.household_id"]}},
        "sum": household("sum"), "mean": household("mean"), "max": household("max"),
        "last": {"aggregate": {"function": "time_since_last", "unit": "seconds", "by": "event.household_id"}},
        "kept": {"aggregate": {"function": "count", "by": "event.household_id", "store": "household_state"}},
        "basket": aggregate("sum", "event.value", json!(["event.household_id", "event.basket_id"])),
        "brief": {"aggregate": {"function": "count", "by": "event.household_id", "ttl": "1h"}},
    });
    let mut run = Run::all(features);
    let groups: Vec<_> = run
        .plan
        .groups()
        .iter()
        .map(|group| (group.store.as_str(), group.features.clone()))
        .collect();
    let own = ["count", "sum", "mean", "max", "last"].map(str::to_owned).to_vec();
    assert_eq!(groups.len(), 4);
    assert!(groups.contains(&("purchase", own)));
    assert!(groups.contains(&("household_state", vec!["kept".to_owned()])));
    let ttl = |feature: &str| {
        let group = run
            .plan
            .groups()
            .iter()
            .find(|group| group.features.contains(&feature.to_owned()));
        group.unwrap().ttl.map(|ttl| ttl.after.to_string())
    };
    assert_eq!(
        (ttl("kept").as_deref(), ttl("brief").as_deref(), ttl("sum")),
        (Some("90d"), Some("1h"), None)
    );

    run.at(1_000, r#"{"household_id": 1, "basket_id": 1, "value": 2}"#);
    run.at(5_000, r#"{"household_id": 1, "basket_id": 2, "value": 4}"#);
    run.at(8_000, r#"{"household_id": 1, "basket_id": 1, "value": 100}"#);
    assert_eq!(run.number("count"), 2.0);
    assert_eq!(run.number("sum"), 6.0);
    assert_eq!(run.number("mean"), 3.0);
    assert_eq!(run.number("max"), 4.0);
    assert_eq!(run.number("last"), 3.0);
    assert_eq!(run.number("basket"), 2.0);
    assert_eq!(run.state.len(), 5);
    assert_eq!(run.evaluator.take_counts().state_reads, 12);
}

#[test]
fn an_aggregate_is_read_as_before_the_event_unless_it_includes_it() {
    let including = |function: &str| json!({"aggregate": {"function": function, "of": "event.value", "by": "event.household_id", "including_this": true}});
    let mut run = Run::all(json!({
        "before": household("sum"), "after": including("sum"), "mean_before": household("mean"), "mean_after": including("mean"),
        "first": including("first"), "last": household("last"), "min": including("min"),
    }));
    run.at(0, r#"{"household_id": "h", "value": 3}"#);
    assert_eq!((run.number("before"), run.number("after")), (0.0, 3.0));
    assert_eq!(
        (run.feature("mean_before"), run.number("mean_after")),
        (Scalar::Missing, 3.0)
    );
    assert_eq!((run.number("first"), run.feature("last")), (3.0, Scalar::Missing));
    run.at(0, r#"{"household_id": "h", "value": 5}"#);
    assert_eq!((run.number("before"), run.number("after")), (3.0, 8.0));
    assert_eq!((run.number("mean_before"), run.number("mean_after")), (3.0, 4.0));
    assert_eq!(
        (run.number("first"), run.number("last"), run.number("min")),
        (3.0, 3.0, 3.0)
    );
    // An event without the value reads, and changes nothing.
    run.at(0, r#"{"household_id": "h"}"#);
    assert_eq!((run.number("before"), run.number("after")), (8.0, 8.0));
    // Nor does one whose value is not finite, or one without the key.
    run.at(0, r#"{"value": 5}"#);
    assert_eq!(
        (run.feature("before"), run.feature("after")),
        (Scalar::Missing, Scalar::Missing)
    );
    run.at(0, r#"{"household_id": "h", "value": 1}"#);
    assert_eq!(run.number("before"), 8.0);
}

#[test]
fn what_is_not_finite_does_not_enter_an_aggregate() {
    let mut run = Run::all(json!({"sum": aggregate("sum", "event.a / event.b", json!(["event.household_id"]))}));
    run.at(0, r#"{"household_id": 1, "a": 1, "b": 0}"#);
    run.at(0, r#"{"household_id": 1, "a": 0, "b": 0}"#);
    run.at(0, r#"{"household_id": 1, "a": 3, "b": 2}"#);
    run.at(0, r#"{"household_id": 1}"#);
    assert_eq!(run.number("sum"), 1.5);
}

#[test]
fn an_aggregate_may_build_on_others() {
    let mut run = Run::all(json!({
        "mean": household("mean"),
        "excess": {"expression": "event.value - mean", "default": 0.0},
        "excess_sum": {"aggregate": {"function": "sum", "of": "excess", "by": "event.household_id"}},
        "big": {"expression": "excess_sum > 5.0"},
    }));
    for value in [10, 14, 20] {
        run.at(0, &format!(r#"{{"household_id": 1, "value": {value}}}"#));
    }
    assert_eq!(run.number("excess"), 8.0);
    assert_eq!(run.number("excess_sum"), 4.0);
    run.at(0, r#"{"household_id": 1, "value": 0}"#);
    assert_eq!(run.number("excess_sum"), 12.0);
    assert_eq!(run.feature("big"), Scalar::Bool(true));
    assert_eq!(run.plan.groups().len(), 2);
}

#[test]
fn lookups_give_the_fields_of_rows() {
    let mut run = Run::all(json!({
        "product": {"lookup": {"store": "products", "key": "event.product_id"}},
        "is_private": {"expression": "product.brand == 'Private' ? 1.0 : 0.0", "default": 0.5},
        "size": {"expression": "product.size.n"},
        "brand": {"expression": "product.brand", "default": "none"},
        "known": {"expression": "has(product.brand)"},
        "type_count": {"aggregate": {"function": "count", "by": ["event.household_id", "product.type"]}},
    }))
    .product("7", r#"{"type": "TEA", "brand": "Private", "size": {"n": 2.5}}"#)
    .product("a/b", r#"{"brand": "National", "type": "TEA"}"#);
    run.at(0, r#"{"product_id": 7, "household_id": 1}"#);
    assert_eq!((run.number("is_private"), run.number("size")), (1.0, 2.5));
    assert_eq!(
        (run.feature("brand"), run.feature("known")),
        (Scalar::Text("Private"), Scalar::Bool(true))
    );
    run.at(0, r#"{"product_id": "a\/b", "household_id": 1}"#);
    assert_eq!((run.number("is_private"), run.feature("size")), (0.0, Scalar::Missing));
    assert_eq!(run.number("type_count"), 1.0);
    for value in [r#"{"product_id": 8, "household_id": 1}"#, r#"{"household_id": 1}"#] {
        run.at(0, value);
        assert_eq!(
            (run.number("is_private"), run.feature("brand")),
            (0.5, Scalar::Text("none"))
        );
        assert_eq!(
            (run.feature("known"), run.feature("type_count")),
            (Scalar::Bool(false), Scalar::Missing)
        );
    }
    let counts = run.evaluator.take_counts();
    assert_eq!(
        (counts.events, counts.lookups, counts.lookups_missed, counts.state_reads),
        (4, 3, 1, 2)
    );
    let mut lookups = Vec::new();
    run.evaluator
        .take_lookups(|feature, store, counts| lookups.push((feature.to_owned(), store.to_owned(), counts)));
    let counts = LookupCounts {
        asked: 3,
        missed: 1,
        without_key: 1,
    };
    assert_eq!(lookups, [("product".to_owned(), "products".to_owned(), counts)]);
    run.evaluator
        .take_lookups(|feature, _, _| panic!("{feature} is counted twice"));
    assert!(run.plan.has_default("is_private") && !run.plan.has_default("known"));
    let index = run.plan.features().position(|(name, _)| name == "is_private").unwrap();
    assert_eq!(run.evaluator.missing_counts()[index], 2);
}

#[test]
fn rows_have_the_features_in_the_models_order() {
    let view = purchases(json!({
        "quantity": {"expression": "event.quantity", "default": -1},
        "big": {"expression": "event.quantity > 2.0"},
        "hour": {"expression": "event_time.getHours()"},
        "none": {"expression": "event.none"},
        "text": {"expression": "event.text", "default": 9},
    }));
    let wanted = Wanted::new()
        .inputs(["hour", "big", "quantity", "none", "text"])
        .expression("key", "event.text");
    let mut run = Run::new(&view, &wanted);
    let slots: Vec<_> = ["hour", "big", "quantity", "none", "text"]
        .map(|name| run.plan.slot(name).unwrap())
        .into();
    let key = run.plan.expression("event.text").unwrap();
    let mut rows: Vec<f32> = Vec::new();
    run.at(7_200_000, r#"{"quantity": 3, "text": "a"}"#)
        .evaluator
        .write_row(&slots, &mut rows)
        .unwrap();
    assert_eq!(run.evaluator.scalar(key), Scalar::Text("a"));
    run.at(0, r#"{"text": 4.5}"#)
        .evaluator
        .write_row(&slots, &mut rows)
        .unwrap();
    assert_eq!(rows[..3], [2.0, 1.0, 3.0]);
    assert!(rows[3].is_nan());
    // Text is no number: the default stands for it.
    assert_eq!(rows[4..6], [9.0, 0.0]);
    assert!(rows[6].is_nan());
    assert_eq!((rows[7], rows[9]), (-1.0, 4.5));
}

#[test]
fn output_keys_and_filters_are_part_of_the_plan() {
    let view = purchases(json!({"quantity": {"expression": "event.quantity", "default": 0}}));
    let wanted = Wanted::new()
        .expression("output.key", "event.household_id")
        .expression("subscribe.event_type", "headers['type']")
        .filter("subscribe.filter", "quantity > 0.0")
        .filter("subscribe.filter", "event.quantity > 0");
    let mut run = Run::new(&view, &wanted);
    let ids: Vec<_> = [
        "event.household_id",
        "headers['type']",
        "quantity > 0.0",
        "event.quantity > 0",
    ]
    .map(|text| run.plan.expression(text).unwrap())
    .into();
    let headers = [("type", Some(b"purchase".as_slice()))];
    let event = Event {
        headers: &headers,
        ..event(r#"{"household_id": "h\u0031", "quantity": 2}"#)
    };
    run.evaluator
        .evaluate(&event, &mut run.globals, &mut run.state)
        .unwrap();
    let given: Vec<_> = ids.iter().map(|id| run.evaluator.scalar(*id)).collect();
    assert_eq!(
        given,
        [
            Scalar::Text("h1"),
            Scalar::Text("purchase"),
            Scalar::Bool(true),
            Scalar::Bool(true)
        ]
    );
    run.at(0, r#"{"household_id": 12}"#);
    let given: Vec<_> = ids.iter().map(|id| run.evaluator.scalar(*id)).collect();
    assert_eq!(
        given,
        [
            Scalar::Number(12.0),
            Scalar::Missing,
            Scalar::Bool(false),
            Scalar::Missing
        ]
    );
    assert!(!given[3].is_true());
    let mut key = Vec::new();
    assert!(given[0].write_plain(&mut key));
    assert_eq!(key, b"12");
}

/// What one model takes as a column, another may have in an expression: each has it as if it were alone.
#[test]
fn a_column_changes_nothing_for_expressions() {
    let view = purchases(json!({
        "f": {"expression": "event.f", "default": 9},
        "n": {"aggregate": {"function": "count", "of": "f", "by": "event.household_id"}},
    }));
    let alone = Wanted::new()
        .state(&view)
        .expression("output.key", "f")
        .filter("subscribe.filter", "f == 'abc'");
    let together = alone.clone().input("f");
    let given = |wanted: &Wanted| {
        let mut run = Run::new(&view, wanted);
        for value in [
            r#"{"household_id": 1, "f": "abc"}"#,
            r#"{"household_id": 1, "f": "abc"}"#,
        ] {
            run.at(0, value);
        }
        let scalar = |text: &str| format!("{:?}", run.evaluator.scalar(run.plan.expression(text).unwrap()));
        (
            scalar("f"),
            scalar("f == 'abc'"),
            run.number("n"),
            run.evaluator.missing_counts().to_vec(),
        )
    };
    let (alone, together) = (given(&alone), given(&together));
    assert_eq!((&alone.0, &alone.1, alone.2), (&together.0, &together.1, together.2));
    assert_eq!((alone.0.as_str(), alone.2), (r#"Text("abc")"#, 1.0));
    assert_eq!((alone.3[0], together.3[0]), (0, 2));
}

/// Whoever reads a view: rows hold the same, and live as long.
#[test]
fn state_follows_from_the_view_alone() {
    let view = purchases(json!({
        "x_sum": {"aggregate": {"function": "sum", "of": "event.x", "by": "event.household_id", "ttl": "1s"}},
        "all": {"aggregate": {"function": "count", "by": "event.household_id", "ttl": "1s"}},
    }));
    let given = |inputs: &[&str]| {
        let mut run = Run::new(&view, &Wanted::new().state(&view).inputs(inputs.to_vec()));
        run.at(0, r#"{"household_id": 1, "x": 5}"#);
        // Only what counts every event keeps the row alive.
        run.at(800, r#"{"household_id": 1}"#);
        run.at(1_600, r#"{"household_id": 1}"#);
        let sum = run.number("x_sum");
        let mut rows: Vec<_> = run.state.rows().map(|(key, row)| (key.to_vec(), row.clone())).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        (sum, rows)
    };
    assert_eq!(given(&["x_sum"]), given(&["x_sum", "all"]));
    assert_eq!(given(&["x_sum"]).0, 5.0);
}

fn timed(event_time: &str) -> FeatureView {
    view(json!({
        "kind": "feature_view", "name": "v", "source": "t", "event_time": event_time,
        "features": {"hour": {"expression": "event_time.getHours()"}},
    }))
}

#[test]
fn event_time_comes_from_the_event() {
    let mut run = Run::new(&timed("event.at"), &Wanted::new().input("hour"));
    run.at(1, r#"{"at": "2026-03-01T05:00:00Z"}"#);
    assert_eq!(run.feature("hour"), Scalar::Integer(5));
    run.at(1, r#"{"at": 7200000}"#);
    assert_eq!(
        (run.evaluator.event_time_ms(), run.feature("hour")),
        (7_200_000, Scalar::Integer(2))
    );
    for value in [
        "{}",
        r#"{"at": "soon"}"#,
        r#"{"at": true}"#,
        r#"{"at": 1e300}"#,
        r#"{"at": 9e15}"#,
    ] {
        let error = run
            .evaluator
            .evaluate(&event(value), &mut run.globals, &mut run.state)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "event_time `event.at` is missing, or neither epoch milliseconds nor an RFC 3339 time",
            "{value}"
        );
    }
    // As far as numbers go: none of them is a time.
    let mut run = Run::new(&timed("int(event.at)"), &Wanted::new().input("hour"));
    for at in [
        i64::MIN,
        i64::MIN + 1,
        -8_640_000_000_000_001,
        8_640_000_000_000_001,
        i64::MAX,
    ] {
        let value = format!(r#"{{"at": "{at}"}}"#);
        let error = run
            .evaluator
            .evaluate(&event(&value), &mut run.globals, &mut run.state)
            .unwrap_err();
        assert!(error.to_string().contains("is missing, or neither"), "{at}: {error}");
    }
    let refused = |text: &str| {
        let view = timed(text);
        let errors = FeaturePlan::compile(&view, &Wanted::everything(&view), &stores()).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        refused("hour"),
        ["event_time: `hour` is a feature, and features come after the event time"]
    );
    assert_eq!(
        refused("event_time"),
        ["event_time: `event_time` cannot be made from itself"]
    );
    assert_eq!(
        refused("true"),
        ["event_time: is a bool; it must be a number of epoch milliseconds, a text or a timestamp"]
    );
}

struct BrokenState;

impl AggregateStore for BrokenState {
    fn take_time(&mut self, event_time_ms: i64) -> Result<(), String> {
        if event_time_ms > 1_000_000 {
            return Err("is ahead".to_owned());
        }
        Ok(())
    }

    fn read(&mut self, _: usize, _: &[u8]) -> Result<Option<&AggregateRow>, StateFault> {
        Err(StateFault("disk is gone".into()))
    }

    fn update(&mut self, _: usize, _: &[u8]) -> Result<&mut AggregateRow, StateFault> {
        Err(StateFault("disk is gone".into()))
    }
}

struct UntouchedState;

impl AggregateStore for UntouchedState {
    fn take_time(&mut self, _: i64) -> Result<(), String> {
        Err("is ahead".to_owned())
    }

    fn read(&mut self, _: usize, _: &[u8]) -> Result<Option<&AggregateRow>, StateFault> {
        panic!("state is read");
    }

    fn update(&mut self, _: usize, _: &[u8]) -> Result<&mut AggregateRow, StateFault> {
        panic!("state is changed");
    }
}

struct NoRows;

impl GlobalLookup for NoRows {
    fn get(&mut self, _: usize, _: &[u8]) -> Option<Arc<CatalogRow>> {
        None
    }
}

#[test]
fn only_an_object_is_an_event() {
    let mut run = Run::all(json!({"sum": household("sum"), "a": {"expression": "event.a", "default": 7}}));
    for (value, found) in [
        ("[1]", "an array"),
        (" 5 ", "a number"),
        ("-1", "a number"),
        ("\"s\"", "a string"),
        ("null", "null"),
        ("\n true", "a bool"),
        ("false", "a bool"),
    ] {
        let error = run
            .evaluator
            .evaluate(&event(value), &mut NoRows, &mut UntouchedState)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the value is {found}, an event must be a JSON object")
        );
    }
    run.at(0, " {}");
    assert_eq!(run.number("a"), 7.0);
}

/// Ids of which a double cannot tell one from the other have aggregates of their own, and a row of their own in a store.
#[test]
fn ids_of_64_bits_are_keys_of_their_own() {
    let mut run = Run::all(json!({
        "count": {"aggregate": {"function": "count", "by": ["event.household_id"]}},
        "sum": household("sum"), "max": household("max"),
        "product": {"lookup": {"store": "products", "key": "event.product_id"}},
        "price": {"expression": "product.price"},
    }))
    .product("1234567890123456789", r#"{"price": 9007199254740993}"#);
    run.at(0, r#"{"household_id": 9007199254740992, "value": 9007199254740993}"#);
    run.at(
        0,
        r#"{"household_id": 9007199254740993, "value": 1, "product_id": 1234567890123456789}"#,
    );
    assert_eq!(run.number("count"), 0.0);
    assert_eq!(run.feature("price"), Scalar::Integer(9_007_199_254_740_993));
    run.at(0, r#"{"household_id": 9007199254740992.0, "value": 2}"#);
    assert_eq!(run.feature("sum"), Scalar::Integer(9_007_199_254_740_993));
    run.at(0, r#"{"household_id": 9007199254740992, "value": 2}"#);
    assert_eq!((run.number("count"), run.state.len()), (2.0, 2));
    assert_eq!(run.feature("sum"), Scalar::Integer(9_007_199_254_740_995));
    assert_eq!(run.feature("max"), Scalar::Integer(9_007_199_254_740_993));
}

#[test]
fn a_default_keeps_its_digits() {
    let features = json!({"id": {"expression": "event.id", "default": 9007199254740993u64},
        "wide": {"expression": "event.id", "default": u64::MAX}});
    let document = Resource::FeatureView(purchases(features.clone())).document();
    assert_eq!(document["features"]["id"]["default"], json!(9007199254740993u64));
    assert_eq!(
        parse_document(&document).unwrap(),
        Resource::FeatureView(purchases(features.clone()))
    );
    let mut run = Run::all(features);
    run.at(0, "{}");
    assert_eq!(run.feature("id"), Scalar::Integer(9_007_199_254_740_993));
    assert_eq!(run.feature("wide"), Scalar::Unsigned(u64::MAX));
}

#[test]
fn bad_events_touch_no_state_and_state_faults_are_given() {
    let mut run = Run::all(json!({"sum": household("sum")}));
    let good = r#"{"household_id": 1, "value": 1}"#;
    let bad = [
        r#"{"household_id": 1, "value": 1"#,
        "",
        "\u{1}",
        r#"{"household_id": 1, "value": 1} 2"#,
    ];
    for value in bad {
        let error = run
            .evaluator
            .evaluate(&event(value), &mut NoRows, &mut UntouchedState)
            .unwrap_err();
        assert!(matches!(error, EventError::Json { .. }), "{error}");
    }
    let error = run
        .evaluator
        .evaluate(&event(good), &mut NoRows, &mut UntouchedState)
        .unwrap_err();
    assert!(
        matches!(&error, EventError::Refused(reason) if reason == "is ahead"),
        "{error}"
    );
    let error = run
        .evaluator
        .evaluate(&event(good), &mut NoRows, &mut BrokenState)
        .unwrap_err();
    assert_eq!(error.to_string(), "state of aggregates: disk is gone");
    assert!(matches!(error, EventError::State(_)));
    run.at(0, good).at(0, good);
    assert_eq!(run.number("sum"), 1.0);
}

/// A key and a row as an earlier build wrote them: what is stored must be found by every later one.
#[test]
fn what_is_stored_does_not_change_its_form() {
    let mut run =
        Run::all(json!({"sum": household("sum"), "count": household("count"), "doubled": {"expression": "sum * 2.0"}}));
    run.at(7, r#"{"household_id": "h", "value": 3}"#);
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (key, row) = run.state.rows().next().unwrap();
    let mut encoded = Vec::new();
    row.encode(&mut encoded);
    assert_eq!(hexadecimal(key), "b62f253e13b42b12030000000168");
    assert_eq!(
        hexadecimal(&encoded),
        "0102eb57ec21020000000000000840000000000000f03fb785f4ce01000000000000f03f"
    );
}
