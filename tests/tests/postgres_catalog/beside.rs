//! Record for record beside the running Debezium: the same server, the same statements, two connectors.
//!
//! ```text
//!   tables, rows --snapshot--> statements, each of them streamed --> topics of both
//!   per topic: key, value, schemas and headers as JSON --> differences, by path
//!                every difference belongs to one of DEVIATIONS, and every one of DEVIATIONS is seen
//! ```
//! What depends on when and by whom a record was made is left out: `ts_*`, `source.version`, positions of the snapshot, and the
//! `sequence`, which counts positions without records here. Positions and transactions of the stream are compared.

use crate::worker::{Debezium, Stage, eventually, pair};
use kafka_client::LogRecord;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tests::PostgresServer;

/// Where this connector differs from Debezium 3.6.1. One that is healed fails the test: then it is to be taken off the list.
const DEVIATIONS: &[(&str, &str)] = &[
    ("context headers", "headers __debezium.context.* are not made"),
    ("defaults", "schemas do not have the defaults of columns"),
    (
        "generated columns",
        "a generated column is read in a snapshot there and never streamed; here it is part of keys alone, in both",
    ),
    (
        "unique indexes",
        "a table without a primary key has no key, though it has a unique index",
    ),
    (
        "deletes without a key",
        "a delete that does not name the primary key goes to key 0 there; here it is left out",
    ),
    (
        "dates",
        "infinity and dates before Christ as days; there the snapshot and the stream write different numbers",
    ),
    (
        "arrays that hold what cannot be",
        "the element is null, not the array; an array of an enum is read",
    ),
    (
        "unchanged arrays",
        "a placeholder for every type; there null for all but texts, bytes, int, bigint, date and uuid",
    ),
    ("types not supported", "interval, bit, money, point, tsvector"),
    (
        "no tombstones",
        "a delete that ExtractNewRecordState makes a tombstone of is none there: the text null, or a schema with null",
    ),
];

const TABLES: &str = "\
    CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN d1 AS int CHECK (VALUE > 0); CREATE DOMAIN d2 AS d1 NOT NULL; \
    CREATE DOMAIN price AS numeric(8,2); CREATE DOMAIN price2 AS price; \
    CREATE TABLE plain (id int PRIMARY KEY, name text NOT NULL, n int, amount numeric(10,4)); \
    CREATE TABLE composite (a int, b text, v int, PRIMARY KEY (b, a)); \
    CREATE TABLE identity_full (id int PRIMARY KEY, v text NOT NULL); ALTER TABLE identity_full REPLICA IDENTITY FULL; \
    CREATE TABLE identity_index (id int PRIMARY KEY, code text NOT NULL, v int); CREATE UNIQUE INDEX by_code ON identity_index (code); \
    ALTER TABLE identity_index REPLICA IDENTITY USING INDEX by_code; \
    CREATE TABLE only_index (id int NOT NULL, code text NOT NULL); CREATE UNIQUE INDEX only_code ON only_index (code); \
    ALTER TABLE only_index REPLICA IDENTITY USING INDEX only_code; \
    CREATE TABLE unique_index (id int NOT NULL, code text NOT NULL); CREATE UNIQUE INDEX unique_code ON unique_index (code); \
    CREATE TABLE keyless (v int); ALTER TABLE keyless REPLICA IDENTITY FULL; \
    CREATE TABLE including (id int, x int, PRIMARY KEY (id) INCLUDE (x)); \
    CREATE TABLE generated (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED); \
    CREATE TABLE defaults (id int PRIMARY KEY, v int DEFAULT 5, w text DEFAULT 'abc'); \
    CREATE TABLE scalars (id int PRIMARY KEY, b boolean, i2 smallint, i4 int, i8 bigint, o oid, f4 real, f8 double precision, t text, \
      v varchar(5), c char(4), by bytea, u uuid, j json, jb jsonb, x xml, e mood, dom d2, p price2, inet inet, r int4range, \
      ti time, ti3 time(3), tz timetz, ts timestamp, ts3 timestamp(3), tstz timestamptz, num numeric, num2 numeric(10,4)); \
    CREATE TABLE odd_dates (id int PRIMARY KEY, d date, ts timestamp, ts3 timestamp(3), tstz timestamptz); \
    CREATE TABLE odd_numbers (id int PRIMARY KEY, n numeric, n2 numeric(8,2), f8 double precision, a int[]); \
    CREATE TABLE arrays (id int PRIMARY KEY, i int[], t text[], n numeric(8,2)[], ts timestamp[], d date[], u uuid[], by bytea[], e mood[]); \
    CREATE TABLE large (id int PRIMARY KEY, n int, t text, by bytea, j jsonb, i int[], i8 bigint[], d date[], u uuid[], ta text[], \
      num numeric[], ts timestamp[], i2 smallint[], fl real[], bo boolean[]); \
    CREATE TABLE changing (id int PRIMARY KEY, v text NOT NULL); \
    CREATE TABLE unsupported (id int PRIMARY KEY, i interval, b bit(3), m money, p point, tsv tsvector); \
    CREATE SCHEMA \"we ird-é\"; CREATE TABLE \"we ird-é\".\"ta.b le$é\" (\"c o-l\" int PRIMARY KEY)";

