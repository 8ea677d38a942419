//! Offset, slot and the server's log: where they do not fit together, that is said, and nothing is skipped in silence.

use crate::worker::{Stage, eventually, logged, slot_is_free};
use serde_json::{Value, json};
use tests::PostgresServer;

const UNWRAP: [(&str, &str); 3] = [
    ("transforms", "unwrap"),
    ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
    ("status.update.interval.ms", "100"),
];

async fn keys(stage: &Stage) -> Vec<String> {
    let topic = format!("{}.public.t", stage.database.trim_end_matches("_db"));
    stage.compacted(&topic).await.into_keys().collect()
}

async fn comes_to(stage: &Stage, ids: std::ops::RangeInclusive<i32>) {
    let expected: std::collections::BTreeSet<String> = ids.map(|id| format!("{{\"id\":{id}}}")).collect();
    eventually("the topic holds the table", async || {
        let found: std::collections::BTreeSet<String> = keys(stage).await.into_iter().collect();
        match found == expected {
            true => Ok(()),
            false => Err(format!("{found:?}; {}", stage.send("GET", "/status").await.1)),
        }
    })
    .await;
}

/// The committed position.
fn committed(offset: &Value) -> u64 {
    let members = ["lsn_commit", "lsn_proc", "lsn"];
    members
        .iter()
        .find_map(|name| offset[*name].as_u64())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_ahead_of_the_offset_is_noticed() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("ahead").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    let make = "SELECT pg_create_logical_replication_slot('ahead', 'pgoutput')";
    sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    let publication = ("publication.autocreate.mode", "all_tables");
    let config = |more: &[(&str, &str)]| stage.config(&[&UNWRAP[..], &[publication], more].concat());
    stage.run(config(&[])).await;
    comes_to(&stage, 1..=1).await;

    let mut rows = 1;
    let advance = "SELECT pg_replication_slot_advance('ahead', pg_current_wal_lsn())";
    for (how, statements) in [
        (
            "made again",
            format!("SELECT pg_drop_replication_slot('ahead'); {{rows}}; {make}"),
        ),
        ("advanced", format!("{{rows}}; {advance}")),
    ] {
        stage.stop_connector().await;
        slot_is_free(server, "ahead").await;
        let insert = format!(
            "INSERT INTO t SELECT g, 0 FROM generate_series({}, {}) g",
            rows + 1,
            rows + 10
        );
        sql(&statements.replace("{rows}", &insert)).await;
        rows += 10;
        let trace = stage.resume_connector("FAILED").await;
        assert!(
            trace.contains("does not hold the changes after the committed offset"),
            "{how}: {trace}"
        );
        assert!(
            trace.contains("made again or advanced") && trace.contains("snapshot.mode=when_needed"),
            "{how}: {trace}"
        );
        // the advice helps
        stage.run(config(&[("snapshot.mode", "when_needed")])).await;
        comes_to(&stage, 1..=rows).await;
        sql(&format!("INSERT INTO t VALUES ({}, 0)", rows + 1)).await;
        rows += 1;
        comes_to(&stage, 1..=rows).await;
        stage.run(config(&[])).await;
    }
    assert!(!logged("rows that were deleted meanwhile stay").is_empty());

    // what the user gives up is given up, with a word
    stage.stop_connector().await;
    slot_is_free(server, "ahead").await;
    sql(&format!("INSERT INTO t VALUES (1000, 0); {advance}")).await;
    assert_eq!(
        stage.put(config(&[("offset.mismatch.strategy", "trust_slot")])).await.0,
        200
    );
    stage.resume_connector("RUNNING").await;
    sql(&format!("INSERT INTO t VALUES ({}, 0)", rows + 1)).await;
    comes_to(&stage, 1..=rows + 1).await;
    assert!(logged("ahead").iter().any(|line| line.contains("these are given up")));
    stage.finish().await;
}

