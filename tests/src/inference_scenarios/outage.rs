//! A broker that goes away and comes back costs nothing but time: nothing is lost, nothing is there twice, and keyed state
//! is that of an undisturbed run.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{LOOK, Stage, Stream, by_household, check_lineage, distinct, events, expected, models, wait_for};
use crate::broker::BrokerUnderTest;
use crate::inference::{Output, PATIENCE, Worker};

/// Outages of a scenario: clean (false) and without notice (true).
const OUTAGES: [bool; 4] = [true, false, true, true];
/// Predictions made between two outages.
const BETWEEN: u64 = 300;

/// # Errors
/// When an output is missing, wrong or there twice.
pub async fn exactly_once_over_a_broker_that_goes_and_comes_back(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let (mut stage, outputs, sent) = through_outages(broker, "exactly_once_v2", &[], Duration::ZERO).await?;
    check_lineage(&outputs)?;
    ensure!(by_household(&outputs)? == expected(0..sent), "scores");

    // What another worker makes of the changelog alone is what an undisturbed run would have kept.
    let other = stage.directory.path().join("other");
    stage.worker = Worker::start(stage.bootstrap(), stage.worker.group(), &other, &models()).await?;
    stage.produce(events(sent..sent + 50))?;
    let task = stage.task(&[])?;
    let outputs = stage.outputs(sent + 50).await?;
    ensure!(
        by_household(&outputs)? == expected(0..sent + 50),
        "scores from the changelog"
    );
    task.stop()
}

/// Predictions may be there twice, but then they are the same.
///
/// # Errors
/// When an output is missing or wrong.
pub async fn at_least_once_over_a_broker_that_goes_and_comes_back(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let (_stage, outputs, sent) = through_outages(broker, "at_least_once", &[], Duration::ZERO).await?;
    let (outputs, _again) = distinct(outputs)?;
    ensure!(by_household(&outputs)? == expected(0..sent), "scores");
    Ok(())
}

/// The broker is away for longer than a transaction may take, and ends the one that it finds open when it comes back: its
/// producer is fenced though nobody has taken over.
///
/// # Errors
/// When the task gives up, or an output is missing, wrong or there twice.
pub async fn an_outage_may_outlast_the_transaction(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let timeout = [("producer.override.transaction.timeout.ms", "1000")];
    let away = Duration::from_secs(3);
    let (_stage, outputs, sent) = through_outages(broker, "exactly_once_v2", &timeout, away).await?;
    check_lineage(&outputs)?;
    ensure!(by_household(&outputs)? == expected(0..sent), "scores");
    Ok(())
}

/// A task over a stream of events while the broker is ended again and again, each time for `away` and the time that it
/// takes to start: what came out, and the number of events.
async fn through_outages(
    broker: &mut impl BrokerUnderTest,
    guarantee: &str,
    further: &[(&str, &str)],
    away: Duration,
) -> Result<(Stage, Vec<Output>, i64)> {
    let stage = Stage::start(&broker.bootstrap()).await?;
    let mut config = vec![
        ("processing.guarantee", guarantee),
        ("inference.commit.interval.ms", "10"),
    ];
    config.extend(further);
    let task = stage.task(&config)?;
    let stream = Stream::start(stage.bootstrap(), &stage.events, 0)?;
    let predictions = || stage.worker.service.snapshot().predictions;
    for crash in OUTAGES {
        let before = predictions();
        wait_for("predictions before an outage", || predictions() >= before + BETWEEN).await?;
        broker.end(crash).await?;
        let status = stage.status().await?;
        ensure!(status["state"] == "SERVING", "while the broker is away: {status}");
        tokio::time::sleep(away).await;
        broker.start_again().await?;
    }
    let before = predictions();
    wait_for("predictions after the outages", || predictions() >= before + BETWEEN).await?;
    let sent = stream.finish()?;
    let outputs = stage.outputs(sent).await?;
    task.stop()?;
    stage.worker.stop().await;
    Ok((stage, outputs, sent))
}

/// Whoever looks at a model while the broker is away sees what its task waits for, and that it is over when it is.
///
/// # Errors
/// When the status does not say so.
pub async fn the_status_says_that_a_task_waits(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let stage = Stage::start(&broker.bootstrap()).await?;
    // Commits are far enough apart that the broker ends while one is due.
    let task = stage.task(&[("inference.commit.interval.ms", "1000")])?;
    let stream = Stream::start(stage.bootstrap(), &stage.events, 0)?;
    let predictions = || stage.worker.service.snapshot().predictions;
    let mut before = 0;
    loop {
        wait_for("predictions", || predictions() >= before + BETWEEN).await?;
        broker.end(true).await?;
        if waits_or_has_nothing_to_commit(&stage).await? {
            break;
        }
        before = predictions();
        broker.start_again().await?;
    }
    broker.start_again().await?;
    stage.wait_for_status("waits_for_kafka", &false.into()).await?;
    let sent = stream.finish()?;
    let outputs = stage.outputs(sent).await?;
    check_lineage(&outputs)?;
    ensure!(by_household(&outputs)? == expected(0..sent), "scores");
    task.stop()
}

/// Whether the task says that it waits for the broker, which is away; false: the last commit before it went had everything.
async fn waits_or_has_nothing_to_commit(stage: &Stage) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if stage.status().await?["waits_for_kafka"] == true {
            return Ok(true);
        }
        let predictions = stage.worker.service.snapshot().predictions;
        if u64::try_from(stage.committed().await?)? == predictions {
            return Ok(false);
        }
        ensure!(Instant::now() < deadline, "the task waits and does not say so");
        tokio::time::sleep(LOOK).await;
    }
}

/// A task that is started while nobody answers waits, and then does everything.
///
/// # Errors
/// When it gives up, or an output is missing or wrong.
pub async fn a_task_starts_while_the_broker_is_away(broker: &mut impl BrokerUnderTest) -> Result<()> {
    let stage = Stage::start(&broker.bootstrap()).await?;
    stage.produce(events(0..100))?;
    let task = stage.task(&[])?;
    stage.outputs(100).await?;
    task.stop()?;
    stage.produce(events(100..150))?;
    broker.end(true).await?;
    let task = stage.task(&[])?;
    broker.start_again().await?;
    let outputs = stage.outputs(150).await?;
    check_lineage(&outputs)?;
    ensure!(by_household(&outputs)? == expected(0..150), "scores");
    task.stop()
}
