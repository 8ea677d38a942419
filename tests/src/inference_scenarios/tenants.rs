//! What one tenant does costs no other anything: not its commits, not a record, not a digit.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, NewTopic};
use serde_json::{Value, json};

use super::{LOOK, Stage, artifact, by_household, check_lineage, events, expected, wait_for};
use crate::broker_laws::unique;
use crate::inference::{Output, PATIENCE, create_topics, read};

/// Barriers come often, and wait for nobody for long.
const OFTEN: [(&str, &str); 2] = [
    ("inference.commit.interval.ms", "10"),
    ("inference.commit.drain.ms", "50"),
];
/// Events of a scenario.
const EVENTS: i64 = 3_000;
/// Those before anything is wrong.
const BEFORE: i64 = 200;

impl Stage {
    /// Another tenant with one model `score`, whose outputs go to a topic of its own: the topic.
    pub(super) async fn add_tenant(
        &self,
        tenant: &str,
        document: &Value,
        change: impl FnOnce(&mut Value),
    ) -> Result<String> {
        let topic = unique(tenant);
        create_topics(self.bootstrap(), &[(&topic, super::PARTITIONS)]).await?;
        self.put(&format!("tenants/{tenant}"), document).await?;
        let mut model = self.model("linear.onnx");
        model["output"]["topic"] = topic.as_str().into();
        change(&mut model);
        self.put(&format!("models/{tenant}/score"), &model).await?;
        Ok(topic)
    }

