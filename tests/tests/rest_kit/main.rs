//! A Java worker and ours, asked the same: whatever `requests.txt` asks is answered alike, but for what it names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod compare;
mod http;
mod script;

use anyhow::{Context as _, Result, bail};
use compare::Side;
use script::{Request, Step};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::kafka::KafkaBroker;
use tests::worker_process::WorkerProcess;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

fn properties(broker: &KafkaBroker, group: &str) -> Vec<(&'static str, String)> {
    const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";
    let provider = |name: &str| format!("org.apache.kafka.common.config.provider.{name}ConfigProvider");
    vec![
        ("bootstrap.servers", broker.bootstrap()),
        ("group.id", group.to_owned()),
        ("key.converter", STRING.to_owned()),
        ("value.converter", STRING.to_owned()),
        ("config.storage.topic", format!("{group}-configs")),
        ("offset.storage.topic", format!("{group}-offsets")),
        ("status.storage.topic", format!("{group}-status")),
        ("config.storage.replication.factor", "1".to_owned()),
        ("offset.storage.replication.factor", "1".to_owned()),
        ("status.storage.replication.factor", "1".to_owned()),
        ("offset.storage.partitions", "1".to_owned()),
        ("status.storage.partitions", "1".to_owned()),
        ("offset.flush.interval.ms", "200".to_owned()),
        ("connect.protocol", "eager".to_owned()),
        ("scheduled.rebalance.max.delay.ms", "0".to_owned()),
        ("config.providers", "file,env".to_owned()),
        ("config.providers.file.class", provider("File")),
        ("config.providers.env.class", provider("EnvVar")),
    ]
}

fn write_files(directory: &Path) -> Result<()> {
    std::fs::write(directory.join("in.txt"), "one\ntwo\nthree\n")?;
    std::fs::write(directory.join("secrets"), "file=/a/secret/place\nsize=secret\n")?;
    Ok(())
}

/// The answer to a request. One that is put off while the group settles is asked again, as clients do: when that happens is
/// nobody's to say.
async fn ask(side: &Side, request: &Request) -> Result<Value> {
    let (path, body) = (
        side.fill(&request.path),
        request.body.as_ref().map(|body| side.fill(body)),
    );
    let give_up = Instant::now() + PATIENCE;
    loop {
        let answer = http::send(&side.address, &request.method, &path, &request.headers, body.as_deref()).await?;
        if !is_put_off(&answer) || Instant::now() > give_up {
            return Ok(side.comparable(&answer));
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Whether a worker says that its assignment is older than its configuration, with the two statuses that Java has for it.
fn is_put_off(answer: &http::Response) -> bool {
    [409, 500].contains(&answer.status)
        && serde_json::from_str::<Value>(&answer.body).is_ok_and(|body| {
            let message = body["message"].as_str().unwrap_or_default();
            message.contains("a rebalance is expected") || message.contains("due to stale configuration")
        })
}

async fn wait(side: &Side, path: &str, pointer: &str, value: &str) -> Result<()> {
    let (path, value) = (side.fill(path), side.fill(value));
    let give_up = Instant::now() + PATIENCE;
    loop {
        let answer = http::send(&side.address, "GET", &path, &[], None).await?;
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let there = match body.pointer(pointer) {
            None => value == "-",
            Some(Value::String(text)) => *text == value,
            Some(other) => format!("{other}") == value,
        };
        if there {
            return Ok(());
        }
        if Instant::now() > give_up {
            bail!("GET {path} never has {value} at {pointer}: {}", answer.body);
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Sends everything to one worker; the answers, in order.
async fn answers(side: &Side, steps: &[Step]) -> Result<Vec<Value>> {
    let mut answers = Vec::new();
    for step in steps {
        match step {
            Step::Title(_) => {}
            Step::Send(request) => answers.push(
                ask(side, request)
                    .await
                    .with_context(|| format!("line {}", request.line))?,
            ),
            Step::Wait { path, pointer, value } => wait(side, path, pointer, value).await?,
        }
    }
    Ok(answers)
}

/// What is wrong with a pair of answers: differences that nobody has named, and named ones that are none any more.
fn judge(request: &Request, java: &Value, ours: &Value) -> Vec<String> {
    let found = compare::differences(java, ours);
    let covers =
        |pointer: &str, at: &str| at == pointer || at.strip_prefix(pointer).is_some_and(|rest| rest.starts_with('/'));
    let mut wrong = Vec::new();
    for (at, java, ours) in &found {
        if !request.differs.iter().any(|(pointer, _)| covers(pointer, at)) {
            wrong.push(format!("{at}\n      Java: {java}\n      ours: {ours}"));
        }
    }
    for (pointer, reason) in &request.differs {
        if !found.iter().any(|(at, ..)| covers(pointer, at)) {
            wrong.push(format!(
                "{pointer}: the answers agree there now, and were said to differ: {reason}"
            ));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_as_a_java_worker_answers_them() {
    let steps = script::parse(include_str!("requests.txt")).unwrap();
    let broker = KafkaBroker::shared().await.unwrap();
    let side = async |group: &str, worker: &WorkerProcess, directory: &Path| {
        write_files(directory).unwrap();
        let side = Side {
            address: worker.id().to_owned(),
            directory: directory.to_str().unwrap().to_owned(),
            group: group.to_owned(),
        };
        answers(&side, &steps).await.unwrap()
    };
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let java = async {
        let worker = WorkerProcess::start_java(&properties(broker, "kit-by-java"))
            .await
            .unwrap();
        side("kit-by-java", &worker, folders[0].path()).await
    };
    let ours = async {
        let worker = WorkerProcess::start(&properties(broker, "kit-by-ours")).await.unwrap();
        side("kit-by-ours", &worker, folders[1].path()).await
    };
    let (java, ours) = tokio::join!(java, ours);

    let mut title = "";
    let mut wrong = 0;
    let mut pairs = java.iter().zip(&ours);
    for step in &steps {
        match step {
            Step::Title(text) => title = text,
            Step::Wait { .. } => {}
            Step::Send(request) => {
                let (java, ours) = pairs.next().expect("as many answers as requests");
                let found = judge(request, java, ours);
                if !found.is_empty() {
                    wrong += 1;
                    let body = request.body.as_deref().unwrap_or_default();
                    println!(
                        "{title}, line {}: {} {} {body}",
                        request.line, request.method, request.path
                    );
                    found.iter().for_each(|text| println!("   {text}"));
                }
            }
        }
    }
    assert_eq!(
        wrong,
        0,
        "of {} requests so many are answered otherwise; see above",
        java.len()
    );
}
