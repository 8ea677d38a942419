//! Taking over from the real Debezium in place, and giving back: one group, one set of internal topics, one slot; only one of
//! the two workers runs at a time.

use crate::worker::{Stage, eventually, pair};
use kafka_client::LogRecord;
use serde_json::Value;
use tests::PostgresServer;

/// Who has written a record, and what it says.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    by_debezium: bool,
    op: String,
    key: String,
    lsn: u64,
}

fn seen(records: &[LogRecord]) -> Vec<Seen> {
    records
        .iter()
        .filter(|record| record.value.is_some())
        .map(|record| {
            let (key, value) = pair(record);
            Seen {
                by_debezium: value["source"]["version"] == "3.6.1.Final",
                op: value["op"].as_str().unwrap().to_owned(),
                key,
                lsn: value["source"]["lsn"].as_u64().unwrap(),
            }
        })
        .collect()
}

/// Operations and keys that one of the two has written, without repetitions of the same change.
fn written(records: &[LogRecord], by_debezium: bool) -> Vec<String> {
    let mut changes: Vec<Seen> = seen(records)
        .into_iter()
        .filter(|seen| seen.by_debezium == by_debezium)
        .collect();
    changes.dedup();
    changes.iter().map(|seen| format!("{} {}", seen.op, seen.key)).collect()
}

/// Waits until the topic's rows are exactly these.
async fn holds(stage: &Stage, topic: &str, ids: &[i32]) -> Vec<LogRecord> {
    let mut expected: Vec<String> = ids.iter().map(|id| format!("{{\"id\":{id}}}")).collect();
    expected.sort_unstable();
    eventually("the topic holds the table", async || {
        let records = stage.dump(topic).await;
        let mut rows = std::collections::BTreeMap::new();
        for record in &records {
            let (key, value) = pair(record);
            match value["op"].as_str() {
                Some("d") | None => rows.remove(&key),
                Some(_) => rows.insert(key, ()),
            };
        }
        let rows: Vec<String> = rows.into_keys().collect();
        match rows == expected {
            true => Ok(records),
            false => Err(format!("{rows:?}; {}", stage.send("GET", "/status").await.1)),
        }
    })
    .await
}

async fn sql(stage: &Stage, statements: &str) -> String {
    let server = PostgresServer::shared().await.unwrap();
    server.psql(&stage.database, statements).await.unwrap()
}

/// Waits until the offset is committed of everything up to now.
async fn offset_comes_to(stage: &Stage, lsn: u64) -> Value {
    eventually("the offset is committed", async || {
        let offset = stage.offset().await;
        let positions = ["lsn_commit", "lsn_proc", "lsn"].iter();
        let committed = positions.filter_map(|name| offset[*name].as_u64()).max();
        match committed.is_some_and(|committed| committed >= lsn) {
            true => Ok(offset),
            false => Err(format!("{offset} before {lsn}")),
        }
    })
    .await
}

/// Has others write until PostgreSQL has forgotten what lies before `lsn`: the slot restarts behind it.
async fn slot_forgets(stage: &Stage, lsn: u64) {
    eventually("PostgreSQL forgets", async || {
        sql(stage, "INSERT INTO others VALUES (1); CHECKPOINT").await;
        let restart = sql(
            stage,
            "SELECT restart_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'takeover'",
        )
        .await;
        let restart: u64 = restart.parse().unwrap();
        match restart > lsn {
            true => Ok(()),
            false => Err(format!(
                "the slot restarts at {restart}, not behind {lsn}; offset {}",
                stage.offset().await
            )),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debezium_is_taken_over_and_takes_over_again() {
    let mut stage = Stage::new("takeover").await;
    stage.stop_worker().await;
    sql(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE others (id int); INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    .await;
    let topic = "takeover.public.t";

    // Debezium makes everything
    let debezium = stage.start_debezium().await;
    let options = [
        ("table.include.list", "public.t"),
        ("poll.interval.ms", "50"),
        ("status.update.interval.ms", "100"),
    ];
    stage.run(stage.config(&options)).await;
    holds(&stage, topic, &[1, 2]).await;
    sql(&stage, "INSERT INTO t VALUES (3, 3); UPDATE t SET n = 4 WHERE id = 1").await;
    stage.records(topic, 4).await;
    eventually("its offset is one of the stream", async || {
        let offset = stage.offset().await;
        if offset["messageType"].is_string() {
            Ok(())
        } else {
            Err(offset.to_string())
        }
    })
    .await;
    debezium.stop().await;

    // what happens in between is ours, from its offset: no snapshot, in any mode that would take one without an offset
    sql(
        &stage,
        "INSERT INTO t VALUES (4, 4); DELETE FROM t WHERE id = 2; UPDATE t SET id = 30 WHERE id = 3",
    )
    .await;
    stage.start_worker().await;
    stage.task_is("RUNNING").await;
    let records = holds(&stage, topic, &[1, 30, 4]).await;
    let ours = written(&records, false);
    let between = ["c {\"id\":4}", "d {\"id\":2}", "d {\"id\":3}", "c {\"id\":30}"];
    // its last transaction may come again: its offset is that of the one before
    assert!(ours.ends_with(&between.map(str::to_owned)), "{ours:?}");
    assert!(
        ours.len() <= between.len() + 1 && !ours.iter().any(|change| change.starts_with('r')),
        "{ours:?}"
    );

    // and back, after an idle time in which PostgreSQL has forgotten the last change
    let last = seen(&records).last().unwrap().lsn;
    slot_forgets(&stage, last).await;
    let idle = stage.offset().await;
    assert_eq!(idle["messageType"], "COMMIT", "{idle}");
    stage.stop_worker().await;
    sql(&stage, "INSERT INTO t VALUES (5, 5)").await;
    let debezium = stage.start_debezium().await;
    stage.task_is("RUNNING").await;
    sql(&stage, "DELETE FROM t WHERE id = 4").await;
    let records = holds(&stage, topic, &[1, 30, 5]).await;
    let theirs = written(&records, true);
    let since = ["c {\"id\":5}", "d {\"id\":4}"].map(str::to_owned);
    assert!(theirs.ends_with(&since), "{theirs:?}");
    // its snapshot and its two changes of before, and nothing twice
    assert_eq!(theirs.len(), 2 + 2 + 2, "{theirs:?}");
    let end = seen(&records).last().unwrap().lsn;
    offset_comes_to(&stage, end).await;
    debezium.stop().await;

    // once more, in the middle of a long transaction's records, whose offsets are ours
    stage.start_worker().await;
    stage.task_is("RUNNING").await;
    sql(
        &stage,
        "BEGIN; INSERT INTO t SELECT g, 0 FROM generate_series(100, 102) g; UPDATE t SET id = 6 WHERE id = 5; COMMIT",
    )
    .await;
    holds(&stage, topic, &[1, 100, 101, 102, 30, 6]).await;
    stage.stop_worker().await;
    sql(&stage, "INSERT INTO t VALUES (7, 7)").await;
    let debezium = stage.start_debezium().await;
    stage.task_is("RUNNING").await;
    let records = holds(&stage, topic, &[1, 100, 101, 102, 30, 6, 7]).await;
    let theirs = written(&records, true);
    assert_eq!(theirs.len(), 2 + 2 + 2 + 1, "nothing of ours again: {theirs:?}");
    debezium.stop().await;
    stage.finish().await;
}
