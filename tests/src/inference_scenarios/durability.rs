//! What is committed stays, what is not is done again, and nothing is done twice.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{START_MS, Stage, Stream, by_household, check_lineage, events, expected, wait_for};
use crate::inference::read;

/// Often enough that every scenario commits many times.
const OFTEN: [(&str, &str); 1] = [("inference.commit.interval.ms", "10")];

/// # Errors
/// When an output is missing, wrong or there twice.
pub async fn outputs_carry_lineage_and_go_on_after_a_restart(mut stage: Stage) -> Result<()> {
    let (predictions, connector) = (stage.predictions.clone(), stage.connector.clone());
    let mut done = 0;
    for guarantee in ["exactly_once_v2", "at_least_once"] {
        stage.connector = format!("{connector}-{guarantee}");
        stage.predictions = format!("{predictions}-{guarantee}");
        stage.put("models/shop/score", &stage.model("linear.onnx")).await?;
        let config = [("processing.guarantee", guarantee)];
        stage.produce(events(done..done + 200))?;
        let task = stage.task(&config)?;
        stage.outputs(done + 200).await?;
        task.stop()?;
        stage.produce(events(done + 200..done + 300))?;
        let task = stage.task(&config)?;
        let outputs = stage.outputs(done + 300).await?;
        task.stop()?;
        done += 300;
        ensure!(by_household(&outputs)? == expected(0..done), "{guarantee}: scores");
        check_lineage(&outputs)?;
        let late = |output: &&crate::inference::Output| output.value["event_time"].as_i64() < Some(START_MS);
        ensure!(outputs.iter().find(late).is_none(), "{guarantee}: event time");
    }
    Ok(())
}

/// The worker is a process that is killed while events come; once its local copy is gone as well, and state comes back from
/// the changelog alone.
///
/// # Errors
/// When an output is missing, wrong or there twice.
pub async fn a_crash_at_any_moment_changes_no_output_and_no_state(stage: Stage) -> Result<()> {
    let mut worker = stage.in_a_process(&[("inference.commit.interval.ms", "5")]).await?;
    let mut sent = 0;
    for round in 1..=5 {
        let stream = Stream::start(stage.bootstrap(), &stage.events, sent)?;
        // Some of it is committed, and the rest is lost with the process.
        stage.outputs(sent + 100).await?;
        worker.kill()?;
        sent = stream.finish()?;
        if round == 3 {
            worker.wipe_state()?;
        }
        worker.start().await?;
    }
    let outputs = stage.outputs(sent).await?;
    let code = worker.stop()?;
    ensure!(code == 0, "the worker ended with {code}");
    check_lineage(&outputs)?;
    ensure!(by_household(&outputs)? == expected(0..sent), "scores");
    Ok(())
}

/// # Errors
/// When what cannot be read stops the rest, or is not reported.
pub async fn what_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on(stage: Stage) -> Result<()> {
    let mut records = events(0..10);
    records.insert(3, ("h1".to_owned(), "{broken".to_owned()));
    let ahead = json!({ "household": "h2", "amount": 1, "time": i64::MAX / 2 });
    records.insert(6, ("h2".to_owned(), ahead.to_string()));
    stage.produce(records)?;
    let task = stage.task(&[])?;
    let outputs = stage.outputs(10).await?;
    ensure!(by_household(&outputs)? == expected(0..10), "{outputs:?}");
    let letters = stage.dead_letters(2).await?;
    let mut reasons: Vec<(&str, &str)> = letters
        .iter()
        .map(|letter| (letter.key.as_deref().unwrap_or_default(), letter.stage.as_str()))
        .collect();
    reasons.sort_unstable();
    ensure!(
        reasons == [("h1", "VALUE_CONVERTER"), ("h2", "VALUE_CONVERTER")],
        "{letters:?}"
    );
    task.stop()
}

