//! What the inference sink promises over any broker, as scenarios: the same on the development broker and on Apache Kafka.
//!
//! ```text
//!  tests/inference_sink.rs       -> inference_scenarios!(start a DevBroker)   --\
//!                                                                                scenario -> Stage -> inference (harness)
//!  tests/inference_sink_kafka.rs -> inference_scenarios!(start a KafkaBroker) --/
//! ```
//!
//! A scenario has names of its own for everything it makes, so that scenarios may share a broker; those under `outage` end
//! theirs and get one for themselves.

#![allow(clippy::indexing_slicing)] // of JSON values: one that has no such member gives null

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_client::{ClientConfig, Producer, ProducerRecord};
use serde_json::{Value, json};

use crate::broker_laws::records::Ignored;
use crate::broker_laws::unique;
use crate::inference::{
    DeadLetter, Output, PATIENCE, RunningTask, Worker, connector_config, create_topics, dead_letters, produce, read,
};
use crate::process::workspace;
use crate::worker::WorkerProcess;

pub mod durability;
pub mod fairness;
pub mod outage;
pub mod reading;
pub mod refusals;
pub mod subscription;
pub mod tenants;
pub mod views;
pub mod waiting;

/// Makes a test of every scenario, on the broker that `$shared` (an async function) gives the address of; those that end it
/// get one of `$own`.
#[macro_export]
macro_rules! inference_scenarios {
    (shared: $shared:path, own: $own:path) => {
        $crate::inference_scenarios!(@shared $shared;
            durability::outputs_carry_lineage_and_go_on_after_a_restart,
            durability::a_crash_at_any_moment_changes_no_output_and_no_state,
            durability::what_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on,
            durability::a_paused_model_goes_on_from_the_feature_log_with_the_features_of_then,
            durability::a_window_gives_one_row_per_key_and_survives_a_restart,
            durability::expired_entries_are_archived_and_read_back_by_key,
            tenants::a_model_that_stalls_holds_nobody_up_and_catches_up,
            tenants::a_deployment_while_a_model_catches_up_repeats_nothing,
            tenants::what_a_model_has_not_run_before_it_is_over_its_rate_survives_a_crash,
            tenants::a_model_that_fails_at_every_event_is_felt_by_no_other,
            tenants::a_topic_that_refuses_records_is_its_tenants_trouble_alone,
            tenants::another_groups_connector_of_that_name_is_refused,
            fairness::cpu_is_shared_by_weight_and_what_is_idle_is_lent,
            fairness::a_ceiling_holds_and_is_reached,
            subscription::a_header_says_which_events_a_model_gets,
            subscription::a_missed_deadline_is_counted_and_the_prediction_is_made,
            reading::what_upstream_aborted_never_happened,
            reading::exactly_once_of_uncommitted_records_is_refused,
            reading::a_task_that_may_begin_nowhere_fails,
            refusals::a_topic_that_refuses_costs_the_others_nothing_exactly_once,
            refusals::a_topic_that_refuses_costs_the_others_nothing_at_least_once,
            refusals::what_was_refused_survives_a_crash,
            refusals::one_output_that_is_too_large_is_lost_alone,
            views::what_is_no_object_is_no_event,
            views::an_event_that_one_view_cannot_use_is_lost_to_no_other,
            views::a_view_of_another_time_moves_nobodys_time,
            views::a_view_that_comes_later_takes_no_model_over,
            views::a_global_store_that_cannot_be_read_holds_only_its_view_back,
            views::ids_of_64_bits_are_told_apart,
            views::deliveries_now_and_then_make_no_event_late,
            views::windows_close_after_a_restart_without_another_event,
            views::an_event_without_its_window_key_is_in_no_window,
            views::resuming_a_model_reaches_every_worker,
            views::a_model_that_is_not_served_after_its_put_is_no_201,
            waiting::windows_close_by_name_for_a_version_with_inputs_in_another_order,
            waiting::windows_close_by_name_for_another_version_after_a_restart,
            waiting::windows_close_for_a_version_with_more_inputs,
            waiting::windows_close_for_a_version_with_more_inputs_after_a_restart,
            waiting::a_changed_window_length_holds_from_the_version_on,
            waiting::a_changed_window_length_holds_after_a_restart,
            waiting::the_backlog_of_a_paused_model_is_run_by_a_version_with_other_inputs,
            waiting::a_model_whose_artifact_is_missing_at_the_start_waits_for_it,
            waiting::a_model_whose_artifact_has_changed_waits_for_the_one_that_was_put,
        );
        $crate::inference_scenarios!(@own $own;
            outage::exactly_once_over_a_broker_that_goes_and_comes_back,
            outage::at_least_once_over_a_broker_that_goes_and_comes_back,
            outage::an_outage_may_outlast_the_transaction,
            outage::the_status_says_that_a_task_waits,
            outage::a_task_starts_while_the_broker_is_away,
            reading::a_commit_that_fails_leads_back_to_where_reading_began,
        );
    };
    (@shared $shared:path; $($module:ident::$scenario:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $scenario() -> anyhow::Result<()> {
                let bootstrap = $shared().await?;
                let stage = $crate::inference_scenarios::Stage::start(&bootstrap).await?;
                $crate::inference_scenarios::$module::$scenario(stage).await
            }
        )*
    };
    (@own $own:path; $($module:ident::$scenario:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $scenario() -> anyhow::Result<()> {
                let mut broker = $own().await?;
                $crate::inference_scenarios::$module::$scenario(&mut broker).await
            }
        )*
    };
}

