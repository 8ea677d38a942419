//! Expressions over events: what they give, what is refused, and the `cel` crate's interpreter as the oracle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cel::{Context, Program, Value};
use feature_engine::resource::{FeatureView, Resource, Store, parse_document};
use feature_engine::{Evaluator, Event, FeaturePlan, MemoryGlobals, MemoryState, Scalar, Wanted};
use proptest::prelude::*;
use serde_json::json;

fn view(features: serde_json::Value) -> FeatureView {
    let document = json!({"kind": "feature_view", "name": "v", "source": "t", "features": features});
    match parse_document(&document).unwrap() {
        Resource::FeatureView(view) => view,
        other => panic!("{other:?}"),
    }
}

fn no_stores() -> BTreeMap<String, Store> {
    BTreeMap::new()
}

#[derive(Clone, Debug, PartialEq)]
enum Given {
    Missing,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Unsigned(u64),
    Text(String),
    Timestamp(i64),
}

impl From<Scalar<'_>> for Given {
    fn from(scalar: Scalar<'_>) -> Given {
        match scalar {
            Scalar::Missing => Given::Missing,
            Scalar::Bool(value) => Given::Bool(value),
            Scalar::Integer(value) => Given::Integer(value),
            Scalar::Number(value) => Given::Number(value),
            Scalar::Unsigned(value) => Given::Unsigned(value),
            Scalar::Text(text) => Given::Text(text.to_owned()),
            Scalar::Timestamp(value) => Given::Timestamp(value),
        }
    }
}

const HEADERS: [(&str, Option<&[u8]>); 3] = [
    ("type", Some(b"sale")),
    ("type", Some(b"purchase")),
    ("raw", Some(b"\xff")),
];

fn evaluate(expression: &str, value: &str, timestamp_ms: i64) -> Result<Given, String> {
    let wanted = Wanted::new().expression("expression", expression);
    let plan = FeaturePlan::compile(&view(json!({})), &wanted, &no_stores()).map_err(|errors| {
        assert!(errors.iter().all(|error| error.field == "expression"), "{errors:?}");
        errors
            .into_iter()
            .map(|error| error.message)
            .collect::<Vec<_>>()
            .join("; ")
    })?;
    let plan = Arc::new(plan);
    let id = plan.expression(expression).unwrap();
    let mut evaluator = Evaluator::new(Arc::clone(&plan));
    let event = Event {
        topic: "t",
        partition: 3,
        offset: 42,
        timestamp_ms,
        key: Some(b"k1"),
        value: value.as_bytes(),
        headers: &HEADERS,
    };
    evaluator
        .evaluate(&event, &mut MemoryGlobals::new(), &mut MemoryState::new(plan.groups()))
        .unwrap();
    Ok(evaluator.scalar(id).into())
}

fn given(expression: &str, value: &str) -> Given {
    // 2026-03-01T12:34:56.789Z, a Sunday
    evaluate(expression, value, 1_772_368_496_789).unwrap()
}

