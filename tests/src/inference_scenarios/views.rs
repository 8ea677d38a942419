//! What belongs to one feature view stays between it and its models: its events, its time, its state, its name.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::tenants::check_undisturbed;
use super::{START_MS, Stage, artifact, by_household, events, expected, models, wait_for};
use crate::broker_laws::unique;
use crate::inference::{Worker, create_topics};

/// Often enough that every scenario commits many times.
const OFTEN: [(&str, &str); 1] = [("inference.commit.interval.ms", "10")];
/// Events of a scenario.
const EVENTS: i64 = 200;

impl Stage {
    /// A tenant with a view of its own, changed, and one model that reads it: the topic of its outputs.
    async fn add_view(&self, tenant: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
        let mut view = self.view();
        change(&mut view);
        let name = format!("{tenant}-view");
        self.put(&format!("feature-views/{name}"), &view).await?;
        self.add_tenant(tenant, &json!({}), |model| model["view"] = name.as_str().into())
            .await
    }

    async fn view_figures(&self, view: &str) -> Result<Value> {
        let status = self
            .worker
            .ok("GET", &format!("feature-views/{view}/status"), &Value::Null)
            .await?;
        Ok(status["figures"].clone())
    }

    /// Makes the stage's model one with windows.
    async fn windowed(&self, window: &Value) -> Result<()> {
        let mut windowed = self.model("linear.onnx");
        windowed["trigger"] = json!({ "window": window });
        self.put("models/shop/score", &windowed).await?;
        Ok(())
    }

    fn shed(&self) -> u64 {
        let snapshot = self.worker.service.snapshot();
        snapshot.tenants.get("shop").map_or(0, |tenant| tenant.shed)
    }
}

/// An event of one household, so many seconds after a full minute.
fn at(amount: i64, seconds: f64) -> (String, String) {
    let time = (START_MS / 60_000 + 1) * 60_000 + (seconds * 1000.0) as i64;
    let event = json!({ "household": "h1", "amount": amount, "time": time });
    ("h1".to_owned(), event.to_string())
}

/// # Errors
/// When something that is no object gets a prediction, or is not reported.
pub async fn what_is_no_object_is_no_event(stage: Stage) -> Result<()> {
    // Every feature has a default, and no filter keeps anything out.
    let mut view = stage.view();
    view["features"] = json!({ "amount": { "expression": "event.amount", "default": 7 } });
    view["event_time"] = Value::Null;
    stage.put("feature-views/defaults", &view).await?;
    let lenient = |model: &mut Value| {
        model["view"] = "defaults".into();
        model["subscribe"] = json!({ "topics": [stage.events] });
        model["inputs"] = json!({ "features": ["amount", "amount", "amount"] });
    };
    let outputs = stage.add_tenant("lenient", &json!({}), lenient).await?;
    let nothing = ["[1]", "5", "\"s\"", "null", "true", "[]"];
    let records = nothing.iter().map(|value| ("h1".to_owned(), (*value).to_owned()));
    stage.produce(records.chain([event_of("h1", 3)]))?;
    let task = stage.task(&OFTEN)?;
    let outputs = stage.outputs_in(&outputs, 1).await?;
    ensure!(outputs.len() == 1, "{outputs:?}");
    let letters = stage.dead_letters(i64::try_from(nothing.len())?).await?;
    ensure!(letters.len() == nothing.len(), "{letters:?}");
    for letter in &letters {
        ensure!(letter.message.contains("an event must be a JSON object"), "{letter:?}");
    }
    task.stop()
}

fn event_of(household: &str, amount: i64) -> (String, String) {
    let event = json!({ "household": household, "amount": amount, "time": START_MS });
    (household.to_owned(), event.to_string())
}

