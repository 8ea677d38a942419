//! A topic that refuses one tenant's outputs: nobody else's transaction is aborted for it, nobody else's output is sent again, and
//! the tenant has all of its own once the topic takes them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use kafka_client::{Admin, ClientConfig, NewTopic};
use serde_json::{Value, json};

use super::tenants::check_undisturbed;
use super::{Stage, check_lineage, distinct, events};
use crate::broker_laws::unique;
use crate::inference::Output;
use crate::topics::set_options;

/// Events of a scenario.
const EVENTS: i64 = 2_000;
/// Those before anything is wrong.
const BEFORE: i64 = 200;

fn often(guarantee: &'static str) -> [(&'static str, &'static str); 2] {
    [
        ("processing.guarantee", guarantee),
        ("inference.commit.interval.ms", "10"),
    ]
}

/// Two tenants more: `other`, and `refused`, whose topic takes at first so many bytes at once.
async fn with_refused(stage: &Stage, bytes: &str) -> Result<(String, String)> {
    let narrow = unique("narrow");
    let topic = NewTopic::new(&*narrow, 2, 1).with("max.message.bytes", bytes);
    for (_, result) in admin(stage)?.create_topics(&[topic]).await? {
        result?;
    }
    stage
        .add_tenant("refused", &json!({}), |model| {
            model["output"]["topic"] = narrow.as_str().into()
        })
        .await?;
    Ok((narrow, stage.add_tenant("other", &json!({}), |_| {}).await?))
}

fn admin(stage: &Stage) -> Result<Admin> {
    Ok(Admin::new(&ClientConfig::new(stage.bootstrap()))?)
}

/// The topic takes everything.
async fn widen(stage: &Stage, topic: &str) -> Result<()> {
    set_options(&admin(stage)?, topic, &[("max.message.bytes", "1048588")]).await
}

fn aborted(stage: &Stage) -> u64 {
    stage.worker.service.metrics.aborted.load(Ordering::Relaxed)
}

fn is_refused(status: &Value) -> bool {
    let error = status["figures"]["last_error"].as_str().unwrap_or_default();
    status["mode"] == "detached" && error.contains("narrow")
}

async fn costs_the_others_nothing(stage: Stage, guarantee: &'static str) -> Result<()> {
    let (narrow, other) = with_refused(&stage, "1048588").await?;
    let task = stage.task(&often(guarantee))?;
    stage.produce(events(0..BEFORE))?;
    check_undisturbed("refused", &stage.outputs_in(&narrow, BEFORE).await?, BEFORE)?;
    // It takes no record at all, in the middle of a stream. (Below 78 bytes a broker could not even end a transaction.)
    set_options(&admin(&stage)?, &narrow, &[("max.message.bytes", "100")]).await?;
    stage.produce(events(BEFORE..EVENTS))?;
    stage.until_model("refused/score", is_refused).await?;
    for (tenant, topic) in [("shop", &stage.predictions), ("other", &other)] {
        let outputs = stage.outputs_in(topic, EVENTS).await?;
        check_undisturbed(tenant, &outputs, EVENTS)?;
    }
    stage.until_committed(EVENTS).await?;
    ensure!(aborted(&stage) == 0, "{} transactions were aborted", aborted(&stage));
    for model in ["shop/score", "other/score"] {
        stage.until_model(model, |status| status["mode"] == "in step").await?;
    }
    widen(&stage, &narrow).await?;
    let outputs = stage.outputs_in(&narrow, EVENTS).await?;
    let outputs = match guarantee {
        "at_least_once" => distinct(outputs)?.0,
        _ => outputs,
    };
    check_undisturbed("refused", &outputs, EVENTS)?;
    stage
        .until_model("refused/score", |status| status["mode"] == "in step")
        .await?;
    stage.produce(events(EVENTS..EVENTS + 50))?;
    check_undisturbed("shop", &stage.outputs(EVENTS + 50).await?, EVENTS + 50)?;
    ensure!(aborted(&stage) == 0, "{} transactions were aborted", aborted(&stage));
    task.stop()
}

/// # Errors
/// When a transaction is aborted for it, or an output is missing, wrong or there twice.
pub async fn a_topic_that_refuses_costs_the_others_nothing_exactly_once(stage: Stage) -> Result<()> {
    costs_the_others_nothing(stage, "exactly_once_v2").await
}

/// # Errors
/// When another's output is sent again, or an output of anybody is missing or wrong.
pub async fn a_topic_that_refuses_costs_the_others_nothing_at_least_once(stage: Stage) -> Result<()> {
    costs_the_others_nothing(stage, "at_least_once").await
}

/// # Errors
/// When a refused output is missing or there twice after crashes.
pub async fn what_was_refused_survives_a_crash(stage: Stage) -> Result<()> {
    let (narrow, other) = with_refused(&stage, "10").await?;
    let mut worker = stage.in_a_process(&often("exactly_once_v2")).await?;
    let mut sent = 0;
    for _ in 0..4 {
        stage.produce(events(sent..sent + 300))?;
        sent += 300;
        stage.outputs(sent - 150).await?;
        worker.kill()?;
        worker.start().await?;
    }
    worker
        .until("/inference/models/refused/score/status", |_, status| is_refused(status))
        .await?;
    widen(&stage, &narrow).await?;
    // While it catches up.
    stage.outputs_in(&narrow, 100).await?;
    worker.kill()?;
    worker.start().await?;
    check_undisturbed("refused", &stage.outputs_in(&narrow, sent).await?, sent)?;
    check_undisturbed("shop", &stage.outputs(sent).await?, sent)?;
    check_undisturbed("other", &stage.outputs_in(&other, sent).await?, sent)?;
    let code = worker.stop()?;
    ensure!(code == 0, "the worker ended with {code}");
    Ok(())
}

/// One record in many is too large for its topic, as its key is.
///
/// # Errors
/// When it keeps another from being sent, or is not counted.
pub async fn one_output_that_is_too_large_is_lost_alone(stage: Stage) -> Result<()> {
    let (narrow, other) = with_refused(&stage, "20000").await?;
    let mut model = stage.model("linear.onnx");
    model["output"]["topic"] = narrow.as_str().into();
    model["output"]["key"] = "has(event.long) ? event.long : event.household".into();
    stage.put("models/refused/score", &model).await?;
    let mut records = events(0..BEFORE);
    let (key, event) = records.get(77).cloned().unwrap_or_default();
    let mut event: Value = serde_json::from_str(&event)?;
    event["long"] = "x".repeat(50_000).into();
    if let Some(record) = records.get_mut(77) {
        *record = (key, event.to_string());
    }
    let task = stage.task(&often("exactly_once_v2"))?;
    stage.produce(records)?;
    let outputs = stage.outputs_in(&narrow, BEFORE - 1).await?;
    let sources = |outputs: &[Output]| -> BTreeSet<String> {
        outputs
            .iter()
            .map(|output| output.header("millrace.source").to_owned())
            .collect()
    };
    ensure!(
        outputs.len() == 199 && sources(&outputs).len() == 199,
        "{} outputs",
        outputs.len()
    );
    let status = stage
        .until_model("refused/score", |status| status["figures"]["errors"] == 1)
        .await?;
    ensure!(
        status["figures"]["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("narrow")),
        "{status}"
    );
    let shop = stage.outputs(BEFORE).await?;
    check_lineage(&shop)?;
    check_undisturbed("shop", &shop, BEFORE)?;
    check_undisturbed("other", &stage.outputs_in(&other, BEFORE).await?, BEFORE)?;
    ensure!(aborted(&stage) == 0, "{} transactions were aborted", aborted(&stage));
    task.stop()
}