#[test]
fn expressions_give_values() {
    let event = r#"{"n": 2.5, "i": 3, "s": "Private \u20ac", "t": true, "nul": null, "o": {"p": {"q": "x"}}, "l": [1, 2], "on": "2026"}"#;
    let text = |text: &str| Given::Text(text.to_owned());
    for (expression, expected) in [
        ("event.n * 2.0", Given::Number(5.0)),
        ("event.i", Given::Number(3.0)),
        ("event.s", text("Private €")),
        ("event['s']", text("Private €")),
        ("event.o.p.q + '!'", text("x!")),
        ("event.o['p'].q", text("x")),
        (
            "event.s.startsWith('Priv') && !event.s.contains('z')",
            Given::Bool(true),
        ),
        ("event.s.endsWith('€')", Given::Bool(true)),
        ("size(event.s)", Given::Integer(9)),
        ("event.s.size()", Given::Integer(9)),
        ("size(event.l)", Given::Integer(2)),
        ("event.s.matches('^P.*t')", Given::Bool(true)),
        ("event.t ? 1.0 : 0.0", Given::Number(1.0)),
        ("event.i in [1, 2, 3]", Given::Bool(true)),
        ("event.s in ['a', 'b']", Given::Bool(false)),
        ("has(event.n)", Given::Bool(true)),
        ("has(event.nul)", Given::Bool(false)),
        ("has(event.none.deep)", Given::Bool(false)),
        ("has(event.o.p)", Given::Bool(true)),
        ("has(headers.type)", Given::Bool(true)),
        ("headers['type']", text("purchase")),
        ("headers['none']", Given::Missing),
        ("headers['raw']", Given::Missing),
        ("key + '/' + topic", text("k1/t")),
        ("partition", Given::Integer(3)),
        ("offset + 1", Given::Integer(43)),
        ("event_time.getHours()", Given::Integer(12)),
        ("event_time.getMinutes()", Given::Integer(34)),
        ("event_time.getSeconds()", Given::Integer(56)),
        ("event_time.getMilliseconds()", Given::Integer(789)),
        ("event_time.getDayOfWeek()", Given::Integer(0)),
        ("event_time.getDate()", Given::Integer(1)),
        ("event_time.getMonth()", Given::Integer(2)),
        ("event_time.getFullYear()", Given::Integer(2026)),
        ("event_time.getDayOfYear()", Given::Integer(59)),
        ("timestamp", Given::Timestamp(1_772_368_496_789)),
        ("int(timestamp)", Given::Integer(1_772_368_496)),
        ("timestamp == event_time", Given::Bool(true)),
        ("int(event.n) + int('4')", Given::Integer(6)),
        ("double(event.on)", Given::Number(2026.0)),
        ("string(event.n) + string(1) + string(true)", text("2.51true")),
        ("event.n == 'Private'", Given::Bool(false)),
    ] {
        assert_eq!(given(expression, event), expected, "{expression}");
    }
}

#[test]
fn something_missing_makes_the_result_missing() {
    let event = r#"{"n": 1, "nul": null, "s": "x", "o": {}, "l": []}"#;
    for expression in [
        "event.none",
        "event.nul",
        "event.o",
        "event.l",
        "event.n + event.none",
        "event.nul == event.n",
        "event.none == 'a'",
        "event.none in ['a']",
        "event.n in [1.0, event.none]",
        "!event.none",
        "event.none ? 1.0 : 2.0",
        "event.n < event.s",
        "event.n && true",
        "double(event.s)",
        "int(event.s)",
        "int(1e300)",
        "1 / 0",
        "1 % 0",
        "9223372036854775807 + 1",
        "-(-9223372036854775807 - 1)",
        "event.s - event.s",
        "event.s.x",
        "size(event.n)",
        "true && event.none",
        "false || event.none",
        "event.l == event.l",
    ] {
        assert_eq!(given(expression, event), Given::Missing, "{expression}");
    }
    assert_eq!(given("event.none && false", event), Given::Bool(false));
    assert_eq!(given("true || event.none", event), Given::Bool(true));
    assert_eq!(given("event.n < 2.0 || event.none", event), Given::Bool(true));
    assert_eq!(given("event.n / 0.0", event), Given::Number(f64::INFINITY));
}