/// One view finds no event time in any event. With `errors.tolerance=none` too, that is its models' loss alone, which its
/// status, its models' and the dead letters say.
///
/// # Errors
/// When another view's models lack anything, or nobody says what is wrong.
pub async fn an_event_that_one_view_cannot_use_is_lost_to_no_other(stage: Stage) -> Result<()> {
    // Before the others by name, and after them.
    let timeless = |view: &mut Value| view["event_time"] = "event.nowhere".into();
    let before = stage.add_view("a-timeless", timeless).await?;
    let after = stage.add_view("z-timeless", timeless).await?;
    let other = stage.add_view("other", |_| {}).await?;
    let config = [("inference.commit.interval.ms", "10"), ("errors.tolerance", "none")];
    let task = stage.task(&config)?;
    stage.produce(events(0..EVENTS))?;
    check_undisturbed("shop", &stage.outputs(EVENTS).await?, EVENTS)?;
    check_undisturbed("other", &stage.outputs_in(&other, EVENTS).await?, EVENTS)?;
    stage.until_committed(EVENTS).await?;
    let letters = stage.dead_letters(2 * EVENTS).await?;
    for (tenant, topic) in [("a-timeless", &before), ("z-timeless", &after)] {
        let view = format!("{tenant}-view");
        ensure!(stage.outputs_in(topic, 0).await?.is_empty(), "{tenant}");
        let figures = stage.view_figures(&view).await?;
        ensure!(figures["failed"].as_i64() == Some(EVENTS), "{figures}");
        let named = letters.iter().filter(|letter| letter.message.contains(&view)).count();
        ensure!(named == usize::try_from(EVENTS)?, "{named} dead letters name {view}");
        let says = |status: &Value| {
            let error = status["figures"]["last_error"].as_str().unwrap_or_default();
            error.contains(&view) && error.contains("event.nowhere")
        };
        let status = stage.until_model(&format!("{tenant}/score"), says).await?;
        ensure!(
            status["state"] == "SERVING" && status["figures"]["unusable"] == EVENTS,
            "{status}"
        );
    }
    let figures = stage.view_figures("other-view").await?;
    ensure!(figures["failed"] == 0 && figures["events"] == EVENTS, "{figures}");
    task.stop()
}

/// A view whose events are of today, or of an hour later, beside one whose events are of years ago.
///
/// # Errors
/// When it makes an event of the other late, closes a window early, or lets an entry expire that is written at the events'
/// own time.
pub async fn a_view_of_another_time_moves_nobodys_time(stage: Stage) -> Result<()> {
    let brief = json!({ "keyed": { "by": "event.household" }, "ttl": { "after": "1h" } });
    stage.put("stores/households", &brief).await?;
    let today = |view: &mut Value| view["event_time"] = Value::Null;
    stage.add_view("today", today).await?;
    let later = |view: &mut Value| view["event_time"] = "event.later".into();
    let later = stage.add_view("later", later).await?;
    stage
        .windowed(&json!({ "tumbling": "1m", "grace": "10s", "by": "event.household" }))
        .await?;
    let each = stage
        .add_tenant("each", &json!({}), |model| model["view"] = "purchase".into())
        .await?;
    let with_later = |(key, event): (String, String)| -> Result<(String, String)> {
        let mut event: Value = serde_json::from_str(&event)?;
        event["later"] = (event["time"].as_i64().unwrap_or_default() + 30 * 86_400_000).into();
        Ok((key, event.to_string()))
    };
    let task = stage.task(&OFTEN)?;
    let mut sent = 0;
    // Again and again, so that what the others do is there before the next event.
    for (amount, seconds) in [(3, 5.0), (4, 30.0), (1, 65.0), (2, 50.0), (1, 3_000.0)] {
        stage.produce([with_later(at(amount, seconds))?])?;
        sent += 1;
        wait_for("the event", || stage.worker.service.snapshot().events_in == sent).await?;
        stage.until_committed(i64::try_from(sent)?).await?;
    }
    let scores = |outputs: &[crate::inference::Output]| -> Vec<f64> {
        outputs
            .iter()
            .filter_map(|output| output.value["score"].as_f64())
            .collect()
    };
    // The window's latest event: amount 2, spent 3 + 4 + 1, three seen.
    ensure!(scores(&stage.outputs(2).await?)[..1] == [2.0 + 80.0 + 300.0], "windows");
    ensure!(stage.shed() == 0, "{} events are late", stage.shed());
    let alone = [
        3.0,
        4.0 + 30.0 + 100.0,
        1.0 + 70.0 + 200.0,
        2.0 + 80.0 + 300.0,
        1.0 + 100.0 + 400.0,
    ];
    ensure!(
        scores(&stage.outputs_in(&each, 5).await?) == alone,
        "entries have expired"
    );
    ensure!(
        scores(&stage.outputs_in(&later, 5).await?) == alone,
        "entries of the later view have expired"
    );
    task.stop()
}

