//! Rows that wait while their model changes: open windows, the backlog of a paused model, events that come while a model's
//! artifact is not there. Each is run by the version that is served when its time comes, with its features by name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::tenants::check_undisturbed;
use super::{START_MS, Stage, by_household, events, expected, models, wait_for};
use crate::broker_laws::unique;
use crate::inference::{Output, RunningTask, Worker, read};

const OFTEN: [(&str, &str); 1] = [("inference.commit.interval.ms", "10")];

/// An event of a household, so many seconds after a full minute.
fn at(household: &str, amount: i64, seconds: i64) -> (String, String) {
    let time = (START_MS / 60_000 + 1) * 60_000 + seconds * 1_000;
    let event = json!({ "household": household, "amount": amount, "time": time });
    (household.to_owned(), event.to_string())
}

/// Of outputs: the version that made each.
fn versions(outputs: &[Output]) -> Vec<&str> {
    let models = outputs.iter().map(|output| output.header("millrace.model"));
    models.filter_map(|model| model.split('@').nth(1)).collect()
}

impl Stage {
    /// Puts a version of the stage's model with these inputs and this window.
    async fn put_windowed(&self, file: &str, features: &[&str], tumbling: &str) -> Result<()> {
        let mut model = self.model(file);
        model["trigger"] = json!({ "window": { "tumbling": tumbling, "by": "event.household" } });
        model["inputs"] = json!({ "features": features });
        self.put("models/shop/score", &model).await?;
        Ok(())
    }

    /// Waits until events have been taken and committed, and stops the task and starts it again, if that is wanted.
    async fn after(&self, task: RunningTask, events: i64, restart: bool) -> Result<RunningTask> {
        self.until_committed(events).await?;
        if !restart {
            return Ok(task);
        }
        task.stop()?;
        self.task(&OFTEN)
    }
}

/// A window is open while its model gets a version with the same features in another order; another is opened then. They close
/// together, in one block, each with its own features by name, for the version that is served.
///
/// # Errors
/// When a feature is taken for another, or a key gets those of another.
pub async fn windows_close_by_name_for_a_version_with_inputs_in_another_order(stage: Stage) -> Result<()> {
    reordered(&stage, false).await
}

/// # Errors
/// When a feature is taken for another, or a key gets those of another.
pub async fn windows_close_by_name_for_another_version_after_a_restart(stage: Stage) -> Result<()> {
    reordered(&stage, true).await
}

async fn reordered(stage: &Stage, restart: bool) -> Result<()> {
    stage
        .put_windowed("linear.onnx", &["amount", "spent", "seen"], "1m")
        .await?;
    let task = stage.task(&OFTEN)?;
    // Two events of each household: 5 and 3, 5 and 4, ...
    stage.produce((1..=3).flat_map(|number| {
        [
            at(&format!("h{number}"), 5, 1),
            at(&format!("h{number}"), 2 + number, 2),
        ]
    }))?;
    let task = stage.after(task, 6, restart).await?;
    stage
        .put_windowed("linear.onnx", &["seen", "amount", "spent"], "1m")
        .await?;
    // One more of two households, of which one is new; the others keep what the first version has made.
    stage.produce([at("h3", 7, 30), at("h4", 2, 31)])?;
    let task = stage.after(task, 8, restart).await?;
    stage.produce((1..=4).map(|number| at(&format!("h{number}"), 1, 61)))?;
    let outputs = stage.outputs(4).await?;
    // seen + 10 amount + 100 spent
    let expected: BTreeMap<String, Vec<f64>> = [
        ("h1", 1.0 + 30.0 + 500.0),
        ("h2", 1.0 + 40.0 + 500.0),
        ("h3", 2.0 + 70.0 + 1_000.0),
        ("h4", 0.0 + 20.0 + 0.0),
    ]
    .map(|(household, score)| (household.to_owned(), vec![score]))
    .into();
    let scores = by_household(&outputs)?;
    ensure!(scores == expected, "{scores:?}");
    ensure!(versions(&outputs) == ["3"; 4], "{outputs:?}");
    task.stop()
}