    /// Waits until a model's status is so.
    pub(super) async fn until_model(&self, model: &str, so: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self
                .worker
                .ok("GET", &format!("models/{model}/status"), &Value::Null)
                .await?;
            if so(&status) {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "{model} did not become what it should: {status}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Input offsets that are committed with the state of the households, over all partitions.
    ///
    /// # Errors
    /// When the status does not say.
    pub async fn committed(&self) -> Result<i64> {
        let status = self.worker.ok("GET", "stores/households/status", &Value::Null).await?;
        Ok(committed(&status))
    }

    /// Waits until so many events are committed.
    ///
    /// # Errors
    /// When they are not.
    pub async fn until_committed(&self, events: i64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.committed().await? < events {
            ensure!(
                Instant::now() < deadline,
                "{} of {events} events are committed",
                self.committed().await?
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    pub(super) async fn outputs_in(&self, topic: &str, count: i64) -> Result<Vec<Output>> {
        read(self.bootstrap(), topic, usize::try_from(count)?).await
    }
}

/// Input offsets that are committed with a store's state, over all partitions, as its status says.
fn committed(status: &Value) -> i64 {
    let partitions = status["partitions"].as_array().into_iter().flatten();
    partitions
        .filter_map(|partition| partition["input_offset"].as_i64())
        .sum()
}

/// Every event has its output, none has two, and all are those of an undisturbed run, in its order.
pub(super) fn check_undisturbed(tenant: &str, outputs: &[Output], sent: i64) -> Result<()> {
    let sources: BTreeSet<&str> = outputs.iter().map(|output| output.header("millrace.source")).collect();
    ensure!(sources.len() == outputs.len(), "{tenant}: an output came twice");
    ensure!(
        outputs.len() == usize::try_from(sent)?,
        "{tenant}: {} of {sent} outputs",
        outputs.len()
    );
    ensure!(by_household(outputs)? == expected(0..sent), "{tenant}: scores");
    Ok(())
}

/// A tenant may use next to no CPU, so that its model stalls: it is detached, and goes on from the feature log, with the
/// features as they were at the events, once it may.
///
/// # Errors
/// When another waits for it, or an output of anybody is missing, wrong or there twice.
pub async fn a_model_that_stalls_holds_nobody_up_and_catches_up(stage: Stage) -> Result<()> {
    let batched = |model: &mut Value| {
        model["trigger"] = json!({ "batch": { "max_batch_size": 32, "max_queue_delay": "5ms" } });
    };
    let other = stage.add_tenant("other", &json!({}), batched).await?;
    let slow = stage.add_tenant("slow", &json!({}), |_| {}).await?;
    let task = stage.task(&OFTEN)?;
    stage.produce(events(0..BEFORE))?;
    check_undisturbed("slow", &stage.outputs_in(&slow, BEFORE).await?, BEFORE)?;

    stage
        .put("tenants/slow", &json!({ "cpu": { "max_share": 0.000001 } }))
        .await?;
    stage.produce(events(BEFORE..EVENTS))?;
    stage
        .until_model("slow/score", |status| status["mode"] == "detached")
        .await?;
    // The others have all of theirs and everything is committed, while the one that stalls has not begun to end.
    let shop = stage.outputs(EVENTS).await?;
    check_lineage(&shop)?;
    check_undisturbed("shop", &shop, EVENTS)?;
    check_undisturbed("other", &stage.outputs_in(&other, EVENTS).await?, EVENTS)?;
    stage.until_committed(EVENTS).await?;
    let behind = |status: &Value| {
        let partitions = status["partitions"].as_array().into_iter().flatten();
        partitions
            .filter(|partition| partition["lag"].as_i64() > Some(0))
            .count()
    };
    let status = stage.until_model("slow/score", |status| behind(status) > 0).await?;
    ensure!(status["mode"] == "detached", "{status}");
    for model in ["shop/score", "other/score"] {
        stage.until_model(model, |status| status["mode"] == "in step").await?;
    }
    ensure!(
        stage.outputs_in(&slow, 0).await?.len() < usize::try_from(EVENTS)?,
        "it did not stall"
    );

    stage.put("tenants/slow", &json!({})).await?;
    check_undisturbed("slow", &stage.outputs_in(&slow, EVENTS).await?, EVENTS)?;
    stage
        .until_model("slow/score", |status| {
            status["mode"] == "in step" && behind(status) == 0
        })
        .await?;
    stage.produce(events(EVENTS..EVENTS + 50))?;
    for (tenant, topic) in [("slow", &slow), ("other", &other), ("shop", &stage.predictions)] {
        check_undisturbed(tenant, &stage.outputs_in(topic, EVENTS + 50).await?, EVENTS + 50)?;
    }
    task.stop()
}

/// While a model catches up from the feature log, the deployment changes again and again.
///
/// # Errors
/// When an output comes twice, or not at all.
pub async fn a_deployment_while_a_model_catches_up_repeats_nothing(stage: Stage) -> Result<()> {
    let slow = stage.add_tenant("slow", &json!({}), |_| {}).await?;
    let task = stage.task(&OFTEN)?;
    stage
        .put("tenants/slow", &json!({ "cpu": { "max_share": 0.000001 } }))
        .await?;
    stage.produce(events(0..EVENTS))?;
    stage.until_committed(EVENTS).await?;
    stage
        .until_model("slow/score", |status| status["mode"] == "detached")
        .await?;
    for weight in 1..30 {
        stage.put("tenants/slow", &json!({ "weight": weight })).await?;
    }
    check_undisturbed("slow", &stage.outputs_in(&slow, EVENTS).await?, EVENTS)?;
    task.stop()
}

/// A tenant goes over its rate in the middle of an interval, with a model that has not run yet what came before: those rows
/// are the interval's as well, and wait in the feature log with the others.
///
/// # Errors
/// When a crash after the interval loses them.
pub async fn what_a_model_has_not_run_before_it_is_over_its_rate_survives_a_crash(stage: Stage) -> Result<()> {
    let stalled = json!({
        "cpu": { "max_share": 0.000001 }, "rate": { "events_per_second": 0.5, "burst": 500, "over": "wait" }
    });
    let slow = stage.add_tenant("slow", &stalled, |_| {}).await?;
    stage.produce(events(0..EVENTS))?;
    // All events are in the first interval.
    let long = [
        ("inference.commit.interval.ms", "2000"),
        ("inference.commit.drain.ms", "50"),
    ];
    let mut worker = stage.in_a_process(&long).await?;
    worker
        .until("/inference/stores/households/status", |_, status| {
            committed(status) >= EVENTS
        })
        .await?;
    let status = worker
        .until("/inference/models/slow/score/status", |_, status| {
            status["mode"] == "detached"
        })
        .await?;
    ensure!(
        status["figures"]["rows"].as_i64() < Some(EVENTS),
        "nothing was over the rate: {status}"
    );
    worker.kill()?;

    worker.start().await?;
    worker.put("/inference/tenants/slow", &json!({})).await?;
    stage.configure(&worker, &OFTEN).await?;
    check_undisturbed("slow", &stage.outputs_in(&slow, EVENTS).await?, EVENTS)?;
    check_undisturbed("shop", &stage.outputs(EVENTS).await?, EVENTS)?;
    let code = worker.stop()?;
    ensure!(code == 0, "the worker ended with {code}");
    Ok(())
}

/// A model gives no finite number for any event; its breaker opens, tries again, and opens again.
///
/// # Errors
/// When another tenant feels it.
pub async fn a_model_that_fails_at_every_event_is_felt_by_no_other(stage: Stage) -> Result<()> {
    let mut view = stage.view();
    view["features"]["below_zero"] = json!({ "expression": "0.0 - event.amount" });
    stage.put("feature-views/purchase", &view).await?;
    let failing = |model: &mut Value| {
        model["artifact"] = artifact("logarithm.onnx").into();
        model["inputs"] = json!({ "features": ["below_zero"] });
        model["on_error"] = json!({ "open_after": 3, "within": "1m", "retry_after": "50ms" });
    };
    let broken = stage.add_tenant("broken", &json!({}), failing).await?;
    let other = stage.add_tenant("other", &json!({}), |_| {}).await?;
    let task = stage.task(&OFTEN)?;
    stage.produce(events(0..EVENTS))?;
    let shop = stage.outputs(EVENTS).await?;
    check_lineage(&shop)?;
    check_undisturbed("shop", &shop, EVENTS)?;
    check_undisturbed("other", &stage.outputs_in(&other, EVENTS).await?, EVENTS)?;
    stage.until_committed(EVENTS).await?;
    let again = |status: &Value| status["figures"]["errors"].as_u64() > Some(6);
    let status = stage.until_model("broken/score", again).await?;
    ensure!(status["figures"]["last_error"].is_string(), "{status}");
    ensure!(
        stage.outputs_in(&broken, 0).await?.is_empty(),
        "an output of a model that always fails"
    );
    task.stop()
}

/// A tenant's own topics refuse its records: what is shed, or what is predicted.
///
/// # Errors
/// When another tenant feels it.
pub async fn a_topic_that_refuses_records_is_its_tenants_trouble_alone(stage: Stage) -> Result<()> {
    let narrow = unique("narrow");
    let topic = NewTopic::new(&*narrow, 1, 1).with("max.message.bytes", "100");
    let created = Admin::new(&ClientConfig::new(stage.bootstrap()))?
        .create_topics(&[topic])
        .await?;
    for (_, result) in created {
        result?;
    }
    let over = json!({
        "rate": { "events_per_second": 0.5, "burst": 20, "over": "shed" }, "outputs": { "shed": narrow }
    });
    stage.add_tenant("shed", &over, |_| {}).await?;
    stage
        .add_tenant("refused", &json!({}), |model| {
            model["output"]["topic"] = narrow.as_str().into()
        })
        .await?;
    let task = stage.task(&OFTEN)?;
    stage.produce(events(0..EVENTS))?;
    let shop = stage.outputs(EVENTS).await?;
    check_lineage(&shop)?;
    check_undisturbed("shop", &shop, EVENTS)?;
    stage.until_committed(EVENTS).await?;
    stage
        .until_model("refused/score", |status| status["mode"] == "detached")
        .await?;
    let shed = || {
        let snapshot = stage.worker.service.snapshot();
        snapshot.tenants.get("shed").map_or(0, |tenant| tenant.shed)
    };
    wait_for("what is over the rate is counted", || shed() > 0).await?;
    task.stop()
}

/// Two groups on one Kafka cluster have a connector of one name: the second is refused by name, and the first feels nothing.
///
/// # Errors
/// When both write to the same state.
pub async fn another_groups_connector_of_that_name_is_refused(stage: Stage) -> Result<()> {
    let task = stage.task(&OFTEN)?;
    stage.produce(events(0..BEFORE))?;
    stage.outputs(BEFORE).await?;
    stage.until_committed(BEFORE).await?;
    let mut other = Stage::start(stage.bootstrap()).await?;
    other.connector.clone_from(&stage.connector);
    let refused = other.task(&OFTEN)?.ended().await;
    let error = refused.err().context("it is taken")?.to_string();
    for words in [
        stage.connector.as_str(),
        stage.worker.group(),
        other.worker.group(),
        "another name",
    ] {
        ensure!(error.contains(words), "{words} is not in: {error}");
    }
    stage.produce(events(BEFORE..2 * BEFORE))?;
    check_undisturbed("shop", &stage.outputs(2 * BEFORE).await?, 2 * BEFORE)?;
    task.stop()
}
