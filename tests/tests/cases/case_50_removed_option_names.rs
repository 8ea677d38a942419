//! Names that options had in Debezium 1.x, and slips: Debezium ignores them in silence, and every table is captured, secrets
//! among them.

use crate::postgres_worker::Stage;
use tests::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn names_of_old_and_slips_are_refused_with_the_right_one() {
    let server = PostgresServer::shared().await.unwrap();
    let stage = Stage::new("renamed_options").await;
    server
        .psql(
            &stage.database,
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE secret (id int PRIMARY KEY, word text)",
        )
        .await
        .unwrap();
    for (name, right) in [
        ("schema.whitelist", "schema.include.list"),
        ("table.whitelist", "table.include.list"),
        ("table.blacklist", "table.exclude.list"),
        ("column.blacklist", "column.exclude.list"),
        ("schema.include", "schema.include.list"),
        ("table.inclued.list", "table.include.list"),
        ("database.server.name", "topic.prefix"),
        ("slot.drop_on_stop", "slot.drop.on.stop"),
        ("heartbeat.topics.prefix", "topic.heartbeat.prefix"),
        ("snapshot.mod", "snapshot.mode"),
    ] {
        let config = stage.config(&[(name, "public.t")]);
        let errors = stage.validate(config.clone()).await;
        let fits = |(option, error): &(String, String)| option == name && error.contains(&format!("'{right}'"));
        assert_eq!(
            errors.iter().filter(|error| fits(error)).count(),
            1,
            "{name}: {errors:?}"
        );
        let (status, body) = stage.put(config).await;
        assert!(
            status == 400 && body.to_string().contains(right),
            "{name}: {status} {body}"
        );
    }
    assert!(stage.dump("renamed_options.public.secret").await.is_empty());
    // what is nearly nothing that we have is none of our business
    assert_eq!(
        stage
            .validate(stage.config(&[("owner", "team a"), ("database.nickname", "x")]))
            .await,
        []
    );
    stage.finish().await;
}