/// A version takes features that the rows of the open windows do not have: the view's default stands for them, else nothing
/// does, and the row fails by itself.
///
/// # Errors
/// When a window is lost, or its row is not what the rule says.
pub async fn windows_close_for_a_version_with_more_inputs(stage: Stage) -> Result<()> {
    more_inputs(&stage, false).await
}

/// # Errors
/// When a window is lost, or its row is not what the rule says.
pub async fn windows_close_for_a_version_with_more_inputs_after_a_restart(stage: Stage) -> Result<()> {
    more_inputs(&stage, true).await
}

async fn more_inputs(stage: &Stage, restart: bool) -> Result<()> {
    let mut view = stage.view();
    view["features"]["visits"] = json!({ "expression": "event.visits", "default": 6 });
    view["features"]["bare"] = json!({ "expression": "event.bare" });
    stage.put("feature-views/purchase", &view).await?;
    stage.put_windowed("logarithm.onnx", &["amount"], "1m").await?;
    let task = stage.task(&OFTEN)?;
    stage.produce([at("h1", 3, 1), at("h2", 4, 2)])?;
    let task = stage.after(task, 2, restart).await?;
    stage
        .put_windowed("linear.onnx", &["visits", "amount", "visits"], "1m")
        .await?;
    stage.produce([at("h1", 1, 61), at("h2", 1, 62)])?;
    let outputs = stage.outputs(2).await?;
    let scores = by_household(&outputs)?;
    let expected = [("h1", 6.0 + 30.0 + 600.0), ("h2", 6.0 + 40.0 + 600.0)];
    let expected: BTreeMap<String, Vec<f64>> = expected
        .map(|(household, score)| (household.to_owned(), vec![score]))
        .into();
    ensure!(scores == expected, "{scores:?}");
    let task = stage.after(task, 4, restart).await?;
    // Nothing stands for a feature without a default: its rows fail, and only they do.
    stage
        .put_windowed("linear.onnx", &["bare", "amount", "visits"], "1m")
        .await?;
    stage.produce([at("h1", 1, 121), at("h2", 1, 122)])?;
    let status = stage
        .until_model("shop/score", |status| status["figures"]["errors"] == 2)
        .await?;
    let error = status["figures"]["last_error"].as_str().context("last_error")?;
    ensure!(error.contains("not a finite number"), "{status}");
    ensure!(stage.outputs(2).await?.len() == 2, "outputs");
    task.stop()
}

/// # Errors
/// When a window closes at another time than that of the trigger that opened it, or an event is in two.
pub async fn a_changed_window_length_holds_from_the_version_on(stage: Stage) -> Result<()> {
    changed_length(&stage, false).await
}

/// # Errors
/// When a window closes at another time than that of the trigger that opened it, or an event is in two.
pub async fn a_changed_window_length_holds_after_a_restart(stage: Stage) -> Result<()> {
    changed_length(&stage, true).await
}

async fn changed_length(stage: &Stage, restart: bool) -> Result<()> {
    const INPUTS: [&str; 3] = ["amount", "spent", "seen"];
    stage.put_windowed("linear.onnx", &INPUTS, "1m").await?;
    let task = stage.task(&OFTEN)?;
    stage.produce([at("h1", 3, 5)])?;
    let task = stage.after(task, 1, restart).await?;
    stage.put_windowed("linear.onnx", &INPUTS, "10s").await?;
    let scores = async |count: i64| -> Result<Vec<f64>> {
        let scores = by_household(&stage.outputs(count).await?)?;
        Ok(scores.into_values().flatten().collect())
    };
    // Windows of ten seconds, at once; the one of a minute stays as it was.
    stage.produce([at("h1", 4, 12), at("h1", 5, 23)])?;
    ensure!(scores(1).await? == [4.0 + 30.0 + 100.0], "{:?}", scores(1).await?);
    let task = stage.after(task, 3, restart).await?;
    stage.produce([at("h1", 6, 61)])?;
    let closed = scores(3).await?;
    ensure!(
        closed == [134.0, 5.0 + 70.0 + 200.0, 3.0],
        "the second of ten seconds ends before the minute does: {closed:?}"
    );
    // And longer again.
    let task = stage.after(task, 4, restart).await?;
    stage.put_windowed("linear.onnx", &INPUTS, "1m").await?;
    stage.produce([at("h1", 7, 65), at("h1", 8, 75), at("h1", 9, 121)])?;
    let closed = scores(5).await?;
    ensure!(
        closed.get(3..) == Some(&[6.0 + 120.0 + 300.0, 8.0 + 250.0 + 500.0][..]),
        "{closed:?}"
    );
    ensure!(stage.worker.service.snapshot().tenants["shop"].shed == 0, "late events");
    task.stop()
}