#[test]
fn integers_of_64_bits_keep_their_digits() {
    let event = r#"{"id": 9007199254740993, "next": 9007199254740994, "same": 9007199254740993.0, "wide": 18446744073709551615,
        "least": -9223372036854775808, "edge": 9007199254740991, "two": 2, "half": 0.5}"#;
    let text = |text: &str| Given::Text(text.to_owned());
    for (expression, expected) in [
        ("event.id", Given::Integer(9_007_199_254_740_993)),
        ("event.wide", Given::Unsigned(u64::MAX)),
        ("event.id == event.next", Given::Bool(false)),
        ("event.id < event.next", Given::Bool(true)),
        ("event.id == event.same", Given::Bool(true)),
        ("event.id == 9007199254740993", Given::Bool(true)),
        ("event.id == 9007199254740992", Given::Bool(false)),
        ("event.id in [9007199254740992, 9007199254740994]", Given::Bool(false)),
        // The double is 9007199254740992: CEL's literal is rounded, the event's number is not.
        ("event.id > 9007199254740993.0", Given::Bool(true)),
        ("event.wide > event.id && event.least < event.half", Given::Bool(true)),
        ("event.id - event.next", Given::Number(-1.0)),
        ("event.id + event.two", Given::Integer(9_007_199_254_740_995)),
        ("event.edge + event.two", Given::Integer(9_007_199_254_740_993)),
        ("event.id + 2.0", Given::Integer(9_007_199_254_740_995)),
        ("event.id * event.two", Given::Integer(18_014_398_509_481_986)),
        ("-event.least", Given::Unsigned(1 << 63)),
        (
            "event.least + event.least",
            Given::Number(-18_446_744_073_709_551_616.0),
        ),
        ("event.wide + event.two", Given::Number(18_446_744_073_709_551_616.0)),
        ("event.id + event.half", Given::Number(9_007_199_254_740_992.0)),
        ("event.id / event.two", Given::Number(4_503_599_627_370_496.0)),
        ("event.two / event.two", Given::Number(1.0)),
        ("double(event.id)", Given::Number(9_007_199_254_740_992.0)),
        ("int(event.id)", Given::Integer(9_007_199_254_740_993)),
        ("int(event.wide)", Given::Missing),
        (
            "string(event.id) + '/' + string(event.wide)",
            text("9007199254740993/18446744073709551615"),
        ),
        ("event.two == 2 && event.two == 2.0", Given::Bool(true)),
        ("event.id + 1 == offset", Given::Missing),
    ] {
        let found = evaluate(expression, event, 0).unwrap_or(Given::Missing);
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn keys_have_all_digits_of_an_integer() {
    for (value, expected) in [
        ("1234567890123456789", "1234567890123456789"),
        ("18446744073709551615", "18446744073709551615"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("1e18", "1000000000000000000"),
        ("5.0", "5"),
        ("0.5", "0.5"),
        ("1e300", "1e300"),
    ] {
        let plan = FeaturePlan::compile(
            &view(json!({})),
            &Wanted::new().expression("key", "event.id"),
            &no_stores(),
        );
        let plan = Arc::new(plan.unwrap());
        let id = plan.expression("event.id").unwrap();
        let mut evaluator = Evaluator::new(Arc::clone(&plan));
        let value = format!("{{\"id\": {value}}}");
        let event = Event {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: value.as_bytes(),
            headers: &[],
        };
        let mut state = MemoryState::new(plan.groups());
        evaluator
            .evaluate(&event, &mut MemoryGlobals::new(), &mut state)
            .unwrap();
        let mut key = Vec::new();
        assert!(evaluator.scalar(id).write_plain(&mut key));
        assert_eq!(String::from_utf8(key).unwrap(), expected);
    }
}

#[test]
fn a_text_that_would_be_too_long_is_missing_and_counted() {
    let mut features = serde_json::Map::new();
    features.insert("f0".to_owned(), json!({ "expression": "event.s" }));
    for number in 1..40 {
        let before = number - 1;
        features.insert(
            format!("f{number}"),
            json!({ "expression": format!("f{before} + f{before}") }),
        );
    }
    let view = view(json!(features));
    let plan = Arc::new(FeaturePlan::compile(&view, &Wanted::everything(&view), &no_stores()).unwrap());
    let mut evaluator = Evaluator::new(Arc::clone(&plan));
    let event = Event {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: br#"{"s": "x"}"#,
        headers: &[],
    };
    let mut state = MemoryState::new(plan.groups());
    evaluator
        .evaluate(&event, &mut MemoryGlobals::new(), &mut state)
        .unwrap();
    let length = |name: &str| match evaluator.feature_scalar(plan.slot(name).unwrap()) {
        Scalar::Text(text) => Some(text.len()),
        _ => None,
    };
    assert_eq!(
        (length("f20"), length("f21"), length("f39")),
        (Some(1 << 20), None, None)
    );
    assert_eq!(evaluator.take_counts().texts_refused, 1);

    // Many of them are too much together, whatever each has.
    let many: serde_json::Map<String, serde_json::Value> = (0..40)
        .map(|number| {
            (
                format!("g{number}"),
                json!({ "expression": format!("event.s + '{number}'") }),
            )
        })
        .collect();
    let view = self::view(json!(many));
    let plan = Arc::new(FeaturePlan::compile(&view, &Wanted::everything(&view), &no_stores()).unwrap());
    let mut evaluator = Evaluator::new(Arc::clone(&plan));
    let value = json!({ "s": "x".repeat(1_000_000) }).to_string();
    let event = Event {
        value: value.as_bytes(),
        ..event
    };
    evaluator
        .evaluate(&event, &mut MemoryGlobals::new(), &mut state)
        .unwrap();
    let made = (0..40).filter(|n| {
        matches!(
            evaluator.feature_scalar(plan.slot(&format!("g{n}")).unwrap()),
            Scalar::Text(_)
        )
    });
    assert_eq!(made.count(), 8);
    assert_eq!(evaluator.take_counts().texts_refused, 32);
}

#[test]
fn what_cannot_be_lowered_is_refused_with_its_text() {
    for (expression, message) in [
        (
            "event.quantity * 2",
            "`event.quantity * 2`: `*` cannot take a JSON value and an int; JSON numbers are doubles, so write 2.0",
        ),
        (
            "event_time.getHours() / 24.0",
            "`event_time.getHours() / 24.0`: `/` cannot take an int and a double; JSON numbers are doubles, so write \
             double(event_time.getHours())",
        ),
        ("'a' + 1.0", "`'a' + 1.0`: `+` cannot take a string and a double"),
        (
            "1.0 + (true && false)",
            "`1.0 + (true && false)`: `+` cannot take a double and a bool",
        ),
        ("'a' < 1.0", "`'a' < 1.0`: `<` cannot take a string and a double"),
        (
            "event.x % 2.0",
            "`event.x % 2.0`: `%` cannot take a JSON value and a double",
        ),
        ("'a' in [1, 2]", "`'a' in [1, 2]`: `in` cannot take a string and an int"),
        ("!'a'", "`'a'`: it is a string, where a bool is needed"),
        ("-'a'", "`-'a'`: a string cannot be negated"),
        ("1.0 ? 2.0 : 3.0", "`1.0`: it is a double, where a bool is needed"),
        (
            "event.x == null",
            "`null`: null is a missing value here; ask with has(), or give the feature a default",
        ),
        ("event", "`event`: name one of its fields, such as event.quantity"),
        ("headers", "`headers`: name one of them, such as headers['type']"),
        ("[1, 2]", "`[1, 2]`: a list can only stand on the right of `in`"),
        (
            "event.l.all(x, x > 1.0)",
            "`a macro over event.l`: macros over lists are not supported yet",
        ),
        ("{'a': 1}", "`{..}`: maps and messages are not supported"),
        ("1u", "`1u`: unsigned ints are not supported; leave the u away"),
        ("b'a'", "`b'a'`: bytes are not supported; use a string"),
        (
            "event.l[0]",
            "`event.l[0]`: only a constant name can stand in brackets, such as headers['type']",
        ),
        (
            "event.x in event.l",
            "`event.x in event.l`: the right side of `in` must be a list such as ['a', 'b']",
        ),
        (
            "'a'.matches(event.p)",
            "`'a'.matches(event.p)`: the pattern must be a constant",
        ),
        (
            "event_time.getHours('Europe/Berlin')",
            "`event_time.getHours('Europe/Berlin')`: time zones are not supported yet; times are in UTC",
        ),
        (
            "event_time.getCentury()",
            "`event_time.getCentury()`: `getCentury` is not a known function",
        ),
        (
            "event.x.getHours()",
            "`event.x`: it is a JSON value, where a timestamp is needed",
        ),
        ("duration('1h')", "`duration('1h')`: `duration` is not supported here"),
        (
            "event.s.lowerAscii()",
            "`event.s.lowerAscii()`: `lowerAscii` is not supported here",
        ),
        ("size(1)", "`size(1)`: an int has no size"),
        ("double(true)", "`double(true)`: a bool cannot be made a double"),
        ("key.x", "`key.x`: `key` is a string and has no fields"),
        ("'a'.x", "`'a'.x`: only event, headers and lookups have fields"),
        ("headers['a'].b", "`headers['a'].b`: a header is text and has no fields"),
        (
            "quantity",
            "there is no feature `quantity` in view `v`, and no variable of this name; a field of the event is written \
             event.quantity",
        ),
    ] {
        assert_eq!(evaluate(expression, "{}", 0), Err(message.to_owned()), "{expression}");
    }
    assert!(
        evaluate("1 +", "{}", 0)
            .unwrap_err()
            .starts_with("`1 +` is not a CEL expression at line 1")
    );
    assert!(
        evaluate("'a'.matches('(')", "{}", 0)
            .unwrap_err()
            .contains("not a regular expression")
    );
    let long = format!("'{}'", "a".repeat(5000));
    assert_eq!(
        evaluate(&long, "{}", 0),
        Err("an expression has at most 4096 bytes".to_owned())
    );
}

// The oracle.

fn number(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("event.a".to_owned()),
        Just("event.b".to_owned()),
        Just("event.o.c".to_owned()),
        (-40..40i32).prop_map(|n| format!("{:?}", f64::from(n) / 4.0)),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let d = depth - 1;
    prop_oneof![
        2 => leaf,
        3 => (number(d), prop_oneof![Just("+"), Just("-"), Just("*"), Just("/")], number(d))
            .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
        1 => number(d).prop_map(|a| format!("-({a})")),
        1 => integer(d).prop_map(|a| format!("double({a})")),
        1 => text(d).prop_map(|a| format!("double({a})")),
        1 => (boolean(d), number(d), number(d)).prop_map(|(c, a, b)| format!("({c} ? {a} : {b})")),
    ]
    .boxed()
}

fn integer(depth: u32) -> BoxedStrategy<String> {
    integer_below(depth, i64::MAX)
}

/// Ints of which none is greater than `greatest` in the text itself.
fn integer_below(depth: u32, greatest: i64) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        (-9..9i32).prop_map(|n| n.to_string()),
        Just(greatest.to_string()),
        Just("partition".to_owned()),
        prop_oneof![
            Just("getHours"),
            Just("getMinutes"),
            Just("getSeconds"),
            Just("getMilliseconds"),
            Just("getDayOfWeek"),
            Just("getDate"),
            Just("getDayOfMonth"),
            Just("getDayOfYear"),
            Just("getMonth"),
            Just("getFullYear"),
        ]
        .prop_map(|part| format!("event_time.{part}()")),
        Just("int(event_time)".to_owned()),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let d = depth - 1;
    prop_oneof![
        2 => leaf,
        2 => (
            integer_below(d, greatest),
            prop_oneof![Just("+"), Just("-"), Just("*"), Just("/"), Just("%")],
            integer_below(d, greatest),
        )
            .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
        1 => integer_below(d, greatest).prop_map(|a| format!("-({a})")),
        1 => number(d).prop_map(|a| format!("int({a})")),
        1 => text(d).prop_map(|a| format!("int({a})")),
        1 => text(d).prop_map(|a| format!("size({a})")),
    ]
    .boxed()
}

fn text(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("event.s".to_owned()),
        Just("event.t".to_owned()),
        Just("key".to_owned()),
        Just("headers['type']".to_owned()),
        "[ab1é]{0,2}".prop_map(|s| format!("'{s}'")),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let d = depth - 1;
    prop_oneof![
        3 => leaf,
        2 => (text(d), text(d)).prop_map(|(a, b)| format!("({a} + {b})")),
        1 => number(d).prop_map(|a| format!("string({a})")),
        1 => integer(d).prop_map(|a| format!("string({a})")),
        1 => boolean(d).prop_map(|a| format!("string({a})")),
        1 => (boolean(d), text(d), text(d)).prop_map(|(c, a, b)| format!("({c} ? {a} : {b})")),
    ]
    .boxed()
}

fn boolean(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("event.f".to_owned()),
        Just("event.g".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        prop_oneof![Just("a"), Just("b"), Just("s"), Just("f"), Just("o")].prop_map(|f| format!("has(event.{f})")),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let d = depth - 1;
    let compare = || prop_oneof![Just("=="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">=")];
    let pair = |a: BoxedStrategy<String>, b: BoxedStrategy<String>| {
        (a, compare(), b).prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    };
    prop_oneof![
        1 => leaf,
        2 => pair(number(d), number(d)),
        1 => pair(integer(d), integer(d)),
        // The interpreter compares an int with a double by rounding the int; the language definition does not.
        1 => pair(number(d), integer_below(d, 1_000)),
        2 => pair(text(d), text(d)),
        1 => pair(boolean(d), boolean(d)),
        2 => (boolean(d), prop_oneof![Just("&&"), Just("||")], boolean(d)).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
        1 => boolean(d).prop_map(|a| format!("!({a})")),
        1 => (text(d), prop_oneof![Just("contains"), Just("startsWith"), Just("endsWith")], text(d))
            .prop_map(|(a, f, b)| format!("({a}).{f}({b})")),
        1 => (text(d), prop_oneof![Just("a+"), Just("^a"), Just("[0-9]$")]).prop_map(|(a, p)| format!("({a}).matches('{p}')")),
        1 => (number(d), prop::collection::vec(number(0), 1..3)).prop_map(|(a, l)| format!("({a} in [{}])", l.join(", "))),
        1 => (text(d), prop::collection::vec(text(0), 1..3)).prop_map(|(a, l)| format!("({a} in [{}])", l.join(", "))),
    ]
    .boxed()
}

type Fields = BTreeMap<&'static str, serde_json::Value>;

fn event_fields() -> impl Strategy<Value = Fields> {
    let number = || {
        prop_oneof![
            6 => (-40..40i32).prop_map(|n| json!(f64::from(n) / 4.0)),
            1 => Just(json!(0)),
            1 => Just(json!(1e300)),
            1 => Just(json!(null)),
        ]
    };
    let text = || prop_oneof![4 => "[ab1é\"]{0,3}".prop_map(|s| json!(s)), 1 => Just(json!(null))];
    let flag = || prop_oneof![4 => any::<bool>().prop_map(|b| json!(b)), 1 => Just(json!(null))];
    (number(), number(), number(), text(), text(), flag(), flag()).prop_map(|(a, b, c, s, t, f, g)| {
        BTreeMap::from([
            ("a", a),
            ("b", b),
            ("o", json!({ "c": c })),
            ("s", s),
            ("t", t),
            ("f", f),
            ("g", g),
        ])
    })
}

/// A JSON value as the interpreter has it: numbers are doubles, what is null is not there.
fn interpreted(value: &serde_json::Value) -> Option<Value> {
    Some(match value {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap()),
        serde_json::Value::String(text) => Value::from(text.clone()),
        serde_json::Value::Object(members) => {
            let members = members
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), interpreted(value)?)));
            Value::from(members.collect::<HashMap<String, Value>>())
        }
        other => panic!("{other}"),
    })
}