/// Event time of event 0, milliseconds since 1970.
pub const START_MS: i64 = 1_700_000_000_000;

/// Partitions of the events.
const PARTITIONS: i32 = 2;

/// A worker over a broker, with one tenant, one store, one feature view and one model.
pub struct Stage {
    /// keeps the worker's files
    pub directory: tempfile::TempDir,
    /// the worker
    pub worker: Worker,
    /// topic of the events
    pub events: String,
    /// topic of the model's outputs
    pub predictions: String,
    /// the connector's name
    pub connector: String,
}

impl Stage {
    /// Makes the topics and puts the resources.
    ///
    /// # Errors
    /// When the broker or the worker refuses.
    pub async fn start(bootstrap: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (events, predictions) = (unique("events"), unique("predictions"));
        create_topics(bootstrap, &[(&events, PARTITIONS), (&predictions, PARTITIONS)]).await?;
        let worker = Worker::start(bootstrap, &unique("group"), directory.path(), &models()).await?;
        let stage = Self {
            directory,
            worker,
            events,
            predictions,
            connector: unique("sink"),
        };
        stage.put("tenants/shop", &json!({ "weight": 2 })).await?;
        stage
            .put("stores/households", &json!({ "keyed": { "by": "event.household" } }))
            .await?;
        stage.put("feature-views/purchase", &stage.view()).await?;
        stage.put("models/shop/score", &stage.model("linear.onnx")).await?;
        Ok(stage)
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.worker.bootstrap
    }

    /// Puts a resource.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn put(&self, path: &str, document: &Value) -> Result<Value> {
        self.worker.ok("PUT", path, document).await
    }

    /// `variable` is `a + 10 b + 100 c`; here a is the amount, b what the household spent before, c the number of events.
    pub fn model(&self, file: &str) -> Value {
        json!({
            "artifact": artifact(file),
            "subscribe": { "topics": [self.events], "filter": "event.amount > 0.0" },
            "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
            "output": { "topic": self.predictions, "key": "event.household", "fields": { "score": "variable" } }
        })
    }

    /// The feature view.
    pub fn view(&self) -> Value {
        let households = |function: Value| {
            let mut aggregate = json!({ "by": ["event.household"], "store": "households" });
            if let (Some(all), Value::Object(own)) = (aggregate.as_object_mut(), function) {
                all.extend(own);
            }
            json!({ "aggregate": aggregate })
        };
        json!({
            "source": self.events, "partitioned_by": "event.household", "event_time": "event.time",
            "features": {
                "amount": { "expression": "event.amount" },
                "spent": households(json!({ "function": "sum", "of": "event.amount" })),
                "seen": households(json!({ "function": "count" }))
            }
        })
    }

    /// Starts the connector's task.
    ///
    /// # Errors
    /// None: one that cannot start has failed.
    pub fn task(&self, config: &[(&str, &str)]) -> Result<RunningTask> {
        Ok(self.worker.task(&self.connector, &[&self.events], config))
    }

    /// Stops the worker in this process and starts one of its group as a process, which a scenario may kill: it has the
    /// same resources, and runs the connector.
    ///
    /// # Errors
    /// When it does not start or refuses the connector.
    pub async fn in_a_process(&self, config: &[(&str, &str)]) -> Result<WorkerProcess> {
        self.worker.stop().await;
        let mut worker = WorkerProcess::new(self.bootstrap(), self.worker.group())?;
        worker.set("inference.artifact.allowed.prefixes", &models().display().to_string());
        worker.start().await?;
        self.configure(&worker, config).await?;
        Ok(worker)
    }

    /// Puts the connector's configuration to a worker that is a process.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn configure(&self, worker: &WorkerProcess, config: &[(&str, &str)]) -> Result<()> {
        let config: BTreeMap<_, _> = connector_config(&self.connector, &[&self.events], config)
            .into_iter()
            .collect();
        let path = format!("/connectors/{}/config", self.connector);
        worker.put(&path, &serde_json::to_value(config)?).await?;
        Ok(())
    }

    /// Reads at least `count` of the connector's dead letters, and to the end of their topic.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn dead_letters(&self, count: i64) -> Result<Vec<DeadLetter>> {
        dead_letters(self.bootstrap(), &self.connector, usize::try_from(count)?).await
    }

    /// Sends events.
    ///
    /// # Errors
    /// When the broker does not take them.
    pub fn produce(&self, events: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        produce(self.bootstrap(), &self.events, events)
    }

    /// Reads at least `count` outputs, and to the end of their topic.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn outputs(&self, count: i64) -> Result<Vec<Output>> {
        read(self.bootstrap(), &self.predictions, usize::try_from(count)?).await
    }

    /// The model's status.
    ///
    /// # Errors
    /// When it has none.
    pub async fn status(&self) -> Result<Value> {
        self.worker.ok("GET", "models/shop/score/status", &Value::Null).await
    }

    /// Waits until the model is in that mode.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn wait_for_mode(&self, mode: &str) -> Result<()> {
        self.wait_for_status("mode", &mode.into()).await
    }

    /// Waits until a field of the model's status has that value.
    ///
    /// # Errors
    /// When it does not get it.
    pub async fn wait_for_status(&self, field: &str, value: &Value) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await?;
            if status.get(field) == Some(value) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{field} did not become {value}: {status}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until a condition holds.
