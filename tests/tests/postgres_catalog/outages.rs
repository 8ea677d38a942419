//! Whatever goes away and comes back: nothing is lost.

use crate::worker::{Stage, eventually};
use kafka_client::LogRecord;
use serde_json::Value;
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

/// Changes rows, and says how many.
async fn change(server: &PostgresServer, stage: &Stage, round: i32) -> usize {
    let statements = format!(
        "INSERT INTO t VALUES ({round}, 0); \
         WITH u AS (UPDATE t SET n = n + 1 WHERE id % 7 = {round} % 7 RETURNING 1) SELECT count(*) FROM u; \
         WITH d AS (DELETE FROM t WHERE id = {round} * 10 RETURNING 1) SELECT count(*) FROM d"
    );
    let counts = server.psql(&stage.database, &statements).await.unwrap();
    1 + counts
        .lines()
        .map(|count| count.parse::<usize>().unwrap())
        .sum::<usize>()
}

/// The operation that a record came from.
fn operation(record: &LogRecord) -> String {
    let header = record.headers.iter().find(|(name, _)| name == "__op");
    let value = header
        .and_then(|(_, value)| value.clone())
        .expect("a record without its operation");
    String::from_utf8(value.to_vec()).unwrap()
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
        ("transforms.unwrap.add.headers", "op"),
        ("table.include.list", "public.t"),
        ("status.update.interval.ms", "200"),
    ];
    stage.run(stage.config(&options)).await;
    catches_up(&stage, server, topic).await;
    let snapshot = stage.dump(topic).await.len();
    assert_eq!(snapshot, 500);

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

    // no restart took a second snapshot
    let all = stage.dump(topic).await;
    let reads = all.iter().filter(|record| operation(record) == "r").count();
    assert_eq!(reads, snapshot);
    // a clean restart repeats nothing: exactly as many records as there were changes, before it and after it
    let before = change(server, &stage, 5).await;
    catches_up(&stage, server, topic).await;
    assert_eq!(stage.dump(topic).await.len() - all.len(), before);
    stage.stop_worker().await;
    let meanwhile = change(server, &stage, 6).await;
    stage.start_worker().await;
    let after = change(server, &stage, 7).await;
    catches_up(&stage, server, topic).await;
    assert_eq!(stage.dump(topic).await.len() - all.len(), before + meanwhile + after);

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
            "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 20000) g; \
             CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)",
        )
        .await
        .unwrap();
    // a slot that is made waits for every transaction, and a publication for its tables; there will be one that holds u
    server
        .psql(&stage.database, "CREATE PUBLICATION dbz_publication FOR TABLE t, u")
        .await
        .unwrap();
    server
        .psql(
            &stage.database,
            "SELECT pg_create_logical_replication_slot('cut', 'pgoutput')",
        )
        .await
        .unwrap();
    let topic = "cut.public.t";
    // the snapshot reads t, and waits for u, which somebody holds
    let lock = server
        .psql_in_background(
            &stage.database,
            "BEGIN; LOCK TABLE u IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3600)",
        )
        .await
        .unwrap();
    eventually("u is held", async || {
        let held =
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'u'::regclass";
        let held = server.psql(&stage.database, held).await.unwrap();
        if held == "1" { Ok(()) } else { Err(held) }
    })
    .await;
    let options = [
        UNWRAP[0],
        UNWRAP[1],
        ("transforms.unwrap.add.headers", "op"),
        ("max.batch.size", "100"),
    ];
    stage.run(stage.config(&options)).await;
    eventually("a part of the snapshot is in the topic", async || {
        let records = stage.dump(topic).await.len();
        if records >= 19_000 {
            Ok(())
        } else {
            Err(format!("{records} records"))
        }
    })
    .await;
    assert!(stage.dump("cut.public.u").await.is_empty());
    assert_ne!(stage.offset().await["snapshot_completed"], true);
    // PostgreSQL dies in the middle of it, and so does the worker
    server.kill().await.unwrap();
    drop(lock);
    stage.stop_worker().await;
    let cut = stage.dump(topic).await.len();
    assert!(cut < 20_000 + 1, "{cut} records");
    server.restart().await.unwrap();
    // these rows are in the topic already
    server
        .psql(&stage.database, "DELETE FROM t WHERE id <= 15000")
        .await
        .unwrap();
    stage.start_worker().await;
    stage.task_is("RUNNING").await;
    catches_up(&stage, &server, topic).await;
    let records = stage.dump(topic).await;
    let again: Vec<String> = records.iter().skip(cut).map(operation).collect();
    // the snapshot once more, from its beginning, and a tombstone for each row that was deleted meanwhile
    assert_eq!(again.iter().filter(|operation| *operation == "r").count(), 5000);
    assert_eq!(again.iter().filter(|operation| *operation == "d").count(), 15_000);
    stage.finish().await;
}
