//! `GET /metrics` of a running job on Apache Kafka: every name that is served is listed in docs/METRICS.md and no other, the
//! text is what Prometheus reads, and every number moves as what it counts.
//!
//! `MILLRACE_WRITE_PAGES=1` writes the tables of the page anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Context, Result, ensure};
use kafka_client::{Admin, ClientConfig, NewTopic};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tests::KafkaBroker;
use tests::exposition::Exposition;
use tests::inference::{create_topics, produce, read};
use tests::inference_scenarios::{START_MS, artifact, models};
use tests::process::workspace;
use tests::worker::{PATIENCE, WorkerProcess};

/// Groups of Connect's metrics as JMX has them, and what they are called here: `kafka_connect_`, that, `_`, the attribute.
const GROUPS: [(&str, &str, &[&str]); 6] = [
    (
        "connect-worker-metrics",
        "worker",
        &[
            "connector-count",
            "task-count",
            "connector-startup-attempts-total",
            "connector-startup-success-total",
            "connector-startup-success-percentage",
            "connector-startup-failure-total",
            "connector-startup-failure-percentage",
            "task-startup-attempts-total",
            "task-startup-success-total",
            "task-startup-success-percentage",
            "task-startup-failure-total",
            "task-startup-failure-percentage",
            "connector-total-task-count",
            "connector-running-task-count",
            "connector-paused-task-count",
            "connector-failed-task-count",
            "connector-unassigned-task-count",
            "connector-destroyed-task-count",
            "connector-restarting-task-count",
        ],
    ),
    (
        "connector-task-metrics",
        "connector_task",
        &[
            "status",
            "running-ratio",
            "pause-ratio",
            "offset-commit-max-time-ms",
            "offset-commit-avg-time-ms",
            "batch-size-max",
            "batch-size-avg",
            "offset-commit-failure-percentage",
            "offset-commit-success-percentage",
        ],
    ),
    (
        "connector-metrics",
        "connector",
        &["status", "connector-type", "connector-class", "connector-version"],
    ),
    (
        "source-task-metrics",
        "source_task",
        &[
            "source-record-poll-rate",
            "source-record-poll-total",
            "source-record-write-rate",
            "source-record-write-total",
            "poll-batch-max-time-ms",
            "poll-batch-avg-time-ms",
            "source-record-active-count",
            "source-record-active-count-max",
            "source-record-active-count-avg",
            "transaction-size-min",
            "transaction-size-max",
            "transaction-size-avg",
        ],
    ),
    (
        "sink-task-metrics",
        "sink_task",
        &[
            "sink-record-read-rate",
            "sink-record-read-total",
            "sink-record-send-rate",
            "sink-record-send-total",
            "sink-record-lag-max",
            "partition-count",
            "offset-commit-seq-no",
            "offset-commit-completion-rate",
            "offset-commit-completion-total",
            "offset-commit-skip-rate",
            "offset-commit-skip-total",
            "put-batch-max-time-ms",
            "put-batch-avg-time-ms",
            "sink-record-active-count",
            "sink-record-active-count-max",
            "sink-record-active-count-avg",
        ],
    ),
    (
        "task-error-metrics",
        "task_error",
        &[
            "total-record-failures",
            "total-record-errors",
            "total-records-skipped",
            "total-retries",
            "total-errors-logged",
            "deadletterqueue-produce-requests",
            "deadletterqueue-produce-failures",
            "last-error-timestamp",
        ],
    ),
];
/// Groups of which nothing is served.
const UNSERVED: &str = "connect-worker-rebalance-metrics, connector-transform-metrics, connector-predicate-metrics, \
     connect-coordinator-metrics, connect-metrics, app-info, those of Kafka's own clients, those that plugins register";

/// A name that has to be escaped wherever it stands.
const HOSTILE: &str = "so\"urce\\ {é},=}";
const HOSTILE_PATH: &str = "so%22urce%5C%20%7B%C3%A9%7D,=%7D";
/// Events in order, and what comes with them.
const EVENTS: i64 = 200;
const HOUR_MS: i64 = 3_600_000;
/// Events that lack something, or have too much of it.
const WITHOUT_DUE: i64 = 50;
const WITHOUT_NUMBER: i64 = 51;
const WITHOUT_SHOP: i64 = 52;
const WITH_TEXT: i64 = 53;
/// The topic of the households' state.
const CHANGELOG: &str = "connect-inference-households-changelog";

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_listed_and_moves() -> Result<()> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    let mut job = Job::start(&bootstrap).await?;
    let before = job.metrics().await?;
    for name in ["millrace_inference_events_total", "millrace_inference_commits_total"] {
        assert_eq!(before.value(name, &[])?, 0.0, "{name} before anything has happened");
    }
    job.put_connectors().await?;
    let connectors = job.connectors_count().await?;
    check_workers(&connectors)?;
    check_source(&connectors)?;
    check_sink(&connectors, job.started_ms)?;

    job.put_resources().await?;
    let events = job.run_events().await?;
    check_events(&events)?;
    let expired = job.expire().await?;
    check_expiry(&expired)?;
    let detached = job.detach().await?;
    let all = job.make_catalog_again().await?;
    check_listed(&all, &workspace().join("docs/METRICS.md"))?;
    check_monotonic(&[&before, &connectors, &events, &expired, &detached, &all])?;
    job.lose_the_changelog().await?;

    let code = job.worker.stop()?;
    ensure!(code == 0, "the worker ended with {code}");
    Ok(())
}

