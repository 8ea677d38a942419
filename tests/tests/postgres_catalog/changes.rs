//! Snapshot and changes.

use crate::worker::{Stage, eventually, pair};
use serde_json::{Value, json};
use tests::PostgresServer;

const UNWRAP: [(&str, &str); 7] = [
    ("transforms", "unwrap,key,route"),
    ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
    (
        "transforms.key.type",
        "org.apache.kafka.connect.transforms.ExtractField$Key",
    ),
    ("transforms.key.field", "id"),
    (
        "transforms.route.type",
        "org.apache.kafka.connect.transforms.RegexRouter",
    ),
    ("transforms.route.regex", ".*\\.public\\.(.*)"),
    ("transforms.route.replacement", "catalog.$1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_table_and_its_changes_end_in_a_compacted_topic() {
    let stage = Stage::new("compacted").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE compacted (id int PRIMARY KEY, kind text NOT NULL, price numeric(8,2), note text); \
         CREATE TABLE other (id int PRIMARY KEY); \
         INSERT INTO compacted VALUES (1, 'bread', 2.50, NULL), (2, E'tab\\tand\\nline \\\\ é', 0.99, ''), (3, 'milk', NULL, 'x')")
    .await;
    let mut config = stage.config(&UNWRAP);
    config["table.include.list"] = "public\\.compacted".into();
    config["decimal.handling.mode"] = "double".into();
    stage.run(config).await;
    let row =
        |id: i32, kind: &str, price: Value, note: Value| json!({"id": id, "kind": kind, "price": price, "note": note});
    let second = row(2, "tab\tand\nline \\ é", json!(0.99), json!(""));
    let topic = "catalog.compacted";
    stage
        .comes_to(
            topic,
            &[
                ("1", row(1, "bread", json!(2.5), Value::Null)),
                ("2", second.clone()),
                ("3", row(3, "milk", Value::Null, json!("x"))),
            ],
        )
        .await;
    // an insert, an update, a delete, a row that gets another key; a table that is not captured
    sql(
        "INSERT INTO compacted VALUES (4, 'tea', 3, NULL); UPDATE compacted SET price = 1.25 WHERE id = 1; \
         DELETE FROM compacted WHERE id = 3; UPDATE compacted SET id = 20 WHERE id = 2; INSERT INTO other VALUES (1)",
    )
    .await;
    let moved = row(20, "tab\tand\nline \\ é", json!(0.99), json!(""));
    let rows = [
        ("1", row(1, "bread", json!(1.25), Value::Null)),
        ("20", moved),
        ("4", row(4, "tea", json!(3.0), Value::Null)),
    ];
    stage.comes_to(topic, &rows).await;
    // a transaction that is rolled back leaves nothing, one of many rows comes whole
    sql("BEGIN; DELETE FROM compacted; ROLLBACK; \
         BEGIN; INSERT INTO compacted SELECT n, 'many', n, NULL FROM generate_series(1000, 8999) n; DELETE FROM compacted WHERE id >= 1000; COMMIT")
    .await;
    eventually("the long transaction has come", async || {
        let records = stage.dump(topic).await;
        let tombstones = records.iter().filter(|record| record.value.is_none()).count();
        if tombstones == 8002 {
            Ok(())
        } else {
            Err(format!("{tombstones} tombstones"))
        }
    })
    .await;
    stage.comes_to(topic, &rows).await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_are_debeziums() {
    let stage = Stage::new("envelopes").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE SCHEMA inventory; \
         CREATE TABLE inventory.part (name text, place int, amount int NOT NULL, PRIMARY KEY (place, name)); \
         CREATE TABLE inventory.full_part (id int PRIMARY KEY, amount int); \
         ALTER TABLE inventory.full_part REPLICA IDENTITY FULL; \
         INSERT INTO inventory.part VALUES ('a', 1, 10), ('b', 1, 20)")
    .await;
    let mut config = stage.config(&[("schema.include.list", "inventory"), ("snapshot.mode", "initial")]);
    config["column.exclude.list"] = "inventory\\.full_part\\.nothing".into();
    stage.run(config).await;
    let topic = "envelopes.inventory.part";
    let records = async |topic: &str, count: usize| {
        eventually(&format!("{count} records in {topic}"), async || {
            let records = stage.dump(topic).await;
            if records.len() >= count {
                Ok(records)
            } else {
                Err(format!("{} records", records.len()))
            }
        })
        .await
    };
    let snapshot = records(topic, 2).await;
    let (key, first) = pair(&snapshot[0]);
    // the key's columns come in the order of the primary key
    assert_eq!(key, r#"{"place":1,"name":"a"}"#);
    assert_eq!(first["before"], Value::Null);
    assert_eq!(first["after"], json!({"name": "a", "place": 1, "amount": 10}));
    assert_eq!(first["op"], "r");
    let source = &first["source"];
    assert_eq!(
        (
            &source["connector"],
            &source["name"],
            &source["db"],
            &source["schema"],
            &source["table"]
        ),
        (
            &json!("postgresql"),
            &json!("envelopes"),
            &json!("envelopes_db"),
            &json!("inventory"),
            &json!("part")
        )
    );
    assert_eq!(source["snapshot"], "first");
    assert!(source["lsn"].as_i64().unwrap() > 0);
    assert_eq!(pair(&snapshot[1]).1["source"]["snapshot"], "last");
    for member in ["ts_ms", "ts_us", "ts_ns"] {
        assert!(
            first[member].as_i64().unwrap() > 0 && source[member].as_i64().unwrap() > 0,
            "{member}"
        );
    }

    sql(
        "INSERT INTO inventory.part VALUES ('c', 2, 30); UPDATE inventory.part SET amount = 31 WHERE name = 'c'; \
         UPDATE inventory.part SET place = 3 WHERE name = 'c'; DELETE FROM inventory.part WHERE name = 'c'",
    )
    .await;
    let all: Vec<(String, Value)> = records(topic, 9).await.iter().skip(2).map(pair).collect();
    let shape: Vec<Value> = all
        .iter()
        .map(|(key, value)| json!([key, value["op"], value["before"], value["after"]]))
        .collect();
    let (old, new) = (r#"{"place":2,"name":"c"}"#, r#"{"place":3,"name":"c"}"#);
    let c = |place: i32, amount: i32| json!({"name": "c", "place": place, "amount": amount});
    assert_eq!(
        shape,
        [
            json!([old, "c", null, c(2, 30)]),
            // with the default replica identity an update has no before, and a delete only the key
            json!([old, "u", null, c(2, 31)]),
            json!([old, "d", c(2, 0), null]),
            json!([old, null, null, null]),
            json!([new, "c", null, c(3, 31)]),
            json!([new, "d", c(3, 0), null]),
            json!([new, null, null, null]),
        ]
    );
    let update = &all[1].1["source"];
    assert_eq!(update["snapshot"], "false");
    assert!(update["txId"].as_i64().unwrap() > 0);
    assert!(update["sequence"].as_str().unwrap().starts_with("[\""));

    sql("INSERT INTO inventory.full_part VALUES (1, 5); UPDATE inventory.full_part SET amount = 6; DELETE FROM inventory.full_part").await;
    let full: Vec<(String, Value)> = records("envelopes.inventory.full_part", 4)
        .await
        .iter()
        .map(pair)
        .collect();
    assert_eq!(full[1].1["before"], json!({"id": 1, "amount": 5}));
    assert_eq!(full[2].1["before"], json!({"id": 1, "amount": 6}));

    // a column more, a column less, another table: seen without a restart
    sql(
        "ALTER TABLE inventory.part ADD COLUMN colour text; INSERT INTO inventory.part VALUES ('d', 4, 1, 'red'); \
         ALTER TABLE inventory.part DROP COLUMN colour; INSERT INTO inventory.part VALUES ('e', 4, 2)",
    )
    .await;
    let last: Vec<(String, Value)> = records(topic, 11).await.iter().skip(9).map(pair).collect();
    assert_eq!(
        last[0].1["after"],
        json!({"name": "d", "place": 4, "amount": 1, "colour": "red"})
    );
    assert_eq!(last[1].1["after"], json!({"name": "e", "place": 4, "amount": 2}));
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_that_do_not_change() {
    let stage = Stage::new("large").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql(
        "CREATE TABLE large (id int PRIMARY KEY, n int, body text); ALTER TABLE large ALTER body SET STORAGE EXTERNAL; \
         CREATE TABLE whole (LIKE large INCLUDING ALL); ALTER TABLE whole REPLICA IDENTITY FULL; \
         INSERT INTO large VALUES (1, 1, repeat('x', 9000)); INSERT INTO whole SELECT * FROM large",
    )
    .await;
    let mut config = stage.config(&[("transforms", "unwrap"), UNWRAP[1]]);
    config["unavailable.value.placeholder"] = "same".into();
    stage.run(config).await;
    let body = "x".repeat(9000);
    let key = r#"{"id":1}"#;
    stage
        .comes_to("large.public.large", &[(key, json!({"id": 1, "n": 1, "body": body}))])
        .await;
    sql("UPDATE large SET n = 2; UPDATE whole SET n = 2").await;
    stage
        .comes_to("large.public.large", &[(key, json!({"id": 1, "n": 2, "body": "same"}))])
        .await;
    stage
        .comes_to("large.public.whole", &[(key, json!({"id": 1, "n": 2, "body": body}))])
        .await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_end_the_snapshot_in_every_partition() {
    let stage = Stage::new("marked").await;
    let server = PostgresServer::shared().await.unwrap();
    server
        .psql(
            &stage.database,
            "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)",
        )
        .await
        .unwrap();
    stage.create_topic("catalog.marked", 3).await;
    let mut config = stage.config(&UNWRAP);
    config["transforms.route.replacement"] = "catalog.marked".into();
    config["catalog.marker.topics"] = "public.t:catalog.marked".into();
    config["predicates"] = "marker".into();
    config["predicates.marker.type"] = "org.apache.kafka.connect.transforms.predicates.HasHeaderKey".into();
    config["predicates.marker.name"] = "millrace.marker".into();
    config["transforms.key.predicate"] = "marker".into();
    config["transforms.key.negate"] = "true".into();
    stage.run(config).await;
    let records = eventually("50 rows and 3 markers", async || {
        let records = stage.dump("catalog.marked").await;
        if records.len() == 53 {
            Ok(records)
        } else {
            Err(format!("{} records", records.len()))
        }
    })
    .await;
    for partition in 0..3 {
        let last = records
            .iter()
            .rev()
            .find(|record| record.partition == partition)
            .unwrap();
        let (key, value) = pair(last);
        assert_eq!(key, r#"{"millrace.catalog.marker":true}"#);
        assert_eq!((&value["rows"], &value["partitions"]), (&json!(50), &json!(3)));
        assert_eq!(last.headers[0].0, "millrace.marker");
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_modes() {
    let stage = Stage::new("modes").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    // changes only
    stage.run(stage.config(&[("snapshot.mode", "no_data")])).await;
    eventually("the slot is read", async || {
        let active = sql(
            "SELECT active AND confirmed_flush_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'modes'",
        )
        .await;
        if active == "t" { Ok(()) } else { Err(active) }
    })
    .await;
    sql("INSERT INTO t VALUES (2)").await;
    let records = eventually("the change has come", async || {
        let records = stage.dump("modes.public.t").await;
        if records.is_empty() {
            Err("nothing".to_owned())
        } else {
            Ok(records)
        }
    })
    .await;
    assert_eq!(
        records.iter().map(|record| pair(record).0).collect::<Vec<_>>(),
        [r#"{"id":2}"#]
    );
    // the snapshot alone; heartbeats come with changes only
    assert_eq!(stage.send("DELETE", "").await.0, 204);
    stage
        .run(stage.config(&[("snapshot.mode", "initial_only"), ("topic.prefix", "once")]))
        .await;
    eventually("both rows", async || {
        let records = stage.dump("once.public.t").await;
        if records.len() == 2 {
            Ok(())
        } else {
            Err(format!("{} records", records.len()))
        }
    })
    .await;
    // a snapshot at each start, and heartbeats
    stage
        .run(stage.config(&[
            ("snapshot.mode", "always"),
            ("topic.prefix", "again"),
            ("heartbeat.interval.ms", "1500"),
        ]))
        .await;
    let beat = eventually("a heartbeat", async || {
        stage
            .dump("__debezium-heartbeat.again")
            .await
            .pop()
            .ok_or_else(|| "none".to_owned())
    })
    .await;
    let (key, value) = pair(&beat);
    assert_eq!(key, r#"{"serverName":"again"}"#);
    assert!(value["ts_ms"].as_i64().unwrap() > 0);
    assert_eq!(stage.send("POST", "/restart?includeTasks=true").await.0, 202);
    eventually("two snapshots", async || {
        let reads = stage.dump("again.public.t").await;
        let reads = reads.iter().filter(|record| pair(record).1["op"] == "r").count();
        if reads == 4 {
            Ok(())
        } else {
            Err(format!("{reads} rows read"))
        }
    })
    .await;
    // the slot goes with the connector where that is asked for
    assert_eq!(stage.send("DELETE", "").await.0, 204);
    eventually("the connector is gone", async || {
        let (status, body) = stage.send("GET", "/status").await;
        if status == 404 { Ok(()) } else { Err(body.to_string()) }
    })
    .await;
    stage
        .run(stage.config(&[("slot.drop.on.stop", "true"), ("topic.prefix", "again")]))
        .await;
    assert_eq!(stage.send("DELETE", "").await.0, 204);
    eventually("the slot is gone", async || {
        let slots = sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'modes'").await;
        if slots == "0" { Ok(()) } else { Err(slots) }
    })
    .await;
    stage.finish().await;
}
