//! Two workers in one group, on Apache Kafka: they share connectors and tasks, a follower has its leader do what only
//! the leader may, and when one stops, dies or freezes the other carries on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

use kafka_client::{Admin, IsolationLevel, LogRecord, NewTopic};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::inference::produce;
use tests::inference_scenarios::models;
use tests::kafka::KafkaBroker;
use tests::worker_process::WorkerProcess;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(90);

fn properties(broker: &KafkaBroker, group: &str) -> Vec<(&'static str, String)> {
    let storage = |topic: &str| format!("{group}-{topic}");
    vec![
        ("bootstrap.servers", broker.bootstrap()),
        ("group.id", group.to_owned()),
        (
            "key.converter",
            "org.apache.kafka.connect.storage.StringConverter".to_owned(),
        ),
        (
            "value.converter",
            "org.apache.kafka.connect.storage.StringConverter".to_owned(),
        ),
        ("config.storage.topic", storage("configs")),
        ("offset.storage.topic", storage("offsets")),
        ("status.storage.topic", storage("status")),
        ("config.storage.replication.factor", "1".to_owned()),
        ("offset.storage.replication.factor", "1".to_owned()),
        ("status.storage.replication.factor", "1".to_owned()),
        ("offset.storage.partitions", "2".to_owned()),
        ("status.storage.partitions", "2".to_owned()),
        ("offset.flush.interval.ms", "200".to_owned()),
        // the shortest session that a broker allows by default
        ("session.timeout.ms", "6000".to_owned()),
        ("heartbeat.interval.ms", "500".to_owned()),
        ("inference.registry.replication.factor", "1".to_owned()),
        ("inference.artifact.allowed.prefixes", models().display().to_string()),
    ]
}

