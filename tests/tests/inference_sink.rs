//! The inference sink over a broker: outputs with lineage, guarantees, restarts, refusals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use anyhow::Result;
use dev_broker::{DevBroker, DevBrokerConfig};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tests::inference::{Output, Worker, create_topics, produce, read};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../inference-sink/tests/vectors")
        .canonicalize()
        .unwrap()
}

fn artifact(name: &str) -> String {
    format!("file://{}/{name}", models().display())
}

/// `variable` is `a + 10 b + 100 c`; here a is the amount, b what the household spent before, c the number of events.
fn model(version_of: &str) -> Value {
    json!({
        "artifact": artifact(version_of), "subscribe": { "topics": ["events"], "filter": "event.amount > 0.0" },
        "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
        "output": { "topic": "predictions", "key": "event.household", "fields": { "score": "variable" } }
    })
}

fn view() -> Value {
    json!({
        "source": "events", "partitioned_by": "event.household", "event_time": "event.time",
        "features": {
            "amount": { "expression": "event.amount" },
            "spent": { "aggregate": { "function": "sum", "of": "event.amount", "by": ["event.household"], "store": "households" } },
            "seen": { "aggregate": { "function": "count", "by": ["event.household"], "store": "households" } }
        }
    })
}

async fn put_resources(worker: &Worker) -> Result<()> {
    worker.ok("PUT", "tenants/shop", &json!({ "weight": 2 })).await?;
    worker
        .ok(
            "PUT",
            "stores/households",
            &json!({ "keyed": { "by": "event.household" } }),
        )
        .await?;
    worker.ok("PUT", "feature-views/purchase", &view()).await?;
    worker.ok("PUT", "models/shop/score", &model("linear.onnx")).await?;
    Ok(())
}

const START_MS: i64 = 1_700_000_000_000;

fn events(range: std::ops::Range<i64>) -> Vec<(String, String)> {
    range
        .map(|number| {
            let household = format!("h{}", number % 5);
            let event = json!({ "household": household, "amount": 1 + number % 7, "time": START_MS + number });
            (household, event.to_string())
        })
        .collect()
}

/// What an undisturbed run over these events gives: by household, the scores in order.
fn expected(range: std::ops::Range<i64>) -> BTreeMap<String, Vec<f64>> {
    let mut state: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let mut scores: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for number in range {
        let household = format!("h{}", number % 5);
        let amount = (1 + number % 7) as f64;
        let (spent, seen) = state.entry(household.clone()).or_default();
        scores
            .entry(household)
            .or_default()
            .push(amount + 10.0 * *spent + 100.0 * *seen);
        *spent += amount;
        *seen += 1.0;
    }
    scores
}

fn by_household(outputs: &[Output]) -> BTreeMap<String, Vec<f64>> {
    let mut scores: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for output in outputs {
        scores
            .entry(output.key.clone().unwrap())
            .or_default()
            .push(output.value["score"].as_f64().unwrap());
    }
    scores
}

#[allow(dead_code)] // what is not read is kept alive
struct Stage {
    broker: DevBroker,
    directory: tempfile::TempDir,
    worker: Worker,
}

async fn stage() -> Result<Stage> {
    let broker = DevBroker::start(DevBrokerConfig::default())?;
    let bootstrap = broker.bootstrap().to_string();
    let directory = tempfile::tempdir()?;
    create_topics(&bootstrap, &[("events", 2), ("predictions", 2)]).await?;
    let worker = Worker::start(&bootstrap, "group", directory.path(), &models()).await?;
    put_resources(&worker).await?;
    Ok(Stage {
        broker,
        directory,
        worker,
    })
}

const TOPICS: [(&str, i32); 1] = [("events", 2)];

