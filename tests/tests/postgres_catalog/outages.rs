//! Whatever goes away and comes back: nothing is lost.

use crate::worker::{Stage, eventually, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tests::PostgresServer;

const UNWRAP: [(&str, &str); 2] = [
    ("transforms", "unwrap"),
    ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
];

/// Waits until the topic comes to the rows that the table has now.
async fn catches_up(stage: &Stage, server: &PostgresServer, topic: &str) {
    eventually("the topic holds the table", async || {
        let table = server
            .psql(
                &stage.database,
                "SELECT json_build_object('id', id, 'n', n)::text FROM t",
            )
            .await
            .map_err(|error| error.to_string())?;
        let table: BTreeSet<String> = table
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap().to_string())
            .collect();
        let topic: BTreeSet<String> = stage
            .compacted(topic)
            .await
            .into_values()
            .map(|row| row.to_string())
            .collect();
        match table == topic {
            true => Ok(()),
            false => Err(format!(
                "{} rows in the table, {} in the topic, {} of them equal; status {}",
                table.len(),
                topic.len(),
                table.intersection(&topic).count(),
                stage.send("GET", "/status").await.1
            )),
        }
    })
    .await;
}

async fn change(server: &PostgresServer, stage: &Stage, round: i32) {
    let statements = format!(
        "INSERT INTO t VALUES ({round}, 0); UPDATE t SET n = n + 1 WHERE id % 7 = {round} % 7; DELETE FROM t WHERE id = {round} * 10"
    );
    server.psql(&stage.database, &statements).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was() {
    let mut stage = Stage::new("restarts").await;
    let server = PostgresServer::shared().await.unwrap();
    server
        .psql(
            &stage.database,
            "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g * 10, 0 FROM generate_series(1, 500) g",
        )
        .await
        .unwrap();
    let topic = "restarts.public.t";
    let options = [
        UNWRAP[0],
        UNWRAP[1],
        ("table.include.list", "public.t"),
        ("status.update.interval.ms", "200"),
    ];
    stage.run(stage.config(&options)).await;
    catches_up(&stage, server, topic).await;

    // the connector's task
    change(server, &stage, 1).await;
    assert_eq!(stage.send("POST", "/restart?includeTasks=true").await.0, 202);
    change(server, &stage, 2).await;
    catches_up(&stage, server, topic).await;
    // a pause
    assert_eq!(stage.send("PUT", "/pause").await.0, 202);
    stage.task_is("PAUSED").await;
    change(server, &stage, 3).await;
    assert_eq!(stage.send("PUT", "/resume").await.0, 202);
    catches_up(&stage, server, topic).await;
    // the worker; what happens meanwhile comes afterwards
    stage.stop_worker().await;
    change(server, &stage, 4).await;
    stage.start_worker().await;
    catches_up(&stage, server, topic).await;

    // no restart took a second snapshot, and a clean one repeats nothing: as many records as there were changes
    let before = stage.dump(topic).await.len();
    stage.restart_worker().await;
    change(server, &stage, 5).await;
    catches_up(&stage, server, topic).await;
    let changes = stage.dump(topic).await.len() - before;
    let table: usize = server
        .psql(&stage.database, "SELECT count(*) FROM t")
        .await
        .unwrap()
        .parse()
        .unwrap();
    assert!(changes < table, "{changes} records after a clean restart");

    // PostgreSQL may forget what is in Kafka, also while only other tables change
    server
        .psql(
            &stage.database,
            "CREATE TABLE uncaptured (id int); SELECT pg_switch_wal()",
        )
        .await
        .unwrap();
    eventually("the slot advances", async || {
        let sql = "INSERT INTO uncaptured VALUES (1); \
                   SELECT pg_current_wal_lsn() - s.confirmed_flush_lsn < 10000, pg_current_wal_lsn(), s.confirmed_flush_lsn, \
                   r.sent_lsn, r.write_lsn, r.flush_lsn FROM pg_replication_slots s \
                   LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = 'restarts'";
        let positions = server.psql(&stage.database, sql).await.unwrap();
        if positions.starts_with("t|") { Ok(()) } else { Err(format!("{positions} {}", stage.send("GET", "/status").await.1)) }
    })
    .await;
    let offset = stage.offset().await;
    assert!(
        offset["lsn_commit"].as_u64().unwrap() > 0 && offset["lsn"].as_u64().unwrap() > 0,
        "{offset}"
    );
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_waited_for() {
    let server = PostgresServer::start(&[]).await.unwrap();
    let stage = Stage::on(&server, "outage").await;
    server
        .psql(
            &stage.database,
            "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g * 10, 0 FROM generate_series(1, 200) g",
        )
        .await
        .unwrap();
    let topic = "outage.public.t";
    let config = stage.config(&[UNWRAP[0], UNWRAP[1], ("status.update.interval.ms", "100")]);
    stage.run(config).await;
    catches_up(&stage, &server, topic).await;
    for round in 1..=2 {
        server.stop().await.unwrap();
        server.restart().await.unwrap();
        change(&server, &stage, round).await;
        catches_up(&stage, &server, topic).await;
        change(&server, &stage, round + 4).await;
        server.kill().await.unwrap();
        server.restart().await.unwrap();
        change(&server, &stage, round + 8).await;
        catches_up(&stage, &server, topic).await;
    }
    // the reader's connection alone is cut
    let cut = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active";
    server.psql(&stage.database, cut).await.unwrap();
    change(&server, &stage, 20).await;
    catches_up(&stage, &server, topic).await;
    // no task has failed
    assert_eq!(stage.send("GET", "/status").await.1["tasks"][0]["state"], "RUNNING");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_cut_off_begins_again_and_forgets_no_delete() {
    let server = PostgresServer::start(&[]).await.unwrap();
    let mut stage = Stage::on(&server, "cut").await;
    server
        .psql(
            &stage.database,
            "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 400000) g",
        )
        .await
        .unwrap();
    let topic = "cut.public.t";
    stage.run(stage.config(&UNWRAP)).await;
    eventually("the snapshot has begun", async || {
        let records = stage
            .broker
            .dump(topic, kafka_client::IsolationLevel::ReadUncommitted)
            .await;
        if records.is_ok_and(|records| !records.is_empty()) {
            Ok(())
        } else {
            Err("no record yet".to_owned())
        }
    })
    .await;
    // PostgreSQL dies in the middle (or, on a quick machine, right after)
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    stage.stop_worker().await;
    // these rows are in the topic already, most likely
    server
        .psql(&stage.database, "DELETE FROM t WHERE id <= 399000")
        .await
        .unwrap();
    stage.start_worker().await;
    stage.task_is("RUNNING").await;
    catches_up(&stage, &server, topic).await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_debezium_are_taken_over() {
    let stage = Stage::new("takeover").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    sql("CREATE PUBLICATION dbz_publication FOR TABLE t").await;
    let lsn = sql("SELECT lsn - '0/0' FROM pg_create_logical_replication_slot('takeover', 'pgoutput')").await;
    sql("INSERT INTO t VALUES (2, 2)").await;
    // the connector is made as Debezium would have left it: stopped, with an offset
    let mut config = stage.config(&UNWRAP);
    config["publication.autocreate.mode"] = "disabled".into();
    stage.run(config.clone()).await;
    assert_eq!(stage.send("PUT", "/stop").await.0, 204);
    eventually("the connector has stopped", async || {
        let status = stage.send("GET", "/status").await.1;
        if status["tasks"] == json!([]) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    let lsn: u64 = lsn.parse().unwrap();
    let offset = json!({"offsets": [{"partition": {"server": "takeover"}, "offset": {
        "transaction_id": null, "lsn_proc": lsn, "messageType": "INSERT", "lsn_commit": lsn, "lsn": lsn, "txId": 739,
        "ts_usec": 1_700_000_000_000_000_i64,
    }}]});
    let (status, body) = stage.patch_offsets(offset).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(stage.offset().await["lsn_commit"], lsn);
    sql("INSERT INTO t VALUES (3, 3)").await;
    assert_eq!(stage.send("PUT", "/resume").await.0, 202);
    eventually("the change after the offset has come", async || {
        let records = stage.dump("takeover.public.t").await;
        let keys: Vec<String> = records.iter().map(|record| text(&record.key)).collect();
        if keys.iter().any(|key| key == r#"{"id":3}"#) {
            Ok(())
        } else {
            Err(format!("{keys:?}"))
        }
    })
    .await;
    let (status, body) = stage
        .patch_offsets(json!({"offsets": [{"partition": {"server": "takeover"}, "offset": {"lsn": "x"}}]}))
        .await;
    assert_ne!(status, 200, "{body}");
    stage.finish().await;
}