const ROWS: &str = "\
    INSERT INTO plain VALUES (1, 'a', 1, 1.5), (2, 'b', NULL, NULL), (3, 'c', 3, -0.0001); \
    INSERT INTO composite VALUES (1, 'x', 1); INSERT INTO identity_full VALUES (1, 'a'), (2, 'b'); \
    INSERT INTO identity_index VALUES (1, 'a', 1); INSERT INTO only_index VALUES (1, 'a'); INSERT INTO unique_index VALUES (1, 'a'); \
    INSERT INTO keyless VALUES (1); INSERT INTO including VALUES (1, 2); INSERT INTO generated VALUES (1, 2); \
    INSERT INTO defaults VALUES (1); INSERT INTO changing VALUES (1, 'a'); INSERT INTO \"we ird-é\".\"ta.b le$é\" VALUES (1); \
    INSERT INTO unsupported VALUES (1, '1 day', '101', 12.5, '(1,2)', 'a b')";

/// Rows of the tables of types, with `{id}` for their key: in the snapshot, and again in the stream.
const VALUES: &str = "\
    INSERT INTO scalars VALUES ({id}, true, -32768, 123456, 1234567890123, 4000000000, 3.3, 4.44, 'žluť\\tx', 'ab', 'ab', '\\x0102ff', \
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"bar\": \"baz\"}', '{\"bar\": \"baz\"}', '<foo>bar</foo>', 'happy', 7, 1.5, '192.168.2.0/12', \
      '[1000,6000)', '13:51:30.123456', '13:51:30.123', '13:51:30.123789+02', '2016-11-04T13:51:30.123456', '2016-11-04T13:51:30.123', \
      '2016-11-04T13:51:30.123456+02', 5.125, 3.3333); \
    INSERT INTO odd_dates VALUES ({id}0, 'infinity', 'infinity', 'infinity', 'infinity'), ({id}1, '-infinity', '-infinity', '-infinity', \
      '-infinity'), ({id}2, '0044-03-15 BC', '0044-03-15 BC', '0044-03-15 BC', '0044-03-15 BC'), \
      ({id}3, '2016-11-04', '294276-12-31 23:59:59', '294276-12-31 23:59:59', '294276-12-31 23:59:59'); \
    INSERT INTO odd_numbers VALUES ({id}0, 'NaN', 'NaN', 'NaN', '{{1,2},{3,4}}'), ({id}1, 'Infinity', NULL, 'Infinity', '{}'), \
      ({id}2, '-Infinity', NULL, '-Infinity', NULL); \
    INSERT INTO arrays VALUES ({id}, '{1,NULL,3}', '{\"one, two\",NULL}', '{1.5,NULL}', '{2020-01-01,NULL,infinity}', '{2016-11-04}', \
      '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '{\"\\\\x01\"}', '{sad,NULL}'), ({id}0, NULL, NULL, '{NaN}', NULL, NULL, NULL, NULL, NULL); \
    INSERT INTO large SELECT {id}, 1, repeat('x', 9000), repeat('x', 9000)::bytea, to_jsonb(repeat('x', 9000)), array_agg(g), \
      array_agg(g::bigint), array_agg('2020-01-01'::date + g), array_agg('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid), array_agg(g::text), \
      array_agg(g::numeric), array_agg('2020-01-01'::timestamp), array_agg(1::smallint), array_agg(1::real), array_agg(true) \
      FROM generate_series(1, 4000) g";

