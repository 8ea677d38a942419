//! Archive and models on S3: the real worker over Apache Kafka and a real S3 server that goes away and comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tests::fault_job::{BUCKET, FaultJob, Outcome, Progress};
use tests::inference_scenarios::models;
use tests::s3::SECRET_KEY;
use tests::{Fault, FaultProxy, KafkaBroker, S3Server};
use tokio::sync::OnceCell;

const STATUS: &str = "/inference/stores/households/status";

async fn job(name: &str, endpoint: &str) -> Result<FaultJob> {
    let bootstrap = KafkaBroker::shared().await?.bootstrap();
    FaultJob::start(name, &bootstrap, endpoint, "exactly_once_v2").await
}

async fn undisturbed() -> Result<&'static Outcome> {
    static OUTCOME: OnceCell<Outcome> = OnceCell::const_new();
    OUTCOME
        .get_or_try_init(|| async {
            let s3 = S3Server::start(BUCKET).await?;
            let mut job = job("calm", &s3.endpoint()).await?;
            job.finish(&s3).await
        })
        .await
}

/// What the partitions of the store wait for.
fn waits(status: &Value) -> Vec<&Value> {
    let partitions = status["partitions"].as_array().into_iter().flatten();
    partitions
        .map(|partition| &partition["archive_waits"])
        .filter(|wait| wait.is_object())
        .collect()
}

/// The whole run that the others are compared with: archived once, read back by key, and no secret in the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_archived_once_and_read_back_by_key() -> Result<()> {
    let s3 = S3Server::start(BUCKET).await?;
    let mut job = job("roundtrip", &s3.endpoint()).await?;
    while job.send_batch()? {
        assert_eq!(job.predicted().await?, Progress::Predicted);
    }
    let outcome = job.finish(&s3).await?;
    ensure!(outcome.archived.len() > 12, "{:?}", outcome.archived.keys());
    assert_eq!(&outcome, undisturbed().await?);
    assert_eq!(job.state_restored().await?, outcome.state);
    let log = tests::process::logs_of_this_test()?;
    ensure!(!log.contains(SECRET_KEY), "the worker's log has the secret key");
    Ok(())
}

/// The server dies while entries expire: predictions go on, status and metrics say what is waited for, and everything is
/// archived once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_is_waited_for() -> Result<()> {
    let mut s3 = S3Server::start(BUCKET).await?;
    let mut job = job("outage", &s3.endpoint()).await?;
    for _ in 0..3 {
        job.send_batch()?;
    }
    assert_eq!(job.predicted().await?, Progress::Predicted);
    s3.kill()?;
    while job.send_batch()? {}
    assert_eq!(job.predicted().await?, Progress::Predicted);
    let status = job.worker.until(STATUS, |_, status| waits(status).len() == 2).await?;
    for wait in waits(&status) {
        let error = wait["error"].as_str().unwrap();
        ensure!(error.contains(".parquet") && error.contains("PUT"), "{status}");
        ensure!(
            wait["attempts"].as_u64() >= Some(1) && wait["since_ms"].is_i64(),
            "{status}"
        );
    }
    let waiting = |_, text: &Value| {
        let mut lines = text.as_str().unwrap_or_default().lines();
        lines.any(|line| line.starts_with("millrace_inference_archive_waiting{") && !line.ends_with(" 0"))
    };
    job.worker.until("/metrics", waiting).await?;
    // An entry that waits is invisible, as every expired one.
    let expected = tests::fault_job::events::expected("events");
    let mut gone = expected
        .archived
        .iter()
        .filter(|(name, _)| !expected.alive.contains_key(name));
    let path = format!("/inference/stores/households/keys/{}", gone.next().unwrap().0);
    let (status, body) = job.worker.request("GET", &path, None).await?;
    assert_eq!(status, 404, "{body}");
    s3.start_again().await?;
    let outcome = job.finish(&s3).await?;
    assert_eq!(&outcome, undisturbed().await?);
    Ok(())
}