///
/// # Errors
/// When it does not within a minute.
pub async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        ensure!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The folder of the models that scenarios use.
pub fn models() -> PathBuf {
    let folder = workspace().join("inference-sink/tests/vectors");
    // A model is allowed by the path that it really has.
    folder.canonicalize().unwrap_or(folder)
}

/// URL of one of the models.
pub fn artifact(file: &str) -> String {
    format!("file://{}/{file}", models().display())
}

/// Key and value of event number `number`: five households, amounts from 1 to 7.
pub fn event(number: i64) -> (String, String) {
    let household = format!("h{}", number % 5);
    let value = json!({ "household": household, "amount": 1 + number % 7, "time": START_MS + number });
    (household, value.to_string())
}

/// The events with these numbers.
pub fn events(numbers: Range<i64>) -> Vec<(String, String)> {
    numbers.map(event).collect()
}

/// What an undisturbed run over these events gives: by household, the scores in order.
pub fn expected(numbers: Range<i64>) -> BTreeMap<String, Vec<f64>> {
    let mut state: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let mut scores: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for number in numbers {
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

/// The scores of outputs, by household in order.
///
/// # Errors
/// When one has no key or no score.
pub fn by_household(outputs: &[Output]) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut scores: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for output in outputs {
        let household = output.key.clone().context("an output without a key")?;
        let score = output.value["score"].as_f64().context("an output without a score")?;
        scores.entry(household).or_default().push(score);
    }
    Ok(scores)
}

/// The outputs without those that came again; how many those were.
///
/// # Errors
/// When one that came again is not what it was.
pub fn distinct(outputs: Vec<Output>) -> Result<(Vec<Output>, usize)> {
    let mut sources = BTreeMap::new();
    let mut kept: Vec<Output> = Vec::new();
    let mut again = 0;
    for output in outputs {
        let source = output.header("millrace.source").to_owned();
        match sources.get(&source).and_then(|at: &usize| kept.get(*at)) {
            Some(first) => {
                ensure!(
                    (&first.key, &first.value) == (&output.key, &output.value),
                    "{source}: first {first:?}, then {output:?}"
                );
                again += 1;
            }
            None => {
                sources.insert(source, kept.len());
                kept.push(output);
            }
        }
    }
    Ok((kept, again))
}

/// Fails unless every output has lineage and none is there twice.
///
/// # Errors
/// The first that is wrong.
pub fn check_lineage(outputs: &[Output]) -> Result<()> {
    let mut sources = BTreeSet::new();
    for output in outputs {
        ensure!(
            output.header("millrace.model").starts_with("shop/score@") && !output.header("millrace.batch").is_empty(),
            "lineage of {output:?}"
        );
        ensure!(
            sources.insert(output.header("millrace.source")),
            "{output:?} came twice"
        );
    }
    Ok(())
}

/// Events that come one after the other for as long as it lives, whatever becomes of the broker.
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<i64>>,
}

impl Stream {
    /// Events sent before any is acknowledged.
    const CHUNK: i64 = 20;
    /// Between two chunks.
    const PACE: Duration = Duration::from_millis(5);

    /// Starts with event number `first`.
    ///
    /// # Errors
    /// When there can be no producer.
    pub fn start(bootstrap: &str, topic: &str, first: i64) -> Result<Self> {
        let producer = Producer::new(&ClientConfig::new(bootstrap), Arc::new(Ignored))?;
        let (topic, stop) = (topic.to_owned(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sent = first;
            while !stopped.load(Ordering::Relaxed) {
                for (key, value) in events(sent..sent + Self::CHUNK) {
                    let record = ProducerRecord {
                        topic: &topic,
                        key: Some(key.as_bytes()),
                        value: Some(value.as_bytes()),
                        ..ProducerRecord::default()
                    };
                    producer.send_waiting(&record, 0, PATIENCE)?;
                }
                producer.flush(PATIENCE)?;
                sent += Self::CHUNK;
                std::thread::sleep(Self::PACE);
            }
            Ok(sent)
        });
        Ok(Self { stop, thread })
    }

    /// Ends it; the number of the next event: all before it have been sent.
    ///
    /// # Errors
    /// When one could not be sent.
    pub fn finish(self) -> Result<i64> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.join();
        sent.unwrap_or_else(|_| Err(anyhow::anyhow!("the stream of events panicked")))
    }
}