/// What is done, and where that ends which both must have read before the next is done: Debezium reads a table's key from the
/// catalog when it comes to a change, and not as it was then.
const CHANGES: &[(&str, Option<&str>)] = &[
    (
        "INSERT INTO plain VALUES (4, 'd', 4, 4); UPDATE plain SET n = 5 WHERE id = 4; UPDATE plain SET id = 40 WHERE id = 4; DELETE FROM plain WHERE id = 1",
        None,
    ),
    (
        "BEGIN; INSERT INTO plain SELECT g, 'many', g, g FROM generate_series(100, 110) g; DELETE FROM plain WHERE id > 105; COMMIT",
        None,
    ),
    ("BEGIN; DELETE FROM plain; ROLLBACK", None),
    (
        "UPDATE composite SET v = 2; UPDATE composite SET a = 2; DELETE FROM composite",
        None,
    ),
    (
        "UPDATE identity_full SET v = 'c' WHERE id = 2; UPDATE identity_full SET id = 3 WHERE id = 2; DELETE FROM identity_full WHERE id = 1",
        None,
    ),
    ("UPDATE identity_index SET v = 2; DELETE FROM identity_index", None),
    (
        "UPDATE only_index SET id = 2; UPDATE only_index SET code = 'b'; DELETE FROM only_index",
        None,
    ),
    ("INSERT INTO unique_index VALUES (2, 'b')", None),
    (
        "INSERT INTO keyless VALUES (2); UPDATE keyless SET v = 3 WHERE v = 2; DELETE FROM keyless WHERE v = 1",
        None,
    ),
    (
        "INSERT INTO including VALUES (2, 3); DELETE FROM including WHERE id = 1",
        None,
    ),
    (
        "INSERT INTO generated VALUES (2, 3); UPDATE generated SET v = 4 WHERE id = 1",
        None,
    ),
    (
        "INSERT INTO defaults VALUES (2); INSERT INTO unsupported VALUES (2, '1 day', '101', 12.5, '(1,2)', 'a b')",
        None,
    ),
    (
        "ALTER TABLE changing ALTER v DROP NOT NULL; INSERT INTO changing VALUES (2, NULL); ALTER TABLE changing ADD COLUMN w int; \
     INSERT INTO changing VALUES (3, 'c', 3); ALTER TABLE changing DROP COLUMN v; INSERT INTO changing VALUES (4, 4)",
        Some(r#""id":4"#),
    ),
    ("UPDATE changing SET w = 0 WHERE w IS NULL", Some(r#""id":2,"w":0"#)),
    (
        "ALTER TABLE changing DROP CONSTRAINT changing_pkey; ALTER TABLE changing ADD PRIMARY KEY (w, id)",
        None,
    ),
    ("UPDATE large SET n = 2", None),
    ("INSERT INTO \"we ird-é\".\"ta.b le$é\" VALUES (2)", None),
    (
        "SELECT pg_logical_emit_message(true, 'pre', 'within'); SELECT pg_logical_emit_message(false, 'pre', 'alone')",
        None,
    ),
    ("TRUNCATE including", None),
];

/// Tables of types of which a row of the snapshot and one of the stream come.
fn values(id: i32) -> String {
    VALUES.replace("{id}", &id.to_string())
}

fn tables() -> Vec<&'static str> {
    vec![
        "plain",
        "composite",
        "identity_full",
        "identity_index",
        "only_index",
        "unique_index",
        "keyless",
        "including",
        "generated",
        "defaults",
        "scalars",
        "odd_dates",
        "odd_numbers",
        "arrays",
        "large",
        "changing",
        "unsupported",
    ]
}

/// Both workers: Debezium in a group of its own.
struct Both {
    ours: Stage,
    theirs: Stage,
    debezium: Debezium,
}

impl Both {
    async fn start(name: &str) -> Self {
        let ours = Stage::new(&format!("{name}_ours")).await;
        let mut theirs = Stage::new(&format!("{name}_java")).await;
        theirs.database.clone_from(&ours.database);
        theirs.stop_worker().await;
        let debezium = theirs.start_debezium().await;
        Self { ours, theirs, debezium }
    }

    async fn sql(&self, statements: &str) {
        let server = PostgresServer::shared().await.unwrap();
        server.psql(&self.ours.database, statements).await.unwrap();
    }

    /// Runs the connector on both, with `ours` for this one alone.
    async fn run(&self, options: &[(&str, &str)], ours: &[(&str, &str)]) {
        let common = [
            ("topic.creation.default.cleanup.policy", "delete"),
            ("poll.interval.ms", "50"),
            ("publication.autocreate.mode", "all_tables"),
            ("publication.name", "beside"),
        ];
        let options = [&common[..], options].concat();
        self.ours.run(self.ours.config(&[&options[..], ours].concat())).await;
        self.theirs.run(self.theirs.config(&options)).await;
    }

    /// Stops the connectors: what is done from here on is captured as they run next.
    async fn stop(&self) {
        for stage in [&self.ours, &self.theirs] {
            stage.stop_connector().await;
        }
    }

    async fn finish(self) {
        self.debezium.stop().await;
        self.theirs.finish().await;
        self.ours.finish().await;
    }

    /// Waits until both topics end in a record whose value contains `end`, and neither grows.
    async fn topics(&self, topic: &str, end: &str) -> (Vec<LogRecord>, Vec<LogRecord>) {
        let mut read = Vec::new();
        for (stage, prefix) in [(&self.theirs, "_java"), (&self.ours, "_ours")] {
            let name = format!("{}{prefix}.{topic}", self.prefix());
            let records = eventually(&format!("{end} in {name}"), async || {
                let records = stage.dump(&name).await;
                let last = records.iter().rev().find_map(|record| record.value.as_ref());
                let last = last
                    .map(|value| String::from_utf8_lossy(value).into_owned())
                    .unwrap_or_default();
                match last.contains(end) {
                    true => Ok(records),
                    false => Err(format!(
                        "{} records, the last is {last}; {}",
                        records.len(),
                        stage.send("GET", "/status").await.1
                    )),
                }
            })
            .await;
            read.push(records);
        }
        let ours = read.pop().unwrap();
        (read.pop().unwrap(), ours)
    }

    fn prefix(&self) -> String {
        self.ours.database.trim_end_matches("_ours_db").to_owned()
    }
}

/// A record as one JSON document, in which both connectors have the same name.
fn normal(record: &LogRecord) -> Value {
    let same_name = |text: &str| text.replace("_java", "_ours");
    let json = |bytes: &Option<bytes::Bytes>| match bytes {
        None => json!("no bytes"),
        Some(bytes) => {
            let text = same_name(&String::from_utf8_lossy(bytes));
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
    };
    let mut value = json(&record.value);
    for envelope in [value.pointer_mut("/payload").map(Value::take), None]
        .into_iter()
        .flatten()
    {
        value["payload"] = undated(envelope);
    }
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            let value = value.as_ref().map(|value| same_name(&String::from_utf8_lossy(value)));
            json!({ "name": name, "value": if name.starts_with("__debezium.context") { None } else { value } })
        })
        .collect();
    json!({"key": json(&record.key), "value": value, "headers": headers})
}

fn undated(mut envelope: Value) -> Value {
    let streamed = envelope["source"]["snapshot"] == "false" && envelope["op"] != "m";
    if let Some(members) = envelope.as_object_mut() {
        members.retain(|name, _| !name.starts_with("ts_"));
        if let Some(source) = members.get_mut("source").and_then(Value::as_object_mut) {
            source.retain(|name, _| {
                let position = matches!(name.as_str(), "lsn" | "txId" | "ts_ms" | "ts_us" | "ts_ns");
                !matches!(name.as_str(), "version" | "sequence") && (streamed || !position)
            });
        }
    }
    envelope
}

/// Paths at which two documents differ, with both values there.
fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (theirs, ours) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let at = |members: &Map<String, Value>| members.get(name).cloned().unwrap_or(json!("not there"));
                differences(&format!("{path}/{name}"), &at(one), &at(other), found);
            }
        }
        // fields of a schema by their names, so that one more does not move the others
        (Value::Array(one), Value::Array(other)) if path.ends_with("/fields") || path == "/headers" => {
            let named = |list: &[Value]| -> BTreeMap<String, Value> {
                let name = |field: &Value| {
                    field["field"]
                        .as_str()
                        .or(field["name"].as_str())
                        .unwrap_or_default()
                        .to_owned()
                };
                list.iter().map(|field| (name(field), field.clone())).collect()
            };
            let (one, other) = (named(one), named(other));
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let at = |list: &BTreeMap<String, Value>| list.get(name).cloned().unwrap_or(json!("not there"));
                differences(&format!("{path}/{name}"), &at(&one), &at(&other), found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push((path.to_owned(), one.clone(), other.clone())),
    }
}

