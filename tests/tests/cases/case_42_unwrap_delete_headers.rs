//! DBZ-1876, DBZ-1517: headers of deletes and of keys that change, through ExtractNewRecordState. Debezium 3.6.1 adds them to the
//! record that it makes of the delete.

use crate::postgres_worker::{Stage, text};
use tests::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_says_what_it_is_and_where_the_row_went() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("unwrapped").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    stage
        .run(stage.config(&[
            ("transforms", "unwrap"),
            ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
            ("transforms.unwrap.add.headers", "op,db"),
        ]))
        .await;
    stage.records("unwrapped.public.t", 2).await;
    sql("UPDATE t SET id = 5 WHERE id = 2; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (9, 9)").await;
    let records = stage.records("unwrapped.public.t", 6).await;
    let changes: Vec<(String, bool, String)> = records
        .iter()
        .skip(2)
        .map(|record| {
            let headers = record
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={}", text(value)));
            (
                text(&record.key),
                record.value.is_none(),
                headers.collect::<Vec<_>>().join(" "),
            )
        })
        .collect();
    let change = |key: &str, tombstone, headers: &str| (key.to_owned(), tombstone, headers.to_owned());
    assert_eq!(
        changes,
        [
            change(
                r#"{"id":2}"#,
                true,
                r#"__debezium.newkey={"id":5} __op=d __db=unwrapped_db"#
            ),
            change(
                r#"{"id":5}"#,
                false,
                r#"__debezium.oldkey={"id":2} __op=c __db=unwrapped_db"#
            ),
            change(r#"{"id":1}"#, true, "__op=d __db=unwrapped_db"),
            change(r#"{"id":9}"#, false, "__op=c __db=unwrapped_db"),
        ]
    );
    stage.finish().await;
}
