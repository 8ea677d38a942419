//! A server that lets nobody in without TLS (RDS, Aurora and Azure by default): the error must not read like a wrong password.

use crate::postgres_worker::{Stage, logged};
use tests::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_tls_is_told_from_one_that_refuses_the_user() {
    let hba = tempfile::Builder::new().prefix("millrace-hba-").tempdir().unwrap();
    let file = hba.path().join("pg_hba.conf");
    std::fs::write(
        &file,
        "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(hba.path(), open).unwrap();
    let server = PostgresServer::start(&[("hba_file", file.to_str().unwrap())])
        .await
        .unwrap();
    let stage = Stage::on(&server, "tls").await;
    server
        .psql(&stage.database, "CREATE TABLE t (id int PRIMARY KEY)")
        .await
        .unwrap();
    for mode in [None, Some("prefer"), Some("allow"), Some("disable")] {
        let options: Vec<(&str, &str)> = mode.iter().map(|mode| ("database.sslmode", *mode)).collect();
        let errors = stage.validate(stage.config(&options)).await;
        let [(option, error)] = &errors[..] else {
            panic!("{errors:?}")
        };
        assert_eq!(option, "database.sslmode");
        assert!(
            error.contains("wants TLS for user capture") && error.contains("this connector has none yet"),
            "{error}"
        );
        assert!(
            error.contains("tunnel") && !error.contains("check database.user"),
            "{error}"
        );
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let errors = stage.validate(stage.config(&[("database.sslmode", mode)])).await;
        let [(option, error)] = &errors[..] else {
            panic!("{errors:?}")
        };
        assert_eq!(option, "database.sslmode");
        assert!(error.contains("no TLS yet") && error.contains("tunnel"), "{error}");
    }
    stage.finish().await;
}

/// Nobody asked for plain text: it is said. Where it was asked for there is nothing to say.
#[tokio::test(flavor = "multi_thread")]
async fn plain_text_is_said() {
    let server = PostgresServer::shared().await.unwrap();
    for (name, mode, said) in [("unasked", "prefer", true), ("asked", "disable", false)] {
        let stage = Stage::new(name).await;
        server
            .psql(
                &stage.database,
                "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
            )
            .await
            .unwrap();
        stage.run(stage.config(&[("database.sslmode", mode)])).await;
        stage.records(&format!("{name}.public.t"), 1).await;
        let lines = logged("is in plain text");
        assert_eq!(
            lines.iter().any(|line| line.contains(&format!("connector={name} "))),
            said,
            "{lines:?}"
        );
        stage.finish().await;
    }
}