/// # Errors
/// When a row of the paused model is lost, changed or predicted twice.
pub async fn a_paused_model_goes_on_from_the_feature_log_with_the_features_of_then(stage: Stage) -> Result<()> {
    let task = stage.task(&OFTEN)?;
    stage.produce(events(0..100))?;
    stage.outputs(100).await?;
    stage.worker.ok("POST", "models/shop/score/pause", &Value::Null).await?;
    let status = stage.status().await?;
    ensure!(status["state"] == "PAUSED", "{status}");
    stage.wait_for_mode("detached").await?;
    stage.produce(events(100..400))?;
    // The rows of the paused model are in the log, and survive a restart of the task.
    let log = format!("connect-{}-features", stage.connector);
    read(stage.bootstrap(), &log, 300).await?;
    let outputs = stage.outputs(100).await?.len();
    ensure!(outputs == 100, "{outputs} outputs of a paused model");
    task.stop()?;
    let task = stage.task(&OFTEN)?;
    stage
        .worker
        .ok("POST", "models/shop/score/resume", &Value::Null)
        .await?;
    let outputs = stage.outputs(400).await?;
    ensure!(by_household(&outputs)? == expected(0..400), "scores from the log");
    stage.wait_for_mode("in step").await?;
    stage.produce(events(400..450))?;
    let outputs = stage.outputs(450).await?;
    ensure!(by_household(&outputs)? == expected(0..450), "scores after it");
    check_lineage(&outputs)?;
    task.stop()
}

/// # Errors
/// When a window is missing, wrong or closed twice.
pub async fn a_window_gives_one_row_per_key_and_survives_a_restart(stage: Stage) -> Result<()> {
    let mut windowed = stage.model("linear.onnx");
    windowed["trigger"] = json!({ "window": { "tumbling": "1m", "grace": "10s", "by": "event.household" } });
    stage.put("models/shop/score", &windowed).await?;
    let event = |amount: i64, seconds: i64| {
        let time = (START_MS / 60_000 + 1) * 60_000 + seconds * 1000;
        let event = json!({ "household": "h1", "amount": amount, "time": time });
        ("h1".to_owned(), event.to_string())
    };
    let task = stage.task(&OFTEN)?;
    stage.produce([event(3, 5), event(4, 30)])?;
    wait_for("two events", || stage.worker.service.snapshot().events_in == 2).await?;
    task.stop()?;
    let task = stage.task(&OFTEN)?;
    // Behind the window's end, but within its grace; then past it; then late.
    stage.produce([event(1, 65), event(2, 50), event(1, 75), event(9, 10)])?;
    let outputs = stage.outputs(1).await?;
    // The event at 50 s is the window's latest: amount 2, spent 3 + 4 + 1, three events seen.
    ensure!(
        outputs.len() == 1 && outputs.iter().all(|output| output.value["score"] == 2.0 + 80.0 + 300.0),
        "{outputs:?}"
    );
    let shed = || {
        stage
            .worker
            .service
            .snapshot()
            .tenants
            .get("shop")
            .map(|tenant| tenant.shed)
    };
    wait_for("the late event", || shed() == Some(1)).await?;
    task.stop()
}

/// # Errors
/// When an entry does not expire, is not archived, or is known to the key that is born again.
pub async fn expired_entries_are_archived_and_read_back_by_key(stage: Stage) -> Result<()> {
    let store = json!({ "keyed": { "by": "event.household" }, "ttl": { "after": "1h" }, "archive": true });
    stage.put("stores/households", &store).await?;
    let event = |household: &str, minutes: i64| {
        let event = json!({ "household": household, "amount": 5, "time": START_MS + minutes * 60_000 });
        // One key, and so one partition, for both households.
        ("h1".to_owned(), event.to_string())
    };
    let get = async |path: &str| stage.worker.ok("GET", path, &Value::Null).await;
    stage.produce([event("h1", 0), event("h1", 1)])?;
    let task = stage.task(&OFTEN)?;
    stage.outputs(2).await?;
    let live = get("stores/households/keys/h1").await?;
    ensure!(live["entries"].as_array().map(Vec::len) == Some(1), "{live}");
    // Another household's event, two hours later and in the same partition, moves stream time on.
    stage.produce([event("h2", 120)])?;
    wait_for("the archive", || stage.worker.service.snapshot().archived == 1).await?;
    let archived = get("stores/households/archive/h1").await?;
    ensure!(archived["entries"][0]["touched_ms"] == START_MS + 60_000, "{archived}");
    let gone = stage
        .worker
        .request("GET", "stores/households/keys/h1", &Value::Null)
        .await;
    ensure!(gone.status == 404, "an expired entry is answered with {}", gone.status);
    // A key that is born again starts empty.
    stage.produce([event("h1", 121)])?;
    let outputs = by_household(&stage.outputs(4).await?)?;
    let scores = outputs.get("h1").cloned().unwrap_or_default();
    ensure!(scores == [5.0, 5.0 + 50.0 + 100.0, 5.0], "{scores:?}");
    task.stop()
}