#[tokio::test(flavor = "multi_thread")]
async fn outputs_carry_lineage_and_go_on_after_a_restart() -> Result<()> {
    let stage = stage().await?;
    let bootstrap = &stage.worker.bootstrap;
    for guarantee in ["exactly_once_v2", "at_least_once"] {
        let connector = format!("sink-{guarantee}");
        stage
            .worker
            .ok("PUT", "models/shop/score", &{
                let mut model = model("linear.onnx");
                model["output"]["topic"] = format!("predictions-{guarantee}").into();
                model
            })
            .await?;
        let config = [("processing.guarantee", guarantee)];
        let done = 300 * i64::from(guarantee == "at_least_once");
        produce(bootstrap, "events", events(done..done + 200))?;
        let task = stage.worker.task(&connector, &TOPICS, &config)?;
        let total = usize::try_from(done + 200)?;
        read(bootstrap, &format!("predictions-{guarantee}"), total).await?;
        task.stop()?;
        produce(bootstrap, "events", events(done + 200..done + 300))?;
        let task = stage.worker.task(&connector, &TOPICS, &config)?;
        let outputs = read(bootstrap, &format!("predictions-{guarantee}"), total + 100).await?;
        task.stop()?;
        assert_eq!(by_household(&outputs), expected(0..done + 300), "{guarantee}");
        let mut sources = BTreeSet::new();
        for output in &outputs {
            assert!(output.header("millrace.model").starts_with("shop/score@"), "{output:?}");
            assert!(!output.header("millrace.batch").is_empty());
            assert!(
                sources.insert(output.header("millrace.source").to_owned()),
                "{output:?} came twice"
            );
            assert!(output.value["event_time"].as_i64().unwrap() >= START_MS);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_changes_no_output_and_no_state() -> Result<()> {
    let Stage {
        broker,
        directory,
        mut worker,
    } = stage().await?;
    let bootstrap = broker.bootstrap().to_string();
    let bootstrap = bootstrap.as_str();
    let mut sent = 0;
    for round in 1..=5 {
        produce(bootstrap, "events", events(sent..sent + 150))?;
        sent += 150;
        let task = worker.task("sink", &TOPICS, &[("inference.commit.interval.ms", "5")])?;
        // Some of it is committed, and the rest is lost with the task.
        read(bootstrap, "predictions", usize::try_from(sent - 100)?).await?;
        task.crash()?;
        if round == 3 {
            // Another worker, without the local copy: state comes back from the changelog alone.
            worker.stop().await;
            worker = Worker::start(bootstrap, "group", &directory.path().join("other"), &models()).await?;
        }
    }
    let task = worker.task("sink", &TOPICS, &[])?;
    let outputs = read(bootstrap, "predictions", usize::try_from(sent)?).await?;
    task.stop()?;
    assert_eq!(by_household(&outputs), expected(0..sent));
    Ok(())
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
        let mut model = model("linear.onnx");
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
        "not supported",
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

    let mut wrong = view();
    wrong["features"]["spent"]["aggregate"]["store"] = "nowhere".into();
    let answer = stage.worker.request("PUT", "feature-views/purchase", &wrong).await;
    assert!(answer.status == 400 && String::from_utf8_lossy(&answer.body).contains("nowhere"));
    let mut wrong = view();
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
    stage.broker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on() -> Result<()> {
    let stage = stage().await?;
    let bootstrap = &stage.worker.bootstrap;
    let mut records = events(0..10);
    records.insert(3, ("h1".to_owned(), "{broken".to_owned()));
    let ahead = json!({ "household": "h2", "amount": 1, "time": i64::MAX / 2 });
    records.insert(6, ("h2".to_owned(), ahead.to_string()));
    produce(bootstrap, "events", records)?;
    let task = stage.worker.task("sink", &TOPICS, &[])?;
    let outputs = read(bootstrap, "predictions", 10).await?;
    assert_eq!(by_household(&outputs), expected(0..10));
    let letters = task.dead_letters.lock().unwrap().clone();
    assert_eq!(letters.len(), 2, "{letters:?}");
    task.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_model_goes_on_from_the_feature_log_with_the_features_of_then() -> Result<()> {
    let stage = stage().await?;
    let bootstrap = &stage.worker.bootstrap;
    let task = stage
        .worker
        .task("sink", &TOPICS, &[("inference.commit.interval.ms", "10")])?;
    produce(bootstrap, "events", events(0..100))?;
    read(bootstrap, "predictions", 100).await?;
    stage.worker.ok("POST", "models/shop/score/pause", &Value::Null).await?;
    let status = stage.worker.ok("GET", "models/shop/score/status", &Value::Null).await?;
    assert_eq!(status["state"], "PAUSED");
    wait_for_mode(&stage.worker, "detached").await?;
    produce(bootstrap, "events", events(100..400))?;
    // The rows of the paused model are in the log, and survive a restart of the task.
    read(bootstrap, "connect-sink-features", 300).await?;
    assert_eq!(read(bootstrap, "predictions", 100).await?.len(), 100);
    task.stop()?;
    let task = stage
        .worker
        .task("sink", &TOPICS, &[("inference.commit.interval.ms", "10")])?;
    stage
        .worker
        .ok("POST", "models/shop/score/resume", &Value::Null)
        .await?;
    let outputs = read(bootstrap, "predictions", 400).await?;
    assert_eq!(by_household(&outputs), expected(0..400));
    wait_for_mode(&stage.worker, "in step").await?;
    produce(bootstrap, "events", events(400..450))?;
    let outputs = read(bootstrap, "predictions", 450).await?;
    assert_eq!(by_household(&outputs), expected(0..450));
    task.stop()
}

async fn wait_for_mode(worker: &Worker, mode: &str) -> Result<()> {
    let deadline = std::time::Instant::now() + tests::inference::PATIENCE;
    loop {
        let status = worker.ok("GET", "models/shop/score/status", &Value::Null).await?;
        if status["mode"] == mode {
            return Ok(());
        }
        anyhow::ensure!(
            std::time::Instant::now() < deadline,
            "the model did not become {mode}: {status}"
        );
        tokio::task::yield_now().await;
    }
}

async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + tests::inference::PATIENCE;
    while !condition() {
        anyhow::ensure!(std::time::Instant::now() < deadline, "{what} did not come true");
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_entries_are_archived_and_read_back_by_key() -> Result<()> {
    let stage = stage().await?;
    let bootstrap = &stage.worker.bootstrap;
    let store = json!({ "keyed": { "by": "event.household" }, "ttl": { "after": "1h" }, "archive": true });
    stage.worker.ok("PUT", "stores/households", &store).await?;
    let event = |household: &str, minutes: i64| {
        json!({ "household": household, "amount": 5, "time": START_MS + minutes * 60_000 }).to_string()
    };
    let key = || "h1".to_owned();
    produce(bootstrap, "events", [(key(), event("h1", 0)), (key(), event("h1", 1))])?;
    let task = stage
        .worker
        .task("sink", &TOPICS, &[("inference.commit.interval.ms", "10")])?;
    read(bootstrap, "predictions", 2).await?;
    let live = stage
        .worker
        .ok("GET", "stores/households/keys/h1", &Value::Null)
        .await?;
    assert_eq!(live["entries"].as_array().map(Vec::len), Some(1), "{live}");
    // Another household's event, two hours later and in the same partition, moves stream time on.
    produce(bootstrap, "events", [(key(), event("h2", 120))])?;
    wait_for("the archive", || stage.worker.service.snapshot().archived == 1).await?;
    let archived = stage
        .worker
        .ok("GET", "stores/households/archive/h1", &Value::Null)
        .await?;
    assert_eq!(archived["entries"][0]["touched_ms"], START_MS + 60_000, "{archived}");
    let gone = stage
        .worker
        .request("GET", "stores/households/keys/h1", &Value::Null)
        .await;
    assert_eq!(gone.status, 404);
    // A key that is born again starts empty.
    produce(bootstrap, "events", [(key(), event("h1", 121))])?;
    let outputs = read(bootstrap, "predictions", 4).await?;
    let scores: Vec<f64> = outputs
        .iter()
        .filter(|o| o.key.as_deref() == Some("h1"))
        .map(|o| o.value["score"].as_f64().unwrap())
        .collect();
    assert_eq!(scores, [5.0, 5.0 + 50.0 + 100.0, 5.0]);
    task.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_rate_is_shed_and_counted_and_sent_to_its_topic() -> Result<()> {
    let stage = stage().await?;
    let bootstrap = &stage.worker.bootstrap;
    let rate = json!({ "events_per_second": 0.5, "burst": 20, "over": "shed" });
    stage
        .worker
        .ok(
            "PUT",
            "tenants/shop",
            &json!({ "rate": rate, "outputs": { "shed": "shop.shed" } }),
        )
        .await?;
    produce(bootstrap, "events", events(0..200))?;
    let task = stage.worker.task("sink", &TOPICS, &[])?;
    let all = || {
        let snapshot = stage.worker.service.snapshot();
        (snapshot.predictions, snapshot.tenants["shop"].shed)
    };
    wait_for("every event's fate", || all().0 + all().1 == 200).await?;
    task.stop()?;
    let (predictions, shed) = all();
    assert!(shed >= 150, "{shed} of 200 were shed");
    assert_eq!(
        read(bootstrap, "predictions", usize::try_from(predictions)?)
            .await?
            .len() as u64,
        predictions
    );
    assert_eq!(
        read(bootstrap, "shop.shed", usize::try_from(shed)?).await?.len() as u64,
        shed
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_gives_one_row_per_key_and_survives_a_restart() -> Result<()> {
    let stage = stage().await?;
    let bootstrap = &stage.worker.bootstrap;
    let mut windowed = model("linear.onnx");
    windowed["trigger"] = json!({ "window": { "tumbling": "1m", "grace": "10s", "by": "event.household" } });
    stage.worker.ok("PUT", "models/shop/score", &windowed).await?;
    let event = |amount: i64, seconds: i64| {
        json!({ "household": "h1", "amount": amount, "time": (START_MS / 60_000 + 1) * 60_000 + seconds * 1000 })
            .to_string()
    };
    let key = || "h1".to_owned();
    let task = stage
        .worker
        .task("sink", &TOPICS, &[("inference.commit.interval.ms", "10")])?;
    produce(bootstrap, "events", [(key(), event(3, 5)), (key(), event(4, 30))])?;
    wait_for("two events", || stage.worker.service.snapshot().events_in == 2).await?;
    task.stop()?;
    let task = stage
        .worker
        .task("sink", &TOPICS, &[("inference.commit.interval.ms", "10")])?;
    // Behind the window's end, but within its grace; then past it; then late.
    produce(
        bootstrap,
        "events",
        [
            (key(), event(1, 65)),
            (key(), event(2, 50)),
            (key(), event(1, 75)),
            (key(), event(9, 10)),
        ],
    )?;
    let outputs = read(bootstrap, "predictions", 1).await?;
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    // The event at 50 s is the window's latest: amount 2, spent 3 + 4 + 1, three events seen.
    assert_eq!(outputs[0].value["score"], 2.0 + 80.0 + 300.0);
    wait_for("the late event", || {
        stage.worker.service.snapshot().tenants["shop"].shed == 1
    })
    .await?;
    task.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_model_is_stopped_by_its_breaker_alone() -> Result<()> {
    let stage = stage().await?;
    let bootstrap = &stage.worker.bootstrap;
    let failing = json!({
        "artifact": artifact("logarithm.onnx"), "subscribe": { "topics": ["events"] }, "inputs": { "features": ["spent"] },
        "trigger": { "each": {} }, "output": { "topic": "logarithms", "fields": { "ln": "variable" } },
        "on_error": { "open_after": 3, "within": "1m", "retry_after": "1h" }
    });
    stage.worker.ok("PUT", "models/shop/failing", &failing).await?;
    let task = stage.worker.task(
        "sink",
        &TOPICS,
        &[
            ("inference.commit.interval.ms", "10"),
            ("inference.commit.drain.ms", "200"),
        ],
    )?;
    // The first event of each of five households has spent nothing yet, and the logarithm of 0 is not finite.
    produce(bootstrap, "events", events(0..300))?;
    let outputs = read(bootstrap, "predictions", 300).await?;
    assert_eq!(by_household(&outputs), expected(0..300));
    let status = stage
        .worker
        .ok("GET", "models/shop/failing/status", &Value::Null)
        .await?;
    assert_eq!(status["state"], "SUSPENDED", "{status}");
    assert!(status["figures"]["errors"].as_u64() >= Some(3), "{status}");
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