struct Job {
    worker: WorkerProcess,
    bootstrap: String,
    started_ms: f64,
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as f64
}

impl Job {
    async fn start(bootstrap: &str) -> Result<Job> {
        let mut worker = WorkerProcess::new(bootstrap, "metrics")?;
        let archive = worker.directory().join("archive");
        for (option, value) in [
            ("offset.flush.interval.ms", "200".to_owned()),
            // A machine that stands still for a while costs no rebalance: tasks that start again count from 0.
            ("session.timeout.ms", "120000".to_owned()),
            (
                "inference.artifact.allowed.prefixes",
                format!("{},{}", models().display(), integer_models()?.display()),
            ),
            ("archive.url", format!("file://{}", archive.display())),
        ] {
            worker.set(option, &value);
        }
        worker.start().await?;
        // A file where a folder should be: nothing can be archived.
        std::fs::remove_dir_all(&archive)?;
        std::fs::write(&archive, "")?;
        Ok(Job {
            worker,
            bootstrap: bootstrap.to_owned(),
            started_ms: now_ms(),
        })
    }

    async fn metrics(&self) -> Result<Exposition> {
        let url = format!("http://{}/metrics", self.worker.id());
        let answer = reqwest::get(url).await?.error_for_status()?;
        let kind = answer.headers().get("content-type").context("no content type")?;
        ensure!(
            kind.to_str()?.starts_with("text/plain; version=0.0.4"),
            "content type {kind:?}"
        );
        Exposition::parse(&answer.text().await?)
    }