/// # Errors
/// When a model reads another view than before, or a document leaves open which one it reads.
pub async fn a_view_that_comes_later_takes_no_model_over(stage: Stage) -> Result<()> {
    let kept = stage.worker.ok("GET", "models/shop/score", &Value::Null).await?;
    ensure!(kept["view"] == "purchase", "{kept}");
    let task = stage.task(&OFTEN)?;
    stage.produce(events(0..100))?;
    stage.outputs(100).await?;
    // First by the alphabet, with the same features of other values.
    let mut other = stage.view();
    other["features"]["amount"]["expression"] = "0.0 - event.amount".into();
    stage.put("feature-views/aaa", &other).await?;
    stage.produce(events(100..200))?;
    ensure!(by_household(&stage.outputs(200).await?)? == expected(0..200), "scores");
    task.stop()?;
    let task = stage.task(&OFTEN)?;
    stage.produce(events(200..300))?;
    ensure!(
        by_household(&stage.outputs(300).await?)? == expected(0..300),
        "scores after a restart"
    );

    // The same document again is the same model, and a new one must say which of the two it reads.
    let again = stage
        .worker
        .request("PUT", "models/shop/score", &stage.model("linear.onnx"))
        .await;
    ensure!(again.status == 200, "{}", String::from_utf8_lossy(&again.body));
    let refused = stage
        .worker
        .request("PUT", "models/shop/second", &stage.model("linear.onnx"))
        .await;
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    ensure!(
        refused.status == 409 && text.contains("aaa, purchase"),
        "{} {text}",
        refused.status
    );
    let mut named = stage.model("linear.onnx");
    named["view"] = "aaa".into();
    let topic = unique("second");
    create_topics(stage.bootstrap(), &[(&topic, 1)]).await?;
    named["output"]["topic"] = topic.as_str().into();
    stage.put("models/shop/second", &named).await?;
    for (view, words) in [
        ("nowhere", "no feature view nowhere"),
        ("purchase", "has no feature third"),
    ] {
        let mut wrong = stage.model("linear.onnx");
        wrong["view"] = view.into();
        wrong["inputs"] = json!({ "features": ["amount", "spent", "third"] });
        let refused = stage.worker.request("PUT", "models/shop/third", &wrong).await;
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        ensure!(
            refused.status == 400 && text.contains(words),
            "{} {text}",
            refused.status
        );
    }
    let used = stage.worker.request("DELETE", "feature-views/aaa", &Value::Null).await;
    ensure!(used.status == 409, "a view in use is deleted: {}", used.status);
    stage.produce(events(300..310))?;
    ensure!(
        by_household(&stage.outputs(310).await?)? == expected(0..310),
        "scores beside the second"
    );
    let second = stage.outputs_in(&topic, 10).await?;
    ensure!(
        second
            .iter()
            .all(|output| output.header("millrace.model") == "shop/second@1"),
        "{second:?}"
    );
    task.stop()
}

