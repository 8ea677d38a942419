//! `group.id="Debezium-PG-Group"`, quotes and all, in a worker's file (Java's properties have no quoting). A group may be called
//! that, and a topic may not: the worker does not start, and names the option that says the topic's name. With that option the
//! same group runs models.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};
use tests::KafkaBroker;
use tests::inference::create_topics;
use tests::worker::WorkerProcess;

const PATIENCE: Duration = Duration::from_secs(60);

async fn quoted(name: &str) -> Result<(String, WorkerProcess)> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let mut worker = WorkerProcess::new(&bootstrap, name)?;
    worker.set("group.id", &format!("\"Debezium-{name}-Group\""));
    Ok((bootstrap, worker))
}

/// What the worker says at its end, once it has ended by itself.
async fn last_words(worker: &mut WorkerProcess) -> Result<String> {
    worker.start_without_waiting().await?;
    let deadline = Instant::now() + PATIENCE;
    while worker.is_running()? {
        ensure!(Instant::now() < deadline, "it never ends: {}", worker.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(!worker.was_killed()?, "it was killed");
    let log = worker.log();
    let start = log.find("the worker could not be started").context("no last words")?;
    Ok(log.get(start..).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_no_topic_can_be_named_after_needs_a_registry_of_its_own() -> Result<()> {
    let (bootstrap, mut worker) = quoted("PG").await?;
    let said = last_words(&mut worker).await?;
    for words in [
        "inference.registry.topic",
        "follows from group.id",
        "\"Debezium-PG-Group\"-inference-registry",
        "Set inference.registry.topic to a topic's name",
    ] {
        ensure!(said.contains(words), "{words}: {said}");
    }

    worker.set("inference.registry.topic", "case04-registry");
    worker.start().await?;
    create_topics(&bootstrap, &[("case04-events", 1)]).await?;
    worker.put("/inference/tenants/shop", &json!({})).await?;
    let sink = json!({ "connector.class": "millrace.InferenceSink", "topics": "case04-events", "tasks.max": "1" });
    worker.put("/connectors/case04/config", &sink).await?;
    let running = |_, status: &serde_json::Value| {
        status["connector"]["state"] == "RUNNING" && status["tasks"][0]["state"] == "RUNNING"
    };
    worker.until("/connectors/case04/status", running).await?;

    // The same with names that follow from the connector's.
    let (status, refused) = worker
        .request("PUT", "/connectors/case%2004/config", Some(&sink))
        .await?;
    ensure!(
        status == 400
            && refused
                .to_string()
                .contains("Invalid value case 04 for configuration name: topics of"),
        "{status} {refused}"
    );
    worker.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_topics_that_no_broker_takes_are_refused_by_their_options() -> Result<()> {
    let (_, mut worker) = quoted("Names").await?;
    let options = [
        "config.storage.topic",
        "offset.storage.topic",
        "status.storage.topic",
        "inference.registry.topic",
    ];
    for option in options {
        worker.set(option, &format!("\"{option}\""));
    }
    let said = last_words(&mut worker).await?;
    for option in options {
        let words = format!("Invalid value \"{option}\" for configuration {option}: ");
        ensure!(said.contains(&words), "{words}: {said}");
    }
    Ok(())
}

/// A registry that the worker cannot make: it says so where it is watched, and no task says that it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_extension_does_not_come_up_is_not_healthy() -> Result<()> {
    let (bootstrap, mut worker) = quoted("Watched").await?;
    worker.set("inference.registry.topic", "case04-unreachable");
    worker.set("inference.registry.replication.factor", "3");
    create_topics(&bootstrap, &[("case04-watched", 1)]).await?;
    worker.start_without_waiting().await?;
    let names_the_topic =
        |text: &serde_json::Value| text.as_str().is_some_and(|text| text.contains("case04-unreachable"));
    let health = worker
        .until("/health", |_, health| names_the_topic(&health["message"]))
        .await?;
    ensure!(health["status"] == "starting", "{health}");
    let answer = worker.request("GET", "/inference/tenants", None).await?;
    ensure!(answer.0 == 503 && names_the_topic(&answer.1["message"]), "{answer:?}");
    let sink = json!({ "connector.class": "millrace.InferenceSink", "topics": "case04-watched", "tasks.max": "2" });
    worker.put("/connectors/watched/config", &sink).await?;
    let waits = |task: &serde_json::Value| task["state"] == "UNASSIGNED" && names_the_topic(&task["trace"]);
    worker
        .until("/connectors/watched/status", |_, status| {
            let tasks = status["tasks"].as_array();
            tasks.is_some_and(|tasks| tasks.len() == 2 && tasks.iter().all(waits))
        })
        .await?;
    worker.stop()?;
    Ok(())
}
