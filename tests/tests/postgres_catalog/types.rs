//! Values of every type as Debezium's documentation has them ("PostgreSQL connector: Data type mappings"), from the snapshot
//! and from the stream alike.

use crate::worker::{Stage, eventually, pair};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tests::PostgresServer;

/// Column, type, value in SQL, name of the schema, type of the schema, value in JSON.
fn columns() -> Vec<(&'static str, &'static str, &'static str, Value, &'static str, Value)> {
    let none = Value::Null;
    vec![
        ("c_bool", "boolean", "true", none.clone(), "boolean", json!(true)),
        ("c_int2", "smallint", "-32768", none.clone(), "int16", json!(-32768)),
        ("c_int4", "integer", "123456", none.clone(), "int32", json!(123_456)),
        (
            "c_int8",
            "bigint",
            "1234567890123",
            none.clone(),
            "int64",
            json!(1_234_567_890_123_i64),
        ),
        (
            "c_oid",
            "oid",
            "4000000000",
            none.clone(),
            "int64",
            json!(4_000_000_000_i64),
        ),
        ("c_float4", "real", "3.3", none.clone(), "float", json!(3.3)),
        (
            "c_float8",
            "double precision",
            "4.44",
            none.clone(),
            "double",
            json!(4.44),
        ),
        (
            "c_text",
            "text",
            "'žluťoučký'",
            none.clone(),
            "string",
            json!("žluťoučký"),
        ),
        ("c_varchar", "varchar(5)", "'ab'", none.clone(), "string", json!("ab")),
        ("c_char", "char(4)", "'ab'", none.clone(), "string", json!("ab  ")),
        ("c_bytea", "bytea", "'\\x0102ff'", none.clone(), "bytes", json!("AQL/")),
        (
            "c_uuid",
            "uuid",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            json!("io.debezium.data.Uuid"),
            "string",
            json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ),
        (
            "c_json",
            "json",
            "'{\"bar\": \"baz\"}'",
            json!("io.debezium.data.Json"),
            "string",
            json!("{\"bar\": \"baz\"}"),
        ),
        (
            "c_jsonb",
            "jsonb",
            "'{\"bar\":\"baz\"}'",
            json!("io.debezium.data.Json"),
            "string",
            json!("{\"bar\": \"baz\"}"),
        ),
        (
            "c_xml",
            "xml",
            "'<foo>bar</foo>'",
            json!("io.debezium.data.Xml"),
            "string",
            json!("<foo>bar</foo>"),
        ),
        (
            "c_enum",
            "mood",
            "'happy'",
            json!("io.debezium.data.Enum"),
            "string",
            json!("happy"),
        ),
        ("c_domain", "positive", "7", none.clone(), "int32", json!(7)),
        (
            "c_inet",
            "inet",
            "'192.168.2.0/12'",
            none.clone(),
            "string",
            json!("192.168.2.0/12"),
        ),
        (
            "c_range",
            "int4range",
            "'[1000,6000)'",
            none.clone(),
            "string",
            json!("[1000,6000)"),
        ),
        (
            "c_date",
            "date",
            "'2016-11-04'",
            json!("io.debezium.time.Date"),
            "int32",
            json!(17_109),
        ),
        (
            "c_date_inf",
            "date",
            "'infinity'",
            json!("io.debezium.time.Date"),
            "int32",
            json!(i32::MAX),
        ),
        (
            "c_time",
            "time",
            "'13:51:30'",
            json!("io.debezium.time.MicroTime"),
            "int64",
            json!(49_890_000_000_i64),
        ),
        (
            "c_time3",
            "time(3)",
            "'13:51:30.123'",
            json!("io.debezium.time.Time"),
            "int32",
            json!(49_890_123),
        ),
        (
            "c_timetz",
            "timetz",
            "'13:51:30.123789+02:00'",
            json!("io.debezium.time.ZonedTime"),
            "string",
            json!("11:51:30.123789Z"),
        ),
        (
            "c_ts",
            "timestamp",
            "'2016-11-04T13:51:30.123456'",
            json!("io.debezium.time.MicroTimestamp"),
            "int64",
            json!(1_478_267_490_123_456_i64),
        ),
        (
            "c_ts3",
            "timestamp(3)",
            "'2016-11-04T13:51:30.123456'",
            json!("io.debezium.time.Timestamp"),
            "int64",
            json!(1_478_267_490_123_i64),
        ),
        (
            "c_ts_bc",
            "timestamp",
            "'4713-12-31T23:59:59.999999 BC'",
            json!("io.debezium.time.MicroTimestamp"),
            "int64",
            json!(-210_831_897_600_000_001_i64),
        ),
        (
            "c_tstz",
            "timestamptz",
            "'2016-11-04T13:51:30.123456+02:00'",
            json!("io.debezium.time.ZonedTimestamp"),
            "string",
            json!("2016-11-04T11:51:30.123456Z"),
        ),
        (
            "c_numeric",
            "numeric(10,4)",
            "3.3333",
            json!("org.apache.kafka.connect.data.Decimal"),
            "bytes",
            json!("AII1"),
        ),
        (
            "c_variable",
            "numeric",
            "5.1",
            json!("io.debezium.data.VariableScaleDecimal"),
            "struct",
            json!({"scale": 1, "value": "Mw=="}),
        ),
        (
            "c_ints",
            "int[]",
            "'{1,NULL,3}'",
            none.clone(),
            "array",
            json!([1, null, 3]),
        ),
        (
            "c_texts",
            "text[]",
            "array['one, two', 'th\"ree']",
            none.clone(),
            "array",
            json!(["one, two", "th\"ree"]),
        ),
        (
            "c_dates",
            "date[]",
            "'{2016-11-04}'",
            none.clone(),
            "array",
            json!([17_109]),
        ),
        ("c_null", "integer", "NULL", none, "int32", Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_in_snapshot_and_stream() {
    let stage = Stage::new("types").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: String| server.psql(&stage.database, &statements).await.unwrap();
    let columns = columns();
    let definitions: Vec<String> = columns.iter().map(|(name, of, ..)| format!("{name} {of}")).collect();
    let values: Vec<&str> = columns.iter().map(|(_, _, value, ..)| *value).collect();
    let insert = |id: i32| format!("INSERT INTO t VALUES ({id}, {}, '(1,2)')", values.join(", "));
    sql(format!(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); \
         CREATE TYPE pair AS (a int, b int); \
         CREATE TABLE t (id int PRIMARY KEY, {}, c_unknown pair, c_generated int GENERATED ALWAYS AS (id * 2) STORED); {}",
        definitions.join(", "),
        insert(1)
    ))
    .await;
    let config = stage.config(&[
        ("transforms", "unwrap"),
        ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "true"),
    ]);
    stage.run(config).await;
    let records = async |count: usize| {
        eventually(&format!("{count} records"), async || {
            let records = stage.dump("types.public.t").await;
            let status = stage.send("GET", "/status").await.1;
            if records.len() == count {
                Ok(records)
            } else {
                Err(format!("{} records; {status}", records.len()))
            }
        })
        .await
    };
    records(1).await;
    sql(insert(2)).await;
    for (number, record) in records(2).await.iter().enumerate() {
        let (_, value) = pair(record);
        let fields = value["schema"]["fields"].as_array().unwrap();
        let names: Vec<&str> = fields.iter().map(|field| field["field"].as_str().unwrap()).collect();
        // neither the column of an unknown type nor the generated one
        assert_eq!(names.len(), columns.len() + 1, "{names:?}");
        let by_name: BTreeMap<&str, &Value> = names.iter().copied().zip(fields).collect();
        for (name, _, _, schema, of, expected) in &columns {
            let field = by_name[name];
            assert_eq!((&field["name"], &field["type"]), (schema, &json!(of)), "{name}");
            assert_eq!(field["optional"], true, "{name}");
            assert_eq!(&value["payload"][name], expected, "record {number}, column {name}");
        }
        assert_eq!(by_name["id"]["optional"], false);
        assert_eq!(by_name["c_enum"]["parameters"]["allowed"], "sad,happy");
        assert_eq!(
            by_name["c_numeric"]["parameters"],
            json!({"scale": "4", "connect.decimal.precision": "10"})
        );
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_ways_to_represent_values() {
    let stage = Stage::new("modes_of_values").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = "CREATE TYPE pair AS (a int, b int); \
               CREATE TABLE t (id int PRIMARY KEY, n numeric, d date, ts timestamp, ti time, p pair, hidden text); \
               INSERT INTO t VALUES (1, 'NaN', '2016-11-04', '2016-11-04 13:51:30.123456', '13:51:30', '(1,2)', 'secret')";
    server.psql(&stage.database, sql).await.unwrap();
    let config = stage.config(&[
        ("transforms", "unwrap"),
        ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
        ("decimal.handling.mode", "string"),
        ("time.precision.mode", "connect"),
        ("include.unknown.datatypes", "true"),
        ("column.exclude.list", "public\\.t\\.hidden"),
    ]);
    stage.run(config).await;
    let row = json!({
        "id": 1, "n": "NAN", "d": 17_109, "ts": 1_478_267_490_123_i64, "ti": 49_890_000, "p": "KDEsMik=",
    });
    stage
        .comes_to("modes_of_values.public.t", &[(r#"{"id":1}"#, row)])
        .await;

    stage.finish().await;
}

/// Nothing of this stops the connector, or any other column.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_represented_stops_nothing() {
    let stage = Stage::new("odd_values").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    let values = "'Infinity', 'NaN', '{{1,2},{3,4}}', '294276-12-31 23:59:59', '{1.5,NaN}', 'kept'";
    sql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric NOT NULL, n2 numeric(8,2), a int[] NOT NULL, ts timestamp NOT NULL, na numeric(8,2)[], note text); \
         INSERT INTO t VALUES (1, {values}), (2, 1, 1.5, '{{1}}', '2020-01-01', '{{}}', 'plain')"
    ))
    .await;
    let config = stage.config(&[
        ("transforms", "unwrap"),
        ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "true"),
        ("status.update.interval.ms", "100"),
    ]);
    stage.run(config).await;
    stage.records("odd_values.public.t", 2).await;
    sql(&format!("INSERT INTO t VALUES (3, {values})")).await;
    // columns that come and are of no use to anybody yet
    sql("ALTER TABLE t ADD COLUMN i interval, ADD COLUMN p point; INSERT INTO t VALUES (4, 2, 2, '{2}', '2020-01-02', '{}', 'more', '1 day', '(1,2)')").await;
    let records = stage.records("odd_values.public.t", 4).await;
    let odd = json!({"n": null, "n2": null, "a": [null, null], "ts": i64::MAX, "na": ["AJY=", null], "note": "kept"});
    for (record, id) in [(&records[0], 1), (&records[2], 3)] {
        let mut expected = odd.clone();
        expected["id"] = id.into();
        assert_eq!(pair(record).1["payload"], expected);
    }
    let (_, plain) = pair(&records[1]);
    assert_eq!(plain["payload"]["n"], json!({"scale": 0, "value": "AQ=="}));
    let (_, last) = pair(&records[3]);
    assert_eq!(
        last["payload"],
        json!({"id": 4, "n": {"scale": 0, "value": "Ag=="}, "n2": "AMg=", "a": [2], "ts": 1_577_923_200_000_000_i64, "na": [], "note": "more"})
    );
    // null where the table has none: the schema says so, from then on
    let optional = |value: &Value, name: &str| {
        let fields = value["schema"]["fields"].as_array().unwrap();
        fields.iter().find(|field| field["field"] == name).unwrap()["optional"].clone()
    };
    for record in &records {
        let (_, value) = pair(record);
        assert_eq!(
            (optional(&value, "n"), optional(&value, "ts")),
            (json!(true), json!(false))
        );
    }
    // counted, by column and kind
    let lines = crate::worker::logged("odd_values");
    for (column, kind) in [
        ("public.t.n", "NaN or Infinity"),
        ("public.t.n2", "NaN or Infinity"),
        ("public.t.na", "NaN or Infinity"),
        ("public.t.a", "an array of more than one dimension"),
        ("public.t.ts", "beyond 64 bits of microseconds"),
    ] {
        let said = lines
            .iter()
            .any(|line| line.contains(&format!("column={column} ")) && line.contains(kind));
        assert!(said, "{column}: {lines:?}");
    }
    let left_out = crate::worker::logged("the column is left out");
    for column in ["column=i type=\"interval\"", "column=p type=\"point\""] {
        assert!(left_out.iter().any(|line| line.contains(column)), "{left_out:?}");
    }
    assert_eq!(stage.send("GET", "/status").await.1["tasks"][0]["state"], "RUNNING");
    stage.finish().await;
    let total = crate::worker::logged("not representable in this run of the task");
    assert!(
        total
            .iter()
            .any(|line| line.contains("public.t.n ") && line.contains("count=2")),
        "{total:?}"
    );
}

/// Names and messages of which nobody thinks first.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_avro_forbids_and_logical_messages() {
    let stage = Stage::new("odd_names").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql(
        "CREATE SCHEMA \"we ird-é\"; CREATE TABLE \"we ird-é\".\"ta.b le$\" (\"c o-l\" int PRIMARY KEY, \"1x\" int); \
         INSERT INTO \"we ird-é\".\"ta.b le$\" VALUES (1, 2)",
    )
    .await;
    let with_schemas = [
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "true"),
        ("topic.prefix", "odd-names"),
        ("status.update.interval.ms", "100"),
    ];
    stage.run(stage.config(&with_schemas)).await;
    let topic = "odd-names.we_ird-_.ta.b_le_";
    let (key, value) = pair(&stage.records(topic, 1).await[0]);
    // as Debezium names them without an adjustment
    assert_eq!(key, r#"{"c o-l":1}"#);
    assert_eq!(value["schema"]["name"], "odd-names.we_ird-_.ta.b_le_.Envelope");
    assert_eq!(
        value["schema"]["fields"][1]["name"],
        "odd-names.we_ird-_.ta.b_le_.Value"
    );
    sql(
        "SELECT pg_logical_emit_message(true, 'pre', 'within'), pg_logical_emit_message(false, 'pre', 'alone'), \
         pg_logical_emit_message(true, 'other', 'left out')",
    )
    .await;
    let messages = stage.records("odd-names.message", 3).await;
    let messages: Vec<(String, Value)> = messages.iter().map(pair).collect();
    for (prefix, content) in [("pre", "d2l0aGlu"), ("pre", "YWxvbmU="), ("other", "bGVmdCBvdXQ=")] {
        let message = json!({"prefix": prefix, "content": content});
        let found = messages
            .iter()
            .find(|(_, value)| value["payload"]["message"] == message);
        let (key, value) = found.unwrap_or_else(|| panic!("{message} is not among {messages:?}"));
        assert_eq!(*key, format!("{{\"prefix\":\"{prefix}\"}}"));
        assert_eq!(
            (&value["payload"]["op"], &value["payload"]["source"]["table"]),
            (&json!("m"), &json!(""))
        );
        assert_eq!(value["schema"]["name"], "io.debezium.connector.postgresql.MessageValue");
    }
    let alone = messages
        .iter()
        .find(|(_, value)| value["payload"]["message"]["content"] == "YWxvbmU=");
    assert_eq!(alone.unwrap().1["payload"]["source"]["txId"], Value::Null);
    // with names that Avro takes, and without some messages
    let adjusted = [
        ("schema.name.adjustment.mode", "avro"),
        ("field.name.adjustment.mode", "avro"),
        ("message.prefix.exclude.list", "oth.*"),
    ];
    stage.run(stage.config(&[&with_schemas[..], &adjusted].concat())).await;
    sql("SELECT pg_logical_emit_message(true, 'other', 'not seen'); INSERT INTO \"we ird-é\".\"ta.b le$\" VALUES (2, 3)").await;
    let (key, value) = pair(&stage.records(topic, 2).await[1]);
    assert_eq!(key, r#"{"c_o_l":2}"#);
    assert_eq!(value["payload"]["after"], json!({"c_o_l": 2, "_1x": 3}));
    assert_eq!(value["schema"]["name"], "odd_names.we_ird__.ta.b_le_.Envelope");
    sql("SELECT pg_logical_emit_message(true, 'pre', 'last')").await;
    let messages = stage.records("odd-names.message", 4).await;
    assert_eq!(pair(&messages[3]).1["payload"]["message"]["content"], "bGFzdA==");
    stage.finish().await;
}
