//! A connector on a topic that is not there (KAFKA-5037): a monitor that asks whether all tasks run must be told no, and why.
//! The tasks start by themselves when somebody makes the topic, as a sink's do.

use anyhow::{Result, ensure};
use kafka_client::{Admin, ClientConfig};
use tests::KafkaBroker;
use tests::inference::create_topics;
use tests::inference_scenarios::{by_household, expected};
use tests::scored_events::ScoredEvents;

#[tokio::test(flavor = "multi_thread")]
async fn tasks_wait_for_their_topic_and_say_so() -> Result<()> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let mut job = ScoredEvents::new(&bootstrap, "case88")?;
    create_topics(&bootstrap, &[(&job.scores(), 2)]).await?;
    job.start().await?;
    job.put_connector(&[]).await?;
    let traces = job
        .until_tasks_are("UNASSIGNED", &format!("topic {} does not exist", job.events()))
        .await?;
    ensure!(traces.iter().all(|trace| trace.contains("create it")), "{traces:?}");
    let unassigned = "kafka_connect_worker_connector_unassigned_task_count{connector=\"case88\"}";
    ensure!(job.metric(unassigned).await? == 2.0, "the metric");
    let admin = Admin::new(&ClientConfig::new(&bootstrap))?;
    ensure!(
        admin.topic(&job.events()).await?.is_none(),
        "the worker has made its input topic"
    );

    create_topics(&bootstrap, &[(&job.events(), 2)]).await?;
    job.send(0..50)?;
    ensure!(by_household(&job.outputs(50).await?)? == expected(0..50), "scores");
    job.until_tasks_are("RUNNING", "").await?;
    job.worker.stop()?;
    Ok(())
}
