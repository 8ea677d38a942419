//! The inference sink over the development broker: the scenarios that hold over any broker, and what needs no real one:
//! refusals, limits, the circuit breaker, evaluation by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use anyhow::Result;
use connect_api::WorkerExtension as _;
use dev_broker::{ApiKey, DevBroker, Fault, FaultAction, FaultTarget};
use kafka_client::{ClientConfig, Producer, ProducerRecord};
use serde_json::{Value, json};
use std::sync::Arc;
use tests::broker::OwnDevBroker;
use tests::broker_laws::records::Ignored;
use tests::exposition::Exposition;
use tests::inference::{PATIENCE, read};
use tests::inference_scenarios::{START_MS, Stage, artifact, by_household, distinct, events, expected, wait_for};
use tokio::sync::OnceCell;

tests::inference_scenarios!(shared: shared, own: OwnDevBroker::start);

/// One broker for all that do not end theirs; it ends with the process.
async fn shared() -> Result<String> {
    static SHARED: OnceCell<DevBroker> = OnceCell::const_new();
    let broker = SHARED.get_or_try_init(|| async { DevBroker::start(OwnDevBroker::quick()) });
    Ok(broker.await?.bootstrap())
}

async fn stage() -> Result<Stage> {
    Stage::start(&shared().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_documents_are_refused_by_field_and_the_version_before_serves() -> Result<()> {
    let stage = stage().await?;
    let refused = async |path: &str, body: Value, field: &str, words: &str| {
        let answer = stage.worker.request("PUT", path, &body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{path}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let errors = answer["errors"].as_array().unwrap();
        assert!(
            errors
                .iter()
                .any(|error| error["field"] == field && error["message"].as_str().unwrap().contains(words)),
            "{path}: {text}"
        );
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut model = stage.model("linear.onnx");
        change(&mut model);
        model
    };
    let broken = stage.directory.path().join("broken.onnx");
    std::fs::write(&broken, b"not a model")?;
    refused(
        "models/shop/score",
        changed(&|m| m["artifact"] = artifact("none.onnx").into()),
        "artifact",
        "No such file",
    )
    .await;
    refused(
        "models/shop/score",
        changed(&|m| m["artifact"] = format!("file://{}", broken.display()).into()),
        "artifact",
        "not below",
    )
    .await;
    refused(
        "models/shop/score",
        changed(&|m| m["artifact"] = artifact("generate.py").into()),
        "artifact",
        "ONNX",
    )
    .await;
    refused(
        "models/shop/score",
        changed(&|m| m["artifact"] = "s3://models/a.onnx".into()),
        "artifact",
        "inference.artifact.allowed.prefixes",
    )
    .await;
    refused(
        "models/shop/score",
        changed(&|m| m["sha256"] = "0".repeat(64).into()),
        "sha256",
        "not",
    )
    .await;
    refused(
        "models/shop/score",
        changed(&|m| m["inputs"] = json!({ "features": ["amount"] })),
        "inputs.features",
        "3 features",
    )
    .await;
    refused(
        "models/shop/score",
        changed(&|m| m["inputs"] = json!({ "features": ["amount", "x", "seen"] })),
        "inputs",
        "no feature x",
    )
    .await;
    refused(
        "models/shop/score",
        changed(&|m| m["output"]["fields"] = json!({ "s": "nothing" })),
        "output.fields.s",
        "variable",
    )
    .await;
    refused("models/nobody/score", changed(&|_| ()), "tenant", "no tenant nobody").await;
    let status = stage.worker.ok("GET", "models/shop/score/status", &Value::Null).await?;
    assert_eq!(
        (&status["state"], &status["version"]),
        (&json!("SERVING"), &json!(1)),
        "{status}"
    );

    let mut wrong = stage.view();
    wrong["features"]["spent"]["aggregate"]["store"] = "nowhere".into();
    let answer = stage.worker.request("PUT", "feature-views/purchase", &wrong).await;
    assert!(answer.status == 400 && String::from_utf8_lossy(&answer.body).contains("nowhere"));
    let mut wrong = stage.view();
    wrong["features"]["seen"]["aggregate"]["by"] = json!(["event.amount"]);
    let answer = stage.worker.request("PUT", "feature-views/purchase", &wrong).await;
    assert!(answer.status == 400 && String::from_utf8_lossy(&answer.body).contains("event.household"));

    for (path, user) in [
        ("tenants/shop", "shop/score"),
        ("stores/households", "purchase"),
        ("feature-views/purchase", "shop/score"),
    ] {
        let answer = stage.worker.request("DELETE", path, &Value::Null).await;
        assert_eq!(answer.status, 409, "{path}");
        assert!(String::from_utf8_lossy(&answer.body).contains(user), "{path}");
    }
    let validated = stage
        .worker
        .ok(
            "POST",
            "models/shop/score/validate",
            &changed(&|m| m["deadline"] = "50ms".into()),
        )
        .await?;
    assert_eq!(validated["valid"], true);
    assert!(
        validated["changes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|change| change["field"] == "deadline"),
        "{validated}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_rate_is_shed_and_counted_and_sent_to_its_topic() -> Result<()> {
    let stage = stage().await?;
    // No more than the burst passes while the test runs.
    let rate = json!({ "events_per_second": 0.001, "burst": 20, "over": "shed" });
    stage
        .worker
        .ok(
            "PUT",
            "tenants/shop",
            &json!({ "rate": rate, "outputs": { "shed": "shop.shed" } }),
        )
        .await?;
    stage.produce(events(0..200))?;
    let task = stage.task(&[])?;
    let all = || {
        let snapshot = stage.worker.service.snapshot();
        (snapshot.predictions, snapshot.tenants["shop"].shed)
    };
    wait_for("every event's fate", || all().0 + all().1 == 200).await?;
    task.stop()?;
    let (predictions, shed) = all();
    assert_eq!((predictions, shed), (20, 180));
    let outputs = stage.outputs(i64::try_from(predictions)?).await?;
    assert_eq!(outputs.len() as u64, predictions);
    assert_eq!(
        read(stage.bootstrap(), "shop.shed", usize::try_from(shed)?)
            .await?
            .len() as u64,
        shed
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_model_is_stopped_by_its_breaker_alone() -> Result<()> {
    let stage = stage().await?;
    let failing = json!({
        "artifact": artifact("logarithm.onnx"), "subscribe": { "topics": [stage.events] }, "inputs": { "features": ["spent"] },
        "trigger": { "each": {} }, "output": { "topic": "logarithms", "fields": { "ln": "variable" } },
        "on_error": { "open_after": 3, "within": "1m", "retry_after": "1h" }
    });
    stage.worker.ok("PUT", "models/shop/failing", &failing).await?;
    let task = stage.task(&[
        ("inference.commit.interval.ms", "10"),
        ("inference.commit.drain.ms", "200"),
    ])?;
    // The first event of each of five households has spent nothing yet, and the logarithm of 0 is not finite.
    stage.produce(events(0..300))?;
    let outputs = stage.outputs(300).await?;
    assert_eq!(by_household(&outputs)?, expected(0..300));
    let status = stage
        .worker
        .ok("GET", "models/shop/failing/status", &Value::Null)
        .await?;
    assert_eq!(status["state"], "SUSPENDED", "{status}");
    assert!(status["figures"]["errors"].as_u64() >= Some(3), "{status}");
    task.stop()
}

/// The broker does not answer when it is first asked about the topic of outputs that are sent at once: no tenant is blamed for
/// it and detached, and the outputs are sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_no_tenants_fault() -> Result<()> {
    let broker = DevBroker::start(OwnDevBroker::quick())?;
    let stage = Stage::start(&broker.bootstrap()).await?;
    let task = stage.task(&[
        ("processing.guarantee", "at_least_once"),
        ("inference.commit.interval.ms", "10"),
        ("inference.commit.drain.ms", "60000"),
    ])?;
    let producer = Producer::new(&ClientConfig::new(stage.bootstrap()), Arc::new(Ignored))?;
    let send = |key: &str, value: &str| {
        let record = ProducerRecord {
            topic: &stage.events,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            ..ProducerRecord::default()
        };
        producer.send_waiting(&record, 0, PATIENCE)
    };
    // No model wants an event without an amount.
    let nothing = json!({ "household": "nobody", "amount": 0, "time": START_MS });
    send("nobody", &nothing.to_string())?;
    stage.until_committed(1).await?;
    // The writer asks the broker that it knows, and then the one of bootstrap.servers.
    for nth in [1, 2] {
        broker.inject(Fault {
            api_key: ApiKey::Metadata,
            target: FaultTarget::Nth(nth),
            action: FaultAction::Close,
        });
    }
    for (key, value) in events(0..20) {
        send(&key, &value)?;
    }
    // Nobody else asks meanwhile. The commit that finds the outputs lost has them made again.
    let predictions = || stage.worker.service.snapshot().predictions;
    wait_for("outputs that are made again", || predictions() > 20).await?;
    // Those that were lost come after others that were not, once: a household's scores rise.
    let mut scores = by_household(&distinct(stage.outputs(20).await?)?.0)?;
    scores.values_mut().for_each(|scores| scores.sort_by(f64::total_cmp));
    assert_eq!(scores, expected(0..20));
    let log = format!("connect-{}-features", stage.connector);
    assert_eq!(read(stage.bootstrap(), &log, 0).await?, [], "rows of a detached model");
    let metrics = Exposition::parse(&stage.worker.service.metrics())?;
    let aborted = metrics.value("millrace_inference_commits_aborted_total", &[])?;
    assert!(aborted >= 1.0, "{aborted} commits were aborted");
    task.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_can_be_evaluated_by_hand() -> Result<()> {
    let stage = stage().await?;
    let body = json!({ "event": { "household": "h1", "amount": 4, "time": START_MS } });
    let answer = stage.worker.ok("POST", "models/shop/score/evaluate", &body).await?;
    assert_eq!(answer["outputs"]["score"], 4.0, "{answer}");
    assert_eq!(answer["features"]["amount"], 4.0);
    assert_eq!(answer["model"], "shop/score@1");
    let fairness = stage.worker.ok("GET", "fairness", &Value::Null).await?;
    assert!(fairness["since_start"]["jain_index"].is_number(), "{fairness}");
    for later in ["rollback", "replay"] {
        let answer = stage
            .worker
            .request("POST", &format!("models/shop/score/{later}"), &Value::Null)
            .await;
        assert!(answer.status == 501 && String::from_utf8_lossy(&answer.body).contains(later));
    }
    Ok(())
}
