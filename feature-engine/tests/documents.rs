//! The documents of the user's guide: each parses, and what the product does not do yet is refused by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use feature_engine::resource::*;
use serde_json::json;

fn errors(text: &str) -> Vec<(String, String)> {
    parse(text)
        .expect_err(text)
        .into_iter()
        .map(|error| (error.field, error.message))
        .collect()
}

/// The one error of a document.
fn error(text: &str) -> (String, String) {
    let mut errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

fn assert_error(text: &str, field: &str, message: &str) {
    assert_eq!(error(text), (field.to_owned(), message.to_owned()), "{text}");
}

const TENANT: &str = r#"
apiVersion: millrace/v1
kind: tenant
name: personalization
weight: 3                       # share of inference CPU under contention; idle shares are lent
rate: { events_per_second: 5000, burst: 10000, over: wait }
memory: 256MiB
cpu: { max_share: 0.5 }
feature_log: { retention: 7d, max_bytes: 10GiB }
outputs: { topic: predictions.personalization, shed: personalization.shed, errors: personalization.errors }
access: { read: [team-a], write: [team-a-admins] }
"#;

#[test]
fn the_guides_tenant() {
    let Resource::Tenant(tenant) = parse(TENANT).unwrap() else {
        panic!("not a tenant")
    };
    assert_eq!(tenant.name, "personalization");
    assert_eq!(tenant.weight, 3);
    assert_eq!(
        tenant.rate,
        Some(Rate {
            events_per_second: 5000.0,
            burst: 10000.0,
            over: OverLimit::Wait
        })
    );
    assert_eq!(tenant.memory.as_bytes(), 256 << 20);
    assert_eq!(tenant.cpu, Some(CpuLimit { max_share: 0.5 }));
    assert_eq!(tenant.feature_log.retention.as_millis(), 7 * 86_400_000);
    assert_eq!(tenant.feature_log.max_bytes.unwrap().as_bytes(), 10 << 30);
    assert_eq!(tenant.outputs.shed.as_deref(), Some("personalization.shed"));
    assert_eq!(tenant.access.write, ["team-a-admins"]);
}

#[test]
fn a_tenant_has_defaults() {
    let Resource::Tenant(tenant) = parse("{\"kind\": \"tenant\", \"name\": \"a\"}").unwrap() else {
        panic!()
    };
    assert_eq!(tenant, Tenant::named("a"));
}

const PRODUCTS: &str = "
kind: store
name: products
global: { topic: catalog.products }
value: { format: json }
gate: { min_rows: 50000, max_shrink: 10%, required: [product_type] }
";

const HOUSEHOLD_STATE: &str = "
kind: store
name: household_state
keyed: { by: event.household_id }
ttl: { after: 90d, since: write }
archive: true
";

#[test]
fn the_guides_stores() {
    let Resource::Store(store) = parse(PRODUCTS).unwrap() else {
        panic!("not a store")
    };
    assert_eq!(store.global_topic(), Some("catalog.products"));
    let StoreKind::Global { gate: Some(gate), .. } = store.kind else {
        panic!("no gate")
    };
    let required = vec!["product_type".to_owned()];
    assert_eq!(
        gate,
        Gate {
            min_rows: Some(50000),
            max_shrink: Some(0.1),
            required
        }
    );

    let Resource::Store(store) = parse(HOUSEHOLD_STATE).unwrap() else {
        panic!("not a store")
    };
    assert_eq!(
        store.ttl(),
        Some(Ttl {
            after: TimeSpan::parse("90d").unwrap(),
            since: Since::Write
        })
    );
    assert!(matches!(store.kind, StoreKind::Keyed { archive: true, .. }));
    let standby = format!("{HOUSEHOLD_STATE}standby: 1\n");
    assert_error(
        &standby,
        "standby",
        "`standby` is not supported yet; state is restored from the changelog; use 0",
    );
    assert!(parse(&format!("{HOUSEHOLD_STATE}standby: 0\n")).is_ok());
}

#[test]
fn stores_refuse_what_does_not_fit() {
    assert_error(
        "kind: store\nname: a",
        "",
        "a store needs `global` (a topic) or `keyed` (what it is keyed by)",
    );
    assert_error(
        "kind: store\nname: a\nglobal: {topic: t}\nkeyed: {by: event.x}",
        "",
        "a store has either `global` or `keyed`, not both",
    );
    assert_error(
        "kind: store\nname: a\nglobal: {topic: t}\nttl: {after: 1d}",
        "ttl",
        "is of keyed stores only",
    );
    assert_error(
        "kind: store\nname: a\nkeyed: {by: event.x}\ngate: {}",
        "gate",
        "is of global stores only",
    );
    assert_error(
        "kind: store\nname: a\nkeyed: {by: event.x}\narchive: true",
        "archive",
        "needs a `ttl`: only expired entries are archived",
    );
    assert_error(
        "kind: store\nname: a\nglobal: {topic: t}\nvalue: {format: avro}",
        "value.format",
        "`value.format` is not supported yet; `avro` values cannot be read; use json",
    );
    assert_error(
        "kind: store\nname: a\nkeyed: {by: event.x}\nvalue: {format: json}",
        "value",
        "is of global stores only",
    );
    assert_error(
        "kind: store\nname: a\nkeyed: {by: event.x}\nkey: {format: json}",
        "key",
        "is of global stores only",
    );
}

#[test]
fn a_global_store_says_how_its_keys_are_written() {
    let store = |key: &str| format!("kind: store\nname: a\nglobal: {{topic: t}}\n{key}\n");
    let format = |key: &str| match parse(&store(key)).unwrap() {
        Resource::Store(Store {
            kind: StoreKind::Global { key, .. },
            ..
        }) => key,
        other => panic!("{other:?}"),
    };
    let json = |fields: &[&str], separator: &str| {
        Some(KeyFormat::Json {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            separator: separator.to_owned(),
        })
    };
    assert_eq!(format(""), None);
    for (name, expected) in [
        ("string", KeyFormat::String),
        ("short", KeyFormat::Short),
        ("integer", KeyFormat::Integer),
        ("long", KeyFormat::Long),
    ] {
        assert_eq!(format(&format!("key: {{format: {name}}}")), Some(expected));
    }
    assert_eq!(format("key: {format: json}"), json(&[], "|"));
    assert_eq!(format("key: {format: json, fields: id}"), json(&["id"], "|"));
    assert_eq!(
        format("key: {format: json, fields: [shop, id], separator: '/'}"),
        json(&["shop", "id"], "/")
    );
    for (key, field, message) in [
        ("key: {}", "key.format", "is required"),
        (
            "key: {format: avro}",
            "key.format",
            "`key.format` is not supported yet; `avro` keys cannot be read; use string, json, short, integer or long, or leave `key` out where StringConverter or JsonConverter writes the keys",
        ),
        (
            "key: {format: long, fields: [id]}",
            "key.fields",
            "is of keys in JSON only: those of other formats have no fields",
        ),
        (
            "key: {format: json, fields: [id], separator: '/'}",
            "key.separator",
            "stands between several `fields`, and there are not several",
        ),
        (
            "key: {format: json, fields: [id, id]}",
            "key.fields",
            "names a field twice",
        ),
        ("key: {format: json, name: id}", "key.name", "is not a known field here"),
    ] {
        assert_error(&store(key), field, message);
    }
    // What was read is written so that it is read again.
    for key in ["", "key: {format: json, fields: [shop, id]}", "key: {format: long}"] {
        let store = parse(&store(key)).unwrap();
        assert_eq!(parse_document(&store.document()).unwrap(), store);
    }
}

const VIEW: &str = r#"
kind: feature_view
name: purchase
source: events.purchases
entity: household                          # what the rows are about
partitioned_by: event.household_id         # every keyed aggregate contains it, else PUT refuses
event_time: event.transaction_timestamp    # default: the record's timestamp
features:
  product:      { lookup: { store: products, key: event.product_id } }
  hour:         { expression: "event_time.getHours()" }
  is_private:   { expression: "product.brand == 'Private' ? 1.0 : 0.0", default: 0.0 }
  basket_total: { aggregate: { function: sum, of: event.sales_value, by: [event.household_id, event.basket_id], ttl: 1d } }
  type_count:   { aggregate: { function: count, by: [event.household_id, product.product_type], store: household_state } }
  days_since:   { aggregate: { function: time_since_last, unit: days, by: [event.household_id, product.product_type], store: household_state } }
"#;

#[test]
fn the_guides_feature_view() {
    let Resource::FeatureView(view) = parse(VIEW).unwrap() else {
        panic!("not a view")
    };
    assert_eq!(view.features.len(), 6);
    assert_eq!(view.partitioned_by.as_deref(), Some("event.household_id"));
    assert_eq!(view.features["is_private"].default, Some(Default::Number(0.0)));
    let FeatureDefinition::Aggregate(spec) = &view.features["days_since"].definition else {
        panic!()
    };
    assert_eq!(
        (spec.function, spec.unit),
        (Function::TimeSinceLast, Some(TimeUnit::Days))
    );
    assert_eq!(spec.by, ["event.household_id", "product.product_type"]);
    assert!(!spec.including_this);
}

#[test]
fn what_the_guides_feature_view_has_beyond_is_refused_by_name() {
    let rest = r#"
  spend_7d:     { aggregate: { function: sum, of: event.sales_value, by: event.household_id, window: { sliding: 7d } } }
  fraud:        { inference: { model: ads/fraud, output: probability } }
  last_bid:     { inference: { model: ads/bid, output: bid, latest_for: event.household_id } }
"#;
    let expected = [
        (
            "features.spend_7d.aggregate.window",
            "`features.spend_7d.aggregate.window` is not supported yet; an aggregate is over all events of its key within \
             its time to live",
        ),
        (
            "features.fraud.inference",
            "`features.fraud.inference` is not supported yet; a feature cannot be another model's result",
        ),
        (
            "features.last_bid.inference",
            "`features.last_bid.inference` is not supported yet; a feature cannot be another model's result",
        ),
    ];
    let expected: Vec<_> = expected
        .map(|(field, message)| (field.to_owned(), message.to_owned()))
        .into();
    assert_eq!(errors(&format!("{}{}", VIEW.trim_end(), rest)), expected);
}

fn view_with(feature: &str) -> String {
    format!("kind: feature_view\nname: v\nsource: t\npartitioned_by: event.k\nfeatures:\n  f: {feature}\n")
}

#[test]
fn features_refuse_what_does_not_fit() {
    let aggregate = |rest: &str| view_with(&format!("{{ aggregate: {{ {rest} }} }}"));
    for (feature, field, message) in [
        (
            view_with("{}"),
            "features.f",
            "a feature needs one of lookup, expression or aggregate",
        ),
        (
            view_with("{expression: '1', lookup: {store: s, key: event.x}}"),
            "features.f",
            "a feature has one definition, not lookup and expression",
        ),
        (
            view_with("{expression: '1', defualt: 1}"),
            "features.f.defualt",
            "is not a known field here",
        ),
        (
            view_with("{expression: '1', default: [1]}"),
            "features.f.default",
            "expected a number, true, false or text",
        ),
        (
            view_with("{lookup: {store: s, key: event.x}, default: 1}"),
            "features.f.default",
            "a lookup is a row and has no default; give one to the expressions that use it",
        ),
        (
            aggregate("function: distinct, of: event.x, by: event.k"),
            "features.f.aggregate.function",
            "`distinct` is not supported yet",
        ),
        (
            aggregate("function: quantile, of: event.x, by: event.k"),
            "features.f.aggregate.function",
            "`quantile` is not supported yet",
        ),
        (
            aggregate("function: median, of: event.x, by: event.k"),
            "features.f.aggregate.function",
            "`median` is not known; use one of count, sum, mean, min, max, first, last, time_since_last, decayed_sum",
        ),
        (
            aggregate("function: sum, by: event.k"),
            "features.f.aggregate.of",
            "is required: the expression that is aggregated",
        ),
        (
            aggregate("function: time_since_last, by: event.k"),
            "features.f.aggregate.unit",
            "is required: ms, seconds, minutes, hours or days",
        ),
        (
            aggregate("function: count, by: event.k, unit: days"),
            "features.f.aggregate.unit",
            "is of time_since_last only",
        ),
        (
            aggregate("function: decayed_sum, of: event.x, by: event.k"),
            "features.f.aggregate.half_life",
            "is required: the time in which a value halves, such as 1h",
        ),
        (
            aggregate("function: sum, of: event.x, by: event.k, half_life: 1h"),
            "features.f.aggregate.half_life",
            "is of decayed_sum only",
        ),
        (aggregate("function: count"), "features.f.aggregate.by", "is required"),
        (
            aggregate("function: count, by: []"),
            "features.f.aggregate.by",
            "needs at least one expression",
        ),
        (
            aggregate("function: count, by: event.k, window: {tumbling: 5m}"),
            "features.f.aggregate.window",
            "`features.f.aggregate.window` is not supported yet; an aggregate is over all events of its key within its \
             time to live",
        ),
    ] {
        assert_error(&feature, field, message);
    }
    assert_error(
        "kind: feature_view\nname: v\nsource: t\nfeatures: {f: {aggregate: {function: count, by: event.k}}}",
        "partitioned_by",
        "is required where a feature is an aggregate: the expression that the topic is partitioned by",
    );
    assert_error(
        "kind: feature_view\nname: v\nsource: t\nfeatures: {event: {expression: '1'}}",
        "features.event",
        "`event` has a meaning of its own in expressions; use another name",
    );
    assert_error(
        "kind: feature_view\nname: v\nsource: t\nfeatures: {a-b: {expression: '1'}}",
        "features.a-b",
        "`a-b` is not a feature name; use a letter or _, then letters, digits or _, at most 63",
    );
}

const MODEL: &str = r#"
kind: model
tenant: personalization
name: reorder
version: 3
artifact: s3://models/reorder/3.onnx
sha256: 9f2c000000000000000000000000000000000000000000000000000000000000
subscribe: { topics: [events.purchases], events: [purchase], event_type: "headers['type']", filter: "event.quantity > 0" }
inputs: { features: [quantity, sales_value, hour, type_count, days_since] }
trigger: { each: {} }
output: { topic: predictions.reorder, key: event.household_id, fields: { probability: "probabilities[1]" }, format: json, store: reorder_latest }
deadline: 50ms
on_error: { open_after: 20, within: 1m, retry_after: 30s }
"#;

#[test]
fn the_guides_model() {
    let Resource::Model(model) = parse(MODEL).unwrap() else {
        panic!("not a model")
    };
    assert_eq!(model.identity(), "personalization/reorder");
    assert_eq!(model.version, Some(3));
    assert_eq!(model.subscribe.event_type.as_deref(), Some("headers['type']"));
    assert_eq!(
        model.input_features().collect::<Vec<_>>(),
        ["quantity", "sales_value", "hour", "type_count", "days_since"]
    );
    assert_eq!(model.trigger, Trigger::Each {});
    assert_eq!(model.output.fields["probability"], "probabilities[1]");
    assert_eq!(model.deadline, Some(TimeSpan::from_millis(50)));
    let span = TimeSpan::from_millis;
    assert_eq!(
        model.on_error,
        Some(Breaker {
            open_after: 20,
            within: span(60_000),
            retry_after: span(30_000)
        })
    );
}

fn model_with(from: &str, to: &str) -> String {
    assert!(MODEL.contains(from), "{from}");
    MODEL.replace(from, to)
}

#[test]
fn the_guides_triggers() {
    let trigger = |text: &str| {
        let Resource::Model(model) = parse(&model_with("trigger: { each: {} }", text)).unwrap() else {
            panic!()
        };
        model.trigger
    };
    assert_eq!(
        trigger("trigger: { batch: { max_batch_size: 64, max_queue_delay: 10ms } }"),
        Trigger::Batch {
            max_batch_size: 64,
            max_queue_delay: TimeSpan::from_millis(10)
        }
    );
    assert_eq!(
        trigger("trigger: { window: { tumbling: 5m, grace: 30s, by: event.household_id, emit: final } }"),
        Trigger::Window {
            tumbling: TimeSpan::from_millis(300_000),
            grace: TimeSpan::from_millis(30_000),
            by: vec!["event.household_id".to_owned()],
            emit: Emit::Final,
        }
    );
}

#[test]
fn models_refuse_what_is_not_supported_and_what_does_not_fit() {
    let trigger = |text: &str| model_with("trigger: { each: {} }", &format!("trigger: {text}"));
    for (document, field, message) in [
        (
            trigger("{ interval: { every: 1h, over: household_state, only: changed } }"),
            "trigger.interval",
            "`trigger.interval` is not supported yet; use each, batch or window",
        ),
        (
            trigger("{ window: { sliding: 5m, by: event.k } }"),
            "trigger.window.sliding",
            "`trigger.window.sliding` is not supported yet; use tumbling",
        ),
        (
            trigger("{ window: { hopping: 5m, by: event.k } }"),
            "trigger.window.hopping",
            "`trigger.window.hopping` is not supported yet; use tumbling",
        ),
        (
            trigger("{ window: { session: 5m, by: event.k } }"),
            "trigger.window.session",
            "`trigger.window.session` is not supported yet; use tumbling",
        ),
        (trigger("{}"), "trigger", "needs one of each, batch or window"),
        (
            trigger("{ each: {}, batch: { max_batch_size: 1, max_queue_delay: 1ms } }"),
            "trigger",
            "a model has one trigger, not each and batch",
        ),
        (
            trigger("{ batch: { max_batch_size: 0, max_queue_delay: 1ms } }"),
            "trigger.batch.max_batch_size",
            "expected a whole number from 1 to 65536",
        ),
        (
            format!("{MODEL}response_cache: {{ ttl: 1h }}\n"),
            "response_cache",
            "`response_cache` is not supported yet",
        ),
        (
            format!("{MODEL}rollout: {{ canary: 10% }}\n"),
            "rollout.canary",
            "`rollout.canary` is not supported yet; a new version takes over as a whole",
        ),
        (
            format!("{MODEL}rollout: {{ shadow: [2] }}\n"),
            "rollout.shadow",
            "`rollout.shadow` is not supported yet; put the version under another name and compare its outputs",
        ),
        (
            model_with("format: json", "format: avro"),
            "output.format",
            "`output.format` is not supported yet; `avro` values cannot be written; use json",
        ),
        (
            model_with("s3://models", "ftp://models"),
            "artifact",
            "`ftp://models/reorder/3.onnx` is not a URL with scheme s3 or file",
        ),
        (
            model_with("s3://models", "gs://models"),
            "artifact",
            "`gs://` is not supported yet; use s3:// or file://",
        ),
        (
            model_with("9f2c", "9F2C"),
            "sha256",
            "expected 64 lower-case hexadecimal digits",
        ),
        (
            model_with("name: reorder", "name: Reorder"),
            "name",
            "`Reorder` is not a name; use 1 to 63 of a-z, 0-9, _ and -",
        ),
        (
            model_with(", event_type: \"headers['type']\"", ""),
            "subscribe.event_type",
            "is required with `events`: the expression that gives an event's type, such as headers['type']",
        ),
        (
            model_with("events: [purchase], ", ""),
            "subscribe.events",
            "is required with `event_type`: the types to subscribe to",
        ),
        (
            model_with("deadline: 50ms", "deadline: 50"),
            "deadline",
            "expected a time span such as 30s, not a number",
        ),
        (
            model_with("deadline: 50ms", "deadline: 50 parsecs"),
            "deadline",
            "`50 parsecs` is not a time span; write a whole number with ms, s, m, h or d, such as 30s",
        ),
    ] {
        assert_error(&document, field, message);
    }
}

#[test]
fn every_error_of_a_document_is_given() {
    let document = json!({
        "apiVersion": "millrace/v2", "kind": "model", "name": "", "artifact": 7, "subscribe": {"topics": ["a b"]},
        "inputs": {"x": [1]}, "output": {"fields": {}}, "colour": "red"
    });
    let errors = parse_document(&document).unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    for field in [
        "apiVersion",
        "tenant",
        "name",
        "artifact",
        "subscribe.topics",
        "inputs.x[0]",
        "inputs.x",
        "trigger",
        "output.fields",
        "colour",
    ] {
        assert!(fields.contains(&field), "{field} in {errors:?}");
    }
}

#[test]
fn a_resource_is_written_as_it_is_read() {
    for text in [TENANT, PRODUCTS, HOUSEHOLD_STATE, VIEW, MODEL] {
        let resource = parse(text).unwrap();
        let document = resource.document();
        assert_eq!(document["apiVersion"], API_VERSION);
        assert_eq!(parse_document(&document).unwrap(), resource, "{document}");
        assert_eq!(parse(&document.to_string()).unwrap(), resource);
    }
}

#[test]
fn a_file_may_hold_several_documents() {
    let resources = parse_all(&format!("---\n{TENANT}---\n{PRODUCTS}---\n{MODEL}")).unwrap();
    assert_eq!(
        resources.iter().map(Resource::kind).collect::<Vec<_>>(),
        ["tenant", "store", "model"]
    );
    let errors = parse_all(&format!("{TENANT}---\nkind: store\nname: a\n")).unwrap_err();
    assert!(errors[0].message.starts_with("document 2: a store needs"), "{errors:?}");
}

#[test]
fn what_is_not_a_document_is_refused() {
    assert!(error("{").1.starts_with("not valid JSON"));
    assert!(error("a: [").1.starts_with("not valid YAML"));
    assert_error("- a", "", "expected an object, not a list");
    assert_error(
        "kind: sink",
        "kind",
        "`sink` is not known; use tenant, store, feature_view or model",
    );
    assert_error("name: a", "kind", "is required");
}
