//! Values of numeric that are no numbers. Debezium 3.6.1 writes the names of Java's enum where numbers are text, and null where
//! they are Decimals, and goes on.

use crate::postgres_worker::{Stage, logged, pair};
use serde_json::{Value, json};
use tests::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_none() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("special").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE t (id int PRIMARY KEY, n numeric, n2 numeric(8,2)); \
         INSERT INTO t VALUES (1, 'NaN', 'NaN'), (2, 'Infinity', NULL), (3, '-Infinity', NULL), (4, 1.5, 1.5)")
    .await;
    let modes: [(&str, [Value; 3], [Value; 2]); 3] = [
        (
            "string",
            ["NAN", "POSITIVE_INFINITY", "NEGATIVE_INFINITY"].map(Value::from),
            ["1.5", "1.50"].map(Value::from),
        ),
        (
            "precise",
            [Value::Null, Value::Null, Value::Null],
            [json!({"scale": 1, "value": "Dw=="}), json!("AJY=")],
        ),
        (
            "double",
            ["NaN", "Infinity", "-Infinity"].map(Value::from),
            [json!(1.5), json!(1.5)],
        ),
    ];
    for (mode, special, plain) in modes {
        let prefix = format!("special_{mode}");
        stage
            .run(stage.config(&[
                ("topic.prefix", prefix.as_str()),
                ("slot.name", prefix.as_str()),
                ("decimal.handling.mode", mode),
            ]))
            .await;
        let topic = format!("{prefix}.public.t");
        let snapshot = stage.records(&topic, 4).await;
        sql("UPDATE t SET id = id").await;
        let all = stage.records(&topic, 8).await;
        for (number, record) in all.iter().enumerate() {
            let (_, value) = pair(record);
            let (row, after) = (number % 4, &value["after"]);
            match special.get(row) {
                Some(expected) => assert_eq!(after["n"], *expected, "{mode}, record {number}"),
                None => assert_eq!([&after["n"], &after["n2"]], [&plain[0], &plain[1]], "{mode}"),
            }
        }
        assert_eq!(snapshot.len(), 4);
        assert_eq!(stage.send("GET", "/status").await.1["tasks"][0]["state"], "RUNNING");
        let said = logged(&format!("connector={prefix} "));
        let said = said
            .iter()
            .any(|line| line.contains("column=public.t.n ") && line.contains("set decimal.handling.mode"));
        assert_eq!(said, mode == "precise", "{mode}");
    }
    stage.finish().await;
}
