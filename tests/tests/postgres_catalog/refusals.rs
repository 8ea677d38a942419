//! What is wrong is said: when the connector is created where it can be known, else by the failed task.

use crate::worker::{Stage, eventually, logged};
use serde_json::Value;
use tests::PostgresServer;

async fn table(stage: &Stage, server: &PostgresServer) {
    let sql = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
    server.psql(&stage.database, sql).await.unwrap();
}

fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_cannot_work_is_not_created() {
    let stage = Stage::new("refused").await;
    let server = PostgresServer::shared().await.unwrap();
    table(&stage, server).await;
    server
        .psql(
            &stage.database,
            "CREATE ROLE refused_reader LOGIN PASSWORD 'p'; GRANT SELECT ON t TO refused_reader; \
             CREATE ROLE refused_blind LOGIN REPLICATION PASSWORD 'p'; CREATE TABLE odd (id int PRIMARY KEY, h interval, p point); \
             CREATE TABLE odder (id int PRIMARY KEY, b bit(3)); CREATE TABLE odd_key (h interval PRIMARY KEY, v int)",
        )
        .await
        .unwrap();
    let t = ("table.include.list", "public.t");
    // option to blame, what must be said, options that are wrong
    let cases: Vec<(&str, &str, Vec<(&str, &str)>)> = vec![
        (
            "database.password",
            "refused the password of user capture",
            vec![t, ("database.password", "battery staple")],
        ),
        (
            "database.hostname",
            "cannot be reached",
            vec![t, ("database.port", "1")],
        ),
        (
            "database.hostname",
            "cannot be reached",
            vec![t, ("database.hostname", "nowhere.invalid")],
        ),
        (
            "database.dbname",
            "has no database nothing",
            vec![t, ("database.dbname", "nothing")],
        ),
        (
            "database.user",
            "ALTER ROLE refused_reader REPLICATION",
            vec![t, ("database.user", "refused_reader"), ("database.password", "p")],
        ),
        (
            "database.user",
            "may not read table public.t",
            vec![t, ("database.user", "refused_blind"), ("database.password", "p")],
        ),
        (
            "table.include.list",
            "there is no table public.nothing",
            vec![("table.include.list", "public.nothing")],
        ),
        (
            "table.include.list",
            "is not a regular expression",
            vec![("table.include.list", "(")],
        ),
        (
            "column.exclude.list",
            "column public.odd.h has type interval",
            vec![("table.include.list", "public.odd")],
        ),
        // all of them at once
        (
            "column.exclude.list",
            "column public.odd.h has type interval, column public.odd.p has type point, column public.odder.b has type bit, which \
             are not supported: name them in column.exclude.list",
            vec![("table.include.list", "public.odd,public.odder")],
        ),
        (
            "table.exclude.list",
            "column public.odd_key.h has type interval, which is not supported: a key cannot be represented",
            vec![("table.include.list", "public.odd_key")],
        ),
        (
            "publication.name",
            "CREATE PUBLICATION mine FOR TABLE",
            vec![
                t,
                ("publication.name", "mine"),
                ("publication.autocreate.mode", "disabled"),
            ],
        ),
        (
            "database.sslmode",
            "disable, allow, prefer. This connector has no TLS yet: take the connection through a tunnel",
            vec![t, ("database.sslmode", "require")],
        ),
        (
            "extended.headers.enabled",
            "is not supported; leave it out, or set it to false",
            vec![t, ("extended.headers.enabled", "true")],
        ),
        (
            "event.converting.failure.handling.mode",
            "set it to warn",
            vec![t, ("event.converting.failure.handling.mode", "fail")],
        ),
        (
            "offset.mismatch.strategy",
            "trust_offset, trust_slot, trust_greater_lsn",
            vec![t, ("offset.mismatch.strategy", "no_validation")],
        ),
        (
            "unavailable.value.placeholder",
            "hexadecimal digits",
            vec![t, ("unavailable.value.placeholder", "hex:xy")],
        ),
        (
            "message.prefix.exclude.list",
            "not both",
            vec![
                t,
                ("message.prefix.include.list", "a"),
                ("message.prefix.exclude.list", "b"),
            ],
        ),
        ("plugin.name", "pgoutput", vec![t, ("plugin.name", "decoderbufs")]),
        ("slot.name", "lower-case letters", vec![t, ("slot.name", "My-Slot")]),
        (
            "snapshot.mode",
            "String must be one of",
            vec![t, ("snapshot.mode", "sometimes")],
        ),
        (
            "message.key.columns",
            "is not supported",
            vec![t, ("message.key.columns", "public.t:id")],
        ),
        (
            "max.queue.size",
            "larger than max.batch.size",
            vec![t, ("max.queue.size", "10")],
        ),
        (
            "table.exclude.list",
            "not both",
            vec![t, ("table.exclude.list", "public.x")],
        ),
        (
            "skipped.operations",
            "truncates give no record",
            vec![t, ("skipped.operations", "d")],
        ),
    ];
    for (option, said, options) in cases {
        let config = stage.config(&options);
        let errors = stage.validate(config.clone()).await;
        let fits = |(name, error): &(String, String)| name == option && error.contains(said);
        assert!(errors.iter().any(fits), "{options:?}: {errors:?}");
        let (status, body) = stage.put(config).await;
        assert_eq!(status, 400, "{options:?}: {body}");
        assert!(message(&body).contains(said), "{options:?}: {body}");
        let answers = format!("{errors:?} {body}");
        assert!(
            !answers.contains("battery staple") && !answers.contains("correct horse"),
            "{answers}"
        );
    }
    // what Debezium does anyway may be said, what nobody knows is ignored as in Connect
    let config = stage.config(&[
        t,
        ("hstore.handling.mode", "json"),
        ("my.own.option", "x"),
        ("database.sslmode", "disable"),
        ("extended.headers.enabled", "false"),
        ("event.converting.failure.handling.mode", "warn"),
    ]);
    assert_eq!(stage.validate(config).await, []);
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_logical_decoding_is_refused() {
    let server = PostgresServer::start(&[("wal_level", "replica")]).await.unwrap();
    let stage = Stage::on(&server, "replica").await;
    table(&stage, &server).await;
    let (status, body) = stage.put(stage.config(&[])).await;
    assert_eq!(status, 400, "{body}");
    assert!(
        message(&body).contains("wal_level is replica, it must be logical: set wal_level = logical"),
        "{body}"
    );
    // a snapshot alone needs neither a slot nor a right to replicate
    stage.run(stage.config(&[("snapshot.mode", "initial_only")])).await;
    eventually("the row", async || {
        let records = stage.dump("replica.public.t").await;
        if records.len() == 1 {
            Ok(())
        } else {
            Err(format!("{} records", records.len()))
        }
    })
    .await;
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_behind_the_connector_fails_its_task_with_advice() {
    let stage = Stage::new("behind").await;
    let server = PostgresServer::shared().await.unwrap();
    table(&stage, server).await;
    let sql = async |statements: &str| server.psql(&stage.database, statements).await.unwrap();
    sql("CREATE TABLE left_out (id int PRIMARY KEY); CREATE PUBLICATION behind_publication FOR TABLE t").await;
    // a table that the publication lacks
    let publication = [
        ("publication.autocreate.mode", "disabled"),
        ("publication.name", "behind_publication"),
    ];
    let (status, body) = stage.put(stage.config(&publication)).await;
    assert_eq!(status, 201, "{body}");
    let trace = stage.task_is("FAILED").await;
    assert!(
        trace.contains("table public.left_out is not in publication behind_publication"),
        "{trace}"
    );
    sql("DROP TABLE left_out").await;

    // a slot that another connector reads
    let taken = "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')";
    sql(taken).await;
    let first = stage.config(&[publication[0], publication[1], ("slot.name", "taken")]);
    stage.run(first).await;
    eventually("the slot is read", async || {
        let active = sql(
            "SELECT active AND confirmed_flush_lsn IS NOT NULL FROM pg_replication_slots WHERE slot_name = 'taken'",
        )
        .await;
        if active == "t" { Ok(()) } else { Err(active) }
    })
    .await;
    let other = Stage::new("behind_other").await;
    let mut config = other.config(&[
        publication[0],
        publication[1],
        ("slot.name", "taken"),
        ("slot.max.retries", "1"),
    ]);
    config["database.dbname"] = stage.database.clone().into();
    assert_eq!(other.put(config).await.0, 201);
    let trace = other.task_is("FAILED").await;
    assert!(
        trace.contains("replication slot taken is read by somebody else"),
        "{trace}"
    );
    assert!(!trace.contains("correct horse"), "{trace}");
    other.finish().await;

    // changes that the slot no longer holds
    eventually("an offset is committed", async || {
        let offset = stage.offset().await;
        // that of a change behind the snapshot says nothing of it
        if offset["lsn"].is_number() && offset["snapshot_completed"] != false {
            Ok(())
        } else {
            Err(offset.to_string())
        }
    })
    .await;
    assert_eq!(stage.send("PUT", "/stop").await.0, 204);
    eventually("the slot is dropped", async || {
        let dropped = server
            .psql(&stage.database, "SELECT pg_drop_replication_slot('taken')")
            .await;
        dropped.map(drop).map_err(|error| error.to_string())
    })
    .await;
    sql("INSERT INTO t VALUES (2)").await;
    assert_eq!(stage.send("PUT", "/resume").await.0, 202);
    let trace = stage.task_is("FAILED").await;
    assert!(
        trace.contains("does not hold the changes after the committed offset"),
        "{trace}"
    );
    assert!(trace.contains("snapshot.mode=when_needed"), "{trace}");
    // the advice helps
    stage
        .run(stage.config(&[
            publication[0],
            publication[1],
            ("slot.name", "taken"),
            ("snapshot.mode", "when_needed"),
        ]))
        .await;
    eventually("the missed row", async || {
        let rows = stage.compacted("behind.public.t").await;
        if rows.len() == 2 {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    })
    .await;
    // a password that is changed while the connection is lost
    sql("CREATE ROLE behind_user LOGIN REPLICATION SUPERUSER PASSWORD 'old secret'").await;
    let user = [("database.user", "behind_user"), ("database.password", "old secret")];
    let config = [&publication[..], &user[..], &[("slot.name", "taken")]].concat();
    stage.run(stage.config(&config)).await;
    eventually("the slot is read by the new role", async || {
        let reader = sql("SELECT a.usename FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE slot_name = 'taken'").await;
        if reader == "behind_user" { Ok(()) } else { Err(reader) }
    })
    .await;
    sql("ALTER ROLE behind_user PASSWORD 'new secret'; \
         SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'taken'")
    .await;
    let trace = stage.task_is("FAILED").await;
    assert!(
        trace.contains("refused the password of user behind_user: check database.user and database.password"),
        "{trace}"
    );
    assert!(!trace.contains("secret"), "{trace}");
    stage.finish().await;
}

/// What happens to one table is nothing to the others, and where there is none yet, one is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_and_go_stop_nothing() {
    let server = PostgresServer::shared().await.unwrap();
    let mut stage = Stage::new("coming").await;
    let sql = async |statements: &str| server.psql("coming_db", statements).await.unwrap();
    let lists = [("table.include.list", "public\\.(a|b)\\w*")];
    stage.run(stage.config(&lists)).await;
    eventually("it says what it waits for", async || {
        match logged("no table is captured by these lists yet").is_empty() {
            true => Err("nothing".to_owned()),
            false => Ok(()),
        }
    })
    .await;
    sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)").await;
    stage.records("coming.public.a", 1).await;
    sql("INSERT INTO a VALUES (2)").await;
    stage.records("coming.public.a", 2).await;

    // tables that a list names, one of which goes while the connection is cut, another while the worker is away
    sql("CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)").await;
    stage
        .run(stage.config(&[("table.include.list", "public.a,public.b,public.c")]))
        .await;
    // what is written before the task has looked at the new list is nobody's
    eventually("b is published", async || {
        let published = sql("SELECT count(*) FROM pg_publication_tables WHERE tablename = 'b'").await;
        if published == "1" { Ok(()) } else { Err(published) }
    })
    .await;
    sql("INSERT INTO b VALUES (1)").await;
    stage.records("coming.public.b", 1).await;
    sql("DROP TABLE b; SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'coming' AND active; \
         INSERT INTO a VALUES (3)")
    .await;
    stage.records("coming.public.a", 3).await;
    stage.stop_worker().await;
    sql("ALTER TABLE c RENAME TO d; INSERT INTO a VALUES (4)").await;
    stage.start_worker().await;
    stage.task_is("RUNNING").await;
    stage.records("coming.public.a", 4).await;
    for gone in ["public.b", "public.c"] {
        let said = logged("table.include.list names a table that is not there");
        assert!(said.iter().any(|line| line.contains(gone)), "{gone}: {said:?}");
    }
    // a table that the publication lacks, found at a reconnect
    sql("CREATE PUBLICATION one_table FOR TABLE a").await;
    let disabled = [
        ("table.include.list", "public\\.[a-z]"),
        ("publication.autocreate.mode", "disabled"),
        ("publication.name", "one_table"),
    ];
    stage.run(stage.config(&disabled)).await;
    sql("INSERT INTO a VALUES (5)").await;
    stage.records("coming.public.a", 5).await;
    assert!(
        logged("table public.d is not in publication one_table")
            .iter()
            .any(|line| line.contains("WARN"))
    );
    stage.finish().await;
}