/// Which deviation explains a difference.
fn deviation(table: &str, path: &str, theirs: &Value, ours: &Value) -> Option<&'static str> {
    let missing_here = *ours == json!("not there");
    let column = path.rsplit('/').next().unwrap_or_default();
    let in_row = path.contains("/after/") || path.contains("/before/");
    Some(match table {
        _ if path.starts_with("/headers/__debezium.context.") && missing_here => "context headers",
        "defaults" if column == "default" && missing_here => "defaults",
        "generated" if column == "g" && missing_here => "generated columns",
        "unique_index" if path == "/key" && ours.is_string() => "unique indexes",
        "odd_dates" if column == "d" && in_row => "dates",
        "arrays" if column == "n" && theirs.is_null() && ours.is_array() => "arrays that hold what cannot be",
        "arrays" if column == "e" && theirs.is_null() && ours.is_array() => "arrays that hold what cannot be",
        "arrays" if path.contains("/e/items/optional") => "arrays that hold what cannot be",
        "large" if in_row && theirs.is_null() && ours.is_array() => "unchanged arrays",
        "unsupported" if missing_here => "types not supported",
        "unwrapped" if path == "/value" && ours == "no bytes" => "no tombstones",
        _ => return None,
    })
}

/// Compares two topics; the deviations that were seen are noted.
fn compare(
    table: &str,
    theirs: &[LogRecord],
    ours: &[LogRecord],
    seen: &mut BTreeSet<&'static str>,
    wrong: &mut Vec<String>,
) {
    let zero = |record: &LogRecord| pair(record).0.contains(r#""payload":{"id":0}"#) || pair(record).0 == r#"{"id":0}"#;
    let mut theirs: Vec<&LogRecord> = theirs.iter().collect();
    if table == "identity_index" && theirs.iter().any(|record| zero(record)) && !ours.iter().any(zero) {
        theirs.retain(|record| !zero(record));
        seen.insert("deletes without a key");
    }
    if theirs.len() != ours.len() {
        let keys = |records: &[&LogRecord]| {
            records
                .iter()
                .map(|record| pair(record).0)
                .collect::<Vec<_>>()
                .join("\n  ")
        };
        wrong.push(format!(
            "{table}: {} records there, {} here:\n  {}\nhere\n  {}",
            theirs.len(),
            ours.len(),
            keys(&theirs),
            keys(&ours.iter().collect::<Vec<_>>())
        ));
        return;
    }
    for (number, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
        let mut found = Vec::new();
        differences("", &normal(theirs), &normal(ours), &mut found);
        for (path, theirs, ours) in found {
            match deviation(table, &path, &theirs, &ours) {
                Some(name) => {
                    seen.insert(name);
                }
                None => wrong.push(format!("{table}, record {number}, {path}: there {theirs}, here {ours}")),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_debeziums() {
    let both = Both::start("beside").await;
    both.sql(TABLES).await;
    for column in ["t", "by", "j", "i", "i8", "d", "u", "ta", "num", "ts", "i2", "fl", "bo"] {
        both.sql(&format!("ALTER TABLE large ALTER {column} SET STORAGE EXTERNAL"))
            .await;
    }
    both.sql(ROWS).await;
    both.sql(&values(1)).await;
    let schemas = [
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("key.converter.schemas.enable", "true"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "true"),
    ];
    let excluded = [("column.exclude.list", r"public\.unsupported\.(i|b|m|p|tsv)")];
    both.run(&schemas, &excluded).await;
    // the last table of the snapshot, in the order of names
    both.topics("we_ird-_.ta.b_le__", r#""c o-l":1"#).await;
    both.sql(&values(2)).await;
    for (statements, end) in CHANGES {
        both.sql(statements).await;
        if let Some(end) = end {
            both.topics("public.changing", end).await;
        }
    }
    both.sql("CREATE TABLE last (id int PRIMARY KEY); INSERT INTO last VALUES (1)")
        .await;
    both.topics("public.last", r#""id":1"#).await;
    both.topics("message", "pre").await;

    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for table in tables() {
        let (theirs, ours) = both.topics(&format!("public.{table}"), "").await;
        compare(table, &theirs, &ours, &mut seen, &mut wrong);
    }
    for topic in ["we_ird-_.ta.b_le__", "message"] {
        let (theirs, ours) = both.topics(topic, "").await;
        compare(topic, &theirs, &ours, &mut seen, &mut wrong);
    }

    // rows in place of envelopes, and other ways to represent values
    let unwrapped = [
        ("transforms", "unwrap"),
        ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
        ("transforms.unwrap.add.headers", "op,db"),
        ("transforms.unwrap.add.fields", "op,table,lsn"),
        ("decimal.handling.mode", "string"),
        ("time.precision.mode", "connect"),
        ("schema.name.adjustment.mode", "avro"),
        ("table.include.list", r"public\.(unwrapped|odd_numbers|odd_times)"),
    ];
    both.stop().await;
    both.sql("CREATE TABLE unwrapped (id int PRIMARY KEY, v int NOT NULL); INSERT INTO unwrapped VALUES (1, 1); \
              CREATE TABLE odd_times (id int PRIMARY KEY, ts timestamp, ti time, n numeric); \
              INSERT INTO odd_times VALUES (1, 'infinity', '13:51:30', 'NaN'), (2, '-infinity', '00:00', '-Infinity'), (3, '2020-01-01', NULL, 1.50)")
        .await;
    both.run(&unwrapped, &[]).await;
    both.sql("INSERT INTO odd_times VALUES (4, 'infinity', '13:51:30', 'Infinity'); UPDATE unwrapped SET id = 2; \
              INSERT INTO unwrapped VALUES (3, 3); DELETE FROM unwrapped WHERE id = 2; INSERT INTO unwrapped VALUES (9, 9)")
        .await;
    for (table, end) in [("unwrapped", r#""id":9"#), ("odd_times", r#""id":4"#)] {
        let (theirs, ours) = both.topics(&format!("public.{table}"), end).await;
        compare(table, &theirs, &ours, &mut seen, &mut wrong);
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    let healed: Vec<_> = DEVIATIONS.iter().filter(|(name, _)| !seen.contains(name)).collect();
    assert!(
        healed.is_empty(),
        "these deviations are healed, take them off the list: {healed:?}"
    );
    both.finish().await;
}
