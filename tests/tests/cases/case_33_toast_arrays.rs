//! debezium/dbz#2418: an update that leaves a large array alone. PostgreSQL does not send it, and null is not what the row
//! holds: a store that takes the record would forget the value.

use crate::postgres_worker::{Stage, pair};
use serde_json::{Value, json};
use tests::PostgresServer;

/// Column, what it holds. Debezium 3.6.1 has a placeholder for the first ones and writes null for the others.
const COLUMNS: &[(&str, &str)] = &[
    ("text[]", "array_agg(g::text)"),
    ("jsonb[]", "array_agg(to_jsonb(g))"),
    ("bytea[]", "array_agg('x'::bytea)"),
    ("uuid[]", "array_agg('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid)"),
    ("int[]", "array_agg(g)"),
    ("bigint[]", "array_agg(g::bigint)"),
    ("date[]", "array_agg('2020-01-01'::date + g)"),
    ("numeric[]", "array_agg(g::numeric)"),
    ("numeric(8,2)[]", "array_agg(g::numeric)"),
    ("timestamp[]", "array_agg('2020-01-01'::timestamp)"),
    ("timestamp(3)[]", "array_agg('2020-01-01'::timestamp)"),
    ("timestamptz[]", "array_agg('2020-01-01'::timestamptz)"),
    ("time[]", "array_agg('01:00'::time)"),
    ("timetz[]", "array_agg('01:00+00'::timetz)"),
    ("smallint[]", "array_agg(1::smallint)"),
    ("real[]", "array_agg(1::real)"),
    ("double precision[]", "array_agg(1::float8)"),
    ("boolean[]", "array_agg(true)"),
    ("oid[]", "array_agg(g::oid)"),
    ("inet[]", "array_agg('1.2.3.4'::inet)"),
    ("mood[]", "array_agg('sad'::mood)"),
    ("numeric", "repeat('7', 9000)::numeric"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_array_is_not_null() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("toast").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    let definitions: Vec<String> = COLUMNS
        .iter()
        .enumerate()
        .map(|(at, (of, _))| format!("c{at} {of}"))
        .collect();
    let storage: Vec<String> = (0..COLUMNS.len())
        .map(|at| format!("ALTER c{at} SET STORAGE EXTERNAL"))
        .collect();
    let values: Vec<&str> = COLUMNS.iter().map(|(_, value)| *value).collect();
    sql(&format!(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, n int, {}); ALTER TABLE t {}, SET (toast_tuple_target = 128); \
         INSERT INTO t SELECT 1, 1, {} FROM generate_series(1, 500) g; \
         CREATE TABLE whole (LIKE t INCLUDING ALL); ALTER TABLE whole REPLICA IDENTITY FULL; INSERT INTO whole SELECT * FROM t",
        definitions.join(", "),
        storage.join(", "),
        values.join(", ")
    ))
    .await;
    for (decimals, times) in [
        ("precise", "adaptive"),
        ("string", "connect"),
        ("double", "adaptive_time_microseconds"),
    ] {
        let prefix = format!("toast_{decimals}");
        stage
            .run(stage.config(&[
                ("topic.prefix", prefix.as_str()),
                ("slot.name", prefix.as_str()),
                ("decimal.handling.mode", decimals),
                ("time.precision.mode", times),
            ]))
            .await;
        let snapshot = stage.records(&format!("{prefix}.public.t"), 1).await;
        let before = pair(&snapshot[0]).1["after"].clone();
        stage.records(&format!("{prefix}.public.whole"), 1).await;
        sql("UPDATE t SET n = n + 1; UPDATE whole SET n = n + 1").await;
        let changed = stage.records(&format!("{prefix}.public.t"), 2).await;
        let after = pair(&changed[1]).1["after"].clone();
        for (at, (of, _)) in COLUMNS.iter().enumerate() {
            let (value, previous) = (&after[format!("c{at}")], &before[format!("c{at}")]);
            assert!(!value.is_null(), "{of}, {decimals}: null");
            assert_ne!(value, previous, "{of}, {decimals}: it was sent");
            assert!(
                value.as_array().is_none_or(|elements| !elements.is_empty()),
                "{of}, {decimals}"
            );
        }
        // where Debezium has a placeholder it is the same
        let placeholder = "__debezium_unavailable_value";
        let bytes: Vec<Value> = placeholder.bytes().map(Value::from).collect();
        assert_eq!(
            (&after["c0"], &after["c1"]),
            (&json!([placeholder]), &json!([placeholder]))
        );
        assert_eq!(after["c3"], json!(["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]));
        assert_eq!(
            (&after["c4"], &after["c5"]),
            (&Value::Array(bytes.clone()), &Value::Array(bytes))
        );
        // REPLICA IDENTITY FULL brings the values themselves
        let whole = stage.records(&format!("{prefix}.public.whole"), 2).await;
        let mut expected = pair(&whole[0]).1["after"].clone();
        let (_, last) = pair(whole.last().unwrap());
        expected["n"] = last["after"]["n"].clone();
        assert_eq!(last["after"], expected);
    }
    stage.finish().await;
}