fn oracle(expression: &str, fields: &Fields, timestamp_ms: i64) -> Given {
    let program = Program::compile(expression).unwrap();
    let mut context = Context::default();
    context.add_variable_from_value("event", interpreted(&json!(fields)).unwrap());
    context.add_variable_from_value(
        "headers",
        HashMap::from([("type".to_owned(), Value::from("purchase".to_owned()))]),
    );
    context.add_variable_from_value("key", "k1".to_owned());
    context.add_variable_from_value("partition", 3i64);
    let time = chrono::DateTime::from_timestamp_millis(timestamp_ms)
        .unwrap()
        .fixed_offset();
    context.add_variable_from_value("event_time", Value::Timestamp(time));
    match program.execute(&context) {
        Ok(Value::Bool(value)) => Given::Bool(value),
        Ok(Value::Int(value)) => Given::Integer(value),
        Ok(Value::Float(value)) => Given::Number(value),
        Ok(Value::String(text)) => Given::Text(text.to_string()),
        Ok(other) => panic!("{expression}: {other:?}"),
        Err(_) => Given::Missing,
    }
}

fn same(a: &Given, b: &Given) -> bool {
    match (a, b) {
        (Given::Number(a), Given::Number(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
        (a, b) => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn values_are_those_of_the_interpreter(
        expression in prop_oneof![number(3), integer(3), text(3), boolean(3)],
        fields in event_fields(),
        timestamp_ms in -10_000_000_000_000..10_000_000_000_000i64,
    ) {
        let ours = evaluate(&expression, &json!(fields).to_string(), timestamp_ms);
        let expected = oracle(&expression, &fields, timestamp_ms);
        match ours {
            Ok(ours) => prop_assert!(same(&ours, &expected), "{expression}: {ours:?}, expected {expected:?}"),
            // A type error that is known when the expression is compiled is an error for every event.
            Err(message) => prop_assert_eq!(expected, Given::Missing, "{}: {}", expression, message),
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in "[a-c0-9 .+*/?:!<>=&|()\\[\\]'\"{},@_\\\\-]{0,20}") {
        let _ = evaluate(&text, "{}", 0);
    }
}