async fn send(worker: &WorkerProcess, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = reqwest::Client::new().request(method, format!("{}{path}", worker.url));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request
        .send()
        .await
        .unwrap_or_else(|error| panic!("{path}: {error}\n{}", worker.log_tail()));
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn ok(worker: &WorkerProcess, method: &str, path: &str, body: Option<Value>) -> Value {
    let (status, body) = send(worker, method, path, body).await;
    assert!(
        (200..300).contains(&status),
        "{method} {path}: {status} {body}\n{}",
        worker.log_tail()
    );
    body
}

async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Result<T, String>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match condition().await {
            Ok(found) => return found,
            Err(found) => assert!(Instant::now() < give_up, "{what}: not in {PATIENCE:?}: {found}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where connectors and tasks run, as `worker` sees it: `NAME` and `NAME-N` to `worker_id`, for those that are RUNNING.
async fn running(worker: &WorkerProcess) -> BTreeMap<String, String> {
    let all = ok(worker, "GET", "/connectors?expand=status", None).await;
    let mut places = BTreeMap::new();
    for (name, connector) in all.as_object().unwrap() {
        let status = &connector["status"];
        let mut place = |what: String, status: &Value| {
            if status["state"] == "RUNNING" {
                places.insert(what, status["worker_id"].as_str().unwrap().to_owned());
            }
        };
        place(name.clone(), &status["connector"]);
        for task in status["tasks"].as_array().into_iter().flatten() {
            place(format!("{name}-{}", task["id"]), task);
        }
    }
    places
}

/// Waits until everything of `wanted`, and nothing else, runs on exactly these workers.
async fn until_shared(
    seen_by: &WorkerProcess,
    wanted: &[&str],
    workers: &[&WorkerProcess],
) -> BTreeMap<String, String> {
    let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
    let ids: BTreeSet<&str> = workers.iter().map(|worker| worker.id()).collect();
    eventually("everything runs", async || {
        let places = running(seen_by).await;
        let what: BTreeSet<&str> = places.keys().map(String::as_str).collect();
        let at: BTreeSet<&str> = places.values().map(String::as_str).collect();
        if what == wanted && at == ids {
            Ok(places)
        } else {
            Err(format!("{places:?}, wanted on {ids:?}"))
        }
    })
    .await
}

fn source(name: &str, file: &Path, topic: &str) -> Value {
    json!({
        "name": name,
        "config": { "connector.class": "FileStreamSource", "tasks.max": 1, "file": file.to_str().unwrap(), "topic": topic },
    })
}

fn append(file: &Path, lines: std::ops::Range<u32>) {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    for line in lines {
        writeln!(file, "line {line}").unwrap();
    }
}

/// Waits until each of the lines is in the topic, at least once.
async fn until_lines(broker: &KafkaBroker, topic: &str, lines: std::ops::Range<u32>) {
    let wanted: BTreeSet<String> = lines.map(|line| format!("line {line}")).collect();
    eventually("every line is in the topic", async || {
        let records = broker
            .dump(topic, IsolationLevel::ReadUncommitted)
            .await
            .map_err(|error| error.to_string())?;
        let found: BTreeSet<String> = records.iter().map(text_of).collect();
        let missing: Vec<&String> = wanted.difference(&found).take(3).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?} and perhaps more are missing"))
        }
    })
    .await;
}

fn text_of(record: &LogRecord) -> String {
    String::from_utf8(record.value.as_deref().unwrap_or_default().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_shared_and_any_worker_takes_any_request() {
    let broker = KafkaBroker::shared().await.unwrap();
    let properties = properties(broker, "share");
    let folder = tempfile::tempdir().unwrap();
    let first = WorkerProcess::start(&properties).await.unwrap();
    ok(&first, "GET", "/health", None).await;
    let second = WorkerProcess::start(&properties).await.unwrap();
    ok(&second, "GET", "/health", None).await;

    // posted to the one that joined last: a follower
    for name in ["one", "two", "three"] {
        let file = folder.path().join(name);
        append(&file, 0..3);
        let (status, created) = send(&second, "POST", "/connectors", Some(source(name, &file, "share-lines"))).await;
        assert_eq!(
            (status, &created["name"]),
            (201, &json!(name)),
            "{created}\n{}",
            second.log_tail()
        );
    }
    let all = ["one", "one-0", "two", "two-0", "three", "three-0"];
    let places = until_shared(&first, &all, &[&first, &second]).await;
    let of_first = places.values().filter(|id| *id == first.id()).count();
    assert_eq!(of_first, 3, "shared evenly: {places:?}");
    eventually("both say the same", async || {
        let (one, other) = (running(&first).await, running(&second).await);
        if one == other {
            Ok(())
        } else {
            Err(format!("{one:?} {other:?}"))
        }
    })
    .await;
    until_lines(broker, "share-lines", 0..3).await;

    // both refuse the same, in the same words
    for worker in [&first, &second] {
        let again = source("one", &folder.path().join("one"), "share-lines");
        let (status, refused) = send(worker, "POST", "/connectors", Some(again)).await;
        assert_eq!(
            (status, refused["message"].as_str()),
            (409, Some("Connector one already exists"))
        );
        let (status, unknown) = send(worker, "POST", "/connectors/nobody/restart", None).await;
        assert_eq!(
            (status, unknown["message"].as_str()),
            (404, Some("Unknown connector: nobody"))
        );
        let (status, unknown) = send(worker, "DELETE", "/connectors/nobody", None).await;
        assert_eq!(
            (status, unknown["message"].as_str()),
            (404, Some("Connector nobody not found"))
        );
    }
    // whoever owns it: the request finds its way
    for worker in [&first, &second] {
        for name in ["one", "two", "three"] {
            assert_eq!(
                send(worker, "POST", &format!("/connectors/{name}/restart"), None)
                    .await
                    .0,
                204
            );
            assert_eq!(
                send(worker, "POST", &format!("/connectors/{name}/tasks/0/restart"), None)
                    .await
                    .0,
                204
            );
            let path = format!("/connectors/{name}/restart?includeTasks=true");
            let (status, restarting) = send(worker, "POST", &path, None).await;
            assert_eq!(
                (status, &restarting["connector"]["state"]),
                (202, &json!("RESTARTING")),
                "{restarting}"
            );
            until_shared(&first, &all, &[&first, &second]).await;
        }
    }
    // a request that has been sent on twice already is not sent on again
    let mut refused = 0;
    for worker in [&first, &second] {
        let (status, answer) = send(worker, "POST", "/connectors/one/restart?forward=false", None).await;
        if status == 409 {
            refused += 1;
            assert_eq!(
                answer["message"],
                "Cannot complete request because of a conflicting operation (e.g. worker rebalance)"
            );
        }
    }
    assert_eq!(refused, 1, "one of the two runs it");

    let patched = ok(
        &second,
        "PATCH",
        "/connectors/one/config",
        Some(json!({"batch.size": "7"})),
    )
    .await;
    assert_eq!(patched["config"]["batch.size"], "7");
    for worker in [&first, &second] {
        eventually("the change is everywhere", async || {
            let tasks = ok(worker, "GET", "/connectors/one/tasks", None).await;
            if tasks[0]["config"]["batch.size"] == "7" {
                Ok(())
            } else {
                Err(tasks.to_string())
            }
        })
        .await;
    }
    until_shared(&second, &all, &[&first, &second]).await;
    for worker in [&first, &second] {
        assert_eq!(send(worker, "PUT", "/connectors/two/stop", None).await.0, 204);
        eventually("stopped", async || {
            let status = ok(worker, "GET", "/connectors/two/status", None).await;
            if status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([]) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
        let reset = ok(worker, "DELETE", "/connectors/two/offsets", None).await;
        assert!(reset["message"].as_str().unwrap().contains("reset"), "{reset}");
        assert_eq!(send(worker, "PUT", "/connectors/two/resume", None).await.0, 202);
        until_shared(&first, &all, &[&first, &second]).await;
    }
    assert_eq!(send(&first, "DELETE", "/connectors/one", None).await.0, 204);
    assert_eq!(send(&second, "DELETE", "/connectors/three", None).await.0, 204);
    for worker in [&first, &second] {
        eventually("what is deleted has no status", async || {
            let status = send(worker, "GET", "/connectors/three/status", None).await;
            if status.0 == 404 {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await;
        assert_eq!(ok(worker, "GET", "/connectors", None).await, json!(["two"]));
    }
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// A model over the events of `topic`, and the connector that runs it in two tasks.
async fn put_inference(worker: &WorkerProcess, group: &str) {
    let (events, predictions) = (format!("{group}-events"), format!("{group}-predictions"));
    let put = async |path: &str, body: Value| {
        ok(worker, "PUT", &format!("/inference/{path}"), Some(body)).await;
    };
    eventually("the inference service has started", async || {
        match send(worker, "GET", "/inference/stores", None).await {
            (200, _) => Ok(()),
            (status, body) => Err(format!("{status} {body}")),
        }
    })
    .await;
    put("tenants/shop", json!({ "weight": 2 })).await;
    put("stores/households", json!({ "keyed": { "by": "event.household" } })).await;
    let view = json!({
        "source": events, "partitioned_by": "event.household", "event_time": "event.time",
        "features": {
            "amount": { "expression": "event.amount" },
            "spent": { "aggregate": { "function": "sum", "of": "event.amount", "by": ["event.household"], "store": "households" } },
            "seen": { "aggregate": { "function": "count", "by": ["event.household"], "store": "households" } }
        }
    });
    put("feature-views/purchase", view).await;
    let model = json!({
        "artifact": format!("file://{}/linear.onnx", models().display()),
        "subscribe": { "topics": [events] },
        "inputs": { "features": ["amount", "spent", "seen"] }, "trigger": { "each": {} },
        "output": { "topic": predictions, "key": "event.household", "fields": { "score": "variable" } }
    });
    put("models/shop/score", model).await;
    let config = json!({
        "connector.class": "millrace.InferenceSink", "topics": events, "tasks.max": "2",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "processing.guarantee": "exactly_once_v2",
    });
    // topics of a connector's state are named by it, whatever its group
    let path = format!("/connectors/{group}-inference/config");
    ok(worker, "PUT", &path, Some(config)).await;
}

const HOUSEHOLDS: u32 = 8;

fn events(broker: &KafkaBroker, group: &str, numbers: std::ops::Range<u32>) {
    let events = numbers.map(|number| {
        let household = format!("h{}", number % HOUSEHOLDS);
        let event = json!({ "household": household, "amount": 1 + number % 7, "time": 1_700_000_000_000_u64 + u64::from(number) });
        (household, event.to_string())
    });
    let (bootstrap, topic) = (broker.bootstrap(), format!("{group}-events"));
    tokio::task::block_in_place(|| produce(&bootstrap, &topic, events)).unwrap();
}

/// By household, the scores in order that an undisturbed run gives: `amount + 10 spent before + 100 seen before`.
fn expected(count: u32) -> BTreeMap<String, Vec<u32>> {
    let mut state: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let mut scores: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for number in 0..count {
        let household = format!("h{}", number % HOUSEHOLDS);
        let amount = 1 + number % 7;
        let (spent, seen) = state.entry(household.clone()).or_default();
        scores
            .entry(household)
            .or_default()
            .push(amount + 10 * *spent + 100 * *seen);
        *spent += amount;
        *seen += 1;
    }
    scores
}

/// Waits until there is a committed prediction for each of the events, and says how the predictions differ from what an
/// undisturbed run gives.
async fn check_predictions(broker: &KafkaBroker, group: &str, count: u32) {
    let topic = format!("{group}-predictions");
    let records = eventually("every event has its prediction", async || {
        let records = broker
            .dump(&topic, IsolationLevel::ReadCommitted)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let sources: BTreeSet<String> = records.iter().map(source_of).collect();
        match sources.len() == count as usize {
            true => Ok(records),
            false => Err(format!("{} sources of {count}", sources.len())),
        }
    })
    .await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for record in &records {
        *times.entry(source_of(record)).or_default() += 1;
    }
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "predicted more than once: {doubled:?}");
    let mut scores: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for record in &records {
        let household = String::from_utf8(record.key.as_deref().unwrap().to_vec()).unwrap();
        let value: Value = serde_json::from_str(&text_of(record)).unwrap();
        scores
            .entry(household)
            .or_default()
            .push(value["score"].as_f64().unwrap() as u32);
    }
    for (household, expected) in expected(count) {
        let found = scores.remove(&household).unwrap_or_default();
        let differs = found
            .iter()
            .zip(&expected)
            .position(|(found, expected)| found != expected);
        assert_eq!(
            (differs, found.len()),
            (None, expected.len()),
            "{household}: another state than that of an undisturbed run"
        );
    }
}

fn source_of(record: &LogRecord) -> String {
    let header = record.headers.iter().find(|(name, _)| name == "millrace.source");
    String::from_utf8(header.unwrap().1.as_deref().unwrap().to_vec()).unwrap()
}

/// What happens to one of the workers.
enum Fate {
    Stops,
    Dies,
    Freezes,
}

/// Two workers run a source and the inference sink; the one of `tasks` inference-0 meets its fate while data comes; the
/// other carries on, and nothing is lost or doubled.
async fn carries_on(group: &str, fate: Fate) {
    let broker = KafkaBroker::shared().await.unwrap();
    let admin = Admin::new(&broker.config()).unwrap();
    let topics = [
        NewTopic::new(format!("{group}-events"), 4, 1),
        NewTopic::new(format!("{group}-predictions"), 4, 1),
    ];
    for (_, created) in admin.create_topics(&topics).await.unwrap() {
        created.unwrap();
    }
    let properties = properties(broker, group);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    append(&file, 0..100);
    events(broker, group, 0..400);
    let one = WorkerProcess::start(&properties).await.unwrap();
    let other = WorkerProcess::start(&properties).await.unwrap();
    for worker in [&one, &other] {
        ok(worker, "GET", "/health", None).await;
    }
    put_inference(&other, group).await;
    let lines = format!("{group}-lines");
    ok(&one, "POST", "/connectors", Some(source("source", &file, &lines))).await;
    let inference = format!("{group}-inference");
    let tasks = [format!("{inference}-0"), format!("{inference}-1")];
    let all = [&inference, &tasks[0], &tasks[1], "source", "source-0"];
    let places = until_shared(&one, &all, &[&one, &other]).await;
    let (fated, left) = match places[&tasks[0]] == one.id() {
        true => (&one, &other),
        false => (&other, &one),
    };

    append(&file, 100..200);
    events(broker, group, 400..800);
    match fate {
        Fate::Stops => fated.stop().await.unwrap(),
        Fate::Dies => fated.kill().unwrap(),
        Fate::Freezes => fated.freeze().unwrap(),
    }
    append(&file, 200..300);
    events(broker, group, 800..1200);
    until_shared(left, &all, &[left]).await;
    append(&file, 300..400);
    events(broker, group, 1200..1600);
    if matches!(fate, Fate::Freezes) {
        // what it was about to write when it froze must not come through
        fated.thaw().unwrap();
        until_shared(left, &all, &[&one, &other]).await;
        append(&file, 400..500);
        events(broker, group, 1600..2000);
        until_lines(broker, &lines, 0..500).await;
        check_predictions(broker, group, 2000).await;
        fated.stop().await.unwrap();
    } else {
        until_lines(broker, &lines, 0..400).await;
        check_predictions(broker, group, 1600).await;
    }
    left.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_hands_over() {
    carries_on("stops", Fate::Stops).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_worker_that_is_killed_is_taken_over() {
    carries_on("dies", Fate::Dies).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_session_writes_nothing_any_more() {
    carries_on("freezes", Fate::Freezes).await;
}

/// A worker alone, and any leader, keeps running what it goes on to run.
#[tokio::test(flavor = "multi_thread")]
async fn another_connector_restarts_nothing_on_a_worker_alone() {
    let broker = KafkaBroker::shared().await.unwrap();
    let worker = WorkerProcess::start(&properties(broker, "alone")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    append(&file, 0..1);
    let mut wanted: Vec<String> = Vec::new();
    for name in ["one", "two", "three"] {
        ok(&worker, "POST", "/connectors", Some(source(name, &file, "alone-lines"))).await;
        wanted.extend([name.to_owned(), format!("{name}-0")]);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        until_shared(&worker, &wanted, &[&worker]).await;
    }
    let records = broker
        .dump("alone-status", IsolationLevel::ReadUncommitted)
        .await
        .unwrap();
    let mut states: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in &records {
        let key = String::from_utf8(record.key.as_deref().unwrap().to_vec()).unwrap();
        let status: Value = serde_json::from_str(&text_of(record)).unwrap();
        if status.get("state").is_some() {
            states.entry(key).or_default().push(status["state"].clone());
        }
    }
    assert_eq!(states.len(), 6);
    for (key, states) in states {
        assert_eq!(states, ["RUNNING"], "{key}");
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_group_runs_everything() {
    let broker = KafkaBroker::shared().await.unwrap();
    let mut properties = properties(broker, "none");
    properties.push(("group.membership.enable", "false".to_owned()));
    let worker = WorkerProcess::start(&properties).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    append(&file, 0..10);
    ok(&worker, "POST", "/connectors", Some(source("one", &file, "none-lines"))).await;
    until_shared(&worker, &["one", "one-0"], &[&worker]).await;
    until_lines(broker, "none-lines", 0..10).await;
    let groups = Admin::new(&broker.config()).unwrap().list_groups().await.unwrap();
    assert!(!groups.contains(&"none".to_owned()), "{groups:?}");
    worker.stop().await.unwrap();
}

/// What would change what the group promises, and is not supported, is refused by name at the start.
#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_refused_by_name() {
    let broker = KafkaBroker::shared().await.unwrap();
    for (name, value, said) in [
        ("connect.protocol", "sessioned", "set it to eager"),
        ("connect.protocol", "compatible", "set it to eager"),
        ("security.protocol", "SSL", "group.membership.enable=false"),
    ] {
        let mut properties = properties(broker, "refused");
        properties.push((name, value.to_owned()));
        let Err(refused) = WorkerProcess::start(&properties).await else {
            panic!("{name}={value} is taken")
        };
        let refused = refused.to_string();
        assert!(refused.contains(name) && refused.contains(said), "{refused}");
    }
}

/// Both workers run file connectors, each takes requests that the leader must carry out, and `left` takes over when
/// `gone` goes.
async fn with_java(broker: &KafkaBroker, group: &str, left: &WorkerProcess, gone: &WorkerProcess) {
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("{group}-lines");
    let names = ["a", "b", "c"];
    for (worker, name) in [left, gone, gone].into_iter().zip(names) {
        let file = folder.path().join(name);
        append(&file, 0..50);
        let (status, created) = send(worker, "POST", "/connectors", Some(source(name, &file, &lines))).await;
        assert_eq!(status, 201, "{created}\n{}\n{}", left.log_tail(), gone.log_tail());
    }
    let all = ["a", "a-0", "b", "b-0", "c", "c-0"];
    let places = until_shared(left, &all, &[left, gone]).await;
    assert_eq!(places.values().filter(|id| *id == left.id()).count(), 3, "{places:?}");
    for worker in [left, gone] {
        for name in names {
            let path = format!("/connectors/{name}/restart?includeTasks=true");
            assert_eq!(send(worker, "POST", &path, None).await.0, 202);
            until_shared(left, &all, &[left, gone]).await;
            assert_eq!(
                send(worker, "POST", &format!("/connectors/{name}/tasks/0/restart"), None)
                    .await
                    .0,
                204
            );
        }
        let changed = json!({ "batch.size": if worker.id() == left.id() { "7" } else { "8" } });
        ok(worker, "PATCH", "/connectors/b/config", Some(changed.clone())).await;
        eventually("the change reaches the task", async || {
            let (status, tasks) = send(worker, "GET", "/connectors/b/tasks", None).await;
            // What a Java worker answers to this while its assignment is older than its configuration.
            let lags = "Request cannot be completed because a rebalance is expected";
            if worker.id() == gone.id() && status == 500 && tasks["message"] == lags {
                return Err(tasks.to_string());
            }
            assert_eq!(status, 200, "{tasks}\n{}", worker.log_tail());
            if tasks[0]["config"]["batch.size"] == changed["batch.size"] {
                Ok(())
            } else {
                Err(tasks.to_string())
            }
        })
        .await;
    }
    until_shared(left, &all, &[left, gone]).await;
    gone.stop().await.ok();
    for name in names {
        append(&folder.path().join(name), 50..100);
    }
    until_shared(left, &all, &[left]).await;
    until_lines(broker, &lines, 0..100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_worker_follows() {
    let broker = KafkaBroker::shared().await.unwrap();
    let mut properties = properties(broker, "java-follows");
    let leader = WorkerProcess::start(&properties).await.unwrap();
    ok(&leader, "GET", "/health", None).await;
    properties.push(("connect.protocol", "eager".to_owned()));
    let follower = WorkerProcess::start_java(&properties).await.unwrap();
    ok(&follower, "GET", "/health", None).await;
    with_java(broker, "java-follows", &leader, &follower).await;
    // Each Java worker is told of once, however often it has joined.
    let log = leader.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("a Java worker is a member"))
        .collect();
    assert!(
        told.len() == 1
            && told[0].contains(" WARN ")
            && told[0].contains("connect.protocol=eager")
            && told[0].contains(&follower.url),
        "{told:#?}"
    );
    leader.stop().await.unwrap();
}

/// On its default protocol, which gives way to the eager one.
#[tokio::test(flavor = "multi_thread")]
async fn a_java_worker_leads() {
    let broker = KafkaBroker::shared().await.unwrap();
    let properties = properties(broker, "java-leads");
    let leader = WorkerProcess::start_java(&properties).await.unwrap();
    ok(&leader, "GET", "/health", None).await;
    let follower = WorkerProcess::start(&properties).await.unwrap();
    ok(&follower, "GET", "/health", None).await;
    with_java(broker, "java-leads", &follower, &leader).await;
    follower.stop().await.unwrap();
}