/// A model is paused, gets a version with other inputs, and goes on: what waits is run by that version, by name.
///
/// # Errors
/// When a row is lost, or a feature is taken for another.
pub async fn the_backlog_of_a_paused_model_is_run_by_a_version_with_other_inputs(stage: Stage) -> Result<()> {
    let mut view = stage.view();
    view["features"]["visits"] = json!({ "expression": "event.visits", "default": 2 });
    stage.put("feature-views/purchase", &view).await?;
    let post = async |action: &str| {
        let path = format!("models/shop/score/{action}");
        stage.worker.ok("POST", &path, &Value::Null).await
    };
    let task = stage.task(&OFTEN)?;
    stage.produce(events(0..100))?;
    stage.outputs(100).await?;
    post("pause").await?;
    stage.wait_for_mode("detached").await?;
    stage.produce(events(100..200))?;
    stage.until_committed(200).await?;
    // Two more versions while it is paused: rows of three versions wait.
    for (features, sent) in [(["seen", "amount", "spent"], 300), (["visits", "amount", "seen"], 400)] {
        let mut model = stage.model("linear.onnx");
        model["inputs"] = json!({ "features": features });
        let valid = stage.worker.ok("POST", "models/shop/score/validate", &model).await?;
        ensure!(valid["valid"] == true, "{valid}");
        stage.put("models/shop/score", &model).await?;
        stage.produce(events(sent - 100..sent))?;
        stage.until_committed(sent).await?;
    }
    task.stop()?;
    let task = stage.task(&OFTEN)?;
    post("resume").await?;
    let outputs = stage.outputs(400).await?;
    stage.wait_for_mode("in step").await?;
    // visits + 10 amount + 100 seen; of an undisturbed run, by the place of an event among its household's.
    let mut wanted: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (first, all) = (expected(0..100), 0..400i64);
    for number in all {
        let scores = wanted.entry(format!("h{}", number % 5)).or_default();
        let seen = scores.len();
        scores.push(match first[&format!("h{}", number % 5)].get(seen) {
            Some(score) => *score,
            None => 2.0 + 10.0 * (1 + number % 7) as f64 + 100.0 * seen as f64,
        });
    }
    ensure!(by_household(&outputs)? == wanted, "{:?}", by_household(&outputs)?);
    let versions = versions(&outputs);
    ensure!(
        versions.iter().filter(|version| **version == "3").count() == 300,
        "{versions:?}"
    );
    let status = stage.status().await?;
    ensure!(
        status["figures"]["errors"] == 0 && status["figures"]["input_errors"] == 0,
        "{status}"
    );
    task.stop()
}

/// A stage whose models' artifacts are files that the scenario may take away.
struct OwnFiles {
    stage: Stage,
    folder: PathBuf,
    group: String,
}

impl OwnFiles {
    async fn new(stage: Stage) -> Result<OwnFiles> {
        let folder = stage.directory.path().join("artifacts");
        std::fs::create_dir_all(&folder)?;
        let mut own = OwnFiles {
            folder: folder.canonicalize()?,
            group: unique("group"),
            stage,
        };
        own.bring_back()?;
        own.restart().await?;
        let stage = &own.stage;
        stage.put("tenants/shop", &json!({})).await?;
        stage
            .put("stores/households", &json!({ "keyed": { "by": "event.household" } }))
            .await?;
        stage.put("feature-views/purchase", &stage.view()).await?;
        let mut model = stage.model("linear.onnx");
        model["artifact"] = format!("file://{}", own.file("score").display()).into();
        stage.put("models/shop/score", &model).await?;
        Ok(own)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.onnx"))
    }