/// Answers that do not come, and connections that break under a put: nothing is archived twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_holds_and_cuts_leaves_one_object_each() -> Result<()> {
    let s3 = S3Server::start(BUCKET).await?;
    let proxy = FaultProxy::before(&s3.address()).await?;
    let mut job = job("network", &format!("http://{}", proxy.address())).await?;
    for _ in 0..5 {
        job.send_batch()?;
    }
    proxy.set(Fault::Hold);
    assert_eq!(job.predicted().await?, Progress::Predicted);
    proxy.set(Fault::Cut);
    for _ in 0..4 {
        job.send_batch()?;
        assert_eq!(job.predicted().await?, Progress::Predicted);
    }
    job.worker.until(STATUS, |_, status| !waits(status).is_empty()).await?;
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let outcome = job.finish(&s3).await?;
    assert_eq!(&outcome, undisturbed().await?);
    Ok(())
}

/// A wrong secret is waited out too, and said without the secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_without_the_secret() -> Result<()> {
    let s3 = S3Server::start(BUCKET).await?;
    let mut job = job("refused", &s3.endpoint()).await?;
    job.worker.stop()?;
    job.worker.set("s3.secret.access.key", "not-the-secret-key");
    job.worker.start().await?;
    while job.send_batch()? {}
    let status = job.worker.until(STATUS, |_, status| waits(status).len() == 2).await?;
    let error = waits(&status)[0]["error"].as_str().unwrap();
    ensure!(error.contains("SignatureDoesNotMatch"), "{error}");
    job.worker.kill()?;
    let log = tests::process::logs_of_this_test()?;
    ensure!(log.contains("expired entries wait for the archive"), "{log}");
    ensure!(
        !log.contains("not-the-secret-key") && !status.to_string().contains("not-the-secret-key"),
        "{log}"
    );
    job.worker.set("s3.secret.access.key", SECRET_KEY);
    job.worker.start().await?;
    let outcome = job.finish(&s3).await?;
    assert_eq!(&outcome, undisturbed().await?);
    Ok(())
}

/// A model from S3: only below an allowed prefix; served again after a restart while the server is down.
#[tokio::test(flavor = "multi_thread")]
async fn models_come_from_s3() -> Result<()> {
    let mut s3 = S3Server::start(BUCKET).await?;
    s3.put(
        BUCKET,
        "models/linear.onnx",
        &std::fs::read(models().join("linear.onnx"))?,
    )?;
    s3.put(
        BUCKET,
        "other/linear.onnx",
        &std::fs::read(models().join("linear.onnx"))?,
    )?;
    let mut job = job("model-on-s3", &s3.endpoint()).await?;
    job.worker.stop()?;
    let allowed = format!("{},s3://{BUCKET}/models", models().display());
    job.worker.set("inference.artifact.allowed.prefixes", &allowed);
    job.worker.start().await?;
    const MODEL: &str = "/inference/models/shop/score";
    let mut document = job.worker.get(MODEL).await?;
    for (artifact, words) in [
        (format!("s3://{BUCKET}/other/linear.onnx"), "not below"),
        (format!("s3://{BUCKET}/models/none.onnx"), "NoSuchKey"),
    ] {
        let body = with_artifact(&document, &artifact);
        let (status, answer) = job.worker.request("PUT", MODEL, Some(&body)).await?;
        ensure!(
            status == 400 && answer.to_string().contains(words),
            "{artifact}: {status} {answer}"
        );
    }
    document = with_artifact(&document, &format!("s3://{BUCKET}/models/linear.onnx"));
    job.worker.put(MODEL, &document).await?;
    job.send_batch()?;
    assert_eq!(job.predicted().await?, Progress::Predicted);
    // The worker is started again while the server is down: no event goes past the model meanwhile.
    s3.stop()?;
    job.worker.kill()?;
    job.worker.start_without_waiting().await?;
    job.send_batch()?;
    job.worker.until("/health", |status, _| status == 200).await?;
    s3.start_again().await?;
    let outcome = job.finish(&s3).await?;
    assert_eq!(&outcome, undisturbed().await?);
    Ok(())
}

/// A model's document with another artifact, without what the worker has added.
fn with_artifact(document: &Value, artifact: &str) -> Value {
    let mut changed = document.clone();
    let fields = changed.as_object_mut().unwrap();
    for added in ["version", "sha256", "status", "state"] {
        fields.remove(added);
    }
    fields.insert("artifact".to_owned(), json!(artifact));
    changed
}