/// Otherwise every connector that was idle would seem to have lost changes at its next start.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connector_stores_what_it_confirms() {
    let mut stage = Stage::new("idle").await;
    let server = PostgresServer::shared().await.unwrap();
    let sql = async |statements: &str| server.psql("idle_db", statements).await.unwrap();
    sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE others (id int)").await;
    let config = stage.config(&[&UNWRAP[..], &[("table.include.list", "public.t")]].concat());
    stage.run(config).await;
    let confirmed = async || {
        let confirmed =
            sql("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'idle'").await;
        confirmed.parse::<u64>().unwrap_or_default()
    };
    // an empty table: the snapshot has no record, and is complete all the same
    eventually("the snapshot is complete", async || {
        let offset = stage.offset().await;
        if committed(&offset) > 0 {
            Ok(())
        } else {
            Err(offset.to_string())
        }
    })
    .await;
    for round in 0..3 {
        // only others write
        let target: u64 = sql("INSERT INTO others VALUES (1); SELECT pg_current_wal_lsn() - '0/0'")
            .await
            .parse()
            .unwrap();
        eventually("the slot advances", async || {
            let (confirmed, offset) = (confirmed().await, committed(&stage.offset().await));
            // looked at first, so never ahead of what is stored then
            assert!(
                confirmed <= offset,
                "the slot at {confirmed} is ahead of the offset {offset}"
            );
            match confirmed >= target {
                true => Ok(()),
                false => Err(format!(
                    "the slot is at {confirmed}, not yet at {target}; offset {offset}"
                )),
            }
        })
        .await;
        // and it goes on, after a restart with more of the same in between
        stage.stop_worker().await;
        sql("INSERT INTO others SELECT generate_series(1, 100)").await;
        sql(&format!("INSERT INTO t VALUES ({round})")).await;
        stage.start_worker().await;
        stage.task_is("RUNNING").await;
        comes_to(&stage, 0..=round).await;
    }
    assert_eq!(stage.dump("idle.public.t").await.len(), 3);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_may_be_set_between_the_slot_and_the_end_of_the_log() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("patched").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    stage.run(stage.config(&UNWRAP)).await;
    comes_to(&stage, 1..=1).await;
    stage.stop_connector().await;
    let slot: u64 = sql("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'patched'")
        .await
        .parse()
        .unwrap();
    sql("INSERT INTO t VALUES (2, 2)").await;
    let end: u64 = sql("SELECT pg_current_wal_lsn() - '0/0'").await.parse().unwrap();
    let before = stage.offset().await;
    let patch = async |offset: Value| {
        let offsets = json!({"offsets": [{"partition": {"server": "patched"}, "offset": offset}]});
        let (status, body) = stage.patch_offsets(offsets).await;
        (status, body.to_string())
    };
    for (offset, said) in [
        (json!({"lsn": slot - 1}), "lies before"),
        (
            json!({"lsn_commit": slot - 1, "lsn": end}),
            "from where on replication slot patched holds changes",
        ),
        (json!({"lsn": end + (1 << 30)}), "is no position of this server's log"),
        (
            json!({"lsn": slot, "timeline": "1/1"}),
            "is no position of this server's log",
        ),
        (json!({"lsn": "x"}), "an offset needs lsn"),
    ] {
        let (status, body) = patch(offset.clone()).await;
        assert!(status >= 400 && body.contains(said), "{offset}: {status} {body}");
        assert_eq!(stage.offset().await, before, "{offset}");
    }
    assert_eq!(patch(json!({"lsn": slot, "lsn_commit": slot})).await.0, 200);
    stage.resume_connector("RUNNING").await;
    comes_to(&stage, 1..=2).await;
    stage.stop_connector().await;
    slot_is_free(server, "patched").await;
    // nobody holds what would be behind it
    sql("SELECT pg_drop_replication_slot('patched')").await;
    let (status, body) = patch(json!({"lsn": end})).await;
    assert!(
        status >= 400 && body.contains("there is no replication slot patched"),
        "{status} {body}"
    );
    stage.finish().await;
}