    /// The artifacts are there as they were.
    fn bring_back(&self) -> Result<()> {
        for name in ["score", "neighbour"] {
            std::fs::copy(models().join("linear.onnx"), self.file(name))?;
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        let stage = &mut self.stage;
        stage.worker.stop().await;
        let (bootstrap, state) = (stage.bootstrap().to_owned(), stage.directory.path().join("state"));
        stage.worker = Worker::start(&bootstrap, &self.group, &state, &self.folder).await?;
        Ok(())
    }
}

/// A worker starts, and a model's artifact is not there; then it comes back.
///
/// # Errors
/// When an event passes the model by, another model lacks one, or the status does not say why it waits.
pub async fn a_model_whose_artifact_is_missing_at_the_start_waits_for_it(stage: Stage) -> Result<()> {
    artifact_goes(stage, |path| Ok(std::fs::remove_file(path)?), "No such file").await
}

/// The same for an artifact that is another file than the one that was put.
///
/// # Errors
/// When an event passes the model by, another model lacks one, or the status does not say why it waits.
pub async fn a_model_whose_artifact_has_changed_waits_for_the_one_that_was_put(stage: Stage) -> Result<()> {
    let other = models().join("logarithm.onnx");
    artifact_goes(stage, move |path| Ok(std::fs::copy(&other, path).map(drop)?), "sha256").await
}

async fn artifact_goes(stage: Stage, spoil: impl Fn(PathBuf) -> Result<()>, words: &str) -> Result<()> {
    let mut own = OwnFiles::new(stage).await?;
    let neighbour = own.file("neighbour");
    let neighbours = own
        .stage
        .add_tenant("neighbour", &json!({}), |model| {
            model["artifact"] = format!("file://{}", neighbour.display()).into();
        })
        .await?;
    let task = own.stage.task(&OFTEN)?;
    own.stage.produce(events(0..100))?;
    own.stage.outputs(100).await?;
    task.stop()?;

    spoil(own.file("score"))?;
    // More than once: what waits already goes on waiting.
    for sent in [200, 300] {
        own.restart().await?;
        let stage = &own.stage;
        let task = stage.task(&OFTEN)?;
        stage.produce(events(sent - 100..sent))?;
        stage.until_committed(sent).await?;
        check_undisturbed("neighbour", &stage.outputs_in(&neighbours, sent).await?, sent)?;
        let waits = |status: &Value| {
            let partitions = status["partitions"].as_array().into_iter().flatten();
            let mut modes = partitions.map(|partition| &partition["mode"]["detached"]["reason"]);
            status["mode"] == "detached" && modes.all(|reason| reason == "artifact")
        };
        let status = stage.until_model("shop/score", waits).await?;
        ensure!(status["state"] == "FAILED" && status["version"].is_null(), "{status}");
        let error = status["error"].as_str().context("error")?;
        ensure!(error.contains(words), "{error}");
        let event = json!({ "event": { "household": "h1", "amount": 4, "time": START_MS } });
        let answer = stage.worker.request("POST", "models/shop/score/evaluate", &event).await;
        ensure!(answer.status == 409, "evaluate: {}", answer.status);
        ensure!(stage.outputs(100).await?.len() == 100, "outputs without a model");
        let log = format!("connect-{}-features", stage.connector);
        read(stage.bootstrap(), &log, usize::try_from(sent - 100)?).await?;
        task.stop()?;
    }

    // It is tried again by itself.
    own.restart().await?;
    let stage = &own.stage;
    let task = stage.task(&OFTEN)?;
    stage
        .until_model("shop/score", |status| status["state"] == "FAILED")
        .await?;
    own.bring_back()?;
    check_undisturbed("shop", &stage.outputs(300).await?, 300)?;
    stage.wait_for_mode("in step").await?;
    stage.produce(events(300..350))?;
    check_undisturbed("shop", &stage.outputs(350).await?, 350)?;
    let status = stage.status().await?;
    ensure!(status["state"] == "SERVING" && status["error"].is_null(), "{status}");
    wait_for("all is counted", || stage.worker.service.snapshot().detached == 0).await?;
    task.stop()
}
