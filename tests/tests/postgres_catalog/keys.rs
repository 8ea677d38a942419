//! Keys and nullability: as they were at the time of the change, also where the table has changed since.

use crate::worker::{Stage, eventually, logged, pair};
use serde_json::{Value, json};
use tests::PostgresServer;

/// Key, operation, row before and row after of each record.
async fn shapes(stage: &Stage, topic: &str, from: usize, count: usize) -> Vec<Value> {
    let records = stage.records(topic, from + count).await;
    let shape = |(key, value): (String, Value)| {
        let key: Value = serde_json::from_str(&key).unwrap();
        json!([key, value["op"], value["before"], value["after"]])
    };
    records.iter().skip(from).map(pair).map(shape).collect()
}

/// A heartbeat of the table's own: nothing of what was written before it is still to come.
async fn settled(stage: &Stage, server: &PostgresServer) {
    let lsn = server
        .psql(&stage.database, "SELECT pg_current_wal_lsn() - '0/0'")
        .await
        .unwrap();
    let lsn: u64 = lsn.parse().unwrap();
    eventually("everything is committed", async || {
        let offset = stage.offset().await;
        match offset["lsn_commit"].as_u64().is_some_and(|committed| committed >= lsn) {
            true => Ok(()),
            false => Err(format!("{offset}; {}", stage.send("GET", "/status").await.1)),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_nullability_change_in_mid_stream() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("midstream").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE nullable (id int PRIMARY KEY, t text NOT NULL, n int NOT NULL); \
         CREATE TABLE moved (id int PRIMARY KEY, code text NOT NULL); \
         CREATE TABLE swapped (a int NOT NULL, b int NOT NULL, PRIMARY KEY (a)); \
         CREATE TABLE keyed (id int NOT NULL, v int); \
         INSERT INTO nullable VALUES (1, 'a', 1); INSERT INTO moved VALUES (1, 'a'), (2, 'b'); INSERT INTO swapped VALUES (1, 10); \
         INSERT INTO keyed VALUES (1, 1)")
    .await;
    // a table without a key: no compacted topic
    stage
        .run(stage.config(&[
            ("topic.creation.default.cleanup.policy", "delete"),
            ("status.update.interval.ms", "100"),
        ]))
        .await;
    stage.records("midstream.public.swapped", 1).await;

    sql("ALTER TABLE nullable ALTER t DROP NOT NULL, ALTER n DROP NOT NULL; INSERT INTO nullable VALUES (2, NULL, NULL)").await;
    assert_eq!(
        shapes(&stage, "midstream.public.nullable", 1, 1).await,
        [json!([{"id": 2}, "c", null, {"id": 2, "t": null, "n": null}])]
    );

    // the primary key moves to other columns
    sql(
        "ALTER TABLE moved DROP CONSTRAINT moved_pkey; ALTER TABLE moved ADD PRIMARY KEY (code); \
         UPDATE moved SET id = 5 WHERE code = 'b'; DELETE FROM moved WHERE code = 'a'",
    )
    .await;
    assert_eq!(
        shapes(&stage, "midstream.public.moved", 2, 3).await,
        [
            json!([{"code": "b"}, "u", null, {"id": 5, "code": "b"}]),
            json!([{"code": "a"}, "d", {"id": 0, "code": "a"}, null]),
            json!([{"code": "a"}, null, null, null]),
        ]
    );
    // ... while the columns stay as they are
    sql("ALTER TABLE swapped DROP CONSTRAINT swapped_pkey; ALTER TABLE swapped ADD PRIMARY KEY (b, a); INSERT INTO swapped VALUES (2, 20)").await;
    assert_eq!(
        shapes(&stage, "midstream.public.swapped", 1, 1).await,
        [json!([{"b": 20, "a": 2}, "c", null, {"a": 2, "b": 20}])]
    );
    let order = stage.records("midstream.public.swapped", 2).await;
    assert_eq!(pair(&order[1]).0, r#"{"b":20,"a":2}"#);

    sql("INSERT INTO keyed VALUES (2, 2); ALTER TABLE keyed ADD PRIMARY KEY (id); INSERT INTO keyed VALUES (3, 3); DELETE FROM keyed WHERE id = 1").await;
    let keyed = shapes(&stage, "midstream.public.keyed", 1, 4).await;
    assert_eq!(
        keyed[1..],
        [
            json!([{"id": 3}, "c", null, {"id": 3, "v": 3}]),
            json!([{"id": 1}, "d", {"id": 1, "v": null}, null]),
            json!([{"id": 1}, null, null, null]),
        ]
    );
    stage.finish().await;
}

/// What waits in the log was written when the table was another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_keeps_the_keys_of_its_time() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("backlog").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql(
        "CREATE TABLE typed (id int PRIMARY KEY, v int); CREATE TABLE moved (id int PRIMARY KEY, code text NOT NULL); \
         CREATE TABLE filled (id int PRIMARY KEY, v int); CREATE TABLE renamed (id int PRIMARY KEY, v int)",
    )
    .await;
    stage.run(stage.config(&[("status.update.interval.ms", "100")])).await;
    settled(&stage, server).await;
    stage.stop_connector().await;
    sql("INSERT INTO typed VALUES (1, 1); ALTER TABLE typed ALTER id TYPE bigint; INSERT INTO typed VALUES (2, 2); \
         INSERT INTO moved VALUES (1, 'a'); DELETE FROM moved WHERE id = 1; ALTER TABLE moved DROP CONSTRAINT moved_pkey; \
         ALTER TABLE moved ADD PRIMARY KEY (code); INSERT INTO moved VALUES (2, 'b'); \
         INSERT INTO filled VALUES (1, NULL); UPDATE filled SET v = 0; ALTER TABLE filled ALTER v SET NOT NULL; \
         INSERT INTO renamed VALUES (1, 1); ALTER TABLE renamed RENAME id TO number; INSERT INTO renamed VALUES (2, 2)")
    .await;
    stage.resume_connector("RUNNING").await;
    assert_eq!(
        shapes(&stage, "backlog.public.typed", 0, 2).await,
        [
            json!([{"id": 1}, "c", null, {"id": 1, "v": 1}]),
            json!([{"id": 2}, "c", null, {"id": 2, "v": 2}])
        ]
    );
    assert_eq!(
        shapes(&stage, "backlog.public.moved", 0, 4).await,
        [
            json!([{"id": 1}, "c", null, {"id": 1, "code": "a"}]),
            json!([{"id": 1}, "d", {"id": 1, "code": ""}, null]),
            json!([{"id": 1}, null, null, null]),
            json!([{"code": "b"}, "c", null, {"id": 2, "code": "b"}]),
        ]
    );
    // null, where the catalog says by now that there is none
    assert_eq!(
        shapes(&stage, "backlog.public.filled", 0, 2).await,
        [
            json!([{"id": 1}, "c", null, {"id": 1, "v": null}]),
            json!([{"id": 1}, "u", null, {"id": 1, "v": 0}])
        ]
    );
    assert_eq!(
        shapes(&stage, "backlog.public.renamed", 0, 2).await,
        [
            json!([{"id": 1}, "c", null, {"id": 1, "v": 1}]),
            json!([{"number": 2}, "c", null, {"number": 2, "v": 2}])
        ]
    );
    assert!(
        logged("public.filled")
            .iter()
            .any(|line| line.contains("optional in the schemas from here on"))
    );
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_exactly_its_columns() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("exact").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE including (id int NOT NULL, x int, y int NOT NULL, PRIMARY KEY (id) INCLUDE (x, y)); \
         CREATE DOMAIN one AS int CHECK (VALUE > 0); CREATE DOMAIN two AS one NOT NULL; CREATE DOMAIN money_of_ours AS numeric(8,2); \
         CREATE DOMAIN price AS money_of_ours; CREATE TABLE domains (id two PRIMARY KEY, x two, p price); \
         CREATE TABLE made (a int, b int, g int GENERATED ALWAYS AS (b * 2) STORED, PRIMARY KEY (a, g)); \
         CREATE TABLE made_alone (b text, g text GENERATED ALWAYS AS (upper(b) || '\\') STORED PRIMARY KEY); \
         ALTER TABLE made REPLICA IDENTITY FULL; ALTER TABLE made_alone REPLICA IDENTITY FULL; \
         CREATE TABLE made_default (a int, b int, g int GENERATED ALWAYS AS (a + 1) STORED, PRIMARY KEY (a, g)); \
         CREATE TABLE made_unknown (a int, b int, g int GENERATED ALWAYS AS (b * 2) STORED, PRIMARY KEY (a, g)); \
         INSERT INTO including VALUES (1, 2, 3); INSERT INTO domains VALUES (1, 2, 1.5); INSERT INTO made VALUES (1, 2); \
         INSERT INTO made_alone VALUES ('a''b'); INSERT INTO made_default VALUES (1, 1); INSERT INTO made_unknown VALUES (1, 2)")
    .await;
    stage
        .run(stage.config(&[
            ("decimal.handling.mode", "string"),
            ("status.update.interval.ms", "100"),
        ]))
        .await;
    stage.records("exact.public.made_unknown", 1).await;
    sql("INSERT INTO including VALUES (2, 2, 3); DELETE FROM including WHERE id = 1; INSERT INTO domains VALUES (3, 4, 2.5); \
         INSERT INTO made VALUES (1, 3); UPDATE made SET b = 4 WHERE b = 3; DELETE FROM made WHERE b = 2; \
         INSERT INTO made_alone VALUES ('c'); DELETE FROM made_alone WHERE b = 'c'; \
         UPDATE made_default SET b = 2; DELETE FROM made_default; \
         INSERT INTO made_unknown VALUES (1, 3); DELETE FROM made_unknown WHERE b = 2; INSERT INTO made_unknown VALUES (2, 3)")
    .await;
    assert_eq!(
        shapes(&stage, "exact.public.including", 0, 4).await,
        [
            json!([{"id": 1}, "r", null, {"id": 1, "x": 2, "y": 3}]),
            json!([{"id": 2}, "c", null, {"id": 2, "x": 2, "y": 3}]),
            json!([{"id": 1}, "d", {"id": 1, "x": null, "y": 0}, null]),
            json!([{"id": 1}, null, null, null]),
        ]
    );
    assert_eq!(
        shapes(&stage, "exact.public.domains", 0, 2).await,
        [
            json!([{"id": 1}, "r", null, {"id": 1, "x": 2, "p": "1.50"}]),
            json!([{"id": 3}, "c", null, {"id": 3, "x": 4, "p": "2.50"}]),
        ]
    );
    let row = |b: i32| json!({"a": 1, "b": b, "g": b * 2});
    assert_eq!(
        shapes(&stage, "exact.public.made", 0, 7).await,
        [
            json!([{"a": 1, "g": 4}, "r", null, row(2)]),
            json!([{"a": 1, "g": 6}, "c", null, row(3)]),
            // a new value makes a new key
            json!([{"a": 1, "g": 6}, "d", row(3), null]),
            json!([{"a": 1, "g": 6}, null, null, null]),
            json!([{"a": 1, "g": 8}, "c", null, row(4)]),
            json!([{"a": 1, "g": 4}, "d", row(2), null]),
            json!([{"a": 1, "g": 4}, null, null, null]),
        ]
    );
    let alone = shapes(&stage, "exact.public.made_alone", 0, 4).await;
    assert_eq!(alone[0], json!([{"g": "A'B\\"}, "r", null, {"b": "a'b", "g": "A'B\\"}]));
    assert_eq!(alone[1][0], json!({"g": "C\\"}));
    assert_eq!((&alone[2][0], &alone[2][1]), (&json!({"g": "C\\"}), &json!("d")));
    let default = shapes(&stage, "exact.public.made_default", 1, 3).await;
    assert_eq!(
        default,
        [
            json!([{"a": 1, "g": 2}, "u", null, {"a": 1, "b": 2, "g": 2}]),
            json!([{"a": 1, "g": 2}, "d", {"a": 1, "b": null, "g": 2}, null]),
            json!([{"a": 1, "g": 2}, null, null, null]),
        ]
    );
    // a delete whose key did not come is not one of another row
    let unknown = shapes(&stage, "exact.public.made_unknown", 0, 3).await;
    assert_eq!(
        unknown,
        [
            json!([{"a": 1, "g": 4}, "r", null, row(2)]),
            json!([{"a": 1, "g": 6}, "c", null, row(3)]),
            json!([{"a": 2, "g": 6}, "c", null, {"a": 2, "b": 3, "g": 6}]),
        ]
    );
    assert!(
        logged("public.made_unknown")
            .iter()
            .any(|line| line.contains("a delete that does not name the row's key"))
    );
    stage.finish().await;
}

/// Debezium writes deletes to key `{"id":0}` here.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_does_not_name_its_key_is_counted_and_left_out() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("unnamed").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, v int); CREATE UNIQUE INDEX by_code ON t (code); \
         ALTER TABLE t REPLICA IDENTITY USING INDEX by_code; \
         CREATE TABLE only_index (code text NOT NULL, v int); CREATE UNIQUE INDEX only_code ON only_index (code); \
         ALTER TABLE only_index REPLICA IDENTITY USING INDEX only_code; INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2); \
         CREATE TABLE large (id text PRIMARY KEY, v int); ALTER TABLE large ALTER id SET STORAGE EXTERNAL",
    )
    .await;
    stage.run(stage.config(&[])).await;
    stage.records("unnamed.public.t", 2).await;
    // a key of this length is stored beside the row, and not sent again when it does not change
    let key = "k".repeat(2500);
    sql(&format!(
        "UPDATE t SET v = 5 WHERE id = 2; UPDATE t SET code = 'bb' WHERE id = 2; DELETE FROM t WHERE id = 1; \
         INSERT INTO t VALUES (3, 'c', 3); \
         INSERT INTO only_index VALUES ('x', 1); UPDATE only_index SET code = 'y'; DELETE FROM only_index; \
         INSERT INTO large VALUES ('{key}', 1); UPDATE large SET v = 2; DELETE FROM large"
    ))
    .await;
    assert_eq!(
        shapes(&stage, "unnamed.public.t", 2, 3).await,
        [
            json!([{"id": 2}, "u", null, {"id": 2, "code": "b", "v": 5}]),
            json!([{"id": 2}, "u", null, {"id": 2, "code": "bb", "v": 5}]),
            json!([{"id": 3}, "c", null, {"id": 3, "code": "c", "v": 3}]),
        ]
    );
    assert_eq!(stage.dump("unnamed.public.t").await.len(), 5);
    let lines = logged("public.t ");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("a delete that does not name") && line.contains("count=1")),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("an update that does not name the row's old key")),
        "{lines:?}"
    );
    let only = shapes(&stage, "unnamed.public.only_index", 0, 6).await;
    let keys: Vec<&Value> = only.iter().map(|shape| &shape[0]["code"]).collect();
    assert_eq!(
        keys,
        ["x", "x", "x", "y", "y", "y"]
            .map(Value::from)
            .iter()
            .collect::<Vec<_>>()
    );
    let large = shapes(&stage, "unnamed.public.large", 0, 4).await;
    assert!(
        large.iter().all(|shape| shape[0]["id"] == key),
        "a key that is another row's"
    );
    stage.finish().await;
}