/// A server that is restored from a backup repeats its positions with other changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_set_back_is_noticed() {
    let server = PostgresServer::start(&[]).await.unwrap();
    let stage = Stage::on(&server, "restored").await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    let promoted = async || {
        server.become_standby().unwrap();
        server.restart().await.unwrap();
        sql("SELECT pg_promote()").await;
        eventually("a timeline of its own", async || {
            let recovery = sql("SELECT pg_is_in_recovery()").await;
            if recovery == "f" { Ok(()) } else { Err(recovery) }
        })
        .await;
    };
    sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    let config = |options: &[(&'static str, &'static str)]| {
        stage.config(&[&UNWRAP[..], &[("table.include.list", "public.t")], options].concat())
    };
    stage.run(config(&[])).await;
    comes_to(&stage, 1..=1).await;

    // a standby that takes over with everything: positions before the switch keep their meaning
    stage.stop_connector().await;
    sql("INSERT INTO t VALUES (2, 2)").await;
    server.stop().await.unwrap();
    promoted().await;
    sql("INSERT INTO t VALUES (3, 3)").await;
    stage.resume_connector("RUNNING").await;
    comes_to(&stage, 1..=3).await;

    // a backup, and changes that it does not have
    stage.stop_connector().await;
    server.stop().await.unwrap();
    server.copy_data("backup", false).unwrap();
    server.restart().await.unwrap();
    stage.resume_connector("RUNNING").await;
    sql("INSERT INTO t SELECT g, 0 FROM generate_series(4, 2000) g").await;
    comes_to(&stage, 1..=2000).await;
    stage.stop_connector().await;
    let offset = committed(&stage.offset().await);

    // the backup as it is: its log ends before the offset
    server.stop().await.unwrap();
    server.copy_data("backup", true).unwrap();
    server.restart().await.unwrap();
    let trace = stage.resume_connector("FAILED").await;
    assert!(
        trace.contains("before the committed offset") && trace.contains("the server's log ends at"),
        "{trace}"
    );

    // the backup as a timeline of its own, whose log has grown beyond the offset
    stage.stop_connector().await;
    server.stop().await.unwrap();
    promoted().await;
    eventually("its log grows beyond the offset", async || {
        let end = sql("CREATE TABLE IF NOT EXISTS filler (id int); INSERT INTO filler SELECT generate_series(1, 1000); SELECT pg_current_wal_lsn() - '0/0'").await;
        if end.parse::<u64>().unwrap() > offset + 10_000 { Ok(()) } else { Err(format!("{end} {offset}")) }
    })
    .await;
    let trace = stage.resume_connector("FAILED").await;
    assert!(
        trace.contains("lies on a timeline that this server has left at"),
        "{trace}"
    );
    sql("INSERT INTO t VALUES (4, 4)").await;
    stage.run(config(&[("snapshot.mode", "when_needed")])).await;
    eventually("row 4 of this timeline", async || {
        let rows = stage.compacted("restored.public.t").await;
        match &rows["{\"id\":4}"]["n"] {
            n if *n == 4 => Ok(()),
            n => Err(n.to_string()),
        }
    })
    .await;
    stage.finish().await;
}

/// The connector's own doing is no loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_dropped_on_stop_is_made_again() {
    let server = PostgresServer::shared().await.unwrap();
    let mut stage = Stage::new("dropping").await;
    let sql = async |statements: &str| server.psql("dropping_db", statements).await.unwrap();
    sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)").await;
    let config = stage.config(&[&UNWRAP[..], &[("slot.drop.on.stop", "true")]].concat());
    stage.run(config).await;
    comes_to(&stage, 1..=1).await;
    sql("INSERT INTO t VALUES (2, 2)").await;
    comes_to(&stage, 1..=2).await;
    // the task
    assert_eq!(stage.send("POST", "/restart?includeTasks=true").await.0, 202);
    sql("INSERT INTO t VALUES (3, 3)").await;
    comes_to(&stage, 1..=3).await;
    // the worker
    stage.stop_worker().await;
    assert_eq!(
        sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'dropping'").await,
        "0"
    );
    sql("INSERT INTO t VALUES (4, 4)").await;
    stage.start_worker().await;
    stage.task_is("RUNNING").await;
    sql("INSERT INTO t VALUES (5, 5)").await;
    comes_to(&stage, 1..=5).await;
    assert!(
        logged("dropping")
            .iter()
            .any(|line| line.contains("rows that were deleted meanwhile stay"))
    );
    stage.finish().await;
}
