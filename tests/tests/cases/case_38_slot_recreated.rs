//! DBZ-5739: the slot is dropped and made again while the connector is stopped. What was written in between is in no slot.

use crate::postgres_worker::{Stage, eventually, slot_is_free};
use tests::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_made_again_is_not_mistaken_for_the_old_one() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("recreated").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    let rows = async || stage.compacted("recreated.public.t").await.len();
    sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let config = |mode| {
        stage.config(&[
            ("snapshot.mode", mode),
            ("transforms", "unwrap"),
            ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
            ("status.update.interval.ms", "100"),
        ])
    };
    stage.run(config("initial")).await;
    eventually("both rows", async || {
        if rows().await == 2 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    eventually("the snapshot is committed", async || {
        let offset = stage.offset().await;
        if offset["lsn"].is_u64() {
            Ok(())
        } else {
            Err(offset.to_string())
        }
    })
    .await;
    stage.stop_connector().await;
    slot_is_free(server, "recreated").await;
    sql("SELECT pg_drop_replication_slot('recreated')").await;
    sql("INSERT INTO t VALUES (3, 3)").await;
    sql("SELECT pg_create_logical_replication_slot('recreated', 'pgoutput')").await;
    sql("INSERT INTO t VALUES (4, 4)").await;
    // as Debezium: not on, as if nothing was missing
    let trace = stage.resume_connector("FAILED").await;
    assert!(
        trace.contains("replication slot recreated does not hold the changes after the committed offset"),
        "{trace}"
    );
    assert!(trace.contains("snapshot.mode=when_needed"), "{trace}");
    assert_eq!(rows().await, 2);
    // and a new snapshot where that is what was asked for
    stage.run(config("when_needed")).await;
    eventually("all rows", async || {
        if rows().await == 4 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    stage.finish().await;
}
