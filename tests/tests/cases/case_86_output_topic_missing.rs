//! The first model of a tenant whose topic nobody has made, on brokers with `auto.create.topics.enable=false`, the usual setting
//! in production (redpanda#6227). PUT says that the topic is not there; a model that is there already says it in its status,
//! and goes on by itself when somebody makes the topic. Nobody else waits.

use anyhow::{Result, ensure};
use kafka_client::{Admin, ClientConfig};
use serde_json::json;
use tests::KafkaBroker;
use tests::inference::{create_topics, read};
use tests::inference_scenarios::{by_household, expected};
use tests::scored_events::ScoredEvents;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_output_topic_is_said_and_costs_its_tenant_alone_nothing_but_time() -> Result<()> {
    let broker = KafkaBroker::start_with(&[("auto.create.topics.enable", "false")]).await?;
    let bootstrap = broker.bootstrap();
    let mut job = ScoredEvents::new(&bootstrap, "case86")?;
    let late = "case86-late".to_owned();
    create_topics(&bootstrap, &[(&job.events(), 2), (&job.scores(), 2)]).await?;
    job.start().await?;
    let mut model = job.model();
    model["output"]["topic"] = late.as_str().into();
    let refused = job
        .worker
        .request("PUT", "/inference/models/shop/late", Some(&model))
        .await?;
    let valid = job
        .worker
        .request("POST", "/inference/models/shop/late/validate", Some(&model))
        .await?;
    let words = format!("topic {late} does not exist");
    ensure!(
        refused.0 == 400 && refused.1["errors"][0]["field"] == "output.topic",
        "{refused:?}"
    );
    ensure!(refused.1.to_string().contains(&words), "{refused:?}");
    ensure!(
        valid.1["valid"] == false && valid.1.to_string().contains(&words),
        "{valid:?}"
    );
    let tenant = json!({ "outputs": { "topic": late } });
    let refused = job
        .worker
        .request("PUT", "/inference/tenants/late", Some(&tenant))
        .await?;
    ensure!(
        refused.0 == 400 && refused.1["errors"][0]["field"] == "outputs.topic",
        "{refused:?}"
    );

    // A model whose topic was there when it was put, and is gone when it is to be written to.
    create_topics(&bootstrap, &[(&late, 2)]).await?;
    job.worker.put("/inference/tenants/late", &tenant).await?;
    job.worker.put("/inference/models/late/score", &model).await?;
    let admin = Admin::new(&ClientConfig::new(&bootstrap))?;
    for (_, result) in admin.delete_topics(std::slice::from_ref(&late)).await? {
        result?;
    }
    while admin.topic(&late).await?.is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    job.put_connector(&[]).await?;
    job.send(0..50)?;
    ensure!(
        by_household(&job.outputs(50).await?)? == expected(0..50),
        "the neighbour's scores"
    );
    let status = job
        .worker
        .until("/inference/models/late/score/status", |_, status| {
            let error = status["figures"]["last_error"].as_str().unwrap_or_default();
            status["mode"] == "detached" && error.contains(&words)
        })
        .await?;
    ensure!(
        status["figures"]["outputs_refused"]
            .as_str()
            .is_some_and(|reason| reason.contains("create it")),
        "{status}"
    );
    let metric = "millrace_inference_outputs_refused{tenant=\"late\"";
    ensure!(job.metric(metric).await? == 1.0, "the metric");
    job.until_tasks_are("RUNNING", "").await?;
    job.send(50..100)?;
    ensure!(
        by_household(&job.outputs(100).await?)? == expected(0..100),
        "the neighbour's scores"
    );

    create_topics(&bootstrap, &[(&late, 2)]).await?;
    let outputs = read(&bootstrap, &late, 100).await?;
    ensure!(by_household(&outputs)? == expected(0..100), "the scores of then");
    let mended = |_, status: &serde_json::Value| {
        status["mode"] == "in step" && status["figures"].get("outputs_refused").is_none()
    };
    job.worker.until("/inference/models/late/score/status", mended).await?;
    ensure!(job.metric(metric).await? == 0.0, "the metric");
    job.worker.stop()?;
    Ok(())
}