/// One view looks things up in a store whose topic is not there, when the task starts.
///
/// # Errors
/// When another view's models wait for it, nobody says what is wrong, or the view does not go on once the topic is there.
pub async fn a_global_store_that_cannot_be_read_holds_only_its_view_back(stage: Stage) -> Result<()> {
    let catalog = unique("catalog");
    stage
        .put("stores/shops", &json!({ "global": { "topic": catalog } }))
        .await?;
    let looks_up = |view: &mut Value| {
        view["features"]["shop"] = json!({ "lookup": { "store": "shops", "key": "event.household" } });
        view["features"]["amount"] = json!({ "expression": "shop.factor * event.amount", "default": 0 });
    };
    let waiting = stage.add_view("waiting", looks_up).await?;
    let config = [
        ("inference.commit.interval.ms", "10"),
        ("inference.store.wait.ms", "200"),
    ];
    let task = stage.task(&config)?;
    stage.produce(events(0..EVENTS))?;
    check_undisturbed("shop", &stage.outputs(EVENTS).await?, EVENTS)?;
    let says = |status: &Value| {
        let error = status["figures"]["last_error"].as_str().unwrap_or_default();
        error.contains("global store shops is not ready") && error.contains(&catalog)
    };
    stage.until_model("waiting/score", says).await?;
    ensure!(
        stage.outputs_in(&waiting, 0).await?.is_empty(),
        "outputs without the store"
    );
    create_topics(stage.bootstrap(), &[(&catalog, 1)]).await?;
    let rows = (0..5).map(|number| (format!("h{number}"), r#"{"factor": 1}"#.to_owned()));
    crate::inference::produce(stage.bootstrap(), &catalog, rows)?;
    let mut sent = EVENTS;
    let deadline = std::time::Instant::now() + crate::inference::PATIENCE;
    // From some event on it has what the others have.
    while stage.outputs_in(&waiting, 0).await?.is_empty() {
        ensure!(std::time::Instant::now() < deadline, "the view does not go on");
        stage.produce(events(sent..sent + 5))?;
        sent += 5;
        stage.until_committed(sent).await?;
    }
    check_undisturbed("shop", &stage.outputs(sent).await?, sent)?;
    task.stop()
}

/// Two ids that are one double: each has its own count, its own window and its own key.
///
/// # Errors
/// When they have anything together, or a key lacks digits.
pub async fn ids_of_64_bits_are_told_apart(stage: Stage) -> Result<()> {
    let ids = [
        "9007199254740992",
        "9007199254740993",
        "1234567890123456789",
        "18446744073709551615",
    ];
    // Of one partition, whatever their id.
    let event = |id: &str, amount: i64, time: i64| {
        let event = format!(
            r#"{{"household": {id}, "amount": {amount}, "time": {}}}"#,
            START_MS + time
        );
        ("one".to_owned(), event)
    };
    let windows = |model: &mut Value| {
        model["trigger"] = json!({ "window": { "tumbling": "1m", "by": "event.household" } });
    };
    let windows = stage.add_tenant("windows", &json!({}), windows).await?;
    let task = stage.task(&OFTEN)?;
    stage.produce((1..=3).flat_map(|amount| ids.map(|id| event(id, amount, amount))))?;
    let expected: BTreeMap<String, Vec<f64>> = ids
        .iter()
        .map(|id| ((*id).to_owned(), vec![1.0, 2.0 + 10.0 + 100.0, 3.0 + 30.0 + 200.0]))
        .collect();
    ensure!(by_household(&stage.outputs(12).await?)? == expected, "scores");
    stage.produce([event("1", 1, 600_000)])?;
    let closed = by_household(&stage.outputs_in(&windows, 4).await?)?;
    let expected: BTreeMap<String, Vec<f64>> = ids.iter().map(|id| ((*id).to_owned(), vec![233.0])).collect();
    ensure!(closed == expected, "windows: {closed:?}");
    stage.until_committed(13).await?;
    for id in ids {
        let entry = stage
            .worker
            .ok("GET", &format!("stores/households/keys/{id}"), &Value::Null)
            .await?;
        ensure!(entry["entries"].as_array().map(Vec::len) == Some(1), "{entry}");
        ensure!(entry["entries"][0]["key"] == id, "{entry}");
    }
    task.stop()
}

/// An upstream that delivers now and then, with idle time that is shorter than its pauses.
///
/// # Errors
/// When an event comes late that grace would have taken.
pub async fn deliveries_now_and_then_make_no_event_late(stage: Stage) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(1_500);
    stage
        .windowed(&json!({ "tumbling": "1s", "grace": "200ms", "by": "event.household" }))
        .await?;
    let config = [
        ("inference.commit.interval.ms", "10"),
        ("inference.idle.after.ms", "100"),
    ];
    let task = stage.task(&config)?;
    for delivery in 0..4 {
        let second = f64::from(delivery) * PAUSE.as_secs_f64();
        let events: Vec<_> = (0..15).map(|step| at(1, second + f64::from(step) / 10.0)).collect();
        stage.produce(events)?;
        let sent = u64::try_from((delivery + 1) * 15)?;
        wait_for("the delivery", || stage.worker.service.snapshot().events_in == sent).await?;
        tokio::time::sleep(PAUSE).await;
    }
    // Six seconds of events: all but the last have their windows closed by what came after.
    let outputs = stage.outputs(5).await?;
    ensure!(stage.shed() == 0, "{} events are late", stage.shed());
    ensure!(outputs.len() >= 5, "{outputs:?}");
    task.stop()
}

/// A steady stream ends, and the worker is started again: the open window closes by idle time alone.
///
/// # Errors
/// When it stays open.
pub async fn windows_close_after_a_restart_without_another_event(stage: Stage) -> Result<()> {
    stage
        .windowed(&json!({ "tumbling": "4s", "by": "event.household" }))
        .await?;
    let config = [
        ("inference.commit.interval.ms", "10"),
        ("inference.idle.after.ms", "100"),
    ];
    let task = stage.task(&config)?;
    for step in 0..20u32 {
        stage.produce([at(1, 0.2)])?;
        wait_for("the event", || {
            stage.worker.service.snapshot().events_in > u64::from(step)
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    stage.until_committed(20).await?;
    task.stop()?;
    ensure!(stage.outputs(0).await?.is_empty(), "the window is closed already");
    let task = stage.task(&config)?;
    ensure!(stage.outputs(1).await?.len() == 1, "windows");
    task.stop()
}

/// # Errors
/// When an event without a part of its window's key is in a window, or nobody counts it.
pub async fn an_event_without_its_window_key_is_in_no_window(stage: Stage) -> Result<()> {
    stage
        .windowed(&json!({ "tumbling": "1m", "by": ["event.household", "event.shop"] }))
        .await?;
    let with_shop = |(key, event): (String, String), shop: Value| -> Result<(String, String)> {
        let mut event: Value = serde_json::from_str(&event)?;
        event["shop"] = shop;
        Ok((key, event.to_string()))
    };
    let task = stage.task(&OFTEN)?;
    stage.produce([
        with_shop(at(3, 1.0), "".into())?,
        at(5, 2.0),
        with_shop(at(6, 3.0), Value::Null)?,
        // A key that another would be, were parts only strung together.
        with_shop(at(7, 4.0), "\u{0}".into())?,
        with_shop(at(1, 120.0), "".into())?,
    ])?;
    let mut scores: Vec<f64> = by_household(&stage.outputs(2).await?)?
        .into_values()
        .flatten()
        .collect();
    scores.sort_by(f64::total_cmp);
    ensure!(scores == [3.0, 7.0 + 140.0 + 300.0], "{scores:?}");
    ensure!(stage.shed() == 2, "{} events are counted", stage.shed());
    let status = stage.status().await?;
    let error = status["figures"]["last_error"].as_str().context("last_error")?;
    ensure!(
        error.contains("event.shop") && status["figures"]["unusable"] == 2,
        "{status}"
    );
    task.stop()
}

/// A model's breaker is open on one worker; somebody resumes the model on another.
///
/// # Errors
/// When it stays stopped.
pub async fn resuming_a_model_reaches_every_worker(stage: Stage) -> Result<()> {
    let failing = |model: &mut Value| {
        model["artifact"] = artifact("logarithm.onnx").into();
        model["inputs"] = json!({ "features": ["spent"] });
        model["on_error"] = json!({ "open_after": 3, "within": "1m", "retry_after": "1d" });
    };
    let outputs = stage.add_tenant("failing", &json!({}), failing).await?;
    let task = stage.task(&[
        ("inference.commit.interval.ms", "10"),
        ("inference.commit.drain.ms", "200"),
    ])?;
    // The first event of each of five households has spent nothing, and the logarithm of 0 is not finite.
    stage.produce(events(0..100))?;
    stage
        .until_model("failing/score", |status| status["state"] == "SUSPENDED")
        .await?;
    let directory = stage.directory.path().join("other");
    let other = Worker::start(stage.bootstrap(), stage.worker.group(), &directory, &models()).await?;
    other.ok("POST", "models/failing/score/resume", &Value::Null).await?;
    // Two more of the five fail, which is not enough to open it again.
    let runs = stage.outputs_in(&outputs, 90).await?;
    ensure!(runs.len() >= 90, "{} outputs", runs.len());
    stage
        .until_model("failing/score", |status| status["state"] == "SERVING")
        .await?;
    task.stop()?;
    other.stop().await;
    Ok(())
}

/// The artifact is another by the time that the worker loads it.
///
/// # Errors
/// When the answer says that all is well.
pub async fn a_model_that_is_not_served_after_its_put_is_no_201(stage: Stage) -> Result<()> {
    let directory = stage.directory.path().join("models");
    std::fs::create_dir_all(&directory)?;
    let worker = Worker::start(
        stage.bootstrap(),
        &unique("group"),
        &stage.directory.path().join("fifo"),
        &directory.canonicalize()?,
    )
    .await?;
    for path in ["tenants/shop", "stores/households"] {
        let document = stage.worker.ok("GET", path, &Value::Null).await?;
        worker.ok("PUT", path, &document).await?;
    }
    worker.ok("PUT", "feature-views/purchase", &stage.view()).await?;
    // Who opens it reads what is written next: first the model, then something else.
    let fifo = directory.canonicalize()?.join("model.onnx");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status()?;
    ensure!(made.success(), "mkfifo: {made}");
    let (writing, model) = (fifo.clone(), std::fs::read(models().join("linear.onnx"))?);
    std::thread::spawn(move || -> std::io::Result<()> {
        serve_once(&writing, &model)?;
        loop {
            serve_once(&writing, b"not a model")?;
        }
    });
    let mut model = stage.model("linear.onnx");
    model["artifact"] = format!("file://{}", fifo.display()).into();
    let answer = worker.request("PUT", "models/shop/score", &model).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(answer.status == 202, "{} {text}", answer.status);
    ensure!(text.contains("cannot be served") && text.contains("sha256"), "{text}");
    let status = worker.ok("GET", "models/shop/score/status", &Value::Null).await?;
    ensure!(status["state"] == "FAILED", "{status}");
    worker.stop().await;
    Ok(())
}

/// Writes to who opens a named pipe next, and waits until it has read that.
fn serve_once(pipe: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    const NONBLOCK: i32 = 0o4000;
    std::fs::write(pipe, bytes)?;
    // It cannot be opened for writing so while nobody reads.
    while std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(NONBLOCK)
        .open(pipe)
        .is_ok()
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