    /// The metrics, once numbers are what they should be.
    async fn until(&self, wanted: &[(&str, &[(&str, &str)], f64)]) -> Result<Exposition> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.metrics().await?;
            let open = wanted
                .iter()
                .find(|(name, labels, value)| found.value(name, labels).ok() != Some(*value));
            let Some((name, labels, value)) = open else {
                return Ok(found);
            };
            ensure!(
                Instant::now() < deadline,
                "{name} {labels:?} never became {value}: {:?}",
                found.families.get(*name).map(|family| &family.samples)
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The metrics, once a number has grown so far.
    async fn until_at_least(&self, name: &str, labels: &[(&str, &str)], least: f64) -> Result<Exposition> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.metrics().await?;
            let value = found.value(name, labels)?;
            if value >= least {
                return Ok(found);
            }
            ensure!(
                Instant::now() < deadline,
                "{name} {labels:?} is {value} and not {least}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A source whose name is hostile, one that is paused, a sink that gets records that are none, and one that cannot start.
    async fn put_connectors(&self) -> Result<()> {
        let folder = self.worker.directory();
        std::fs::write(folder.join("lines"), "a line\n".repeat(1000))?;
        create_topics(&self.bootstrap, &[("metrics-lines", 1), ("metrics-values", 1)]).await?;
        let values = (0..23).map(|number| {
            let value = match number % 10 {
                2 => "no JSON".to_owned(),
                _ => json!({ "a": number }).to_string(),
            };
            (String::from("k"), value)
        });
        produce(&self.bootstrap, "metrics-values", values)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let source = json!({ "connector.class": "FileStreamSource", "topic": "metrics-lines", "file": path("lines") });
        let paused = json!({ "connector.class": "FileStreamSource", "topic": "metrics-lines", "file": path("none") });
        let sink = |file: String| {
            json!({
                "connector.class": "FileStreamSink", "topics": "metrics-values", "file": file,
                "errors.tolerance": "all", "errors.log.enable": "true",
                "errors.deadletterqueue.topic.name": "metrics-letters",
                "errors.deadletterqueue.topic.replication.factor": "1",
            })
        };
        for (name, config) in [
            (HOSTILE_PATH, source),
            ("paused", paused),
            ("sink", sink(path("out"))),
            ("broken", sink(path("nowhere/out"))),
        ] {
            self.worker.put(&format!("/connectors/{name}/config"), &config).await?;
        }
        let is = |state: &'static str| move |_, status: &Value| status["tasks"][0]["state"] == state;
        for (name, state) in [
            (HOSTILE_PATH, "RUNNING"),
            ("paused", "RUNNING"),
            ("sink", "RUNNING"),
            ("broken", "FAILED"),
        ] {
            self.worker
                .until(&format!("/connectors/{name}/status"), is(state))
                .await?;
        }
        self.worker.success("PUT", "/connectors/paused/pause", None).await?;
        self.worker.until("/connectors/paused/status", is("PAUSED")).await?;
        Ok(())
    }

    /// The metrics once everything was written, read and committed.
    async fn connectors_count(&self) -> Result<Exposition> {
        const SOURCE: [(&str, &str); 1] = [("connector", HOSTILE)];
        const SINK: [(&str, &str); 1] = [("connector", "sink")];
        self.until(&[
            ("kafka_connect_source_task_source_record_write_total", &SOURCE, 1000.0),
            ("kafka_connect_source_task_source_record_active_count", &SOURCE, 0.0),
            (
                "kafka_connect_connector_task_offset_commit_success_percentage",
                &SOURCE,
                1.0,
            ),
            ("kafka_connect_sink_task_sink_record_read_total", &SINK, 23.0),
            ("kafka_connect_sink_task_sink_record_active_count", &SINK, 0.0),
            (
                "kafka_connect_connector_task_offset_commit_success_percentage",
                &SINK,
                1.0,
            ),
            ("kafka_connect_task_error_deadletterqueue_produce_requests", &SINK, 3.0),
        ])
        .await
    }

    /// The catalog: three rows, one that turns out to be damaged when it is looked up, and a record that is no row.
    async fn write_catalog(&self) -> Result<()> {
        let catalog = NewTopic::new("metrics-catalog", 1, 1).with("cleanup.policy", "compact");
        let admin = Admin::new(&ClientConfig::new(&self.bootstrap))?;
        for (_, created) in admin.create_topics(&[catalog]).await? {
            created?;
        }
        let products = (0..3).map(|number| (format!("p{number}"), json!({ "weight": number }).to_string()));
        let wrong = [("p3", "{\"weight\": }"), ("p4", "none")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        produce(&self.bootstrap, "metrics-catalog", products.chain(wrong))
    }

    async fn put_resources(&self) -> Result<()> {
        create_topics(&self.bootstrap, &[("metrics-events", 2), ("metrics-predictions", 2)]).await?;
        self.write_catalog().await?;

        let aggregate =
            |function: &str| json!({ "function": function, "by": ["event.household"], "store": "households" });
        let mut spent = aggregate("sum");
        spent["of"] = "event.amount".into();
        let model = |file: &str, features: Value, trigger: Value| {
            json!({
                "artifact": artifact(file), "subscribe": { "topics": ["metrics-events"] },
                "inputs": { "features": features }, "trigger": trigger,
                "output": { "topic": "metrics-predictions", "key": "event.household", "fields": { "score": "variable" } }
            })
        };
        let features = json!(["amount", "spent", "seen"]);
        let each = json!({ "each": {} });
        let mut score = model("linear.onnx", features.clone(), each.clone());
        // A feature is computed if a model wants it, here one that is always there and now and then too long to be.
        score["subscribe"]["filter"] = "size(long) >= 0".into();
        let mut hasty = model(
            "linear.onnx",
            features.clone(),
            json!({ "batch": { "max_batch_size": 64, "max_queue_delay": "300ms" } }),
        );
        hasty["deadline"] = "1ms".into();
        let mut failing = model("logarithm.onnx", json!(["below_zero"]), each.clone());
        failing["on_error"] = json!({ "open_after": 1_000_000, "within": "1m", "retry_after": "1h" });
        let window = |by: Value| json!({ "window": { "tumbling": "1m", "grace": "10s", "by": by } });
        let lacking = model("linear.onnx", json!(["extra_weight", "spent", "seen"]), each.clone());
        let mut numbers = model("linear.onnx", Value::Null, each.clone());
        numbers["artifact"] = format!("file://{}/int_out.onnx", integer_models()?.display()).into();
        numbers["inputs"] = json!({ "pid": ["number"] });
        numbers["output"]["fields"] = json!({ "next": "next_id" });
        let due = model(
            "linear.onnx",
            json!(["due_amount", "due_amount", "due_amount"]),
            each.clone(),
        );
        for (path, document) in [
            ("tenants/shop", json!({ "weight": 2 })),
            (
                "tenants/over",
                json!({ "rate": { "events_per_second": 0.5, "burst": 20, "over": "shed" } }),
            ),
            ("stores/products", json!({ "global": { "topic": "metrics-catalog" } })),
            ("stores/absent", json!({ "global": { "topic": "metrics-absent" } })),
            (
                "stores/households",
                json!({ "keyed": { "by": "event.household" }, "ttl": { "after": "1h" }, "archive": true }),
            ),
            (
                "feature-views/purchase",
                json!({
                    "source": "metrics-events", "partitioned_by": "event.household", "event_time": "event.time",
                    "features": {
                        "product": { "lookup": { "store": "products", "key": "event.product" } },
                        "amount": { "expression": "event.amount + product.weight" },
                        "below_zero": { "expression": "0.0 - event.amount" },
                        "spent": { "aggregate": spent }, "seen": { "aggregate": aggregate("count") },
                        "extra": { "lookup": { "store": "products", "key": "event.extra" } },
                        "extra_weight": { "expression": "extra.weight", "default": 0 },
                        "number": { "expression": "event.number" },
                        "long": { "expression": "event.text + event.text", "default": "" }
                    }
                }),
            ),
            (
                "feature-views/due",
                json!({
                    "source": "metrics-events", "event_time": "event.due",
                    "features": { "due_amount": { "expression": "event.amount" } }
                }),
            ),
            ("models/shop/score", score),
            ("models/shop/hasty", hasty),
            ("models/shop/failing", failing),
            (
                "models/shop/window",
                model("linear.onnx", features.clone(), window(json!("event.household"))),
            ),
            (
                "models/shop/keyless",
                model(
                    "linear.onnx",
                    features.clone(),
                    window(json!(["event.household", "event.shop"])),
                ),
            ),
            ("models/shop/lacking", lacking),
            ("models/shop/numbers", numbers),
            ("models/shop/due", due),
            ("models/over/score", model("linear.onnx", features, each)),
        ] {
            self.worker.put(&format!("/inference/{path}"), &document).await?;
        }
        let inference = json!({
            "connector.class": "millrace.InferenceSink", "topics": "metrics-events",
            "inference.commit.interval.ms": "1000", "inference.idle.after.ms": "3600000",
            "errors.tolerance": "all", "errors.deadletterqueue.topic.name": "metrics-unreadable",
            "errors.deadletterqueue.topic.replication.factor": "1",
        });
        self.worker.put("/connectors/inference/config", &inference).await?;
        let running = |_, status: &Value| status["tasks"][0]["state"] == "RUNNING";
        self.worker.until("/connectors/inference/status", running).await?;
        Ok(())
    }

    /// Sends events of the five households at that time.
    fn send(&self, numbers: std::ops::Range<i64>, time_ms: i64) -> Result<()> {
        let events = numbers.map(|number| event(number, time_ms));
        produce(
            &self.bootstrap,
            "metrics-events",
            events.map(|event| {
                (
                    event["household"].as_str().unwrap_or_default().to_owned(),
                    event.to_string(),
                )
            }),
        )
    }

    /// Events that lack something here and there, and two records that are none.
    async fn run_events(&self) -> Result<Exposition> {
        let events = (0..EVENTS).map(|number| {
            let mut event = event(number, START_MS);
            match number % 4 {
                0 => event["extra"] = "p1".into(),
                1 => event["extra"] = "nowhere".into(),
                2 => event["extra"] = "p3".into(),
                _ => {}
            }
            match number {
                WITHOUT_DUE => event["due"] = Value::Null,
                WITHOUT_NUMBER => event["number"] = Value::Null,
                WITHOUT_SHOP => event["shop"] = Value::Null,
                WITH_TEXT => event["text"] = "x".repeat(600_000).into(),
                _ => {}
            }
            (
                event["household"].as_str().unwrap_or_default().to_owned(),
                event.to_string(),
            )
        });
        produce(&self.bootstrap, "metrics-events", events)?;
        let unreadable = ["{", "no JSON"].map(|value| ("h0".to_owned(), value.to_owned()));
        produce(&self.bootstrap, "metrics-events", unreadable)?;
        let count = EVENTS as f64;
        let model = |name: &'static str| [("model", name)];
        let (score, hasty, failing) = (model("shop/score"), model("shop/hasty"), model("shop/failing"));
        let (numbers, due) = (model("shop/numbers"), model("shop/due"));
        // What is committed is changelogged, and what is changelogged is counted.
        self.until(&[
            ("millrace_inference_events_total", &[], count + 2.0),
            ("millrace_inference_predictions_total", &score, count),
            ("millrace_inference_predictions_total", &hasty, count),
            ("millrace_inference_model_errors_total", &failing, count),
            ("millrace_inference_predictions_total", &numbers, count - 1.0),
            ("millrace_inference_predictions_total", &due, count - 1.0),
            (
                "kafka_connect_sink_task_sink_record_active_count",
                &[("connector", "inference")],
                0.0,
            ),
            ("millrace_inference_store_rows", &[("store", "products")], 4.0),
            ("millrace_inference_view_events_total", &[("view", "purchase")], count),
            ("millrace_inference_store_rows", &[("store", "households")], 5.0),
            (
                "kafka_connect_task_error_deadletterqueue_produce_requests",
                &[("connector", "inference")],
                3.0,
            ),
        ])
        .await
    }

    /// Two hours later every household comes once more: what was known of it has expired, and waits for its archive, which can
    /// be written only then. An event of five minutes before is too late for its window.
    async fn expire(&self) -> Result<Exposition> {
        self.send(EVENTS..EVENTS + 5, START_MS + 2 * HOUR_MS)?;
        let deadline = Instant::now() + PATIENCE;
        let waiting = loop {
            let found = self.metrics().await?;
            let family = &found.families["millrace_inference_archive_waiting"];
            if family.samples.values().any(|attempts| *attempts >= 1.0) {
                break found;
            }
            ensure!(Instant::now() < deadline, "nothing waits for the archive: {family:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let labels = waiting.labels("millrace_inference_archive_waiting")?.unwrap();
        assert_eq!(Vec::from_iter(labels), ["connector", "partition", "store"]);
        assert_eq!(waiting.value("millrace_inference_archived_total", &[])?, 0.0);
        let archive = self.worker.directory().join("archive");
        std::fs::remove_file(&archive)?;
        std::fs::create_dir(&archive)?;
        self.send(EVENTS + 5..EVENTS + 6, START_MS + 2 * HOUR_MS - 5 * 60_000)?;
        let found = self
            .until(&[
                ("millrace_inference_expired_total", &[], 5.0),
                ("millrace_inference_archived_total", &[], 5.0),
                (
                    "millrace_inference_shed_total",
                    &[("tenant", "shop"), ("reason", "late")],
                    // for each of its two models with windows
                    2.0,
                ),
            ])
            .await?;
        let still = &found.families["millrace_inference_archive_waiting"].samples;
        assert!(still.values().all(|attempts| *attempts == 0.0), "{still:?}");
        Ok(found)
    }

    /// A paused model's rows wait in the feature log, and are read from there.
    async fn detach(&self) -> Result<Exposition> {
        const SCORE: [(&str, &str); 1] = [("model", "shop/score")];
        let model = "/inference/models/shop/score";
        self.worker.success("POST", &format!("{model}/pause"), None).await?;
        self.until(&[("millrace_inference_detached_partitions", &SCORE, 2.0)])
            .await?;
        self.send(EVENTS + 6..EVENTS + 56, START_MS + 2 * HOUR_MS)?;
        read(&self.bootstrap, "connect-inference-features", 50).await?;
        self.until_at_least("millrace_inference_detached_lag_rows", &SCORE, 50.0)
            .await?;
        self.worker.success("POST", &format!("{model}/resume"), None).await?;
        self.until(&[
            ("millrace_inference_detached_rows_total", &SCORE, 50.0),
            ("millrace_inference_predictions_total", &SCORE, (EVENTS + 56) as f64),
            ("millrace_inference_detached_lag_rows", &SCORE, 0.0),
            ("millrace_inference_detached_partitions", &SCORE, 0.0),
            ("millrace_inference_commits_aborted_total", &[], 0.0),
        ])
        .await
    }

    /// The catalog's topic is made again: the global store is read from it anew. Another's topic is there at last.
    async fn make_catalog_again(&self) -> Result<Exposition> {
        let admin = Admin::new(&ClientConfig::new(&self.bootstrap))?;
        for (_, deleted) in admin.delete_topics(&["metrics-catalog".to_owned()]).await? {
            deleted?;
        }
        let deadline = Instant::now() + PATIENCE;
        // Until it is deleted the name is taken.
        while let Err(error) = self.write_catalog().await {
            ensure!(Instant::now() < deadline, "{error:?}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        create_topics(&self.bootstrap, &[("metrics-absent", 1)]).await?;
        self.until(&[
            ("millrace_inference_store_rebuilds_total", &[("store", "products")], 1.0),
            ("millrace_inference_store_ready", &[("store", "products")], 1.0),
            ("millrace_inference_store_ready", &[("store", "absent")], 1.0),
            ("millrace_inference_store_rebuilds_total", &[("store", "absent")], 0.0),
        ])
        .await
    }

    /// The changelog of the state is lost while the worker is away: both partitions' copies are made anew.
    async fn lose_the_changelog(&mut self) -> Result<()> {
        let code = self.worker.stop()?;
        ensure!(code == 0, "the worker ended with {code}");
        let admin = Admin::new(&ClientConfig::new(&self.bootstrap))?;
        for (_, deleted) in admin.delete_topics(&[CHANGELOG.to_owned()]).await? {
            deleted?;
        }
        self.worker.start().await?;
        self.until(&[(
            "millrace_inference_store_rebuilds_total",
            &[("store", "households")],
            2.0,
        )])
        .await?;
        Ok(())
    }
}

/// The event with that number.
fn event(number: i64, time_ms: i64) -> Value {
    json!({
        "household": format!("h{}", number % 5), "amount": 1 + number % 7, "product": format!("p{}", number % 3),
        "time": time_ms + number, "due": time_ms + number, "number": number, "shop": "s",
    })
}

/// The folder of models whose tensors are of integers.
fn integer_models() -> Result<PathBuf> {
    Ok(workspace().join("tests/tests/cases/data/67-int64-ids").canonicalize()?)
}

/// What the worker says of its connectors and tasks.
fn check_workers(found: &Exposition) -> Result<()> {
    for (metric, value) in [
        ("connector_count", 4.0),
        ("task_count", 4.0),
        ("connector_startup_attempts_total", 4.0),
        ("connector_startup_success_total", 4.0),
        ("connector_startup_failure_total", 0.0),
        ("connector_startup_success_percentage", 1.0),
        ("connector_startup_failure_percentage", 0.0),
        ("task_startup_attempts_total", 4.0),
        ("task_startup_success_total", 3.0),
        ("task_startup_failure_total", 1.0),
        ("task_startup_success_percentage", 0.75),
        ("task_startup_failure_percentage", 0.25),
    ] {
        assert_eq!(
            found.value(&format!("kafka_connect_worker_{metric}"), &[])?,
            value,
            "{metric}"
        );
    }
    for (connector, state, of_connector) in [
        (HOSTILE, "running", "running"),
        ("paused", "paused", "paused"),
        ("sink", "running", "running"),
        ("broken", "failed", "running"),
    ] {
        let labels = |status| [("connector", connector), ("status", status)];
        assert_eq!(
            found.value("kafka_connect_connector_status", &labels(of_connector))?,
            1.0,
            "{connector}"
        );
        assert_eq!(
            found.value("kafka_connect_connector_task_status", &labels(state))?,
            1.0,
            "{connector}"
        );
        for counted in ["total", "running", "paused", "failed", "unassigned", "restarting"] {
            let name = format!("kafka_connect_worker_connector_{counted}_task_count");
            let expected = f64::from(u8::from(counted == "total" || counted == state));
            assert_eq!(
                found.value(&name, &[("connector", connector)])?,
                expected,
                "{name} of {connector}"
            );
        }
    }
    Ok(())
}

/// The average and the longest of something that has happened.
fn check_times(found: &Exposition, prefix: &str, connector: &str) -> Result<()> {
    let labels = [("connector", connector)];
    let average = found.value(&format!("{prefix}_avg_time_ms"), &labels)?;
    let longest = found.value(&format!("{prefix}_max_time_ms"), &labels)?;
    assert!(
        average > 0.0 && average <= longest,
        "{prefix} of {connector}: {average}, {longest}"
    );
    Ok(())
}

fn check_source(found: &Exposition) -> Result<()> {
    let labels = [("connector", HOSTILE)];
    let polled = found.value("kafka_connect_source_task_source_record_poll_total", &labels)?;
    assert_eq!(polled, 1000.0);
    check_times(found, "kafka_connect_source_task_poll_batch", HOSTILE)?;
    check_times(found, "kafka_connect_connector_task_offset_commit", HOSTILE)?;
    let failed = found.value("kafka_connect_connector_task_offset_commit_failure_percentage", &labels)?;
    assert_eq!(failed, 0.0);
    for (name, family) in &found.families {
        if name.starts_with("kafka_connect_task_error_") {
            let own = family.samples.iter().find(|(own, _)| own["connector"] == HOSTILE);
            assert_eq!(own.map(|(_, value)| *value), Some(0.0), "{name}");
        }
    }
    Ok(())
}

fn check_sink(found: &Exposition, started_ms: f64) -> Result<()> {
    let labels = [("connector", "sink")];
    for (metric, value) in [
        ("sink_task_sink_record_send_total", 20.0),
        ("sink_task_partition_count", 1.0),
        ("task_error_total_record_failures", 3.0),
        ("task_error_total_record_errors", 3.0),
        ("task_error_total_records_skipped", 3.0),
        ("task_error_total_retries", 0.0),
        ("task_error_total_errors_logged", 3.0),
        ("task_error_deadletterqueue_produce_failures", 0.0),
        ("connector_task_offset_commit_failure_percentage", 0.0),
    ] {
        let name = format!("kafka_connect_{metric}");
        assert_eq!(found.value(&name, &labels)?, value, "{name}");
    }
    let last_error = found.value("kafka_connect_task_error_last_error_timestamp", &labels)?;
    assert!(
        (started_ms..=now_ms()).contains(&last_error),
        "{last_error} after {started_ms}"
    );
    let commits = found.value("kafka_connect_sink_task_offset_commit_completion_total", &labels)?;
    let number = found.value("kafka_connect_sink_task_offset_commit_seq_no", &labels)?;
    assert!(commits >= 1.0 && number == commits, "commit {number} of {commits}");
    check_times(found, "kafka_connect_sink_task_put_batch", "sink")?;
    check_times(found, "kafka_connect_connector_task_offset_commit", "sink")
}

fn check_events(found: &Exposition) -> Result<()> {
    let inference = [("connector", "inference")];
    for (name, value) in [
        ("kafka_connect_sink_task_sink_record_read_total", EVENTS as f64 + 2.0),
        ("kafka_connect_sink_task_sink_record_send_total", EVENTS as f64 + 2.0),
        ("kafka_connect_sink_task_partition_count", 2.0),
        ("kafka_connect_task_error_total_record_failures", 3.0),
        ("kafka_connect_task_error_total_records_skipped", 3.0),
        ("kafka_connect_connector_task_offset_commit_success_percentage", 1.0),
    ] {
        assert_eq!(found.value(name, &inference)?, value, "{name}");
    }
    check_times(found, "kafka_connect_sink_task_put_batch", "inference")?;
    let number = found.value("kafka_connect_sink_task_offset_commit_seq_no", &inference)?;
    let commits = found.value("kafka_connect_sink_task_offset_commit_completion_total", &inference)?;
    assert!(number >= 1.0 && number == commits, "commit {number} of {commits}");

    let single = |name: &str| found.value(&format!("millrace_inference_{name}"), &[]);
    assert_eq!(single("dead_letters_total")?, 2.0);
    assert_eq!(single("commits_aborted_total")?, 0.0);
    assert_eq!(single("tasks_waiting_for_kafka")?, 0.0);
    assert!(single("commits_total")? >= 1.0);
    // Five households, each of them in every commit at most; the one under way has counted its changes already.
    let changes = single("state_changes_total")?;
    assert!(
        (5.0..=5.0 * (single("commits_total")? + 1.0)).contains(&changes),
        "{changes} changes of state"
    );
    let fairness = single("fairness_index")?;
    assert!(fairness > 0.0 && fairness <= 1.0, "{fairness}");
    for stage in ["match_and_features", "commit", "drain"] {
        let seconds = found.value("millrace_inference_stage_seconds_total", &[("stage", stage)])?;
        assert!(seconds > 0.0, "{stage}: {seconds} s");
    }
    check_models(found)?;
    check_views(found)?;
    check_stores(found)?;
    let over = |name: &str, labels: &[(&str, &str)]| found.value(&format!("millrace_inference_{name}"), labels);
    let predicted = over("predictions_total", &[("model", "over/score")])?;
    let shed = over("shed_total", &[("tenant", "over"), ("reason", "rate")])?;
    assert_eq!(predicted + shed, EVENTS as f64);
    assert!((20.0..=60.0).contains(&predicted), "{predicted} are within the rate");
    Ok(())
}

/// What became of features, of which a quarter of the events lack one, a quarter another.
fn check_views(found: &Exposition) -> Result<()> {
    let count = EVENTS as f64;
    for (name, labels, value) in [
        ("events_total", vec![("view", "purchase")], count),
        ("events_total", vec![("view", "due")], count - 1.0),
        ("events_failed_total", vec![("view", "purchase")], 0.0),
        ("events_failed_total", vec![("view", "due")], 1.0),
        ("lookups_missed_total", vec![("view", "purchase")], count / 2.0),
        ("texts_refused_total", vec![("view", "purchase")], 1.0),
        ("texts_refused_total", vec![("view", "due")], 0.0),
        ("features_missing_total", vec![("feature", "number")], 1.0),
        (
            "features_missing_total",
            vec![("feature", "extra_weight")],
            0.75 * count,
        ),
        (
            "feature_defaults_used_total",
            vec![("feature", "extra_weight")],
            0.75 * count,
        ),
        ("feature_lookups_total", vec![("feature", "product")], count),
        ("feature_lookups_total", vec![("feature", "extra")], 0.75 * count),
        ("feature_lookups_missed_total", vec![("feature", "product")], 0.0),
        ("feature_lookups_missed_total", vec![("feature", "extra")], count / 2.0),
        (
            "feature_lookups_without_key_total",
            vec![("feature", "product"), ("store", "products")],
            0.0,
        ),
        (
            "feature_lookups_without_key_total",
            vec![("feature", "extra"), ("store", "products")],
            count / 4.0,
        ),
    ] {
        let name = format!("millrace_inference_view_{name}");
        assert_eq!(found.value(&name, &labels)?, value, "{name} {labels:?}");
    }
    for (name, model, value) in [
        ("model_input_errors_total", "shop/numbers", 1.0),
        ("model_input_errors_total", "shop/score", 0.0),
        ("model_events_unusable_total", "shop/due", 1.0),
        ("model_events_unusable_total", "shop/keyless", 1.0),
        ("model_events_unusable_total", "shop/window", 0.0),
    ] {
        let name = format!("millrace_inference_{name}");
        assert_eq!(found.value(&name, &[("model", model)])?, value, "{name} of {model}");
    }
    let keyless = [("tenant", "shop"), ("reason", "no_window_key")];
    assert_eq!(found.value("millrace_inference_shed_total", &keyless)?, 1.0);
    Ok(())
}

fn check_stores(found: &Exposition) -> Result<()> {
    for (name, store, value) in [
        ("ready", "products", 1.0),
        ("ready", "absent", 0.0),
        ("lag", "products", 0.0),
        // One row, which is then known to be none until its record changes.
        ("rows_undecodable_total", "products", 1.0),
        ("rows_undecodable_total", "absent", 0.0),
        ("rebuilds_total", "products", 0.0),
        ("rebuilds_total", "households", 0.0),
    ] {
        let name = format!("millrace_inference_store_{name}");
        assert_eq!(found.value(&name, &[("store", store)])?, value, "{name} of {store}");
    }
    let rejected = [("store", "products"), ("reason", "value")];
    assert_eq!(
        found.value("millrace_inference_store_records_rejected_total", &rejected)?,
        1.0
    );
    Ok(())
}

fn check_models(found: &Exposition) -> Result<()> {
    let of = |name: &str, model: &str| found.value(&format!("millrace_inference_{name}"), &[("model", model)]);
    for model in ["shop/score", "shop/hasty", "over/score"] {
        assert_eq!(of("model_errors_total", model)?, 0.0, "{model}");
        let latency = |quantile| {
            let labels = [("model", model), ("quantile", quantile)];
            found.value("millrace_inference_latency_seconds", &labels)
        };
        let (median, most) = (latency("0.5")?, latency("0.99")?);
        assert!(median > 0.0 && median <= most, "{model}: {median} s, {most} s");
    }
    assert_eq!(of("predictions_total", "shop/failing")?, 0.0);
    assert_eq!(of("deadlines_missed_total", "shop/score")?, 0.0);
    // A batch of it waits for up to 300 ms.
    let missed = of("deadlines_missed_total", "shop/hasty")?;
    assert!(
        (1.0..=EVENTS as f64).contains(&missed),
        "{missed} deadlines were missed"
    );
    let latency = found.value(
        "millrace_inference_latency_seconds",
        &[("model", "shop/hasty"), ("quantile", "0.99")],
    )?;
    assert!(latency > 0.001, "{latency} s beyond a deadline of 1 ms");
    // A tenant's CPU is that of its models.
    let mut of_models: BTreeMap<&str, f64> = BTreeMap::new();
    for (labels, seconds) in &found.families["millrace_inference_model_cpu_seconds_total"].samples {
        *of_models.entry(&labels["tenant"]).or_default() += seconds;
    }
    for (tenant, seconds) in of_models {
        let own = found.value("millrace_inference_tenant_cpu_seconds_total", &[("tenant", tenant)])?;
        assert!(
            own > 0.0 && (own - seconds).abs() <= 1e-5,
            "{tenant}: {own} s, its models {seconds} s"
        );
    }
    Ok(())
}

fn check_expiry(found: &Exposition) -> Result<()> {
    // Windows of the first events are over: one of each household.
    let windows = found.value("millrace_inference_predictions_total", &[("model", "shop/window")])?;
    assert_eq!(windows, 5.0);
    Ok(())
}

/// Counters never fall.
fn check_monotonic(readings: &[&Exposition]) -> Result<()> {
    for pair in readings.windows(2) {
        for (name, family) in pair[0].families.iter().filter(|(_, family)| family.kind == "counter") {
            for (labels, before) in &family.samples {
                let after = pair[1].families.get(name).and_then(|later| later.samples.get(labels));
                let after = after.with_context(|| format!("{name} {labels:?} has gone"))?;
                ensure!(after >= before, "{name} {labels:?} fell from {before} to {after}");
            }
        }
    }
    Ok(())
}

/// The tables of the page are those of the answer: a name that is gone, or new, or has other labels is told.
fn check_listed(found: &Exposition, page: &Path) -> Result<()> {
    let mut connect = vec![
        "| Name | Type | Labels | Meaning | JMX attribute |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    let mut own = vec![
        "| Name | Type | Labels | Meaning |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    let mut served: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (name, family) in &found.families {
        let labels = found.labels(name)?.unwrap_or_else(|| match name.as_str() {
            // There is none while nothing waits; it was looked at while something did.
            "millrace_inference_archive_waiting" => ["connector", "partition", "store"].map(str::to_owned).into(),
            _ => panic!("{name} has no sample"),
        });
        let labels = Vec::from_iter(labels).join(", ");
        let row = format!("| `{name}` | {} | {labels} | {} |", family.kind, family.help);
        ensure!(
            family.kind != "gauge" || !name.ends_with("_total"),
            "{name} is no counter"
        );
        match name.strip_prefix("kafka_connect_") {
            None => own.push(row),
            Some(rest) => {
                let (group, attribute) = jmx(rest).with_context(|| format!("{name} is none of Connect's"))?;
                served.insert((group, attribute));
                connect.push(format!("{row} `{group}` {attribute} |"));
            }
        }
    }
    let mut missing: Vec<String> = GROUPS
        .iter()
        .filter_map(|(group, _, attributes)| {
            let absent = attributes
                .iter()
                .filter(|attribute| !served.contains(&(group, attribute)));
            let absent: Vec<&str> = absent.copied().collect();
            (!absent.is_empty()).then(|| format!("- `{group}`: {}", absent.join(", ")))
        })
        .collect();
    missing.push(format!("- whole groups: {UNSERVED}"));
    compare(
        page,
        &[("connect", connect), ("inference", own), ("not served", missing)],
    )
}

/// Group and attribute of a name without `kafka_connect_`.
fn jmx(name: &str) -> Option<(&'static str, &'static str)> {
    GROUPS.iter().find_map(|(group, prefix, attributes)| {
        let attribute = name.strip_prefix(prefix)?.strip_prefix('_')?.replace('_', "-");
        let known = attributes.iter().find(|known| **known == attribute)?;
        Some((*group, *known))
    })
}

/// The lines between `<!-- NAME -->` and `<!-- end -->` are these.
fn compare(page: &Path, sections: &[(&str, Vec<String>)]) -> Result<()> {
    let before = std::fs::read_to_string(page).with_context(|| format!("read {}", page.display()))?;
    let mut text = before.clone();
    for (name, lines) in sections {
        let begin = format!("<!-- {name} -->\n");
        let start = text.find(&begin).with_context(|| format!("no {begin:?}"))? + begin.len();
        let end = start + text[start..].find("<!-- end -->").context("a section without an end")?;
        text.replace_range(start..end, &format!("{}\n", lines.join("\n")));
    }
    if text == before {
        return Ok(());
    }
    if std::env::var_os("MILLRACE_WRITE_PAGES").is_some() {
        return Ok(std::fs::write(page, text)?);
    }
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), text.lines().collect());
    anyhow::bail!(
        "{} is not what the worker serves; MILLRACE_WRITE_PAGES=1 writes it anew.\nonly in the page: {:#?}\nonly served: {:#?}",
        page.display(),
        old.difference(&new).collect::<Vec<_>>(),
        new.difference(&old).collect::<Vec<_>>()
    )
}
